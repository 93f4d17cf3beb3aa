"""Pyramidal Lucas-Kanade (Bouguet 2001) that checks itself by tracking back."""

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

WINDOW_PX = 11
LEVELS = 3
GUESSED_LEVELS = 2


class Flow(NamedTuple):
    """Of K points. moved: (K, 2) float64, in px, 0 where it failed. ok: (K,) bool. texture: (K,)
    float64, the smaller eigenvalue of the gradient matrix: how well a point can be followed."""

    moved: npt.NDArray[np.float64]
    ok: npt.NDArray[np.bool_]
    texture: npt.NDArray[np.float64]


def flow(
    before: npt.NDArray[np.uint8],
    after: npt.NDArray[np.uint8],
    points: npt.NDArray[np.float64],
    max_return_px: float,
    guess: npt.NDArray[np.float64] | None = None,
) -> Flow:
    """Follow points, (K, 2), from one gray picture to the other.

    max_return_px: distance from its start at which a point that was tracked forth and back counts.
    guess: (K, 2), where they are expected; the search then is from there, and less wide.
    """
    start = np.ascontiguousarray(points, np.float32)[:, None]
    track: Any = cv2.calcOpticalFlowPyrLK
    settings: dict[str, Any] = {"winSize": (WINDOW_PX, WINDOW_PX), "maxLevel": LEVELS}
    near = None
    flags = 0
    if guess is not None:
        near = np.ascontiguousarray(guess, np.float32)[:, None]
        flags, settings["maxLevel"] = cv2.OPTFLOW_USE_INITIAL_FLOW, GUESSED_LEVELS
    there, found, texture = track(
        before,
        after,
        start,
        None if near is None else near.copy(),
        flags=flags | cv2.OPTFLOW_LK_GET_MIN_EIGENVALS,
        **settings,
    )
    home = None if near is None else start + (there - near)
    back, returned, _ = track(after, before, there, home, flags=flags, **settings)
    ok = (found.ravel() == 1) & (returned.ravel() == 1)
    ok &= np.abs(back - start)[:, 0].max(axis=1) < max_return_px
    moved = np.where(ok[:, None], (there - start)[:, 0], 0.0).astype(np.float64)
    return Flow(moved, ok, np.where(ok, np.maximum(texture.ravel(), 1e-6), 0.0))
