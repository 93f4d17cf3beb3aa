"""Drafts: never another token than without, never more time than without in expectation."""

from dataclasses import replace

import numpy as np
import pytest

from llm_edge.ort_engine import OrtEngine
from llm_edge.speculate import Drafter, generate, lookup
from pipeline.errors import InputError
from tests.llm_edge.decoders import SMALL, checkpoint, onnx_file
from tests.llm_edge.test_cost import KNOWN

RNG = np.random.default_rng(9)
SHAPE = replace(SMALL, context=120)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return OrtEngine(onnx_file(tmp_path_factory.mktemp("d"), checkpoint(SHAPE, 4)))


def greedy(made, logits):
    return int(logits.argmax())


def repeating(made, logits):
    """Depends on what was made, and repeats itself now and then."""
    return int(logits[: 3 + len(made) % 4].argmax())


def run(engine, text, choose, count, draft, drafter=None):
    engine.rewind(0)
    logits = engine.feed(np.array(text))
    return generate(engine, text, logits, choose, lambda made: len(made) >= count, draft, drafter)


@pytest.mark.parametrize("choose", [greedy, repeating])
@pytest.mark.parametrize("draft", [1, 2, 4, 7])
def test_drafts_change_no_token_and_no_state(engine, choose, draft):
    for _ in range(5):
        text = RNG.integers(0, 61, 12).tolist() * 2
        truth = run(engine, text, choose, 40, 0)
        logits = engine.feed(np.array(truth[-1:])).copy()
        assert run(engine, text, choose, 40, draft, Drafter()) == truth
        assert engine.length == 24 + 39
        np.testing.assert_allclose(engine.feed(np.array(truth[-1:])), logits, atol=1e-4)


def test_drafts_that_are_right_save_calls(engine, monkeypatch):
    calls = []
    feed, feed_all = engine.feed, engine.feed_all
    monkeypatch.setattr(engine, "feed", lambda t: calls.append(len(t)) or feed(t))
    monkeypatch.setattr(engine, "feed_all", lambda t: calls.append(len(t)) or feed_all(t))
    period = [3, 1, 4, 1, 5, 9, 2, 6]

    def cycle(made, logits):
        return period[len(made) % 8]

    made = run(engine, period * 2, cycle, 30, 4)
    assert made == (period * 4)[:30]
    assert len(calls) <= 1 + 7


def test_stopping_within_a_draft_ends_there(engine):
    period = [3, 1, 4, 1, 5, 9, 2, 6]
    for end in range(1, 12):
        made = run(engine, period * 2, lambda made, _: period[len(made) % 8], end, 4)
        assert len(made) == end
        assert engine.length == 16 + end - 1


def test_a_full_context_is_told_with_and_without_drafts(engine):
    for draft in (0, 4):
        with pytest.raises(InputError, match="context"):
            run(engine, [1, 2] * 50, greedy, 60, draft)


def test_the_newest_and_longest_match_is_copied():
    assert lookup("abcXabcYab", 2) == "cY"
    assert lookup("abcXbcYc", 2) == "Yc"
    assert lookup("aab", 3) == ""
    assert lookup("aaa", 3) == "a"
    assert lookup("", 3) == lookup("a", 3) == ""
    assert lookup("abab", 9) == "ab"


def right_with(share):
    """A drafter that saw drafts whose every token was right with this probability."""
    drafter = Drafter(4, weight=0.02)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        said = "".join("x" if rng.random() < share else "y" for _ in range(4))
        drafter.observe(said, "xxxx")
    return drafter


def test_nothing_is_drafted_before_drafts_were_right():
    assert Drafter().size(KNOWN, 50) == 0
    assert right_with(0.02).size(KNOWN, 50) == 0


def test_the_better_the_drafts_the_longer_they_are():
    sizes = [right_with(share).size(KNOWN, 50) for share in (0.0, 0.2, 0.6, 0.95)]
    assert sizes == sorted(sizes) and sizes[0] == 0 and sizes[-1] == 4


def test_where_calls_of_several_tokens_are_dear_none_is_drafted():
    dear = replace(KNOWN, steps=((2, 3.1), (4, 4.6), (8, 5.3)))
    assert right_with(0.6).size(dear, 50) == 0


def test_no_choice_is_below_none_in_expectation():
    rng = np.random.default_rng(2)
    for _ in range(300):
        ratios = np.sort(rng.uniform(1.01, 6, 3))
        costs = replace(KNOWN, steps=tuple(zip((2, 4, 8), ratios.tolist(), strict=True)))
        drafter = Drafter(4)
        drafter._right = np.sort(rng.random(4))[::-1].tolist()
        k = drafter.size(costs, 30)
        expected = 1 + sum(drafter._right[:k])
        assert expected / costs.step(k + 1, 30) >= 1 / costs.step(1, 30)


def test_a_draft_shorter_than_what_came_counts_as_wrong_beyond_its_end():
    drafter = Drafter(3, weight=1.0)
    drafter.observe("ab", "abc")
    assert drafter._right == [1.0, 1.0, 0.0]
    drafter.observe("xbc", "ab")
    assert drafter._right == [0.0, 0.0, 0.0]
    drafter.observe("abc", "a")
    assert drafter._right == [1.0, 0.0, 0.0]


def test_drafts_are_judged_while_none_is_computed(engine):
    period = [3, 1, 4, 1, 5, 9, 2, 6]
    drafter = Drafter(4, weight=0.3)
    for _ in range(3):
        run(engine, period * 2, lambda made, _: period[len(made) % 8], 40, 0, drafter)
    assert drafter.size(KNOWN, 50) == 4
