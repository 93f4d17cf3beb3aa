"""Lines of sight against a slow reference that walks along each line in small steps."""

from dataclasses import replace

import numpy as np
import pytest

from bridges.actors import Building, Snapshot
from bridges.footprints import rectangle
from bridges.traffic import KinematicTraffic, TrafficConfig
from bridges.visibility import Observer, Visibility, observer_of
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from tests.bridges.test_footprints import inside

CAR, TRUCK, PERSON = (4.5, 1.8, 1.5), (9.0, 2.5, 3.5), (0.5, 0.5, 1.7)


def scene(*actors):
    """Actors (x, y, yaw, size), or (x, y, z, yaw, size) of the middle."""
    full = [a if len(a) == 5 else (a[0], a[1], a[3][2] / 2, a[2], a[3]) for a in actors]
    n = len(full)
    return Snapshot(
        0,
        np.arange(1, n + 1, dtype=np.int32),
        np.full(n, ObjectClass.CAR, np.uint8),
        np.array([a[:3] for a in full]).reshape(n, 3),
        np.zeros((n, 3)),
        np.array([a[3] for a in full]),
        np.array([a[4] for a in full]).reshape(n, 3),
        np.zeros(n, bool),
    )


def house(x0, y0, x1, y1, height=10.0):
    return Building(rectangle(np.array([x0, y0]), np.array([x1, y1])), height)


def eye(x=0.0, y=0.0, z=1.8, **kwargs):
    return Observer(np.array([x, y, z]), kwargs.pop("range_m", 100.0), **kwargs)


def solid(points, row, s):
    c, n = np.cos(s.yaws[row]), np.sin(s.yaws[row])
    rel = points - s.positions[row]
    local = np.stack([c * rel[:, 0] + n * rel[:, 1], c * rel[:, 1] - n * rel[:, 0], rel[:, 2]], 1)
    return (np.abs(local) <= s.sizes[row] / 2).all(axis=1)


def slow_share(observer, s, row, buildings, per_axis, steps):
    """Share of points in a body that a walk from the eye reaches."""
    ticks = [(np.arange(n) + 0.5) / n - 0.5 for n in per_axis]
    grid = np.stack(np.meshgrid(*ticks), axis=-1).reshape(-1, 3) * s.sizes[row]
    c, n = np.cos(s.yaws[row]), np.sin(s.yaws[row])
    world = s.positions[row] + grid @ np.array([[c, n, 0], [-n, c, 0], [0, 0, 1]])
    way = np.linspace(0, 1, steps)[:, None]
    seen = 0
    for point in world:
        walk = observer.position + way * (point - observer.position)
        hidden = any(
            solid(walk, k, s).any()
            for k in range(len(s))
            if k != row and s.ids[k] != observer.own_id
        )
        hidden |= any(
            (inside(b.footprint, walk[:, :2]) & (walk[:, 2] <= b.height)).any() for b in buildings
        )
        seen += not hidden
    return seen / len(world)


def test_shares_agree_with_walking_along_many_lines_in_a_town():
    world = KinematicTraffic(TrafficConfig(blocks=2, vehicles=24, parked=24, people=12), seed=6)
    s = world.snapshot()
    sight = Visibility(world.buildings)
    rng = np.random.default_rng(0)
    errors = []
    for actor in (1, 2, int(s.ids[-1])):
        observer = observer_of(s, actor, 70.0)
        shares = sight.shares(observer, s)
        around = np.linalg.norm(s.positions - observer.position, axis=1) < 60
        rows = np.flatnonzero(around & (s.ids != actor) & (s.classes != ObjectClass.UAV))
        rows = rng.choice(rows, min(len(rows), 12), replace=False)
        near = s.selected(around)
        for row in rows.tolist():
            at = near.row(int(s.ids[row]))
            same = slow_share(observer, near, at, world.buildings, (3, 2, 2), 1200)
            dense = slow_share(observer, near, at, world.buildings, (4, 4, 4), 240)
            errors.append((shares[row] - same, shares[row] - dense))
    exact, dense = np.abs(errors).T
    assert len(errors) > 25
    assert (exact < 1e-9).mean() > 0.9 and exact.max() < 0.1  # a line in twelve grazes at most
    assert dense.max() < 0.3 and dense.mean() < 0.05


def test_houses_of_any_shape_hide_what_the_walk_says():
    corner = Building(
        np.array([[10.0, -8], [22, -8], [22, 8], [18, 8], [18, -4], [10, -4]]), height=6.0
    )
    rng = np.random.default_rng(3)
    actors = [(x, y, 0.0, PERSON) for x, y in rng.uniform((2, -14), (40, 14), (60, 2))]
    s = scene(*actors)
    for z in (1.8, 9.0, 40.0):
        observer = eye(z=z)
        shares = Visibility((corner,)).shares(observer, s)
        slow = [slow_share(observer, s, k, (corner,), (3, 2, 2), 1500) for k in range(0, 60, 3)]
        assert np.abs(shares[::3] - slow).max() < 0.1
        assert np.abs(shares[::3] - slow).mean() < 0.01


