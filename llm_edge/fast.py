"""The fast tier: the shipped decoder, which thinks as long as the deadline lets it, then answers.

A call of the engine reads a draft of all that is left to say, and gives as many words of it as the
decoder would have said itself, and one more. The planner says whether there is time for a thought,
so that the answer is in time in 99 of 100 cases; the clock closes one that takes longer.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from llm_edge import words
from llm_edge.alarm import Alarm
from llm_edge.answerer import Reply
from llm_edge.cache import DecisionCache
from llm_edge.calibrate import ThreadClock, known_costs
from llm_edge.coding import Coded, Ints, coded_scene
from llm_edge.cost import Drift
from llm_edge.decision import Decision, Source
from llm_edge.engine import CanceledError, Tokens
from llm_edge.grammar import answers_from, decision_of
from llm_edge.ort_engine import OrtEngine
from llm_edge.planner import Plan, PlannerConfig, plan
from llm_edge.scene import Scene
from llm_edge.talk import Talk
from llm_edge.votes import vote
from llm_edge.windows import windows_of
from llm_edge.words import FIELDS
from pipeline.clock import Clock
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.resources import share_path

ANSWER = (3, *[2] * (len(FIELDS) - 1))
"""Tokens of the answer's calls without drafts: what closes the thought and each field's name with
the value before it."""
AMENDED = (2 * len(FIELDS) - 2, 2)
"""The same with drafts, after a call that held all of it: what it takes where a draft is wrong."""
CLOSED = (2 + 2 * len(FIELDS), *AMENDED, 2)
"""The same after a thought that was cut, which is seldom what the draft held."""
_BETWEEN_NS, _MOST_BETWEEN_NS, _WEIGHT = 200_000.0, 1_000_000.0, 0.02
"""Time that a call takes beside the engine's, for drafting and hearing: at first, the most that
one decision tells, and how much the newest one counts in the mean."""


def shipped() -> Path:
    """The decoder that comes with leadsight.

    Raises:
        InputError: this installation has none.
    """
    return share_path("models", "reasoner.onnx")


@dataclass(frozen=True)
class FastConfig(Config):
    """The fast tier's options."""

    model: str = option("", "Decoder, .onnx; empty for the one that comes with leadsight.")
    thought: bool = option(True, "Think where there is time; else answer at once.")
    drafts: bool = option(True, "Let the decoder check drafts, many words in one call.")
    margin_ms: float = option(
        0.5, "Kept between the predicted answer and the deadline, ms.", low=0, high=1000
    )
    votes: int = option(
        1, "Most thoughts side by side whose majority decides; 1 for one.", low=1, high=8
    )
    warmth: float = option(0.7, "Temperature of the votes after the first.", low=0.05, high=5)
    valid_ms: float = option(1000.0, "A decision holds for so long.", low=1, high=60_000)
    cache_ms: float = option(
        0.0, "An answer to the same coded scene is taken again for so long; 0 for never.",
        low=0, high=60_000,
    )  # fmt: skip
    drift: bool = option(True, "Correct the predicted times by those that are measured.")


