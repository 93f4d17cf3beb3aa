"""The command line as a user calls it: results, and one line for everything it cannot use."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation.bags import BagWriter
from leadsight.cli import main
from leadsight.stack import CONFIGS
from pipeline import config
from pipeline.frame import Frame
from tests.evaluation.town import SIZE, TARGET, mot_challenge
from tests.perception.models import bright

ROOT = Path(__file__).parents[2]


def leadsight(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "leadsight", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def square(tmp_path_factory):
    """A folder of 20 pictures of a moving textured square, with its truth."""
    folder = tmp_path_factory.mktemp("data") / "square"
    folder.mkdir()
    rng = np.random.default_rng(1)
    ground = cv2.resize(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8), (160, 120))
    target = cv2.resize(rng.integers(0, 255, (6, 8, 3)).astype(np.uint8), (36, 28))
    truth = []
    for k in range(20):
        picture = ground.copy()
        picture[10 + 2 * k :, 8 + 4 * k :][:28, :36] = target
        cv2.imwrite(str(folder / f"{k:03d}.png"), picture)
        truth.append(f"{8 + 4 * k},{10 + 2 * k},36,28")
    (folder / "groundtruth.txt").write_text("\n".join(truth))
    return folder


def test_evaluate_takes_lists_and_writes_one_row_for_each_combination(square, tmp_path):
    out = tmp_path / "out"
    done = leadsight(
        "evaluate", square, "--latency", "0.047", "0.070", "--predictor", "none", "kalman",
        "--tracker", "kcf", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [(r["latency"], r["predictor"]) for r in rows] == [
        ("47 ms", "none"),
        ("47 ms", "kalman"),
        ("70 ms", "none"),
        ("70 ms", "kalman"),
    ]
    assert rows[2]["auc"] < rows[0]["auc"] < rows[0]["offline_auc"]
    assert "<html" in (out / "report.html").read_text()


def test_convert_then_evaluate_gives_the_folders_figures_to_the_last_bit(square, tmp_path):
    bag = tmp_path / "square.mcap"
    assert leadsight("convert", square, bag).returncode == 0
    results = []
    for source in (square, bag):
        out = tmp_path / source.stem / source.suffix.strip(".")
        done = leadsight(
            "evaluate", source, "--latency", "0.1", "--tracker", "kcf", "--out", out
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        results.append((out / "results.json").read_bytes())
    assert results[0] == results[1]


def test_track_writes_a_line_and_a_picture_for_each_frame(square, tmp_path):
    done = leadsight(
        "track", square, "--box", "8,10,36,28", "--tracker", "kcf", "--latency", "0.05",
        "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "tracks.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(20))
    assert lines[0]["answer"] == [8, 10, 36, 28] and lines[-1]["forecast_status"] == "ok"
    video = cv2.VideoCapture(str(tmp_path / "track.mp4"))
    count = 0
    while video.read()[0]:
        count += 1
    assert count == 20


def test_printed_configuration_loads_back_as_the_defaults(tmp_path):
    file = tmp_path / "leadsight.yaml"
    file.write_text(leadsight("config").stdout)
    assert config.build(CONFIGS, file) == {stage: cls() for stage, cls in CONFIGS.items()}


@pytest.fixture
def call(monkeypatch):
    """Run a command in this process; its exit status."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["leadsight", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


def test_what_the_command_line_leaves_out_comes_from_file_and_set(square, tmp_path, call):
    file = tmp_path / "own.yaml"
    file.write_text(
        "/**: {ros__parameters: {tracker: {name: mosse}, predictor: {name: constant-velocity}}}\n"
    )
    given = ["evaluate", square, "--latency", "0.1", "--config", file]
    runs = {
        "file": (given, ["none", "constant-velocity"], "mosse"),
        "set": ([*given, "--set", "tracker.name=kcf"], ["none", "constant-velocity"], "kcf"),
        "own": ([*given, "--tracker", "kcf", "--predictor", "kalman"], ["none", "kalman"], "kcf"),
    }
    for name, (arguments, predictors, tracker) in runs.items():
        assert call(*arguments, "--out", tmp_path / name) == 0
        rows = json.loads((tmp_path / name / "results.json").read_text())["rows"]
        assert [(r["tracker"], r["predictor"]) for r in rows] == [(tracker, p) for p in predictors]