def test_a_truck_hides_a_car_and_a_car_hides_only_the_foot_of_a_truck():
    behind_truck = scene((12, 0, 0, TRUCK), (24, 0, 0, CAR))
    behind_car = scene((8, 0, 0, CAR), (24, 0, 0, TRUCK))
    assert Visibility(()).shares(eye(), behind_truck).tolist() == [1.0, 0.0]
    low, half = Visibility(()).shares(eye(), behind_car)
    assert low == 1 and half == 0.5


def test_uav_sees_over_vehicles_but_not_through_houses():
    s = scene((12, 0, 0, TRUCK), (24, 0, 0, CAR), (12, 40, 0, CAR))
    sight = Visibility((house(0, 20, 30, 38, 20.0),))
    assert sight.shares(eye(z=50.0), s).tolist() == [1.0, 1.0, 0.0]
    assert sight.shares(eye(y=60.0, z=50.0), s)[2] == 1
    assert sight.shares(eye(z=1.8), s)[1] == 0


def test_range_field_of_view_and_cone_bound_the_view():
    s = scene((20, 0, 0, CAR), (0, 20, 0, CAR), (-20, 0, 0, CAR), (60, 1, 0, CAR))
    sight = Visibility(())
    assert sight.shares(eye(range_m=50.0), s).tolist() == [1, 1, 1, 0]
    assert sight.shares(eye(yaw=np.pi, fov_deg=90.0), s).tolist() == [0, 0, 1, 0]
    assert sight.shares(eye(yaw=-3.1, fov_deg=90.0), s).tolist() == [0, 0, 1, 0]
    assert sight.shares(eye(z=15.0, cone_deg=60.0), s).tolist() == [1, 1, 1, 0]


def test_own_body_neither_hides_nor_is_seen():
    s = scene((0, 0, 0, TRUCK), (10, 0, 0, CAR))
    assert Visibility(()).shares(eye(own_id=1), s).tolist() == [0, 1]
    assert Visibility(()).shares(eye(), s)[1] == 0
    carried = replace(observer_of(s, 1), range_m=5.0)
    assert carried.position[2] > TRUCK[2] and carried.own_id == 1


def test_ground_is_free_up_to_what_hides_more_of_it():
    sight = Visibility((house(20, -50, 30, 50, 10.0),))
    s = scene((0, 12, 0, TRUCK))
    free = sight.free_space(eye(range_m=60.0), s, sectors=36)
    assert abs(free[0] - 20) < 0.6 and free[18] == 60  # ahead the house, behind nothing
    assert 10.7 < free[9] < 11.2  # the truck's side
    over = sight.free_space(eye(z=50.0, range_m=60.0), scene((12, 0, 0, CAR)), sectors=4)
    assert (over >= 20).all()  # from above a car hides under three meters


def test_free_space_agrees_with_walking_on_the_ground():
    world = KinematicTraffic(TrafficConfig(blocks=2, vehicles=20), seed=2)
    s = world.snapshot()
    observer = observer_of(s, 4, 70.0)
    free = Visibility(world.buildings).free_space(observer, s, sectors=24)
    bodies = [k for k in range(len(s)) if k != 3 and s.classes[k] != ObjectClass.UAV]
    for sector in range(24):
        lines = []
        for angle in (sector + (np.arange(3) + 0.5) / 3) * (2 * np.pi / 24):
            walk = np.arange(0, 70, 0.1)[:, None] * [[np.cos(angle), np.sin(angle)]]
            walk = np.hstack([walk + observer.position[:2], np.full((len(walk), 1), 0.2)])
            met = np.any([solid(walk, k, s) for k in bodies], axis=0)
            met |= np.any([inside(b.footprint, walk[:, :2]) for b in world.buildings], axis=0)
            lines.append(walk_length(met))
        assert abs(free[sector] - min(lines)) < 0.25


def walk_length(met):
    return 70.0 if not met.any() else met.argmax() * 0.1


def test_an_empty_scene_and_bad_observers():
    assert Visibility(()).shares(eye(), scene()).shape == (0,)
    assert (Visibility(()).free_space(eye(), scene(), sectors=3) == 100).all()
    with pytest.raises(InputError, match="sectors"):
        Visibility(()).free_space(eye(), scene(), sectors=0)
    with pytest.raises(InputError, match="finite"):
        eye(x=float("nan"))
    with pytest.raises(InputError, match="range_m"):
        eye(range_m=float("nan"))
