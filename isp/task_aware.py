"""The task-aware ISP: one RAW frame, developed for each consumer as that one sees it best.

A detector gets its own grid straight from linear light, through noise-aware shrink, gain and
exponent (``isp/operators.py``). A tracker and a human get the whole picture: their gain and curve,
fused with black level and balance, in one lookup table for each site of the Bayer block, then the
demosaic. A network of few thousand parameters chooses all of these from a thumbnail.

The thumbnail is made of the detector's grid, so for a detector it costs next to nothing. Where only
whole pictures are wanted the grid is measured four times within the time constant and not more
often: parameters follow a change slower than that, so a picture is developed by what was chosen up
to a quarter of the time constant before. Stamps decide it, so the same frames give the same bits.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from isp.config import IspConfig
from isp.front import READY, FrameLayout, Front
from isp.grid import (
    THUMBNAIL,
    FloatImage,
    GridSampler,
    Linear,
    features,
    measured_noise,
    thumbnail,
)
from isp.levels import Table, toned_tables
from isp.operators import FIELD, Operators, Parameters, default_parameters
from isp.raw import Mosaic, Rgb
from isp.smoothing import Smoother
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.resources import share_path

CONSUMERS = ("detector", "tracker", "human")
"""Who a frame is developed for, in the order of the network's output."""
GLOBALS = 11
MAX_MODEL_BYTES = 8 << 20
_CLIPPED = 0.95
_BRIGHT = int(0.99 * THUMBNAIL**2)
_NO_PARAMETERS = (
    "isp.model: its answer to this frame are no parameters, fixed ones are taken; train it anew "
    "with `python -m isp.train`, or leave isp.model empty"
)
_MEASURED_SHARE = 0.25  # of the time constant, between frames that are measured for whole pictures
_PROBES = np.geomspace(1e-4, 1, 24, dtype=np.float32)[:, None]
_SAME_CODE = 0.5 / 255
_LEAST_NOISE = 1e-12  # a slope of 0 has no logarithm to be smoothed
GridOf = Callable[[tuple[int, int]], tuple[int, int]]


class Light(NamedTuple):
    """How light a frame is. levels: (3,) mean of R, G, B; parts of the range. bright: level of the
    brightest color that 99 % of the picture do not exceed. clipped: share of the picture at the
    white level."""

    levels: FloatImage
    bright: float
    clipped: float


class Choice(NamedTuple):
    """For the frame of ``stamp_ns``.

    of: each consumer's parameters. noise: slope and floor of G's variance on the grid. light:
    measures how light the frame is, for who asks. problem: why the network had no say, "" where it
    did.
    """

    stamp_ns: int
    of: dict[str, Parameters]
    noise: tuple[float, float]
    light: Callable[[], Light]
    problem: str


class ParameterModel:
    """The network that chooses parameters, under onnxruntime."""

    def __init__(self, path: Path) -> None:
        """Raises:
        InputError: no such file, too large, or no model of this kind."""
        remedy = "train one with `python -m isp.train`, or leave isp.model empty"
        try:
            data = path.read_bytes() if path.stat().st_size <= MAX_MODEL_BYTES else b""
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
            shapes = {i.name: list(i.shape[1:]) for i in self._session.get_inputs()}
            if shapes != {"features": [4, 64, 64], "noise": [2]}:
                raise InputError(f"{path}: wants {shapes!s:.80}, not features and noise; {remedy}")
            self._check(path, remedy)
        except InputError:
            raise
        except Exception as error:  # onnxruntime has no public base of its own
            raise InputError(
                f"{path}: is no ONNX model that runs here ({type(error).__name__}); {remedy}"
            ) from None

    def _check(self, path: Path, remedy: str) -> None:
        found = self(np.zeros((4, 64, 64), np.float32), (1e-4, 1e-6))
        if found is None:
            raise InputError(f"{path}: gives other outputs than parameters; {remedy}")

    def __call__(
        self, seen: FloatImage, noise: tuple[float, float]
    ) -> tuple[FloatImage, FloatImage] | None:
        """(consumers, GLOBALS) and (2, 16, 16); None where they are no parameters."""
        given = {"features": seen[None], "noise": np.array([noise], np.float32)}
        try:
            outputs = self._session.run(["globals", "field"], given)
        except Exception:  # onnxruntime has no public base of its own
            return None
        chosen, field = (np.asarray(o) for o in outputs)
        if chosen.shape != (1, len(CONSUMERS), GLOBALS) or field.shape != (1, 2, FIELD, FIELD):
            return None
        if not (chosen.min() > 0 and chosen.max() < math.inf and math.isfinite(field.sum())):
            return None
        return chosen[0], field[0]


