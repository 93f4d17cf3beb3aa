"""The controller that follows: where it looks is where the target is, and it gets there."""

import numpy as np
import pytest

from bridges.flight import Craft
from bridges.follow import FollowConfig, Sight, behind, follow, look_along, true_sight
from bridges.simulator import MAX_RATE, Odometry, pose_of
from bridges.traffic import TrafficConfig
from bridges.traffic_simulator import town_simulator
from pipeline.errors import InputError
from pipeline.objects import ObjectClass


def own(craft):
    return Odometry(craft.pose, craft.rotation.T @ craft.velocity, craft.rates)


@pytest.mark.parametrize("seed", range(5))
def test_the_aim_and_its_rates_are_those_of_the_line_of_sight(seed):
    rng = np.random.default_rng(seed)
    offset, velocity = rng.normal(0, 30, 3), rng.normal(0, 8, 3)
    aim = look_along(offset, velocity)
    ahead = np.array(
        [np.cos(aim.azimuth) * np.cos(aim.elevation), np.sin(aim.azimuth) * np.cos(aim.elevation),
         np.sin(aim.elevation)]
    )  # fmt: skip
    assert np.allclose(ahead, offset / np.linalg.norm(offset))
    h = 1e-6
    later = look_along(offset + h * velocity, velocity)
    turned = np.angle(np.exp(1j * (later.azimuth - aim.azimuth)))
    assert np.isclose(turned / h, aim.azimuth_rate, rtol=1e-3, atol=1e-4)
    assert np.isclose(
        (later.elevation - aim.elevation) / h, aim.elevation_rate, rtol=1e-3, atol=1e-4
    )


def test_right_below_is_no_division_by_zero():
    aim = look_along(np.array([0.0, 0.0, -40.0]), np.array([50.0, 50.0, 0.0]))
    assert np.isclose(aim.elevation, -np.pi / 2) and abs(aim.azimuth_rate) <= MAX_RATE
    look_along(np.zeros(3), np.full(3, 100.0))


@pytest.mark.parametrize("orbit", (0.0, 7.0, -7.0))
def test_a_craft_settles_at_its_distance_and_altitude_from_a_target_that_drives(orbit):
    config = FollowConfig(distance_m=25.0, altitude_m=35.0, orbit_mps=orbit)
    craft = Craft(pose_of(np.array([-60.0, 20.0, 50.0]), 2.0))
    velocity, step_s = np.array([9.0, -3.0, 0.0]), 0.02
    angles, misses = [], []
    for k in range(1000):
        target = velocity * k * step_s
        sight = Sight(target - craft.position, velocity)
        for control in follow(sight, own(craft), config):
            craft.obey(control)
        craft.step(round(step_s * 1e9))
        way = velocity * (k + 1) * step_s - craft.position
        angles.append(np.arctan2(way[1], way[0]))
        misses.append(craft.gimbal_pose[:3, 0] @ way / np.linalg.norm(way))
    across = np.linalg.norm(way[:2])
    assert abs(across - 25) < 3.5 and abs(craft.position[2] - 35) < 0.5
    assert np.degrees(np.arccos(np.min(misses[500:]))) < 1.0
    turned = np.unwrap(angles)[-1] - np.unwrap(angles)[500]
    if orbit:
        assert np.sign(turned) == np.sign(orbit) and abs(turned) > 1.5
        nose = np.angle(np.exp(1j * (craft.yaw - angles[-1])))
        assert abs(nose) < 0.5
    else:
        assert abs(turned) < 0.05


def test_speeds_are_limited():
    config = FollowConfig(speed_mps=10.0, climb_mps=2.0)
    sight = Sight(np.array([500.0, 500.0, -300.0]), np.array([30.0, 0.0, 0.0]))
    craft = Craft(pose_of(np.array([0.0, 0.0, 300.0]), 1.0))
    velocity, _ = follow(sight, own(craft), config)
    assert np.isclose(np.linalg.norm(velocity.linear[:2]), 10) and velocity.linear[2] == -2


def test_true_sights_look_ahead_and_begin_behind():
    simulator = town_simulator(TrafficConfig(blocks=2, vehicles=6, people=0, parked=0), 1)
    try:
        actors = simulator.moment.actors
        car = int(actors.ids[np.argmax(np.linalg.norm(actors.velocities, axis=1))])
        config = FollowConfig(distance_m=20.0, altitude_m=30.0)
        uav = simulator.spawn(ObjectClass.UAV, behind(simulator.moment, car, config))
        now = true_sight(simulator.moment, uav, car)
        row = actors.row(car)
        heading = np.array([np.cos(actors.yaws[row]), np.sin(actors.yaws[row])])
        assert np.allclose(now.offset[:2], 20 * heading) and now.offset[2] < -28
        ahead = true_sight(simulator.moment, uav, car, 0.5)
        assert np.allclose(ahead.offset - now.offset, 0.5 * actors.velocities[row])
        with pytest.raises(InputError, match="12345678"):
            true_sight(simulator.moment, uav, 12345678)
    finally:
        simulator.close()
