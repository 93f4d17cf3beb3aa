"""The fast tier: the shipped decoder, which thinks as long as the deadline lets it, then answers.

A call of the engine reads what the grammar forces together with what was chosen before it. The
planner says how many calls a thought may take so that the answer is in time in 99 of 100 cases; the
clock closes it earlier where the machine is slower than that.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llm_edge import words
from llm_edge.alarm import Alarm
from llm_edge.answerer import Reply
from llm_edge.cache import DecisionCache
from llm_edge.calibrate import ThreadClock, known_costs
from llm_edge.coding import Coded, coded_scene
from llm_edge.cost import Drift
from llm_edge.decision import Decision, Source
from llm_edge.engine import CanceledError, Tokens, softmax
from llm_edge.grammar import AnswerGrammar, ThoughtGrammar, answers_from, decision_of
from llm_edge.ort_engine import OrtEngine
from llm_edge.planner import Plan, PlannerConfig, plan
from llm_edge.scene import Scene
from llm_edge.words import FIELDS, IDS
from pipeline.clock import Clock
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.resources import share_path

ANSWER = (3, *[2] * (len(FIELDS) - 1))
"""Tokens of the answer's calls: what closes the thought and each field's name with the value before
it."""
_DONE, _ACTION = IDS[words.DONE], IDS[FIELDS[0]]


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

    def answer(self, scene: Scene, deadline_ns: int) -> Reply:
        begun_ns = self._clock.now_ns()
        if deadline_ns <= begun_ns:
            return Reply(None, "the deadline is over")
        coded = coded_scene(scene)
        row = words.prompt_tokens(coded)[0]
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
                work = self._worked(coded, prompt, deadline_ns)
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

    def _worked(self, coded: Coded, prompt: Tokens, deadline_ns: int) -> "_Work | None":
        costs = self._drift.costs
        begun_ns = self._clock.now_ns()
        longest = 2 + 3 * int(coded.count[0]) if self._config.thought else 0
        planned = plan(
            costs, deadline_ns - begun_ns, len(prompt), ANSWER, longest, self._planner,
            max_lanes=self._engine.max_lanes,
        )  # fmt: skip
        if planned is None:
            return None
        lane = _Lane(coded)
        # All of it in one call each time: in 8 bits the tokens of a call share a scale, so what was
        # read in other pieces would let the last scene speak into this one's decision.
        self._engine.rewind(0)
        work = _Work(self._engine.feed(prompt), self._clock.now_ns())
        close_ns = deadline_ns - round(planned.close_ns)
        if planned.votes > 1:
            self._vote(coded, planned, close_ns, work)
        else:
            self._think(lane, planned.thought_tokens, close_ns, work)
            work.values = self._answered(lane, AnswerGrammar(coded), work)
            work.complete = lane.complete
        if self._config.drift:
            predicted = costs.whole(len(prompt), work.thought_calls, ANSWER, votes=planned.votes)
            self._drift.observe(predicted, self._clock.now_ns() - begun_ns)
        return work

    def _think(self, lane: "_Lane", most: int, close_ns: int, work: "_Work") -> None:
        """Think until the thought is complete, takes ``most`` calls, or it is time to close it."""
        while most > work.thought_calls and self._clock.now_ns() < close_ns:
            lane.choose(work.logits)
            if lane.complete:
                return
            work.logits = self._engine.feed(np.array(lane.taken(), np.int64))
            work.thought_calls += 1

    def _answered(self, lane: "_Lane", grammar: AnswerGrammar, work: "_Work") -> Tokens:
        """The ids of the six values; each call closes a value and names the next field."""
        values = np.zeros(len(FIELDS), np.int64)
        waiting = [*lane.taken(), _DONE]
        for k, field in enumerate(FIELDS):
            work.logits = self._engine.feed(np.array([*waiting, IDS[field]], np.int64))
            allowed = grammar.allowed(field, int(values[0]))
            values[k] = allowed[int(work.logits[allowed].argmax())]
            waiting = [int(values[k])]
        return values

    def _vote(self, coded: Coded, planned: Plan, close_ns: int, work: "_Work") -> None:
        """Several thoughts side by side; what most of them decide, else the first one's."""
        n, engine = planned.votes, self._engine
        engine.fork(n)
        lanes = [_Lane(coded) for _ in range(n)]
        logits = np.repeat(work.logits[None], n, axis=0)
        while work.thought_calls < planned.thought_tokens and self._clock.now_ns() < close_ns:
            for k, lane in enumerate(lanes):
                if not lane.complete:
                    lane.choose(logits[k], self._config.warmth if k else 0.0, self._random)
            if all(lane.complete for lane in lanes):
                break
            logits = engine.feed_lanes(*_padded([[] if v.complete else v.taken() for v in lanes]))
            work.thought_calls += 1
        grammar = AnswerGrammar(coded)
        values = np.zeros((n, len(FIELDS)), np.int64)
        waiting = [[*lane.taken(), _DONE] for lane in lanes]
        for k, field in enumerate(FIELDS):
            logits = engine.feed_lanes(*_padded([[*tokens, IDS[field]] for tokens in waiting]))
            for row in range(n):
                allowed = grammar.allowed(field, int(values[row, 0]))
                values[row, k] = allowed[int(logits[row, allowed].argmax())]
            waiting = [[int(v)] for v in values[:, k]]
        same = (values[:, None] == values[None]).all(axis=2).sum(axis=1)
        work.values = values[int(same.argmax())]
        work.complete = all(lane.complete for lane in lanes)
        work.votes = n

    def prepare(self, scene: Scene) -> None:
        """Nothing: reading a whole prompt takes less time than being told of it."""

    def learn(self, scene: Scene, decision: Decision) -> None:
        """Nothing: what it knows stands in its weights."""

    def cancel(self) -> None:
        self._alarm.ring()

    def close(self) -> None:
        self._engine.close()


