"""The slow tier: a general model of the user's answers a scene, or is cut off at the deadline.

The order of an answer: the prompt, of which only what is new is read; calls of tools and a thought,
where they are asked for and time is left; the decision, whose words are forced. A budget that a
prompt asks for is not kept, so the thought is closed here: by a sentence that leads to the answer,
which loses less than a bare cut (the note of llama.cpp's reasoning budget, 2026).
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llm_edge.alarm import Alarm
from llm_edge.answerer import Reply
from llm_edge.cache import Case, SolvedScenes
from llm_edge.decision import Decision, Source
from llm_edge.engine import CanceledError, Tokens
from llm_edge.guided import MAX_TOKENS, Written, write
from llm_edge.json_guide import Guide, completed, grammar, schema
from llm_edge.llama_engine import CHUNK, LlamaEngine
from llm_edge.prefix import LivePrefix
from llm_edge.prompt import Parts, parts, solved
from llm_edge.scene import Scene
from llm_edge.tools import Ask, parse_plan, plan_schema, run
from pipeline.clock import Clock
from pipeline.config import Config, option
from pipeline.errors import InputError

TOOLS = (
    "First list calls that help: forecast(id, t) tells where an object is in t seconds, "
    "distance(a, b) how far two are apart{asks}. $1 is the place that the first call found.\n"
    "Calls: "
)
ASKS = ", request_v2x(region) asks others"
THOUGHT = "Thought: "
WRAP_UP = "\nThe time is up, so I decide now.\n"
ANSWER = "Answer: "
ANSWER_TOKENS = 200
"""Room that is kept for the answer; it takes at most half of it."""
LEAST_PROMPT = 256
SPREAD = 1.3
"""An answer is counted as so many times what the last ones took."""


@dataclass(frozen=True)
class SlowConfig(Config):
    """The slow tier's options."""

    model: str = option("", "GGUF file of the model that answers; empty for none.")
    context: int = option(2048, "Tokens that its state holds.", low=512, high=131072)
    prompt_tokens: int = option(1400, "Tokens of a prompt at most.", low=256, high=131072)
    thought_tokens: int = option(
        0, "Tokens of thought at most; 0 answers at once.", low=0, high=131072
    )
    tools: bool = option(False, "Let the model ask for forecasts, distances and V2X first.")
    examples: int = option(64, "Solved scenes kept as examples; 0 for none.", low=0, high=4096)
    valid_ms: float = option(1000.0, "A decision holds for so long.", low=1, high=60_000)
    chunk: int = option(CHUNK, "Tokens read between two looks at what else waits.", low=1, high=512)


