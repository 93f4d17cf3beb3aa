"""From the mosaic straight to a consumer's grid, in linear light.

A detector that wants 416 pixels of a 1280-pixel frame throws most of them away. Averaging them
before the tone curve instead lowers the noise where it is still symmetric, and no demosaic is
needed: each cell of the grid covers red, green and blue pixels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from isp.raw import Mosaic, site_names

FloatImage = npt.NDArray[np.float32]
THUMBNAIL = 64
_SMALLEST = 1e-4
_WIDEST = 40  # cells to a block, beyond which most of its matrix is zeros
_BAND_BYTES = 1 << 21  # of lines, so that they stay in the cache until they are averaged along


@dataclass(frozen=True, slots=True)
class Linear:
    """A frame in linear light on a grid: levels are parts of the range from black to white.

    sampled: (4, h, w) R, G, B, of which noise may bring a level below 0, and the variance of G that
    each cell's two greens show.
    """

    sampled: FloatImage

    @property
    def planes(self) -> FloatImage:
        """(3, h, w) R, G, B."""
        return self.sampled[:3]

    @staticmethod
    def of(planes: FloatImage, greens: FloatImage) -> "Linear":
        """planes: (3, h, w) R, G, B. greens: (h, w) difference of the two green sites, which is
        their noise (and what the eye of a needle lets through of edges): a quarter of its square is
        the variance of their mean."""
        return Linear(np.concatenate([planes, greens[None] ** 2 / 4]))


class GridSampler:
    """Averages mosaics of one size to a grid; keeps its buffers between frames.

    The mean over a cell is exact: a pixel counts by the part of it that the cell covers. Rows come
    first, straight from the counts, for whole rows are summed at the speed of memory; both rows of
    the 2×2 blocks lie side by side for that. Fewer lines are left to be averaged along, where
    pixels cannot be added in whole vectors: products with a small matrix, mostly of zeros, take
    half the time of ``cv2.resize`` there, which stands in where the widths have no large common
    divisor. The products are too small for the linear algebra below numpy to start threads.
    """

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
        across, down = grid
        self._pairs = (height // 2, 2 * width)
        self._scale = [1 / (white - level) for level in black]
        self._black = [level * scale for level, scale in zip(black, self._scale, strict=True)]
        self._sampled = np.empty((4, down, across), np.float32)
        places = [("R", "Gr", "B", "Gb").index(name) for name in site_names(order)]
        self._sites = [self._sampled[place] for place in places]
        self._site_at = [places.index(place) for place in range(4)]
        repeats = math.gcd(height // 2, down)
        bands = -(-repeats * 8 * width * (down // repeats) // _BAND_BYTES)
        together = -(-repeats // bands)
        all_lines = np.zeros((together * down // repeats, 2 * width), np.float32)
        self._bands = []
        for first in range(0, repeats, together):
            last = min(first + together, repeats)
            covered = slice(first * height // 2 // repeats, last * height // 2 // repeats)
            cells = slice(first * down // repeats, last * down // repeats)
            lines = all_lines[: cells.stop - cells.start]
            steps = [(source, lines[to], part) for source, to, part in _steps(height // 2, down)]
            self._bands.append((covered, steps, lines, cells))
        self._matrices: list[FloatImage] = []
        self._block = _block(width // 2, across)
        if self._block:
            share = _shares(width // 2 * self._block // across, self._block, self._block)[0][2]
            for column in range(2):
                matrix = np.zeros((len(share), 2, self._block), np.float32)
                matrix[:, column] = share
                self._matrices.append(matrix.reshape(-1, self._block))

    def __call__(self, mosaic: Mosaic, shift: int = 0) -> Linear:
        """mosaic: (H, W) counts, ``shift`` bits up. The result lives until the next call."""
        pairs = np.ascontiguousarray(mosaic).reshape(self._pairs)
        for covered, steps, lines, cells in self._bands:
            rows = pairs[covered]
            for source, target, share in steps:
                cv2.accumulateWeighted(rows[source], target, share)
            self._along(lines, [plane[cells] for plane in self._sites])
        scale = [self._scale[site] / (1 << shift) for site in self._site_at]
        black = [self._black[site] for site in self._site_at]
        red, green, blue, other = self._sampled
        for plane, place in ((red, 0), (blue, 2)):
            cv2.addWeighted(plane, scale[place], plane, 0, -black[place], dst=plane)
        cv2.addWeighted(green, scale[1], other, -scale[3], black[3] - black[1], dst=other)
        cv2.addWeighted(green, scale[1], other, -0.5, -black[1], dst=green)
        cv2.multiply(other, other, dst=other, scale=0.25)  # as in ``Linear.of``
        return Linear(self._sampled)

    def _along(self, lines: FloatImage, sites: list[FloatImage]) -> None:
        """Lines (n, 2 · W), averaged along each half, to the four sites' planes (n, w)."""
        count, across = sites[0].shape
        for row, planes in enumerate((sites[:2], sites[2:])):
            if not self._block:
                pairs = lines.reshape(count, 2, -1, 2)[:, row]
                size = (across, count)
                cv2.split(cv2.resize(pairs, size, interpolation=cv2.INTER_AREA), planes)
                continue
            blocks = lines.reshape(count, 2, across // self._block, -1)[:, row]
            for matrix, plane in zip(self._matrices, planes, strict=True):
                np.matmul(blocks, matrix, out=plane.reshape(count, -1, self._block))


def _block(size: int, cells: int) -> int:
    """The fewest cells in a row, but some, that repeat how ``size`` values are averaged over
    ``cells``; 0 where those are many."""
    period = cells // math.gcd(size, cells)
    some = (n for n in range(period, _WIDEST + 1, period) if n >= 8 and cells % n == 0)
    return next(some, 0)


def _steps(size: int, cells: int) -> list[tuple[slice, slice, float]]:
    """How rows are averaged over fewer ones: source rows, target rows, and the share by which each
    target is to move to its source, one after the other. Where the sizes have a common divisor the
    pattern repeats, and a step takes that many rows at once."""
    repeats = math.gcd(size, cells)
    high, wide = cells // repeats, size // repeats  # of a source and of a target row
    steps = []
    for cell in range(high):
        done = 0
        for row in range(cell * wide // high, -(-(cell + 1) * wide // high)):
            part = min((row + 1) * high, (cell + 1) * wide) - max(row * high, cell * wide)
            done += part
            steps.append((slice(row, None, wide), slice(cell, None, high), part / done))
    return steps


@lru_cache(maxsize=16)
def _shares(size: int, cells: int, step: int) -> list[tuple[slice, slice, FloatImage]]:
    """The matrix that averages ``size`` values over ``cells``, ``step`` cells at a time: which, the
    values they lie over, and (values, cells) the share of each."""
    edges = np.arange(cells + 1) * (size / cells)
    made = []
    for first in range(0, cells, step):
        last = min(first + step, cells)
        low, high = first * size // cells, -(-last * size // cells)
        value = np.arange(low, high)[:, None]
        part = np.minimum(edges[first + 1 : last + 1], value + 1)
        part = np.maximum(part - np.maximum(edges[first:last], value), 0) / (size / cells)
        made.append((slice(first, last), slice(low, high), part.astype(np.float32)))
    return made


def thumbnail(linear: Linear) -> FloatImage:
    """(4, 64, 64): R, G, B and G's variance by its noise, averaged over the picture's parts."""
    out = np.empty((4, THUMBNAIL, THUMBNAIL), np.float32)
    height, width = linear.sampled.shape[1:]
    if min(width, height) < THUMBNAIL:
        for plane, small in zip(linear.sampled, out, strict=True):
            cv2.resize(plane, out.shape[1:], dst=small, interpolation=cv2.INTER_AREA)
        return out
    lines = np.empty((4, THUMBNAIL, width), np.float32)
    for cells, values, share in _shares(height, THUMBNAIL, _STEP):
        np.matmul(share.T, linear.sampled[:, values], out=lines[:, cells])
    for cells, values, share in _shares(width, THUMBNAIL, 2 * _STEP):
        np.matmul(lines[:, :, values], share, out=out[:, :, cells])
    return out


_STEP = 8


def measured_noise(small: FloatImage) -> tuple[float, float]:
    """Slope and floor of G's variance, slope · level + floor, from a thumbnail.

    Of parts of like level the flatter ones tell: edges between the two greens add to the rest.
    """
    level, variance = np.maximum(small[1].ravel(), 0), small[3].ravel()
    ranks = _ranks(level)
    x = level[ranks].reshape(_BINS, -1).mean(axis=1).astype(np.float64)
    y = np.partition(variance[ranks].reshape(_BINS, -1), _FLAT, axis=1)[:, _FLAT]
    y = np.maximum(y.astype(np.float64), _LEAST_VARIANCE)
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


def _ranks(level: FloatImage) -> npt.NDArray[np.int64]:
    """As ``argsort`` with ``kind="stable"``, of levels from 0 up, in a fifth of the time: their
    bits order as they do, and with the place below them no two are the same."""
    keys = level.view(np.int32).astype(np.int64)
    keys <<= _PLACE_BITS
    keys |= np.arange(len(keys))
    keys.sort()
    keys &= (1 << _PLACE_BITS) - 1
    return keys


_PLACE_BITS = 12
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
