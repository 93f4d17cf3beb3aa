"""Polygons and oriented rectangles on the ground, seen from above."""

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray

_CORNERS = np.array([[0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5]])


def area(polygon: FloatArray) -> float:
    """Of a simple polygon (K, 2), positive where it runs counter-clockwise."""
    x, y = polygon.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def rectangle(low: FloatArray, high: FloatArray) -> FloatArray:
    """(4, 2) corners of an upright rectangle, counter-clockwise."""
    return np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])


def corners(middles: FloatArray, yaws: FloatArray, sizes: FloatArray) -> FloatArray:
    """(N, 4, 2) corners of N rectangles of length and width ``sizes[:, :2]``."""
    c, s = np.cos(yaws)[:, None], np.sin(yaws)[:, None]
    x, y = (_CORNERS * sizes[:, None, :2]).transpose(2, 0, 1)
    turned: FloatArray = np.stack([c * x - s * y, s * x + c * y], axis=-1)
    return middles[:, None, :2] + turned


def overlaps(
    middle: FloatArray, yaw: float, size: FloatArray,
    middles: FloatArray, yaws: FloatArray, sizes: FloatArray,
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """(N,) which rectangles one rectangle touches, by separating axes."""
    one = corners(middle[None], np.array([yaw]), size[None])[0]
    all_yaws = np.append(yaws, yaw)
    others = corners(middles, yaws, sizes)
    apart = np.zeros(len(middles), bool)
    for turned in (0.0, np.pi / 2):
        axes = np.stack([np.cos(all_yaws + turned), np.sin(all_yaws + turned)], axis=1)
        for axis in (axes[:-1], np.broadcast_to(axes[-1], (len(middles), 2))):
            theirs = (others * axis[:, None]).sum(-1)
            mine = axis @ one.T
            apart |= theirs.min(1) > mine.max(1)
            apart |= theirs.max(1) < mine.min(1)
    return ~apart
