"""What the vehicle is out for, as an operator or a mission planner says it: JSON, checked."""

import json
import math
from dataclasses import dataclass
from typing import Any

from llm_edge.scene import Mission
from pipeline.errors import InputError, first_line
from pipeline.objects import MAX_SPEED

MAX_TEXT = 4096
FIELDS = ("mission", "cruise_mps", "target", "open_left", "open_right")


@dataclass(frozen=True, slots=True)
class Order:
    """target: station and id of the object to follow, station 0 for own perception. open_left,
    open_right: whether there is a corridor beside the way into which the vehicle may move."""

    mission: Mission = Mission.GOTO
    cruise_mps: float = 8.0
    target: tuple[int, int] | None = None
    open_left: bool = True
    open_right: bool = True


def order_from_json(text: str) -> Order:
    """``{"mission": "follow", "target": {"station": 0, "id": 3}, "cruise_mps": 8.0, …}``; every
    field but ``mission`` may be left out.

    Raises:
        InputError: no JSON, a field that is not known, a value of another kind or out of range.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"mission: {len(text)} characters; give at most {MAX_TEXT}")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"mission: no JSON ({first_line(error)})") from error
    if not isinstance(given, dict) or "mission" not in given or not set(given) <= set(FIELDS):
        raise InputError(f"mission: give a JSON object with mission and, if any, {FIELDS[1:]}")
    names = [m.name.lower() for m in Mission]
    if given["mission"] not in names:
        raise InputError(f"mission: mission is none of {', '.join(names)}")
    order = Order(
        Mission[given["mission"].upper()],
        _speed(given.get("cruise_mps", Order().cruise_mps)),
        _target(given.get("target")),
        *(_flag(name, given.get(name, True)) for name in ("open_left", "open_right")),
    )
    if order.mission is Mission.FOLLOW and order.target is None:
        raise InputError('mission: follow needs a target, {"station": 0, "id": 3}')
    return order


def order_json(order: Order) -> str:
    """An order as the text that ``order_from_json`` reads."""
    target = order.target and dict(zip(("station", "id"), order.target, strict=True))
    return json.dumps(
        {
            "mission": order.mission.name.lower(), "cruise_mps": order.cruise_mps,
            "target": target, "open_left": order.open_left, "open_right": order.open_right,
        }
    )  # fmt: skip


def _speed(value: Any) -> float:
    if type(value) not in (int, float):
        raise InputError("mission: cruise_mps is no number")
    if not 0 <= value <= MAX_SPEED or not math.isfinite(value):
        raise InputError(f"mission: cruise_mps is not within 0 to {MAX_SPEED:g}")
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise InputError(f"mission: {name} is neither true nor false")
    return value


def _target(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"station", "id"}:
        raise InputError('mission: target is {"station": 0, "id": 3}, or null')
    station, identity = value["station"], value["id"]
    if type(station) is not int or not 0 <= station < 2**32:
        raise InputError("mission: target.station is no whole number from 0 to 4294967295")
    if type(identity) is not int or not -(2**31) <= identity < 2**31:
        raise InputError("mission: target.id is no whole number of 32 bits")
    return station, identity
