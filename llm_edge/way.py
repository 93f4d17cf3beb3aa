"""Places along a way and beside it."""

import numpy as np

from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import MAX_METERS

MAX_POINTS = 10_000
KEPT = 192
"""Points that a way is made of at most: longer ones are thinned."""


class Way:
    """A line through (K, 2) points, m, its ends going on straight.

    points: the path, from anywhere behind on; None, or all alike: straight ahead of ``here``,
    (2,) m, at ``yaw``, rad. Only what lies within ``reach_m`` along it of the point nearest to
    ``here`` counts.

    Raises:
        InputError: a path that is not finite, too long or of another shape.
    """

    def __init__(
        self, points: FloatArray | None, here: FloatArray, yaw: float, reach_m: float = 250.0
    ) -> None:
        if points is not None:
            points = _near(_checked(points), here, reach_m)
        if points is None or len(points) < 2:
            points = here + np.array([[0.0, 0.0], [np.cos(yaw), np.sin(yaw)]])
        steps = np.diff(points, axis=0)
        self._lengths = np.hypot(steps[:, 0], steps[:, 1])
        self._tangents = steps / self._lengths[:, None]
        self._starts = points[:-1]
        self._before = np.append(0.0, np.cumsum(self._lengths)[:-1])
        self._low, self._high = np.zeros(len(steps)), self._lengths.copy()
        self._low[0], self._high[-1] = -np.inf, np.inf

    def place(self, points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(N,) along and aside, left above 0, and the (N, 2) tangents there, of (N, 2) points."""
        offset = points[:, None] - self._starts
        t = np.clip((offset * self._tangents).sum(axis=-1), self._low, self._high)
        apart = np.linalg.norm(offset - t[..., None] * self._tangents, axis=-1)
        row = apart.argmin(axis=1)
        each = np.arange(len(points))
        tangents, away = self._tangents[row], offset[each, row]
        left = tangents[:, 0] * away[:, 1] - tangents[:, 1] * away[:, 0] >= 0
        aside = np.where(left, apart[each, row], -apart[each, row])
        return self._before[row] + t[each, row], aside, tangents


def _checked(points: FloatArray) -> FloatArray:
    """Without those that stand still."""
    if points.ndim != 2 or points.shape[1] != 2 or len(points) > MAX_POINTS:
        raise InputError(f"path of shape {points.shape}: give (K, 2), at most {MAX_POINTS} points")
    if not (np.abs(points) <= MAX_METERS).all():
        raise InputError("path: a point is not finite or absurd; its sender is at fault")
    moves = np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3
    kept: FloatArray = points[np.append(True, moves)[: len(points)]]
    return kept


def _near(points: FloatArray, here: FloatArray, reach_m: float) -> FloatArray:
    if len(points) < 2:
        return points
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.append(0.0, np.cumsum(lengths))
    nearest = int(np.linalg.norm(points - here, axis=1).argmin())
    low = max(int(np.searchsorted(along, along[nearest] - reach_m)) - 1, 0)
    high = int(np.searchsorted(along, along[nearest] + reach_m)) + 1
    points, along = points[low:high], along[low:high]
    if len(points) > KEPT:
        spaced = np.linspace(along[0], along[-1], KEPT)
        points = np.stack([np.interp(spaced, along, axis) for axis in points.T], axis=1)
    return points