class Slow:
    """See ``Answerer``. ask: sends a request for a region to other stations.

    Raises:
        InputError: see ``LlamaEngine``.
    """

    def __init__(self, config: SlowConfig, clock: Clock, ask: Ask | None = None) -> None:
        if not config.model:
            raise InputError("slow: no model; give a GGUF file")
        self._config, self._clock, self._ask = config, clock, ask
        self._engine = LlamaEngine(config.model, config.context, chunk=config.chunk)
        self._prefix = LivePrefix(self._engine)
        self._examples = SolvedScenes(config.examples) if config.examples else None
        self._alarm = Alarm(self._engine)
        self._answer_ns = 0.0
        before, after = self._engine.frame
        self._head = self._engine.tokenize(before, start=True, markup=True)
        self._tail = self._engine.tokenize(after, markup=True)
        reserved = ANSWER_TOKENS + max(config.thought_tokens, MAX_TOKENS if config.tools else 0)
        reserved += len(self._head) + len(self._tail)
        self._budget = min(config.prompt_tokens, config.context - reserved)
        if self._budget < LEAST_PROMPT:
            self._engine.close()
            raise InputError(
                f"slow: a context of {config.context} tokens leaves {max(0, self._budget)} for the "
                "prompt; give a longer one, or less thought"
            )
        # The weights' first reading and the guide's vocabulary take a while, and cannot be cut off.
        Guide(self._engine, grammar(schema(Scene(0, 0))))
        self._engine.feed(np.zeros(1, np.int64))
        self._engine.rewind(0)

    def answer(self, scene: Scene, deadline_ns: int) -> Reply:
        work = _Work(self._clock.now_ns(), deadline_ns)
        if deadline_ns <= work.begun_ns:
            return Reply(None, "the deadline is over")
        with self._alarm.set(deadline_ns - work.begun_ns):
            try:
                decision, why = self._decided(scene, work), ""
            except CanceledError:
                over = self._clock.now_ns() >= deadline_ns
                decision, why = None, "cut off at the deadline" if over else "canceled"
            except InputError as error:
                decision, why = None, str(error)
        work.figures["took_ms"] = (self._clock.now_ns() - work.begun_ns) * 1e-6
        return Reply(decision, why, work.figures)

    def _decided(self, scene: Scene, work: "_Work") -> Decision:
        prompt = self._prompt(scene)
        tokens = np.concatenate([prompt.head, prompt.fast, self._tail])
        if self._config.tools and len(scene):
            results = self._called(scene, tokens, work)
            tokens = np.concatenate([prompt.head, self._prompt(scene, results).fast, self._tail])
        work.figures |= {"prompt_tokens": len(tokens), "standing_tokens": len(prompt.head)}
        if self._config.thought_tokens:
            tokens = self._thought(tokens, work)
        made = self._written(scene, tokens, work)
        work.figures |= {"answer_tokens": len(made.tokens), "forwards": made.forwards}
        text = self._engine.text(made.tokens)
        until_ns = scene.at_ns + round(self._config.valid_ms * 1e6)
        return completed(text, scene, until_ns, Source.GGUF)

    def _written(self, scene: Scene, tokens: Tokens, work: "_Work") -> Written:
        """The answer; what it took is remembered, twice that where it was cut off."""
        begun_ns, whole = self._clock.now_ns(), False
        try:
            guide = Guide(self._engine, grammar(schema(scene)))
            lead = self._engine.tokenize(ANSWER)
            tokens = np.concatenate([tokens, lead])
            made = write(self._prefix, guide, tokens, on_read=lambda: self._first(work))
            whole = True
        finally:
            took_ns = (self._clock.now_ns() - begun_ns) * (1 if whole else 2)
            self._answer_ns = max(took_ns, 0.9 * self._answer_ns)
        return made

    def _first(self, work: "_Work") -> None:
        """The prompt is read: a first token is there."""
        work.figures.setdefault("ttft_ms", (self._clock.now_ns() - work.begun_ns) * 1e-6)

    def _prompt(self, scene: Scene, results: Sequence[str] = ()) -> "_Prompt":
        near = self._examples.nearest(scene) if self._examples else None
        made = parts(
            scene, self._budget, lambda text: len(self._engine.tokenize(text)),
            example=solved(near[0].scene, near[0].decision) if near else "", results=results,
        )  # fmt: skip
        return _Prompt(self._standing(made), self._engine.tokenize(made.fast))

    def _standing(self, made: Parts) -> Tokens:
        texts = (self._engine.tokenize(t) for t in (made.static, made.slow))
        return np.concatenate([self._head, *texts])

    def _called(self, scene: Scene, tokens: Tokens, work: "_Work") -> tuple[str, ...]:
        """Results of the calls that the model planned; none where its plan is none."""
        guide = Guide(self._engine, grammar(plan_schema(scene, asks=self._ask is not None)))
        told = TOOLS.format(asks=ASKS if self._ask is not None else "")
        made = write(self._prefix, guide, np.concatenate([tokens, self._engine.tokenize(told)]))
        try:
            calls = parse_plan(self._engine.text(made.tokens), scene)
        except InputError:
            work.figures["bad_plans"] = 1
            return ()
        work.figures["calls"] = len(calls)
        left_ns = work.deadline_ns - self._clock.now_ns() - SPREAD * self._answer_ns
        return run(calls, scene, left_ns * 1e-9, self._ask)

    def _thought(self, tokens: Tokens, work: "_Work") -> Tokens:
        """The prompt with a thought that is over by the time that the answer must begin."""
        left_ns = work.deadline_ns - self._clock.now_ns()
        close_ns = work.deadline_ns - (SPREAD * self._answer_ns or left_ns / 2)
        tokens = np.concatenate([tokens, self._engine.tokenize(THOUGHT)])
        logits = self._prefix.resume(tokens)
        self._first(work)
        thought: list[int] = []
        ended = False
        while len(thought) < self._config.thought_tokens and self._clock.now_ns() < close_ns:
            token = int(np.argmax(logits))
            if ended := self._engine.ends(token):
                break
            thought.append(token)
            logits = self._prefix.feed(np.array([token]))
        work.figures |= {"thought_tokens": len(thought), "thought_cut": float(not ended)}
        close = self._engine.tokenize("\n" if ended else WRAP_UP)
        return np.concatenate([tokens, np.array(thought, np.int64), close])

    def prepare(self, scene: Scene) -> None:
        """Read what the next prompts will begin with."""
        with self._alarm.set(None), contextlib.suppress(CanceledError, InputError):
            self._prefix.resume(self._standing(parts(scene, self._budget)))

    def learn(self, scene: Scene, decision: Decision) -> None:
        if self._examples is not None:
            self._examples.add(Case(scene, decision))

    def cancel(self) -> None:
        self._alarm.ring()

    def close(self) -> None:
        self._engine.close()


@dataclass(frozen=True, slots=True)
class _Prompt:
    head: Tokens
    fast: Tokens


@dataclass(slots=True)
class _Work:
    begun_ns: int
    deadline_ns: int
    figures: dict[str, float] = field(default_factory=dict)


def make(clock: Clock, ask: Ask | None = None, **options: Any) -> Slow:
    """For ``llm_edge.worker``: options are ``SlowConfig``'s."""
    return Slow(SlowConfig(**options), clock, ask)
