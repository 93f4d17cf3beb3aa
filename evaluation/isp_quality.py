"""How well frozen detectors see what an ISP makes of RAW, at any level of light (simulated).

Labeled pictures go through a sensor's forward model (``isp/sensor.py``), then through each ISP and
each detector. Classical ISPs are rows of their own; the best of them at a level is the baseline.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from evaluation.detection_ap import Interval, Matches, paired_difference
from evaluation.streaming_ap import Picture
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.grid import FloatImage, GridSampler
from isp.sensor import LEVELS, PROFILES, SensorProfile, bayer, linear_light
from isp.task_aware import GridOf, TaskAwareIsp, even_grid
from perception.detector import Detector, DetectorConfig
from pipeline.errors import InputError
from pipeline.frame import Frame

Rgb = npt.NDArray[np.uint8]
MAX_PICTURES = 5000
SUFFIXES = (".jpg", ".jpeg", ".png")


class Labeled(NamedTuple):
    """A picture with its true boxes. rgb: (h, w, 3). boxes: (t, 4) x y w h in pixels. labels:
    (t,)."""

    name: str
    rgb: Rgb
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int16]


def read_labeled(images: Path, labels: Path, limit: int = MAX_PICTURES) -> list[Labeled]:
    """Pictures with boxes in YOLO's format: ``class x_center y_center w h``, parts of the sides.

    Raises:
        InputError: no pictures, or a file of labels that is none.
    """
    paths = sorted(p for p in images.glob("*") if p.suffix.lower() in SUFFIXES)[:limit]
    found = []
    for path in paths:
        bgr = cv2.imread(str(path))
        if bgr is None:
            raise InputError(f"{path}: is no picture that OpenCV reads; leave it out")
        boxes, classes = _read_boxes(labels / f"{path.stem}.txt", bgr.shape[1], bgr.shape[0])
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        found.append(Labeled(path.stem, rgb, boxes, classes))
    if not any(len(f.boxes) for f in found):
        raise InputError(f"{images}: no picture with labels in {labels}; give both folders")
    return found


def _read_boxes(
    path: Path, width: int, height: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int16]]:
    rows = np.empty((0, 5))
    try:
        if path.exists() and (text := path.read_text(encoding="utf-8").strip()):
            rows = np.array([line.split() for line in text.splitlines()], np.float64)
    except (OSError, ValueError, UnicodeDecodeError):
        raise InputError(f"{path}: is no list of `class x y w h`; give YOLO's format") from None
    if rows.shape[1:] != (5,) or not np.isfinite(rows).all() or (abs(rows) > 1e4).any():
        raise InputError(f"{path}: is no list of `class x y w h`; give YOLO's format")
    centers, sides = rows[:, 1:3] * [width, height], rows[:, 3:5] * [width, height]
    return np.concatenate([centers - sides / 2, sides], axis=1), rows[:, 0].astype(np.int16)


def expose(
    picture: Labeled, profile: SensorProfile, level: tuple[float, float], seed: tuple[int, ...]
) -> Frame:
    """RAW of the picture, each of its pixels a 2×2 block of the mosaic."""
    height, width = picture.rgb.shape[:2]
    light = linear_light(picture.rgb, profile)
    large = cv2.resize(light, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    mosaic = bayer(np.asarray(large, np.float32), profile, *level, np.random.default_rng(seed))
    return Frame(mosaic, 0, f"bayer_rggb{profile.bits}")


Develop = Callable[[Frame], Rgb]
"""What a detector is given of a RAW frame."""


@dataclass(frozen=True)
class IspRow:
    """An ISP under test. make: from a sensor's profile and a detector's grid. classical: whether
    it may be the baseline."""

    name: str
    make: Callable[[SensorProfile, GridOf], Develop]
    classical: bool


def config_of(profile: SensorProfile, **options: object) -> IspConfig:
    """The ISP's options for a sensor."""
    return IspConfig(black_level=(float(profile.black),), time_constant_ms=0, **options)  # type: ignore[arg-type]


