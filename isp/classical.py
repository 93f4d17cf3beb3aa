"""The classical ISP: Bayer RAW in, 8-bit RGB out.

Order of operations: unpack · defect pixels · lens shading · black and white level, white balance
and (without a color matrix) tone curve, in one lookup · demosaic · color matrix and tone curve.
Beside the demosaic this is one full-size pass without a color matrix and two with one; unpacking,
defect pixels and lens shading each add one where they are asked for.

Without a matrix the picture is demosaiced in 8 bits after the curve. A matrix mixes linear light,
so with one the lookup stays linear in 16 bits and the curve comes last. Light is clipped at the
white level before the matrix, or saturated highlights would turn magenta.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isp.calibration import load_defects, load_shading_table, shading_gains
from isp.defects import DefectMap, replace_outliers
from isp.levels import Table, apply_curve, apply_tables, curve_table, site_tables
from isp.raw import BayerEncoding, Mosaic, RawMetadata, mosaic_of, site_names
from isp.white_balance import GainSmoother, gray_world, white_patch
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.frame import Frame

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class IspConfig(Config):
    """Options of the classical ISP. Counts are those of a pixel's significant bits."""

    order: str = option(
        "auto",
        "Colors of the top-left 2x2 block, row by row; auto takes the encoding's.",
        choices=("auto", "rggb", "bggr", "grbg", "gbrg"),
    )
    bits: int = option(
        0, "Significant bits of a pixel, 8 to 16; 0 takes the encoding's.", low=0, high=16
    )
    justified: str = option(
        "auto",
        "Where they lie in a 16-bit pixel; auto looks whether the other bits are always 0.",
        choices=("auto", "left", "right"),
    )
    black_level: tuple[float, ...] = option(
        (0.0,), "Counts without light, one number or four for R, Gr, Gb, B.", low=0, high=65534
    )
    white_level: float = option(
        0.0, "Counts at saturation; 0 is the highest that the bits can hold.", low=0, high=65535
    )
    defect_threshold: float = option(
        0.0,
        "How far a pixel stands out of its eight same-color neighbors to be limited to them, "
        "as a part of the white level; 0 is off.",
        low=0,
        high=1,
    )
    defect_map: str = option("", "Path of a .npy file with (N, 2) rows and columns to replace.")
    lens_shading_radial: tuple[float, ...] = option(
        (0.0,), "k1, k2, ... of the gain 1 + k1 r^2 + k2 r^4 + ..., r being 1 in the corners."
    )
    lens_shading_table: str = option(
        "", "Path of a .npy file with gains (rows, columns) or (rows, columns, 4)."
    )
    demosaic: str = option(
        "bilinear", "How missing colors are found.", choices=("bilinear", "edge_aware")
    )
    white_balance: str = option(
        "gray_world",
        "How white is found; fixed uses wb_gains.",
        choices=("gray_world", "white_patch", "fixed"),
    )
    wb_gains: tuple[float, ...] = option(
        (1.0, 1.0, 1.0), "Gains of R, G, B where white_balance is fixed.", low=0.01, high=64
    )
    wb_max_gain: float = option(8.0, "Highest gain that the balance may choose.", low=1, high=64)
    wb_time_constant_ms: float = option(
        500.0, "Time in which the balance follows 63 % of a step; 0 is at once.", low=0, high=1e6
    )
    exposure_gain: float = option(1.0, "Linear gain on all colors.", low=0.01, high=256)
    color_matrix: tuple[float, ...] = option(
        _IDENTITY,
        "Nine numbers, row by row, from balanced camera RGB to linear RGB; identity is off.",
        low=-16,
        high=16,
    )
    curve: str = option(
        "srgb", "Tone curve from linear light to codes.", choices=("srgb", "gamma", "points")
    )
    gamma: float = option(2.2, "Exponent 1/gamma where curve is gamma.", low=0.2, high=10)
    curve_points: tuple[float, ...] = option(
        (0.0, 1.0),
        "Codes in [0, 1] at evenly spaced light where curve is points; never falling.",
        low=0,
        high=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, lengths in (
            ("black_level", (1, 4)),
            ("wb_gains", (3,)),
            ("color_matrix", (9,)),
            ("curve_points", range(2, 1025)),
            ("lens_shading_radial", range(0, 9)),
        ):
            if len(getattr(self, name)) not in lengths:
                allowed = " or ".join(str(n) for n in (*lengths[:-1], lengths[-1])[:2])
                raise InputError(
                    f"{name}: {len(getattr(self, name))} numbers are given, allowed is "
                    + (f"{lengths[0]} to {lengths[-1]}" if isinstance(lengths, range) else allowed)
                )
        if 0 < self.bits < 8:
            raise InputError(f"bits: {self.bits} is out of range, allowed is 0 or 8 to 16")
        if 0 < self.white_level <= max(self.black_level):
            raise InputError(
                f"white_level: {self.white_level:g} must lie above black_level "
                f"{max(self.black_level):g}"
            )
        if any(np.diff(self.curve_points) < 0):
            raise InputError("curve_points: a later code lies below an earlier one; let them rise")

    def with_metadata(self, metadata: RawMetadata) -> "IspConfig":
        """The same with a camera file's levels, color matrix and, where fixed, its balance."""
        gains = metadata.as_shot_gains if self.white_balance == "fixed" else None
        return replace(
            self,
            black_level=metadata.black_level,
            white_level=metadata.white_level,
            color_matrix=metadata.color_matrix or self.color_matrix,
            wb_gains=gains or self.wb_gains,
        )


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
_READY = ("mono8", "rgb8", "bgr8", "rgba8", "bgra8")
_GAIN_STEP = 0.002  # a smaller change of a gain is under half a code: the tables are kept
_BAND_ROWS = 32  # intermediate bands stay in the cache
_GRID = (48, 64)  # blocks that the balance looks at, rows and columns at least


class _Layout:
    """What depends on the frames' size and encoding only, with the buffers to work in."""

    def __init__(self, config: IspConfig, encoding: BayerEncoding, size: tuple[int, int]) -> None:
        width, height = size
        self.encoding = encoding
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
        self.linear = config.color_matrix != _IDENTITY
        self.mosaic = np.empty(
            (height, width), encoding.dtype if not encoding.packed else np.uint16
        )
        self.coded = np.empty((height, width), np.uint16 if self.linear else np.uint8)
        self.rgb16 = np.empty((height, width, 3), np.uint16) if self.linear else None
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


class ClassicalIsp:
    """A camera's ISP: holds the white balance and the buffers of one stream; one thread uses it.

    Each picture that ``process`` returns is a new array.
    """

    def __init__(self, config: IspConfig | None = None) -> None:
        self.config = config or IspConfig()
        self._curve = curve_table(self.config.curve, self.config.gamma, self.config.curve_points)
        self._matrix = np.array(self.config.color_matrix, np.float32).reshape(3, 3)
        self._smoother = GainSmoother(self.config.wb_time_constant_ms * 1e6)
        self._measure: Callable[..., npt.NDArray[np.float64] | None] | None = {
            "gray_world": gray_world,
            "white_patch": white_patch,
        }.get(self.config.white_balance)
        self._layout: _Layout | None = None
        self._layout_key: tuple[object, ...] = ()
        self._left: bool | None = None
        self._tables: list[Table] = []
        self._tables_shift = 0
        self._tables_gains: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def gains(self) -> tuple[float, ...]:
        """Of R, G, B: the white balance of the last picture's lookup tables."""
        return self._tables_gains

    def reset(self) -> None:
        """Forget the stream: white balance and justification are found anew."""
        self._smoother.reset()
        self._left = None
        self._tables = []

    def process(self, frame: Frame) -> Frame:
        """Develop a Bayer frame into ``rgb8``; an 8-bit color or gray picture passes unchanged.

        The result has the frame's stamp, index and frame_id and an image (H, W, 3) uint8.

        Raises:
            InputError: unknown encoding, an image of another type or size than the encoding says,
                or levels that the bits cannot hold. The next frame is not affected.
        """
        if frame.encoding in _READY:
            frame.check()
            return frame
        layout = self._layout_of(frame)
        mosaic = mosaic_of(frame, layout.mosaic)
        shift = self._shift(mosaic, layout)
        mosaic = self._without_defects(mosaic, layout, shift)
        gains = self._white_balance(mosaic, layout, shift, frame.stamp_ns)
        tables = self._tables_of(layout, shift, gains)
        if layout.shading is None:
            apply_tables(mosaic, tables, layout.coded)
        else:
            _shade(mosaic, layout, shift, tables)
        return Frame(self._color(layout), frame.stamp_ns, "rgb8", frame.index, frame.frame_id)

    def _layout_of(self, frame: Frame) -> _Layout:
        encoding = BayerEncoding.parse(frame.encoding)
        image = frame.image
        if not isinstance(image, np.ndarray) or image.ndim != 2:
            mosaic_of(frame)  # says what is wrong
        key = (frame.encoding, frame.size)
        if self._layout is None or key != self._layout_key:
            encoding.check_size(*frame.size)
            self._layout = _Layout(self.config, encoding, frame.size)
            self._layout_key = key
            self.reset()
        return self._layout

    def _shift(self, mosaic: Mosaic, layout: _Layout) -> int:
        """How many unused bits lie below a pixel's significant ones."""
        if not layout.spare_bits or self.config.justified == "right":
            return 0
        if self.config.justified == "left":
            return layout.spare_bits
        sample = mosaic[layout.grid]
        low = (sample & ((1 << layout.spare_bits) - 1)) != 0
        high = sample >> layout.bits != 0
        if (low & high).mean() > 0.01:
            raise InputError(
                f"pixels use more than {layout.bits} bits (up to {sample.max()}): set isp.bits to "
                "what the camera sends"
            )
        if low.any() != high.any():  # else this frame does not tell: as before
            self._left = bool(high.any())
        return layout.spare_bits if self._left else 0

    def _without_defects(self, mosaic: Mosaic, layout: _Layout, shift: int) -> Mosaic:
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

    def _white_balance(
        self, mosaic: Mosaic, layout: _Layout, shift: int, stamp_ns: int
    ) -> tuple[float, ...]:
        if self._measure is None:
            return self.config.wb_gains
        rows, columns = layout.grid
        light = {}
        for site, name in enumerate(layout.sites):
            at = (slice(site // 2, None, rows.step), slice(site % 2, None, columns.step))
            black, white = layout.black[site] * (1 << shift), layout.white * (1 << shift)
            values = (mosaic[at].ravel() - black) / (white - black)
            light[name] = values if layout.shading is None else values * layout.shading[at].ravel()
        blocks = np.stack([light["R"], (light["Gr"] + light["Gb"]) / 2, light["B"]])
        measured = self._measure(blocks, self.config.wb_max_gain)
        return tuple(self._smoother.update(stamp_ns, measured).tolist())

    def _tables_of(self, layout: _Layout, shift: int, gains: tuple[float, ...]) -> list[Table]:
        if self._tables and self._tables_shift == shift:
            change = np.abs(np.divide(gains, self._tables_gains) - 1).max()
            if change < _GAIN_STEP:
                return self._tables
        color = {"R": gains[0], "Gr": gains[1], "Gb": gains[1], "B": gains[2]}
        at_sites = [color[site] * self.config.exposure_gain for site in layout.sites]
        curve = None if layout.linear else self._curve
        if layout.shading is not None:  # black is gone and white is 65535 already
            self._tables = site_tables(16, 0, (0.0,) * 4, 65535.0, at_sites, curve)
        else:
            self._tables = site_tables(
                layout.bits, shift, layout.black, layout.white, at_sites, curve
            )
        self._tables_shift, self._tables_gains = shift, gains
        return self._tables

    def _color(self, layout: _Layout) -> npt.NDArray[np.uint8]:
        """Demosaic, then the matrix and the curve band by band."""
        if layout.rgb16 is None:
            return cv2.cvtColor(layout.coded, layout.demosaic)  # type: ignore[return-value]
        cv2.cvtColor(layout.coded, layout.demosaic, dst=layout.rgb16)
        out = np.empty(layout.rgb16.shape, np.uint8)
        for top in range(0, len(out), _BAND_ROWS):
            rows = slice(top, top + _BAND_ROWS)
            apply_curve(cv2.transform(layout.rgb16[rows], self._matrix), self._curve, out[rows])
        return out


def _shade(mosaic: Mosaic, layout: _Layout, shift: int, tables: list[Table]) -> None:
    """Black level and lens shading, then the tables, band by band."""
    gains = layout.shading_to_16_bits(shift)
    black = np.rint(np.array(layout.black) * (1 << shift)).astype(np.uint16).reshape(2, 2)
    block = np.tile(black, (_BAND_ROWS // 2, mosaic.shape[1] // 2))
    for top in range(0, len(mosaic), _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        band = mosaic[rows]
        light = cv2.subtract(band.astype(np.uint16, copy=False), block[: len(band)])
        shaded = cv2.multiply(light, gains[rows], dtype=cv2.CV_16U)
        apply_tables(shaded, tables, layout.coded[rows])
