"""From the mosaic straight to a consumer's grid, in linear light.

A detector that wants 416 pixels of a 1280-pixel frame throws most of them away. Averaging them
before the tone curve instead lowers the noise where it is still symmetric, and no demosaic is
needed: each cell of the grid covers red, green and blue pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from isp.raw import Mosaic, site_names

FloatImage = npt.NDArray[np.float32]
THUMBNAIL = 64
_SMALLEST = 1e-4


@dataclass(frozen=True, slots=True)
class Linear:
    """A frame in linear light on a grid: levels are parts of the range from black to white.

    planes: (3, h, w) R, G, B; noise may bring a level below 0. greens: (h, w) difference of the two
    green sites, which is noise (and what the eye of a needle lets through of edges).
    """

    planes: FloatImage
    greens: FloatImage


class GridSampler:
    """Averages mosaics of one size to a grid; keeps its buffers between frames."""

    def __init__(
        self,
        size: tuple[int, int],
        grid: tuple[int, int],
        order: str,
        black: list[float],
        white: float,
    ) -> None:
        """size, grid: (width, height); the grid is at most half as fine. black: counts at the four
        sites of the 2×2 block, row by row. white: counts."""
        width, height = size
        self._grid = grid
        self._half = (height // 2, width // 2, 2)
        self._sites = site_names(order)
        self._black, self._white = black, white
        self._float = np.empty((height, width), np.float32)
        self._rows = np.empty((2, grid[1], grid[0], 2), np.float32)
        self._sampled = np.empty((4, grid[1], grid[0]), np.float32)

    def __call__(self, mosaic: Mosaic, shift: int = 0) -> Linear:
        """mosaic: (H, W) counts, ``shift`` bits up. The result lives until the next call."""
        np.copyto(self._float, mosaic)
        for row in range(2):
            cv2.resize(
                self._float[row::2].reshape(self._half),
                self._grid,
                dst=self._rows[row],
                interpolation=cv2.INTER_AREA,
            )
        places = {"R": 0, "Gr": 1, "Gb": 3, "B": 2}
        for site, name in enumerate(self._sites):
            scale = 1 / (self._white - self._black[site])
            plane = self._sampled[places[name]]
            np.multiply(
                self._rows[site // 2][..., site % 2], np.float32(scale / (1 << shift)), out=plane
            )
            plane -= np.float32(self._black[site] * scale)
        green, other = self._sampled[1], self._sampled[3]
        cv2.subtract(green, other, dst=other)
        cv2.scaleAdd(other, -0.5, green, dst=green)
        return Linear(self._sampled[:3], other)


def thumbnail(linear: Linear) -> FloatImage:
    """(4, 64, 64): R, G, B and the variance of G by its noise, averaged over the picture's parts.

    The two greens of a cell differ by the noise of both: a quarter of that square is the variance
    of their mean.
    """
    size = (THUMBNAIL, THUMBNAIL)
    out = np.empty((4, THUMBNAIL, THUMBNAIL), np.float32)
    for plane, small in zip(linear.planes, out, strict=False):
        cv2.resize(plane, size, dst=small, interpolation=cv2.INTER_AREA)
    squared = cv2.multiply(linear.greens, linear.greens, scale=0.25)
    cv2.resize(squared, size, dst=out[3], interpolation=cv2.INTER_AREA)
    return out


def measured_noise(small: FloatImage) -> tuple[float, float]:
    """Slope and floor of G's variance, slope · level + floor, from a thumbnail.

    Of parts of like level the flatter ones tell: edges between the two greens add to the rest.
    """
    level, variance = np.maximum(small[1].ravel(), 0), small[3].ravel()
    ranks = np.argsort(level, kind="stable").reshape(_BINS, -1)
    x = level[ranks].mean(axis=1).astype(np.float64)
    y = np.partition(variance[ranks], _FLAT, axis=1)[:, _FLAT].astype(np.float64)
    y = np.maximum(y, _LEAST_VARIANCE)
    w = 1 / y**2  # errors are relative
    s, sx, sy = w.sum(), (w * x).sum(), (w * y).sum()
    sxx, sxy = (w * x * x).sum(), (w * x * y).sum()
    determinant = s * sxx - sx * sx
    slope = (s * sxy - sx * sy) / determinant if determinant > 1e-12 * s * sxx else 0.0
    floor = (sy - slope * sx) / s
    if slope < 0:
        slope, floor = 0.0, sy / s
    elif floor < 0:
        slope, floor = sxy / max(sxx, 1e-30), 0.0
    return float(slope), float(max(floor, _LEAST_VARIANCE))


_BINS = 16
_FLAT = THUMBNAIL * THUMBNAIL // _BINS * 3 // 10
_LEAST_VARIANCE = 1e-10


def features(small: FloatImage) -> FloatImage:
    """(4, 64, 64) of the thumbnail for a network: levels and noise on logarithmic scales."""
    out = np.empty_like(small)
    np.log2(np.maximum(small[:3], 0) + np.float32(_SMALLEST), out=out[:3])
    out[:3] *= np.float32(0.25)
    out[:3] += 1
    np.log2(np.maximum(small[3], 0) + np.float32(_LEAST_VARIANCE), out=out[3])
    out[3] *= np.float32(0.125)
    out[3] += np.float32(2)
    return out
