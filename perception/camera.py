"""The camera's own motion from one frame to the next, as seen on the background."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from perception.flow import flow
from pipeline.box import FloatArray
from pipeline.motion import CameraSource, moved_by

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
    motion could not be seen and ``matrix`` is the identity. source: who saw it."""

    matrix: FloatArray
    sigma: float
    source: CameraSource = CameraSource.PICTURE


def camera_motion(
    before: npt.NDArray[np.uint8],
    after: npt.NDArray[np.uint8],
    scale: float,
    boxes: FloatArray,
    guess: FloatArray | None = None,
) -> CameraMotion:
    """The motion of the background between two small gray pictures: an affine one, after ``guess``.

    scale: full-size pixels for one of theirs; the result, ``guess``, (3, 3), and ``boxes``, (N, 4)
    in the first picture, what is no background, are in full-size pixels.

    Flow on a grid of points; RANSAC; least squares over the inliers. With a guess the grid is laid
    over the second picture, and each point is looked for where the guess says.
    """
    source = expected = (_grid(before.shape[1], before.shape[0]) + 0.5) * scale - 0.5
    if guess is not None:
        source = moved_by(np.asarray(np.linalg.inv(guess), np.float64), expected)
        inside = ((source > 0) & (source < scale * np.array(before.shape[::-1]) - 1)).all(axis=1)
        source, expected = source[inside], expected[inside]
    if len(boxes):
        low = boxes[:, :2] - MARGIN * boxes[:, 2:]
        high = boxes[:, :2] + (1 + MARGIN) * boxes[:, 2:]
        hidden = ((source[:, None] > low) & (source[:, None] < high)).all(axis=2)
        clear = ~np.asarray(hidden).any(axis=1)
        source, expected = source[clear], expected[clear]
    if len(source) < MIN_INLIERS:
        return unknown_motion()
    near = None if guess is None else (expected + 0.5) / scale - 0.5
    found = flow(before, after, (source + 0.5) / scale - 0.5, MAX_RETURN_PX, near)
    target = source[found.ok] + found.moved[found.ok] * scale
    source = expected[found.ok]
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
    motion = np.vstack([affine, [0.0, 0.0, 1.0]])
    return CameraMotion(motion if guess is None else motion @ guess, sigma)


def unknown_motion() -> CameraMotion:
    """As if the camera stood still, and nothing known."""
    return CameraMotion(np.eye(3), float("inf"), CameraSource.NOBODY)


def _grid(width: int, height: int) -> FloatArray:
    x = (np.arange(GRID[0]) + 0.5) * width / GRID[0] - 0.5
    y = (np.arange(GRID[1]) + 0.5) * height / GRID[1] - 0.5
    return np.stack([np.tile(x, GRID[1]), np.repeat(y, GRID[0])], 1)
