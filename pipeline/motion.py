"""How a frame's picture moved since the frame before: of the camera, and of each target."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray

LOOK = 144
"""Numbers that say what a target looks like."""


class CameraSource(IntEnum):
    """Who saw how the camera moved."""

    NOBODY = 0
    PICTURE = 1
    GYRO = 2
    """The gyroscope, and how the background drifted when it was last seen."""
    BOTH = 3


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What happened between two frames, of N targets whose boxes in the first one were given.

    previous_ns, stamp_ns: the two frames.
    camera: (3, 3) float64, pixels of the background in the first frame → in the second one.
    camera_sigma: uncertainty in pixels of a background pixel's new place; inf where unknown.
    shift: (N, 2) float64, how far each box's center moved, camera motion included, in pixels.
    growth: (N,) float64, natural logarithm of the change of its sides.
    variance: (N, 2) float64, of a coordinate of ``shift`` in pixels² and of ``growth``.
    seen: (N,) bool, whether the target itself was followed; where not, ``shift`` is the guess.
    camera_source: who saw the camera move.
    """

    previous_ns: int
    stamp_ns: int
    camera: FloatArray
    camera_sigma: float
    shift: FloatArray
    growth: FloatArray
    variance: FloatArray
    seen: npt.NDArray[np.bool_]
    camera_source: CameraSource = CameraSource.PICTURE


def moved_by(matrix: FloatArray, points: FloatArray) -> FloatArray:
    """Points (..., 2) under a homography (3, 3)."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(mapped[..., :2] / mapped[..., 2:])


def moved_boxes(boxes: FloatArray, shift: FloatArray, growth: FloatArray) -> FloatArray:
    """Boxes (N, 4), x y w h, after their centers moved by (N, 2) and grew by exp of (N,)."""
    sides = boxes[:, 2:] * np.exp(growth)[:, None]
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2 + shift - sides / 2, sides], axis=1)
