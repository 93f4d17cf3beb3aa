"""The governor: nothing while the tracker is calm, less when it suffers, back when that is over."""

import math

import pytest

from llm_edge.governor import Advice, Governor, GovernorConfig
from pipeline.errors import InputError
from tests.llm_edge.crowds import MS

CALM = 10 * MS


class Day:
    """A governor that is told something each 500 ms."""

    def __init__(self, **changed):
        self.governor = Governor(GovernorConfig(**changed))
        self.now_ns = 0
        for _ in range(3):
            self.tell(1.0, reasoning=False)

    def tell(self, ratio, count=1, missed=0, reasoning=True):
        for _ in range(count):
            self.now_ns += 500 * MS
            advice = self.governor.update(
                self.now_ns, round(ratio * CALM), missed, reasoning=reasoning
            )
        return advice, self.governor.stretch


def test_a_calm_tracker_lets_reasoning_go_on():
    assert Day().tell(1.04, count=100) == (Advice.GO, 1)
    assert Day().tell(1.08, count=100) == (Advice.GO, 1)


def test_before_anything_is_known_it_goes():
    governor = Governor()
    assert math.isnan(governor.calm_ns)
    assert governor.update(0, 50 * MS, reasoning=True) is Advice.GO


def test_where_something_always_reasons_the_least_counts_as_calm():
    governor = Governor()
    for k, p99_ns in enumerate([14 * MS, 10 * MS, 10 * MS]):
        assert governor.update(k, p99_ns, reasoning=True) is Advice.GO
    governor.update(3, 13 * MS, reasoning=True)
    assert governor.update(4, 13 * MS, reasoning=True) is Advice.STRETCH


def test_worse_doubles_the_interval_and_at_its_most_skips():
    day = Day(most=8.0)
    assert day.tell(1.3) == (Advice.GO, 1)
    assert day.tell(1.3) == (Advice.STRETCH, 2)
    assert day.tell(1.3, count=2) == (Advice.STRETCH, 4)
    assert day.tell(1.3, count=2) == (Advice.STRETCH, 8)
    assert day.tell(1.3, count=2) == (Advice.SKIP, 8)


@pytest.mark.parametrize("told", [{"ratio": 1.7}, {"ratio": 1.0, "missed": 1}])
def test_bad_or_missed_frames_skip_at_once(told):
    day = Day()
    day.tell(**told)
    assert day.tell(**told)[0] is Advice.SKIP


def test_single_outliers_change_nothing():
    day = Day()
    for _ in range(20):
        day.tell(1.7)
        assert day.tell(1.0) == (Advice.GO, 1)


def test_it_comes_back_in_steps_after_calm():
    day = Day(recover_s=3.0, most=4.0)
    day.tell(1.8, count=2)
    assert day.tell(1.0, count=6, reasoning=False)[0] is Advice.SKIP
    assert day.tell(1.0, reasoning=False) == (Advice.STRETCH, 4)
    assert day.tell(1.0, count=6) == (Advice.STRETCH, 2)
    assert day.tell(1.0, count=6) == (Advice.GO, 1)


def test_between_worse_and_better_it_stays_where_it_is():
    day = Day()
    day.tell(1.3, count=2)
    assert day.tell(1.08, count=100) == (Advice.STRETCH, 2)


def test_a_heavier_scene_is_learned_while_nothing_reasons():
    day = Day()
    day.tell(1.8, count=2)
    day.tell(1.8, count=40, reasoning=False)
    assert day.tell(1.8, count=60) == (Advice.GO, 1)


def test_a_difference_within_the_slack_is_none():
    governor = Governor(GovernorConfig(slack_ms=0.5))
    for k in range(20):
        governor.update(k, 1 * MS, reasoning=False)
    for k in range(20, 40):
        assert governor.update(k, 1 * MS + 480_000, reasoning=True) is Advice.GO


def test_a_clock_that_goes_back_does_not_recover_early_or_crash():
    day = Day()
    day.tell(1.8, count=2)
    day.tell(1.0, count=5, reasoning=False)
    day.now_ns = -(10**12)
    assert day.tell(1.0, count=6, reasoning=False)[0] is Advice.SKIP
    assert day.tell(1.0, reasoning=False)[0] is Advice.STRETCH


@pytest.mark.parametrize("given", [{"worse": 2.0}, {"better": 1.2}, {"bad": 1.05}])
def test_thresholds_that_do_not_rise_are_refused(given):
    with pytest.raises(InputError):
        GovernorConfig(**given)
