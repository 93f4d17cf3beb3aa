"""Two-rate tracking: late answers of a slow tracker, carried to now by the steps of every frame.

Per frame the propagator measures how each target and the background moved. An answer for a frame
that has long gone by corrects the whole path since (``prediction.path``). From the newest frame on
a motion predictor takes over: it sees the path's increments only, never a correction, so a late
answer moves the box and leaves the velocity alone. Target and camera are predicted apart: the
target's own motion is what is left when the background's is taken off.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray, iou
from pipeline.config import Config, option
from pipeline.frame import Frame
from pipeline.motion import LOOK, Step, moved_boxes, moved_by
from pipeline.span import Horizon
from pipeline.tracks import (
    MAX_TARGETS,
    Detections,
    Forecasts,
    Tracks,
    TrackSource,
    TrackStatus,
)
from prediction.association import Association, AssociationConfig
from prediction.horizon import NO_REGIONS, Outlook, forecasts
from prediction.make import make_predictor
from prediction.path import Indices, Path
from prediction.predictor import (
    MAX_GATE,
    MIN_SIDE_PX,
    Estimates,
    PredictorConfig,
    StatusArray,
    forecast_status,
    join,
    select,
)
from prediction.walk import Walk

NO_SIZE = (0, 0)
SHARE = 0.1
"""Of the variance of a carried and predicted box, what is the target's motion
(``prediction.horizon``)."""
BACKGROUND_GATE = 16.0
"""Sigmas of a jump that begins the background's filter anew."""
MAX_APART = 0.2
"""In ln of a side, between a path and its walks, beyond which these begin anew."""
UNTRACED = 0.2
"""Sigma of a step that could not be traced, in sides."""
MAX_WAITING = 8
"""Answers kept that are ahead of the newest step."""


class Steps(Protocol):
    """``perception.propagator.Propagator``, or anything that measures steps."""

    def reset(self) -> None: ...

    def step(
        self,
        frame: Frame,
        boxes: FloatArray,
        own: FloatArray,
        background: FloatArray,
        looks: FloatArray,
    ) -> Step | None: ...

    def look(self, stamp_ns: int, boxes: FloatArray) -> FloatArray | None: ...

    def retrace(self, stamp_ns: int, boxes: FloatArray) -> Iterator[Step]: ...


@dataclass(frozen=True)
class FusionConfig(Config):
    """How late answers and steps become one."""

    enabled: bool = option(
        True, "Carry late answers to the newest frame; else predict from the answers alone."
    )
    answer_center_noise: float = option(
        0.02, "Noise of an answer's center, in box sides.", low=1e-4, high=1
    )
    answer_size_noise: float = option(
        0.03, "Noise of an answer's side, in sides.", low=1e-4, high=1
    )
    step_noise: float = option(
        0.01, "Noise of a carried box that the predictor reckons with, in sides.", low=1e-4, high=1
    )
    restart_iou: float = option(
        0.5, "Overlap of an answer with the path below which the path begins anew.", low=0, high=1
    )
    restart_after: int = option(
        2, "Doubtful answers off the path, in a row, that begin it anew.", low=1, high=99
    )
    uncertain_factor: float = option(
        4.0, "Variance of an uncertain answer over that of a sure one.", low=1, high=1e4
    )
    camera_apart: bool = option(True, "Predict the camera's motion and the target's own apart.")
    guided: bool = option(True, "Let the path say where the tracker looks next.")
    guide_after: int = option(
        2,
        "Sure answers on the path, in a row, after which it guides once it was begun anew or "
        "doubted.",
        low=1,
        high=99,
    )
    max_carry_ms: float = option(
        1000.0,
        "A target without an answer or a measured step for longer is lost.",
        low=10,
        high=60_000,
    )
    memory: int = option(32, "Frames kept for answers that come late.", low=2, high=256)


