"""Measured costs kept for the next start: one file a model and processor, in the user's cache."""

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path

from llm_edge.cost import CostModel, from_dict
from pipeline.errors import InputError

_MAX_FILE_BYTES = 16 << 10
_VERSION = 1


def device_name() -> str:
    """The processor as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n"):
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()[:100]
    except OSError:
        pass
    return f"{platform.machine()} {platform.processor()}".strip()[:100]


def cache_folder() -> Path:
    """Where measurements are kept: the user's cache, as the XDG directories say."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path("~/.cache").expanduser()
    return base / "leadsight" / "calibration"


def calibration_file(model: Path, folder: Path | None = None) -> Path:
    """The file for this model's bytes on this processor.

    Raises:
        InputError: the model cannot be read.
    """
    digest = hashlib.sha256(device_name().encode())
    try:
        with model.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{model}: cannot be read ({error.strerror})") from None
    return (folder or cache_folder()) / f"{digest.hexdigest()[:32]}.json"


def load_costs(file: Path) -> CostModel | None:
    """A kept measurement; None where there is none, or the file holds anything else."""
    try:
        if file.stat().st_size > _MAX_FILE_BYTES or not file.is_file():
            return None
        given = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(given, dict) or given.get("version") != _VERSION:
            return None
        return from_dict(given.get("costs"))
    except (OSError, ValueError, RecursionError):
        return None


def save_costs(costs: CostModel, file: Path) -> bool:
    """Keep a measurement; False where the folder cannot be written."""
    text = json.dumps({"version": _VERSION, "device": device_name(), "costs": costs.to_dict()})
    beside = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, file)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        return False
    return True