class Fast:
    """See ``Answerer``.

    Raises:
        InputError: no model, or one that is truncated, foreign or of another vocabulary.
    """

    def __init__(self, config: FastConfig, clock: Clock) -> None:
        self._config, self._clock = config, clock
        path = Path(config.model) if config.model else shipped()
        self._engine = OrtEngine(path, max_lanes=config.votes)
        if tuple(self._engine.words) != words.WORDS:
            raise InputError(
                f"{path}: its words are not this version's; train and export it anew "
                "(python -m llm_edge.train)"
            )
        costs, _ = known_costs(self._engine, clock, path, ThreadClock())
        self._alarm = Alarm(self._engine)
        self._drift = Drift(costs)
        self._planner = PlannerConfig(margin_ms=config.margin_ms, max_votes=config.votes)
        self._cache = DecisionCache(valid_ns=round(config.cache_ms * 1e6))
        self._random = np.random.default_rng(0)
        self._between_ns = _BETWEEN_NS

    def answer(self, scene: Scene, deadline_ns: int) -> Reply:
        begun_ns = self._clock.now_ns()
        if deadline_ns <= begun_ns:
            return Reply(None, "the deadline is over")
        coded = coded_scene(scene)
        when = windows_of(coded)
        row = words.prompt_tokens(coded, when)[0]
        prompt = row[row >= 0]
        shown = coded.rows[0][coded.rows[0] >= 0]
        limit = np.float64(scene.platform.limit_mps)  # speeds are told as shares of it
        key = prompt.tobytes() + scene.ids[shown].tobytes() + limit.tobytes()
        until_ns = scene.at_ns + round(self._config.valid_ms * 1e6)
        known = self._cache.get(key, scene.at_ns) if self._config.cache_ms else None
        if known is not None:
            known = replace(known, valid_until_ns=until_ns)
            return Reply(known, "", {"took_ms": (self._clock.now_ns() - begun_ns) * 1e-6})
        try:
            with self._alarm.set():
                work = self._worked(coded, when, prompt, deadline_ns)
        except CanceledError:
            return Reply(None, "canceled")
        except InputError as error:  # onnxruntime's: no memory, say
            return Reply(None, str(error))
        if work is None:
            return Reply(None, "not even an answer without a thought fits the deadline")
        source = Source.THOUGHT if work.complete else Source.FAST
        made = decision_of(answers_from(work.values[None]), coded, scene, until_ns, source)
        now_ns = self._clock.now_ns()
        # It ages by the world's time, as the decision does; a cut thought may be longer next time.
        if self._config.cache_ms and (work.complete or not self._config.thought):
            self._cache.put(key, made, scene.at_ns)
        took_ms = (now_ns - begun_ns) * 1e-6
        return Reply(made, "", {**work.figures(begun_ns, now_ns), "took_ms": took_ms})

    def _worked(self, coded: Coded, when: Ints, prompt: Tokens, deadline_ns: int) -> "_Work | None":
        # All of it in one call each time: in 8 bits the tokens of a call share a scale, so what was
        # read in other pieces would let the last scene speak into this one's decision.
        self._engine.rewind(0)
        if self._config.votes > 1 and (votes := self._votes(coded, len(prompt), deadline_ns)):
            work = self._voted(coded, prompt, votes, deadline_ns)
        else:
            talk = Talk(coded, when, self._config.thought, self._config.drafts)
            close_ns = self._planned(talk, len(prompt), deadline_ns)
            if close_ns is None:
                self._drift.rest()
                self._between_ns += _WEIGHT * (_BETWEEN_NS - self._between_ns)
                return None
            work = self._said(talk, prompt, close_ns)
        if self._config.drift:
            self._drift.observe(work.predicted_ns, work.took_ns)
        return work

    def _planned(self, talk: Talk, prompt: int, deadline_ns: int) -> int | None:
        """When the thought has to be closed; None if not even an answer without one is in time.
        Where the draft of a thought is not, there is none."""
        while True:
            answer = AMENDED if self._config.drafts else ANSWER
            if self._config.drafts and talk.thinks:
                answer = CLOSED
            size = prompt + len(talk.draft())
            between_ns = self._between_ns * (1 + len(answer))
            left_ns = deadline_ns - self._clock.now_ns() - between_ns
            planned = plan(self._drift.costs, left_ns, size, answer, 0, self._planner)
            if planned is not None or not talk.thinks:
                break
            talk.close()
        if planned is None:
            return None
        return deadline_ns - round(planned.close_ns + between_ns)

    def _said(self, talk: Talk, prompt: Tokens, close_ns: int) -> "_Work":
        """Think until the thought is complete or it is time to close it, and answer."""
        engine, costs, clock = self._engine, self._drift.costs, self._clock
        work, begun_ns = _Work(), clock.now_ns()
        waiting = prompt.tolist()
        while True:
            draft = talk.draft()
            predicted_ns = costs.step(len(waiting) + len(draft), engine.length)
            call_ns = clock.now_ns()
            # One more call may just have begun when it is time.
            if talk.thinks and work.calls and call_ns + predicted_ns > close_ns:
                talk.close()
                continue
            logits = engine.feed_last(np.array([*waiting, *draft], np.int64), len(draft) + 1)
            work.called(predicted_ns, call_ns, clock.now_ns())
            said = talk.hear(draft, logits)
            if talk.over:
                break
            engine.rewind(engine.length - len(draft) + said)
            waiting = [talk.last]
        between_ns = (clock.now_ns() - begun_ns - work.took_ns) / work.calls
        self._between_ns += _WEIGHT * (min(between_ns, _MOST_BETWEEN_NS) - self._between_ns)
        work.values = np.array(talk.values)
        work.complete, work.thought_tokens = talk.complete, talk.thought_tokens
        return work

    def _votes(self, coded: Coded, prompt: int, deadline_ns: int) -> Plan | None:
        """None where there is not the time for more than one."""
        longest = 2 + 3 * int(coded.count[0]) if self._config.thought else 0
        planned = plan(
            self._drift.costs, deadline_ns - self._clock.now_ns(), prompt, ANSWER, longest,
            self._planner, max_lanes=self._engine.max_lanes,
        )  # fmt: skip
        return planned if planned is not None and planned.votes > 1 else None

    def _voted(self, coded: Coded, prompt: Tokens, planned: Plan, deadline_ns: int) -> "_Work":
        work = _Work(votes=planned.votes)
        close_ns = deadline_ns - round(planned.close_ns)
        begun_ns = self._clock.now_ns()
        logits = self._engine.feed(prompt)
        work.called(0.0, begun_ns, self._clock.now_ns())

        def going(calls: int) -> bool:
            return calls < planned.thought_tokens and self._clock.now_ns() < close_ns

        made = vote(
            self._engine, coded, logits, planned.votes, going, self._config.warmth, self._random
        )
        work.values, work.complete, work.thought_tokens = (
            made.values, made.complete, made.thought_tokens
        )  # fmt: skip
        work.calls += made.calls
        work.took_ns = self._clock.now_ns() - begun_ns
        thought = made.calls - len(ANSWER)
        costs = self._drift.costs
        work.predicted_ns = costs.whole(len(prompt), thought, ANSWER, votes=planned.votes)
        return work

    def prepare(self, scene: Scene) -> None:
        """Nothing: reading a whole prompt takes less time than being told of it."""

    def learn(self, scene: Scene, decision: Decision) -> None:
        """Nothing: what it knows stands in its weights."""

    def cancel(self) -> None:
        self._alarm.ring()

    def close(self) -> None:
        self._engine.close()


@dataclass(slots=True)
class _Work:
    """What one scene came to."""

    values: Tokens = None  # type: ignore[assignment]
    complete: bool = False
    thought_tokens: int = 0
    votes: int = 1
    calls: int = 0
    predicted_ns: float = 0.0
    took_ns: int = 0
    first_ns: int = 0

    def called(self, predicted_ns: float, begun_ns: int, now_ns: int) -> None:
        """One call of the engine is over."""
        self.first_ns = self.first_ns or now_ns
        self.calls += 1
        self.predicted_ns += predicted_ns
        self.took_ns += now_ns - begun_ns

    def figures(self, begun_ns: int, now_ns: int) -> dict[str, float]:
        return {
            "ttft_ms": (self.first_ns - begun_ns) * 1e-6,
            "thought_tokens": self.thought_tokens,
            "votes": self.votes,
            "calls": self.calls,
            "token_ms": (now_ns - begun_ns) * 1e-6 / (self.thought_tokens + len(FIELDS)),
        }


def make(clock: Clock, **options: object) -> Fast:
    """For ``llm_edge.worker``: options are ``FastConfig``'s."""
    return Fast(FastConfig(**options), clock)  # type: ignore[arg-type]
