"""The kinematic town: repeatable, nobody jumps or crashes, and a plan is what happens."""

from dataclasses import fields

import numpy as np
import pytest

from bridges.actors import Building
from bridges.footprints import overlaps
from bridges.traffic import KinematicTraffic, TrafficConfig
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

CONFIG = TrafficConfig(vehicles=40, people=24, cyclists=9, parked=37, uavs=2, blocks=3)


@pytest.fixture(scope="module")
def history():
    world = KinematicTraffic(CONFIG, seed=4)
    return [world.snapshot()] + [world.step() for _ in range(500)]


def moving(history):
    """(T, N, 3) positions and velocities."""
    return np.array([s.positions for s in history]), np.array([s.velocities for s in history])


def test_same_seed_gives_the_same_history_whatever_was_planned(history):
    again = KinematicTraffic(CONFIG, seed=4)
    again.plan(3, 7.3)
    for old in history[:120]:
        new = again.snapshot()
        for field in fields(new):
            assert np.array_equal(getattr(new, field.name), getattr(old, field.name))
        again.step()
    other = KinematicTraffic(CONFIG, seed=5).snapshot()
    assert not np.array_equal(other.positions, history[0].positions)


def test_stamps_are_whole_steps_from_zero_and_ids_stay(history):
    assert [s.stamp_ns for s in history[:3]] == [0, 100_000_000, 200_000_000]
    assert all(np.array_equal(s.ids, history[0].ids) for s in history)
    assert (np.diff(history[0].ids) > 0).all() and history[0].ids[0] > 0


def test_nobody_jumps_and_velocities_are_those_of_the_positions(history):
    points, velocities = moving(history)
    steps = np.diff(points, axis=0) / 0.1
    mean = (velocities[1:] + velocities[:-1]) / 2
    error = np.linalg.norm(steps - mean, axis=2)
    walkers = history[0].classes == ObjectClass.PERSON  # turn at corners on the spot
    assert error[:, ~walkers].max() < 0.35
    assert np.linalg.norm(steps, axis=2)[:, walkers].max() < 1.8
    assert np.quantile(error[:, walkers], 0.95) < 0.05


def test_bodies_never_overlap(history):
    for s in history[::3]:
        on_ground = np.flatnonzero(s.classes != ObjectClass.UAV)
        drives = on_ground[np.isin(s.classes[on_ground], (4, 5, 6))]
        for i in drives.tolist():
            near = np.linalg.norm(s.positions[on_ground, :2] - s.positions[i, :2], axis=1) < 14
            rows = on_ground[near]
            rows = rows[rows != i]
            hit = overlaps(
                s.positions[i, :2], s.yaws[i], s.sizes[i],
                s.positions[rows], s.yaws[rows], s.sizes[rows],
            )  # fmt: skip
            assert not hit.any(), (s.stamp_ns, s.ids[i], s.ids[rows[hit]])


def test_traffic_flows_stops_turns_and_people_cross(history):
    _, velocities = moving(history)
    speed = np.linalg.norm(velocities[:, :40], axis=2)
    assert 4 < speed.mean() < 12
    assert (speed.min(axis=0) < 1).mean() > 0.2 and (speed.max(axis=0) > 8).mean() > 0.8
    yaws = np.array([s.yaws[:40] for s in history])
    assert (np.ptp(np.unwrap(yaws, axis=0), axis=0) > 1.5).mean() > 0.5
    people = np.flatnonzero(history[0].classes == ObjectClass.PERSON)
    across = np.array([s.positions[people, :2] for s in history]) % CONFIG.pitch_m
    on_road = (np.abs((across + 45) % 90 - 45) < 3).any(axis=2).any(axis=0)
    assert on_road.sum() >= 4


def test_plan_is_exactly_what_happens():
    world = KinematicTraffic(CONFIG, seed=9)
    for _ in range(7):
        world.step()
    times, points = world.plan(11, 4.0)
    assert np.allclose(times, np.arange(41) * 0.1)
    row = world.snapshot().row(11)
    assert np.array_equal(points[0], world.snapshot().positions[row, :2])
    for k in range(1, 41):
        assert np.array_equal(world.step().positions[row, :2], points[k])
    assert np.linalg.norm(points[-1] - points[0]) > 2


def test_share_of_equipped_vehicles_and_every_uav(history):
    s = history[0]
    drives, flies = slice(0, 40), s.classes == ObjectClass.UAV
    assert s.equipped[drives].sum() == round(0.3 * 40)
    assert s.equipped[flies].all() and flies.sum() == 2
    assert s.equipped.sum() == round(0.3 * 40) + 2
    assert ((s.positions[flies, 2] >= 40) & (s.positions[flies, 2] <= 60)).all()


def test_houses_stand_off_every_road(history):
    world = KinematicTraffic(CONFIG, seed=4)
    assert len(world.buildings) > 15
    on_ground = history[0].classes != ObjectClass.UAV
    points = np.concatenate([s.positions[on_ground, :2] for s in history[::20]])
    for house in world.buildings:
        low, high = house.footprint.min(axis=0), house.footprint.max(axis=0)
        assert not ((points > low) & (points < high)).all(axis=1).any()


def test_bad_input_says_what_to_give():
    world = KinematicTraffic(CONFIG, seed=4)
    with pytest.raises(InputError, match="actor 999"):
        world.plan(999, 1.0)
    for horizon in (float("nan"), -1, 21):
        with pytest.raises(InputError, match="0 to 20"):
            world.plan(1, horizon)
    with pytest.raises(InputError, match="do not fit"):
        KinematicTraffic(TrafficConfig(vehicles=300, blocks=2))
    with pytest.raises(InputError, match="places"):
        KinematicTraffic(TrafficConfig(parked=400, blocks=2))
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    for footprint, height in (
        (square[::-1], 3), (square[:2], 3), (square * np.nan, 3), (square, 0), (square * 0, 3),
    ):  # fmt: skip
        with pytest.raises(InputError, match="Building"):
            Building(footprint, height)


def test_a_town_without_anybody_but_one_vehicle_runs():
    world = KinematicTraffic(
        TrafficConfig(vehicles=1, cyclists=0, people=0, parked=0, uavs=0, equipped=0.0), seed=1
    )
    assert len([world.step() for _ in range(50)][-1]) == 1