@dataclass(frozen=True)
class _Targets:
    """What is known of M targets beside their path.

    ids, labels, scores, status: as in ``Tracks``, of the last answer. fresh_ns: (M,) int64, stamp
    of the newest frame in which the target was seen. strays: (M,) int64, answers in a row that
    lay elsewhere than the path. sure: (M,) int64, sure ones in a row that lay on it.
    look: (M, LOOK), what the target looked like in the last sure answer. said: (M, 4), place that
    the last answer on the path gave. apart: (M, 4), from the path's place in that frame to it, the
    first two in sides.
    """

    ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]
    status: npt.NDArray[np.uint8]
    fresh_ns: npt.NDArray[np.int64]
    strays: npt.NDArray[np.int64]
    sure: npt.NDArray[np.int64]
    look: FloatArray
    said: FloatArray
    apart: FloatArray


class TwoRate:
    """Frames and late answers in, boxes of the newest frame and forecasts out.

    Every ``frame`` gives tracks at camera rate. ``answer`` takes what a tracker found in an earlier
    frame, which names all targets that there are, or what a detector did, of which ``association``
    makes targets. To go on with a target that was lost, give the box that a detector found as an
    answer. Not thread-safe.
    """

    def __init__(
        self,
        fusion: FusionConfig,
        predictor: PredictorConfig,
        propagator: Steps,
        association: Association | None = None,
    ) -> None:
        self._config = fusion
        self._association = association or Association(AssociationConfig())
        # What the predictors observe is the path's own increments, far steadier than answers.
        self._predictor_config = replace(
            predictor, center_noise=fusion.step_noise, size_noise=fusion.step_noise
        )
        # A jump in a target's own motion is a sharp turn, and nothing to begin anew for; a large
        # one in the background's is a camera that shakes.
        self._predictors = [
            make_predictor(replace(self._predictor_config, gate=gate))
            for gate in (MAX_GATE, BACKGROUND_GATE)
        ]
        self._propagator = propagator
        self.reset()

    def reset(self) -> None:
        """Forget all frames and targets: the clock jumped, or a new run begins."""
        self._propagator.reset()
        self._association.reset()
        self._size = NO_SIZE
        self._path = Path.empty(np.empty(0, np.int64))
        self._targets = _Targets(
            np.empty(0, np.int32),
            np.empty(0, np.int16),
            np.empty(0, np.float32),
            np.empty(0, np.uint8),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty((0, LOOK)),
            np.empty((0, 4)),
            np.empty((0, 4)),
        )
        self._own, self._background = (Walk(predictor) for predictor in self._predictors)
        self._waiting: list[Tracks | Detections] = []
        self._answered_ns = -1
        self.ignored = 0
        """Answers about frames that are no longer kept."""

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """(M,) the targets that are followed."""
        return self._targets.ids

    def frame(self, frame: Frame) -> Tracks:
        """Take the newest frame: every target in it, at once.

        Raises:
            InputError: no 8-bit picture, or a stamp that is not newer than the last one.
        """
        frame.check()
        if self._size not in (frame.size, NO_SIZE):
            self.reset()
        boxes = self._path.boxes() if len(self._path) else np.empty((0, 4))
        ahead, _, camera = self._ahead(np.array([frame.stamp_ns], np.int64))
        own = ahead[:, 0, :2] - camera[:, 0]
        step = self._propagator.step(frame, boxes, own, camera[:, 0], self._targets.look)
        self._size = frame.size
        if not len(self._path):
            self._path = Path.empty(np.array([frame.stamp_ns], np.int64))
        elif step is not None:
            self._extend(step, camera[:, 0])
        elif len(self._path) == 1 and self._propagator.look(frame.stamp_ns, boxes[:0]) is not None:
            # Nothing was seen in the frame that it began with.
            self._keep(np.empty(0, np.intp))
            self._path = Path.empty(np.array([frame.stamp_ns], np.int64))
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if answer.stamp_ns - frame.stamp_ns < int(self._config.max_carry_ms * 1e6):
                self.answer(answer)
            else:  # of a time that the source has jumped back from
                self.ignored += 1
        return self.tracks(frame)

    def answer(self, found: Tracks | Detections) -> None:
        """Take what was found in a frame that may have gone by long ago."""
        path = self._path
        if not len(path) or found.stamp_ns > path.stamps_ns[-1]:
            self._waiting = [*self._waiting[1 - MAX_WAITING :], found]
            return
        at = path.index(found.stamp_ns)
        if at < 0:
            self.ignored += 1
            return
        if isinstance(found, Tracks):
            self._association.reset()  # what targets there are, somebody else says now
            tracks: Tracks | None = found
        else:
            tracks = self._associated(found, at)
        if tracks is None:
            return
        sides = np.maximum(tracks.boxes[:, 2:], MIN_SIDE_PX)
        tracks = replace(tracks, boxes=np.concatenate([tracks.boxes[:, :2], sides], axis=1))
        if tracks.stamp_ns > self._answered_ns:
            self._keep(np.flatnonzero(np.isin(self._targets.ids, tracks.ids)))
            self._answered_ns = tracks.stamp_ns
        places, noise = self._places(tracks)
        sure, lost = tracks.status == TrackStatus.TRACKED, tracks.status == TrackStatus.LOST
        rows, overlap, again = self._compared(tracks, at)
        agreed = overlap >= self._config.restart_iou
        follow = (rows >= 0) & (agreed | ~(sure | (again & ~lost)))
        true = follow & agreed & ~lost
        self._correct(rows[true], at, places[true], noise[true])
        if tracks.stamp_ns >= self._answered_ns:
            self._remember(rows[true], at, places[true])
        self._note(rows[follow], tracks.selected(follow), agreed[follow])
        self._keep(np.flatnonzero(~np.isin(self._targets.ids, tracks.ids[~follow])))
        new = np.flatnonzero(~follow)[: MAX_TARGETS - len(self._targets.ids)]
        if len(new):
            # Who chose a new target knows where it is; an old one elsewhere must prove itself.
            trust = np.where(rows[new] < 0, self._config.guide_after, 1)
            self._add(tracks.selected(new), at, places[new], noise[new], trust)

    def forecast(
        self,
        stamp_ns: int,
        ready_ns: int,
        horizons: Mapping[str, int | Horizon],
        probabilities: Mapping[str, float] = NO_REGIONS,
    ) -> Forecasts:
        """All targets when each consumer acts, as ``prediction.horizon.forecasts`` says."""
        found = forecasts(
            self.outlook, self._targets.ids, stamp_ns, ready_ns, horizons, probabilities
        )
        return found.selected(self._association.settled(self._targets.ids))

    def outlook(self, moments_ns: npt.NDArray[np.int64]) -> Outlook:
        """All targets at one of some equally probable moments, (Q,), in order, in ns."""
        return Outlook.of(self.predict(moments_ns), SHARE, self._predictor_config)

    def predict(self, valid_at_ns: npt.NDArray[np.int64]) -> Estimates:
        """Every target at each moment of ``valid_at_ns``, (m,), as a ``Predictor`` gives it."""
        ahead, spread, _ = self._ahead(valid_at_ns)
        m = len(self._targets.ids)
        if not m:
            none = np.empty((0, len(valid_at_ns), 4))
            return Estimates(none, none, np.empty(none.shape[:2], np.uint8))
        place = self._path.place[-1][:, None] + ahead
        sides = np.exp(place[..., 2:])
        boxes = np.concatenate([place[..., :2] - sides / 2, sides], axis=-1)
        own = np.repeat(self._path.variance[-1], 2, axis=-1)[:, None]
        scale = np.concatenate([np.ones_like(sides), sides**2], axis=-1)
        dt = (valid_at_ns - self._targets.fresh_ns[:, None]) * 1e-9
        moving = np.asarray(self._path.seen.any(axis=0))
        status = forecast_status(self._predictor_config, dt, moving, self._status())
        return Estimates(boxes, own * scale + spread, status)

    def guide(self, target: int, stamp_ns: int) -> FloatArray | None:
        """Where a tracker should look for a target in the frame of that stamp, (4,) x y w h.

        It is the tracker's own last answer, moved along the path, with half of the growth. The
        path's own box would hand the tracker the path's errors as its own, and growth is what a
        path is least sure of.

        None where the path is not to be trusted with it: the target was not seen in the newest
        frame, or one of the last ``guide_after`` answers was doubtful or somewhere else.
        """
        row = self._row(target)
        if row is None or not self._config.guided or not self._path.seen[-1, row]:
            return None
        if self._targets.sure[row] < self._config.guide_after:
            return None
        box = self.predict(np.array([stamp_ns])).boxes[row, 0]
        said, apart = self._targets.said[row], self._targets.apart[row]
        center = box[:2] + (0.5 + apart[:2]) * box[2:]
        sides = np.exp((np.log(box[2:]) + apart[2:] + said[2:]) / 2)
        return np.concatenate([center - sides / 2, sides])

    def _compared(
        self, tracks: Tracks, at: int
    ) -> tuple[Indices, FloatArray, npt.NDArray[np.bool_]]:
        """Of n answers: each one's target, −1 for a new one; its overlap with the path; whether it
        would be one too many elsewhere."""
        i, row = np.nonzero(tracks.ids[:, None] == self._targets.ids)
        rows, overlap = np.full(len(tracks), -1), np.zeros(len(tracks))
        again = np.zeros(len(tracks), bool)
        rows[i] = row
        overlap[i] = iou(tracks.boxes[i], self._path.boxes(at)[row])
        again[i] = self._targets.strays[row] + 1 >= self._config.restart_after
        return rows, overlap, again

    def _row(self, target: int) -> int | None:
        found = np.flatnonzero(self._targets.ids == target)
        return int(found[0]) if len(found) else None

    def _keep(self, rows: Indices) -> None:
        """Go on with some of the targets."""
        if len(rows) == len(self._targets.ids):
            return
        self._path = self._path.selected(rows)
        self._targets = select(self._targets, rows)
        self._own.keep(rows)
        self._background.keep(rows)

    def _associated(self, found: Detections, at: int) -> Tracks | None:
        """Detections as targets, by where these were in the detections' own frame."""
        variances = np.repeat(self._path.variance[at], 2, axis=1)
        boxes = self._path.boxes(at)
        variances[:, 2:] *= boxes[:, 2:] ** 2
        return self._association.tracks(found, self._targets.ids, boxes, variances)

    def _places(self, tracks: Tracks) -> tuple[FloatArray, FloatArray]:
        """Places (n, 4) and variances (n, 2), as ``Path.corrected`` takes them. An answer that
        gives its variances is taken at its word."""
        sides = tracks.boxes[:, 2:]
        centers = tracks.boxes[:, :2] + sides / 2
        config = self._config
        noise = np.empty((len(tracks), 2))
        noise[:, 0] = config.answer_center_noise**2 * np.prod(sides, axis=1)
        noise[:, 1] = config.answer_size_noise**2
        given = np.isfinite(tracks.variances).all(axis=1)
        noise[given, 0] = tracks.variances[given, :2].mean(axis=1)
        noise[given, 1] = (tracks.variances[given, 2:] / sides[given] ** 2).mean(axis=1)
        noise[tracks.status != TrackStatus.TRACKED] *= self._config.uncertain_factor
        return np.concatenate([centers, np.log(sides)], axis=1), noise

    def _note(self, rows: Indices, tracks: Tracks, agreed: npt.NDArray[np.bool_]) -> None:
        """Remember what answers say beside the boxes."""
        t = self._targets
        found = rows[agreed & (tracks.status != TrackStatus.LOST)]
        t.fresh_ns[found] = np.maximum(t.fresh_ns[found], tracks.stamp_ns)
        t.scores[rows], t.status[rows] = tracks.scores, tracks.status
        named = tracks.labels >= 0  # a tracker that was given the target knows no class
        t.labels[rows[named]] = tracks.labels[named]
        t.strays[rows] = np.where(agreed, 0, t.strays[rows] + 1)
        sure = agreed & (tracks.status == TrackStatus.TRACKED)
        t.sure[rows] = np.where(sure, t.sure[rows] + 1, 0)
        if sure.any():
            t.look[rows[sure]] = self._look(tracks.stamp_ns, tracks.boxes[sure])

    def _remember(self, rows: Indices, at: int, places: FloatArray) -> None:
        """What answers said, and how far the corrected path is from it."""
        apart = places - self._path.place[at, rows]
        apart[:, :2] /= np.exp(self._path.place[at, rows, 2:])
        self._targets.said[rows], self._targets.apart[rows] = places, apart

    def _look(self, stamp_ns: int, boxes: FloatArray) -> FloatArray:
        """(n, LOOK); NaN, which compares with nothing, where the frame is gone."""
        looks = self._propagator.look(stamp_ns, boxes)
        return np.full((len(boxes), LOOK), np.nan) if looks is None else looks

    def _correct(self, rows: Indices, at: int, places: FloatArray, noise: FloatArray) -> None:
        path = self._path
        last = np.maximum(np.searchsorted(path.stamps_ns, path.anchor[rows], side="right") - 1, 0)
        frame = np.arange(len(path))[:, None]
        blind = ~path.seen[:, rows] & (frame > last) & (frame <= at)
        self._path = path.corrected(at, rows, places, noise)
        again = blind.any(axis=0)
        if again.any():
            self._rewalk(rows[again], blind.argmax(axis=0)[again])
        # Corrections do not move the walks, whose sides would drift away from the path's.
        sides = self._path.place[-1, rows, 2:]
        walks = (self._own, self._background)
        apart = np.max([abs(walk.sides(rows) - sides).max(axis=1) for walk in walks], axis=0)
        off = rows[apart > MAX_APART]
        if len(off):
            first = self._path.place[0, off, 2:]
            for walk, _, status in self._motions(0):
                walk.restart(int(self._path.stamps_ns[0]), off, first, status[off])
            self._rewalk(off, np.ones(len(off), np.intp))

    def _add(
        self, tracks: Tracks, at: int, places: FloatArray, noise: FloatArray, trust: Indices
    ) -> None:
        """Follow new targets from frame ``at`` to the newest one; trust: (n,), as how many sure
        answers a sure one counts."""
        path = self._path
        n, m = len(path) - at - 1, len(tracks)
        increment, variance, camera = np.zeros((n, m, 4)), np.zeros((n, m, 2)), np.zeros((n, m, 2))
        variance[:] = UNTRACED**2
        variance[..., 0] *= np.prod(np.exp(places[:, 2:]), axis=1)
        seen, camera_seen = np.zeros((n, m), bool), np.zeros((n, m), bool)
        boxes = tracks.boxes
        for step in self._propagator.retrace(int(path.stamps_ns[at]), boxes):
            k = path.index(step.stamp_ns) - at - 1
            increment[k], variance[k], camera[k] = _measured(step, boxes)
            seen[k], camera_seen[k] = step.seen, np.isfinite(step.camera_sigma)
            boxes = moved_boxes(boxes, step.shift, step.growth)
        if not self._config.camera_apart:
            camera[:], camera_seen[:] = 0.0, True
        self._path = path.with_targets(
            at, places, noise, increment, variance, camera, seen, camera_seen
        )
        stamps = np.where(seen, path.stamps_ns[at + 1 :, None], tracks.stamp_ns)
        new = _Targets(
            tracks.ids,
            tracks.labels,
            tracks.scores,
            tracks.status,
            stamps.max(axis=0, initial=tracks.stamp_ns),
            np.zeros(m, np.int64),
            np.where(tracks.status == TrackStatus.TRACKED, trust, 0),
            self._look(int(path.stamps_ns[at]), tracks.boxes),
            places,
            np.zeros((m, 4)),
        )
        old = len(self._targets.ids)
        self._targets = join(self._targets, new)
        stamp_ns = int(path.stamps_ns[at])
        for walk, _, status in self._motions(at):
            walk.add(at, stamp_ns, places[:, 2:], status[old:])
        self._rewalk(np.arange(old, old + m), np.full(m, at + 1))

    def _rewalk(self, rows: Indices, begin: Indices) -> None:
        """Let the predictors observe some targets again, each from its frame ``begin`` on."""
        for at in range(int(begin.min()), len(self._path)):
            some = rows[begin <= at]
            for walk, stride, status in self._motions(at):
                walk.again(at, some, int(self._path.stamps_ns[at]), stride[some], status[some])

    def _motions(self, at: int) -> list[tuple[Walk, FloatArray, StatusArray]]:
        """Of the targets' own motion and of the background's: the stride into a frame, (M, 4), and
        whether it was seen, as a status."""
        path = self._path
        own, background = path.increment[at].copy(), np.zeros_like(path.increment[at])
        own[:, :2] -= path.camera[at]
        background[:, :2] = path.camera[at]
        tracked, lost = np.uint8(TrackStatus.TRACKED), np.uint8(TrackStatus.LOST)
        answered = path.anchor >= path.stamps_ns[at]
        guessed = np.where(answered, np.uint8(TrackStatus.UNCERTAIN), lost)
        return [
            (self._own, own, np.where(path.seen[at], tracked, guessed)),
            (self._background, background, np.where(path.camera_seen[at], tracked, lost)),
        ]

    def _ahead(
        self, valid_at_ns: npt.NDArray[np.int64]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """How places go on from the newest frame: (M, m, 4), its variance (M, m, 4) in pixels², and
        the camera's part of it, (M, m, 2)."""
        m = len(self._targets.ids)
        if not m:
            none = np.zeros((0, len(valid_at_ns), 4))
            return none, none, none[..., :2]
        ahead, spread = self._own.ahead(valid_at_ns)
        camera, camera_spread = (part[..., :2] for part in self._background.ahead(valid_at_ns))
        ahead[..., :2] += camera
        spread[..., :2] += camera_spread
        return ahead, spread, camera

    def _extend(self, step: Step, camera_guess: FloatArray) -> None:
        """One frame more for every target."""
        boxes = self._path.boxes()
        increment, variance, camera = _measured(step, boxes)
        camera_seen = np.full(len(boxes), np.isfinite(step.camera_sigma))
        if not self._config.camera_apart:
            camera, camera_seen[:] = np.zeros_like(camera), True
        elif not camera_seen.all():
            camera = camera_guess
        center = boxes[:, :2] + boxes[:, 2:] / 2 + increment[:, :2]
        inside = ((center > 0) & (center < self._size)).all(axis=1)
        seen = step.seen & inside
        # What has left the image waits at its edge.
        increment[:, :2] += np.clip(center, 0, self._size) - center
        self._path = self._path.extended(
            step.stamp_ns, increment, variance, camera, seen, camera_seen, self._config.memory
        )
        self._targets.fresh_ns[seen] = step.stamp_ns
        for walk, stride, status in self._motions(-1):
            walk.extend(step.stamp_ns, stride, status, self._config.memory)

    def _status(self) -> npt.NDArray[np.uint8]:
        """(M,) ``TrackStatus`` in the newest frame."""
        path, told = self._path, self._targets.status
        limit = int(self._config.max_carry_ms * 1e6)
        now = path.stamps_ns[-1]
        unanswered = now - path.anchor > limit
        lost = (now - self._targets.fresh_ns > limit) | (unanswered & (told == TrackStatus.LOST))
        seen = path.seen[-1] | (path.anchor == now)
        sure = seen & ~unanswered & (told == TrackStatus.TRACKED)
        found = np.where(sure, TrackStatus.TRACKED, TrackStatus.UNCERTAIN)
        return np.where(lost, TrackStatus.LOST, found).astype(np.uint8)

    def tracks(self, frame: Frame) -> Tracks:
        """Every target in the newest frame once more, after an answer."""
        path, t = self._path, self._targets
        status = self._status()
        stamp = np.array([frame.stamp_ns], np.int64)
        here = self.predict(stamp)
        answered = path.anchor == frame.stamp_ns
        current = path.stamps_ns[-1] == frame.stamp_ns
        source = np.where(path.seen[-1] & current, TrackSource.CARRIED, TrackSource.PREDICTED)
        if not current:
            status = np.maximum(status, np.uint8(TrackStatus.UNCERTAIN))
        tracks = Tracks(
            frame.stamp_ns,
            frame.stamp_ns,
            frame.index,
            frame.size,
            t.ids,
            here.boxes[:, 0],
            t.scores,
            status,
            t.labels,
            np.where(answered, TrackSource.TRACKED, source).astype(np.uint8),
            path.anchor,
            here.variances[:, 0],
        )
        return tracks.selected(self._association.settled(t.ids))


def _measured(step: Step, boxes: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A step of ``boxes`` as increment (M, 4), variance (M, 2) and the background's (M, 2)."""
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    growth = np.repeat(step.growth[:, None], 2, axis=1)
    camera = moved_by(step.camera, centers) - centers
    return np.concatenate([step.shift, growth], axis=1), step.variance, camera
