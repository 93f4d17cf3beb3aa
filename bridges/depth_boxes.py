"""The truth of a picture where its depth is known: boxes round bodies, and how much is hidden.

A box goes round the projection of a body's cuboid, hidden parts as well, cut off at the picture's
edges. Visibility is over points on the cuboid's sides that face the camera, each weighed by the
solid angle that it stands for: a point counts where the depth there is not less than its own, so
nothing is in front of the body. What is drawn of a body lies within its cuboid.
"""

import numpy as np
import numpy.typing as npt

from bridges.simulator import Moment, SeenBoxes, Sensor
from bridges.view import LEAST, bounds, cuboids, project
from pipeline.box import FloatArray

RANGE_M = 400.0
_CELLS = 6
"""Along each edge of a side."""
_SLACK_M, _SLACK = 0.1, 0.01
"""Of depth, and its share: bodies are drawn to 5 cm, and a pixel covers a piece of a slope."""


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


def boxes_in(
    moment: Moment, pose: FloatArray, sensor: Sensor, depth: npt.NDArray[np.float32]
) -> SeenBoxes:
    """Who is in a picture taken from ``pose`` (4, 4), x along the view; depth: (H, W) m.

    Who carries the sensor is not listed, nor who is seen by less than a tenth.
    """
    actors = moment.actors
    low, high = bounds(cuboids(moment), pose, sensor)
    size = np.array([sensor.width, sensor.height], np.float64)
    low, high = np.clip(low, 0, size), np.clip(high, 0, size)
    near = np.linalg.norm(actors.positions - pose[:3, 3], axis=1) <= RANGE_M
    inside = ((high - low) > 0).all(axis=1) & near & (actors.ids != sensor.parent)
    rows = np.flatnonzero(inside)
    shares = _shares(moment, rows, pose, sensor, depth)
    rows, shares = rows[shares >= LEAST], shares[shares >= LEAST]
    boxes = np.hstack([low, high - low])[rows]
    return SeenBoxes(actors.ids[rows], actors.classes[rows], boxes, shares)


def _shares(
    moment: Moment, rows: npt.NDArray[np.int64], pose: FloatArray, sensor: Sensor,
    depth: npt.NDArray[np.float32],
) -> FloatArray:  # fmt: skip
    """(R,) how much of each is in the picture and not hidden."""
    turns, sizes = moment.poses[rows, :3, :3], moment.actors.sizes[rows]
    back = turns.transpose(0, 2, 1)
    points = (_POINTS * sizes[:, None]) @ back + moment.poses[rows, None, :3, 3]
    way = points - pose[:3, 3]
    area = sizes.prod(axis=1)[:, None] / (np.abs(_NORMALS) @ sizes.T).T
    facing = -((_NORMALS @ back) * way).sum(axis=-1)
    weight = np.maximum(facing, 0) * area / np.maximum((way**2).sum(axis=-1), 0.01) ** 1.5
    pixels, far = project(points, pose, sensor)
    at = np.round(np.clip(pixels, -1, 1e6)).astype(np.int64)
    seen = (far > 0.05) & (at >= 0).all(axis=-1)
    seen &= (at[..., 0] < sensor.width) & (at[..., 1] < sensor.height)
    column = np.clip(at[..., 0], 0, sensor.width - 1)
    row = np.clip(at[..., 1], 0, sensor.height - 1)
    seen &= depth[row, column] >= far * (1 - _SLACK) - _SLACK_M
    shares: FloatArray = (weight * seen).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    return shares
