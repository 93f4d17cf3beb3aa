"""The round trip: asked while it fits, probed rarely while it does not."""

import math

import numpy as np
import pytest

from llm_edge.round_trip import RoundTrip
from tests.llm_edge.crowds import MS

S = 1000 * MS


def known(took_ms=40, spread_ms=4, count=200, seed=0):
    """A trip whose times are normal, and the moment after them."""
    trip, rng = RoundTrip(probe_s=5.0), np.random.default_rng(seed)
    for k in range(count):
        trip.asked(k * 100 * MS)
        trip.answered(round(max(1, rng.normal(took_ms, spread_ms)) * MS))
    return trip, count * 100 * MS


def test_it_learns_mean_and_deviation():
    trip, _ = known(40, 4)
    assert trip.mean_ns == pytest.approx(40 * MS, rel=0.1)
    mean_deviation = 4 * math.sqrt(2 / math.pi)
    assert trip.spread_ns == pytest.approx(mean_deviation * MS, rel=0.6)
    assert trip.expected_ns == pytest.approx((40 + 4 * mean_deviation) * MS, rel=0.2)


def test_what_it_expects_covers_nearly_all():
    rng = np.random.default_rng(3)
    trip, _ = known()
    late = 0
    for took in rng.normal(40, 4, 2000):
        late += took * MS > trip.expected_ns
        trip.answered(round(took * MS))
    assert late < 20


def test_the_first_question_is_a_probe():
    trip = RoundTrip(probe_s=5.0)
    assert trip.allows(0, MS)
    trip.asked(0)
    assert not trip.allows(4 * S, S)
    assert trip.allows(5 * S, S)


def test_it_is_asked_while_it_fits_and_else_only_probed():
    trip, now_ns = known()
    trip.asked(now_ns)
    assert trip.allows(now_ns + MS, 100 * MS)
    assert not trip.allows(now_ns + MS, 41 * MS)
    assert trip.allows(now_ns + 6 * S, 41 * MS)


def test_after_a_failure_only_probes_until_one_is_answered():
    trip, now_ns = known()
    trip.asked(now_ns)
    trip.gave_up(100 * MS)
    assert not trip.allows(now_ns + S, 10 * S)
    trip.asked(now_ns + 6 * S)
    trip.answered(40 * MS)
    assert trip.allows(now_ns + 6 * S, S)


def test_a_link_that_became_slow_no_longer_fits_within_a_few_answers():
    trip, now_ns = known()
    trip.asked(now_ns)
    count = 0
    while trip.allows(now_ns, 100 * MS):
        trip.answered(90 * MS)
        count += 1
    assert count <= 3


def test_a_clock_that_goes_back_probes():
    trip, now_ns = known()
    trip.asked(now_ns)
    trip.gave_up(S)
    assert trip.allows(now_ns - S, S)
