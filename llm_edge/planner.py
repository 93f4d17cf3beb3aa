"""How long to think before a deadline: as long as the answer is still in time, in 99 of 100 cases.

What the answer costs is known beforehand, since the grammar forces its calls. So the thought gets
what is left (EdgeReasoning's hard token budget), and votes only what a whole thought leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from llm_edge.cost import CostModel
from pipeline.config import Config, option


@dataclass(frozen=True)
class PlannerConfig(Config):
    """Options of the planner."""

    margin_ms: float = option(
        0.5, "Time kept between the predicted answer and the deadline, ms.", low=0, high=1000
    )
    max_votes: int = option(
        4, "Most thoughts side by side whose majority decides; 1 for one.", low=1, high=16
    )
    vote_price: float = option(
        3.0,
        "Votes are taken while so many lanes cost at most this many times one of them.",
        low=1,
        high=16,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """thought_tokens: the most that the thought may take. votes: thoughts side by side, 1 or more.
    mean_ns, p99_ns: predicted time to the answer's end. close_ns: when no more than this is left to
    the deadline, close the thought and answer, however few tokens it took.
    """

    thought_tokens: int
    votes: int
    mean_ns: float
    p99_ns: float
    close_ns: float


def plan(
    costs: CostModel,
    left_ns: float,
    prefill: int,
    answer: Sequence[int],
    longest_thought: int,
    config: PlannerConfig | None = None,
    held: int = 0,
    max_lanes: int = 0,
) -> Plan | None:
    """The longest thought whose answer is in time; None if not even the answer alone is, so that
    the policy must decide.

    left_ns: until the deadline. prefill: tokens of the prompt that the state does not hold yet.
    answer: tokens of each of its calls, the first one with what closes the thought. held: tokens
    in the state. longest_thought: what a whole thought takes at most. max_lanes: of the engine.
    """
    config = config or PlannerConfig()
    spare_ns = left_ns - config.margin_ms * 1e6

    def p99(thought: int, votes: int = 1) -> float:
        return costs.predict(prefill, thought, answer, held, votes)[1]

    if not p99(0) < spare_ns:
        return None
    low, high = 0, max(0, longest_thought)  # p99(low) fits; the longest that does is found
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if p99(middle) < spare_ns else (low, middle - 1)
    thought = low
    votes = 1
    if 0 < thought == longest_thought:
        most = min(config.max_votes, max_lanes)
        single = costs.step_lanes(1, 1, held + prefill)
        for count in range(most, 1, -1):
            cheap = costs.step_lanes(count, 1, held + prefill) <= config.vote_price * single
            if cheap and p99(thought, count) < spare_ns:
                votes = count
                break
    mean, worst = costs.predict(prefill, thought, answer, held, votes)
    at = held + prefill + thought
    # One more token may just have begun when the time is looked at.
    end = costs.step_lanes(votes, 1, at) + costs.answer(answer, at, votes)
    return Plan(
        thought_tokens=thought,
        votes=votes,
        mean_ns=mean,
        p99_ns=worst,
        close_ns=costs.p99(end) + config.margin_ms * 1e6,
    )