def task_aware(name: str, model: str) -> IspRow:
    """The task-aware ISP with a model's file; empty is the shipped one."""

    def make(profile: SensorProfile, grid: GridOf) -> Develop:
        config = config_of(profile, mode="task_aware", model=model, color_matrix=profile.matrix)
        isp = TaskAwareIsp(config, grid)
        return lambda frame: np.asarray(isp.develop(frame, ("detector",))["detector"].image)

    return IspRow(name, make, False)


def published(name: str, model: Path, sampled: bool) -> IspRow:
    """TA-ISP's operators, trained by ``isp.train --operators published``, on the averaged grid.

    sampled: with Gumbel noise, as its authors run it; else without.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    regions = session.get_inputs()[1].shape[1]
    rng = np.random.default_rng(0)

    def make(profile: SensorProfile, grid: GridOf) -> Develop:
        def develop(planes: FloatImage) -> Rgb:
            shape = (1, regions, *planes.shape[1:])
            noise = rng.gumbel(size=shape) if sampled else np.zeros(shape)
            given = {"image": planes[None], "gumbel": noise.astype(np.float32)}
            return _coded(session.run(None, given)[0][0])

        return _on_grid(profile, grid, develop)

    return IspRow(name, make, False)


def _on_grid(
    profile: SensorProfile,
    grid: GridOf,
    develop: Callable[[FloatImage], Rgb],
    matrix: bool = False,
) -> Develop:
    """Averages to the detector's grid in linear light first."""

    def run(frame: Frame) -> Rgb:
        cells = even_grid(grid(frame.size), frame.size)
        sampler = _sampler(frame.size, cells, profile.black, profile.white)
        planes = sampler(frame.image).planes
        if matrix:
            rows = np.reshape(profile.matrix, (3, 3)).astype(np.float32)
            planes = np.einsum("rc,chw->rhw", rows, np.clip(_balanced(planes), 0, 1))
        return develop(planes)

    return run


@lru_cache(maxsize=4)
def _sampler(size: tuple[int, int], grid: tuple[int, int], black: int, white: int) -> GridSampler:
    """One for all rows: they see the same picture in turn."""
    return GridSampler(size, grid, "rggb", [black] * 4, white)


