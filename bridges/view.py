"""What a camera sees of bodies, by geometry alone: boxes in pixels and how much is hidden."""

from typing import Protocol

import numpy as np

from bridges.actors import Snapshot
from bridges.simulator import Moment, SeenBoxes, Sensor
from bridges.visibility import Observer
from pipeline.box import FloatArray

LEAST = 0.1
"""Visibility under which an actor is not listed."""
_NEAREST = 0.2
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_EDGES = np.array([(i, j) for i in range(8) for j in range(i + 1, 8) if (i ^ j).bit_count() == 1])
OPTICAL = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
"""(3, 3) mount (x along the view, z up) to optical (x right, y down, z along the view)."""


class Hiding(Protocol):
    """What says how much of whom is seen: by geometry (bridges/visibility.py), or by depth."""

    def shares(self, observer: Observer, snapshot: Snapshot) -> FloatArray:
        """(N,) how much of each actor is seen, 0 to 1."""
        ...


def project(points: FloatArray, pose: FloatArray, sensor: Sensor) -> tuple[FloatArray, FloatArray]:
    """World points (..., 3) → pixels (..., 2) and depths (...) in m; behind the camera, nonsense.

    pose: (4, 4) of the sensor, x along its view.
    """
    seen = (points - pose[:3, 3]) @ (OPTICAL @ pose[:3, :3].T).T
    k = sensor.matrix
    depth = np.where(np.abs(seen[..., 2]) < 1e-9, 1e-9, seen[..., 2])
    return seen[..., :2] / depth[..., None] * k[0, 0] + k[:2, 2], seen[..., 2]


def seen_boxes(
    moment: Moment, pose: FloatArray, sensor: Sensor, visibility: Hiding, range_m: float = 400
) -> SeenBoxes:
    """Boxes round the bodies in view; bodies are cuboids, hidden by houses and each other.

    Bodies that reach behind the camera are cut off at 0.2 m.
    """
    actors = moment.actors
    low, high = bounds(cuboids(moment), pose, sensor)
    size = np.array([sensor.width, sensor.height], np.float64)
    clipped_low, clipped_high = np.clip(low, 0, size), np.clip(high, 0, size)
    whole = np.maximum(high - low, 1e-9).prod(axis=1)
    inside = np.maximum(clipped_high - clipped_low, 0).prod(axis=1) / whole
    observer = Observer(pose[:3, 3], range_m, own_id=sensor.parent)
    rows = np.flatnonzero((inside > 0) & (actors.ids != sensor.parent))
    shares = np.zeros(len(actors))
    if len(rows):
        shares = inside * visibility.shares(observer, actors)
    rows = rows[shares[rows] >= LEAST]
    boxes = np.hstack([clipped_low, clipped_high - clipped_low])
    return SeenBoxes(actors.ids[rows], actors.classes[rows], boxes[rows], shares[rows])


def cuboids(moment: Moment) -> FloatArray:
    """(N, 8, 3) the corners of every body."""
    turned = (_CORNERS * moment.actors.sizes[:, None]) @ moment.poses[:, :3, :3].transpose(0, 2, 1)
    corners: FloatArray = turned + moment.poses[:, None, :3, 3]
    return corners


def bounds(corners: FloatArray, pose: FloatArray, sensor: Sensor) -> tuple[FloatArray, FloatArray]:
    """Least and greatest pixels (N, 2) of bodies of eight corners (N, 8, 3); no extent: behind.

    Pixel edges count from 0, so the center of the first pixel is at a half.
    """
    seen = (corners - pose[:3, 3]) @ (OPTICAL @ pose[:3, :3].T).T
    # Where an edge passes the nearest plane, its crossing stands for what is beyond.
    a, b = seen[:, _EDGES[:, 0]], seen[:, _EDGES[:, 1]]
    span = b[..., 2] - a[..., 2]
    t = (_NEAREST - a[..., 2]) / np.where(np.abs(span) < 1e-12, 1e-12, span)
    crossing = a + np.clip(t, 0, 1)[..., None] * (b - a)
    crosses = (a[..., 2] < _NEAREST) != (b[..., 2] < _NEAREST)
    points = np.concatenate([seen, crossing], axis=1)
    valid = np.concatenate([seen[..., 2] >= _NEAREST, crosses], axis=1)
    k = sensor.matrix
    pixels = points[..., :2] / np.maximum(points[..., 2:], _NEAREST) * k[0, 0] + k[:2, 2] + 0.5
    low = np.where(valid[..., None], pixels, np.inf).min(axis=1)
    high = np.where(valid[..., None], pixels, -np.inf).max(axis=1)
    behind = ~valid.any(axis=1)
    low[behind] = high[behind] = 0.0
    return low, high
