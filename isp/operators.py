"""The operators that a frame on a grid goes through: noise-aware shrink, then gain and exponent.

``isp/train_network.py`` holds the same for training; a test holds the two together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from isp.config import IDENTITY
from isp.grid import FloatImage, Linear

LUMA = (0.25, 0.5, 0.25)
"""Of balanced R, G, B: about what has the least noise where one site sees R, two G and one B."""
COLORS = ((1 - LUMA[0], -LUMA[1], -LUMA[2]), (-LUMA[0], -LUMA[1], 1 - LUMA[2]))
"""R and B less luma."""
FIELD = 16
WINDOW, FINE_WINDOW = 5, 3
"""Sides of the windows on the half grid over which averages and variances are taken, the second
for fine luma."""
SITES = (2.0, 1.0, 2.0)  # variance of R, G, B over that of G, which two sites see
TINY = 1e-24
"""Least squared noise, so that it is never none."""
_BALANCE, _MAX_GAIN = 0.8, 64.0
_LEAST_SUM = 0.1
_DARKEST, _LOUD = 1e-5, 0.06


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the operators do to one frame.

    gains, exponents: of R, G, B. saturation: factor on color. toe: level below which the curve is
    straightened. strengths: of the shrink on fine luma, coarse luma and color; 0 is off. field:
    (2, 16, 16) log2 gain and log2 exponent over the picture. slope, floor: of G's noise variance.
    """

    gains: tuple[float, float, float]
    exponents: tuple[float, float, float]
    saturation: float
    toe: float
    strengths: tuple[float, float, float]
    field: FloatImage
    slope: float
    floor: float


def default_parameters(levels: FloatImage, noise: tuple[float, float]) -> Parameters:
    """What is done without a network: most of gray world, exponent 1/2.2, shrink by the noise.

    levels: (3,) mean level of R, G, B. noise: slope and floor of G's variance.
    """
    light = np.maximum(levels, 1e-4).astype(np.float64)
    r, g, b = np.minimum((light.max() / light) ** _BALANCE, _MAX_GAIN).tolist()
    field = np.zeros((2, FIELD, FIELD), np.float32)
    return Parameters((r, g, b), (1 / 2.2,) * 3, 1.0, 0.002, (2.0, 2.0, 2.0), field, *noise)