def test_track_takes_tracker_and_predictor_from_the_configuration(square, tmp_path, call):
    def lines(*more):
        arguments = ["track", square, "--box", "8,10,36,28", "--latency", "0.07", *more]
        assert call(*arguments, "--out", tmp_path) == 0
        return [json.loads(line) for line in (tmp_path / "tracks.jsonl").read_text().splitlines()]

    still = lines("--set", "tracker.name=kcf", "--set", "predictor.name=none")
    assert still == lines("--tracker", "kcf", "--predictor", "none")
    assert all(line["forecast"] == line["answer"] for line in still)


def test_models_are_taken_from_the_option_then_the_configuration_then_the_data(
    square, tmp_path, call, monkeypatch, capsys
):
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("LEADSIGHT_DATA", str(tmp_path))
    given = ["evaluate", square, "--latency", "1", "--tracker", "nanotrack-v3"]
    configured = [*given, "--set", "tracker.models=/configured"]
    for arguments, folder in (
        (given, f"{tmp_path}/models"),
        (configured, "/configured"),
        ([*configured, "--models", "/given #2"], "/given #2"),
    ):
        assert call(*arguments) == 2
        assert f"{folder}/nanotrackv3;" in capsys.readouterr().err


def test_the_reports_pictures_are_developed_as_configured(square, tmp_path, call):
    bag, truth = tmp_path / "raw.mcap", square / "groundtruth.txt"
    with BagWriter(bag) as writer:
        for k in range(20):
            picture = cv2.imread(str(square / f"{k:03d}.png"), cv2.IMREAD_GRAYSCALE)
            writer.frame("image_raw", Frame(picture, k * 33_000_000, "bayer_rggb8", k))
    light = []
    for gain in (0.1, 1.0):
        out = tmp_path / str(gain)
        given = ["--gt", truth, "--latency", "0.1", "--tracker", "kcf", "--out", out]
        assert call("evaluate", bag, *given, "--set", f"isp.exposure_gain={gain}") == 0
        tiles = re.findall("base64,([^']+)'", (out / "report.html").read_text())
        data = np.frombuffer(base64.b64decode(tiles[0]), np.uint8)
        light.append(cv2.imdecode(data, cv2.IMREAD_COLOR).mean())
    assert light[0] < 0.6 * light[1]


def test_track_refuses_a_bag_whose_time_does_not_rise(tmp_path, call, capsys):
    bag = tmp_path / "still.mcap"
    with BagWriter(bag) as writer:
        for stamp in (0, 40, 40, 80):
            writer.frame("image", Frame(np.zeros((64, 64, 3), np.uint8), stamp * 1_000_000))
    assert call("track", bag, "--box", "9,9,20,20", "--out", tmp_path / "out") == 2
    assert "still.mcap: time stands still or jumps back at frame 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_box_file_does_not_serve_a_folder_of_sequences(square, tmp_path, call, capsys):
    for name in ("a", "b"):
        shutil.copytree(square, tmp_path / "set" / name)
    truth = square / "groundtruth.txt"
    assert call("evaluate", tmp_path / "set", "--gt", truth, "--latency", "1") == 2
    assert "here are 2" in capsys.readouterr().err


