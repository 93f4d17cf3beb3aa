"""The classical ISP: Bayer RAW in, 8-bit RGB out.

Order of operations: unpack · defect pixels · lens shading · black and white level, white balance
and (without a color matrix) tone curve, in one lookup · demosaic · color matrix and tone curve.
Beside the demosaic this is one full-size pass without a color matrix and two with one; unpacking,
defect pixels and lens shading each add one where they are asked for.

Without a matrix the picture is demosaiced in 8 bits after the curve. A matrix mixes linear light,
so with one the lookup stays linear in 16 bits and the curve comes last. Light is clipped at the
white level before the matrix, or saturated highlights would turn magenta.
"""

from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from isp.config import IDENTITY, IspConfig
from isp.front import BAND_ROWS, READY, FrameLayout, Front
from isp.levels import Table, apply_curve, curve_table, site_tables
from isp.raw import Mosaic, Rgb
from isp.white_balance import GainSmoother, gray_world, white_patch
from pipeline.frame import Frame

_GAIN_STEP = 0.002  # a smaller change of a gain is under half a code: the tables are kept


class ClassicalIsp:
    """A camera's ISP: holds the white balance and the buffers of one stream; one thread uses it.

    Each picture that ``process`` returns is a new array, or the one given for it.
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
        self._linear = self.config.color_matrix != IDENTITY
        self._front = Front(self.config)
        self._layout: FrameLayout | None = None
        self._tables: list[Table] = []
        self._tables_shift = 0
        self._tables_gains: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def gains(self) -> tuple[float, ...]:
        """Of R, G, B: the white balance of the last picture's lookup tables."""
        return self._tables_gains

    @property
    def found(self) -> str:
        """What was found out about levels that nobody gave, in a line; "" where nothing was."""
        return self._front.found

    def reset(self) -> None:
        """Forget the stream: white balance and justification are found anew."""
        self._front.reset()
        self._smoother.reset()
        self._tables = []

    def process(self, frame: Frame, into: Rgb | None = None) -> Frame:
        """Develop a Bayer frame into ``rgb8``; an 8-bit color or gray picture passes unchanged.

        The result has the frame's stamp, index and frame_id and an image (H, W, 3) uint8: ``into``
        where a contiguous array of that size is given for a Bayer frame.

        Raises:
            InputError: unknown encoding, an image of another type or size than the encoding says,
                or levels that the bits cannot hold. The next frame is not affected.
        """
        if frame.encoding in READY:
            frame.check()
            return frame
        layout = self._front.layout_of(frame)
        if layout is not self._layout:
            self.reset()
            shape = layout.mosaic.shape
            self._coded = np.empty(shape, np.uint16 if self._linear else np.uint8)
            self._rgb16 = np.empty((*shape, 3), np.uint16) if self._linear else None
            self._layout = layout
        mosaic, shift = self._front.read(frame, layout)
        gains = self._white_balance(mosaic, layout, shift, frame.stamp_ns)
        tables = self._tables_of(layout, shift, gains)
        layout.apply_tables(mosaic, shift, tables, self._coded)
        return Frame(self._color(layout, into), frame.stamp_ns, "rgb8", frame.index, frame.frame_id)

    def develop(
        self, frame: Frame, consumers: tuple[str, ...], into: Mapping[str, Rgb] | None = None
    ) -> dict[str, Frame]:
        """The same picture for each of the consumers, as ``process`` gives it; into: arrays for
        some of them, of which the first is used."""
        room = next((into[c] for c in consumers if c in into), None) if into else None
        return dict.fromkeys(consumers, self.process(frame, room))

    def views(
        self, frame: Frame, consumers: tuple[str, ...], into: Mapping[str, Rgb] | None = None
    ) -> Iterator[tuple[str, Frame]]:
        """What ``develop`` gives, one after the other."""
        yield from self.develop(frame, consumers, into).items()

    def _white_balance(
        self, mosaic: Mosaic, layout: FrameLayout, shift: int, stamp_ns: int
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

    def _tables_of(self, layout: FrameLayout, shift: int, gains: tuple[float, ...]) -> list[Table]:
        into = self._tables if self._tables_shift == shift else []
        if into:
            change = np.abs(np.divide(gains, self._tables_gains) - 1).max()
            if change < _GAIN_STEP:
                return self._tables
        color = {"R": gains[0], "Gr": gains[1], "Gb": gains[1], "B": gains[2]}
        at_sites = [color[site] * self.config.exposure_gain for site in layout.sites]
        curve = None if self._linear else self._curve
        self._tables = site_tables(*layout.levels(shift), at_sites, curve, into)
        self._tables_shift, self._tables_gains = shift, gains
        return self._tables

    def _color(self, layout: FrameLayout, into: Rgb | None) -> Rgb:
        """Demosaic, then the matrix and the curve band by band."""
        if self._rgb16 is None:
            return np.asarray(cv2.cvtColor(self._coded, layout.demosaic, dst=into))
        cv2.cvtColor(self._coded, layout.demosaic, dst=self._rgb16)
        out = into
        if out is None or out.shape != self._rgb16.shape:
            out = np.empty(self._rgb16.shape, np.uint8)
        for top in range(0, len(out), BAND_ROWS):
            rows = slice(top, top + BAND_ROWS)
            apply_curve(cv2.transform(self._rgb16[rows], self._matrix), self._curve, out[rows])
        return out
