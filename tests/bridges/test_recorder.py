"""Recordings of CARLA's behind the port."""

import numpy as np
import pytest

from bridges.flight import rotation, rotation_vector
from bridges.recorded import State, between
from bridges.recorder import RecorderConfig, RecorderSimulator
from bridges.simulator import Sensor, SensorKind, SimulatorError, pose_of
from evaluation.data import find_data
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from tests.bridges import carla_logs as logs


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "round.log"
    path.write_bytes(logs.round_trip(4.0))
    return path


def test_its_actors_are_where_they_were(recording):
    simulator = RecorderSimulator(recording)
    for _ in range(60):
        moment = simulator.tick()
        seconds = moment.stamp_ns * 1e-9
        assert moment.actors.ids.tolist() == [31, 32, 40, 50]
        place, yaw, velocity, rate = logs.circling(seconds, 32)
        row = moment.actors.row(32)
        assert np.linalg.norm(moment.actors.positions[row][:2] - place[:2] * (1, -1)) < 0.03
        assert np.linalg.norm(moment.actors.velocities[row] - velocity * (1, -1, 1)) < 0.05
        assert abs(np.angle(np.exp(1j * (moment.actors.yaws[row] + np.radians(yaw))))) < 0.01
        assert np.allclose(moment.rates[row], (0, 0, -np.radians(rate)), atol=1e-3)
        man = moment.actors.row(50)
        assert np.allclose(moment.actors.velocities[man], (0, 1.2, 0), atol=1e-3)
    classes = [ObjectClass.CAR, ObjectClass.MOTORCYCLE, ObjectClass.TRUCK, ObjectClass.PERSON]
    assert moment.actors.classes.tolist() == classes
    assert moment.actors.equipped.tolist() == [True, False, False, False]
    assert np.allclose(moment.actors.sizes[0], (4.9, 2.1, 1.5))
    assert abs(moment.actors.positions[0][2] - 0.85) < 1e-5
    simulator.close()


def test_a_uav_sees_its_cars(recording):
    simulator = RecorderSimulator(recording)
    uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([35.0, 0, 60])))
    seen = []
    down = Sensor(SensorKind.BOXES, "eye", uav, pose_of(np.zeros(3), 0, np.pi / 2), fov_deg=90)
    simulator.listen(down, lambda r: seen.append(r.value))
    simulator.tick()
    assert {31, 32, 40} <= {*seen[0].ids.tolist()}
    simulator.close()


def test_at_its_end_it_says_so_or_begins_again(recording):
    simulator = RecorderSimulator(recording)
    with pytest.raises(SimulatorError, match=r"is over after \d+ frames, .*recorder\.loop"):
        for _ in range(200):
            simulator.tick()
    assert 3.8 < simulator.moment.stamp_ns * 1e-9 < 4.2
    simulator.close()
    again = RecorderSimulator(recording, RecorderConfig(loop=True))
    moments = [again.tick() for _ in range(300)]
    assert [m.frame for m in moments] == list(range(1, 301))
    assert all(len(m.actors) == 4 for m in moments)
    again.close()


def test_one_that_breaks_off_is_played_as_far_as_it_goes(recording):
    recording.write_bytes(recording.read_bytes()[:-30])
    simulator = RecorderSimulator(recording)
    with pytest.raises(SimulatorError, match=r"is over after \d+ frames.*byte \d+"):
        for _ in range(200):
            simulator.tick()
    assert "byte" in simulator.warning and simulator.moment.stamp_ns > 3.5e9
    simulator.close()


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (
            [logs.frame(k + 1, 1e-6 * k) for k in range(20_000)],
            "more than 10000 frames .* one step",
        ),
        (
            [logs.frame(k + 1, 1e-6 * k, logs.vacant(65_535)) for k in range(8)],
            r"more than 8 MiB .* one step .*recorder\.step_s",
        ),
        (
            [
                logs.frame(k + 1, 1e-6 * k, logs.added([
                    (i, 1, "vehicle.a", {}) for i in range(5000 * k + 1, 5000 * k + 5001)
                ]))
                for k in range(3)
            ],
            "more than 10000 actors",
        ),
    ],
)  # fmt: skip
def test_one_step_reads_only_so_much(tmp_path, frames, said):
    path = tmp_path / "crowded.log"
    path.write_bytes(logs.header() + b"".join(frames))
    simulator = RecorderSimulator(path)
    with pytest.raises(SimulatorError, match=f"crowded.log: .*{said}") as refused:
        simulator.tick()
    assert "\n" not in str(refused.value)
    simulator.close()


def test_one_without_a_frame(tmp_path):
    path = tmp_path / "empty.log"
    path.write_bytes(logs.header())
    with pytest.raises(InputError, match="no whole frame"):
        RecorderSimulator(path)


