"""Every command in the README and in docs/ is run, or checked as far as this machine can."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.bags import open_bag_sequence
from evaluation.data import find_data
from isp.classical import ClassicalIsp
from leadsight.ask import example
from llm_edge import words
from llm_edge.checkpoint import Shape, random_checkpoint, save_checkpoint
from llm_edge.coding import coded_scene
from llm_edge.export_onnx import export_onnx
from llm_edge.lookahead import look_ahead
from llm_edge.scene import scene_json
from llm_edge.thought import answer_tokens, answers_of, thought_tokens
from tests.evaluation.town import mot_challenge
from tests.perception.models import looking, model
from tests.prediction.models import write_views

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
QUICK = {
    "calibration": ["--sequences", "1", "--clips", "1", "--every", "40"],
    "decisions": ["--scenes", "20", "--deadlines", "10"],
    "decoder": ["--rounds", "2", "--calibrations", "1", "--shapes", "1M"],
    "decoder_shapes": ["--rounds", "1", "--layers", "2", "--widths", "64"],
    "decision_loop": ["--seeds", "1", "--policies", "idle,policy", "--jobs", "1"],
    "detector": ["--repeats", "12"],
    "simulators": ["--simulators", "embedded", "--seconds", "0.5"],
    "simulator_pipeline": ["--traffic", "kinematic", "--vehicles", "8", "--seconds", "1"],
    "follow_target": ["--seeds", "1", "--latency", "0", "--seconds", "1", "--jobs", "1"],
    "highway": ["--seeds", "1", "--roads", "4x2", "--policies", "idle", "--jobs", "1"],
    "gyro": ["--frames", "14", "--seeds", "1", "--worlds", "calm"],
    "interference": ["--rounds", "1", "--seconds", "1", "--shape", "tiny"],
    "isp_speed": ["--repeats", "2"],
    "predictor": ["--repeats", "2"],
    "predictor_accuracy": ["--sequences", "1", "--latency", "0.1"],
    "raw_doctor": ["--repeats", "1", "--limit", "6"],
    "reasoner_faults": ["--repeats", "2", "--kills", "1", "--shape", "tiny"],
    "reasoner_savings": ["--scenes", "1", "--shape", "tiny"],
    "runner": ["--frames", "20"],
    "v2x_closed_loop": ["--seeds", "1"],
    "v2x_codec": ["--stream", "200", "--repeats", "20"],
    "v2x_ground": ["--seeds", "1", "--frames", "3"],
    "v2x_scenes": ["--steps", "5"],
    "v2x_receiver": ["--agents", "5", "10", "--seconds", "0.5"],
    "v2x_tradeoff": [
        "--world",
        "town",
        "--seeds",
        "1",
        "--seconds",
        "2.3",
        "--agents",
        "4",
        "--egos",
        "1",
        "--sweeps",
        "budget",
        "--selectors",
        "apc",
        "send_all",
        "--jobs",
        "1",
    ],
    "v2x_udp": ["--seconds", "2", "--messages", "200"],
    "world": ["--frames", "4"],
}
"""Benchmarks are run for a moment only: that they run is proved here, not how fast."""
BRIEF = {
    "benchmarks.random_gguf": ["--shape", "tiny"],
    "bridges.tracks": ["--worlds", "5", "--seconds", "4"],
    "bridges.traffic_picture": ["--seconds", "1"],
    "isp.train": ["--steps", "1", "--views", "4"],
    "llm_edge.export_gguf": [],
    "llm_edge.export_onnx": [],
    "llm_edge.train": ["--steps", "2", "--layers", "1", "--width", "64"],
    "prediction.train": ["--steps", "2", "--batches", "1"],
}
"""So is training; and what writes files, in a folder of the test's."""


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of every fenced block of a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(p.name, text) for p in PAGES for text in pattern.findall(p.read_text())]


def commands() -> list[str]:
    lines = [line for _, text in blocks("sh") for line in text.splitlines()]
    inline = [
        c
        for p in PAGES
        for c in re.findall(r"`(python3? -m [^`]+|leadsight [a-z][^`]*)`", p.read_text())
    ]
    return list(dict.fromkeys(line.split(" #")[0].strip() for line in [*lines, *inline] if line))