class TaskAwareIsp:
    """A camera's ISP: holds the parameters and the buffers of one stream; one thread uses it."""

    def __init__(
        self,
        config: IspConfig | None = None,
        detector_grid: GridOf | None = None,
        forgiving: bool = False,
    ) -> None:
        """detector_grid: from a frame's to the detector's (width, height); without it no detector
        looks, and frames have no ``detail``. forgiving: where the model cannot be used, take fixed
        parameters and say so in every frame's ``chosen.problem``.

        Raises:
            InputError: the model is missing or no model of this kind, and this is not forgiving.
        """
        self.config = config or IspConfig(mode="task_aware")
        self._problem = ""
        self._model: ParameterModel | None = None
        try:
            self._model = ParameterModel(_model_path(self.config))
        except InputError as error:
            if not forgiving:
                raise
            self._problem = f"isp.model: {error}; fixed parameters are taken"
        self.detector_grid = detector_grid
        self._front = Front(self.config)
        self._layout: FrameLayout | None = None
        self._smoother = Smoother(self.config.time_constant_ms * 1e6)
        self._tables: dict[str, tuple[FloatImage, int, list[Table]]] = {}
        self._measured_ns = 0
        self.chosen: Choice | None = None
        """For the last frame, by an earlier one where only whole pictures were wanted; None where
        that was no RAW."""

    @property
    def found(self) -> str:
        """What was found out about levels that nobody gave, in a line; "" where nothing was."""
        return self._front.found

    def reset(self) -> None:
        """Forget the stream: parameters and justification are found anew."""
        self._front.reset()
        self._smoother.reset()
        self._tables = {}
        self.chosen = None

    def process(self, frame: Frame) -> Frame:
        """The tracker's view, and in its ``detail`` the detector's where ``detector_grid`` is set.

        Raises:
            InputError: what ``develop`` raises.
        """
        wanted = ("tracker",) if self.detector_grid is None else ("tracker", "detector")
        views = self.develop(frame, wanted)
        whole = views["tracker"]
        if whole is frame:
            return frame
        return Frame(
            whole.image, whole.stamp_ns, whole.encoding, whole.index, whole.frame_id,
            detail=views.get("detector"),
        )  # fmt: skip

    def develop(
        self, frame: Frame, consumers: tuple[str, ...], into: Mapping[str, Rgb] | None = None
    ) -> dict[str, Frame]:
        """A Bayer frame as some of ``CONSUMERS`` shall see it, each (h, w, 3) uint8 ``rgb8``; an
        8-bit color or gray picture passes unchanged.

        into: contiguous arrays of the frame's size for whole pictures; else those are new arrays.

        Raises:
            InputError: unknown encoding, an image of another type or size than the encoding says,
                or levels that the bits cannot hold. The next frame is not affected.
        """
        return dict(self.views(frame, consumers, into))

    def views(
        self, frame: Frame, consumers: tuple[str, ...], into: Mapping[str, Rgb] | None = None
    ) -> Iterator[tuple[str, Frame]]:
        """What ``develop`` gives, one after the other: none waits for those behind it.

        Raises:
            InputError: what ``develop`` raises, before the first.
        """
        if frame.encoding in READY:
            frame.check()
            self.chosen = None
            yield from dict.fromkeys(consumers, frame).items()
            return
        layout = self._front.layout_of(frame)
        if layout is not self._layout:
            self.reset()
            grid = even_grid((self.detector_grid or self._default_grid)(frame.size), frame.size)
            self._sampler = GridSampler(frame.size, grid, layout.order, layout.black, layout.white)
            self._operators = Operators(grid, self.config.color_matrix)
            self._shading = _grid_shading(layout, grid)
            self._coded = np.empty(layout.mosaic.shape, np.uint8)
            self._layout = layout
        mosaic, shift = self._front.read(frame, layout)
        linear, chosen = None, self.chosen
        if chosen is None or "detector" in consumers or self._is_due(frame.stamp_ns):
            linear = self._sampler(mosaic, shift)
            small = seen = thumbnail(linear)
            if self._shading is not None:
                linear = Linear(linear.sampled * self._shading)
                small = thumbnail(linear)
            self.chosen = chosen = self._choose(small, seen, frame.stamp_ns)
            self._measured_ns = frame.stamp_ns
        for consumer in consumers:
            given = chosen.of[consumer]
            if consumer == "detector":
                assert linear is not None
                image = self._operators(linear, given)
            else:
                out = into.get(consumer) if into else None
                image = self._whole(mosaic, layout, shift, consumer, given, out)
            yield consumer, Frame(image, frame.stamp_ns, "rgb8", frame.index, frame.frame_id)

    def _default_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = self.config.detector_px / max(size)
        return round(size[0] * scale), round(size[1] * scale)

    def _is_due(self, stamp_ns: int) -> bool:
        """Whether parameters must be measured even where only whole pictures are wanted."""
        since = stamp_ns - self._measured_ns
        return not 0 <= since < _MEASURED_SHARE * self.config.time_constant_ms * 1e6

    def _choose(self, small: FloatImage, seen: FloatImage, stamp_ns: int) -> Choice:
        """small: the thumbnail. seen: the same before lens shading, for what the sensor clips."""
        noise, light = measured_noise(small), partial(measured_light, small, seen)
        found = None if self._model is None else self._model(features(small), noise)
        if found is None:
            given = default_parameters(light().levels, noise)
            of = dict.fromkeys(CONSUMERS, given)
            problem = self._problem or _NO_PARAMETERS
            return Choice(stamp_ns, of, noise, light, problem)
        chosen, field = found
        packed = np.concatenate(
            [np.log(chosen).ravel(), field.ravel(), np.log(np.maximum(noise, _LEAST_NOISE))]
        )
        smooth = self._smoother.update(stamp_ns, packed)
        assert smooth is not None
        count = chosen.size
        values = np.exp(smooth[:count]).reshape(chosen.shape)
        field = smooth[count:-2].reshape(field.shape).astype(np.float32)
        slope, floor = np.exp(smooth[-2:]).tolist()
        of = {
            consumer: parameters_of(row, field, slope, floor)
            for consumer, row in zip(CONSUMERS, values.tolist(), strict=True)
        }
        return Choice(stamp_ns, of, noise, light, "")

    def _whole(
        self,
        mosaic: Mosaic,
        layout: FrameLayout,
        shift: int,
        consumer: str,
        given: Parameters,
        into: Rgb | None,
    ) -> Rgb:
        """The whole picture through the consumer's tables, demosaiced."""
        codes = _codes(given)
        before = self._tables.get(consumer)
        if before is None or before[1] != shift or _differ(before[0], codes):
            of_site = [("R", "G", "B").index(site[0]) for site in layout.sites]
            tables = toned_tables(
                *layout.levels(shift),
                [given.gains[c] for c in of_site], [given.exponents[c] for c in of_site], given.toe,
                before[2] if before is not None and before[1] == shift else None,
            )  # fmt: skip
            before = self._tables[consumer] = (codes, shift, tables)
        layout.apply_tables(mosaic, shift, before[2], self._coded)
        return np.asarray(cv2.cvtColor(self._coded, layout.demosaic, dst=into))


