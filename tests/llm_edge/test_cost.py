"""Costs: known constants are found again, drift is followed, one in a hundred exceeds the p99."""

import math
from dataclasses import replace

import numpy as np
import pytest

from llm_edge.cost import CostModel, Drift, fit_decode, fit_prefill, from_dict
from pipeline.errors import InputError

KNOWN = CostModel(
    a=23.0, b=5400.0, c=52_000.0, n=71_000.0, m=123.0, fork=210.0,
    steps=((2, 1.1), (4, 1.25), (8, 1.6)), lanes=((2, 1.5), (4, 2.1), (8, 3.6)),
)  # fmt: skip
"""Every constant another, so that none can stand for another."""


def test_a_quadratic_is_found_from_its_points():
    sizes = [15, 40, 80, 120]
    found = fit_prefill(sizes, [KNOWN.prefill(s) for s in sizes])
    np.testing.assert_allclose(found, (23.0, 5400.0, 52_000.0), rtol=1e-6)
    found = fit_decode([15, 120], [KNOWN.decode(1, h) for h in (15, 120)])
    np.testing.assert_allclose(found, (71_000.0, 123.0), rtol=1e-6)


def test_no_fitted_factor_is_negative_whatever_the_noise():
    rng = np.random.default_rng(0)
    for _ in range(200):
        took = rng.uniform(1e3, 1e6, 4)
        assert min(fit_prefill([10, 40, 80, 120], took)) >= 0
        assert min(fit_decode([10, 90], took[:2])) >= 0


def test_tokens_one_by_one_add_up():
    held, each = 37, 0.0
    for i in range(9):
        each += KNOWN.decode(1, held + i)
    assert KNOWN.decode(9, held) == pytest.approx(each)
    assert KNOWN.decode(0, held) == 0


def test_between_measured_sizes_costs_lie_between():
    one = KNOWN.step(1, 50)
    ratios = [KNOWN.step(k, 50) / one for k in range(1, 9)]
    assert ratios == sorted(ratios)
    assert ratios[2] == pytest.approx((1.1 + 1.25) / 2)
    assert KNOWN.step(9, 50) == KNOWN.prefill(9, 50)


def test_lanes_read_by_column_or_by_lane_as_the_engine_does():
    one = KNOWN.step(1, 50)
    assert KNOWN.step_lanes(1, 3, 50) == KNOWN.step(3, 50)
    assert KNOWN.step_lanes(4, 1, 50) == pytest.approx(2.1 * one)
    assert KNOWN.step_lanes(2, 4, 50) == pytest.approx(2 * 1.25 * one)
    assert KNOWN.step_lanes(4, 2, 50) == pytest.approx(2 * 2.1 * one, rel=0.02)


def test_a_decision_is_the_sum_of_its_calls():
    whole = KNOWN.whole(40, 3, [2, 2], held=10)
    by_hand = KNOWN.prefill(40, 10) + KNOWN.decode(3, 50) + KNOWN.step(2, 53) + KNOWN.step(2, 55)
    assert whole == pytest.approx(by_hand)
    mean, p99 = KNOWN.predict(40, 3, [2, 2], held=10)
    assert mean == whole and p99 == pytest.approx(whole * math.exp(0.2))
    assert KNOWN.whole(40, 3, [2, 2], held=10, votes=4) > whole
    assert replace(KNOWN, factor=2.0).whole(40, 3, [2]) == pytest.approx(
        2 * KNOWN.whole(40, 3, [2])
    )


def test_json_brings_the_same_back():
    assert from_dict(
        {k: [list(p) for p in v] if isinstance(v, tuple) else v for k, v in KNOWN.to_dict().items()}
    ) == KNOWN  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0}, {"n": -1}, {"n": math.nan}, {"a": math.inf}, {"a": "1"}, {"a": True}, {"b": None},
        {"a": 10**400}, {"factor": 0}, {"tail": -1}, {"steps": [[2, 1.1], [2, 1.2]]},
        {"steps": [[1, 1.0]]}, {"steps": [2, 3]}, {"steps": {"2": 1}}, {"lanes": [[2.0, 1.5]]},
        {"lanes": [[2, math.nan]]}, {"steps": [[k, 1.0] for k in range(2, 100)]},
        {"b": 0.0, "c": 0.0}, {"extra": 1},
    ],
)  # fmt: skip
def test_numbers_that_are_none_are_told(change):
    with pytest.raises(InputError):
        from_dict(KNOWN.to_dict() | change)


def test_drift_follows_a_machine_that_grows_slower():
    drift = Drift(KNOWN)
    for _ in range(60):
        drift.observe(drift.costs.whole(50, 20, [2] * 6), 1.8 * KNOWN.whole(50, 20, [2] * 6))
    assert drift.costs.factor == pytest.approx(1.8, rel=0.02)
    for _ in range(60):
        drift.observe(drift.costs.whole(50, 20, [2] * 6), KNOWN.whole(50, 20, [2] * 6))
    assert drift.costs.factor == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_about_one_in_a_hundred_exceeds_the_p99(spread):
    rng = np.random.default_rng(1)
    drift = Drift(KNOWN)
    truth, exceeded, means = KNOWN.whole(50, 20, [2] * 6), 0, []
    for k in range(12_000):
        mean, p99 = drift.costs.predict(50, 20, [2] * 6)
        took = truth * math.exp(rng.normal(0, spread))
        if k >= 2000:
            exceeded += took > p99
            means.append(mean)
        drift.observe(mean, took)
    assert 0.005 < exceeded / 10_000 < 0.02
    assert np.mean(means) == pytest.approx(truth, rel=0.05)


def test_observations_that_are_none_change_nothing():
    drift = Drift(KNOWN)
    for pair in ((0.0, 1.0), (1.0, 0.0), (math.nan, 1.0), (1.0, math.nan), (-1.0, 1.0)):
        drift.observe(*pair)
    assert drift.costs == KNOWN
    for _ in range(1000):
        drift.observe(1.0, 1e300)
    assert drift.costs.factor <= math.exp(6.01)
