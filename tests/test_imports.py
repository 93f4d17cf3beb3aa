"""Imports run one way: the table of the design, held on every file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "pipeline": set(),
    "isp": {"pipeline"},
    "perception": {"pipeline"},
    "prediction": {"pipeline"},
    "llm_edge": {"pipeline"},
    "comms": {"pipeline", "prediction"},
    "bridges": {"pipeline", "comms"},
    "evaluation": {
        "pipeline", "isp", "perception", "prediction", "comms", "llm_edge", "bridges",
    },
    "leadsight": {
        "pipeline", "isp", "perception", "prediction", "comms", "llm_edge", "bridges", "evaluation",
    },
}  # fmt: skip
OURS = {*MAY_IMPORT, "ros_nodes"}
FILES = sorted(p for folder in OURS for p in (ROOT / folder).rglob("*.py"))


def imported(path):
    """Top-level names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_the_design_allows(folder):
    files = [p for p in FILES if p.relative_to(ROOT).parts[0] == folder]
    assert files
    for path in files:
        trained = {"perception"} if folder == "isp" and path.stem.startswith("train") else set()
        wrong = set(imported(path)) & OURS - MAY_IMPORT[folder] - {folder} - trained
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_libraries_never_import_ros():
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != "ros_nodes":
            assert "rclpy" not in imported(path), path.relative_to(ROOT)


def test_torch_is_imported_only_where_something_is_trained_or_exported():
    for path in FILES:
        if not path.stem.startswith(("train", "export")):
            assert "torch" not in imported(path), path.relative_to(ROOT)
