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


def convex_parts(polygon: FloatArray) -> list[FloatArray]:
    """A simple counter-clockwise polygon (K, 2) as it is if a convex quadrangle, else triangles.

    Ears are cut off one by one (Meisters 1975); the parts cover the polygon exactly.
    """
    if len(polygon) <= 4 and (_bends(polygon) >= 0).all():
        return [polygon]
    left, parts = list(range(len(polygon))), []
    while len(left) > 3:
        ring = polygon[left]
        ear = next((k for k in range(len(left)) if _is_ear(ring, k)), None)
        if ear is None:  # only slivers of a polygon that touches itself are left
            break
        parts.append(ring[[ear - 1, ear, (ear + 1) % len(left)]])
        del left[ear]
    return [p for p in (*parts, polygon[left]) if area(p) > 1e-9]


def _bends(polygon: FloatArray) -> FloatArray:
    """(K,) positive where the outline turns left at a corner."""
    before, after = polygon - np.roll(polygon, 1, 0), np.roll(polygon, -1, 0) - polygon
    turned: FloatArray = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return turned


def _is_ear(ring: FloatArray, k: int) -> bool:
    tip = ring[[k - 1, k, (k + 1) % len(ring)]]
    if area(tip) < 0:
        return False
    side = np.roll(tip, -1, 0) - tip
    rel = ring[:, None] - tip[None]
    inside = (side[:, 0] * rel[..., 1] - side[:, 1] * rel[..., 0] > 0).all(axis=1)
    return not inside.any()