BAD = {
    "no such folder": (["evaluate", "/nowhere", "--latency", "0.1"], "/nowhere"),
    "no latency": (["evaluate", "{square}"], "--latency"),
    "latency no number": (["evaluate", "{square}", "--latency", "soon"], "--latency"),
    "latency nan": (["evaluate", "{square}", "--latency", "nan"], "latency of nan"),
    "latency inf": (["evaluate", "{square}", "--latency", "inf"], "latency of inf"),
    "latency 1e400": (["evaluate", "{square}", "--latency", "1e400"], "latency of inf"),
    "latency 1e300": (["evaluate", "{square}", "--latency", "1e300"], "latency of 1e+300"),
    "track latency nan": (
        ["track", "{square}", "--box", "8,10,36,28", "--latency", "nan"],
        "--latency",
    ),
    "track latency inf": (
        ["track", "{square}", "--box", "8,10,36,28", "--latency", "inf"],
        "--latency",
    ),
    "demo latency nan": (["demo", "--latency", "nan"], "--latency"),
    "demo seconds nan": (["demo", "--seconds", "nan"], "--seconds"),
    "jitter nan": (["evaluate", "{square}", "--latency", "1", "--jitter", "nan"], "--jitter"),
    "cost nan": (
        ["evaluate", "{square}", "--latency", "1", "--predictor-cost-ms", "nan"],
        "--predictor-cost-ms",
    ),
    "latency zero": (["evaluate", "{square}", "--latency", "0"], "latency of 0"),
    "unknown tracker": (["evaluate", "{square}", "--tracker", "magic"], "magic"),
    "no models": (
        ["evaluate", "{square}", "--latency", "1", "--tracker", "nanotrack-v3", "--models", "/no"],
        "--models",
    ),
    "option out of range": (
        ["evaluate", "{square}", "--latency", "1", "--set", "tracker.lost_ratio=7"],
        "lost_ratio",
    ),
    "jobs zero": (["evaluate", "{square}", "--latency", "1", "--jobs", "0"], "--jobs"),
    "jobs and ray": (
        ["evaluate", "{square}", "--latency", "1", "--jobs", "2", "--ray", "local"],
        "--ray",
    ),
    "jobs on the wall clock": (
        ["evaluate", "{square}", "--clock", "wall", "--jobs", "2"],
        "--clock wall",
    ),
    "no such option": (["evaluate", "--fast"], "--fast"),
    "no such command": (["fly"], "fly"),
    "out is a file": (
        ["evaluate", "{square}", "--latency", "1", "--tracker", "kcf", "--out", "{truth}"],
        "groundtruth.txt",
    ),
    "box outside": (["track", "{square}", "--box", "900,1,9,9"], "160x120"),
    "box of three": (["track", "{square}", "--box", "1,2,3"], "--box 1,2,3"),
    "no video": (["track", "{truth}", "--box", "1,2,3,4"], "groundtruth.txt"),
    "fps zero for a replay": (["evaluate", "--replay", "{square}", "--fps", "0"], "--fps"),
    "fps nan": (["track", "{square}", "--box", "9,9,9,9", "--fps", "nan"], "--fps"),
    "fps zero": (["track", "{square}", "--box", "9,9,9,9", "--fps", "0"], "--fps"),
    "replay without archives": (["evaluate", "--replay", "{square}", "--latency", "1"], ".npz"),
}


