"""One contract, every simulator: what the port promises is held on each of them."""

import os
import threading
import time

import numpy as np
import pytest

from bridges import simulator as port
from bridges.fleet import FIRST_ID
from bridges.loop import LoopConfig, SimulationLoop
from bridges.simulator import (
    Abilities,
    Aim,
    Drive,
    Place,
    Sensor,
    SensorKind,
    SimulatorError,
    Velocity,
    Walk,
    pose_of,
)
from bridges.view import project
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from tests.bridges.simulators import CASES, carrier, running

EXAMPLES = {
    Velocity: Velocity(np.array([2.0, 0.0, 0.0])),
    Aim: Aim(0.3, -0.6),
    Drive: Drive(throttle=0.5),
    Walk: Walk(np.array([1.0, 0.0, 0.0])),
    Place: Place(pose_of(np.array([3.0, 4.0, 45.0]), 0.5)),
}
VALUES = {
    SensorKind.CAMERA: port.Frame,
    SensorKind.DEPTH: port.Depth,
    SensorKind.BOXES: port.SeenBoxes,
    SensorKind.LIDAR: port.Points,
    SensorKind.IMU: port.Inertial,
    SensorKind.GNSS: port.Fix,
    SensorKind.ODOMETRY: port.Odometry,
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def simulator(case):
    with running(case) as made:
        yield made


def small(kind, parent, name="", **options):
    options = {"width": 160, "height": 120, **options}
    return Sensor(kind, name or f"a_{kind}", parent, **options)


def look_down(kind, parent, **options):
    return small(kind, parent, mount=pose_of(np.zeros(3), 0.0, 0.9), **options)


def told(simulator, ticks):
    """That many ticks; what sensors say of them has arrived afterward."""
    moments = [simulator.tick() for _ in range(ticks)]
    live = simulator.name == "CARLA" and os.environ.get("CARLA_HOST")
    time.sleep(2.0 if live else 0.3 if simulator.name == "CARLA" else 0.05)
    return moments


def test_it_says_what_it_can_do(simulator):
    assert isinstance(simulator.abilities, Abilities)
    assert simulator.name and simulator.step_ns > 0


def test_every_tick_is_one_frame_and_one_step_later(simulator):
    first = simulator.moment
    moments = [simulator.tick() for _ in range(5)]
    frames = [m.frame for m in moments]
    assert frames == list(range(frames[0], frames[0] + 5)) and frames[0] > first.frame
    steps = np.diff([m.stamp_ns for m in moments])
    assert np.abs(steps - simulator.step_ns).max() <= simulator.step_ns / 2
    assert simulator.moment is moments[-1]


def test_a_moment_is_well_formed(case, simulator):
    carrier(case, simulator)
    for moment in told(simulator, 3):
        actors = moment.actors
        n = len(actors)
        assert n and (np.diff(actors.ids) > 0).all() and (actors.ids > 0).all()
        assert moment.poses.shape == (n, 4, 4) and moment.rates.shape == (n, 3)
        assert np.isfinite(moment.poses).all() and np.isfinite(actors.velocities).all()
        assert (actors.sizes > 0).all()
        turns = moment.poses[:, :3, :3]
        assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-6)
        assert np.allclose(moment.poses[:, :3, 3], actors.positions)
        ahead = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
        assert np.allclose(np.exp(1j * ahead), np.exp(1j * actors.yaws), atol=1e-6)


def test_velocities_are_how_positions_change(simulator):
    history = [simulator.tick() for _ in range(21)]
    seconds = simulator.step_ns * 1e-9
    errors = []
    for before, now, after in zip(history, history[1:], history[2:], strict=False):
        both = np.intersect1d(np.intersect1d(before.actors.ids, now.actors.ids), after.actors.ids)
        rows = [np.isin(m.actors.ids, both) for m in (before, now, after)]
        change = after.actors.positions[rows[2]] - before.actors.positions[rows[0]]
        errors.append(change / (2 * seconds) - now.actors.velocities[rows[1]])
    away = np.linalg.norm(np.concatenate(errors), axis=1)
    # What turns at a corner within one step, or jumps to another lane, is not held to it.
    assert np.median(away) < 0.3 and np.mean(away < 1.0) > 0.8


@pytest.mark.parametrize("kind", VALUES)
def test_a_sensor_speaks_of_every_tick_or_is_refused(case, simulator, kind):
    parent = carrier(case, simulator)
    readings = []
    if kind not in simulator.abilities.sensors:
        with pytest.raises(InputError, match="has no"):
            simulator.listen(small(kind, parent), readings.append)
        return
    simulator.tick()
    simulator.listen(small(kind, parent, "mine"), readings.append)
    moments = told(simulator, 3)
    assert [(r.frame, r.stamp_ns) for r in readings] == [(m.frame, m.stamp_ns) for m in moments]
    assert all(r.sensor == "mine" and isinstance(r.value, VALUES[kind]) for r in readings)


