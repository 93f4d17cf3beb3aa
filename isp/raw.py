"""Bayer RAW: what an encoding's name says, unpacking, and reading dumps and camera files.

Encodings are ``bayer_<order><bits>[p]``: order rggb, bggr, grbg or gbrg (the top-left 2×2 block,
row by row); 8 bits in uint8, 10 to 16 in uint16; a final p for the MIPI CSI-2 packing of RAW10
(4 pixels in 5 bytes) and RAW12 (2 pixels in 3 bytes).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.images import MAX_SIDE_PX, frame_from_bytes

Mosaic = npt.NDArray[Any]
"""(H, W) uint8 or uint16, one value a pixel."""
Rgb = npt.NDArray[np.uint8]
"""(H, W, 3)."""

ORDERS = ("rggb", "bggr", "grbg", "gbrg")
_NAME = re.compile(r"bayer_(rggb|bggr|grbg|gbrg)(?:(8|10|12|14|16)|(10|12)p)")
_BAND_BYTES = 1 << 17  # unpacked in bands that stay in the cache


@dataclass(frozen=True, slots=True)
class BayerEncoding:
    """order: of the top-left 2×2 block, row by row. bits: in one pixel. packed: as MIPI does."""

    order: str
    bits: int
    packed: bool = False

    @classmethod
    def parse(cls, name: str) -> "BayerEncoding":
        """Read an encoding's name.

        Raises:
            InputError: the name is no Bayer encoding.
        """
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            raise InputError(
                f"encoding {name!r:.60} is no Bayer RAW: give bayer_<order><bits> with order "
                f"{', '.join(ORDERS)} and bits 8, 10, 12, 14, 16, 10p or 12p"
            )
        order, plain, packed = match.groups()
        return cls(order, int(plain or packed), packed is not None)

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Of the buffer that carries it: uint8 for 8 bits and packed rows, else uint16."""
        return np.uint8 if self.bits == 8 or self.packed else np.uint16

    def row_bytes(self, width: int) -> int:
        """Least number of bytes in a row of ``width`` pixels."""
        return width * self.bits // 8 if self.packed else width * np.dtype(self.dtype).itemsize

    def check_size(self, width: int, height: int) -> None:
        """Refuse a size that is no whole number of Bayer blocks (and packing groups).

        Raises:
            InputError: the size is odd, too small or too large.
        """
        step = 4 if self.packed and self.bits == 10 else 2
        if (
            width % step
            or height % 2
            or not (4 <= width <= MAX_SIDE_PX)
            or not (4 <= height <= MAX_SIDE_PX)
        ):
            raise InputError(
                f"a {width}x{height} Bayer picture cannot be: give an even height and a width that "
                f"is a multiple of {step}, each 4 to {MAX_SIDE_PX} pixels"
            )


