"""What the decoder learns to write: a thought with running tallies, then the answer.

The thought names the wish, then goes through the slots. After each it says what is left: which
maneuvers are still clear, and who meets the wish first; ``same`` where the object changed nothing.
At last it names the best of what is left. So wherever a thought is cut, its last tally is usable.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_edge import coding, words
from llm_edge.coding import Coded, Ints
from llm_edge.decision import Action, Direction, Reason, Risk
from llm_edge.lookahead import LEVEL_OF, MANEUVERS, SIDE_OF, Outcome, shut_of
from llm_edge.scene import Mission
from llm_edge.words import FIRST, IDS

_RISK_OF = [list(Risk).index(r) for r in
            (Risk.NONE, Risk.HIGH, Risk.MEDIUM, Risk.MEDIUM, Risk.LOW, Risk.LOW)]  # fmt: skip
_HIGH = list(Risk).index(Risk.HIGH)
_ACTIONS = [list(Action).index(a) for a in (
    Action.FOLLOW, Action.SEARCH, Action.HOLD, Action.EVADE, Action.STOP, Action.SLOW)]  # fmt: skip
_PROCEED = list(Action).index(Action.PROCEED)
_REASONS = [list(Reason).index(r) for r in (
    Reason.NO_WAY, Reason.TARGET, Reason.TARGET_LOST, Reason.CLEAR, Reason.BLIND_SPOT,
    Reason.OCCLUDED, Reason.CROSSING, Reason.BEHIND, Reason.ONCOMING)]  # fmt: skip
_AHEAD = list(Reason).index(Reason.AHEAD)
_CROSSES, _COMES = 0.25, -2
_STRAIGHT = np.array([8, 4, 2, 1, 0, 0, 0, 0, 0, 0])
_ASIDE = np.array([0, 0, 0, 0, 32, 16, 8, 4, 2, 1])


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """B decisions in the decoder's terms. target: (B,) slot from 1, 0 for none. speed: (B,)
    sixteenths. action, direction, risk, reason: (B,) places in their enumerations."""

    action: Ints
    target: Ints
    direction: Ints
    speed: Ints
    risk: Ints
    reason: Ints


def answers_of(scenes: Coded, outcome: Outcome) -> Answers:
    """The look-ahead's decision."""
    slot, seconds = _threat(outcome.meets)[:2]
    return answers_to(
        scenes, outcome.speeds, outcome.wish, outcome.best, outcome.no_way, slot[:, -1],
        seconds[:, -1],
    )  # fmt: skip


def answers_to(
    scenes: Coded,
    speeds: Ints,
    wish: Ints,
    best: Ints,
    no_way: npt.NDArray[np.bool_],
    slot: Ints,
    seconds: Ints,
) -> Answers:
    """What follows from a thought, all (B,). speeds: (B, 4) of the levels. slot, seconds: who meets
    the wish first, from 1, and until when; 0 where nobody does. One scene serves all B as well."""
    granted = best == wish
    level, side = LEVEL_OF[best], SIDE_OF[best]
    follows = scenes.mission == Mission.FOLLOW
    tracked = scenes.followed
    lost = follows & (scenes.state >= 3)
    stops = (level == 3) | no_way
    action = _first(
        [granted & tracked, granted & lost, granted & (scenes.mission == Mission.HOLD), side > 0,
         stops, level == 2], _ACTIONS, _PROCEED,
    )  # fmt: skip
    at = np.maximum(slot - 1, 0)[:, None]

    def of(values: Ints) -> Ints:
        shape = (len(at), values.shape[1])
        return np.asarray(np.take_along_axis(np.broadcast_to(values, shape), at, axis=1)[:, 0])

    kind = of(scenes.kind)
    blind = kind == coding.BLIND
    reason = _first(
        [no_way, granted & tracked, granted & lost, granted, blind, of(scenes.told) > 0,
         np.abs(coding.DRIFT[of(scenes.drift)]) >= _CROSSES, coding.GAP_S[of(scenes.gap)] < 0,
         coding.ALONG[of(scenes.along)] <= _COMES],
        _REASONS, _AHEAD,
    )  # fmt: skip
    target = np.where(granted, np.where(tracked, 1, 0), np.where(blind, 0, slot))
    risk = np.where(granted, 0, np.take(_RISK_OF, seconds))
    risk = np.where(no_way, _HIGH, risk)
    of_levels = np.broadcast_to(speeds, (len(level), speeds.shape[1]))
    speed = np.take_along_axis(of_levels, level[:, None], axis=1)[:, 0]
    return Answers(action, target, side, speed, risk, reason)


def _first(conditions: Sequence[npt.NDArray[np.bool_]], values: list[int], other: int) -> Ints:
    """The value of the first condition that holds; for few rows faster than ``numpy.select``."""
    made: Ints = np.full(conditions[0].shape, other)
    for condition, value in zip(reversed(conditions), reversed(values), strict=True):
        made[condition] = value
    return made


def answer_tokens(answers: Answers) -> Ints:
    """(B, ``MAX_ANSWER``) ids."""
    made = np.zeros((len(answers.action), words.MAX_ANSWER), np.int64)
    for k, name in enumerate(words.FIELDS):
        kind = "rung" if name == "speed" else name
        made[:, 2 * k] = IDS[name]
        made[:, 2 * k + 1] = FIRST[kind] + getattr(answers, name)
    made[:, -1] = IDS[words.END]
    return made


def thought_tokens(scenes: Coded, outcome: Outcome) -> Ints:
    """(B, ``MAX_THOUGHT``) ids; −1 where nothing is said."""
    b = len(scenes)
    start = shut_of(scenes)[:, None]
    taken = (np.logical_or.accumulate(outcome.blocks, axis=1)) | start
    before = np.concatenate([start, taken[:, :-1]], axis=1)
    slot, seconds, news = _threat(outcome.meets)
    changed = (taken != before).any(axis=2) | news
    clear = ~taken
    made = np.full((b, coding.SLOTS, 4), -1)
    made[..., 0] = FIRST["slot"] + np.arange(coding.SLOTS)
    made[..., 1] = np.where(changed, FIRST["straight"] + clear @ _STRAIGHT, IDS["same"])
    made[..., 2] = np.where(changed, FIRST["aside"] + clear @ _ASIDE, -1)
    meets = np.where(slot > 0, (slot - 1) * 5 + seconds, 0)
    made[..., 3] = np.where(changed, FIRST["meets"] + meets, -1)
    made[~scenes.taken] = -1
    wish = FIRST["wish"] + outcome.wish[:, None]
    best = FIRST["best"] + outcome.best[:, None]
    return np.concatenate([wish, made.reshape(b, -1), best], axis=1)


def _threat(meets: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Who meets the wish first, up to each slot (B, 8): slot from 1 or 0, seconds, whether new."""
    never = 99
    when = np.where(meets > 0, meets, never)
    least = np.minimum.accumulate(when, axis=1)
    before = np.concatenate([np.full_like(least[:, :1], never), least[:, :-1]], axis=1)
    news = when < before
    slot = np.maximum.accumulate(np.where(news, np.arange(1, coding.SLOTS + 1), 0), axis=1)
    return slot, np.where(least == never, 0, least), news


assert len(MANEUVERS) == len(_STRAIGHT) and len(Direction) == 3
