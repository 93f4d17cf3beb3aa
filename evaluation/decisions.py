"""How often a decision is right and there in time: against what the look-ahead decides.

Scenes are drawn anew; nothing was learned from them, and a part is of kinds that nothing was
learned from. Right is a decision whose action, target, direction, speed, risk and reason are all
those of the look-ahead.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from llm_edge import scenarios
from llm_edge.coding import Coded, coded_scene
from llm_edge.decision import Decision, Source, parse
from llm_edge.grammar import decision_of
from llm_edge.lookahead import look_ahead
from llm_edge.reasoner import Answer
from llm_edge.scene import Scene
from llm_edge.thought import Answers, answers_of
from pipeline.box import FloatArray
from pipeline.errors import InputError

Decide = Callable[[Scene, int], Answer]
"""A scene and its deadline → an answer."""


def by_look_ahead(scene: Scene, source: Source = Source.THOUGHT) -> Decision:
    """What the look-ahead decides, as if it were the decoder's or ``source``'s."""
    coded = coded_scene(scene)
    answers = answers_of(coded, look_ahead(coded))
    return decision_of(answers, coded, scene, scene.at_ns + 10**9, source)


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """Scenes and what the look-ahead decides on each."""

    scenes: Sequence[Scene]
    wanted: Sequence[Decision]


def examination(seed: int, count: int, kinds: tuple[str, ...]) -> Examination:
    """Scenes of a seed of its own.

    seed: other than the training's; 10⁶ is added, which no part of a training reaches.
    """
    rng = np.random.default_rng([10**6 + seed, 1])
    scenes = scenarios.scenes_of(scenarios.draw(rng, count, kinds))
    each = [coded_scene(scene) for scene in scenes]
    coded = Coded(*(np.concatenate([getattr(c, f.name) for c in each]) for f in fields(Coded)))
    answers = answers_of(coded, look_ahead(coded))
    wanted = []
    for k, (scene, own) in enumerate(zip(scenes, each, strict=True)):
        one = Answers(*(getattr(answers, f.name)[k : k + 1] for f in fields(Answers)))
        wanted.append(decision_of(one, own, scene, 0, Source.THOUGHT))
    return Examination(scenes, wanted)


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of ``count`` scenes. valid: the JSON text is read back as a decision on its scene.
    in_time: handed over by the deadline. right, action: as the look-ahead's, whole and its action
    alone, among all. goodput: right and in time and not the policy's. fallback: the policy's.
    p50_ms, p99_ms: time taken. tokens: mean of a thought."""

    count: int
    valid: float
    in_time: float
    right: float
    action: float
    goodput: float
    fallback: float
    p50_ms: float
    p99_ms: float
    tokens: float


def same(a: Decision, b: Decision) -> bool:
    """Whether two decisions say the same."""
    return (a.action, a.target, a.direction, a.risk, a.reason) == (
        b.action, b.target, b.direction, b.risk, b.reason,
    ) and abs(a.speed_mps - b.speed_mps) < 1e-6  # fmt: skip


def examine(
    decide: Decide, paper: Examination, deadline_ns: int, now_ns: Callable[[], int],
    progress: Callable[[Iterable[Scene]], Iterable[Scene]] = iter,
) -> Score:  # fmt: skip
    """One after the other, each with ``deadline_ns`` from when it is handed over.

    now_ns: of the clock that the deadline is told on.
    """
    rows, took_ms = np.zeros((len(paper.scenes), 7)), np.zeros(len(paper.scenes))
    for k, scene in enumerate(progress(paper.scenes)):
        begun_ns = now_ns()
        answer = decide(scene, begun_ns + deadline_ns)
        took_ns = now_ns() - begun_ns
        made, wanted = answer.decision, paper.wanted[k]
        by_policy = made.source is Source.POLICY
        right = same(made, wanted)
        in_time = took_ns <= deadline_ns
        rows[k] = (
            _valid(made, scene), in_time, right, made.action is wanted.action,
            right and in_time and not by_policy, by_policy, answer.thought_tokens,
        )  # fmt: skip
        took_ms[k] = took_ns * 1e-6
    return _score(rows, took_ms)


def _score(rows: FloatArray, took_ms: FloatArray) -> Score:
    valid, in_time, right, action, goodput, fallback, tokens = rows.mean(axis=0).tolist()
    p50, p99 = np.quantile(took_ms, [0.5, 0.99]).tolist()
    return Score(len(rows), valid, in_time, right, action, goodput, fallback, p50, p99, tokens)


def _valid(decision: Decision, scene: Scene) -> bool:
    try:
        parse(decision.to_json(), scene)
    except InputError:
        return False
    return True
