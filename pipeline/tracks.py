"""What trackers answer, detectors find and predictors forecast: parallel arrays, validated once."""

from dataclasses import dataclass, fields, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError

MAX_TARGETS = 1000


class TrackStatus(IntEnum):
    """How far a tracker trusts its box."""

    TRACKED = 0
    UNCERTAIN = 1
    LOST = 2


class TrackSource(IntEnum):
    """Where a box comes from."""

    TRACKED = 0
    """The tracker's answer for this very frame."""
    CARRIED = 1
    """An earlier answer, carried by the frames since."""
    PREDICTED = 2
    """An earlier answer, moved as it is expected to go: the target was not seen in this frame."""


class ForecastStatus(IntEnum):
    """How far a forecast may be trusted. Anything but OK means: look before you act."""

    OK = 0
    PRIOR = 1
    """Too few observations for a velocity, so that the box stands where it was seen; or the moment
    is the configured prior, since nobody measures the latency."""
    STALE = 2
    """The last observation is older than the predictor is configured to bridge."""
    LOST = 3
    """The tracker says that it lost the target."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a Siamese tracker's backbone made of its target and of the region where it looked.

    template: (C, h, w) float32, of the target when it was chosen. search: (C, H, W) float32, of a
    square around where the target was expected, its side a fixed multiple of the target's.
    """

    template: npt.NDArray[np.float32]
    search: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """All targets of one frame, as they were at ``stamp_ns``.

    stamp_ns, frame_index: of the frame. ready_ns: when the tracker had finished.
    image_size: (width, height) in pixels.
    ids: (N,) int32. boxes: (N, 4) float64, x y w h in pixels. scores: (N,) float32 in [0, 1].
    status: (N,) uint8, ``TrackStatus``. labels: (N,) int16, the detector's class or −1.
    source: (N,) uint8, ``TrackSource``; TRACKED where not given.
    answered_ns: (N,) int64, stamp of the frame that the tracker's last answer in this is about;
        ``stamp_ns`` where not given.
    variances: (N, 4) float64, of x_center, y_center, w, h in pixels²; NaN where not given.
    """

    stamp_ns: int
    ready_ns: int
    frame_index: int
    image_size: tuple[int, int]
    ids: npt.NDArray[np.int32]
    boxes: FloatArray
    scores: npt.NDArray[np.float32]
    status: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int16]
    source: npt.NDArray[np.uint8] = None  # type: ignore[assignment]
    answered_ns: npt.NDArray[np.int64] = None  # type: ignore[assignment]
    variances: FloatArray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        n = len(self.ids)
        for name, default in (
            ("source", np.zeros(n, np.uint8)),
            ("answered_ns", np.full(n, self.stamp_ns, np.int64)),
            ("variances", np.full((n, 4), np.nan)),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        if n > MAX_TARGETS or len(np.unique(self.ids)) != n:
            raise InputError(f"Tracks: {n} ids; give at most {MAX_TARGETS}, each once")
        _shape("Tracks.ids", self.ids, (n,))
        _shape("Tracks.boxes", self.boxes, (n, 4))
        _shape("Tracks.scores", self.scores, (n,))
        _shape("Tracks.status", self.status, (n,))
        _shape("Tracks.labels", self.labels, (n,))
        _shape("Tracks.source", self.source, (n,))
        _shape("Tracks.answered_ns", self.answered_ns, (n,))
        _shape("Tracks.variances", self.variances, (n, 4))
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise InputError("Tracks: a box or score is not finite; drop that target before")
        if n and self.status.max() > max(TrackStatus):
            raise InputError(f"Tracks.status holds {self.status.max()}: know 0 to 2 only")
        if n and self.source.max() > max(TrackSource):
            raise InputError(f"Tracks.source holds {self.source.max()}: know 0 to 2 only")
        if n and (self.answered_ns > self.stamp_ns).any():
            raise InputError("Tracks.answered_ns lies after stamp_ns: an answer is never newer")
        if np.isinf(self.variances).any() or (self.variances < 0).any():
            raise InputError("Tracks.variances holds a value below 0 or without bound")

    def __len__(self) -> int:
        return len(self.ids)

    def selected(self, rows: npt.NDArray[np.generic]) -> "Tracks":
        """Some of the targets; rows: (N,) bool, or indices in any order."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        of_targets = {k: v[rows] for k, v in parts.items() if isinstance(v, np.ndarray)}
        return replace(self, **of_targets)

    @classmethod
    def single(
        cls,
        stamp_ns: int,
        ready_ns: int,
        frame_index: int,
        image_size: tuple[int, int],
        box: FloatArray,
        score: float,
        status: TrackStatus,
        track_id: int = 0,
    ) -> "Tracks":
        """One target as a ``Tracks``."""
        return cls(
            stamp_ns,
            ready_ns,
            frame_index,
            image_size,
            np.array([track_id], np.int32),
            np.asarray(box, np.float64).reshape(1, 4),
            np.array([score], np.float32),
            np.array([status], np.uint8),
            np.array([-1], np.int16),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector found in one frame, without identities.

    stamp_ns, frame_index: of the frame. image_size: (width, height) in pixels.
    boxes: (N, 4) float64, x y w h in pixels. scores: (N,) float32 in [0, 1].
    labels: (N,) int16, the detector's class.
    """

    stamp_ns: int
    frame_index: int
    image_size: tuple[int, int]
    boxes: FloatArray
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int16]

    def __post_init__(self) -> None:
        n = len(self.scores)
        if n > MAX_TARGETS:
            raise InputError(f"Detections: {n} of them; give the {MAX_TARGETS} of highest score")
        _shape("Detections.boxes", self.boxes, (n, 4))
        _shape("Detections.scores", self.scores, (n,))
        _shape("Detections.labels", self.labels, (n,))
        if not np.isfinite(self.boxes).all() or (self.boxes[:, 2:] <= 0).any():
            raise InputError("Detections: a box is not finite or has no area; drop it before")
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise InputError("Detections: a score is not in 0 to 1; drop or scale it before")

    def __len__(self) -> int:
        return len(self.scores)

    def selected(self, rows: npt.NDArray[np.generic]) -> "Detections":
        """Some of them; rows: (N,) bool, or indices in any order."""
        return replace(
            self, boxes=self.boxes[rows], scores=self.scores[rows], labels=self.labels[rows]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """Where each target will be at each consumer's moment of use.

    stamp_ns: of the frame the forecast rests on. ready_ns: when the forecast was ready.
    consumers: H names. valid_at_ns: (H,) int64, the moment that each forecast speaks for, the mean
        where only its distribution is known.
    ids: (N,) int32. boxes: (H, N, 4) float64, x y w h in pixels, the mean over that distribution.
    covariances: (H, N, 4, 4) float64, of the target's x_center, y_center, w, h in pixels².
    status: (H, N) uint8, ``ForecastStatus``.
    probabilities: (H,) float64, with which each consumer's regions shall hold; 0 where none asked.
    regions: (H, N, 4) float64, x y w h of the box that contains the whole target with that
        probability when the consumer acts; NaN where none is asked, or none can be given since
        the target is STALE or LOST.
    """

    stamp_ns: int
    ready_ns: int
    consumers: tuple[str, ...]
    valid_at_ns: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int32]
    boxes: FloatArray
    covariances: FloatArray
    status: npt.NDArray[np.uint8]
    probabilities: FloatArray = None  # type: ignore[assignment]
    regions: FloatArray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        h, n = len(self.consumers), len(self.ids)
        for name, default in (
            ("probabilities", np.zeros(h)),
            ("regions", np.full((h, n, 4), np.nan)),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        _shape("Forecasts.valid_at_ns", self.valid_at_ns, (h,))
        _shape("Forecasts.ids", self.ids, (n,))
        _shape("Forecasts.boxes", self.boxes, (h, n, 4))
        _shape("Forecasts.covariances", self.covariances, (h, n, 4, 4))
        _shape("Forecasts.status", self.status, (h, n))
        _shape("Forecasts.probabilities", self.probabilities, (h,))
        _shape("Forecasts.regions", self.regions, (h, n, 4))

    def selected(self, rows: npt.NDArray[np.generic]) -> "Forecasts":
        """Some of the targets; rows: (N,) bool, or indices in any order."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        of_targets = {k: v[:, rows] for k, v in parts.items() if np.ndim(v) > 1}
        return replace(self, ids=self.ids[rows], **of_targets)

    def of(self, consumer: str) -> int:
        """Index of a consumer's row.

        Raises:
            InputError: a name that is not among ``consumers``.
        """
        try:
            return self.consumers.index(consumer)
        except ValueError:
            raise InputError(
                f"no forecast for consumer {consumer!r}: configured are {', '.join(self.consumers)}"
            ) from None


def _shape(name: str, array: npt.NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InputError(f"{name} has shape {array.shape}, not {shape}: give one row per target")