def test_every_third_tick(case, simulator):
    parent = carrier(case, simulator)
    readings = []
    simulator.tick()
    simulator.listen(small(SensorKind.ODOMETRY, parent, every=3), readings.append)
    moments = told(simulator, 7)
    assert [r.frame for r in readings] == [moments[k].frame for k in (0, 3, 6)]


def test_a_name_is_one_sensor_s_and_its_carrier_must_be_there(case, simulator):
    parent = carrier(case, simulator)
    simulator.tick()
    simulator.listen(small(SensorKind.ODOMETRY, parent, "mine"), lambda r: None)
    with pytest.raises(InputError, match="mine"):
        simulator.listen(small(SensorKind.ODOMETRY, parent, "mine"), lambda r: None)
    with pytest.raises(InputError, match="12345678"):
        simulator.listen(small(SensorKind.ODOMETRY, 12345678, "other"), lambda r: None)


def test_odometry_is_where_its_carrier_is(case, simulator):
    parent = carrier(case, simulator)
    simulator.tick()
    readings = []
    simulator.listen(small(SensorKind.ODOMETRY, parent), readings.append)
    moment = told(simulator, 4)[-1]
    found = readings[-1].value
    assert np.allclose(found.pose, moment.pose(parent), atol=1e-6)
    row = moment.actors.row(parent)
    velocity = found.pose[:3, :3] @ found.velocity
    assert np.allclose(velocity, moment.actors.velocities[row], atol=1e-6)


def test_pictures_have_their_size_and_encoding(case, simulator):
    if SensorKind.CAMERA not in simulator.abilities.sensors:
        pytest.skip("it has no camera")
    parent = carrier(case, simulator)
    simulator.tick()
    seen = {}
    for encoding in ("rgb8", "bayer_rggb12"):
        sensor = look_down(SensorKind.CAMERA, parent, name=encoding, encoding=encoding)
        simulator.listen(sensor, lambda r: seen.__setitem__(r.sensor, r.value))
    told(simulator, 2)
    assert seen["rgb8"].image.shape == (120, 160, 3) and seen["rgb8"].image.dtype == np.uint8
    assert seen["rgb8"].image.std() > 3
    raw = seen["bayer_rggb12"]
    assert raw.image.shape == (120, 160) and raw.image.dtype == np.uint16
    assert raw.encoding == "bayer_rggb12" and 64 < raw.image.mean() < 4095


def test_boxes_are_round_those_who_are_there(case, simulator):
    if SensorKind.BOXES not in simulator.abilities.sensors:
        pytest.skip("it knows no boxes")
    parent = carrier(case, simulator)
    simulator.tick()
    seen, poses = [], []
    down = look_down(SensorKind.BOXES, parent, fov_deg=90.0)
    simulator.listen(down, lambda r: seen.append(r.value))
    odometry = look_down(SensorKind.ODOMETRY, parent)
    simulator.listen(odometry, lambda r: poses.append(r.value.pose))
    moments = told(simulator, 3)
    found = 0
    for moment, boxes, pose in zip(moments, seen, poses, strict=True):
        for actor, box, share in zip(boxes.ids, boxes.boxes, boxes.visibility, strict=True):
            assert actor != parent and 0 <= box[0] <= 160 and box[1] + box[3] <= 120 + 1e-6
            middle, depth = project(moment.pose(int(actor))[:3, 3], pose, down)
            if not share < 0.9 and depth > 5:
                assert (box[:2] - 2 < middle).all() and (middle < box[:2] + box[2:] + 2).all()
                found += 1
    assert found or not sum(len(b.ids) for b in seen)


def test_depth_is_the_distance_of_the_ground(case, simulator):
    if SensorKind.DEPTH not in simulator.abilities.sensors:
        pytest.skip("it knows no depth")
    parent = carrier(case, simulator)
    simulator.tick()
    seen = []
    sensor = small(SensorKind.DEPTH, parent, mount=pose_of(np.zeros(3), 0.0, np.pi / 2))
    simulator.listen(sensor, lambda r: seen.append(r.value.meters))
    moment = told(simulator, 2)[-1]
    height = moment.pose(parent)[2, 3]
    assert seen[-1].shape == (120, 160) and seen[-1].dtype == np.float32
    assert abs(np.nanmax(seen[-1][np.isfinite(seen[-1])]) - height) < 1.5


