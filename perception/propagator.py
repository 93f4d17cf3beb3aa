"""From one frame to the next: how each tracked box moved, and how the camera did.

The fast half of two-rate tracking. Around each box a patch is cut from both frames, the second one
where the target is expected, at a scale at which every target is about equally large; so small
targets are not mixed with their background and large ones cost no more. All patches lie in one
mosaic, so pyramidal Lucas-Kanade runs once for all targets. Its forward-backward check, image
gradients and nearness to the box's middle weigh the points of a robust similarity; where the target
is expected to move against the background, points that stay with the background count little.

Where the points disagree, normalized cross-correlation of the box in a wider window makes a second
proposal; the one under which the box's content agrees better is refined and kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from perception.camera import CameraMotion, unknown_motion
from perception.ego import EgoMotion
from perception.flow import flow
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.imu import read_calibration
from pipeline.motion import LOOK, CameraSource, Step, moved_boxes, moved_by

PATCH_PX = 96
CORE_PX = 40.0
"""Side that a target has in its patch, geometric mean of both."""
MAX_ENLARGEMENT = 2.5
GRID = 8
CAMERA_WIDTH_PX = 320
BASE_WIDTH_PX = 1920
MAX_RETURN_PX = 1.0
ITERATIONS = 6
MIN_POINTS = 6
CENTER_SIGMA = 0.35
MAX_GROWTH = 0.2
"""Of the sides, in one step."""
STIFFNESS = 0.02
"""Resistance of scale and rotation, in squared sides."""
MIN_SIGMA_PX = 0.15
FLOOR = 0.01
GROWTH_FLOOR = 0.005
"""What a step's sigma never falls below: of the center in sides, and of the growth."""
LOOK_PX = (12, 12)
STRANGENESS = 0.1
"""Sigma that a step gains, in sides, as the target stops resembling itself."""
MIN_LIKENESS = 0.5
"""Correlation with what the target looked like, below which something hides it, unless it goes on
as expected."""
AS_EXPECTED = 0.15
AS_BACKGROUND = 0.02
"""Distance in sides from where the target was expected within which it goes on, and by how much it
may be nearer to where the background went."""
APART_PX = 1.4
"""Distance in the patch by which background and target must go apart to be told apart."""
MAX_DISCOUNT = 0.95
"""Of a point's weight, when it goes all the way with the background."""
MIN_CONTRAST = 2.0
"""Standard deviation of gray below which a frame shows nothing."""
SURE_MATCH = 0.7
MIN_MATCH = 0.3
"""Correlation of the box's content over the step from which it needs no second look, and below
which the target was not seen."""
GAIN = 0.1
FALLBACK_MATCH = 0.5
"""By how much better, and how well at least, the second look must correlate."""
UNSEEN = 0.2
"""Sigma of a step that was not seen, in sides."""
FAR_PENALTY = 0.2
"""Taken off a correlation found a quarter of the window away."""

