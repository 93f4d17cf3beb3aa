"""What receivers are believed to know: nothing at first, less with loss, time and departure."""

import numpy as np
import pytest

from comms.belief import FORGET_S, Belief, good, heard_of, tolerable
from comms.motion import predicted
from pipeline.objects import ObjectClass, Objects, joined
from tests.comms.made import MS, NOW, S
from tests.comms.scenes import things

CARS = things([(0, 0), (30, 5)], (10.0, 0.0))


def told_once(objects=CARS, loss=0.0, ttl_s=3.0):
    belief = Belief(ttl_s, 1.6)
    belief.told(objects, belief.of(objects, objects.stamp_ns), np.arange(len(objects)), loss)
    return belief


def missing(belief, objects, dt_s=0.0):
    later = predicted(objects, objects.stamp_ns + round(dt_s * 1e9))
    return belief.of(later, later.stamp_ns)


def test_what_was_never_told_is_missing():
    told = Belief(3.0, 1.6).of(CARS, NOW)
    assert (told.missing == 1).all()
    assert (told.sent_ns == 0).all()


def test_what_was_told_is_known_as_told():
    told = told_once().of(CARS, NOW)
    assert (told.sent_ns == NOW).all()
    assert (told.positions == CARS.positions).all()
    assert (told.velocities == CARS.velocities).all()
    assert (told.missing < 0.01).all()
    assert (told.departed == 0).all()


def test_only_the_rows_that_were_sent_are_known():
    belief = Belief(3.0, 1.6)
    belief.told(CARS, belief.of(CARS, NOW), np.array([1]), 0.0)
    told = belief.of(CARS, NOW)
    assert told.missing[0] == 1
    assert told.missing[1] < 0.01


@pytest.mark.parametrize("loss", [0.1, 0.5, 0.9])
def test_each_sending_leaves_the_share_that_gets_lost(loss):
    belief = told_once(loss=loss)
    first = belief.of(CARS, NOW)
    assert first.missing[0] == pytest.approx(loss, abs=0.01)
    belief.told(CARS, first, np.arange(2), loss)
    assert belief.of(CARS, NOW).missing[0] == pytest.approx(loss**2, abs=0.01)


def test_the_belief_fades_with_time_even_where_the_prediction_holds():
    belief = told_once()
    values = [missing(belief, CARS, dt).missing[0] for dt in (0, 0.5, 1, 2, 2.9, 3.0)]
    assert values == sorted(values)
    assert values[1] < 0.1
    assert values[-1] == 1


def test_a_departure_from_what_was_told_is_missing_at_once():
    belief, brakes = told_once(), CARS.derived(velocities=np.zeros((2, 3)))
    values = [missing(belief, brakes, dt) for dt in (0.05, 0.1, 0.2, 0.4)]
    np.testing.assert_allclose([v.departed[0] for v in values], [0.5, 1, 2, 4])
    assert values[0].missing[0] < 0.3
    assert values[-1].missing[0] > 0.95


def test_a_walker_may_depart_less_than_a_car():
    walker = things([(0, 0)], kind=ObjectClass.PERSON)
    car = things([(0, 0)])
    assert tolerable(walker)[0] < tolerable(car)[0]
    aside = np.array([[0.8, 0.0, 0.0]])
    by_class = [told_once(o).of(o.derived(positions=aside), NOW).missing[0] for o in (walker, car)]
    assert by_class[0] > by_class[1]


def test_what_was_told_long_ago_begins_anew_and_a_reset_forgets_all():
    belief = told_once(ttl_s=100.0)
    later = predicted(CARS, NOW + round((FORGET_S + 0.1) * S))
    belief.told(later, belief.of(later, later.stamp_ns), np.array([0]), 0.0)
    assert belief.of(later, later.stamp_ns).sent_ns.tolist() == [later.stamp_ns, 0]
    belief.reset()
    assert (belief.of(CARS, NOW).missing == 1).all()


def test_another_stations_word_counts_where_it_is_near_and_sure():
    mine = things([(0, 0), (50, 0)])
    sure, vague = (heard_of(mine, things([(0.3, 0)], sigma_m=s), 1.6) for s in (0.2, 3.0))
    assert sure[0] > 0.9
    assert sure[1] < 1e-6
    assert vague[0] < 0.3
    assert (heard_of(mine, Objects.none(NOW), 1.6) == 0).all()
    assert heard_of(Objects.none(NOW), mine, 1.6).shape == (0,)


def test_good_is_the_share_of_places_within_the_bearable():
    rng = np.random.default_rng(1)
    off = np.hypot(*rng.normal(0, 0.7, (2, 200_000)))
    share = float(good(np.array([0.49]), np.array([1.5]))[0])
    assert share == pytest.approx((off < 1.5).mean(), abs=0.005)


def test_time_before_the_sending_is_no_error():
    told = told_once().of(CARS, NOW - 100 * MS)
    assert np.isfinite(told.missing).all()


def test_what_was_heard_of_one_says_nothing_of_who_stands_beside_it():
    pair = things([(0, 0), (0.6, 0)], kind=ObjectClass.PERSON)
    known = heard_of(pair, things([(0.1, 0)], kind=ObjectClass.PERSON), 1.6)
    assert known[0] > 0.9
    assert known[1] == 0


def test_what_was_heard_of_a_car_says_nothing_of_the_walker_beside_it():
    walker = things([(0, 0)], kind=ObjectClass.PERSON)
    both = joined([walker, things([(1.5, 0)], ids=[9])])
    known = heard_of(both, things([(0.7, 0)]), 1.6)
    assert known[0] == 0
    assert known[1] > 0.3


def test_what_receivers_lack_is_of_the_moment_at_which_they_use_it():
    belief, brakes = told_once(), CARS.derived(velocities=np.zeros((2, 3)))
    now, later = (belief.of(brakes, NOW, ahead_s) for ahead_s in (0.0, 0.4))
    assert (now.departed == 0).all()
    assert (later.departed == 0).all()
    assert now.missing[0] < 0.01
    assert later.missing[0] > 0.95
