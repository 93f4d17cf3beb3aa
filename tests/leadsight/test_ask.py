"""``leadsight ask`` and ``calibrate`` as a user calls them, with an untrained decoder."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from leadsight.ask import deadline_ns, example, told
from leadsight.cli import main
from llm_edge import words
from llm_edge.checkpoint import Shape, random_checkpoint
from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source, parse
from llm_edge.reasoner import Answer
from llm_edge.scene import scene_from_json, scene_json
from pipeline.errors import InputError
from tests.llm_edge.decoders import onnx_file

ROOT = Path(__file__).parents[2]
SHAPE = Shape(len(words.WORDS), 64, 2, 4, 2, 48, words.CONTEXT)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    made = replace(random_checkpoint(SHAPE), words=words.WORDS)
    return onnx_file(tmp_path_factory.mktemp("decoder"), made)


def leadsight(*arguments, cache, text=""):
    return subprocess.run(
        [sys.executable, "-m", "leadsight", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache), "COLUMNS": "200"},
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_example_is_a_scene_and_is_decided_on(decoder, tmp_path):
    printed = leadsight("ask", "--example", cache=tmp_path)
    scene = scene_from_json(printed.stdout)
    assert scene_json(scene) == scene_json(example())
    (tmp_path / "scene.json").write_text(printed.stdout)
    setting = ("--set", f"reasoner_fast.model={decoder}")
    for source, text in ((tmp_path / "scene.json", ""), ("-", printed.stdout)):
        done = leadsight("ask", source, "--deadline", "500ms", *setting, cache=tmp_path, text=text)
        assert done.returncode == 0, done.stderr
        parse(done.stdout, scene)
        assert done.stderr.startswith("by the ") and "ms of 500" in done.stderr


def test_without_a_model_the_policy_decides(tmp_path):
    picture = tmp_path / "scene.png"
    done = leadsight(
        "ask", "--set", "reasoner.fast=none", "--picture", picture, cache=tmp_path,
        text=scene_json(example()),
    )  # fmt: skip
    assert json.loads(done.stdout)["source"] == "policy" and "by the rule policy" in done.stderr
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_calibrate_prints_the_costs_and_keeps_them(decoder, tmp_path):
    done = leadsight("calibrate", "--set", f"reasoner_fast.model={decoder}", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a call of k tokens" in done.stdout and "no thought" in done.stdout
    (kept,) = (tmp_path / "leadsight" / "calibration").glob("*.json")
    assert str(kept) in done.stdout and "costs" in json.loads(kept.read_text())


@pytest.mark.parametrize(
    ("arguments", "text", "says"),
    [
        (("no.json",), "", "no.json: No such file"),
        (("-",), "", "scene: no JSON"),
        (("-",), '{"at_ns": 1, "rules": "none"}', "'rules' is none of"),
        (("-", "--deadline", "33"), "{}", "with its unit"),
        (("-", "--picture", "scene.txt"), "{}", "scene.txt: give a name that ends in"),
        (("-", "--set", "reasoner_fast.model=/no/such.onnx"), "{}", "/no/such.onnx"),
        (("-", "--set", "reasoner.fast=fast"), "{}", "reasoner.fast"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(arguments, text, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["leadsight", "ask", *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and not out
    assert err.count("\n") == 1 and says in err


@pytest.mark.parametrize(
    ("text", "found"),
    [("33ms", 33_000_000), ("0.5s", 500_000_000), (" 800 us", 800_000), ("1.25ms", 1_250_000)],
)
def test_a_deadline_has_a_unit(text, found):
    assert deadline_ns(text) == found


@pytest.mark.parametrize(
    "text", ["", "ms", "-3ms", "1e3ms", "0ms", "601s", "nan s", "5 m", "9" * 99]
)
def test_a_deadline_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="--deadline"):
        deadline_ns(text)


def test_how_it_came_about_names_who_and_what_it_took():
    made = Decision(
        Action.STOP, None, Direction.NONE, 0.0, Risk.HIGH, Reason.NO_WAY, 1, Source.FAST
    )
    line = told(Answer(made, False, 7_250_000, "gguf: too slow", 5, 3, 1_500_000), 5_000_000)
    assert line == (
        "by the shipped decoder, its thought cut or none: 7.25 ms of 5, too late, a thought of 5 "
        "tokens, 3 votes, first token after 1.50 ms; gguf: too slow"
    )
