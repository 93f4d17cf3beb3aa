"""Questions that a model may ask before it decides: planned as a graph, run together.

After LLMCompiler (Kim et al., 2024): the model writes all calls at once, one may use another's
result by its number ("$1"), and what does not wait for anything runs at the same time. What comes
back are numbers of our own.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from llm_edge.scene import Scene
from pipeline.box import FloatArray
from pipeline.errors import InputError, first_line

MAX_CALLS = 8
MAX_T_S = 10.0
MAX_HANGING = 16
_MAX_TEXT = 4096
_LEADS = [0.5 * k for k in range(1, 21)]
_hanging = threading.Semaphore(MAX_HANGING)


class Region(str, Enum):
    """Where others are asked to tell of."""

    AHEAD = "ahead"
    LEFT = "left"
    RIGHT = "right"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Call:
    """tool: forecast (place, t_s), distance (place, other) or request_v2x (region). place, other:
    an object's id, or "$k" for the place that call k found."""

    tool: str
    place: int | str = 0
    other: int | str = 0
    t_s: float = 0.0
    region: str = ""

    @property
    def needs(self) -> tuple[int, ...]:
        """Numbers, from 1, of the calls whose results it uses."""
        given = (self.place, self.other)
        return tuple(int(v[1:]) for v in given if isinstance(v, str))


def plan_schema(scene: Scene, *, asks: bool = True) -> dict[str, Any]:
    """JSON schema of a plan; references to calls that are not there are refused later.

    asks: whether others can be asked at all; else ``request_v2x`` is not offered.
    """
    ids = [int(i) for i in scene.ids]
    places = {"enum": [*ids, *(f"${k}" for k in range(1, MAX_CALLS + 1))]}
    kinds: list[dict[str, Any]] = []
    if asks:
        kinds = [{"tool": {"const": "request_v2x"}, "region": {"enum": [r.value for r in Region]}}]
    if ids:
        kinds += [
            {"tool": {"const": "forecast"}, "id": {"enum": ids}, "t": {"enum": _LEADS}},
            {"tool": {"const": "distance"}, "a": places, "b": places},
        ]
    calls = [
        {"type": "object", "properties": k, "required": list(k), "additionalProperties": False}
        for k in kinds
    ]
    return {
        "type": "object",
        "properties": {"calls": {"type": "array", "items": {"anyOf": calls},
                                 "maxItems": MAX_CALLS}},
        "required": ["calls"],
        "additionalProperties": False,
    }  # fmt: skip


def parse_plan(text: str, scene: Scene) -> tuple[Call, ...]:
    """A plan from JSON text.

    Raises:
        InputError: no JSON, too many calls, one that is not known, an id that is not there, a time
            out of range, or references that lead nowhere or in a circle.
    """
    if len(text) > _MAX_TEXT:
        raise InputError(f"plan: {len(text)} characters; give at most {_MAX_TEXT}")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"plan: no JSON ({first_line(error)})") from error
    if not isinstance(given, dict) or list(given) != ["calls"]:
        raise InputError("plan: give an object with calls")
    rows = given["calls"]
    if not isinstance(rows, list) or len(rows) > MAX_CALLS:
        raise InputError(f"plan: calls is no list of at most {MAX_CALLS}")
    calls = tuple(_call(row, scene) for row in rows)
    stages(calls)
    for call in calls:
        if any(calls[k - 1].tool != "forecast" for k in call.needs):
            raise InputError("plan: only a forecast's place can be referred to")
    return calls


def stages(calls: tuple[Call, ...]) -> list[list[int]]:
    """Numbers, from 1, of the calls in the order in which they can run; each list together.

    Raises:
        InputError: a reference leads nowhere or in a circle.
    """
    left, done, made = set(range(1, len(calls) + 1)), set[int](), list[list[int]]()
    while left:
        ready = [k for k in sorted(left) if set(calls[k - 1].needs) <= done]
        if not ready:
            raise InputError("plan: references lead nowhere or in a circle")
        made.append(ready)
        done |= set(ready)
        left -= set(ready)
    return made