def _coded(planes: FloatImage) -> Rgb:
    """(3, h, w) in [0, 1] → (h, w, 3) uint8."""
    code = np.rint(255 * np.clip(planes, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(code.transpose(1, 2, 0))


def _gamma(x: FloatImage) -> FloatImage:
    return np.asarray(np.clip(x, 0, 1) ** np.float32(1 / 2.2))


def _log(x: FloatImage) -> FloatImage:
    return np.asarray(np.log1p(100 * np.clip(x, 0, 1)) / np.float32(np.log(101)))


def _balanced(x: FloatImage) -> FloatImage:
    mean = np.maximum(x.mean(axis=(1, 2), keepdims=True), 1e-6)
    return np.asarray(x * np.minimum(mean.max() / mean, 8))


def _exposed(x: FloatImage, target: float) -> FloatImage:
    return np.asarray(x * np.float32(min(target / max(float(x[1].mean()), 1e-6), 64)))


def _bilateral(rgb: Rgb) -> Rgb:
    return np.asarray(cv2.bilateralFilter(rgb, 5, 30, 3))


def _clahe(rgb: Rgb) -> Rgb:
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


_GRID_CLASSICAL: dict[str, Callable[[FloatImage], Rgb]] = {
    "average, gamma": lambda x: _coded(_gamma(x)),
    "average, gray world, gamma": lambda x: _coded(_gamma(_balanced(x))),
    "average, gray world, exposed to .18, gamma": lambda x: _coded(
        _gamma(_exposed(_balanced(x), 0.18))
    ),
    "average, gray world, exposed to .08, gamma": lambda x: _coded(
        _gamma(_exposed(_balanced(x), 0.08))
    ),
    "average, gray world, log": lambda x: _coded(_log(_balanced(x))),
    "average, gamma, bilateral": lambda x: _bilateral(_coded(_gamma(x))),
    "average, gray world, gamma, bilateral": lambda x: _bilateral(_coded(_gamma(_balanced(x)))),
    "average, gray world, log, bilateral": lambda x: _bilateral(_coded(_log(_balanced(x)))),
    "average, gray world, exposed to .08, gamma, bilateral": lambda x: _bilateral(
        _coded(_gamma(_exposed(_balanced(x), 0.08)))
    ),
    "average, gray world, exposed to .08, gamma, CLAHE": lambda x: _clahe(
        _coded(_gamma(_exposed(_balanced(x), 0.08)))
    ),
}
_MATRIX_CLASSICAL: dict[str, Callable[[FloatImage], Rgb]] = {
    "average, gray world, color matrix, gamma": lambda x: _coded(_gamma(x)),
    "average, gray world, color matrix, log": lambda x: _coded(_log(x)),
    "average, gray world, color matrix, log, bilateral": lambda x: _bilateral(_coded(_log(x))),
}
_LINEAR = {"curve": "gamma", "gamma": 1.0}
_WHOLE_CLASSICAL: dict[str, dict[str, object]] = {
    "demosaic, linear": {"white_balance": "fixed", **_LINEAR},
    "demosaic, sRGB": {"white_balance": "fixed"},
    "demosaic, gray world, sRGB": {},
    "demosaic, gray world, sRGB, color matrix": {"matrix": True},
    "demosaic, gray world, sRGB, averaged": {"averaged": True},
}


def classical_rows() -> list[IspRow]:
    """Every classical ISP that the task-aware one is held to."""

    def whole(options: dict[str, object]) -> Callable[[SensorProfile, GridOf], Develop]:
        def make(profile: SensorProfile, grid: GridOf) -> Develop:
            given = {k: v for k, v in options.items() if k not in ("matrix", "averaged")}
            if options.get("matrix"):
                given["color_matrix"] = profile.matrix
            isp = ClassicalIsp(config_of(profile, **given))

            def run(frame: Frame) -> Rgb:
                isp.reset()
                rgb = np.asarray(isp.process(frame).image)
                if not options.get("averaged"):
                    return rgb
                return np.asarray(cv2.resize(rgb, grid(frame.size), interpolation=cv2.INTER_AREA))

            return run

        return make

    def average(
        develop: Callable[[FloatImage], Rgb], matrix: bool = False
    ) -> Callable[..., Develop]:
        return lambda profile, grid: _on_grid(profile, grid, develop, matrix)

    return [
        *(IspRow(name, whole(given), True) for name, given in _WHOLE_CLASSICAL.items()),
        *(IspRow(name, average(f), True) for name, f in _GRID_CLASSICAL.items()),
        *(IspRow(name, average(f, True), True) for name, f in _MATRIX_CLASSICAL.items()),
    ]


def detect(
    rows: list[IspRow],
    detector: Detector,
    pictures: list[Labeled],
    profile: SensorProfile,
    level: tuple[float, float],
    seed: int,
) -> Iterator[dict[str, Picture]]:
    """For each picture what the detector finds in each ISP's view of the same RAW."""
    develops = {row.name: row.make(profile, detector.grid) for row in rows}
    for k, picture in enumerate(pictures):
        raw = expose(picture, profile, level, (seed, k, round(1000 * level[0])))
        found = {}
        for name, develop in develops.items():
            found[name] = seen(detector, picture, develop(raw))
        yield found


def seen(detector: Detector, picture: Labeled, rgb: Rgb) -> Picture:
    """What the detector finds in a view, in the labeled picture's own pixels."""
    found = detector.detect(Frame(rgb, 0, "rgb8"))
    scale = np.array(picture.rgb.shape[1::-1]) / np.array(rgb.shape[1::-1])
    return Picture(
        picture.boxes, picture.labels, found.boxes * np.tile(scale, 2), found.labels, found.scores
    )


class Unit(NamedTuple):
    """One detector at one level of light, with one seed of the noise and of trained models."""

    detector: int
    level: str
    seed: int


@dataclass(frozen=True)
class Trained:
    """ISPs that were trained with several seeds. models: a file each; "" is the shipped one.
    published: they are TA-ISP's operators, not leadsight's."""

    name: str
    models: tuple[str, ...]
    published: bool = False

    def row(self, seed: int) -> IspRow:
        """The one of a seed."""
        model = self.models[seed % len(self.models)]
        if self.published:
            return published(self.name, Path(model), sampled=False)
        return task_aware(self.name, model)


@dataclass(frozen=True)
class Study:
    """What is measured. pictures: folders of pictures and of labels. detectors: their options."""

    images: Path
    labels: Path
    detectors: tuple[DetectorConfig, ...]
    trained: tuple[Trained, ...]
    levels: tuple[str, ...]
    seeds: int
    sensor: str
    limit: int = MAX_PICTURES

    def units(self) -> list[Unit]:
        """In the order of the tables."""
        return [
            Unit(d, level, seed)
            for d in range(len(self.detectors))
            for level in self.levels
            for seed in range(self.seeds)
        ]

    def rows(self, seed: int) -> list[IspRow]:
        """Every ISP that a unit compares."""
        return [*classical_rows(), *(t.row(seed) for t in self.trained)]


def run_unit(study: Study, unit: Unit) -> dict[str, Matches]:
    """What one detector finds in all pictures through each ISP.

    Raises:
        InputError: data or a model that is missing or unfit.
    """
    cv2.setNumThreads(1)
    pictures = read_labeled(study.images, study.labels, study.limit)
    detector = Detector(study.detectors[unit.detector])
    found: dict[str, list[Picture]] = {}
    rows, profile = study.rows(unit.seed), PROFILES[study.sensor]
    for seen_in in detect(rows, detector, pictures, profile, LEVELS[unit.level], unit.seed):
        for name, picture in seen_in.items():
            found.setdefault(name, []).append(picture)
    return {name: Matches(pictures) for name, pictures in found.items()}


def clean(study: Study, detector: DetectorConfig) -> float:
    """AP on the pictures as they are, which no ISP's view of RAW should reach."""
    pictures = read_labeled(study.images, study.labels, study.limit)
    judge = Detector(detector)
    return float(Matches([seen(judge, p, p.rgb) for p in pictures]).precision()[0])


class Column(NamedTuple):
    """One detector at one level.

    ap: of each ISP, mean over seeds. spread: standard deviation over seeds, NaN of one. best: the
    classical ISP with the highest AP. gains: of each trained ISP over it.
    """

    detector: str
    level: str
    ap: dict[str, float]
    spread: dict[str, float]
    best: str
    gains: dict[str, Interval]


def column(
    study: Study, detector: int, level: str, found: dict[Unit, dict[str, Matches]]
) -> Column:
    """The figures of a detector at a level, from its units."""
    runs = [found[Unit(detector, level, seed)] for seed in range(study.seeds)]
    each = {name: [float(run[name].precision()[0]) for run in runs] for name in runs[0]}
    ap = {name: float(np.mean(values)) for name, values in each.items()}
    best = max((row.name for row in classical_rows()), key=lambda name: ap[name])
    theirs = [run[best] for run in runs]
    return Column(
        Path(study.detectors[detector].model).stem,
        level,
        ap,
        {n: float(np.std(v, ddof=1)) if len(v) > 1 else np.nan for n, v in each.items()},
        best,
        {t.name: paired_difference([run[t.name] for run in runs], theirs) for t in study.trained},
    )
