"""The camera's own motion from one frame to the next, as seen on the background."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from perception.flow import flow
from pipeline.box import FloatArray

GRID = (14, 8)
MAX_RETURN_PX = 0.5
"""Distance from its start at which a point tracked forth and back still counts."""
INLIER_PX = 0.75
MIN_INLIERS = 12
MIN_INLIER_SHARE = 0.3
MARGIN = 0.2
"""Share of a box's sides kept free of background points around it."""


class CameraMotion(NamedTuple):
    """matrix: (3, 3), pixels of the first picture → of the second; sigma: in pixels, inf where the
    motion could not be seen and ``matrix`` is the identity."""

    matrix: FloatArray
    sigma: float


def camera_motion(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], scale: float, boxes: FloatArray
) -> CameraMotion:
    """The affine motion of the background between two small gray pictures.

    scale: full-size pixels for one of theirs; the result and ``boxes``, (N, 4) in the first
    picture, what is no background, are in full-size pixels.

    Flow on a grid of points; RANSAC; least squares over the inliers.
    """
    points = (_grid(before.shape[1], before.shape[0]) + 0.5) * scale - 0.5
    if len(boxes):
        low = boxes[:, :2] - MARGIN * boxes[:, 2:]
        high = boxes[:, :2] + (1 + MARGIN) * boxes[:, 2:]
        hidden = ((points[:, None] > low) & (points[:, None] < high)).all(axis=2)
        points = points[~np.asarray(hidden).any(axis=1)]
    if len(points) < MIN_INLIERS:
        return unknown_motion()
    found = flow(before, after, (points + 0.5) / scale - 0.5, MAX_RETURN_PX)
    source = points[found.ok]
    target = source + found.moved[found.ok] * scale
    if len(source) < MIN_INLIERS:
        return unknown_motion()
    matrix, inliers = cv2.estimateAffine2D(
        source, target, ransacReprojThreshold=INLIER_PX * scale, maxIters=200, confidence=0.99
    )
    kept = np.zeros(0, bool) if matrix is None else np.asarray(inliers).ravel() == 1
    if kept.sum() < max(MIN_INLIERS, MIN_INLIER_SHARE * len(source)):
        return unknown_motion()
    lifted = np.c_[source[kept], np.ones(kept.sum())]
    affine = np.linalg.lstsq(lifted, target[kept], rcond=None)[0].T
    sigma = 1.48 * float(np.median(np.abs(lifted @ affine.T - target[kept])))
    return CameraMotion(np.vstack([affine, [0.0, 0.0, 1.0]]), sigma)


def unknown_motion() -> CameraMotion:
    """As if the camera stood still, and nothing known."""
    return CameraMotion(np.eye(3), float("inf"))


def _grid(width: int, height: int) -> FloatArray:
    x = (np.arange(GRID[0]) + 0.5) * width / GRID[0] - 0.5
    y = (np.arange(GRID[1]) + 0.5) * height / GRID[1] - 0.5
    return np.stack([np.tile(x, GRID[1]), np.repeat(y, GRID[0])], 1)
