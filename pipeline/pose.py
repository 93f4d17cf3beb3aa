"""Where a vehicle is in the fixed frame, and how sure of it."""

import math
from dataclasses import dataclass, field

import numpy as np

from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import MAX_METERS, MAX_SPEED

MAP = "map"


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """A vehicle at ``stamp_ns`` in the fixed frame ``frame_id``: x east, y north, z up.

    position: (3,) float64, m. yaw: rad about z from x, counter-clockwise. velocity: (3,) m/s.
    covariance: (4, 4) of x, y, z, yaw. frame_id: name of the frame; stations that share objects
    share it.

    Raises:
        InputError: a value that is not finite or absurd, or a variance below zero.
    """

    stamp_ns: int
    position: FloatArray
    yaw: float
    velocity: FloatArray = field(default_factory=lambda: np.zeros(3))
    covariance: FloatArray = field(default_factory=lambda: np.zeros((4, 4)))
    frame_id: str = MAP

    def __post_init__(self) -> None:
        for name, shape, most in (
            ("position", (3,), MAX_METERS), ("velocity", (3,), MAX_SPEED),
            ("covariance", (4, 4), MAX_METERS),
        ):  # fmt: skip
            value = getattr(self, name)
            if value.shape != shape or not np.abs(value).max() <= most:  # nor is NaN
                raise InputError(f"Pose.{name}: give {shape} finite numbers of at most {most:g}")
        if self.covariance.diagonal().min() < 0:
            raise InputError("Pose.covariance: a variance is below 0")
        if not math.isfinite(self.yaw):
            raise InputError("Pose.yaw is not finite")