def _call(row: Any, scene: Scene) -> Call:
    fields = {"forecast": {"id", "t"}, "distance": {"a", "b"}, "request_v2x": {"region"}}
    tool = row.get("tool") if isinstance(row, dict) else None
    if not isinstance(tool, str) or tool not in fields or set(row) != {"tool", *fields[tool]}:
        raise InputError("plan: a call is none of forecast(id, t), distance(a, b), request_v2x")
    if tool == "request_v2x":
        if row["region"] not in [r.value for r in Region]:
            raise InputError("plan: region is none of " + ", ".join(r.value for r in Region))
        return Call(tool, region=row["region"])
    if tool == "distance":
        return Call(tool, place=_place(row["a"], scene), other=_place(row["b"], scene))
    if type(row["t"]) not in (int, float) or not 0 <= row["t"] <= MAX_T_S:
        raise InputError(f"plan: t is not within 0 to {MAX_T_S:g} s")
    if isinstance(row["id"], str):
        raise InputError("plan: forecast takes the id of an object")
    return Call(tool, place=_place(row["id"], scene), t_s=float(row["t"]))


def _place(value: Any, scene: Scene) -> int | str:
    if isinstance(value, str) and value in {f"${k}" for k in range(1, MAX_CALLS + 1)}:
        return value
    if type(value) is not int or value not in scene.ids.tolist():
        raise InputError("plan: an id that is not in the scene")
    return value


Ask = Callable[[Region], int]
"""Sends a request for a region to others; how many objects they have told of there so far."""


def run(
    calls: tuple[Call, ...], scene: Scene, left_s: float, ask: Ask | None = None
) -> tuple[str, ...]:
    """One line a call, in order; a call that has no result within ``left_s`` says so."""
    found: dict[int, Any] = {}
    started: set[int] = set()
    changed = threading.Condition()

    def start() -> None:
        """Whatever waits for nothing any more; with the lock held."""
        for k, call in enumerate(calls, 1):
            if k not in started and set(call.needs) <= set(found):
                started.add(k)
                if _hanging.acquire(blocking=False):
                    threading.Thread(target=work, args=(k,), daemon=True).start()
                else:
                    found[k] = None

    def work(k: int) -> None:
        try:
            value = _value(calls[k - 1], found, scene, ask)
        except Exception:  # a tool that fails is a call without a result
            value = None
        finally:
            _hanging.release()
        with changed:
            found[k] = value
            start()
            changed.notify()

    with changed:
        start()
        changed.wait_for(lambda: len(found) == len(calls), max(0.0, left_s))
        results = dict(found)
    return tuple(f"${k} {_line(c, results.get(k))}" for k, c in enumerate(calls, 1))


def _value(call: Call, found: dict[int, Any], scene: Scene, ask: Ask | None) -> Any:
    if call.tool == "request_v2x":
        return None if ask is None else int(ask(Region(call.region)))
    if call.tool == "forecast":
        return _at(call.place, call.t_s, found, scene)
    places = [_at(p, 0.0, found, scene) for p in (call.place, call.other)]
    return float(np.hypot(*(places[0] - places[1])))


def _at(place: int | str, t_s: float, found: dict[int, Any], scene: Scene) -> FloatArray:
    if isinstance(place, str):
        return np.asarray(found[int(place[1:])])
    row = int(np.flatnonzero(scene.ids == place)[0])
    return np.asarray(scene.positions[row] + t_s * scene.velocities[row])


def _line(call: Call, value: Any) -> str:
    if call.tool == "request_v2x":
        told = "no answer" if value is None else f"asked, {value} objects told of"
        return f"{call.region}: {told}"
    if call.tool == "forecast":
        told = "no answer" if value is None else f"x={value[0]:.1f} y={value[1]:.1f}"
        return f"{call.place} in {call.t_s:g} s: {told}"
    told = "no answer" if value is None else f"{value:.1f} m"
    return f"{call.place} to {call.other}: {told}"
