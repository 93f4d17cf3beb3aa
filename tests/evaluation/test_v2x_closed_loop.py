"""The closed loop: paired, repeatable, and its figures by hand."""

from dataclasses import asdict

import numpy as np
import pytest

from bridges.crossing import CrossingConfig
from comms.channel import ChannelConfig
from evaluation.v2x_closed_loop import (
    HARD_BRAKE,
    HARD_S,
    NONE,
    ORACLE,
    Loop,
    Outcome,
    by_mode,
    differences,
    encounter,
    hard_brakings,
    mean_interval,
    summary,
    wilson,
)

LOOP = Loop(CrossingConfig(spread_s=0.6), ChannelConfig(delay_ms=100, loss=0.1))


@pytest.fixture(autouse=True, scope="module")
def sumo():
    pytest.importorskip("libsumo", reason="SUMO is not installed (the sumo extra)")
    pytest.importorskip("sumo", reason="SUMO is not installed (the sumo extra)")


def test_an_encounter_is_repeatable_with_messages_and_without():
    for mode in (NONE, "ours", ORACLE):
        first, second = (encounter(mode, 0, LOOP) for _ in range(2))
        np.testing.assert_equal(asdict(first), asdict(second))  # NaN equals NaN
        assert (first.bytes_s > 100) == (mode == "ours")
        assert first.kind == encounter(ORACLE, 0, LOOP).kind


def test_who_tells_nothing_changes_nothing():
    silent = Loop(LOOP.crossing, LOOP.channel, budget_bytes_s=0)
    alone, told = encounter(NONE, 1, LOOP), encounter("ours", 1, silent)
    assert told.bytes_s == 0
    names = ("collision", "ttc_s", "delay_s", "brakes", "least_mps")
    for name in names:
        assert np.isclose(getattr(told, name), getattr(alone, name), atol=1e-6, equal_nan=True)


def test_an_emergency_is_a_hard_braking_that_lasts():
    step = 0.05
    rate = (HARD_BRAKE + 0.5) * step
    lasts = round(HARD_S / step)

    def speeds(*falls):
        return 40 - np.cumsum([0.0, *falls])

    assert hard_brakings(speeds(*[rate] * lasts), step) == 1
    assert hard_brakings(speeds(*[rate] * (lasts - 1), 0, rate), step) == 0
    assert hard_brakings(speeds(*[rate] * lasts, 0.0, *[rate] * lasts, 0.1), step) == 2
    assert hard_brakings(speeds(*[HARD_BRAKE * 0.9 * step] * 50), step) == 0
    assert hard_brakings(speeds(*[-rate] * 50), step) == 0


def test_intervals_are_those_of_the_literature():
    assert np.allclose(wilson(0, 10), (0, 0.2775), atol=1e-4)  # Newcombe 1998
    assert np.allclose(wilson(81, 263), (0.2553, 0.3662), atol=1e-4)
    mean, low, high = mean_interval(np.array([1.0, 2.0, np.nan, 3.0]))
    assert mean == 2 and 1 <= low < 2 < high <= 3
    assert np.isnan(mean_interval(np.array([np.nan]))).all()


def outcome(mode, seed, collision, ttc_s, delay_s):
    return Outcome(mode, seed, "car", collision, ttc_s, delay_s, int(collision), 1.0, 5.0)


def test_differences_are_of_the_same_encounters_only():
    nan = float("nan")
    made = [
        outcome(NONE, 5, True, 0, nan), outcome(NONE, 4, False, 2, 3),
        outcome(NONE, 6, False, 1, 1), outcome("ours", 4, False, 2, 2.5),
        outcome("ours", 5, False, 1.5, 4.0),
    ]  # fmt: skip
    rows = by_mode(made)
    assert rows[NONE]["seed"].tolist() == rows["ours"]["seed"].tolist() == [4, 5]
    lines = differences(rows, NONE)
    assert len(lines) == 3
    _, mode, hits, ttc, delay, _ = (cell.strip() for cell in lines[2].split("|"))
    assert mode == "ours" and hits.startswith("-0.500")
    assert ttc.startswith("0.75") and delay.startswith("-0.50 (-0.50 to -0.50)")
    table = summary(rows)
    assert "1 of 2" in table[2] and "0 of 2" in table[3]
    assert table[3].split("|")[5].strip().startswith("2.00")  # none's seed without a collision
