"""An unsure pose is put right by all objects at once, or not at all."""

import numpy as np
import pytest

from comms.association import mutual
from comms.registration import register
from pipeline.objects import ObjectClass, Objects, joined
from tests.comms.made import NOW
from tests.comms.scenes import seen_by, things, view

PERSON = ObjectClass.PERSON
PRIOR = np.diag([1.5, 1.5, np.radians(3)]) ** 2


def jacobian(objects, origin):
    away = objects.positions[:, :2] - origin
    J = np.zeros((len(objects), 2, 3))
    J[:, 0, 0] = J[:, 1, 1] = 1
    J[:, 0, 2], J[:, 1, 2] = -away[:, 1], away[:, 0]
    return J


def found(truth, bias, origin, sight=None, seed=1, noise=0.1, rows=None, prior=PRIOR):
    """Pairs (ours, theirs) of the same objects seen twice, by ids."""
    rng = np.random.default_rng(seed)
    both = []
    for objects in (truth, seen_by(bias, truth if rows is None else truth.selected(rows), origin)):
        p = objects.positions + rng.normal(0, noise, (len(objects), 3)) * [1, 1, 0]
        both.append(objects.derived(positions=p))
    ours, theirs = both
    out = register(theirs, jacobian(theirs, origin), ours, prior, sight, seed)
    if out is None:
        return None
    return ours.ids[out[0]].tolist(), theirs.ids[out[1]].tolist()


def pedestrians(rng, n=7):
    """In a row along a street, 1.2 m apart and more."""
    along = np.cumsum(rng.uniform(1.2, 3.5, n))
    return things(np.column_stack([along, rng.uniform(-0.5, 0.5, n)]), kind=PERSON)


@pytest.mark.parametrize("seed", range(8))
def test_two_meters_and_four_degrees_are_recovered_among_pedestrians_in_a_row(seed):
    rng = np.random.default_rng(seed)
    truth, origin = pedestrians(rng), np.array([5.0, -25.0])
    turn = np.radians(4) * rng.choice([-1, 1])
    shift = 2.0 * np.array([np.cos(a := rng.uniform(0, 6.28)), np.sin(a)])
    out = found(truth, (*shift, turn), origin, seed=seed)
    if out is None:  # rather nothing than a wrong one
        return
    assert out[0] == out[1]
    assert len(out[0]) >= 3


def test_most_such_offsets_are_recovered_where_the_nearest_are_mostly_wrong():
    recovered = near_right = pairs = 0
    for seed in range(40):
        rng = np.random.default_rng(100 + seed)
        truth, origin = pedestrians(rng), np.array([5.0, -25.0])
        angle = rng.uniform(0, 6.28)
        bias = (2 * np.cos(angle), 2 * np.sin(angle), np.radians(4) * rng.choice([-1, 1]))
        theirs = seen_by(bias, truth, origin)
        H = jacobian(theirs, origin)
        wide = theirs.covariances.copy()
        wide[:, :2, :2] += H @ PRIOR @ H.transpose(0, 2, 1)
        i, j = mutual(truth, theirs.derived(covariances=wide), np.zeros(len(theirs), np.intp))
        near_right += int((truth.ids[i] == theirs.ids[j]).sum())
        pairs += len(i)
        out = found(truth, bias, origin, seed=seed)
        assert out is None or out[0] == out[1]
        recovered += out is not None
    assert recovered >= 20
    assert near_right < 0.7 * pairs


def test_an_even_row_that_fits_in_many_ways_says_nothing():
    even = things([(2.0 * k, 0) for k in range(8)], kind=PERSON)
    out = found(even, (2.0, 0.0, 0.0), np.array([5.0, -25.0]), rows=np.arange(3, 6))
    assert out is None


def test_two_objects_are_too_few():
    assert found(things([(0, 0), (9, 3)]), (1.0, 0, 0), np.array([0.0, -20])) is None
    none = Objects.none(NOW)
    assert register(none, np.zeros((0, 2, 3)), things([(0, 0)]), PRIOR, None, 1) is None


def test_what_differs_in_speed_or_class_is_no_candidate():
    at = [(0, 0), (6, 2), (13, -1), (17, 4)]
    ours = things(at, (8.0, 0.0))
    for other in (things(at), things(at, (8.0, 0.0), kind=PERSON)):
        assert register(other, jacobian(other, np.zeros(2)), ours, PRIOR, None, 1) is None
    out = register(ours, jacobian(ours, np.zeros(2)), ours, PRIOR, None, 1)
    assert out is not None


def test_a_fit_that_puts_objects_where_we_see_nothing_is_none():
    """Three of theirs fall on ours, five more would have to stand in our free view."""
    at = [(10, 3), (16, -2), (25, 5)]
    made_up = [(12, -9), (20, 11), (31, -6), (8, 12), (35, 2)]
    ours = things(at)
    theirs = joined([things(at), things(made_up, ids=range(50, 55))])
    J = jacobian(theirs, np.zeros(2))
    assert register(theirs, J, ours, PRIOR, None, 1) is not None
    assert register(theirs, J, ours, PRIOR, view(60), 1) is None


def test_many_objects_take_bounded_work():
    crowd = things(np.random.default_rng(1).uniform(-20, 20, (256, 2)), kind=PERSON)
    register(crowd, jacobian(crowd, np.zeros(2)), crowd, 100 * PRIOR, None, 1)