Gray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PropagatorConfig(Config):
    """How boxes are carried from frame to frame."""

    camera: bool = option(True, "See the camera's own motion on the background.")
    fallback: bool = option(True, "Correlate where optical flow fails.")
    memory: int = option(32, "Frames kept for answers that come late.", low=2, high=256)
    calibration: str = option(
        "", "Path of Kalibr's camchain-imucam.yaml, to use a gyroscope; empty for none."
    )
    calibration_camera: str = option("cam0", "Which of its cameras this is.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calibration and not self.camera:
            raise InputError("calibration: a gyroscope tells of the camera; set camera to true")


class Pyramid:
    """One frame's gray picture at full, half, quarter … size. levels[i]: (H >> i, W >> i) uint8."""

    def __init__(self, frame: Frame) -> None:
        self.stamp_ns = frame.stamp_ns
        self.size = frame.size
        gray = frame.gray()
        self.scale = 1.0
        while gray.shape[1] > BASE_WIDTH_PX:
            gray, self.scale = _half(gray), self.scale * 2
        self.levels = [gray]
        while self.levels[-1].shape[1] > CAMERA_WIDTH_PX:
            self.levels.append(_half(self.levels[-1]))
        self.camera: CameraMotion | None = None  # since the frame before, once it was looked for
        self.blank = float(cv2.meanStdDev(self.levels[-1])[1][0, 0]) < MIN_CONTRAST


def _half(gray: Gray) -> Gray:
    size = (max(gray.shape[1] // 2, 1), max(gray.shape[0] // 2, 1))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


class Propagator:
    """Keeps the last frames' pyramids and follows boxes between them.

    ego: the camera's own motion, which takes the samples of a gyroscope from any thread; all else
    is not thread-safe.
    """

    def __init__(self, config: PropagatorConfig) -> None:
        self._config = config
        self._frames: list[Pyramid] = []
        camera = gyro = None
        if config.calibration:
            camera, gyro = read_calibration(
                Path(config.calibration).expanduser(), config.calibration_camera
            )
        self.ego = EgoMotion(gyro, camera)

    def reset(self) -> None:
        """Forget all frames: the clock jumped, or a new run begins."""
        self._frames = []
        self.ego.reset()

    def step(
        self,
        frame: Frame,
        boxes: FloatArray,
        own: FloatArray | None = None,
        background: FloatArray | None = None,
        looks: FloatArray | None = None,
    ) -> Step | None:
        """Take the newest frame and follow what was in ``boxes`` of the one before.

        boxes: (N, 4), x y w h in pixels. own, background: (N, 2), how far each center is expected
        to have moved by itself, and with the camera where that cannot be seen; 0 if not given.
        looks: (N, LOOK), what ``look`` gave; a target that no longer resembles it is hidden.

        Returns:
            The step; None for the first frame, and for one in which nothing can be seen (black,
            saturated), which is then as if it had never come.

        Raises:
            InputError: no 8-bit picture, or a stamp that is not newer than the last one.
        """
        if self._frames and frame.stamp_ns <= self._frames[-1].stamp_ns:
            raise InputError(
                f"frame {frame.index}: stamp {frame.stamp_ns} is not after the last one's "
                f"{self._frames[-1].stamp_ns}; a repeated frame tells of no motion"
            )
        newest = Pyramid(frame)
        if newest.blank:
            return None
        if self._frames and self._frames[-1].size != newest.size:
            self.reset()
        self._frames = [*self._frames[1 - self._config.memory :], newest]
        if len(self._frames) < 2:
            return None
        before, after = self._frames[-2:]
        return self._between(before, after, boxes, own, background, looks)

    def look(self, stamp_ns: int, boxes: FloatArray) -> FloatArray | None:
        """(N, LOOK) what is in ``boxes``, (N, 4), of a kept frame; None where it is not kept."""
        for pyramid in self._frames:
            if pyramid.stamp_ns == stamp_ns:
                centers, scale, sides = _frame_of_patch(boxes)
                return _looks(_mosaic(pyramid, centers, scale), sides, np.zeros_like(centers))
        return None

    def retrace(self, stamp_ns: int, boxes: FloatArray) -> Iterator[Step]:
        """Follow ``boxes``, (N, 4) in the kept frame of that stamp, to the newest frame.

        One step a frame; nothing where the frame is no longer kept.
        """
        kept = [k for k, f in enumerate(self._frames) if f.stamp_ns == stamp_ns]
        frames = self._frames[kept[0] :] if kept else []
        for before, after in pairwise(frames):
            step = self._between(before, after, boxes, None, None, None)
            boxes = moved_boxes(boxes, step.shift, step.growth)
            yield step

    def _between(
        self,
        before: Pyramid,
        after: Pyramid,
        boxes: FloatArray,
        own: FloatArray | None,
        background: FloatArray | None,
        looks: FloatArray | None,
    ) -> Step:
        if after.camera is None:
            after.camera = unknown_motion()
            if self._config.camera:
                scale = before.scale * 2.0 ** (len(before.levels) - 1)
                after.camera = self.ego.between(
                    before.levels[-1],
                    after.levels[-1],
                    scale,
                    boxes,
                    before.stamp_ns,
                    after.stamp_ns,
                    after.size,
                )
        camera = after.camera
        centers = boxes[:, :2] + boxes[:, 2:] / 2
        still = np.full_like(centers, np.nan)
        guess = np.zeros_like(centers) if own is None else own.copy()
        if np.isfinite(camera.sigma):
            still = moved_by(camera.matrix, centers) - centers
            guess += still
        elif background is not None:
            guess += background
        shift, growth, variance, seen = _follow(
            before, after, boxes, guess, still, looks, self._config.fallback
        )
        if camera.source == CameraSource.GYRO:  # all that the guess of a hidden target rests on
            variance[~seen, 0] += camera.sigma**2
        return Step(
            before.stamp_ns,
            after.stamp_ns,
            camera.matrix,
            camera.sigma,
            shift,
            growth,
            variance,
            seen,
            camera.source,
        )


class _Fit(NamedTuple):
    """Of N targets, in patch pixels. shift: (N, 2). growth, variance (of a coordinate of shift),
    growth_variance: (N,). seen: (N,) bool, enough points agree."""

    shift: FloatArray
    growth: FloatArray
    variance: FloatArray
    growth_variance: FloatArray
    seen: npt.NDArray[np.bool_]


def _frame_of_patch(boxes: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centers (N, 2) and scales (N,) of boxes' patches, and the boxes' sides in them, (N, 2)."""
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    scale = np.minimum(CORE_PX / np.sqrt(boxes[:, 2] * boxes[:, 3]), MAX_ENLARGEMENT)
    return centers, scale, boxes[:, 2:] * scale[:, None]


def _follow(
    before: Pyramid,
    after: Pyramid,
    boxes: FloatArray,
    guess: FloatArray,
    still: FloatArray,
    looks: FloatArray | None,
    fallback: bool,
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Shift, growth, variance and whether seen, as in ``Step``, of N boxes.

    guess, still: (N, 2), where their centers are expected and where the background there went, in
    pixels from where they were; NaN where that could not be seen.
    """
    if not len(boxes):
        return guess, np.zeros(0), np.zeros((0, 2)), np.zeros(0, bool)
    centers, scale, sides = _frame_of_patch(boxes)
    first = _mosaic(before, centers, scale)
    second = _mosaic(after, centers + guess, scale)
    fit = _flow(first, second, sides, (still - guess) * scale[:, None])
    match = _agreement(first, second, sides, fit.shift)
    shift = guess + fit.shift / scale[:, None]
    if fallback and (doubtful := np.flatnonzero(~fit.seen | (match < SURE_MATCH))).size:
        at, sc, size = centers[doubtful], scale[doubtful], sides[doubtful]
        jump = guess[doubtful] + _search(before, after, at, at + guess[doubtful], sc, size)
        again = _mosaic(after, at + jump, sc)
        own = _patches(first, doubtful)
        other = _flow(own, again, size, (still[doubtful] - jump) * sc[:, None])
        other_match = _agreement(own, again, size, other.shift)
        better = other.seen & (other_match > np.maximum(match[doubtful] + GAIN, FALLBACK_MATCH))
        rows = doubtful[better]
        fit = _Fit(*(_replaced(a, rows, b[better]) for a, b in zip(fit, other, strict=True)))
        shift[rows] = (jump + other.shift / sc[:, None])[better]
        match[rows] = other_match[better]
    seen = fit.seen & (match > MIN_MATCH)
    doubt = np.zeros(len(boxes))
    if looks is not None:
        now = _looks(_mosaic(after, centers + shift, scale), sides, np.zeros_like(shift))
        likeness = np.nan_to_num((now * looks).mean(axis=1), nan=1.0)
        side = np.sqrt(np.prod(boxes[:, 2:], axis=1))
        off, off_still = (np.hypot(*(shift - to).T) / side for to in (guess, still))
        goes_on = (off < AS_EXPECTED) & ~(off > off_still + AS_BACKGROUND)
        seen &= (likeness > MIN_LIKENESS) | goes_on
        doubt = (STRANGENESS * np.maximum(1 - likeness, 0)) ** 2
    blind = np.stack([UNSEEN**2 * np.prod(boxes[:, 2:], axis=1), np.full(len(seen), UNSEEN**2)], 1)
    variance = np.stack(
        [
            fit.variance / scale**2 + doubt * np.prod(boxes[:, 2:], 1),
            fit.growth_variance + doubt / 4,
        ],
        axis=1,
    )
    return (
        np.where(seen[:, None], shift, guess),
        np.where(seen, fit.growth, 0.0),
        np.where(seen[:, None], variance, blind),
        seen,
    )


def _replaced(values: npt.NDArray[Any], rows: npt.NDArray[np.intp], new: npt.NDArray[Any]) -> Any:
    out = values.copy()
    out[rows] = new
    return out


def _mosaic(pyramid: Pyramid, centers: FloatArray, scale: FloatArray) -> Gray:
    """(N · PATCH_PX, PATCH_PX): around each center, ``scale`` patch pixels for one of the image."""
    out = np.empty((len(centers) * PATCH_PX, PATCH_PX), np.uint8)
    finest = len(pyramid.levels) - 1
    for i, (center, factor) in enumerate(zip(centers.tolist(), scale.tolist(), strict=True)):
        level = min(max(int(np.floor(-np.log2(factor * pyramid.scale))), 0), finest)
        unit = pyramid.scale * 2.0**level
        zoom = factor * unit
        x, y = (PATCH_PX / 2 - zoom * (c / unit - 0.5) - 0.5 for c in center)
        cv2.warpAffine(
            pyramid.levels[level],
            np.array([[zoom, 0, x], [0, zoom, y]]),
            (PATCH_PX, PATCH_PX),
            dst=out[i * PATCH_PX : (i + 1) * PATCH_PX],
            borderMode=cv2.BORDER_REPLICATE,
        )
    return out


def _patches(mosaic: Gray, rows: npt.NDArray[np.intp]) -> Gray:
    return mosaic.reshape(-1, PATCH_PX, PATCH_PX)[rows].reshape(-1, PATCH_PX)


def _flow(first: Gray, second: Gray, sides: FloatArray, still: FloatArray) -> _Fit:
    """Lucas-Kanade on a grid over each box, and a robust similarity through its points.

    still: (N, 2), how the background moves in the patches; NaN where unknown.
    """
    n = len(sides)
    axis = (np.arange(GRID) + 0.5) / GRID - 0.5
    unit = np.stack([np.tile(axis, GRID), np.repeat(axis, GRID)], axis=1) * 0.95
    offset = np.clip(unit * sides[:, None], -PATCH_PX / 2 + 4, PATCH_PX / 2 - 4)
    middle = np.stack([np.zeros(n), np.arange(n) * PATCH_PX], 1)[:, None] + (PATCH_PX - 1) / 2
    points = np.asarray(offset + middle, np.float64).reshape(-1, 2)
    found = flow(first, second, points, MAX_RETURN_PX)
    moved, ok = found.moved.reshape(n, -1, 2), found.ok.reshape(n, -1)
    texture = np.sqrt(found.texture.reshape(n, -1))
    count = ok.sum(axis=1)
    usual = texture.sum(axis=1) / np.maximum(count, 1)
    near = np.exp(-(unit**2).sum(axis=1) / (2 * CENTER_SIGMA**2))
    weight = texture / (texture + usual[:, None] + 1e-9) * near
    # The target is expected not to move in its patch: the farther the background does, the better
    # the two can be told apart.
    apart = (still**2).sum(axis=1)
    share = MAX_DISCOUNT * apart / (apart + APART_PX**2)
    way = np.einsum("nkd,nd->nk", moved, still) / np.maximum(apart, 1e-9)[:, None]
    stays = share[:, None] * np.sqrt(np.clip(way, 0, 1))
    weight *= 1 - np.nan_to_num(stays)
    return _similarity(offset, moved, weight, sides, count)


def _similarity(
    offset: FloatArray,
    moved: FloatArray,
    weight: FloatArray,
    sides: FloatArray,
    count: npt.NDArray[np.integer[Any]],
) -> _Fit:
    """Iteratively reweighted (Geman-McClure) shift, scale and rotation about the box's middle.

    offset, moved: (N, K, 2). weight: (N, K), 0 for a point that does not count.
    """
    total = np.maximum(weight.sum(axis=1), 1e-9)
    shift = _weighted_median(moved, weight)
    growth, turn = np.zeros(len(sides)), np.zeros(len(sides))
    area = np.prod(sides, axis=1)
    for _ in range(ITERATIONS):
        x, y = offset[..., 0], offset[..., 1]
        spin = np.stack(
            [
                growth[:, None] * x - turn[:, None] * y,
                turn[:, None] * x + growth[:, None] * y,
            ],
            axis=-1,
        )
        residual = np.linalg.norm(moved - shift[:, None] - spin, axis=-1)
        half = _weighted_median(residual[..., None], weight)[:, 0]
        sigma = np.maximum(1.48 * half, MIN_SIGMA_PX)
        w = weight / (1 + (residual / sigma[:, None]) ** 2) ** 2
        mass = np.maximum(w.sum(axis=1), 1e-12)
        mean_offset = np.einsum("nk,nkd->nd", w, offset) / mass[:, None]
        mean_moved = np.einsum("nk,nkd->nd", w, moved) / mass[:, None]
        a, b = offset - mean_offset[:, None], moved - mean_moved[:, None]
        spread = np.einsum("nk,nkd->n", w, a**2) + STIFFNESS * mass * area
        growth = np.einsum("nk,nkd,nkd->n", w, a, b) / spread
        turn = np.einsum("nk,nk->n", w, a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]) / spread
        shift = mean_moved - np.stack(
            [
                growth * mean_offset[:, 0] - turn * mean_offset[:, 1],
                turn * mean_offset[:, 0] + growth * mean_offset[:, 1],
            ],
            axis=1,
        )
    agreeing = (w * (residual < 2 * sigma[:, None])).sum(axis=1) / total
    points = mass**2 / np.maximum((w**2).sum(axis=1), 1e-12)
    # Neighboring points share pixels and motion: far fewer of them are independent.
    variance = sigma**2 / np.maximum(points / 8, 1) + (FLOOR**2) * area
    growth_variance = sigma**2 * mass / spread / np.maximum(points / 8, 1) + GROWTH_FLOOR**2
    growth = np.log1p(np.clip(growth, -MAX_GROWTH, MAX_GROWTH))
    return _Fit(shift, growth, variance, growth_variance, (count >= MIN_POINTS) & (agreeing > 0.3))


def _weighted_median(values: FloatArray, weight: FloatArray) -> FloatArray:
    """(N, K, D) and (N, K) → (N, D)."""
    order = np.argsort(values, axis=1)
    mass = np.cumsum(np.take_along_axis(weight[..., None], order, axis=1), axis=1)
    middle = np.argmax(mass >= mass[:, -1:] / 2, axis=1)[:, None]
    found = np.take_along_axis(values, np.take_along_axis(order, middle, axis=1), axis=1)
    return np.asarray(found[:, 0])


def _looks(mosaic: Gray, sides: FloatArray, shift: FloatArray) -> FloatArray:
    """(N, LOOK) float64 of zero mean and unit variance: the content of each box."""
    out = np.empty((len(sides), LOOK))
    middle = (PATCH_PX - 1) / 2
    for i, (size, moved) in enumerate(zip(sides.tolist(), shift.tolist(), strict=True)):
        own = slice(i * PATCH_PX, (i + 1) * PATCH_PX)
        core = tuple(max(min(round(s), PATCH_PX), 6) for s in size)
        content = cv2.getRectSubPix(mosaic[own], core, (middle + moved[0], middle + moved[1]))
        out[i] = cv2.resize(content, LOOK_PX, interpolation=cv2.INTER_AREA).ravel()
    out -= out.mean(axis=1, keepdims=True)
    return np.asarray(out / np.maximum(out.std(axis=1, keepdims=True), 1e-3))


def _agreement(first: Gray, second: Gray, sides: FloatArray, shift: FloatArray) -> FloatArray:
    """(N,) normalized cross-correlation of each box's content before and after."""
    out = np.empty(len(sides))
    middle = (PATCH_PX - 1) / 2
    for i, (size, moved) in enumerate(zip(sides.tolist(), shift.tolist(), strict=True)):
        own = slice(i * PATCH_PX, (i + 1) * PATCH_PX)
        core = tuple(max(min(round(s), PATCH_PX), 6) for s in size)
        a = cv2.getRectSubPix(first[own], core, (middle, middle))
        b = cv2.getRectSubPix(second[own], core, (middle + moved[0], middle + moved[1]))
        out[i] = cv2.matchTemplate(b, a, cv2.TM_CCOEFF_NORMED)[0, 0]
    return np.where(np.isfinite(out), out, 0.0)


def _search(
    before: Pyramid,
    after: Pyramid,
    centers: FloatArray,
    expected: FloatArray,
    scale: FloatArray,
    sides: FloatArray,
) -> FloatArray:
    """(N, 2) in image pixels: how far from ``expected`` each box's content correlates best."""
    template = _mosaic(before, centers, scale / 2)
    window = _mosaic(after, expected, scale / 2)
    out = np.zeros((len(centers), 2))
    middle = (PATCH_PX - 1) / 2
    for i, size in enumerate(sides.tolist()):
        own = slice(i * PATCH_PX, (i + 1) * PATCH_PX)
        core = tuple(max(min(round(s / 2), PATCH_PX // 2), 6) for s in size)
        content = cv2.getRectSubPix(template[own], core, (middle, middle))
        score = cv2.matchTemplate(window[own], content, cv2.TM_CCOEFF_NORMED)
        y, x = np.indices(score.shape)
        away = np.stack([x - (score.shape[1] - 1) / 2, y - (score.shape[0] - 1) / 2])
        score = score - FAR_PENALTY * (away**2).sum(axis=0) / (PATCH_PX / 4) ** 2
        best = np.unravel_index(np.argmax(score), score.shape)
        out[i] = away[:, best[0], best[1]]
    return out / (scale / 2)[:, None]
