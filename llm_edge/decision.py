"""What comes out: one decision that a controller can act on, checked whoever made it."""

import json
import math
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from llm_edge.scene import Scene
from pipeline.errors import InputError, first_line

MAX_TEXT = 4096


class Word(str, Enum):
    """A word that stands in the JSON as it is."""

    def __str__(self) -> str:
        return str(self.value)


class Action(Word):
    """What to do."""

    PROCEED = "proceed"
    SLOW = "slow"
    STOP = "stop"
    EVADE = "evade"
    """Move aside by one corridor, to ``direction``."""
    FOLLOW = "follow"
    SEARCH = "search"
    """Look for the lost target, towards ``direction``."""
    HOLD = "hold"


class Direction(Word):
    """To which side."""

    NONE = "none"
    LEFT = "left"
    RIGHT = "right"


ASIDE = (Action.EVADE, Action.FOLLOW, Action.SEARCH)
"""Actions that may have a direction."""


class Risk(Word):
    """How soon what was wished for would meet something: none, over 3 s, over 1.5 s, sooner."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Reason(Word):
    """Why: the mission's own reason, or what stands against it."""

    CLEAR = "clear"
    TARGET = "target"
    TARGET_LOST = "target_lost"
    AHEAD = "ahead"
    CROSSING = "crossing"
    ONCOMING = "oncoming"
    BEHIND = "behind"
    OCCLUDED = "occluded"
    """Not seen, told of by others."""
    BLIND_SPOT = "blind_spot"
    NO_WAY = "no_way"
    """Nothing is safe: brake."""


class Source(Word):
    """Who made it."""

    POLICY = "policy"
    """The rule, which answers when nothing better is there in time."""
    FAST = "fast"
    """The shipped decoder without a thought, or with one that was cut."""
    THOUGHT = "thought"
    """The shipped decoder, its thought complete."""
    GGUF = "gguf"
    REMOTE = "remote"
    CACHE = "cache"
    """The decoder's answer to the same scene of a moment ago."""


@dataclass(frozen=True, slots=True)
class Decision:
    """target: id of the object that it is about, or None. speed_mps: to go at, along the way.
    valid_until_ns: when a controller shall no longer act on it."""

    action: Action
    target: int | None
    direction: Direction
    speed_mps: float
    risk: Risk
    reason: Reason
    valid_until_ns: int
    source: Source

    def to_json(self) -> str:
        """One line of JSON, the fields in this order; the speed in whole mm/s."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        # Down, for a limit of 13.8889 is one.
        values["speed_mps"] = math.floor(self.speed_mps * 1e3 + 1e-6) / 1e3
        return json.dumps(
            {k: v.value if isinstance(v, Word) else v for k, v in values.items()},
            separators=(",", ":"),
        )


_WORDS: dict[str, type[Word]] = {
    "action": Action, "direction": Direction, "risk": Risk, "reason": Reason, "source": Source,
}  # fmt: skip


def parse(text: str, scene: Scene) -> Decision:
    """A decision from JSON text, held against the scene that it is about.

    Raises:
        InputError: no JSON, a field too many or missing, a word that is not known, a target that
            is not in the scene, a speed beyond the limit.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"decision: {len(text)} characters; a decision has at most {MAX_TEXT}")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"decision: no JSON ({first_line(error)})") from error
    names = [f.name for f in fields(Decision)]
    if not isinstance(given, dict) or sorted(given) != sorted(names):
        raise InputError(f"decision: give an object with exactly {', '.join(names)}")
    words: dict[str, Any] = {}
    for name, kind in _WORDS.items():
        known = [str(m) for m in kind]
        if given[name] not in known:
            raise InputError(f"decision: {name} is none of {', '.join(known)}")
        words[name] = kind(given[name])
    if type(given["valid_until_ns"]) is not int:
        raise InputError("decision: valid_until_ns is no whole number")
    speed = given["speed_mps"]
    if isinstance(speed, bool) or not isinstance(speed, (int, float)) or abs(speed) > 1e9:
        raise InputError("decision: speed_mps is no number of a possible size")
    made = Decision(
        target=given["target"], speed_mps=speed,
        valid_until_ns=given["valid_until_ns"], **words,
    )  # fmt: skip
    check(made, scene)
    return made


def check(decision: Decision, scene: Scene) -> None:
    """
    Raises:
        InputError: the target is not in the scene, the speed beyond its limit, or the direction
            does not fit the action.
    """
    target = decision.target
    if target is not None and (
        type(target) is not int or target < 0 or target not in {*scene.ids.tolist(), scene.target}
    ):
        raise InputError("decision: the target is not in the scene")
    speed, limit = decision.speed_mps, scene.platform.limit_mps
    if not math.isfinite(speed) or not 0 <= speed <= limit + 1e-6:
        raise InputError(f"decision: speed_mps is not within 0 to the limit, {limit:g}")
    if decision.action in (Action.STOP, Action.HOLD) and speed > 0:
        raise InputError(f"decision: {decision.action} has a speed above 0")
    if decision.action is Action.EVADE and decision.direction is Direction.NONE:
        raise InputError("decision: evade has no direction")
    if decision.direction is not Direction.NONE and decision.action not in ASIDE:
        raise InputError(f"decision: {decision.action} has a direction")
