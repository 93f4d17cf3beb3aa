"""Detections of a frame that has long gone by become targets with identities.

Matching happens at the detections' own frame, against where the targets were *then*: a carried path
knows that with the camera's motion and the target's own taken into account, and says how far to
trust it. So a detector that sees every fifth frame is matched as well as one that sees them all.

Confident detections are matched first, then what is left of the weak ones, with known targets only
(ByteTrack, Zhang et al., ECCV 2022). All times are times, never counts of frames.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import count

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pipeline.box import FloatArray, iou, to_center
from pipeline.config import Config, option
from pipeline.tracks import MAX_TARGETS, Detections, Tracks, TrackStatus
from prediction.predictor import MIN_SIDE_PX, join, select

Mask = npt.NDArray[np.bool_]
FORBIDDEN = 1e6
REMEMBERED = 64
"""Stamps of detections by which a repeated one is known."""


@dataclass(frozen=True)
class AssociationConfig(Config):
    """How detections become targets with identities."""

    sure_score: float = option(
        0.5, "Detections from this score on are matched first and begin targets.", low=0, high=1
    )
    min_iou: float = option(
        0.3, "Overlap from which a detection may be a target wherever its gate ends.", low=0, high=1
    )
    gate: float = option(
        4.0, "Distance in sigmas up to which a detection may be a target.", low=0.1, high=100
    )
    label_cost: float = option(
        0.3, "Added to a match's cost, 0 to 1, of another class; 1 forbids it.", low=0, high=1
    )
    duplicate_iou: float = option(
        0.5, "Overlap with a detected target above which one is the same.", low=0, high=1
    )
    max_targets: int = option(
        100, "Targets followed at once; of new ones the surest begin.", low=1, high=MAX_TARGETS
    )
    confirm_after: int = option(2, "Detections after which a target is published.", low=1, high=99)
    tentative_ms: float = option(
        400.0, "A target not yet published is dropped undetected for longer.", low=1, high=60_000
    )
    forget_ms: float = option(
        1000.0, "A published target is dropped undetected for longer.", low=1, high=600_000
    )
    center_noise: float = option(
        0.05, "Noise of a detection's center, in box sides.", low=1e-4, high=1
    )
    size_noise: float = option(0.08, "Noise of a detection's side, in sides.", low=1e-4, high=1)


@dataclass(frozen=True)
class _Known:
    """M targets. ids, labels, scores: as in ``Tracks``. votes: (M,) by how much the scores of
    detections of this label outweigh those of others. hits: (M,) detections of it. begun_ns,
    seen_ns: (M,) stamps of the first and the newest of them."""

    ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]
    votes: npt.NDArray[np.float32]
    hits: npt.NDArray[np.int64]
    begun_ns: npt.NDArray[np.int64]
    seen_ns: npt.NDArray[np.int64]


class Association:
    """Which target each detection is. Where the targets are is for others to know.

    ids: where new identities come from; none is given twice, whatever is reset. Not thread-safe.
    """

    def __init__(self, config: AssociationConfig, ids: Iterator[int] | None = None) -> None:
        self._config = config
        self._ids = count() if ids is None else ids
        self.ignored = 0
        """Detections of a frame whose detections came before."""
        self.reset()

    def reset(self) -> None:
        """Forget all targets: the clock jumped, or a new run begins."""
        self._known = _Known(
            np.empty(0, np.int32),
            np.empty(0, np.int16),
            np.empty(0, np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
        )
        self._newest_ns = -1
        self._stamps: deque[int] = deque(maxlen=REMEMBERED)

    def settled(self, ids: npt.NDArray[np.int32]) -> Mask:
        """Which of these targets have been detected often enough to be published, (M,).

        Those that do not come from detections are.
        """
        tentative = self._known.ids[self._known.hits < self._config.confirm_after]
        return ~np.isin(ids, tentative)

    def tracks(
        self,
        found: Detections,
        ids: npt.NDArray[np.int32],
        boxes: FloatArray,
        variances: FloatArray,
    ) -> Tracks | None:
        """All targets in the detections' frame; None for detections that came before.

        ids: (M,), boxes: (M, 4), variances: (M, 4), of x_center, y_center, w, h in pixels²: the
        targets that are followed and where they were in that very frame. What was not detected is
        LOST where it was expected; a weak detection is UNCERTAIN. Of a frame older than the last
        one only what was detected is told, nothing begins and nothing ends.
        """
        if found.stamp_ns in self._stamps:
            self.ignored += 1
            return None
        self._stamps.append(found.stamp_ns)
        config, known = self._config, self._arranged(ids, found.stamp_ns)
        match = self._matched(found, known, boxes, variances)
        hit = match >= 0
        seen = found.selected(match[hit])
        sure = seen.scores >= config.sure_score
        same = seen.labels == known.labels[hit]
        votes = known.votes[hit] + np.where(same, seen.scores, -seen.scores)
        known.labels[hit] = np.where(votes < 0, seen.labels, known.labels[hit])
        known.votes[hit] = np.abs(votes)
        known.scores[hit] = seen.scores
        known.hits[hit] += 1
        known.seen_ns[hit] = np.maximum(known.seen_ns[hit], found.stamp_ns)
        places, noise = boxes.copy(), np.full((len(ids), 4), np.nan)
        places[hit], noise[hit] = seen.boxes, self._noise(seen.boxes)
        status = np.full(len(ids), TrackStatus.LOST, np.uint8)
        status[hit] = np.where(sure, TrackStatus.TRACKED, TrackStatus.UNCERTAIN)

        if found.stamp_ns < self._newest_ns:
            told, begun, kept = hit, found.selected(np.empty(0, np.intp)), known
        else:
            self._newest_ns = found.stamp_ns
            settled = known.hits >= config.confirm_after
            limit_ns = np.where(settled, config.forget_ms, config.tentative_ms) * 1e6
            told = hit | (found.stamp_ns - known.seen_ns <= limit_ns)
            double = iou(boxes[:, None], seen.boxes[None]) > config.duplicate_iou
            told &= hit | ~double.any(axis=1)
            kept = select(known, np.flatnonzero(told))
            left = np.setdiff1d(np.arange(len(found)), match)
            begun = self._begun(
                found.selected(left), seen.boxes, config.max_targets - len(kept.ids)
            )
        ids_begun = np.array([next(self._ids) for _ in range(len(begun))], np.int32)
        new = _Known(
            ids_begun,
            begun.labels,
            begun.scores,
            begun.scores,
            np.ones(len(begun), np.int64),
            np.full(len(begun), found.stamp_ns, np.int64),
            np.full(len(begun), found.stamp_ns, np.int64),
        )
        self._known = join(kept, new)
        of_all = join(select(known, np.flatnonzero(told)), new)
        return Tracks(
            found.stamp_ns,
            found.stamp_ns,
            found.frame_index,
            found.image_size,
            of_all.ids,
            np.concatenate([places[told], begun.boxes]),
            of_all.scores,
            np.concatenate([status[told], np.zeros(len(begun), np.uint8)]),
            of_all.labels,
            variances=np.concatenate([noise[told], self._noise(begun.boxes)]),
        )

    def _arranged(self, ids: npt.NDArray[np.int32], stamp_ns: int) -> _Known:
        """A copy of what is known, a row for each of ``ids``; others are forgotten. A target that
        somebody else began counts as published, of any class, and seen just now."""
        n = len(ids)
        known = _Known(
            ids.astype(np.int32),
            np.full(n, -1, np.int16),
            np.ones(n, np.float32),
            np.zeros(n, np.float32),
            np.full(n, self._config.confirm_after, np.int64),
            np.full(n, stamp_ns, np.int64),
            np.full(n, stamp_ns, np.int64),
        )
        new, old = np.nonzero(ids[:, None] == self._known.ids)
        for part in fields(known):
            getattr(known, part.name)[new] = getattr(self._known, part.name)[old]
        return known

    def _matched(
        self, found: Detections, known: _Known, boxes: FloatArray, variances: FloatArray
    ) -> npt.NDArray[np.intp]:
        """(M,) which detection each target is, −1 for none."""
        config = self._config
        match = np.full(len(boxes), -1, np.intp)
        overlap = iou(boxes[:, None], found.boxes[None])
        far = self._distance(found.boxes, boxes, variances) / config.gate**2
        other = (known.labels[:, None] != found.labels) & (known.labels[:, None] >= 0)
        cost = (1 - overlap + np.minimum(far, 1)) / 2 + config.label_cost * other
        near = overlap >= config.min_iou
        allowed = (near | (far <= 1)) & ~(other & (config.label_cost >= 1))
        sure = found.scores >= config.sure_score
        there = known.begun_ns <= found.stamp_ns
        settled = known.hits >= config.confirm_after
        for targets, detections, gate in (
            (there & settled, sure, allowed),
            (there & settled, ~sure, allowed & near),
            (there & ~settled, sure, allowed),
        ):
            rows = np.flatnonzero(targets & (match < 0))
            columns = np.setdiff1d(np.flatnonzero(detections), match)
            block = np.ix_(rows, columns)
            i, j = linear_sum_assignment(np.where(gate[block], cost[block], FORBIDDEN))
            good = gate[block][i, j]
            match[rows[i[good]]] = columns[j[good]]
        return match

    def _distance(self, found: FloatArray, boxes: FloatArray, variances: FloatArray) -> FloatArray:
        """(M, N) squared Mahalanobis distances of centers and logarithms of sides."""
        noise = self._noise(found)
        a, b = to_center(boxes), to_center(found)
        sides = np.maximum(a[:, 2:], MIN_SIDE_PX)
        center = (b[None, :, :2] - a[:, None, :2]) ** 2
        center /= variances[:, None, :2] + noise[None, :, :2]
        size = np.log(np.maximum(b[None, :, 2:], MIN_SIDE_PX) / sides[:, None]) ** 2
        size /= (variances[:, 2:] / sides**2)[:, None] + self._config.size_noise**2
        return np.asarray(center.sum(axis=-1) + size.sum(axis=-1))

    def _noise(self, boxes: FloatArray) -> FloatArray:
        """(n, 4) variances of detected boxes, of x_center, y_center, w, h in pixels²."""
        sides = np.maximum(boxes[:, 2:], MIN_SIDE_PX)
        center = self._config.center_noise**2 * np.prod(sides, axis=1, keepdims=True)
        return np.concatenate(
            [np.repeat(center, 2, axis=1), (self._config.size_noise * sides) ** 2], axis=1
        )

    def _begun(self, free: Detections, taken: FloatArray, limit: int) -> Detections:
        """Those of the free detections that are new targets, (n, 4) ``taken`` being others'."""
        order = np.argsort(-free.scores, kind="stable")
        order = order[free.scores[order] >= self._config.sure_score]
        beside = iou(free.boxes[:, None], taken[None]) > self._config.duplicate_iou
        among = iou(free.boxes[:, None], free.boxes[None]) > self._config.duplicate_iou
        chosen: list[int] = []
        for row in order.tolist():
            if len(chosen) < limit and not beside[row].any() and not among[row, chosen].any():
                chosen.append(row)
        return free.selected(np.array(chosen, np.intp))