def test_who_cannot_be_spawned_is_refused(case, simulator):
    for kind in ObjectClass:
        if kind not in simulator.abilities.spawns:
            with pytest.raises(InputError, match="spawn"):
                simulator.spawn(kind, pose_of(np.array(case.spawn_at)))


def test_who_is_spawned_is_there_under_its_id_and_a_role_is_one_actor_s(case, simulator):
    if ObjectClass.UAV not in simulator.abilities.spawns:
        pytest.skip("it spawns no UAV")
    number = carrier(case, simulator)
    moment = simulator.tick()
    row = moment.actors.row(number)
    assert moment.actors.classes[row] == ObjectClass.UAV
    assert np.linalg.norm(moment.actors.positions[row] - case.spawn_at) < 1.0
    with pytest.raises(InputError, match="carrier"):
        simulator.spawn(ObjectClass.UAV, pose_of(np.array(case.spawn_at) + 5), "carrier")


@pytest.mark.parametrize("control", EXAMPLES)
def test_controls_are_obeyed_or_refused(case, simulator, control):
    given = EXAMPLES[control]
    actor = carrier(case, simulator)
    simulator.tick()
    if control not in simulator.abilities.controls:
        with pytest.raises(InputError, match="obeys"):
            simulator.apply(actor, given)
        return
    with pytest.raises(InputError, match="12345678"):
        simulator.apply(12345678, given)
    if control in (Drive, Walk):
        return  # of vehicles and walkers, whose simulators have tests of their own
    simulator.apply(actor, given)
    seconds = 3.0 if control is Velocity else 0.0
    before = simulator.moment.pose(actor)
    for _ in range(max(1, round(seconds * 1e9 / simulator.step_ns))):
        simulator.tick()
    after = simulator.moment.pose(actor)
    if control is Place:
        assert np.linalg.norm(after[:3, 3] - (3, 4, 45)) < 0.5
    elif control is Velocity:
        ahead = before[:3, :3].T @ (after[:3, 3] - before[:3, 3])
        assert 2.0 < ahead[0] < 7.0 and abs(ahead[1]) < 1.0


def test_a_gimbal_looks_where_it_is_told(case, simulator):
    if Aim not in simulator.abilities.controls:
        pytest.skip("it has no gimbal")
    actor = carrier(case, simulator)
    simulator.tick()
    poses = []
    sensor = small(SensorKind.ODOMETRY, actor, on_gimbal=True)
    simulator.listen(sensor, lambda r: poses.append(r.value.pose))
    simulator.apply(actor, Aim(1.2, -0.7))
    for _ in range(round(1.5e9 / simulator.step_ns)):
        simulator.tick()
    ahead = poses[-1][:3, 0]
    wished = np.array([np.cos(1.2) * np.cos(0.7), np.sin(1.2) * np.cos(0.7), -np.sin(0.7)])
    assert ahead @ wished > 0.999


def test_the_same_seed_is_the_same_history(case):
    if not case.repeats:
        pytest.skip("its history is another one each time")
    histories = []
    for _ in range(2):
        with running(case, 5) as simulator:
            histories.append([simulator.tick() for _ in range(5)])
    for a, b in zip(*histories, strict=True):
        assert (a.actors.ids == b.actors.ids).all() and (a.poses == b.poses).all()


def test_it_ends_soon_whenever_and_as_often_as_it_is_told(case):
    simulator = case.make(0)
    carrier(case, simulator)
    simulator.tick()
    begin = time.monotonic()
    simulator.close()
    simulator.close()
    assert time.monotonic() - begin < 5
    with pytest.raises(SimulatorError):
        simulator.tick()


def test_no_thread_of_it_outlives_it(case):
    before = set(threading.enumerate())
    with running(case) as simulator:
        simulator.tick()
    left = [t for t in set(threading.enumerate()) - before if not t.daemon]
    assert not left


def test_a_loop_over_it_keeps_count_and_pace(case):
    simulator = case.make(0)
    parent = carrier(case, simulator)
    simulator.tick()
    sensors = [small(SensorKind.ODOMETRY, parent)]
    with SimulationLoop(simulator, sensors, LoopConfig(real_time_factor=0.0)) as loop:
        steps = [loop.step() for _ in range(5)]
        assert all(s.readings.keys() == {"a_odometry"} and not s.missing for s in steps)
        assert loop.counts["ticks"] == 5 and loop.counts["missing"] == 0
        assert loop.real_time_factor > 0
    with pytest.raises(SimulatorError):
        simulator.tick()


def test_ids_of_own_actors_stay_below_those_of_crafts(simulator):
    assert (simulator.moment.actors.ids < FIRST_ID).all()
