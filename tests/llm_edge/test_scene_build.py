"""World objects, a pose and a path as a scene of the moment of use."""

import numpy as np
import pytest

from llm_edge.order import Order
from llm_edge.scene import MAX_OBJECTS, Mission, Platform, TargetState
from llm_edge.scene_build import OWN_IDS, Reach, Surroundings, build, scene_ids
from pipeline.errors import InputError
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

T = 1_700_000_000_000_000_000
MS = 1_000_000
CAR = Platform(limit_mps=15.0, size_m=(4.5, 1.8))
NORTH = np.array([[100.0, 0.0], [100.0, 300.0]])


def things(places, velocities=None, **given):
    """Cars seen at T."""
    n = len(places)
    positions = np.zeros((n, 3))
    positions[:, :2] = np.array(places, float).reshape(n, 2)
    speeds = np.zeros((n, 3))
    if velocities is not None:
        speeds[:, :2] = velocities
    values = {
        "ids": np.arange(n, dtype=np.int32), "stations": np.zeros(n, np.uint32),
        "positions": positions, "velocities": speeds, "yaws": np.full(n, np.nan),
        "sizes": np.zeros((n, 3)),
        "covariances": np.tile(np.diag([0.04] * 3 + [0.25] * 3), (n, 1, 1)),
        "classes": np.full(n, ObjectClass.CAR, np.uint8), "quality": np.full(n, 0.9),
        "measured_ns": np.full(n, T - 70 * MS), **given,
    }  # fmt: skip
    return Objects(T, T, **values)


def pose(x=100.0, y=20.0, yaw=np.pi / 2, speed=10.0, stamp_ns=T - 30 * MS):
    velocity = speed * np.array([np.cos(yaw), np.sin(yaw), 0.0])
    return Pose(stamp_ns, np.array([x, y, 0.0]), yaw, velocity)


def made(objects, order=None, at_ns=T + 100 * MS, path=NORTH, **given):
    return build(objects, pose(), path, order or Order(), CAR, at_ns, **given)


def test_everybody_goes_on_to_the_moment_of_use():
    scene = made(things([(100, 60), (90, 60)], [(0, 6), (3, 0)])).scene
    ego_y = 20 + 10 * 0.13
    np.testing.assert_allclose(scene.positions, [[60.6 - ego_y, 0], [60 - ego_y, 9.7]], atol=1e-9)
    np.testing.assert_allclose(scene.velocities, [[6, 0], [0, -3]], atol=1e-9)
    assert scene.speed_mps == pytest.approx(10) and scene.at_ns == T + 100 * MS
    assert scene.seen_ns == T - 70 * MS


def test_uncertainty_grows_with_the_time_ahead_and_more_for_who_moves():
    objects = things([(100, 60), (90, 60)], [(0, 6), (0, 0)])
    now, later = (made(objects, at_ns=T + ms * MS).scene.sigmas for ms in (0, 500))
    assert now == pytest.approx(0.2)
    assert later[1] == pytest.approx(np.hypot(0.2, 0.25))
    assert later[0] > later[1]


def test_sizes_are_extents_along_and_across_the_way():
    yaws = np.array([np.pi / 2, 0.0, np.nan, np.nan])
    sizes = np.tile([4.0, 2.0, 1.5], (4, 1))
    sizes[3] = 0
    objects = things(
        [(100, 60), (90, 60), (80, 60), (70, 60)], [(0, 0), (0, 0), (5, 0), (0, 0)],
        yaws=yaws, sizes=sizes,
        classes=np.array([4, 4, 4, 1], np.uint8),
    )  # fmt: skip
    found = made(objects).scene.sizes
    np.testing.assert_allclose(found, [[4, 2], [2, 4], [2, 4], [0.6, 0.6]], atol=1e-9)


