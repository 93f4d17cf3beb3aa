"""How a reasoner has fared, of answers made by hand."""

import math

import pytest

from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source
from llm_edge.reasoner import Answer
from llm_edge.tally import WINDOW, Tally

MS = 1_000_000


def answer(source, met=True, token_ms=0.0, first_ms=0.0, took_ms=5.0, refused=False):
    made = Decision(Action.HOLD, None, Direction.NONE, 0.0, Risk.NONE, Reason.CLEAR, 1, source)
    took_ns, first_ns, token_ns = (round(ms * MS) for ms in (took_ms, first_ms, token_ms))
    return Answer(made, met, took_ns, "", 3, 1, first_ns, token_ns, refused)


def test_shares_and_times_are_of_what_was_added():
    tally = Tally()
    tally.add(answer(Source.POLICY, took_ms=1.0, refused=True), 0)
    tally.add(answer(Source.THOUGHT, token_ms=0.1, first_ms=1.5, took_ms=4.5), 500 * MS)
    tally.add(answer(Source.THOUGHT, token_ms=0.3, first_ms=2.5, took_ms=7.5), 1000 * MS)
    tally.add(answer(Source.FAST, met=False, first_ms=2.0, took_ms=40.0), 2000 * MS)
    fare = tally.fare()
    assert (fare.answers, fare.met, fare.fallback, fare.refused) == (4, 0.75, 0.25, 0.25)
    assert fare.goodput_hz == pytest.approx(1.0)
    assert fare.first_token_ms == pytest.approx(2.0)
    assert fare.token_ms == pytest.approx(0.2)
    assert fare.took_ms == pytest.approx(6.0)


def test_nothing_to_tell_is_not_zero():
    tally = Tally()
    assert tally.fare().answers == 0 and math.isnan(tally.fare().met)
    tally.add(answer(Source.POLICY), 5)
    assert math.isnan(tally.fare().token_ms) and math.isnan(tally.fare().first_token_ms)


def test_only_the_newest_count():
    tally = Tally()
    for k in range(WINDOW):
        tally.add(answer(Source.POLICY, met=False), k * MS)
    for k in range(WINDOW):
        tally.add(answer(Source.FAST), (WINDOW + k) * MS)
    assert (tally.fare().answers, tally.fare().met, tally.fare().fallback) == (WINDOW, 1.0, 0.0)