class _Lane:
    """One thought as it grows; what was chosen waits for the call that reads it."""

    def __init__(self, coded: Coded) -> None:
        self._grammar = ThoughtGrammar(coded)
        self._waiting: list[int] = []
        self.complete = False

    def choose(
        self,
        logits: npt.NDArray[np.float32],
        warmth: float = 0.0,
        random: np.random.Generator | None = None,
    ) -> None:
        """Take the likeliest of what is allowed, or draw one, and what is forced after it."""
        low, high = self._grammar.allowed()
        if warmth and random is not None:
            chances = softmax(logits[low:high] / warmth)
            token = low + int(random.choice(high - low, p=chances))
        else:
            token = low + int(logits[low:high].argmax())
        self._take(token)
        while not self.complete and (span := self._grammar.allowed())[1] - span[0] == 1:
            self._take(span[0])

    def _take(self, token: int) -> None:
        self.complete = self._grammar.take(token)
        if not self.complete:  # what closes it is read with the answer
            self._waiting.append(token)

    def taken(self) -> list[int]:
        """What has to be read; it is then."""
        waiting, self._waiting = self._waiting, []
        return waiting


@dataclass(slots=True)
class _Work:
    """What one scene came to."""

    logits: npt.NDArray[np.float32]
    first_ns: int
    thought_calls: int = 0
    votes: int = 1
    complete: bool = False
    values: Tokens = None  # type: ignore[assignment]

    def figures(self, begun_ns: int, now_ns: int) -> dict[str, float]:
        return {
            "ttft_ms": (self.first_ns - begun_ns) * 1e-6,
            "thought_calls": self.thought_calls,
            "votes": self.votes,
            "forwards": 1 + self.thought_calls + len(ANSWER),
            "call_ms": (now_ns - self.first_ns) * 1e-6 / (self.thought_calls + len(ANSWER)),
        }


def _padded(rows: list[list[int]]) -> tuple[Tokens, npt.NDArray[np.int64]]:
    """(n, K) tokens, the shorter ones with 0 behind, and how many are real."""
    counts = np.array([len(row) for row in rows])
    made = np.zeros((len(rows), max(1, counts.max())), np.int64)
    for row, tokens in zip(made, rows, strict=True):
        row[: len(tokens)] = tokens
    return made, counts


def make(clock: Clock, **options: object) -> Fast:
    """For ``llm_edge.worker``: options are ``FastConfig``'s."""
    return Fast(FastConfig(**options), clock)  # type: ignore[arg-type]
