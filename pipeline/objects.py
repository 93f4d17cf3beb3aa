"""Objects in the world, own and heard of from others: parallel arrays, validated once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError

MAX_OBJECTS = 1 << 16
MAX_METERS = 1e7
MAX_SPEED = 400.0
"""m/s, of anything that is reported."""


class ObjectClass(IntEnum):
    """The constants of leadsight_msgs/ObjectArray."""

    UNKNOWN = 0
    PERSON = 1
    CYCLIST = 2
    MOTORCYCLE = 3
    CAR = 4
    TRUCK = 5
    BUS = 6
    ANIMAL = 7
    UAV = 8
    OBSTACLE = 9


VULNERABLE = (ObjectClass.PERSON, ObjectClass.CYCLIST, ObjectClass.MOTORCYCLE, ObjectClass.ANIMAL)
"""Road users without a body of steel around them."""
IS_VULNERABLE: npt.NDArray[np.bool_] = np.isin(list(ObjectClass), VULNERABLE)
"""By class."""


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """N objects as they are at ``stamp_ns``, in a fixed frame: x east, y north, z up.

    stamp_ns: the moment that all states speak for. ready_ns: when the array was ready.
    ids: (N,) int32, unique within a station. stations: (N,) uint32 who measured it; 0: this one.
    positions: (N, 3) float64, m, of the center. velocities: (N, 3) float64, m/s.
    yaws: (N,) float64, rad about z from x, counter-clockwise; NaN: unknown.
    sizes: (N, 3) float64, m: length, width, height; 0: unknown.
    covariances: (N, 6, 6) float64 over position and velocity.
    classes: (N,) uint8, ``ObjectClass``. quality: (N,) float64, probability that it exists.
    measured_ns: (N,) int64, when it was last measured (acquisition).

    Raises:
        InputError: shapes that do not fit together, a value that is not finite or absurd, a
            variance below zero.
    """

    stamp_ns: int
    ready_ns: int
    ids: npt.NDArray[np.int32]
    stations: npt.NDArray[np.uint32]
    positions: FloatArray
    velocities: FloatArray
    yaws: FloatArray
    sizes: FloatArray
    covariances: FloatArray
    classes: npt.NDArray[np.uint8]
    quality: FloatArray
    measured_ns: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.ids)
        if n > MAX_OBJECTS:
            raise InputError(f"Objects: {n} of them; give at most {MAX_OBJECTS}")
        for name, shape in (
            ("ids", ()), ("stations", ()), ("positions", (3,)), ("velocities", (3,)), ("yaws", ()),
            ("sizes", (3,)), ("covariances", (6, 6)), ("classes", ()), ("quality", ()),
            ("measured_ns", ()),
        ):  # fmt: skip
            found = getattr(self, name).shape
            if found != (n, *shape):
                raise InputError(f"Objects.{name} has shape {found}, not {(n, *shape)}")
        self._check_values()

    def _check_values(self) -> None:
        for name, most in (("positions", MAX_METERS), ("velocities", MAX_SPEED), ("sizes", 1000.0)):
            if not (np.abs(getattr(self, name)) <= most).all():  # NaN is not, either
                raise InputError(f"Objects.{name}: a value is not finite or over {most:g}")
        if not np.isfinite(self.covariances).all():
            raise InputError("Objects.covariances: a value is not finite")
        if (np.diagonal(self.covariances, axis1=1, axis2=2) < 0).any():
            raise InputError("Objects.covariances: a variance is below 0")
        if np.isinf(self.yaws).any():
            raise InputError("Objects.yaws: a value is infinite; NaN says unknown")
        if not ((self.quality >= 0) & (self.quality <= 1)).all():
            raise InputError("Objects.quality: a value is not in 0 to 1")
        if len(self.classes) and self.classes.max() >= len(ObjectClass):
            raise InputError(f"Objects.classes holds {self.classes.max()}: know 0 to 9 only")

    def __len__(self) -> int:
        return len(self.ids)

    def selected(self, rows: npt.NDArray[np.generic] | slice) -> "Objects":
        """Some of them; rows: (N,) bool, or indices in any order; a slice shares their memory."""
        if isinstance(rows, slice):
            return self.derived(**{name: getattr(self, name)[rows] for name in ARRAYS})
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        return self.derived(**{name: getattr(self, name).take(rows, axis=0) for name in ARRAYS})

    def changed(
        self, rows: npt.NDArray[np.generic], values: Mapping[str, npt.NDArray[Any]]
    ) -> "Objects":
        """With some rows of some arrays replaced, by values that follow from checked ones."""
        arrays = {name: getattr(self, name).copy() for name in values}
        for name, new in values.items():
            arrays[name][rows] = new
        return self.derived(**arrays)

    def derived(self, **changed: Any) -> "Objects":
        """These objects with some fields changed, by values that follow from checked ones and are
        not checked again; ``dataclasses.replace`` checks."""
        made, put = object.__new__(Objects), object.__setattr__
        for name in NAMES:
            put(made, name, changed[name] if name in changed else getattr(self, name))
        return made

    @classmethod
    def none(cls, stamp_ns: int, ready_ns: int = 0) -> "Objects":
        """No object at ``stamp_ns``."""
        return cls(
            stamp_ns, ready_ns or stamp_ns, np.zeros(0, np.int32), np.zeros(0, np.uint32),
            np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)),
            np.zeros((0, 6, 6)), np.zeros(0, np.uint8), np.zeros(0), np.zeros(0, np.int64),
        )  # fmt: skip


NAMES = tuple(f.name for f in fields(Objects))
ARRAYS = NAMES[2:]


def joined(parts: Sequence[Objects], stamp_ns: int | None = None) -> Objects:
    """Several lists as one, which speaks for the first one's moment; for ``stamp_ns``, if given,
    whatever they speak for.

    Raises:
        InputError: they speak for different moments, are too many, or none is given.
    """
    if not parts or (stamp_ns is None and len({p.stamp_ns for p in parts}) > 1):
        raise InputError("Objects of different moments cannot be joined: predict them to one")
    count = sum([len(p.ids) for p in parts])
    if count > MAX_OBJECTS:
        raise InputError(f"Objects: {count} of them; give at most {MAX_OBJECTS}")
    return parts[0].derived(
        stamp_ns=parts[0].stamp_ns if stamp_ns is None else stamp_ns,
        ready_ns=max([p.ready_ns for p in parts]),
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in ARRAYS},
    )
