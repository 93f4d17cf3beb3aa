"""The operators that a frame on a grid goes through: noise-aware shrink, then gain and exponent.

``isp/train_operators.py`` holds the same for training; a test holds the two together.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from isp.grid import FloatImage, Linear

LUMA = (0.25, 0.5, 0.25)
"""Of balanced R, G, B: about what has the least noise where one site sees R, two G and one B."""
COLORS = ((1 - LUMA[0], -LUMA[1], -LUMA[2]), (-LUMA[0], -LUMA[1], 1 - LUMA[2]))
"""R and B less luma."""
FIELD = 16
WINDOW = 5
"""Side of the window over which averages and variances are taken."""
SITES = (2.0, 1.0, 2.0)  # variance of R, G, B over that of G, which two sites see
TINY = 1e-24
_BALANCE, _MAX_GAIN = 0.8, 64.0


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
    """Applies parameters to frames of one grid; keeps its buffers."""

    def __init__(self, grid: tuple[int, int]) -> None:
        """grid: (width, height), both even."""
        width, height = self._grid = grid
        half = self._half = (width // 2, height // 2)
        self._full = np.empty((4, height, width), np.float32)
        self._small = np.empty((7, *half[::-1]), np.float32)
        self._rgb = np.empty((3, height, width), np.float32)

    def __call__(self, linear: Linear, given: Parameters) -> npt.NDArray[np.uint8]:
        """A new (h, w, 3) uint8 RGB."""
        self._shrink(linear.planes, given)
        return self._tone(given)

    def _tone(self, given: Parameters) -> npt.NDArray[np.uint8]:
        """(level · gain)^exponent of the shrunk planes, gain and exponent varying over them."""
        flat = self._rgb.reshape(-1, self._grid[0])
        cv2.max(flat, 0.0, dst=flat)
        cv2.add(flat, given.toe, dst=flat)
        cv2.log(flat, dst=flat)
        gain, power = (
            cv2.resize(part * np.float32(math.log(2)), self._grid, dst=out)
            for part, out in zip(given.field, self._full, strict=False)
        )
        cv2.exp(power, dst=power)
        for plane, exponent in zip(self._rgb, given.exponents, strict=True):
            cv2.add(plane, gain, dst=plane)
            cv2.multiply(plane, power, dst=plane, scale=exponent)
        cv2.exp(flat, dst=flat)
        coded = []
        for plane, exponent in zip(self._rgb, given.exponents, strict=True):
            black = given.toe**exponent
            cv2.subtract(plane, black, dst=plane)
            cv2.max(plane, 0.0, dst=plane)
            coded.append(cv2.convertScaleAbs(plane, alpha=255))
        return np.asarray(cv2.merge(coded))

    def _shrink(self, planes: FloatImage, given: Parameters) -> None:
        """Balanced planes with less noise, into ``self._rgb``: fine luma on the grid, coarse luma
        and color on half of it, each towards its mean where it holds no more than noise."""
        y, fine, noise, spare = self._full
        y2, cr, cb, mean, variance, noise2, spare2 = self._small
        red, green, blue = self._rgb
        window = (WINDOW, WINDOW)
        for plane, gain, out in zip(planes, given.gains, self._rgb, strict=True):
            cv2.multiply(plane, gain, dst=out)
        cv2.addWeighted(red, LUMA[0], blue, LUMA[2], 0, dst=y)
        cv2.scaleAdd(green, LUMA[1], y, dst=y)
        for source, out in ((y, y2), (red, cr), (blue, cb)):
            cv2.resize(source, self._half, dst=out, interpolation=cv2.INTER_AREA)
        cv2.subtract(cr, y2, dst=cr)
        cv2.subtract(cb, y2, dst=cb)
        cv2.resize(y2, self._grid, dst=fine)
        cv2.subtract(y, fine, dst=fine)

        slope, floor = color_noise(given, (LUMA,))
        cv2.blur(y2, window, dst=mean)
        cv2.subtract(y2, mean, dst=y2)
        cv2.multiply(y2, y2, dst=variance)
        cv2.blur(variance, window, dst=variance)
        _noise(mean, slope / 4, floor / 4, noise2)
        _weight(variance, noise2, given.strengths[1], spare2)
        cv2.multiply(y2, variance, dst=y2)
        cv2.add(y2, mean, dst=y2)
        cv2.resize(y2, self._grid, dst=y)
        _noise(y, slope, floor, noise)
        cv2.multiply(fine, fine, dst=green)
        cv2.blur(green, window, dst=green)
        _weight(green, noise, given.strengths[0], spare)
        cv2.multiply(fine, green, dst=fine)
        cv2.add(y, fine, dst=y)

        slope, floor = color_noise(given, COLORS)
        _noise(y2, slope / 4, floor / 4, noise2)
        red2, blue2 = y2, spare2
        cv2.blur(cr, window, dst=red2)
        cv2.blur(cb, window, dst=mean)
        cv2.subtract(cr, red2, dst=cr)
        cv2.subtract(cb, mean, dst=cb)
        cv2.multiply(cr, cr, dst=variance)
        cv2.accumulateProduct(cb, cb, variance)
        cv2.blur(variance, window, dst=variance)
        _weight(variance, noise2, given.strengths[2], blue2)
        for color, average, out in ((cr, red2, red), (cb, mean, blue)):
            cv2.multiply(color, variance, dst=color)
            cv2.add(color, average, dst=color)
            cv2.resize(color, self._grid, dst=out)
        cv2.add(red, blue, dst=green)
        share = LUMA[0] / LUMA[1]
        for plane, factor in ((green, -share), (red, 1.0), (blue, 1.0)):
            cv2.scaleAdd(plane, factor * given.saturation, y, dst=plane)


def _noise(level: FloatImage, slope: float, floor: float, out: FloatImage) -> None:
    cv2.max(level, 0.0, dst=out)
    cv2.multiply(out, slope, dst=out)
    cv2.add(out, floor, dst=out)


def _weight(variance: FloatImage, noise: FloatImage, strength: float, spare: FloatImage) -> None:
    """variance ← v² / (v² + (strength · n)²): near 1 on detail, near 0 where only noise is."""
    cv2.multiply(variance, variance, dst=variance)
    cv2.multiply(noise, noise, dst=spare, scale=strength * strength)
    cv2.add(spare, variance, dst=spare)
    cv2.add(spare, TINY, dst=spare)
    cv2.divide(variance, spare, dst=variance)


def color_noise(given: Parameters, mixes: tuple[tuple[float, ...], ...]) -> tuple[float, float]:
    """Slope and floor of the variance of mixes of balanced R, G, B, all together."""
    slope = floor = 0.0
    for mix in mixes:
        for part, sites, gain in zip(mix, SITES, given.gains, strict=True):
            share = part * part * sites * gain
            slope += given.slope * share
            floor += given.floor * share * gain
    return slope, floor