@pytest.mark.parametrize("command", [["evaluate", "{bad}"], ["track", "{bad}", "--box", "1,1,9,9"]])
@pytest.mark.parametrize("out", ["{bad}", "{bad}/below"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    command, out, tmp_path, call, capsys
):
    bad = tmp_path / "file.txt"
    bad.write_text("no recording")
    arguments = [a.format(bad=bad) for a in (*command, "--out", out)]
    assert call(*arguments) == 2
    assert f"{bad} is no folder that can be written to" in capsys.readouterr().err


def test_a_piped_table_is_not_folded(square, tmp_path):
    arguments = ["evaluate", square, "--latency", "0.1", "--tracker", "kcf", "--jitter", "0.2"]
    command = [sys.executable, "-m", "leadsight", *arguments, "--predictor", "constant-velocity"]
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    done = subprocess.run(
        [*command, "--out", tmp_path / ("long" * 12)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert any(re.search(r"kcf +100 ms ± 0.2 +constant-velocity +\d", line) for line in lines)
    assert lines[-1].endswith("results.json") and lines[-1].startswith("wrote ")


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_it_and_status_two(case, square, monkeypatch, capsys):
    arguments, name = BAD[case]
    places = {"square": square, "truth": square / "groundtruth.txt"}
    monkeypatch.setattr(sys, "argv", ["leadsight", *(a.format(**places) for a in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1 and said.startswith("leadsight: ") and name in said


def test_the_process_ends_with_that_line_and_status_and_no_traceback():
    done = leadsight("evaluate", "/nowhere", "--latency", "0.1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "leadsight: /nowhere: no such file or folder\n"


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A recording of several targets with its truth, and the options of a detector that finds
    them."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (the mot extra)")
    folder = tmp_path_factory.mktemp("crowd")
    model = bright(folder / "bright.onnx", SIZE, TARGET)
    return mot_challenge(folder / "town"), (
        "--detector", model, "--layout", "yolov8", "--set", "detector.nms_iou=0.0",
        "--set", "detector.min_score=0.5",
    )  # fmt: skip


@pytest.mark.parametrize("truth", [(), ("--own-truth",)])
def test_evaluate_mot_scores_a_real_detector_the_same_twice(crowd, truth, tmp_path):
    path, detector = crowd
    source = path / "img1" if truth else path
    found = []
    for name in ("a", "b"):
        out = tmp_path / name
        done = leadsight(
            "evaluate-mot", source, *detector, *truth, "--latency", "0.05", "0.15",
            "--predictor", "kalman", "two-rate", "--out", out,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append((out / "results.json").read_text())
    assert found[0] == found[1]
    assert ("held to what the same detector says offline" in done.stdout) == bool(truth)
    results = json.loads(found[0])
    rows = {(r["latency"], r["method"]): r for r in results["rows"]}
    assert len(rows) == 7
    assert rows["150 ms", "two-rate"]["hota"] > rows["150 ms", "kalman"]["hota"]
    assert rows["150 ms", "two-rate"]["gap_sap"] > 0.4
    assert rows["0 ms", "offline"]["gap_hota"] is None
    assert list(results["sequences"]) == [source.name]
    assert results["settings"]["detector"]["model"] == "bright.onnx"


def test_evaluate_mot_says_that_a_simulated_detector_is_one(tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (the mot extra)")
    done = leadsight(
        "evaluate-mot", "world", "--detector", "simulated", "--seconds", "1.5",
        "--latency", "0.1", "--predictor", "two-rate", "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "SIMULATED" in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["detector"]["model"] == "simulated"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--latency", "0.1"), "give --detector"),
        (("--detector", "simulated"), "give --latency"),
        (("--detector", "simulated", "--latency", "0"), "latency of 0 s"),
        (("--detector", "nothing.onnx", "--latency", "0.1"), "nothing.onnx: model cannot be read"),
        (("--detector", "simulated", "--layout", "ssd", "--latency", "0.1"), "--layout ssd"),
        (("--detector", "simulated", "--predictor", "kal", "--latency", "0.1"), "--predictor kal"),
        (("--detector", "simulated", "--own-truth", "--latency", "0.1"), "needs a real detector"),
        (
            ("--detector", "simulated", "--set", "propagator.calibration=a.yaml"),
            "evaluate-mot reads no gyroscope",
        ),
    ],
)
def test_evaluate_mot_refuses_in_one_line(crowd, arguments, reason, tmp_path):
    path, _ = crowd
    done = leadsight("evaluate-mot", path, *arguments, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_evaluate_mot_without_a_single_target_twice_says_so(crowd, tmp_path):
    _, detector = crowd
    dark = tmp_path / "dark"
    dark.mkdir()
    for k in range(5):
        cv2.imwrite(str(dark / f"{k}.png"), np.zeros((160, 240, 3), np.uint8))
    done = leadsight("evaluate-mot", dark, *detector, "--own-truth", "--latency", "0.1")
    assert done.returncode == 2
    assert "finds no target twice" in done.stderr