class Operators:
    """Applies parameters to frames of one grid; keeps its buffers.

    What it costs is the number of passes over full planes, so there are as few as can be: weights
    are found on the half grid, luma and color go up from there together, gains are folded into the
    mixes of colors, and the curve's black and the clip to codes into the conversion to 8 bits.
    """

    def __init__(self, grid: tuple[int, int], matrix: Sequence[float] = IDENTITY) -> None:
        """grid: (width, height), both even. matrix: nine numbers, row by row, from balanced camera
        RGB to linear RGB."""
        self._plain, self._mix = color_mix(IDENTITY), color_mix(matrix)
        width, height = self._grid = grid
        half = self._half = (width // 2, height // 2)
        self._full = np.empty((4, height, width), np.float32)
        self._small = np.empty((7, *half[::-1]), np.float32)
        self._ones = np.ones(half[::-1], np.float32)
        self._codes = list(np.empty((3, height, width), np.uint8))

    def __call__(self, linear: Linear, given: Parameters) -> npt.NDArray[np.uint8]:
        """A new (h, w, 3) uint8 RGB."""
        mix = self._shrink(linear.planes, given)
        field = given.field * np.float32(math.log(2))
        gain = cv2.resize(field[0], self._grid, dst=self._full[0])
        power = cv2.resize(cv2.exp(field[1]), self._grid, dst=self._full[1])
        for of_colors, exponent, code in zip(mix, given.exponents, self._codes, strict=True):
            plane = self._joined(of_colors, given.toe)
            # (level · gain)^exponent, gain and exponent varying over the picture
            cv2.log(plane, dst=plane)
            cv2.scaleAdd(gain, 1.0, plane, dst=plane)
            cv2.multiply(plane, power, dst=plane, scale=exponent)
            cv2.exp(plane, dst=plane)
            black = -255 * given.toe**exponent
            cv2.addWeighted(plane, 127.5, plane, 127.5, black, dst=code, dtype=cv2.CV_8U)
        return np.asarray(cv2.merge(self._codes))

    def _joined(self, of_colors: Sequence[float], toe: float) -> FloatImage:
        """R, G or B on the grid, of what ``_shrink`` left, with the toe on it and no lower."""
        plane, fine = self._full[2:]
        y2, cr, cb, mean = self._small[:4]
        cv2.addWeighted(cr, of_colors[0], cb, of_colors[1], toe, dst=mean)
        cv2.add(mean, y2, dst=mean)
        cv2.resize(mean, self._grid, dst=plane)
        cv2.add(plane, fine, dst=plane)
        cv2.max(plane, toe, dst=plane)  # type: ignore[call-overload]
        return np.asarray(plane)

    def _shrink(self, planes: FloatImage, given: Parameters) -> list[list[float]]:
        """Balanced planes with less noise: fine luma on the grid, coarse luma and color on half of
        it, each towards its mean where it holds no more than noise. Gives what is to be added to
        luma for R, G, B, of the two colors."""
        y, weight, _, fine = self._full
        y2, cr, cb, mean, mean2, weight2, variance2 = self._small
        of_red, of_green, of_blue = given.gains
        cv2.addWeighted(planes[0], LUMA[0] * of_red, planes[2], LUMA[2] * of_blue, 0, dst=y)
        cv2.scaleAdd(planes[1], LUMA[1] * of_green, y, dst=y)
        for source, out in ((y, y2), (planes[0], cr), (planes[2], cb)):
            cv2.resize(source, self._half, dst=out, interpolation=cv2.INTER_AREA)
        cv2.addWeighted(cr, of_red, y2, -1, 0, dst=cr)
        cv2.addWeighted(cb, of_blue, y2, -1, 0, dst=cb)
        cv2.resize(y2, self._grid, dst=fine)
        cv2.subtract(y, fine, dst=fine)
        cv2.multiply(fine, fine, dst=weight)
        cv2.resize(weight, self._half, dst=mean2, interpolation=cv2.INTER_AREA)
        _blur(mean2, mean2, FINE_WINDOW)

        slope, floor = color_noise(given, (LUMA,))
        _blur(y2, mean)
        cv2.subtract(y2, mean, dst=y2)
        cv2.multiply(y2, y2, dst=variance2)
        _blur(variance2, variance2)
        _divisor(variance2, mean, slope / 4, floor / 4, given.strengths[1], weight2)
        cv2.divide(y2, weight2, dst=y2)
        cv2.add(y2, mean, dst=y2)
        _divisor(mean2, y2, slope, floor, given.strengths[0], weight2)
        cv2.divide(self._ones, weight2, dst=weight2)  # a number instead takes four times as long
        cv2.resize(weight2, self._grid, dst=weight)
        cv2.multiply(fine, weight, dst=fine)

        slope, floor = color_noise(given, COLORS)
        for color, average in ((cr, mean), (cb, mean2)):
            _blur(color, average)
            cv2.subtract(color, average, dst=color)
        cv2.multiply(cr, cr, dst=variance2)
        cv2.accumulateProduct(cb, cb, variance2)
        _blur(variance2, variance2)
        _divisor(variance2, y2, slope / 4, floor / 4, given.strengths[2], weight2)
        for color, average in ((cr, mean), (cb, mean2)):
            cv2.divide(color, weight2, dst=color)
            cv2.add(color, average, dst=color)
        share = matrix_share(cv2.mean(y2)[0], *color_noise(given, (LUMA,)))
        mix = (self._plain + (self._mix - self._plain) * share) * given.saturation
        return [list(row) for row in mix.tolist()]


_MEANS = {side: np.full(side, 1 / side, np.float32) for side in (WINDOW, FINE_WINDOW)}


def _blur(source: FloatImage, out: FloatImage, side: int = WINDOW) -> None:
    """Mean over the window: as ``cv2.blur`` takes it, in two thirds of the time on floats."""
    cv2.sepFilter2D(source, -1, _MEANS[side], _MEANS[side], dst=out)


def _divisor(
    variance: FloatImage,
    level: FloatImage,
    slope: float,
    floor: float,
    strength: float,
    out: FloatImage,
) -> None:
    """out ← 1 + (strength · n / v)², n being slope · max(level, 0) + floor: what a difference from
    the mean is divided by; near 1 on detail, large where only noise is."""
    cv2.threshold(level, 0, 0, cv2.THRESH_TOZERO, dst=out)
    cv2.addWeighted(out, strength * slope, out, 0, strength * floor + math.sqrt(TINY), dst=out)
    cv2.divide(out, variance, dst=out)  # infinite where flat, and then the difference is 0 / inf
    cv2.multiply(out, out, dst=out)
    cv2.addWeighted(out, 0.5, out, 0.5, 1, dst=out)  # for infinity times 0 is not a number


def color_mix(matrix: Sequence[float]) -> npt.NDArray[np.float32]:
    """(3, 2): what is added to luma for R, G, B, of the two colors R and B less luma, by a color
    matrix whose rows are made to sum to 1, so that gray stays."""
    rows = np.array(matrix, np.float64).reshape(3, 3)
    sums = rows.sum(axis=1, keepdims=True)
    rows = rows / np.where(np.abs(sums) > _LEAST_SUM, sums, 1)
    red, green, blue = rows.T
    mix = [red - green * (LUMA[0] / LUMA[1]), blue - green * (LUMA[2] / LUMA[1])]
    return np.stack(mix, axis=1).astype(np.float32)


def matrix_share(level: Any, slope: Any, floor: Any) -> Any:
    """How much of the color matrix is applied, 0 to 1: it makes noise of color louder, and where
    that is loud, detectors see more without it.

    level: mean of luma. slope, floor: of luma's noise. All numbers, or all tensors.
    """
    level = level * (level > _DARKEST) + _DARKEST * (level <= _DARKEST)
    return 1 / (1 + (slope * level + floor) / (_LOUD * level) ** 2)


def color_noise(given: Parameters, mixes: tuple[tuple[float, ...], ...]) -> tuple[float, float]:
    """Slope and floor of the variance of mixes of balanced R, G, B, all together."""
    slope = floor = 0.0
    for mix in mixes:
        for part, sites, gain in zip(mix, SITES, given.gains, strict=True):
            share = part * part * sites * gain
            slope += given.slope * share
            floor += given.floor * share * gain
    return slope, floor