def test_who_is_put_elsewhere_does_not_fly_there(tmp_path):
    path = tmp_path / "jump.log"
    come = logs.added([(5, 1, "vehicle.tesla.model3", {})])
    frames = [
        logs.frame(
            k + 1,
            0.1 * k,
            *([come] if not k else []),
            logs.positions([(5, (0.0 if k < 5 else 300.0, 0, 0), (0, 0, 0))]),
            logs.kinematics([(5, (0, 0, 0), (0, 0, 0))]),
        )
        for k in range(10)
    ]
    path.write_bytes(logs.header() + b"".join(frames))
    simulator = RecorderSimulator(path, RecorderConfig(step_s=0.03))
    xs = [simulator.tick().actors.positions[0, 0] for _ in range(29)]
    assert {*np.round(xs, 3)} == {0.0, 300.0}
    simulator.close()


def test_who_comes_and_goes(tmp_path):
    path = tmp_path / "come.log"
    a, b = (logs.added([(i, 1, "vehicle.tesla.model3", {})]) for i in (5, 6))
    row = {i: (i, (float(i), 0, 0), (0, 0, 0)) for i in (5, 6)}
    gone = logs.records(3, "<I", [(5,)])
    frames = [
        logs.frame(1, 0.0, a, logs.positions([row[5]])),
        logs.frame(2, 0.1, b, logs.positions([row[5], row[6]])),
        logs.frame(3, 0.2, gone, logs.positions([row[6]])),
        logs.frame(4, 0.3, logs.positions([row[6]])),
    ]
    path.write_bytes(logs.header() + b"".join(frames))
    simulator = RecorderSimulator(path, RecorderConfig(step_s=0.05))
    there = [simulator.moment.actors.ids.tolist()]
    there += [simulator.tick().actors.ids.tolist() for _ in range(6)]
    assert there == [[5], [5], [5, 6], [5, 6], [6], [6], [6]]
    simulator.close()


def test_a_genuine_car_s_way_is_the_recorded_one():
    path = find_data("data", "v2x", "carla_recorder", "DistanceToLaneCenter.log")
    if path is None:
        pytest.skip("DistanceToLaneCenter.log is not there: set LEADSIGHT_DATA")
    simulator = RecorderSimulator(path)
    assert simulator.town == "Town01"
    places, speeds = [], []
    with pytest.raises(SimulatorError, match="over after 43"):
        while True:
            moment = simulator.tick()
            if 234 in moment.actors.ids:
                row = moment.actors.row(234)
                places.append(moment.actors.positions[row])
                speeds.append(moment.actors.velocities[row])
    change = (np.array(places)[2:] - np.array(places)[:-2]) / (2 * simulator.step_ns * 1e-9)
    off = np.linalg.norm(change - np.array(speeds)[1:-1], axis=1)
    assert len(places) > 230 and np.median(off) < 0.05 and np.linalg.norm(speeds, axis=1).max() > 5
    simulator.close()


def _turned(angles):
    return rotation(np.column_stack([0 * angles, 0 * angles, angles]))


def test_many_are_brought_on_their_way_at_once():
    """Four go on as recorded, without a recorded speed, are put elsewhere, or come too late."""
    nan = np.nan
    a = State(
        0.0, np.array([1, 2, 3, 5]), np.array([[0, 0, 0], [0, 5, 0], [0, 9, 0], [1, 1, 1.0]]),
        _turned(np.array([0.0, 1.0, 2.0, 3.0])),
        np.array([[10, 0, 0], [nan] * 3, [1, 0, 0], [0, 1, 0]]), np.full((4, 3), nan),
    )  # fmt: skip
    b = State(
        0.5, np.array([1, 2, 3, 4]), np.array([[5, 0, 0], [0, 10, 0], [90, 9, 0], [7, 7, 7.0]]),
        _turned(np.array([0.2, 1.4, 2.0, 0.0])),
        np.array([[20, 0, 0], [nan] * 3, [1, 0, 0], [2, 0, 0]]), np.zeros((4, 3)),
    )  # fmt: skip
    places, turns, velocities, rates = between(a, b, np.array([1, 2, 3, 4, 5]), 0.5)
    assert np.allclose(places, [[2.5, 0, 0], [0, 7.5, 0], [0, 9, 0], [7, 7, 7], [1, 1, 1]])
    yaws = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
    assert np.allclose(yaws, [0.1, 1.2, 2.0, 0.0, 3.0])
    assert np.allclose(velocities, [[15, 0, 0], [0, 10, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]])
    assert np.allclose(rates[:, 2], [0.2, 0.4, 0, 0, 0])  # half of what is missing, half recorded


def test_rotations_and_their_vectors():
    vectors = np.random.default_rng(0).normal(0, 0.8, (50, 3))
    vectors[0] = 0.0
    turns = rotation(vectors)
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(turns @ vectors[..., None], vectors[..., None])
    assert np.allclose(rotation_vector(turns), vectors)
    assert np.allclose(rotation_vector(turns[7]), vectors[7])
