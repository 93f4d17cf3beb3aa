"""How much room objects take along and across a way, and how sure that is."""

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.objects import IS_VULNERABLE, ObjectClass, Objects

MAX_SIGMA = 1000.0
ACCELERATION: FloatArray = np.where(IS_VULNERABLE, 1.0, 2.0)
"""m/s², by class, by which somebody may leave constant velocity."""
_SIZES = {
    ObjectClass.PERSON: (0.6, 0.6), ObjectClass.CYCLIST: (1.8, 0.7), ObjectClass.CAR: (4.5, 1.8),
    ObjectClass.MOTORCYCLE: (2.2, 0.8), ObjectClass.TRUCK: (9.0, 2.5), ObjectClass.BUS: (12.0, 2.5),
    ObjectClass.ANIMAL: (1.0, 0.5),
}  # fmt: skip
SIZES: FloatArray = np.array([_SIZES.get(c, (1.0, 1.0)) for c in ObjectClass])
"""Length and width of each class where nobody measured them."""
KNOWN_HEADING_MPS = 0.5


def extents(objects: Objects, rows: npt.NDArray[np.intp], tangents: FloatArray) -> FloatArray:
    """(N, 2) along and across the way, of boxes turned by their yaws; of unknown yaw as they move,
    and of who stands as long as wide."""
    sizes = objects.sizes[rows, :2]
    sizes = np.where(sizes > 0, sizes, SIZES[objects.classes[rows]])
    velocities = objects.velocities[rows, :2]
    moving = np.hypot(velocities[:, 0], velocities[:, 1]) > KNOWN_HEADING_MPS
    heading = np.arctan2(velocities[:, 1], velocities[:, 0])
    yaws = objects.yaws[rows]
    known = ~np.isnan(yaws) | moving
    turned = np.where(np.isnan(yaws), heading, yaws) - np.arctan2(tangents[:, 1], tangents[:, 0])
    cos, sin = np.abs(np.cos(turned)), np.abs(np.sin(turned))
    length, width = sizes.T
    boxes = np.stack([length * cos + width * sin, length * sin + width * cos], axis=1)
    round_ = np.repeat(sizes.max(axis=1, initial=0.0)[:, None], 2, axis=1)
    return np.where(known[:, None], boxes, round_)


def sigmas(
    covariances: FloatArray, classes: npt.NDArray[np.uint8], velocities: FloatArray, dt: float
) -> FloatArray:
    """(N,) of the positions' larger axes after dt: A + dt(B + Bᵀ) + dt²C, and what accelerations of
    half of ``ACCELERATION`` make of it where somebody moves."""
    a, b, c = (covariances[:, i : i + 2, j : j + 2] for i, j in ((0, 0), (0, 3), (3, 3)))
    moved = a + dt * (b + b.transpose(0, 2, 1)) + dt**2 * c
    mean, half = (moved[:, 0, 0] + moved[:, 1, 1]) / 2, (moved[:, 0, 0] - moved[:, 1, 1]) / 2
    larger = mean + np.hypot(half, (moved[:, 0, 1] + moved[:, 1, 0]) / 2)
    speed = np.hypot(velocities[:, 0], velocities[:, 1])
    drift = np.minimum(speed / 2, 1.0) * ACCELERATION[classes] / 2 * dt**2 / 2
    return np.minimum(np.sqrt(np.maximum(larger, 0.0) + drift**2), MAX_SIGMA)
