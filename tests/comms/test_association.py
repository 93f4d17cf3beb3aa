"""Which objects are the same: as their errors allow, and never a truck and a child."""

import numpy as np
import pytest

from comms.association import (
    FARTHEST_M,
    GATE,
    alike,
    match,
    mutual,
    near,
    overlapping,
    pairs,
    reach,
)
from pipeline.objects import ObjectClass, Objects
from tests.comms.made import NOW, covariances
from tests.comms.scenes import things

CAR, PERSON, UNKNOWN = ObjectClass.CAR, ObjectClass.PERSON, ObjectClass.UNKNOWN


def same(ours, theirs):
    return match(ours, theirs, near(ours, theirs, FARTHEST_M))


def inside(ours, theirs):
    return overlapping(ours, theirs, near(ours, theirs, reach(ours, theirs)))


def matched(ours, theirs, how=same):
    return {(int(i), int(j)) for i, j in zip(*how(ours, theirs), strict=True)}


def test_shuffled_noisy_copies_are_found_again():
    rng = np.random.default_rng(1)
    at = rng.permutation(30)[:, None] * [12.0, 0] + rng.uniform(0, 3, (30, 2))
    order = rng.permutation(30)
    ours, theirs = (things(p + rng.normal(0, 0.2, (30, 2)), (5.0, 1.0)) for p in (at, at[order]))
    assert matched(ours, theirs) == {(int(order[j]), j) for j in range(30)}


def test_of_two_ways_to_pair_the_one_with_most_pairs_is_taken():
    """The middle one is nearest to both; greedily, one of ours would stay alone."""
    ours, theirs = things([(0, 0), (1, 0)]), things([(0.9, 0), (2.0, 0)])
    assert matched(ours, theirs) == {(0, 0), (1, 1)}


@pytest.mark.parametrize(("apart", "same"), [(0.5, True), (1.1, True), (1.2, False)])
def test_the_gate_goes_by_both_errors(apart, same):
    """Sigma of 0.2 m each: 4 σ are 1.13 m."""
    assert bool(matched(things([(0, 0)]), things([(apart, 0)]))) is same
    assert matched(things([(0, 0)], sigma_m=1.0), things([(apart, 0)])) == {(0, 0)}


def test_however_unsure_nothing_is_the_same_from_eight_meters_on():
    vague = things([(0, 0)], sigma_m=100.0)
    assert matched(vague, things([(7.9, 0)])) == {(0, 0)}
    assert matched(vague, things([(8.1, 0)])) == set()


def test_one_that_drives_the_other_way_is_another_one():
    ours = things([(0, 0)], (10.0, 0.0))
    assert matched(ours, things([(0.2, 0)], (9.5, 0.0))) == {(0, 0)}
    assert matched(ours, things([(0.2, 0)], (-10.0, 0.0))) == set()


def test_what_flies_above_is_another_one():
    assert (
        matched(things([(0, 0, 0)], kind=UNKNOWN), things([(0, 0, 30)], kind=ObjectClass.UAV))
        == set()
    )


def test_a_person_is_no_car_but_the_unknown_may_be_either():
    classes = np.array([CAR, PERSON, UNKNOWN], np.uint8)
    table = alike(classes[:, None], classes)
    assert table.tolist() == [[True, False, True], [False, True, True], [True] * 3]


def test_mutual_takes_each_others_nearest_within_each_group_alone():
    ours = things([(0, 0), (1, 0)], sigma_m=0.5)
    theirs = things([(0.1, 0), (0.2, 0), (0.1, 0)], sigma_m=0.5)
    i, j = mutual(ours, theirs, np.array([0, 0, 1]))
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 0), (0, 2)]


def test_nothing_matches_nothing():
    none, some = Objects.none(NOW), things([(0, 0)])
    for a, b in ((none, some), (some, none), (none, none)):
        assert matched(a, b) == set()
        assert len(pairs(a, b)[0]) == 0
        assert inside(a, b).tolist() == [False] * len(b)
        assert len(mutual(a, b, np.zeros(len(b), np.intp))[0]) == 0


@pytest.mark.parametrize("seed", range(10))
def test_leaving_out_what_is_far_changes_no_pair(seed):
    rng = np.random.default_rng(seed)
    lists = []
    for count in rng.integers(1, 60, 2):
        part = things(rng.uniform(-30, 30, (count, 2)), rng.normal(0, 1, (count, 2)))
        scale = rng.uniform(0.1, 3, count)[:, None, None]
        lists.append(part.derived(covariances=covariances(rng, count, 6, 1.0) * scale))
    ours, theirs = lists
    plane = np.ix_([0, 1, 3, 4], [0, 1, 3, 4])
    expected = {}
    for i in range(len(ours)):
        for j in range(len(theirs)):
            apart = ours.positions[i] - theirs.positions[j]
            rest = np.append(apart[:2], (ours.velocities[i] - theirs.velocities[j])[:2])
            S = (ours.covariances[i] + theirs.covariances[j])[plane] + 1e-4 * np.eye(4)
            squared = rest @ np.linalg.solve(S, rest)
            if np.abs(apart).max() < FARTHEST_M and squared < GATE:
                expected[i, j] = squared
    i, j, squared = pairs(ours, theirs)
    assert dict(zip(zip(i.tolist(), j.tolist(), strict=True), squared, strict=True)) == (
        pytest.approx(expected)
    )
    wider = pairs(ours, theirs, near(ours, theirs, 25.0))
    assert all((a == b).all() for a, b in zip((i, j, squared), wider, strict=True))


def test_no_second_body_stands_inside_of_a_first():
    bus = things([(0, 0)], size=(12.0, 2.5, 3.0), yaw=np.pi / 2)
    at = [(0, 3), (4, 0), (0, 9), (1.0, 0)]
    assert inside(bus, things(at)).tolist() == [True, False, False, True]
    assert not inside(bus, things(at, kind=PERSON)).any()  # nobody is erased by a bus
    cars = things([(0, 4), (0, 8.5)], yaw=np.pi / 2)
    assert inside(bus, cars).tolist() == [True, False]


def test_where_no_yaw_is_known_only_the_shorter_side_counts():
    bus = things([(0, 0)], size=(12.0, 2.5, 3.0), yaw=np.nan)
    assert inside(bus, things([(0, 2), (0, 1)])).tolist() == [False, True]
