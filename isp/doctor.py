"""What an unknown RAW is: bits, black and white level, defects and Bayer order, each with a reason.

``examine`` takes one mosaic and is told nothing else. What it cannot know it says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isp.bayer_order import FloatArray, OrderGuess, guess_order, site_planes
from isp.defects import replace_outliers
from isp.raw import Mosaic
from isp.raw_levels import Bits, Black, find_bits, find_black, histogram, saturation
from pipeline.errors import InputError
from pipeline.images import MAX_SIDE_PX

LEAST_SIDE_PX = 32
SURE = 0.9
"""From this probability on a finding is called sure."""
_HOT = 0.08  # of the white level: how far a pixel stands out of its eight same-color neighbors
_MOST_SATURATED = 0.6
_SLANTS = (2, 4, 6, 8, 10, 12, 14, 16)  # pixels by which a wrong step may move each second row
_FEW_ROWS = 512
_QUAD_APART = 0.03  # how far the sites' means lie apart at least once 2x2 pixels are binned


@dataclass(frozen=True)
class Diagnosis:
    """Findings on one mosaic.

    size: (width, height). white: counts at saturation, None where no light is cut off. saturated:
    share of the pixels there. hot: pixels that stand out alone. padding: constant columns at the
    right end. order: None where ``problem`` says why it cannot be known.
    """

    size: tuple[int, int]
    bits: Bits
    black: Black
    white: float | None
    saturated: float
    hot: int
    padding: int
    order: OrderGuess | None
    problem: str

    @property
    def options(self) -> dict[str, str | int | float | list[float]]:
        """What to set, by the names of ``isp.config.IspConfig``."""
        chosen: dict[str, str | int | float | list[float]] = {}
        if self.order is not None:
            chosen["order"] = self.order.ranked[0]
        chosen["bits"] = self.bits.bits
        chosen["justified"] = self.bits.justified
        chosen["black_level"] = [round(self.black.level, 1)]
        if self.white is not None and self.white < 0.99 * ((1 << self.bits.bits) - 1):
            chosen["white_level"] = self.white
        return chosen


def examine(mosaic: Mosaic, bits: int = 0) -> Diagnosis:
    """Find out what a RAW is.

    mosaic: (H, W) uint8 or uint16. bits: significant ones where they are known, else 0.

    Raises:
        InputError: no such array, one too small or too large, or one that needs more than ``bits``.
    """
    _check(mosaic)
    height, width = (n // 2 * 2 for n in mosaic.shape)
    padding = _padding(mosaic)
    mosaic = np.ascontiguousarray(mosaic[:height, : width - padding - padding % 2])
    counts = histogram(mosaic)
    cut = saturation(counts)
    found = find_bits(counts, cut)
    if bits:
        found = _given(bits, found, mosaic)
    values = mosaic >> found.shift
    full = float((1 << found.bits) - 1)
    black = find_black(values, full)
    white = None if cut is None else float(cut >> found.shift)
    saturated = 0.0 if cut is None else float((mosaic >= cut - cut // 500).mean())
    planes = site_planes(values)
    problem = _problem(values, planes, full, saturated, black.level)
    order = None
    if _is_dark(planes, values, full):
        level = float(values.mean())
        black = Black(level, level, True, "a dark frame: the mean of all pixels")
    if not problem:
        order = guess_order(planes, black.level, full if white is None else white)
        problem = "" if order else "nearly all of it is dark or saturated: give a brighter picture"
    return Diagnosis(
        (mosaic.shape[1], height),
        found,
        black,
        white,
        saturated,
        _hot_pixels(values, full),
        padding,
        order,
        problem,
    )


def _check(mosaic: Mosaic) -> None:
    if not isinstance(mosaic, np.ndarray) or mosaic.ndim != 2 or mosaic.dtype not in ("u1", "u2"):
        held = f"{mosaic.dtype} {mosaic.shape}" if isinstance(mosaic, np.ndarray) else type(mosaic)
        raise InputError(f"a mosaic is (height, width) of uint8 or uint16, this is {held}")
    if not all(LEAST_SIDE_PX <= side <= MAX_SIDE_PX for side in mosaic.shape):
        raise InputError(
            f"a picture of {mosaic.shape[1]}x{mosaic.shape[0]} cannot be examined: give "
            f"{LEAST_SIDE_PX} to {MAX_SIDE_PX} pixels a side"
        )


def _given(bits: int, found: Bits, mosaic: Mosaic) -> Bits:
    held = 8 * mosaic.itemsize
    shift = held - bits if found.shift else 0
    if bits > held or int(mosaic.max()) >> max(shift, 0) >> bits:
        raise InputError(
            f"{bits} bits cannot be: a pixel has {held}, the highest is {int(mosaic.max())}; leave "
            "the bits away to have them found"
        )
    return Bits(bits, shift, 1.0, "given")


def _padding(mosaic: Mosaic) -> int:
    """Columns at the right end that hold one value each, if they are few."""
    width = mosaic.shape[1]
    constant = (mosaic == mosaic[:1]).all(axis=0)
    columns = int(np.argmin(constant[::-1])) if not constant.all() else 0
    return columns if columns < width - LEAST_SIDE_PX else 0


def _problem(
    values: Mosaic, planes: FloatArray, full: float, saturated: float, black: float
) -> str:
    """Why no order can be found, in a line; "" where it can."""
    if int(values.max()) == int(values.min()):
        return f"every pixel is {int(values.max())}: give a picture with something in it"
    if saturated > _MOST_SATURATED:
        return f"{100 * saturated:.0f} % of the pixels are saturated: expose shorter"
    if _is_dark(planes, values, full):
        return "a dark frame, which tells the black level but no colors: take the cap off"
    if _structure(planes, values) < 4:
        return "there is noise but no picture in it: check bits, size and step, or the file itself"
    if _is_gray(planes - min(black, float(planes.min()))):
        if _apart(site_planes(_binned(values))) > _QUAD_APART:
            return (
                "a quad Bayer sensor: a color fills 2x2 pixels; let the driver bin or remosaic it"
            )
        return "a gray picture: all four sites see the same, so it is mono, or developed already"
    slant = _slant(values)
    if slant is None:
        return "its rows do not continue one another: the width or step is wrong"
    if slant:
        return f"rows slant by {abs(slant)} pixels in two rows: the width or step is wrong"
    return ""


def _structure(planes: FloatArray, values: Mosaic) -> float:
    """Variance of the smoothed picture, as a multiple of what noise alone would leave."""
    site = values[::2, ::2].astype(np.float64)
    sigma = max(4.0, min(values.shape) / 80)
    return float(planes[0].var() * np.pi * sigma**2 / max(float(site.var()), 1e-9))


def _is_dark(planes: FloatArray, values: Mosaic, full: float) -> bool:
    return bool(
        planes.max() < 0.25 * full
        and float(np.ptp(planes)) < 0.01 * full
        and float(np.quantile(values[::4, ::4], 0.999)) < 0.3 * full
    )


def _slant(values: Mosaic) -> int | None:
    """Pixels by which each second row lies off the one before; None where rows do not match."""
    rows = np.linspace(0, len(values) - 3, min(_FEW_ROWS, len(values) - 2)).astype(int)
    reach = _SLANTS[-1]
    if values.shape[1] <= 4 * reach:
        return 0
    first = values[rows].astype(np.int32)
    second = values[rows + 2].astype(np.int32)
    middle = first[:, reach:-reach]
    width = middle.shape[1]

    def differ(offset: int) -> float:
        return float(np.abs(second[:, reach + offset :][:, :width] - middle).mean())

    straight = differ(0)
    elsewhere = float(
        np.abs(np.roll(first, len(first) // 3, axis=0)[:, reach:-reach] - middle).mean()
    )
    beside = float(np.abs(first[:, 2:] - first[:, :-2]).mean())
    offsets = [sign * offset for offset in _SLANTS for sign in (1, -1)]
    best = min(offsets, key=differ)
    if differ(best) < 0.95 * straight < 0.95 * differ(-best):
        return best
    return None if straight > 0.85 * elsewhere and beside < 0.6 * elsewhere else 0


def _is_gray(planes: FloatArray) -> bool:
    """Whether all four sites see the same, on the whole and, but for noise, in every place."""
    apart = np.abs(planes - planes.mean(axis=0)) / np.maximum(planes.mean(axis=0), 1.0)
    return bool(_apart(planes) < 0.005 and np.median(apart) < 0.015)


def _apart(planes: FloatArray) -> float:
    """How far the sites' means lie apart, as a part of their mean."""
    means = planes.mean(axis=(1, 2))
    return float(np.abs(means / max(float(means.mean()), 1e-9) - 1).max())


def _binned(values: Mosaic) -> Mosaic:
    height, width = (n // 4 * 4 for n in values.shape)
    blocks = values[:height, :width].reshape(height // 2, 2, width // 2, 2)
    binned: Mosaic = blocks.mean(axis=(1, 3)).astype(values.dtype)
    return binned


def _hot_pixels(values: Mosaic, full: float) -> int:
    threshold = max(1, int(_HOT * full))
    limited = np.empty_like(values)
    replace_outliers(values, threshold, limited)
    return int((limited != values).sum())


def matches(found: Sequence[float] | float, said: Sequence[float] | float, full: float) -> bool:
    """Whether two black levels agree to 0.5 % of full scale."""
    difference: npt.NDArray[np.float64] = np.abs(np.asarray(found) - np.asarray(said))
    return bool((difference <= 0.005 * full + 1).all())