def test_what_only_others_tell_is_marked_and_keeps_its_identity():
    objects = things(
        [(100, 60), (95, 70), (90, 80)],
        stations=np.array([0, 9, 7], np.uint32), ids=np.array([5, 5, -3], np.int32),
    )  # fmt: skip
    one = made(objects)
    assert one.scene.told.tolist() == [False, True, True]
    assert one.scene.ids[0] == 5 and (one.scene.ids[1:] >= OWN_IDS).all()
    assert [one.named(i) for i in one.scene.ids.tolist()] == [(0, 5), (9, 5), (7, -3)]
    assert one.named(None) is None and one.named(12345) is None
    two = made(objects.selected(np.array([2, 0])))
    assert two.scene.ids.tolist() == one.scene.ids[[2, 0]].tolist()


def test_identities_never_meet():
    rng = np.random.default_rng(5)
    stations = rng.integers(0, 2**32, 3000).astype(np.uint32)
    ids = rng.integers(-(2**31), 2**31, 3000).astype(np.int32)
    found = scene_ids(stations, ids)
    assert len(np.unique(found)) == 3000 and found.min() >= 0


FOLLOW = Order(Mission.FOLLOW, 8.0, (0, 1))


def test_the_target_is_known_by_who_sees_it():
    seen = things([(100, 60), (100, 45)])
    scene = made(seen, FOLLOW).scene
    assert (scene.target, scene.target_state) == (1, TargetState.TRACKED)
    told = things([(100, 60), (100, 45)], stations=np.array([0, 4], np.uint32))
    found = made(told, Order(Mission.FOLLOW, 8.0, (4, 1)))
    assert found.scene.target_state is TargetState.UNCERTAIN
    assert found.named(found.scene.target) == (4, 1)
    given = Surroundings(target_state=TargetState.UNCERTAIN)
    assert made(seen, FOLLOW, around=given).scene.target_state is TargetState.UNCERTAIN


@pytest.mark.parametrize(("x", "side"), [(80.0, 1), (120.0, -1), (101.0, 0)])
def test_a_lost_target_is_to_the_side_where_it_was_seen_last(x, side):
    scene = made(
        things([(100, 60)]), FOLLOW, around=Surroundings(last_seen=np.array([x, 50.0]))
    ).scene
    assert (scene.target, scene.target_state, scene.target_side) == (-1, TargetState.LOST, side)


def test_what_cannot_matter_is_left_out_but_never_the_target():
    far = things(
        [(100, 60), (100, 400), (100, 50), (100, 55), (100, 21.0)],
        quality=np.array([0.9, 0.9, 0.1, 0.9, 0.9]),
        stations=np.array([0, 0, 0, 0, 3], np.uint32),
    )  # fmt: skip
    far.positions[3, 2] = 40.0  # it flies high above; and the last one is what others see of us
    assert made(far).scene.ids.tolist() == [0]
    assert made(far, FOLLOW).scene.ids.tolist() == [0, 1]
    assert made(far, reach=Reach(clearance_m=50.0)).scene.ids.tolist() == [0, 3]


def test_of_a_crowd_the_nearest_stay():
    rng = np.random.default_rng(1)
    crowd = things(rng.uniform(-90, 90, (4000, 2)) + [100, 20])
    scene = made(crowd, Order(Mission.FOLLOW, 8.0, (0, 3999))).scene
    assert len(scene) == MAX_OBJECTS and scene.target == 3999
    others = scene.positions[scene.ids != 3999]
    assert np.abs(others).max() < 35


def test_an_object_that_stands_there_twice_is_one():
    twice = things([(100, 60), (100, 61)], ids=np.array([3, 3], np.int32))
    assert made(twice).scene.ids.tolist() == [3]


def test_without_objects_there_is_still_a_scene():
    scene = made(Objects.none(T)).scene
    assert len(scene) == 0 and scene.seen_ns == T - 30 * MS


def test_clocks_that_disagree_are_told():
    with pytest.raises(InputError, match=r"objects of 20\.0 s before"):
        build(things([]), pose(stamp_ns=T + 20_000 * MS), None, Order(), CAR, T + 20_000 * MS)
    with pytest.raises(InputError, match="pose of"):
        build(things([]), pose(stamp_ns=0), None, Order(), CAR, T)
