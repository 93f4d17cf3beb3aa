"""What matters to a plan, and what its driver sees anyway."""

import numpy as np
import pytest

from comms.relevance import REACH_M, SLACK_S, relevance, unseen
from tests.comms.made import NOW, S, objects
from tests.comms.scenes import straight, things, view

PLAN = straight((100.0, 0.0), seconds=5.0)  # 20 m/s along x


def one(position, velocity=(0.0, 0.0), plan=PLAN, now_ns=NOW):
    return float(relevance(things([position], velocity), plan, now_ns)[0])


def test_what_stands_on_the_corridor_matters_fully_and_less_the_farther_beside():
    values = [one((50.0, y)) for y in (0, 3, 6, 12, 24)]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    half = 3.0 / 2 + 4.5 / 2
    assert one((50.0, half + 2 * REACH_M)) == pytest.approx(np.exp(-2), rel=0.01)


def test_who_crosses_when_the_receiver_is_there_matters_more_than_who_crosses_before_or_after():
    """At x = 60 m after 3 s, from 90 m away: with 30 m/s at that time."""
    meets, early, never = (one((60.0, 90.0), (0.0, v)) for v in (-30.0, -90.0, 30.0))
    assert meets == pytest.approx(1)
    assert early == pytest.approx(np.exp(-0.5 * (2 / SLACK_S) ** 2), rel=0.05)
    assert never < 1e-6


def test_a_plan_that_is_over_makes_nothing_matter():
    assert one((50.0, 0.0), now_ns=NOW + 6 * S) == 0
    assert one((10.0, 0.0), now_ns=NOW + 3 * S) < one((70.0, 0.0), now_ns=NOW + 3 * S)


def test_it_is_a_share_of_any_objects():
    rng = np.random.default_rng(2)
    values = relevance(objects(rng, 200), PLAN, NOW)
    assert values.shape == (200,)
    assert ((values >= 0) & (values <= 1)).all()
    assert relevance(objects(rng, 0), PLAN, NOW).shape == (0,)


def test_what_stands_well_in_the_free_view_is_seen_and_nothing_else():
    seen = things([(10, 0), (28.5, 0), (30, 0), (50, 0)])
    np.testing.assert_allclose(unseen(seen, view(30)), [0, 0.5, 1, 1])
    assert (unseen(seen, None) == 1).all()
