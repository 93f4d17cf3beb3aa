"""Lookup tables on the mosaic: black and white level, gain and curve in one pass.

Each of the four sites of the 2×2 Bayer block has its own table. A row of the mosaic is seen as
pixels of two channels, so that one ``cv2.LUT`` call serves all even rows and one all odd rows.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from isp.raw import Mosaic

Table = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def _lut_reads_16_bit() -> bool:
    try:
        cv2.LUT(np.zeros((1, 2), np.uint16), np.zeros((1, 1 << 16), np.uint8))
    except cv2.error:
        return False
    return True


LUT_READS_16_BIT = _lut_reads_16_bit()
"""OpenCV 5 looks 16-bit values up; before it numpy does, more slowly."""


def curve_table(
    curve: str, gamma: float, points: Sequence[float], size: int = 1 << 16
) -> npt.NDArray[np.uint8]:
    """(size,) 8-bit codes of evenly spaced linear light in [0, 1].

    curve: "srgb" (IEC 61966-2-1), "gamma" (light^(1/gamma)), or "points" (straight lines through
    ``points``, evenly spaced over the light).
    """
    light = np.linspace(0.0, 1.0, size)
    if curve == "srgb":
        code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    elif curve == "gamma":
        code = light ** (1 / gamma)
    else:
        code = np.interp(light, np.linspace(0.0, 1.0, len(points)), points)
    table: npt.NDArray[np.uint8] = np.rint(255 * code).astype(np.uint8)
    return table


def site_tables(
    bits: int,
    shift: int,
    black: Sequence[float],
    white: float,
    gains: Sequence[float],
    curve: npt.NDArray[np.uint8] | None,
    into: list[Table] | None = None,
) -> list[Table]:
    """Two tables (1, entries, 2), of even and odd rows, for ``apply_tables``.

    bits: significant in a value. shift: unused bits below them. black: counts at each of the four
    sites. white: counts. gains: at each of the four sites. The entry of value v is
    clip((v − black) · gain / (white − black), 0, 1), as 8-bit codes of ``curve``, or linear with 1
    as 65535 where ``curve`` is None. into: what this gave before for the same ``bits`` and
    ``shift``, to be written anew.
    """
    value = np.arange(1 << bits, dtype=np.float32)
    made: dict[tuple[float, float], Table] = {}

    def table(site: int) -> Table:
        key = (float(black[site]), float(gains[site]))
        if key not in made:
            light = (value - np.float32(key[0])) * np.float32(65535.0 * key[1] / (white - key[0]))
            linear = np.rint(np.clip(light, 0, 65535, out=light)).astype(np.uint16)
            made[key] = linear if curve is None else curve[linear]
        return made[key]

    return _paired([table(site) for site in range(4)], bits, shift, into)


def toned_tables(
    bits: int,
    shift: int,
    black: Sequence[float],
    white: float,
    gains: Sequence[float],
    exponents: Sequence[float],
    toe: float,
    into: list[Table] | None = None,
) -> list[Table]:
    """As ``site_tables`` with another curve at each site: (light · gain + toe)^exponent, less what
    that is at 0 and clipped to [0, 1], as 8-bit codes."""
    value = np.arange(1 << bits, dtype=np.float32)
    made: dict[tuple[float, ...], Table] = {}

    def table(site: int) -> Table:
        key = (float(black[site]), float(gains[site]), float(exponents[site]))
        if key not in made:
            light = np.maximum(value - np.float32(key[0]), 0)
            light *= np.float32(key[1] / (white - key[0]))
            light += np.float32(toe)
            code = np.power(light, np.float32(key[2]), out=light)
            code -= np.float32(toe ** key[2])
            code *= np.float32(255)
            made[key] = np.rint(np.clip(code, 0, 255, out=code)).astype(np.uint8)
        return made[key]

    return _paired([table(site) for site in range(4)], bits, shift, into)


def _paired(
    tables: Sequence[Table], bits: int, shift: int, into: list[Table] | None
) -> list[Table]:
    """Four sites' tables for values of ``bits`` as the two that ``apply_tables`` takes."""
    entries = 256 if bits + shift == 8 else 1 << 16
    end = 1 << (bits + shift)
    pairs = into or [np.zeros((1, entries, 2), table.dtype) for table in tables[::2]]
    for site, table in enumerate(tables):
        column = pairs[site // 2][0, :, site % 2]
        column[:end] = np.repeat(table, 1 << shift) if shift else table
        if column[-1] != table[-1]:  # values that the bits cannot hold
            column[end:] = table[-1]
    return pairs


def apply_tables(mosaic: Mosaic, tables: Sequence[Table], out: Mosaic) -> None:
    """Look every value of the (H, W) mosaic up in its site's table; H and W are even."""
    height, width = mosaic.shape
    pairs = (height // 2, width // 2, 2)
    for parity, table in enumerate(tables):
        source, target = mosaic[parity::2], out[parity::2]
        if mosaic.dtype == np.uint8 or LUT_READS_16_BIT:
            cv2.LUT(source.reshape(pairs), table, dst=target.reshape(pairs))
        else:
            for column in (0, 1):
                target[:, column::2] = table[0, :, column][source[:, column::2]]


def apply_curve(linear: Mosaic, curve: npt.NDArray[np.uint8], out: Mosaic) -> None:
    """Code a 16-bit linear picture in 8 bits; ``curve`` has 65536 entries."""
    if LUT_READS_16_BIT:
        cv2.LUT(linear, curve.reshape(1, -1), dst=out)
    else:
        np.take(curve, linear, out=out, mode="clip")
