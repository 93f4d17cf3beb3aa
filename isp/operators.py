"""The operators that a frame on a grid goes through: noise-aware shrink, then gain and exponent.

``isp/train_network.py`` holds the same for training; a test holds the two together.
"""

import math
from collections.abc import Callable, Sequence
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
SEEN = 7
"""Planes on the half grid that a denoiser looks at: luma and the two colors less their means, what
the shrink left of these, and the logarithm of fine luma's energy; all in units of noise."""
LEAST_ENERGY = 0.1
"""What is added to that energy, so that its logarithm has a bound; in units of noise squared."""
_BALANCE, _MAX_GAIN = 0.8, 64.0
_LEAST_SUM = 0.1
_DARKEST, _LOUD = 1e-5, 0.06


Denoiser = Callable[[FloatImage], tuple[FloatImage, FloatImage] | None]
"""From (SEEN, h, w), both sides even, to (3, h, w) what luma and the colors lack after the shrink,
in units of noise, and (h, w) the factor on what fine luma is shrunk by; None where it cannot say
and the shrink stays alone."""


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

    def __init__(
        self,
        grid: tuple[int, int],
        matrix: Sequence[float] = IDENTITY,
        denoiser: Denoiser | None = None,
    ) -> None:
        """grid: (width, height), both even. matrix: nine numbers, row by row, from balanced camera
        RGB to linear RGB. denoiser: goes on where the shrink ends; None is the shrink alone."""
        self._plain, self._mix = color_mix(IDENTITY), color_mix(matrix)
        width, height = self._grid = grid
        self._half = (width // 2, height // 2)
        rows, columns = self._half[::-1]
        self._full = np.empty((4, height, width), np.float32)
        self._coarse = np.empty((3, rows, columns), np.float32)
        self._apart = np.empty((3, rows, columns), np.float32)
        self._kept = np.empty((3, rows, columns), np.float32)
        self._small = np.empty((4, rows, columns), np.float32)
        self._ones = np.ones((rows, columns), np.float32)
        self._codes = list(np.empty((3, height, width), np.uint8))
        self._denoiser = denoiser
        self._seen = np.zeros((SEEN, rows + rows % 2, columns + columns % 2), np.float32)

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
        luma, red, blue = self._coarse
        mixed = self._small[0]
        cv2.addWeighted(red, of_colors[0], blue, of_colors[1], toe, dst=mixed)
        cv2.add(mixed, luma, dst=mixed)
        cv2.resize(mixed, self._grid, dst=plane)
        cv2.add(plane, fine, dst=plane)
        cv2.max(plane, toe, dst=plane)  # type: ignore[call-overload]
        return np.asarray(plane)

    def _shrink(self, planes: FloatImage, given: Parameters) -> list[list[float]]:
        """Balanced planes with less noise: fine luma on the grid, coarse luma and color on half of
        it, each towards its mean where it holds no more than noise. Gives what is to be added to
        luma for R, G, B, of the two colors."""
        y, weight, _, fine = self._full
        coarse, apart, kept = self._coarse, self._apart, self._kept
        variance, divisor, of_fine, energy = self._small
        of_red, of_green, of_blue = given.gains
        cv2.addWeighted(planes[0], LUMA[0] * of_red, planes[2], LUMA[2] * of_blue, 0, dst=y)
        cv2.scaleAdd(planes[1], LUMA[1] * of_green, y, dst=y)
        for source, part in zip((y, planes[0], planes[2]), apart, strict=True):
            cv2.resize(source, self._half, dst=part, interpolation=cv2.INTER_AREA)
        for part, gain in zip(apart[1:], (of_red, of_blue), strict=True):
            cv2.addWeighted(part, gain, apart[0], -1, 0, dst=part)
        cv2.resize(apart[0], self._grid, dst=fine)
        cv2.subtract(y, fine, dst=fine)
        cv2.multiply(fine, fine, dst=weight)
        cv2.resize(weight, self._half, dst=energy, interpolation=cv2.INTER_AREA)
        for part, mean in zip(apart, coarse, strict=True):
            _blur(part, mean)
            cv2.subtract(part, mean, dst=part)

        slope, floor = color_noise(given, (LUMA,))
        cv2.multiply(apart[0], apart[0], dst=variance)
        _blur(variance, variance)
        _divisor(variance, coarse[0], slope / 4, floor / 4, given.strengths[1], divisor)
        cv2.divide(apart[0], divisor, dst=kept[0])
        cv2.add(coarse[0], kept[0], dst=coarse[0])
        _blur(energy, variance, FINE_WINDOW)
        _divisor(variance, coarse[0], slope, floor, given.strengths[0], of_fine)

        of_colors = color_noise(given, COLORS)
        cv2.multiply(apart[1], apart[1], dst=variance)
        cv2.accumulateProduct(apart[2], apart[2], variance)
        _blur(variance, variance)
        slope4, floor4 = (n / 4 for n in of_colors)
        _divisor(variance, coarse[0], slope4, floor4, given.strengths[2], divisor)
        for part, left, mean in zip(apart[1:], kept[1:], coarse[1:], strict=True):
            cv2.divide(part, divisor, dst=left)
            cv2.add(mean, left, dst=mean)

        level = cv2.mean(coarse[0])[0]
        if self._denoiser is not None:
            noise = slope, floor
            self._denoise(self._denoiser, noise, loudness(level, noise, of_colors))
        cv2.divide(self._ones, of_fine, dst=of_fine)  # a number instead takes four times as long
        cv2.resize(of_fine, self._grid, dst=weight)
        cv2.multiply(fine, weight, dst=fine)
        share = matrix_share(level, slope, floor)
        mix = (self._plain + (self._mix - self._plain) * share) * given.saturation
        return [list(row) for row in mix.tolist()]

    def _denoise(self, denoiser: Denoiser, noise: tuple[float, float], louder: float) -> None:
        """Adds to the coarse planes what the denoiser finds, and changes fine luma's divisor.

        noise: slope and floor of fine luma's. louder: as ``loudness`` gives it.
        """
        inverse, unit, of_fine, energy = self._small
        rows, columns = self._half[::-1]
        seen = self._seen[:, :rows, :columns]
        cv2.threshold(self._coarse[0], 0, 0, cv2.THRESH_TOZERO, dst=unit)
        cv2.addWeighted(unit, noise[0], unit, 0, noise[1] + math.sqrt(TINY), dst=unit)
        cv2.pow(unit, -0.5, dst=inverse)
        cv2.sqrt(unit, dst=unit)
        scales = (1.0, 1 / louder, 1 / louder)
        for planes, out in ((self._apart, seen[:3]), (self._kept, seen[3:6])):
            for plane, scale, to in zip(planes, scales, out, strict=True):
                cv2.multiply(plane, inverse, dst=to, scale=scale)
        cv2.multiply(energy, inverse, dst=energy)
        cv2.multiply(energy, inverse, dst=energy)
        cv2.addWeighted(energy, 0.5, energy, 0.5, LEAST_ENERGY, dst=energy)
        cv2.log(energy, dst=seen[6])
        found = denoiser(self._seen)
        if found is None:
            return
        lacking, factor = found
        for part, scale, out in zip(lacking, (1.0, louder, louder), self._coarse, strict=True):
            cv2.multiply(part[:rows, :columns], unit, dst=inverse, scale=scale)
            cv2.add(out, inverse, dst=out)
        cv2.addWeighted(of_fine, 0.5, of_fine, 0.5, -1, dst=of_fine)
        cv2.multiply(of_fine, factor[:rows, :columns], dst=of_fine)
        cv2.addWeighted(of_fine, 0.5, of_fine, 0.5, 1, dst=of_fine)


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


def loudness(level: Any, luma: tuple[Any, Any], colors: tuple[Any, Any]) -> Any:
    """By how much the noise of one color is louder than that of luma where luma has some level.

    luma, colors: slope and floor, of both colors together. All numbers, or all tensors.
    """
    level = level * (level > _DARKEST) + _DARKEST * (level <= _DARKEST)
    ours, theirs = (slope * level + floor + math.sqrt(TINY) for slope, floor in (luma, colors))
    return (0.5 * theirs / ours) ** 0.5


def color_noise(given: Parameters, mixes: tuple[tuple[float, ...], ...]) -> tuple[float, float]:
    """Slope and floor of the variance of mixes of balanced R, G, B, all together."""
    slope = floor = 0.0
    for mix in mixes:
        for part, sites, gain in zip(mix, SITES, given.gains, strict=True):
            share = part * part * sites * gain
            slope += given.slope * share
            floor += given.floor * share * gain
    return slope, floor
