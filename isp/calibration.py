"""What a camera's calibration gives: lens shading gains and a list of defect pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import numpy.typing as npt

from isp.raw import site_names
from pipeline.errors import InputError

_MAX_BYTES = 1 << 28
_MAX_GAIN = 64.0


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: over {_MAX_BYTES} bytes is no calibration file")
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a .npy file") from None
    except (ValueError, EOFError, BadZipFile):
        array = None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: is no plain .npy array; write it with numpy.save")
    return array


def load_shading_table(path: Path) -> npt.NDArray[np.float32]:
    """Lens shading gains (rows, columns) or (rows, columns, 4), the last for R, Gr, Gb, B.

    The table's corners lie on the picture's corners.

    Raises:
        InputError: no such file, another shape, or a gain that is not in (0, 64].
    """
    array = _load(path)
    if (
        array.dtype.kind not in "fiu"
        or array.ndim not in (2, 3)
        or array.shape[2:] not in ((), (4,))
        or min(array.shape[:2]) < 2
    ):
        raise InputError(
            f"{path}: {array.dtype} {array.shape} is no lens shading table: "
            "give (rows, columns) or (rows, columns, 4) of gains"
        )
    table = array.astype(np.float32)
    if not ((table > 0) & (table <= _MAX_GAIN)).all():
        raise InputError(f"{path}: every gain must lie above 0 and at most {_MAX_GAIN:g}")
    return table


def shading_gains(
    size: tuple[int, int],
    order: str,
    radial: Sequence[float],
    table: npt.NDArray[np.float32] | None,
) -> npt.NDArray[np.float32] | None:
    """The gain at every pixel, (H, W), or None where it is 1 everywhere.

    size: (width, height). radial: k1, k2, … of 1 + k1·r² + k2·r⁴ + …, where r is 1 in the corners.

    Raises:
        InputError: the polynomial leaves (0, 64].
    """
    width, height = size
    if table is None and not any(radial):
        return None
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    r2 = (width**2 * x**2 + height**2 * y**2) / np.float32(width**2 + height**2)
    gains = np.ones((height, width), np.float32)
    power = np.ones((), np.float32)
    for k in radial:
        power = power * r2
        gains += np.float32(k) * power
    if not (gains.min() > 0 and gains.max() <= _MAX_GAIN):
        raise InputError(
            f"lens_shading_radial {tuple(radial)} gives gains from {gains.min():g} to "
            f"{gains.max():g}: allowed is above 0 and at most {_MAX_GAIN:g}"
        )
    if table is not None:
        planes = table[..., None] if table.ndim == 2 else table
        rows, columns = table.shape[:2]
        ys, xs = np.linspace(0, rows - 1, height), np.linspace(0, columns - 1, width)
        for site, name in enumerate(site_names(order)):
            plane = planes[..., ("R", "Gr", "Gb", "B").index(name) if table.ndim == 3 else 0]
            top, left = divmod(site, 2)
            map_x, map_y = np.meshgrid(xs[left::2], ys[top::2])
            gains[top::2, left::2] *= cv2.remap(
                np.ascontiguousarray(plane),
                map_x.astype(np.float32),
                map_y.astype(np.float32),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
    return gains


def load_defects(path: Path) -> npt.NDArray[np.int64]:
    """Defect pixels as (N, 2) row and column, each once.

    Raises:
        InputError: no such file, or another shape.
    """
    array = _load(path)
    if array.dtype.kind not in "iu" or array.ndim != 2 or array.shape[1] != 2:
        raise InputError(
            f"{path}: {array.dtype} {array.shape} is no list of defects: "
            "give (N, 2) whole numbers, row and column"
        )
    if array.size and (array.min() < 0 or array.max() > 1 << 20):
        raise InputError(f"{path}: a row or column is below 0 or too large; give pixels")
    return np.unique(array.astype(np.int64), axis=0)