def mosaic_of(frame: Frame, out: Mosaic | None = None) -> Mosaic:
    """The frame's (H, W) values: its own array, or for a packed one the values unpacked.

    out: (H, W) uint16 to unpack into; a new array without it.

    Raises:
        InputError: unknown encoding, or an array of another type or size than it says.
    """
    encoding, image = BayerEncoding.parse(frame.encoding), frame.image
    if not isinstance(image, np.ndarray) or image.ndim != 2 or image.dtype != encoding.dtype:
        held = (
            f"{image.dtype} {image.shape}"
            if isinstance(image, np.ndarray)
            else type(image).__name__
        )
        raise InputError(
            f"frame {frame.index} says {frame.encoding} but holds {held}: "
            f"give (height, width) of {np.dtype(encoding.dtype).name}"
        )
    width, height = frame.size
    encoding.check_size(width, height)
    if image.shape[1] * image.itemsize < encoding.row_bytes(width):
        raise InputError(
            f"frame {frame.index} has {image.shape[1]} bytes in a row, {frame.encoding} of width "
            f"{width} needs {encoding.row_bytes(width)}: give the step and width of the camera"
        )
    if not encoding.packed:
        row, pixel = image.strides
        if pixel != image.itemsize or row < width * pixel or row % pixel:  # OpenCV needs such
            return np.ascontiguousarray(image[:, :width])
        return image[:, :width]
    if frame.width <= 0:
        raise InputError(
            f"frame {frame.index} is packed as {frame.encoding} but says no width: set Frame.width"
        )
    out = np.empty((height, width), np.uint16) if out is None else out
    rows = max(1, _BAND_BYTES // encoding.row_bytes(width))
    for top in range(0, height, rows):
        _unpack(image[top : top + rows], encoding.bits, out[top : top + rows])
    return out


def _unpack(packed: npt.NDArray[np.uint8], bits: int, out: npt.NDArray[np.uint16]) -> None:
    """MIPI RAW10 or RAW12 rows → values; the bytes behind a row's last group are left alone."""
    height, width = out.shape
    if packed.strides[1] != 1:
        packed = np.ascontiguousarray(packed)
    pixels = 4 if bits == 10 else 2
    size = pixels + 1
    groups = packed[:, : width // pixels * size].reshape(height, width // pixels, size)
    # A group's high bytes are read as one unaligned word; the byte behind them holds all low bits.
    high = groups[..., :pixels].view(f"<u{pixels}").copy().view(np.uint8)
    np.left_shift(high.reshape(height, width), bits - 8, out=out, dtype=np.uint16)
    low = groups[..., pixels].astype(f"<u{2 * pixels}")
    if bits == 10:
        low |= low << np.uint64(14)
        low |= low << np.uint64(28)
        low &= np.uint64(0x0003_0003_0003_0003)
    else:
        low |= low << np.uint32(12)
        low &= np.uint32(0x000F_000F)
    np.bitwise_or(out, low.view(np.uint16), out=out)


def read_dump(path: Path, width: int, height: int, encoding: str, step: int = 0) -> Frame:
    """A headerless ``.raw`` file with one little-endian picture; stamp 0.

    Raises:
        InputError: no such file, or its size is not that of the picture.
    """
    bayer = BayerEncoding.parse(encoding)
    bayer.check_size(width, height)
    expected = (step or bayer.row_bytes(width)) * height
    try:
        found = path.stat().st_size
        data = path.read_bytes() if found == expected else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a RAW file") from None
    if not data:
        raise InputError(
            f"{path}: holds {found} bytes, a {width}x{height} picture in {encoding} {expected}: "
            "check width, height, encoding and step"
        )
    return frame_from_bytes(
        data, (width, height), step or bayer.row_bytes(width), encoding, False, stamp_ns=0, index=0
    )


@dataclass(frozen=True, slots=True)
class RawMetadata:
    """What a camera file says of its sensor.

    black_level: counts at R, Gr, Gb, B. white_level: counts. as_shot_gains: R, G, B, the least is
    1; None where the camera did not say. color_matrix: nine numbers, row by row, from balanced
    camera RGB to linear sRGB; None where the camera is not known.
    """

    black_level: tuple[float, float, float, float]
    white_level: float
    as_shot_gains: tuple[float, ...] | None
    color_matrix: tuple[float, ...] | None


_XYZ_FROM_SRGB = np.array(  # IEC 61966-2-1, D65
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def read_raw_file(path: Path) -> tuple[Frame, RawMetadata]:
    """The Bayer values of a DNG or any camera RAW that LibRaw reads, and the camera's levels.

    Raises:
        InputError: rawpy is not installed, the file cannot be read, or its sensor is no 2×2 Bayer.
    """
    try:
        import rawpy
    except ImportError:
        raise InputError(
            f"{path}: reading camera RAW needs rawpy; install it with `pip install '.[raw]'`"
        ) from None
    try:
        with path.open("rb") as file, rawpy.imread(file) as raw:
            if raw.raw_pattern is None or raw.raw_pattern.shape != (2, 2) or raw.num_colors != 3:
                raise InputError(f"{path}: the sensor is no 2x2 RGB Bayer; give a Bayer RAW")
            image = raw.raw_image_visible.copy()
            pattern = raw.raw_pattern.ravel()
            letters = raw.color_desc.decode("ascii", "replace").lower()
            black = [float(v) for v in raw.black_level_per_channel]
            white = float(raw.white_level)
            gains = np.array(raw.camera_whitebalance[:3], np.float64)
            camera_from_xyz = np.array(raw.rgb_xyz_matrix[:3], np.float64)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a RAW file") from None
    except rawpy.LibRawError as error:
        raise InputError(f"{path}: is no camera RAW that LibRaw reads ({error})") from None
    order = "".join(letters[i] for i in pattern)
    bits = next((b for b in (10, 12, 14, 16) if white < 1 << b), 0)
    if order not in ORDERS or image.ndim != 2 or not bits:
        raise InputError(f"{path}: pattern {order} with white {white:g} is no Bayer RAW known here")
    sites = dict(zip(site_names(order), pattern, strict=True))
    frame = Frame(image, 0, f"bayer_{order}{bits}")
    return frame, RawMetadata(
        (black[sites["R"]], black[sites["Gr"]], black[sites["Gb"]], black[sites["B"]]),
        white,
        tuple((gains / gains.min()).tolist()) if (gains > 0).all() else None,
        _srgb_from_camera(camera_from_xyz),
    )


def _srgb_from_camera(camera_from_xyz: npt.NDArray[np.float64]) -> tuple[float, ...] | None:
    """Invert the DNG color matrix, its rows scaled so that white stays white (as dcraw does)."""
    camera_from_srgb = camera_from_xyz @ _XYZ_FROM_SRGB
    sums = camera_from_srgb.sum(axis=1, keepdims=True)
    if not np.isfinite(camera_from_srgb).all() or (sums <= 0).any():
        return None
    balanced = camera_from_srgb / sums
    if np.linalg.cond(balanced) > 1e3:
        return None
    return tuple(np.linalg.inv(balanced).ravel().tolist())


def site_names(order: str) -> tuple[str, str, str, str]:
    """R, Gr, Gb, B at the 2×2 block's four sites, row by row; Gr is the green of a red row."""
    names = []
    for row in (order[:2], order[2:]):
        names += [("Gr" if "r" in row else "Gb") if c == "g" else c.upper() for c in row]
    return names[0], names[1], names[2], names[3]
