"""What a decision is made on: own state, mission and everything near, at the moment of use.

The frame of reference is the ego's way: x forward along it, y to its left, both from the ego's
middle. Nothing in a scene is free text, so nothing that came by radio, file or camera can speak to
a language model.
"""

import json
import math
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError, first_line
from pipeline.objects import MAX_SPEED, ObjectClass

MAX_OBJECTS = 500
MAX_BLIND = 64
MAX_TEXT = 1 << 20
_MAX_M = 1e5


class Mission(IntEnum):
    """What the vehicle is out for."""

    GOTO = 0
    """On along its way."""
    FOLLOW = 1
    """Keep a target at the stand-off distance."""
    SURVEY = 2
    """On along its way, slowly."""
    HOLD = 3
    """Stay where it is."""


class TargetState(IntEnum):
    """How well the mission's target is known."""

    NONE = 0
    TRACKED = 1
    UNCERTAIN = 2
    LOST = 3


class LinkState(IntEnum):
    """How well others are heard."""

    GOOD = 0
    POOR = 1
    LOST = 2


@dataclass(frozen=True, slots=True)
class Platform:
    """What the vehicle can do.

    limit_mps: the most that it may drive or fly. brake_mps2: how hard it brakes. shift_s: seconds
    in which it moves aside by one corridor. corridor_m: width of its corridor, a lane for a car.
    size_m: its own length and width.
    """

    limit_mps: float = 10.0
    brake_mps2: float = 4.0
    shift_s: float = 2.0
    corridor_m: float = 3.0
    size_m: tuple[float, float] = (0.8, 0.8)

    def __post_init__(self) -> None:
        for name, low, high in (
            ("limit_mps", 0.5, MAX_SPEED), ("brake_mps2", 0.05, 100.0), ("shift_s", 0.1, 60.0),
            ("corridor_m", 0.2, 100.0),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise InputError(f"Platform.{name}: give {low:g} to {high:g}")
        if len(self.size_m) != 2 or not all(0 < s <= 100 for s in self.size_m):
            raise InputError("Platform.size_m: give length and width, above 0 up to 100")


def _no_ids() -> npt.NDArray[np.int32]:
    return np.zeros(0, np.int32)


def _no_classes() -> npt.NDArray[np.uint8]:
    return np.zeros(0, np.uint8)


def _no_flags() -> npt.NDArray[np.bool_]:
    return np.zeros(0, np.bool_)


def _no_numbers() -> FloatArray:
    return np.zeros(0)


def _no_pairs() -> FloatArray:
    return np.zeros((0, 2))


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """N objects and the ego at ``at_ns``, the moment that the decision will be used.

    seen_ns: stamp of the newest measurement in it. speed_mps: the ego's along its way.
    cruise_mps: what the mission wants. target: id of the mission's target, −1 for none.
    target_side: where a lost target was last seen: 1 left, −1 right, 0 ahead.
    open_left, open_right: whether there is a corridor to move aside into.
    ids: (N,) int32. classes: (N,) uint8, ``ObjectClass``. told: (N,) bool, known from others only.
    positions, velocities: (N, 2) float64, m and m/s over ground, along and left.
    sizes: (N, 2) m, extent along and across the way. sigmas: (N,) m, standard deviation of a
    position, the larger axis. blind: (M, 2) m, where the view ends beside the way: somebody may
    step out.

    Raises:
        InputError: shapes that do not fit, a value that is not finite or absurd, an id twice.
    """

    at_ns: int
    seen_ns: int
    platform: Platform = Platform()
    mission: Mission = Mission.GOTO
    speed_mps: float = 0.0
    cruise_mps: float = 8.0
    target: int = -1
    target_state: TargetState = TargetState.NONE
    target_side: int = 0
    link: LinkState = LinkState.GOOD
    open_left: bool = True
    open_right: bool = True
    ids: npt.NDArray[np.int32] = field(default_factory=_no_ids)
    classes: npt.NDArray[np.uint8] = field(default_factory=_no_classes)
    told: npt.NDArray[np.bool_] = field(default_factory=_no_flags)
    positions: FloatArray = field(default_factory=_no_pairs)
    velocities: FloatArray = field(default_factory=_no_pairs)
    sizes: FloatArray = field(default_factory=_no_pairs)
    sigmas: FloatArray = field(default_factory=_no_numbers)
    blind: FloatArray = field(default_factory=_no_pairs)

    def __post_init__(self) -> None:
        n = len(self.ids)
        if n > MAX_OBJECTS or len(self.blind) > MAX_BLIND:
            raise InputError(
                f"Scene: {n} objects and {len(self.blind)} blind spots; give the nearest "
                f"{MAX_OBJECTS} and {MAX_BLIND}"
            )
        for name, shape in (
            ("ids", (n,)), ("classes", (n,)), ("told", (n,)), ("positions", (n, 2)),
            ("velocities", (n, 2)), ("sizes", (n, 2)), ("sigmas", (n,)),
            ("blind", (len(self.blind), 2)),
        ):  # fmt: skip
            if getattr(self, name).shape != shape:
                raise InputError(f"Scene.{name} has shape {getattr(self, name).shape}, not {shape}")
        for name, low, high in (
            ("positions", -_MAX_M, _MAX_M), ("velocities", -MAX_SPEED, MAX_SPEED),
            ("sizes", 0.0, 1000.0), ("sigmas", 0.0, _MAX_M), ("blind", -_MAX_M, _MAX_M),
            ("speed_mps", 0.0, MAX_SPEED), ("cruise_mps", 0.0, MAX_SPEED),
        ):  # fmt: skip
            value = np.asarray(getattr(self, name))
            if not ((value >= low) & (value <= high)).all():  # NaN is not, either
                raise InputError(f"Scene.{name}: a value is not within {low:g} to {high:g}")
        if len(np.unique(self.ids)) != n or (n and self.ids.min() < 0):
            raise InputError("Scene.ids: give each object another id, from 0")
        if n and self.classes.max() >= len(ObjectClass):
            raise InputError(f"Scene.classes holds {self.classes.max()}: know 0 to 9 only")
        if self.target_side not in (-1, 0, 1):
            raise InputError("Scene.target_side: give 1 for left, -1 for right or 0 for ahead")

    def __len__(self) -> int:
        return len(self.ids)


_ENUMS = {"mission": Mission, "target_state": TargetState, "link": LinkState}
_ARRAYS = {"ids": int, "classes": int, "told": bool, "positions": float, "velocities": float,
           "sizes": float, "sigmas": float}  # fmt: skip

_CLASSES = [c.name.lower() for c in ObjectClass]


def scene_json(scene: Scene, indent: int | None = 1) -> str:
    """A scene as the JSON text that ``scene_from_json`` reads.

    indent: None for one line, which takes a third of the time.
    """
    made: dict[str, Any] = {}
    for f in fields(Scene):
        value = getattr(scene, f.name)
        if f.name in _ENUMS:
            made[f.name] = value.name.lower()
        elif f.name == "platform":
            made[f.name] = {p.name: getattr(value, p.name) for p in fields(Platform)}
        elif f.name == "blind":
            made[f.name] = value.tolist()
        elif f.name not in _ARRAYS:
            made[f.name] = value
    columns = zip(
        scene.ids.tolist(), scene.classes.tolist(), scene.told.tolist(), scene.positions.tolist(),
        scene.velocities.tolist(), scene.sizes.tolist(), scene.sigmas.tolist(), strict=True,
    )  # fmt: skip
    made["objects"] = [
        {
            "id": number, "class": _CLASSES[kind], "told": told, "position": position,
            "velocity": velocity, "size": size, "sigma": sigma,
        }
        for number, kind, told, position, velocity, size, sigma in columns
    ]  # fmt: skip
    return json.dumps(made, indent=indent, separators=None if indent else (",", ":"))


def scene_from_json(text: str) -> Scene:
    """A scene from a file or a message; every field but ``at_ns`` may be left out.

    Raises:
        InputError: no JSON, a field that is not known, a value of another kind or out of range.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"scene: {len(text)} characters; give at most {MAX_TEXT}")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"scene: no JSON ({first_line(error)})") from error
    if not isinstance(given, dict):
        raise InputError("scene: give a JSON object with at_ns, mission, speed_mps, objects, …")
    known = {f.name for f in fields(Scene)} - set(_ARRAYS) | {"objects"}
    for name in given:
        if name not in known:
            raise InputError(
                f"scene: field {str(name)[:40]!r} is none of {', '.join(sorted(known))}"
            )
    values: dict[str, Any] = {"at_ns": 0}
    for name, value in given.items():
        if name == "objects":
            values.update(_objects(value))
        elif name in _ENUMS:
            values[name] = _member(_ENUMS[name], name, value)
        elif name == "platform":
            values[name] = _platform(value)
        elif name == "blind":
            values[name] = _numbers("blind", value, 2)
        else:
            values[name] = _plain(name, value)
    values.setdefault("seen_ns", values["at_ns"])
    return Scene(**values)


def _plain(name: str, value: Any) -> Any:
    kind = {f.name: f.type for f in fields(Scene)}[name]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = _float(name, value)
    if type(value) is not kind:
        raise InputError(f"scene: {name} is no {getattr(kind, '__name__', kind)}")
    if kind is int and not -(2**62) < value < 2**62:
        raise InputError(f"scene: {name} is out of range")
    return value


def _float(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"scene: {name} holds something that is no number")
    try:
        made = float(value)
    except OverflowError:
        made = math.inf
    if not math.isfinite(made):
        raise InputError(f"scene: {name} holds a number that is not finite")
    return made


def _member(kind: type[IntEnum], name: str, value: Any) -> IntEnum:
    names = [m.name.lower() for m in kind]
    if value not in names:
        raise InputError(f"scene: {name} is none of {', '.join(names)}")
    return kind[value.upper()]


def _platform(value: Any) -> Platform:
    if not isinstance(value, dict) or not set(value) <= {f.name for f in fields(Platform)}:
        raise InputError("scene: platform holds limit_mps, brake_mps2, shift_s, corridor_m, size_m")
    made: dict[str, Any] = {
        k: _float(f"platform.{k}", v) for k, v in value.items() if k != "size_m"
    }
    if "size_m" in value:
        made["size_m"] = tuple(_numbers("platform.size_m", [value["size_m"]], 2)[0].tolist())
    return Platform(**made)


def _numbers(name: str, value: Any, width: int) -> FloatArray:
    """(N, width) from a list of lists."""
    if not isinstance(value, list) or any(
        not isinstance(row, list) or len(row) != width for row in value
    ):
        raise InputError(f"scene: {name} is no list of {width} numbers each")
    rows = [[_float(name, v) for v in row] for row in value]
    return np.array(rows, np.float64).reshape(len(rows), width)


def _objects(value: Any) -> dict[str, Any]:
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise InputError("scene: objects is no list of objects")
    if len(value) > MAX_OBJECTS:
        raise InputError(f"scene: {len(value)} objects; give the nearest {MAX_OBJECTS}")
    known = {"id", "class", "told", "position", "velocity", "size", "sigma"}
    for k, given in enumerate(value):
        if not set(given) <= known or not {"id", "position"} <= set(given):
            raise InputError(
                f"scene: objects[{k}] holds {', '.join(sorted(known))}; id and position are needed"
            )
        number = given["id"]
        if type(number) is not int or not 0 <= number < 2**31:
            raise InputError(f"scene: objects[{k}].id is no number from 0 to 2147483647")
        if not isinstance(given.get("told", False), bool):
            raise InputError(f"scene: objects[{k}].told is neither true nor false")
    kinds = [_class(given.get("class", "unknown")) for given in value]
    return {
        "ids": np.array([g["id"] for g in value], np.int32),
        "classes": np.array(kinds, np.uint8),
        "told": np.array([g.get("told", False) for g in value], np.bool_),
        "positions": _numbers("position", [g["position"] for g in value], 2),
        "velocities": _numbers("velocity", [g.get("velocity", [0.0, 0.0]) for g in value], 2),
        "sizes": _numbers("size", [g.get("size", [1.0, 1.0]) for g in value], 2),
        "sigmas": np.array([_float("sigma", g.get("sigma", 0.3)) for g in value], np.float64),
    }


def _class(value: Any) -> int:
    if value not in _CLASSES:
        raise InputError(f"scene: class is none of {', '.join(_CLASSES)}")
    return int(ObjectClass[value.upper()])