def measured_light(small: FloatImage, seen: FloatImage) -> Light:
    """small: the thumbnail. seen: the same before lens shading, for what the sensor clips."""
    levels = small[:3].reshape(3, -1).mean(axis=1)
    brightest = seen[:3].max(axis=0).ravel()
    bright = float(np.partition(brightest, _BRIGHT)[_BRIGHT])
    return Light(levels, bright, float((brightest > _CLIPPED).mean()))


def parameters_of(row: list[float], field: FloatImage, slope: float, floor: float) -> Parameters:
    """A row of GLOBALS numbers, as the network gives them, by name."""
    r, g, b, er, eg, eb, saturation, toe, fine, coarse, color = row
    return Parameters(
        (r, g, b), (er, eg, eb), saturation, toe, (fine, coarse, color), field, slope, floor
    )


def _codes(given: Parameters) -> FloatImage:
    """What R, G, B of some levels become, parts of white: two tables are alike where these are."""
    exponents = np.array(given.exponents, np.float32)
    code = (_PROBES * np.array(given.gains, np.float32) + np.float32(given.toe)) ** exponents
    return np.minimum(code - np.float32(given.toe) ** exponents, 1)


def _differ(a: FloatImage, b: FloatImage) -> bool:
    """Whether tables of the one codes do not serve for the other."""
    return float(np.abs(a - b).max()) >= _SAME_CODE


def _model_path(config: IspConfig) -> Path:
    if config.model:
        return Path(config.model).expanduser()
    return share_path("models", "task-aware.onnx")


def even_grid(grid: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The grid with even sides, no finer than the mosaic's blocks, but 16 at the least."""
    width, height = (max(min(g, s // 2), 16) // 2 * 2 for g, s in zip(grid, size, strict=True))
    return width, height


def _grid_shading(layout: FrameLayout, grid: tuple[int, int]) -> FloatImage | None:
    """(4, h, w) lens shading gains of R, G, B and of G's variance on the grid."""
    if layout.shading is None:
        return None
    planes: dict[str, list[npt.NDArray[np.float32]]] = {"R": [], "G": [], "B": []}
    for site, name in enumerate(layout.sites):
        plane = np.ascontiguousarray(layout.shading[site // 2 :: 2, site % 2 :: 2])
        small = np.asarray(cv2.resize(plane, grid, interpolation=cv2.INTER_AREA), np.float32)
        planes[name[0]].append(small)
    red, green, blue = (np.mean(p, axis=0) for p in planes.values())
    return np.stack([red, green, blue, green**2])
