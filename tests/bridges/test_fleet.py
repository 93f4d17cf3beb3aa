"""UAVs of ours: attitude, heading, and senses that agree with how they move."""

import numpy as np
import pytest

from bridges.embedded import EmbeddedSimulator
from bridges.fleet import Fleet
from bridges.flight import GRAVITY, Craft
from bridges.simulator import Aim, Sensor, SensorKind, Velocity, pose_of
from bridges.world import WorldConfig
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

STEP_NS = 40_000_000
START = pose_of(np.array([3.0, -2.0, 40.0]), 0.4)
MOUNT = pose_of(np.array([1.5, -0.5, 0.3]), 0.7, 0.2)


def flown(sensors, ticks=100):
    """Poses of the craft, and what each sensor said, of every tick of a flight with turns."""
    fleet = Fleet()
    number = fleet.spawn(START)
    told = {name: [] for name in sensors}
    poses = []
    for k in range(ticks):
        if k % 25 == 0:
            side = 8.0 * (-1) ** (k // 25)
            fleet.apply(number, Velocity(np.array([6.0, side, 1.0]), 1.2))
            fleet.apply(number, Aim(0.5 - 0.3 * k / 25, -0.4, 0.4, 0.1))
        fleet.step(STEP_NS, k * STEP_NS)
        poses.append(fleet.craft(number).pose)
        for name, options in sensors.items():
            if k % options.get("every", 1) == 0:
                sensor = Sensor(parent=number, name=name, **options)
                told[name].append(fleet.read(sensor))
    return poses, told


@pytest.mark.parametrize("on_gimbal", [False, True])
def test_a_sensor_on_an_arm_moves_as_its_odometry_says(on_gimbal):
    options = dict(kind=SensorKind.ODOMETRY, mount=MOUNT, on_gimbal=on_gimbal)
    _, told = flown({"swung": options})
    said = [o.pose[:3, :3] @ o.velocity for o in told["swung"]]
    at = np.array([o.pose[:3, 3] for o in told["swung"]])
    change = (at[2:] - at[:-2]) / (2 * STEP_NS * 1e-9)
    away = np.linalg.norm(np.array(said[1:-1]) - change, axis=1)
    assert np.median(away) < 0.05 and np.quantile(away, 0.9) < 0.2


def test_an_imu_turns_and_pushes_as_the_craft_moves():
    poses, told = flown({"imu": dict(kind=SensorKind.IMU, mount=MOUNT)})
    turn, velocity, place = START[:3, :3] @ MOUNT[:3, :3], np.zeros(3), START[:3, 3].copy()
    for felt in told["imu"]:
        dt = STEP_NS * 1e-9 / len(felt.stamps_ns)
        for rate, force in zip(felt.rates, felt.accelerations, strict=True):
            turn = turn @ _turned(rate * dt)
            velocity = velocity + (turn @ force - (0, 0, GRAVITY)) * dt
            place = place + velocity * dt
    assert np.allclose(turn, poses[-1][:3, :3] @ MOUNT[:3, :3], atol=1e-6)
    assert np.linalg.norm(place - poses[-1][:3, 3]) < 0.1


def test_an_imu_gives_as_many_samples_as_are_wished_and_leaves_no_tick_out():
    sensors = {
        "all": dict(kind=SensorKind.IMU),
        "slow": dict(kind=SensorKind.IMU, rate_hz=75.0),
        "seldom": dict(kind=SensorKind.IMU, every=5),
    }
    _, told = flown(sensors, 21)
    assert {len(v.stamps_ns) for v in told["all"]} == {8}
    assert {len(v.stamps_ns) for v in told["slow"]} == {3}
    assert [len(v.stamps_ns) for v in told["seldom"]] == [8, 40, 40, 40, 40]
    rates = {name: np.concatenate([v.rates for v in values]) for name, values in told.items()}
    stamps = {n: np.concatenate([v.stamps_ns for v in values]) for n, values in told.items()}
    assert (rates["all"] == rates["seldom"]).all()
    assert (stamps["all"] == stamps["seldom"]).all()
    assert (np.diff(stamps["slow"]) > 0).all()
    # A mean over each sample's own time: 2, 3 and 3 of 8 make as much turn as the 8.
    parts = np.array([np.average(v.rates, axis=0, weights=[2, 3, 3]) for v in told["slow"]])
    whole = np.array([v.rates.mean(axis=0) for v in told["all"]])
    assert np.allclose(parts, whole)


def test_the_nose_lies_over_the_heading_in_every_attitude():
    craft = Craft(START)
    tilts = []
    for k in range(200):
        craft.obey(Velocity(np.array([12.0, -12.0, 0.0]) * (-1) ** (k // 40), 1.0))
        craft.step(STEP_NS)
        nose = craft.rotation[:, 0]
        assert np.isclose(np.exp(1j * np.arctan2(nose[1], nose[0])), np.exp(1j * craft.yaw))
        assert np.allclose(craft.rotation @ craft.rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(craft.rotation) > 0
        tilts.append(craft.rotation[2, 2])
    assert min(tilts) < 0.9  # it did bank


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 1.5), (2.0, np.pi / 2), (-1.0, -0.7)])
def test_who_is_put_somewhere_turns_from_there_without_a_jump(yaw, pitch):
    craft = Craft(pose_of(np.zeros(3), yaw, pitch))
    craft.step(5_000_000)
    assert np.linalg.norm(craft.rates) < 20  # rad/s, of its own way back to level


def test_who_has_no_role_gets_one_that_nobody_has():
    fleet = Fleet()
    fleet.spawn(START, "uav2")
    fleet.spawn(START, "uav3")
    fleet.spawn(START)
    fleet.spawn(START)
    with pytest.raises(InputError, match="uav2"):
        fleet.spawn(START, "uav2")


def test_a_sensor_that_is_refused_leaves_the_one_of_its_name_as_it_was():
    world = EmbeddedSimulator(WorldConfig(width=320, height=240))
    uav = world.spawn(ObjectClass.UAV, START)
    seen = []
    world.listen(
        Sensor(SensorKind.CAMERA, "eye", uav, width=96, height=64),
        lambda r: seen.append(r.value.image.shape),
    )
    with pytest.raises(InputError, match="eye"):
        world.listen(Sensor(SensorKind.CAMERA, "eye", uav, width=128, height=96), seen.append)
    world.tick()
    assert seen == [(64, 96, 3)]


def _turned(vector):
    x, y, z = vector
    angle = max(float(np.linalg.norm(vector)), 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) / angle
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
