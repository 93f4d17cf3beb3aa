"""``leadsight simulate``: a flight from any world, read back by the commands for recordings."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import pytest

from bridges.make_simulator import WORLDS, config_class, make_simulator
from evaluation.bags import Bag
from pipeline.errors import InputError
from tests.leadsight.test_cli import ROOT, leadsight

SMALL = ("--width", "160", "--height", "120", "--fov", "30", "--seed", "3")


@pytest.fixture(scope="module")
def flight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flight")
    done = leadsight(
        "simulate", "embedded", "-o", folder / "flight.mcap", "--seconds", "1.5", *SMALL,
        "--video", folder / "flight.mp4", "--set", "follow.orbit_mps=6",
        "--set", "world.vehicles=6",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_flight_is_a_bag_a_video_and_a_calibration_with_its_real_time_factor(flight):
    folder, said = flight
    assert {p.name for p in folder.iterdir()} == {
        "flight.mcap", "flight.mp4", "flight.camchain.yaml"
    }  # fmt: skip
    assert "45 pictures, target" in said and "times as fast as real time" in said
    video = cv2.VideoCapture(str(folder / "flight.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 45


def test_evaluate_and_track_read_it_back(flight):
    folder, _ = flight
    done = leadsight(
        "evaluate", folder / "flight.mcap", "--tracker", "kcf", "--latency", "0.1", "--predictor",
        "none", "--out", folder / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = json.loads((folder / "out" / "results.json").read_text())["rows"][0]
    assert row["offline_auc"] > 0.5
    truth = next(m for _, _, m in Bag(folder / "flight.mcap").messages("truth"))
    box = ",".join(f"{v:.1f}" for v in truth.boxes[:4])
    done = leadsight(
        "track", folder / "flight.mcap", "--box", box, "--tracker", "kcf", "--out", folder / "out"
    )
    assert done.returncode == 0, done.stderr
    assert len((folder / "out" / "tracks.jsonl").read_text().splitlines()) == 45


def test_a_world_without_pictures_is_recorded_as_far_as_it_goes(tmp_path):
    done = leadsight("simulate", "town", "-o", tmp_path / "t.mcap", "--seconds", "2")
    assert done.returncode == 0, done.stderr
    assert "0 pictures" in done.stdout and (tmp_path / "t.mcap").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("moon",), "embedded, mujoco, sumo, town, recorder, carla"),
        (("embedded", "-o", "x.txt"), ".mcap"),
        (("town", "--set", "town.nope=1"), "nope: no such option"),
        (("town", "--set", "moon.nope=1"), "no such stage"),
        (("town", "--video", "y.mp4"), "makes no pictures"),
        (("town", "--target", "99999"), "99999 is not in the scene"),
        (("town", "--source", "x"), "takes none"),
        (("sumo", "--source", "127.0.0.1:1"), "--remote-port|pip install"),
        (("recorder",), "give the recording|not part of this build"),
    ],
)
def test_what_cannot_be_flown_is_one_line_and_leaves_nothing(arguments, said, tmp_path):
    place = () if "-o" in arguments else ("-o", tmp_path / "y.mcap")
    done = leadsight("simulate", *arguments, *place, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert any(s in done.stderr for s in said.split("|"))
    assert not list(tmp_path.iterdir())


def test_worlds_are_made_by_name_and_seed():
    one, other = (make_simulator("town", None, seed) for seed in (1, 2))
    again = make_simulator("town", config_class("town")(), 1)
    assert (one.moment.poses == again.moment.poses).all()
    assert (
        one.moment.poses.shape != other.moment.poses.shape
        or (one.moment.poses != other.moment.poses).any()
    )
    for simulator in (one, other, again):
        simulator.close()
    with pytest.raises(InputError, match="give one of"):
        config_class("moon")
    assert {"embedded", "town", "sumo"} <= set(WORLDS)


def test_no_seed_keeps_the_world_s_own_and_another_takes_its_place():
    config = config_class("embedded")(seed=5, width=160, height=120)
    begun = []
    for seed in (0, 5, 6):
        simulator = make_simulator("embedded", config, seed)
        begun.append(simulator.moment.poses)
        simulator.close()
    assert (begun[0] == begun[1]).all()
    assert begun[1].shape != begun[2].shape or (begun[1] != begun[2]).any()


def test_a_video_that_is_there_is_not_written_over(tmp_path):
    video = tmp_path / "mine.mp4"
    video.write_text("mine")
    done = leadsight("simulate", "embedded", "-o", tmp_path / "a.mcap", "--video", video)
    assert done.returncode == 2 and "--overwrite" in done.stderr
    assert video.read_text() == "mine" and [*tmp_path.iterdir()] == [video]


def told_to_end(number, pattern, folder, *arguments):
    """Exit status and words of a flight that a signal ends once a file like ``pattern`` is there.

    Everything it writes lies in ``folder``, temporary files in ``folder``/tmp.
    """
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "leadsight", "simulate", *arguments], cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not any(p.stat().st_size > 100_000 or p.is_dir() for p in folder.glob(pattern)):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, said


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT), ids=lambda s: s.name)
def test_a_flight_that_is_told_to_end_is_written_as_far_as_it_was_flown(tmp_path, number):
    code, said = told_to_end(
        number, ".bag-*/bag/*.mcap", tmp_path, "town", "-o", "a.mcap", "--seconds", "3600"
    )
    assert code == 0 and "it ended early: told to by a signal" in said
    assert {p.name for p in tmp_path.iterdir()} == {"a.mcap", "tmp"}
    assert len([*Bag(tmp_path / "a.mcap").messages("truth_objects")]) > 5
    assert not [*(tmp_path / "tmp").glob("leadsight*")]


def test_what_is_told_to_end_before_it_flies_leaves_nothing(tmp_path):
    pytest.importorskip("libsumo", reason="SUMO is not installed (the sumo extra)")
    code, said = told_to_end(
        signal.SIGTERM, "tmp/leadsight-sumo-*", tmp_path, "sumo", "-o", "a.mcap",
        "--set", "sumo.grid=8", "--set", "sumo.warm_up_s=300",
    )  # fmt: skip
    assert code == 143 and not said.strip(), said
    assert [p.name for p in tmp_path.iterdir()] == ["tmp"]
    assert not [*(tmp_path / "tmp").glob("leadsight*")]