def run(arguments: list[str], cwd: Path) -> str:
    """What the command prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the documented commands find what they name."""
    import cv2

    place = tmp_path_factory.mktemp("docs")
    run([sys.executable, "-m", "leadsight", "demo", "--seconds", "2", "--seed", "3"], place)
    sequence = open_bag_sequence(place / "out/demo/run.mcap", target=0)
    assert sequence.frames is not None
    (place / "SEQUENCE/img").mkdir(parents=True)
    isp = ClassicalIsp()
    for k in range(20):
        picture = isp.process(sequence.frames.read(k)).bgr()
        cv2.imwrite(str(place / f"SEQUENCE/img/{k:04}.png"), picture)
    truth = sequence.truth[:20]
    np.savetxt(place / "SEQUENCE/groundtruth_rect.txt", truth, fmt="%.2f", delimiter=",")
    (place / "OUTPUTS").mkdir()
    (place / "TRUTH").mkdir()
    np.savez(place / "OUTPUTS/mine.npz", SEQUENCE=truth + 1)
    shutil.copy(place / "SEQUENCE/groundtruth_rect.txt", place / "TRUTH/SEQUENCE.txt")
    run([sys.executable, "-m", "leadsight", "convert", "SEQUENCE", "flight.mcap"], place)
    (place / "flight.mcap").rename(place / "kept.mcap")
    (place / "config").mkdir()
    mot_challenge(place / "RECORDINGS")
    (place / "frame.raw").write_bytes(np.ascontiguousarray(sequence.frames.read(0).image).tobytes())
    answer = np.zeros((1, 5, 84))  # of layout yolov8: always the same two
    answer[0, :, :2] = np.array([[20, 24, 10, 8, 0.9], [44, 30, 8, 12, 0.8]]).T
    model(place / "detector.onnx", [answer])
    looking(place / "yolox.onnx")
    for name in ("PICTURES", "LABELS"):
        (place / name).mkdir()
    for k in range(4):
        shutil.copy(place / f"SEQUENCE/img/{k:04}.png", place / "PICTURES")
        (place / f"LABELS/{k:04}.txt").write_text("0 0.4 0.5 0.2 0.2\n")
    _decoder(place)
    _training_data(place / "TRACKING")
    for name in ("clips", "worlds"):
        write_views(place / f"{name}.npz", name)
    return place


def _decoder(place: Path) -> None:
    """A scene, and an untrained decoder with its checkpoint."""
    (place / "scene.json").write_text(scene_json(example()))
    shape = Shape(len(words.WORDS), 64, 1, 2, 2, 96, words.CONTEXT)
    save_checkpoint(replace(random_checkpoint(shape), words=words.WORDS), place / "reasoner.npz")
    export_onnx(place / "reasoner.npz", place / "reasoner.onnx")


def _training_data(root: Path) -> None:
    """Boxes that drift, under the names of every data set that training reads."""
    steps = np.arange(80)[:, None]
    tracks = {f"t{k}": np.hstack([9 * k + steps * [2, 1], steps * 0 + [30, 20]]) for k in range(12)}
    (root / "gt").mkdir(parents=True)
    np.savez(root / "gt/LaSOT_gt.npz", **tracks)
    np.savez(root / "gt/LaSOT_absent.npz", **{k: np.zeros(80, np.uint8) for k in tracks})
    np.savez(root / "gt/AntiUAV410_gt.npz", **tracks)
    np.savez(root.parent / "world.npz", **tracks)
    for name in ("UAV123", "UAV20L"):
        (root / "gt" / name).mkdir()
        (root / "raw" / name).mkdir(parents=True)
        np.savez(root / "raw" / name / "mine.npz", **tracks)
        for sequence, boxes in tracks.items():
            np.savetxt(root / "gt" / name / f"{sequence}.txt", boxes, delimiter=",")


