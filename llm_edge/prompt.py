"""A scene as text for models that were trained on text: bounded, always the same, words of our own.

What never changes comes first (task, answer, platform), then what changes slowly (mission, link),
then what always changes (the ego, the objects), so that what an engine has read of the last prompt
need not be read again. Objects stand in the order in which they begin to matter; where the budget
ends, the last ones are left out and counted. Only numbers and names of our enums enter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from llm_edge.decision import Action, Decision, Direction, Reason, Risk
from llm_edge.scene import Scene
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

HORIZON_S = 8.0
STEP_S = 0.25
NEAR_M = 1.0
"""An object matters from when it may come this close."""
Count = Callable[[str], int]


def guessed(text: str) -> int:
    """Tokens of a text, for a vocabulary that is not known: one for each two characters, which is
    more than general vocabularies take for words, and about what they take for numbers."""
    return (len(text) + 1) // 2


@dataclass(frozen=True, slots=True)
class Parts:
    """A prompt: ``static + slow + fast``. objects: rows of the scene that are told of, in order."""

    static: str
    slow: str
    fast: str
    objects: tuple[int, ...]


def _words(kind: type[Enum]) -> str:
    return " | ".join(str(m) for m in kind)


def matters_s(scene: Scene) -> tuple[FloatArray, FloatArray]:
    """Seconds until each object may come near the ego, (N,), ∞ where not within the horizon, and
    the least gap in meters, (N,). The ego keeps its speed or takes the mission's."""
    times = np.arange(0.0, HORIZON_S + STEP_S / 2, STEP_S)
    away = np.zeros((2, len(times), 1, 2))
    away[..., 0] = np.array([scene.speed_mps, scene.cruise_mps])[:, None, None] * times[:, None]
    places = scene.positions + times[:, None, None] * scene.velocities - away
    half = (scene.sizes + np.array(scene.platform.size_m)) / 2
    gaps = np.maximum(np.abs(places) - half, 0)
    gap = np.maximum(np.hypot(gaps[..., 0], gaps[..., 1]) - 2 * scene.sigmas, 0).min(0)
    near = gap <= NEAR_M
    first = np.where(near.any(0), times[near.argmax(0)], np.inf)
    return first, gap.min(0)


