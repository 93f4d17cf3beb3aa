"""Turns by rate and by what the tracker bears."""

from enum import Enum

import pytest

from llm_edge.pace import Pace
from pipeline.span import LatencyReport, LatencyStatus, StageLatency

MS = 1_000_000


class Advice(Enum):
    GO = "go"
    SKIP = "skip"


class Fixed:
    """A governor that says what it is set to, and keeps what it was told."""

    def __init__(self, stretch=1.0, advice=Advice.GO):
        self.stretch, self.advice, self.told = stretch, advice, []

    def update(self, now_ns, p99_ns, missed=0, *, reasoning):
        self.told.append((now_ns, p99_ns, reasoning))


def report(status=LatencyStatus.ESTIMATED):
    stage = StageLatency("tracker", status, 1, 2, 30 * MS, 4, 5, 30.0, 0)
    return LatencyReport(9, (stage,), ())


def turns(pace):
    return [k for k in range(12) if pace.due(k * 100 * MS + k % 2 * MS)]


def test_without_a_governor_every_turn_is_taken():
    assert turns(Pace(None, 10.0)) == list(range(12))


@pytest.mark.parametrize(("stretch", "taken"), [(1.0, list(range(12))), (4.0, [0, 4, 8])])
def test_intervals_are_stretched(stretch, taken):
    assert turns(Pace(Fixed(stretch), 10.0)) == taken


def test_skipped_is_skipped_but_for_the_first():
    assert turns(Pace(Fixed(advice=Advice.SKIP), 10.0)) == [0]


def test_the_governor_is_told_whether_anything_reasoned_since():
    governor = Fixed()
    pace = Pace(governor, 10.0)
    pace.told(report(), "tracker", 1)
    pace.reasoned()
    pace.told(report(), "tracker", 2)
    pace.told(report(), "tracker", 3)
    assert governor.told == [(1, 30 * MS, False), (2, 30 * MS, True), (3, 30 * MS, False)]


def test_what_nobody_measured_is_not_told():
    governor = Fixed()
    Pace(governor, 10.0).told(report(LatencyStatus.PRIOR), "tracker", 1)
    Pace(governor, 10.0).told(report(), "isp", 1)
    assert not governor.told


def test_the_real_governor_fits():
    governor = pytest.importorskip("llm_edge.governor").Governor()
    pace = Pace(governor, 10.0)
    pace.told(report(), "tracker", 1)
    assert pace.advice == "go" and pace.due(0)
