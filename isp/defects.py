"""Defect pixels of a mosaic: those that a calibration lists, and outliers found on the fly."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from isp.raw import Mosaic
from pipeline.errors import InputError

_PAIRS = np.array([[0, 2], [2, 0], [2, 2], [2, -2]])  # to neighbors of the same color
_BAND_ROWS = 64  # the intermediate bands stay in the cache


class DefectMap:
    """Replaces listed pixels by the mean of the opposite same-color neighbors that differ least.

    So an edge through the pixel is followed, not smeared. Neighbors that are defects themselves are
    used only where no sound pair is left.
    """

    def __init__(self, pixels: npt.NDArray[np.int64], size: tuple[int, int]) -> None:
        """pixels: (N, 2) row and column. size: (width, height) of the mosaic.

        Raises:
            InputError: a pixel lies outside the mosaic.
        """
        shape = np.array(size[::-1])
        if (pixels >= shape).any():
            row, column = pixels[(pixels >= shape).any(axis=1)][0]
            raise InputError(
                f"defect pixel at row {row}, column {column} lies outside the "
                f"{size[0]}x{size[1]} picture: give the map of this camera"
            )
        bad = np.zeros(size[::-1], bool)
        bad[tuple(pixels.T)] = True
        ends = pixels[:, None, None] + _PAIRS[:, None] * [[1], [-1]]
        ends += 4 * (ends < 0) - 4 * (ends >= shape)  # the neighbor on the other side
        self._pixels = tuple(pixels.T)
        self._ends = (ends[..., 0], ends[..., 1])  # (N, pair, end)
        self._penalty = bad[self._ends].sum(axis=-1) * (1 << 17)

    def replace(self, mosaic: Mosaic) -> None:
        """Replace the listed pixels in place."""
        ends = mosaic[self._ends].astype(np.int64)
        best = np.argmin(np.abs(ends[..., 0] - ends[..., 1]) + self._penalty, axis=1)
        mosaic[self._pixels] = (ends.sum(axis=-1)[np.arange(len(best)), best] + 1) // 2


def replace_outliers(mosaic: Mosaic, threshold: int, out: Mosaic) -> None:
    """Limit a pixel that stands out of its eight same-color neighbors to their extreme.

    threshold: counts by which it must lie above the highest or below the lowest of them. A line or
    an edge of any direction has a neighbor of its own level, so it is kept.
    """
    height, width = mosaic.shape
    padded = np.empty((height + 4, width + 4), mosaic.dtype)
    padded[2:-2, 2:-2] = mosaic
    padded[2:-2, :2], padded[2:-2, -2:] = mosaic[:, 2:4], mosaic[:, -4:-2]
    padded[:2], padded[-2:] = padded[4:6], padded[-6:-4]  # beyond the border: the other side's
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top, min(top + _BAND_ROWS, height))
        band = padded[rows.start : rows.stop + 4]
        left, center, right = band[:, :-4], band[:, 2:-2], band[:, 4:]
        highest = _extreme(cv2.max, left, center, right)
        lowest = _extreme(cv2.min, left, center, right)
        middle, target = center[2:-2], out[rows]
        target[...] = middle
        hot = cv2.subtract(middle, highest) > threshold  # saturates at 0
        cold = cv2.subtract(lowest, middle) > threshold
        cv2.copyTo(highest, hot.view(np.uint8), target)
        cv2.copyTo(lowest, cold.view(np.uint8), target)


def _extreme(
    of: Callable[[Mosaic, Mosaic], Any], left: Mosaic, center: Mosaic, right: Mosaic
) -> Any:
    """cv2.max or cv2.min of the eight same-color neighbors of ``center[2:-2]``."""
    sides = of(left, right)
    rows = of(sides, center)
    return of(of(rows[:-4], rows[4:]), sides[2:-2])
