"""The camera's own motion from one frame to the next, as seen on the background."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray

GRID = (14, 8)
WINDOW_PX = 11
LEVELS = 3
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
    before: npt.NDArray[np.uint8],
    after: npt.NDArray[np.uint8],
    scale: float,
    boxes: FloatArray,
    guess: FloatArray | None = None,
) -> CameraMotion:
    """The affine motion of the background between two small gray pictures.

    scale: full-size pixels for one of theirs; the result and ``boxes``, (N, 4) in the first
    picture, what is no background, are in full-size pixels. guess: (3, 3), where to look first,
    from a gyroscope.

    Pyramidal Lucas-Kanade (Bouguet 2001) on a grid, checked by tracking back; RANSAC; least squares
    over the inliers.
    """
    height, width = before.shape
    points = _grid(width, height)
    if len(boxes):
        at = (points[:, None] + 0.5) * scale
        low = boxes[:, :2] - MARGIN * boxes[:, 2:]
        high = boxes[:, :2] + (1 + MARGIN) * boxes[:, 2:]
        points = points[~((at > low) & (at < high)).all(axis=-1).any(axis=1)]
    if len(points) < MIN_INLIERS:
        return unknown_motion()
    start = points[:, None]
    flags, first = 0, None
    if guess is not None:
        full = (points + 0.5) * scale - 0.5
        mapped = np.c_[full, np.ones(len(full))] @ guess.T
        first = ((mapped[:, :2] / mapped[:, 2:] + 0.5) / scale - 0.5).astype(np.float32)[:, None]
        flags = cv2.OPTFLOW_USE_INITIAL_FLOW
    window = (WINDOW_PX, WINDOW_PX)
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, start, first, winSize=window, maxLevel=LEVELS, flags=flags
    )
    back, returned, _ = cv2.calcOpticalFlowPyrLK(
        after, before, there, start.copy(), winSize=window, maxLevel=LEVELS, flags=flags
    )
    ok = (found & returned).ravel() == 1
    ok &= np.abs(back - start)[:, 0].max(axis=1) < MAX_RETURN_PX
    if ok.sum() < MIN_INLIERS:
        return unknown_motion()
    source, target = ((p[ok, 0].astype(np.float64) + 0.5) * scale - 0.5 for p in (start, there))
    matrix, inliers = cv2.estimateAffine2D(
        source, target, ransacReprojThreshold=INLIER_PX * scale, maxIters=200, confidence=0.99
    )
    kept = None if matrix is None else inliers.ravel() == 1
    if kept is None or kept.sum() < max(MIN_INLIERS, MIN_INLIER_SHARE * len(source)):
        return unknown_motion()
    lifted = np.c_[source[kept], np.ones(kept.sum())]
    affine = np.linalg.lstsq(lifted, target[kept], rcond=None)[0].T
    sigma = 1.48 * float(np.median(np.abs(lifted @ affine.T - target[kept])))
    return CameraMotion(np.vstack([affine, [0.0, 0.0, 1.0]]), sigma)


def unknown_motion() -> CameraMotion:
    """As if the camera stood still, and nothing known."""
    return CameraMotion(np.eye(3), float("inf"))


def _grid(width: int, height: int) -> npt.NDArray[np.float32]:
    x = (np.arange(GRID[0]) + 0.5) * width / GRID[0] - 0.5
    y = (np.arange(GRID[1]) + 0.5) * height / GRID[1] - 0.5
    return np.stack([np.tile(x, GRID[1]), np.repeat(y, GRID[0])], 1).astype(np.float32)