def order(scene: Scene) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Rows of a scene, (N,), the mission's target first, then by how soon and how closely they
    matter; and the seconds, (N,), in that order."""
    soon, gap = matters_s(scene)
    rows = np.lexsort((scene.ids, gap, soon, scene.ids != scene.target))
    return rows, soon[rows]


def parts(
    scene: Scene,
    budget: int = 1000,
    count: Count = guessed,
    *,
    example: str = "",
    results: Sequence[str] = (),
) -> Parts:
    """The prompt of a scene.

    budget: tokens that it may take at most, as ``count`` counts them. example: text of
    ``solved``. results: lines of ``tools.run``.

    What is dropped when it is too long: the example, then blind spots from the farthest on, then
    objects from the last one on. The target stays.

    Raises:
        InputError: the budget does not even hold the target.
    """
    static, slow = _static(scene), _slow(scene)
    rows, soon = order(scene)
    lines = [_object(scene, row, s) for row, s in zip(rows, soon, strict=True)]
    blind = sorted(scene.blind.tolist(), key=lambda p: (np.hypot(*p), p))
    spots = [f"blind spot x={_n(x)} y={_n(y)}" for x, y in blind]
    head = [_ego(scene), *results]
    must = 1 if len(rows) and scene.ids[rows[0]] == scene.target else 0

    def made(objects: int, holes: int, shown: str) -> str:
        left = [f"{len(lines) - objects} more objects"] if objects < len(lines) else []
        left += [f"{len(spots) - holes} more blind spots"] if holes < len(spots) else []
        tail = [f"left out, less urgent: {', '.join(left)}"] if left else []
        body = ["Scene:", *head, *lines[:objects], *spots[:holes], *tail]
        return shown + "\n".join(body) + "\n"

    def fits(text: str) -> bool:
        return count(static + slow + text) <= budget

    objects, holes = len(lines), len(spots)
    text = made(objects, holes, example)
    if example and not fits(text):
        text = made(objects, holes, example := "")
    if not fits(text):
        holes = _most(0, holes, lambda k: fits(made(objects, k, example)))
        text = made(objects, holes, example)
    if not fits(text):
        objects = _most(must, objects, lambda k: fits(made(k, holes, example)))
        text = made(objects, holes, example)
    if not fits(text):
        raise InputError(
            f"prompt: {budget} tokens; the task, the ego and the target alone take "
            f"{count(static + slow + text)}"
        )
    return Parts(static, slow, text, tuple(int(r) for r in rows[:objects]))


def solved(scene: Scene, decision: Decision, objects: int = 4) -> str:
    """A scene of the past and its decision, as the example of another prompt."""
    rows, soon = (values[:objects] for values in order(scene))
    lines = [_ego(scene), *(_object(scene, row, s) for row, s in zip(rows, soon, strict=True))]
    target = "null" if decision.target is None else decision.target
    answer = (
        f'{{"action":"{decision.action}","target":{target},"direction":"{decision.direction}",'
        f'"speed_mps":{_n(decision.speed_mps)},"risk":"{decision.risk}",'
        f'"reason":"{decision.reason}"}}'
    )
    return "\n".join(["Example:", *lines, f"Answer: {answer}", ""])


def _most(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest count within low to high that fits, low where none does."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _static(scene: Scene) -> str:
    p = scene.platform
    return (
        "You decide what a vehicle does next. x is meters ahead of it, y meters to its left; vx "
        "and vy are meters per second. sd is the uncertainty of a place in meters. told: known "
        "from others only. near: seconds until it may come close.\n"
        "Answer with one JSON object: "
        f'{{"action":{_words(Action)},"target":id of an object or null,"direction":'
        f'{_words(Direction)},"speed_mps":number,"risk":{_words(Risk)},"reason":{_words(Reason)}}}\n'
        "evade: move aside by one corridor. Never hit anything; then do the mission.\n"
        f"Vehicle: {_n(p.size_m[0])} x {_n(p.size_m[1])} m, at most {_n(p.limit_mps)} m/s, brakes "
        f"{_n(p.brake_mps2)} m/s2, moves aside by {_n(p.corridor_m)} m in {_n(p.shift_s)} s\n"
    )


def _slow(scene: Scene) -> str:
    target = "none" if scene.target < 0 else str(scene.target)
    return (
        f"Mission: {scene.mission.name.lower()} at {_n(scene.cruise_mps)} m/s, target {target}, "
        f"link {scene.link.name.lower()}\n"
    )


def _ego(scene: Scene) -> str:
    side = {1: "left", 0: "ahead", -1: "right"}[scene.target_side]
    target = scene.target_state.name.lower()
    free = {True: "free", False: "closed"}
    return (
        f"ego {_n(scene.speed_mps)} m/s, left {free[bool(scene.open_left)]}, right "
        f"{free[bool(scene.open_right)]}, target {target}"
        + (f" last seen {side}" if target == "lost" else "")
    )


def _object(scene: Scene, row: int, soon: float) -> str:
    (x, y), (vx, vy), size = scene.positions[row], scene.velocities[row], scene.sizes[row]
    return (
        f"{int(scene.ids[row])} {ObjectClass(scene.classes[row]).name.lower()} x={_n(x)} y={_n(y)} "
        f"vx={_n(vx)} vy={_n(vy)} size={_n(size[0])}x{_n(size[1])} sd={_n(scene.sigmas[row])}"
        + (" told" if scene.told[row] else "")
        + (f" near={_n(soon)}" if np.isfinite(soon) else "")
    )


def _n(value: float) -> str:
    """With one decimal at most; no minus before a zero."""
    made = f"{value:.1f}".removesuffix(".0")
    return "0" if made == "-0" else made