@pytest.mark.parametrize("command", commands())
def test_documented_command_runs(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / ".cache"))  # calibrations are kept there
    told = shlex.split(command)
    program, arguments = told[0], told[1:]
    if program == "leadsight":
        if "flight.mcap" in arguments and arguments[0] != "convert":
            shutil.copy(place / "kept.mcap", place / "flight.mcap")
        else:
            (place / "flight.mcap").unlink(missing_ok=True)
        if arguments[0] == "carla-doctor":  # there need not be a server
            help_ = run([sys.executable, "-m", "leadsight", "carla-doctor", "--help"], place)
            assert all(word in help_ for word in arguments if word.startswith("--"))
            return
        if arguments[:2] == ["evaluate-mot", "world"]:
            arguments += ["--seconds", "2"]
        if ">" in arguments:
            arguments = arguments[: arguments.index(">")]
        run([sys.executable, "-m", "leadsight", *arguments], place)
    elif program in ("python", "python3") and arguments[:1] == ["-m"]:
        module = arguments[1]
        name = module.rpartition(".")[2]
        if name in ("ros_transport", "real_time", "isp_ros"):
            pytest.importorskip("rclpy")
            pytest.importorskip("leadsight_msgs")
            arguments = [*arguments[:2], "--help"]
        if name in (
            "latency_recovery",
            "visual_predictors",
            "views",
            "isp_quality",
            "isp_tracking",
        ):
            # minutes at the least, on clips that need not be here
            help_ = run([sys.executable, *arguments[:2], "--help"], ROOT)
            assert all(word in help_ for word in arguments if word.startswith("--"))
            return
        needs_outputs = name in ("predictor_accuracy", "calibration")
        if needs_outputs and find_data("data", "tracking", "raw", "UAVDT") is None:
            pytest.skip("UAVDT's stored outputs are not here (LEADSIGHT_DATA)")
        if name == "raw_doctor" and find_data("data", "isp", "labelled") is None:
            pytest.skip("the pictures are not here (LEADSIGHT_DATA)")
        if "--online" in arguments and find_data("data", "tracking", "frames") is None:
            pytest.skip("the clips are not here (LEADSIGHT_DATA)")
        if name in ("random_gguf", "export_gguf"):
            pytest.importorskip("gguf", reason="gguf is not installed (the llm extra)")
        if name == "highway":
            pytest.importorskip("highway_env", reason="highway-env is not installed (highway)")
        if name == "v2x_closed_loop":
            pytest.importorskip("libsumo", reason="SUMO is not installed (the sumo extra)")
        if "--scenario" in arguments:
            if find_data("data", "v2x", "sumo_bologna") is None:
                pytest.skip("Bologna's network is not here (LEADSIGHT_DATA)")
            arguments[-1] = str(find_data("data", "v2x", "sumo_bologna", "run.sumocfg"))
        if name == "train":
            pytest.importorskip("torch", reason="torch is not installed (the train extra)")
        bench = module.startswith("benchmarks.")
        quick = BRIEF.get(module, QUICK.get(name, []) if bench else [])
        run(
            [sys.executable, *arguments, *quick],
            place if module in BRIEF or "--out" in arguments else ROOT,
        )
    elif program in ("python", "python3"):
        assert (ROOT / arguments[0]).is_file(), f"{arguments[0]} is not in the repository"
        run([sys.executable, "-m", "py_compile", str(ROOT / arguments[0])], place)
    elif program == "make":
        run(["make", "--dry-run", *arguments], ROOT)
    elif program in (".", "source", "export"):
        pass  # settings of the reader's own shell
    elif program in ("pip", "pre-commit", "rerun", "sudo"):
        pytest.skip(f"{program} would change or needs more than this environment")
    elif shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    elif program == "ros2" and arguments[:1] == ["launch"]:
        assert (ROOT / "launch" / arguments[2]).is_file(), f"no launch file {arguments[2]}"
    else:
        assert program in ("colcon", "ros2"), f"{program}: this test does not know how to run it"


def test_the_decoders_page_shows_what_is_read_and_said() -> None:
    page = (ROOT / "docs/reasoner-decoder.md").read_text()
    scene = coded_scene(example())
    outcome = look_ahead(scene)
    prompt = words.text_of(words.prompt_tokens(scene)[0, : 1 + len(words.HEADER)])
    thought = thought_tokens(scene, outcome)[0]
    answer = answer_tokens(answers_of(scene, outcome))[0]
    for line in (prompt, words.text_of(thought[thought >= 0]), words.text_of(answer)):
        assert f"    {line}\n" in page
    for text in (f"{len(words.WORDS):,} words", f"at most {words.MAX_PROMPT} words",
                 f"most {words.MAX_THOUGHT}, an answer {words.MAX_ANSWER}",
                 f"context of {words.CONTEXT}"):  # fmt: skip
        assert text in page


@pytest.mark.parametrize(("page", "text"), [b for b in blocks("python") if b[0] == "README.md"])
def test_readme_python_runs(page: str, text: str, tmp_path: Path) -> None:
    run([sys.executable, "-c", text], tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
