"""What the numbers of an unknown mosaic say: significant bits, where they lie, black and white."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isp.raw import Mosaic

FloatArray = npt.NDArray[np.float64]
Histogram = npt.NDArray[np.int64]

DEPTHS = (8, 10, 12, 14, 16)
_STRAY = 1e-3  # share of pixels that may break a rule: 0xFFFF of a saturated left-justified one
_PILE_PIXELS = 20
_BLOCK = 4  # same-color pixels a side, averaged against noise
_DARKEST = 0.002  # of the blocks
_HIGHEST_BLACK = 0.14  # of full scale: sensors are set to 1/64 to 1/8


@dataclass(frozen=True)
class Bits:
    """bits: significant ones. shift: unused ones below them. confidence: that both are right."""

    bits: int
    shift: int
    confidence: float
    why: str

    @property
    def justified(self) -> str:
        """As ``isp.justified`` takes it."""
        return "left" if self.shift else "right"


@dataclass(frozen=True)
class Black:
    """level: counts at R, Gr, Gb, B alike. at_most: it cannot lie above this. known: whether the
    picture has a place dark enough to tell."""

    level: float
    at_most: float
    known: bool
    why: str


def histogram(mosaic: Mosaic) -> Histogram:
    """(256 or 65536,) how many pixels have each value."""
    size = 256 if mosaic.dtype == np.uint8 else 1 << 16
    return np.bincount(mosaic.ravel(), minlength=size)


def saturation(counts: Histogram) -> int | None:
    """The value at which light is cut off; None where the picture does not reach it.

    Cut-off light piles up at one value, many times what the values below hold.
    """
    top = int(np.flatnonzero(counts)[-1])
    near = max(0, top - max(1, top // 500))
    pile = int(counts[near : top + 1].sum())
    start = max(0, near - max(8, top // 12))
    held = counts[start:near]
    usual = float(held.sum()) / max(1, near - start) * (top + 1 - near)
    alone = not held.any() and pile < counts.sum() * _STRAY
    if pile < _PILE_PIXELS or pile < 4 * usual or alone:
        return None
    return top


def find_bits(counts: Histogram, cut: int | None) -> Bits:
    """Significant bits and justification. counts: of ``histogram``. cut: of ``saturation``."""
    if len(counts) == 256:
        return Bits(8, 0, 0.99, "one byte a pixel")
    values = np.flatnonzero(counts)
    total = int(counts.sum())
    low = 0
    while low < 8:
        broken = values & ((1 << (low + 1)) - 1) != 0
        if counts[values[broken & (values != 0xFFFF)]].sum() > _STRAY * total:
            break
        low += 1
    top = int(values[-1]).bit_length()
    reached = cut is not None and cut >= (1 << top) - (1 << low) - (1 << top) // 50
    if low >= 2 and top == 16:
        why = f"the {low} lowest bits are always 0, the highest is used"
        return Bits(16 - low, low, 0.98, why)
    if low >= 2 and not reached and 16 - low in DEPTHS:
        why = (
            f"the {low} lowest bits are always 0; the picture is dark, so that the highest are "
            "unused, too"
        )
        return Bits(16 - low, low, 0.7, why)
    bits = next(depth for depth in DEPTHS if depth >= top)
    coarse = f"; the {low} lowest bits are always 0 as well" if low >= 2 else ""
    if bits == 16:
        return Bits(16, 0, 0.95, "all 16 bits are used")
    if cut is not None and cut > 0.9 * (1 << bits):
        return Bits(bits, 0, 0.98, f"light is cut off at {cut}{coarse}")
    brightest = int(values[-1])
    black = float(np.searchsorted(counts.cumsum(), _STRAY * total))  # rough
    if black > _HIGHEST_BLACK * (1 << bits):
        deeper = DEPTHS[DEPTHS.index(bits) + 1]
        why = (
            f"up to {brightest} only, but a black of {black:.0f} would be too high for {bits} bits"
        )
        return Bits(deeper, 0, 0.6, why)
    why = f"up to {brightest}; a dark picture of more bits would look the same{coarse}"
    return Bits(bits, 0, 0.75, why)


def find_black(mosaic: Mosaic, white: float) -> Black:
    """Counts without light, from the darkest places.

    mosaic: (H, W), significant bits only, H and W even. white: counts.

    In the dark all colors come to the same count; where they do not, light is left, in about the
    picture's own proportions, and a line through both tells how far black lies below.
    """
    sites = [mosaic[site // 2 :: 2, site % 2 :: 2] for site in range(4)]
    zeros = min(float((site == 0).mean()) for site in sites)
    if zeros > _STRAY:
        return Black(0.0, 0.0, True, f"{100 * zeros:.1f} % of the pixels are 0")
    blocks = np.stack([_block_means(site) for site in sites])
    order = np.argsort(blocks.sum(axis=0))
    darkest = blocks[:, order[: max(8, int(_DARKEST * order.size))]].mean(axis=1)
    usual = np.median(blocks, axis=1)
    lowest = float(darkest.min())
    slope = 0.0
    if usual.std() > 0.002 * white:
        slope = float(np.clip(np.polyfit(usual, darkest, 1)[0], 0.0, 0.5))
    level = float(np.mean((darkest - slope * usual) / (1 - slope)))
    level = float(np.clip(level, 0.0, lowest))
    dark_enough = darkest.max() - darkest.min() < 0.01 * white
    contrast = usual.max() - level > 4 * (darkest.max() - level)
    if dark_enough and contrast and lowest < _HIGHEST_BLACK * white:
        why = f"the darkest places of all four colors come to about the same {lowest:.4g}"
        return Black(level, lowest, True, why)
    why = f"nothing here is dark: at most {lowest:.4g}; cover the lens to know"
    return Black(level, lowest, False, why)


def _block_means(site: Mosaic) -> FloatArray:
    rows, columns = (max(1, n // _BLOCK) for n in site.shape)
    side = min(_BLOCK, *site.shape)
    cut = site[: rows * side, : columns * side].reshape(rows, side, columns, side)
    means: FloatArray = cut.mean(axis=(1, 3), dtype=np.float64).ravel()
    return means
