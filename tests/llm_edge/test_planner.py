"""The planner's promises, over random engines, prompts and deadlines."""

import math
from dataclasses import replace

import numpy as np
import pytest

from llm_edge.cost import CostModel
from llm_edge.planner import PlannerConfig, plan
from pipeline.errors import InputError
from tests.llm_edge.test_cost import KNOWN

ANSWER = [3, 2, 2, 2, 2, 2, 2]


def random_costs(rng):
    def curve():
        return tuple(zip((2, 4, 8), np.sort(rng.uniform(1.01, 8, 3)).tolist(), strict=True))

    scale = math.exp(rng.uniform(0, 8))
    return CostModel(
        a=rng.uniform(0, 50) * scale, b=rng.uniform(100, 9000) * scale, c=5e4 * rng.random(),
        n=rng.uniform(1e4, 1e5) * scale, m=rng.uniform(0, 500) * scale, steps=curve(),
        lanes=curve() if rng.random() > 0.3 else (), fork=rng.uniform(0, 500),
        factor=math.exp(rng.normal(0, 0.5)), tail=rng.uniform(0.02, 1),
    )  # fmt: skip


def cases(count=400):
    rng = np.random.default_rng(5)
    for _ in range(count):
        yield {
            "costs": random_costs(rng),
            "left_ns": math.exp(rng.uniform(10, 22)),
            "prefill": int(rng.integers(0, 120)),
            "answer": rng.integers(1, 5, rng.integers(1, 9)).tolist(),
            "longest_thought": int(rng.integers(0, 80)),
            "config": PlannerConfig(
                margin_ms=float(rng.uniform(0, 5)), max_votes=int(rng.integers(1, 9))
            ),
            "held": int(rng.integers(0, 60)),
            "max_lanes": int(rng.integers(0, 9)),
        }


def test_what_is_planned_is_in_time_by_the_margin():
    planned = [(case, plan(**case)) for case in cases()]
    assert 50 < sum(p is None for _, p in planned) < 350
    for case, p in planned:
        if p is not None:
            assert p.mean_ns <= p.p99_ns < case["left_ns"] - case["config"].margin_ms * 1e6
            predicted = case["costs"].predict(
                case["prefill"], p.thought_tokens, case["answer"], case["held"], p.votes
            )
            assert (p.mean_ns, p.p99_ns) == predicted


def test_nothing_is_planned_only_where_not_even_the_answer_is_in_time():
    for case in cases():
        alone = case["costs"].predict(case["prefill"], 0, case["answer"], case["held"])[1]
        fits = alone < case["left_ns"] - case["config"].margin_ms * 1e6
        assert (plan(**case) is not None) == fits


def test_the_thought_is_the_longest_that_is_in_time():
    for case in cases():
        p = plan(**case)
        if p is None or p.thought_tokens == case["longest_thought"]:
            continue
        longer = case["costs"].predict(
            case["prefill"], p.thought_tokens + 1, case["answer"], case["held"]
        )[1]
        assert longer >= case["left_ns"] - case["config"].margin_ms * 1e6
        assert p.votes == 1


def test_more_time_never_gives_less():
    for case in cases():
        sooner, later = plan(**case), plan(**case | {"left_ns": 1.5 * case["left_ns"]})
        if sooner is not None:
            assert later is not None
            assert (later.thought_tokens, later.votes) >= (sooner.thought_tokens, sooner.votes)


def test_votes_come_only_after_a_whole_thought_and_where_they_are_cheap():
    seen = 0
    for case in cases(1500):
        p = plan(**case)
        if p is None or p.votes == 1:
            continue
        seen += 1
        assert p.thought_tokens == case["longest_thought"] > 0
        assert p.votes <= min(case["config"].max_votes, case["max_lanes"])
        at = case["held"] + case["prefill"]
        one, all_of_them = (case["costs"].step_lanes(n, 1, at) for n in (1, p.votes))
        assert all_of_them <= case["config"].vote_price * one
    assert seen > 30


def test_a_thought_closed_when_told_leaves_the_answer_in_time():
    for case in cases():
        p = plan(**case)
        if p is None:
            continue
        at = case["held"] + case["prefill"] + p.thought_tokens
        rest = case["costs"].answer(case["answer"], at, p.votes)
        assert p.close_ns >= case["costs"].p99(rest) + case["config"].margin_ms * 1e6


@pytest.mark.parametrize(
    ("left_ms", "thought", "votes"), [(0.5, None, None), (1.85, 0, 1), (30.0, 33, 4)]
)
def test_the_shipped_size_of_decoder(left_ms, thought, votes):
    p = plan(KNOWN, left_ms * 1e6, 60, ANSWER, 33, max_lanes=8)
    assert (p and p.thought_tokens, p and p.votes) == (thought, votes)


def test_a_slower_machine_of_today_thinks_less():
    now = plan(KNOWN, 5e6, 60, ANSWER, 40)
    slow = plan(replace(KNOWN, factor=1.6), 5e6, 60, ANSWER, 40)
    shaky = plan(replace(KNOWN, tail=0.6), 5e6, 60, ANSWER, 40)
    assert slow.thought_tokens < now.thought_tokens > shaky.thought_tokens


@pytest.mark.parametrize("left_ns", [0, -1e9, math.nan])
def test_a_deadline_in_the_past_is_the_policys(left_ns):
    assert plan(KNOWN, left_ns, 60, ANSWER, 40) is None


def test_options_out_of_range_are_told():
    for change in ({"margin_ms": -1.0}, {"max_votes": 0}, {"vote_price": 0.5}):
        with pytest.raises(InputError):
            PlannerConfig(**change)
