"""What every ISP does first: the mosaic of a frame, its levels, and no defect pixels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isp.calibration import load_defects, load_shading_table, shading_gains
from isp.config import IspConfig
from isp.defects import DefectMap, replace_outliers
from isp.levels import Table, apply_tables
from isp.raw import BayerEncoding, Mosaic, mosaic_of, site_names
from isp.raw_levels import find_bits, find_black, histogram, saturation
from pipeline.errors import InputError
from pipeline.frame import Frame

_DEMOSAIC = {  # OpenCV names the block that starts one pixel further right and down
    ("rggb", "bilinear"): cv2.COLOR_BayerBG2RGB,
    ("bggr", "bilinear"): cv2.COLOR_BayerRG2RGB,
    ("grbg", "bilinear"): cv2.COLOR_BayerGB2RGB,
    ("gbrg", "bilinear"): cv2.COLOR_BayerGR2RGB,
    ("rggb", "edge_aware"): cv2.COLOR_BayerBG2RGB_EA,
    ("bggr", "edge_aware"): cv2.COLOR_BayerRG2RGB_EA,
    ("grbg", "edge_aware"): cv2.COLOR_BayerGB2RGB_EA,
    ("gbrg", "edge_aware"): cv2.COLOR_BayerGR2RGB_EA,
}
READY = ("mono8", "rgb8", "bgr8", "rgba8", "bgra8")
"""Encodings that need no ISP."""
BAND_ROWS = 32
"""Intermediate bands of so many rows stay in the cache."""
_LOOKS = 30  # frames that are looked at before the encoding is believed
_SURE = 0.9
_ROWS_SEEN = 256
_GRID = (48, 64)  # blocks that are looked at, rows and columns at least


class FrameLayout:
    """What depends on the frames' size and encoding only, with the buffers to work in."""

    def __init__(self, config: IspConfig, encoding: BayerEncoding, size: tuple[int, int]) -> None:
        width, height = size
        self.encoding = encoding
        self.justified = config.justified
        self.order = encoding.order if config.order == "auto" else config.order
        self.sites = site_names(self.order)
        self.bits = config.bits or encoding.bits
        if self.bits > encoding.bits:
            raise InputError(
                f"isp.bits is {self.bits}, more than {encoding} holds: give at most {encoding.bits}"
            )
        self.spare_bits = (8 if encoding.bits == 8 else 16) - self.bits
        self.white = config.white_level or float((1 << self.bits) - 1)
        black = config.black_level * (4 if len(config.black_level) == 1 else 1)
        self.black = [black[("R", "Gr", "Gb", "B").index(site)] for site in self.sites]
        if not max(black) < self.white < 1 << self.bits:
            raise InputError(
                f"isp.black_level {max(black):g} and isp.white_level {self.white:g} do not fit "
                f"{self.bits} bits: give black < white <= {(1 << self.bits) - 1}"
            )
        self.mosaic = np.empty(
            (height, width), encoding.dtype if not encoding.packed else np.uint16
        )
        self.demosaic = _DEMOSAIC[self.order, config.demosaic]
        self.defects = (
            DefectMap(load_defects(Path(config.defect_map)), size) if config.defect_map else None
        )
        table = (
            load_shading_table(Path(config.lens_shading_table))
            if config.lens_shading_table
            else None
        )
        self.shading = shading_gains(size, self.order, config.lens_shading_radial, table)
        self._to_16_bits: dict[int, npt.NDArray[np.float32]] = {}
        step_y, step_x = (
            2 * max(1, n // (2 * grid)) for n, grid in zip(size[::-1], _GRID, strict=True)
        )
        self.grid = (slice(0, height, step_y), slice(0, width, step_x))

    def levels(self, shift: int) -> tuple[int, int, Sequence[float], float]:
        """Bits, shift, black and white of the values that ``apply_tables`` looks up."""
        if self.shading is None:
            return self.bits, shift, self.black, self.white
        return 16, 0, (0.0,) * 4, 65535.0  # black is gone and white is 65535 already

    def apply_tables(
        self, mosaic: Mosaic, shift: int, tables: Sequence[Table], out: Mosaic
    ) -> None:
        """Lens shading where there is one, then the tables, for ``levels``."""
        if self.shading is None:
            apply_tables(mosaic, tables, out)
            return
        gains = self.shading_to_16_bits(shift)
        black = np.rint(np.array(self.black) * (1 << shift)).astype(np.uint16).reshape(2, 2)
        block = np.tile(black, (BAND_ROWS // 2, mosaic.shape[1] // 2))
        for top in range(0, len(mosaic), BAND_ROWS):
            rows = slice(top, top + BAND_ROWS)
            band = mosaic[rows]
            light = cv2.subtract(band.astype(np.uint16, copy=False), block[: len(band)])
            shaded = cv2.multiply(light, gains[rows], dtype=cv2.CV_16U)
            apply_tables(shaded, tables, out[rows])

    def shading_to_16_bits(self, shift: int) -> npt.NDArray[np.float32]:
        """(H, W) gains that also bring each site's white, less its own black, to 65535."""
        if shift not in self._to_16_bits:
            assert self.shading is not None
            gains = self.shading.copy()
            for site, black in enumerate(self.black):
                gains[site // 2 :: 2, site % 2 :: 2] *= 65535 / (
                    (self.white - black) * (1 << shift)
                )
            self._to_16_bits[shift] = gains
        return self._to_16_bits[shift]


class Front:
    """Reads one stream's frames; one thread uses it."""

    def __init__(self, config: IspConfig) -> None:
        self.config = config
        self.layout: FrameLayout | None = None
        self._key: tuple[object, ...] = ()
        self._left: bool | None = None
        self._looks = 0
        self.found = ""
        """What was found out about levels that nobody gave, in a line; "" where nothing was."""

    def reset(self) -> None:
        """Forget the stream: justification is found anew."""
        self._left = None

    def layout_of(self, frame: Frame) -> FrameLayout:
        """The frame's layout: another one than before where size, encoding or levels changed.

        Raises:
            InputError: unknown encoding, an image of another type or size than the encoding says,
                or levels that the bits cannot hold. The next frame is not affected.
        """
        encoding = BayerEncoding.parse(frame.encoding)
        image = frame.image
        fits = isinstance(image, np.ndarray) and image.ndim == 2 and image.dtype == encoding.dtype
        if not fits:
            mosaic_of(frame)  # says what is wrong
        key = (frame.encoding, frame.size)
        if self.layout is None or key != self._key:
            encoding.check_size(*frame.size)
            self.layout, self.found = FrameLayout(self.config, encoding, frame.size), ""
            self._key = key
            self._looks = _LOOKS if _levels_are_open(self.config, encoding) else 0
            self.reset()
        self._look(frame, encoding)
        return self.layout

    def _look(self, frame: Frame, encoding: BayerEncoding) -> None:
        """One of the first frames may tell the levels that neither the options nor the encoding
        say."""
        if not self._looks:
            return
        self._looks -= 1
        found = found_levels(mosaic_of(frame))
        if found is None:
            return
        bits, black = found
        config = replace(self.config, bits=bits, justified="right")
        said = f"isp.bits is not set: pixels have {bits} bits, right-justified"
        if black is not None and config.black_level == (0.0,):
            config = replace(config, black_level=(black,))
            said += f", black about {black:g}"
        self._looks = 0
        try:
            self.layout = FrameLayout(config, encoding, frame.size)
        except InputError:  # a given level does not fit what was found: it was no finding
            return
        self.found = f"{said}; set it to be sure (`leadsight raw-doctor` tells more)"

    def read(self, frame: Frame, layout: FrameLayout) -> tuple[Mosaic, int]:
        """The mosaic without defect pixels, and how many unused bits lie below its values.

        Raises:
            InputError: what ``mosaic_of`` raises, or more bits than the options say.
        """
        mosaic = mosaic_of(frame, layout.mosaic)
        shift = self._shift(mosaic, layout)
        return self._without_defects(mosaic, layout, shift), shift

    def _shift(self, mosaic: Mosaic, layout: FrameLayout) -> int:
        """How many unused bits lie below a pixel's significant ones."""
        if not layout.spare_bits or layout.justified == "right":
            return 0
        if layout.justified == "left":
            return layout.spare_bits
        sample = mosaic[layout.grid]
        below = (1 << layout.spare_bits) - 1
        used = int(np.bitwise_or.reduce(sample, axis=None))
        low, high = used & below, used >> layout.bits
        if low and high:
            both = (sample & below != 0) & (sample >> layout.bits != 0)
            if both.mean() > 0.01:
                raise InputError(
                    f"pixels use more than {layout.bits} bits (up to {sample.max()}): set isp.bits "
                    "to what the camera sends"
                )
        elif low or high:  # else this frame does not tell: as before
            self._left = bool(high)
        return layout.spare_bits if self._left else 0

    def _without_defects(self, mosaic: Mosaic, layout: FrameLayout, shift: int) -> Mosaic:
        if self.config.defect_threshold > 0:
            threshold = int(self.config.defect_threshold * layout.white) << shift
            replace_outliers(mosaic, threshold, layout.mosaic)
            mosaic = layout.mosaic
        if layout.defects is not None:
            if mosaic is not layout.mosaic:  # the camera's own array is shared
                np.copyto(layout.mosaic, mosaic)
                mosaic = layout.mosaic
            layout.defects.replace(mosaic)
        return mosaic


def _levels_are_open(config: IspConfig, encoding: BayerEncoding) -> bool:
    """Whether nobody says how many of 16 bits are used: ``sensor_msgs`` has no other name for 10
    to 14."""
    unsaid = config.bits == 0 and config.justified != "left" and config.white_level == 0
    return unsaid and encoding.bits == 16


def found_levels(mosaic: Mosaic) -> tuple[int, float | None] | None:
    """Bits, and black level where that is known, of a right-justified mosaic of less than 16 bits;
    None where this one does not tell for sure.

    Left-justified values need no finding out: read as 16 bits they give the same picture.
    """
    sample = mosaic if len(mosaic) <= _ROWS_SEEN else _some_rows(mosaic)
    counts = histogram(sample)
    bits = find_bits(counts, saturation(counts))
    if bits.shift or bits.bits == 16 or bits.confidence < _SURE:
        return None
    black = find_black(sample, float((1 << bits.bits) - 1))
    return bits.bits, round(black.level, 1) if black.known else None


def _some_rows(mosaic: Mosaic) -> Mosaic:
    """Whole blocks of 8 rows, spread over the picture."""
    tops = np.linspace(0, (len(mosaic) - 8) // 2, _ROWS_SEEN // 8).astype(int) * 2
    return np.concatenate([mosaic[top : top + 8] for top in tops])
