"""What a camera sees of bodies, by geometry alone: boxes in pixels and how much is hidden."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bridges.actors import Snapshot
from bridges.simulator import Moment, SeenBoxes, Sensor
from bridges.visibility import Observer
from pipeline.box import FloatArray

Rows = npt.NDArray[np.int64]
LEAST = 0.1
"""Visibility under which an actor is not listed."""
_NEAREST = 0.2
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_CELLS = 6
"""Along each edge of a cuboid's side; the share in view of a truck beside the camera, the worst
case, is then right to about 0.1."""
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

    Bodies that reach behind the camera are cut off at 0.2 m. Visibility is the share of the surface
    in the picture (``surfaces``) times the share that is not hidden.
    """
    observer = Observer(pose[:3, 3], range_m, own_id=sensor.parent)

    def shares(rows: Rows) -> FloatArray:
        found: FloatArray = surfaces(moment, rows, pose, sensor)[2].sum(axis=1)
        return found * visibility.shares(observer, moment.actors)[rows] if len(rows) else found

    return boxes_of(moment, pose, sensor, shares, range_m)


def boxes_of(
    moment: Moment, pose: FloatArray, sensor: Sensor, shares: Callable[[Rows], FloatArray],
    range_m: float,
) -> SeenBoxes:  # fmt: skip
    """Boxes round the bodies in view, cut off at the picture's edges.

    shares: (R,) how much is seen of those that may be, rows (R,) of the moment. Who carries the
    sensor is not listed, nor who is seen by less than ``LEAST``.
    """
    actors = moment.actors
    low, high = bounds(cuboids(moment), pose, sensor)
    size = np.array([sensor.width, sensor.height], np.float64)
    low, high = np.clip(low, 0, size), np.clip(high, 0, size)
    near = np.linalg.norm(actors.positions - pose[:3, 3], axis=1) <= range_m
    inside = ((high - low) > 0).all(axis=1) & near & (actors.ids != sensor.parent)
    rows = np.flatnonzero(inside)
    seen = shares(rows)
    rows, seen = rows[seen >= LEAST], seen[seen >= LEAST]
    boxes = np.hstack([low, high - low])[rows]
    return SeenBoxes(actors.ids[rows], actors.classes[rows], boxes, seen)


def _sides() -> tuple[FloatArray, FloatArray]:
    """Points (6 P, 3) on a unit cube's sides and the normals (6 P, 3) there."""
    steps = (np.arange(_CELLS) + 0.5) / _CELLS - 0.5
    u, v = (a.ravel() for a in np.meshgrid(steps, steps))
    points, normals = [], []
    for axis in range(3):
        for way in (-0.5, 0.5):
            points.append(np.insert(np.stack([u, v], axis=1), axis, way, axis=1))
            normals.append(np.tile(np.eye(3)[axis] * 2 * way, (len(u), 1)))
    return np.concatenate(points), np.concatenate(normals)


_POINTS, _NORMALS = _sides()


def surfaces(
    moment: Moment, rows: Rows, pose: FloatArray, sensor: Sensor
) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    """P points on the sides of the cuboids of R actors, as a camera at ``pose`` (4, 4) has them.

    Pixels (R, P, 2), column and row, within the picture; depths (R, P) m; and weights (R, P): the
    solid angle that a point stands for, as a share of its body's, 0 where it is out of the picture
    or its side faces away. Their sum is the share of a body that is in the picture.
    """
    turns, sizes = moment.poses[rows, :3, :3], moment.actors.sizes[rows]
    back = turns.transpose(0, 2, 1)
    points = (_POINTS * sizes[:, None]) @ back + moment.poses[rows, None, :3, 3]
    way = points - pose[:3, 3]
    area = sizes.prod(axis=1)[:, None] / (np.abs(_NORMALS) @ sizes.T).T
    facing = -((_NORMALS @ back) * way).sum(axis=-1)
    weight = np.maximum(facing, 0) * area / np.maximum((way**2).sum(axis=-1), 0.01) ** 1.5
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    pixels, far = project(points, pose, sensor)
    at = np.round(np.clip(pixels, -1, 1e6)).astype(np.int64)
    most = np.array([sensor.width, sensor.height]) - 1
    inside = (far > 0.05) & ((at >= 0) & (at <= most)).all(axis=-1)
    return np.clip(at, 0, most), far, weight * inside


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
