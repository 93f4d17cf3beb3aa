"""A gyroscope in bags: written, read, and used only as far as it had arrived."""

import logging

import numpy as np
import pytest

import evaluation.two_rate
from bridges.world import AerialWorld, WorldConfig
from evaluation.bags import TRUTH_TOPIC, Bag, BagWriter, open_bag_sequence
from evaluation.clock import Latency
from evaluation.evaluate import evaluate
from evaluation.online import TrackerSource
from evaluation.sources import open_any
from isp.classical import ClassicalIsp
from perception.ego import EgoMotion
from perception.propagator import PropagatorConfig
from perception.tracker import TrackerConfig, make_tracker
from pipeline.errors import InputError
from pipeline.imu import ImuSamples, calibration_yaml
from pipeline.motion import CameraSource
from pipeline.tracks import Tracks, TrackStatus
from prediction.predictor import PredictorConfig

COUNT = 14
SETTINGS = {"seed": 2, "width": 320, "height": 192, "rate_hz": 20.0, "gyro_hz": 200.0}


@pytest.fixture(scope="module")
def world():
    return AerialWorld(WorldConfig(**SETTINGS, shake_px=6.0))


@pytest.fixture
def calibration(world, tmp_path):
    path = tmp_path / "camchain-imucam.yaml"
    path.write_text(calibration_yaml(*world.calibration))
    return PropagatorConfig(calibration=str(path))


def recorded(world, path, imus=("imu",)):
    with BagWriter(path) as bag:
        for k in range(COUNT):
            shot = world.render(k)
            bag.frame("image", shot.frame)
            box = shot.boxes[world.target_id]
            one = Tracks.single(
                shot.stamp_ns, shot.stamp_ns, k, world.size, box, 1, TrackStatus.TRACKED
            )
            bag.tracks(TRUTH_TOPIC, one)
            for topic in imus:
                bag.imu(topic, world.gyro(shot.stamp_ns, world.stamp_ns(k + 1)))
    return path


def run(sequence, propagator):
    source = TrackerSource(
        "csrt", make_tracker(TrackerConfig(name="csrt")), ClassicalIsp(), sequence
    )
    (found,) = evaluate(
        [(sequence, source)],
        [Latency.of_seconds(0.17)],
        ["two-rate"],
        PredictorConfig(),
        0,
        propagator=propagator,
    )
    return found.runs["170 ms", "two-rate"]


def test_what_is_written_is_read_again(world, tmp_path):
    path = recorded(world, tmp_path / "flight.mcap")
    expected = world.gyro(0, world.stamp_ns(COUNT))
    assert Bag(path).topics()["imu"] == "sensor_msgs/msg/Imu"
    found = open_bag_sequence(path, imu="").imu
    np.testing.assert_array_equal(found.stamps_ns, expected.stamps_ns)
    np.testing.assert_array_equal(found.rates, expected.rates)
    assert open_bag_sequence(path).imu is None  # nobody asked


def test_one_of_several_imus_is_chosen_and_none_is_an_error(world, tmp_path, otb):
    both = recorded(world, tmp_path / "both.mcap", ("/nose/imu", "/tail/imu"))
    with pytest.raises(InputError, match=r"/nose/imu, /tail/imu; choose one with --imu"):
        open_any(both, imu="")
    assert len(open_any(both, imu="/tail/imu").imu) == COUNT * 10
    with pytest.raises(InputError, match="no IMU topic /imu"):
        open_any(both, imu="/imu")
    with pytest.raises(InputError, match="there are: none; record it"):
        open_any(recorded(world, tmp_path / "none.mcap", ()), imu="")
    with pytest.raises(InputError, match="is no bag"):
        open_any(otb, imu="")


def test_only_samples_that_had_arrived_are_used(world, tmp_path, calibration, monkeypatch):
    sequence = open_bag_sequence(recorded(world, tmp_path / "flight.mcap"), imu="")
    fed, steps = [], []
    feed, between = EgoMotion.feed, EgoMotion.between

    def watch(self, before, after, scale, boxes, start_ns, end_ns, size):
        steps.append((end_ns, max((s for s in fed), default=-1)))
        found = between(self, before, after, scale, boxes, start_ns, end_ns, size)
        sources.append(found.source)
        return found

    sources = []
    monkeypatch.setattr(EgoMotion, "between", watch)
    monkeypatch.setattr(
        EgoMotion, "feed", lambda self, s: (fed.extend(s.stamps_ns.tolist()), feed(self, s))
    )
    run(sequence, calibration)
    assert len(steps) == COUNT - 1
    for frame_ns, newest_ns in steps:
        assert 0 <= frame_ns - evaluation.two_rate.IMU_DELAY_NS - newest_ns < 5_000_000
    assert sources.count(CameraSource.BOTH) == COUNT - 1


def test_the_figures_are_the_same_each_time_and_other_than_without(world, tmp_path, calibration):
    path = recorded(world, tmp_path / "flight.mcap")
    first, again = (run(open_bag_sequence(path, imu=""), calibration).boxes for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, run(open_bag_sequence(path), PropagatorConfig()).boxes)


def test_a_gyroscope_on_another_clock_is_told_of(world, tmp_path, calibration, caplog):
    sequence = open_bag_sequence(recorded(world, tmp_path / "flight.mcap"), imu="")
    stamps = sequence.imu.stamps_ns - 10**15
    object.__setattr__(sequence, "imu", ImuSamples(stamps, sequence.imu.rates))
    with caplog.at_level(logging.WARNING):
        spoiled = run(sequence, calibration)
    assert "flight: gyroscope: its stamps are seconds away" in caplog.text
    plain = run(open_bag_sequence(tmp_path / "flight.mcap"), PropagatorConfig())
    np.testing.assert_array_equal(spoiled.boxes, plain.boxes)
