"""The track table: every target's motion state, forecast for every consumer's moment of use."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.span import Horizon
from pipeline.tracks import MAX_TARGETS, Detections, Forecasts, Tracks, TrackStatus
from prediction.association import Association, AssociationConfig
from prediction.horizon import NO_REGIONS, Misfit, Outlook, forecasts
from prediction.make import make_predictor
from prediction.predictor import IntArray, PredictorConfig, join, select

NEVER = -1


class Forecaster:
    """Keeps a row of the predictor's state a target; forgets targets that are gone.

    Without frames, ``association`` matches detections with where targets are predicted.
    """

    def __init__(self, config: PredictorConfig, association: Association | None = None) -> None:
        self._config = config
        self._predictor = make_predictor(config)
        self._association = association or Association(AssociationConfig())
        self._forget_ns = int(config.forget_ms * 1e6)
        self.reset()

    def reset(self) -> None:
        """Forget all targets: the clock jumped, or a new run begins."""
        self._association.reset()
        self._ids = np.empty(0, np.int32)
        self._seen_ns = np.empty(0, np.int64)
        self._state = self._predictor.blank(0)
        self._misfit = Misfit.blank(0)

    def observe(self, found: Tracks | Detections) -> Tracks | None:
        """Take in one frame's targets, stamped when the light hit the sensor.

        Returns them; None for detections that are not newer than the last ones. Of detections'
        targets only those are kept that still are some.
        """
        if isinstance(found, Tracks):
            self._take(found)
            return found
        tracks = self._associated(found)
        if tracks is None:
            return None
        self._take(tracks)
        rows = np.arange(len(tracks))
        self._state = select(self._state, rows)
        self._misfit = select(self._misfit, rows)
        self._ids, self._seen_ns = self._ids[rows], self._seen_ns[rows]
        return tracks.selected(self._association.settled(tracks.ids))

    def _associated(self, found: Detections) -> Tracks | None:
        if found.stamp_ns <= self._seen_ns.max(initial=-1):
            return None
        boxes = variances = np.empty((0, 4))
        if len(self._ids):
            here = self._predictor.predict(self._state, np.array([found.stamp_ns], np.int64))
            boxes, variances = here.boxes[:, 0], here.variances[:, 0]
        return self._association.tracks(found, self._ids, boxes, variances)

    def _take(self, tracks: Tracks) -> None:
        n = len(tracks)
        if not np.array_equal(tracks.ids, self._ids):
            self._arrange(tracks.ids, tracks.stamp_ns)
        self._compare(tracks)
        unseen = np.arange(n, len(self._ids))
        state = select(self._state, np.arange(n)) if len(unseen) else self._state
        stamps = np.full(n, tracks.stamp_ns)
        observed = self._predictor.observe(state, stamps, tracks.boxes, tracks.status)
        self._state = join(observed, select(self._state, unseen)) if len(unseen) else observed
        self._seen_ns[:n] = tracks.stamp_ns

    def _compare(self, tracks: Tracks) -> None:
        """Note how far the answers are from what was expected."""
        known = np.flatnonzero(self._seen_ns[: len(tracks)] >= 0)
        if not len(known):
            return
        stamp = np.array([tracks.stamp_ns])
        expected = self._predictor.predict(select(self._state, known), stamp)
        doubtful = tracks.status[known] != TrackStatus.TRACKED
        stays = doubtful | (self._seen_ns[known] >= tracks.stamp_ns)
        misfit = select(self._misfit, known).after(
            expected, tracks.boxes[known], stays, self._config
        )
        self._misfit.total[known], self._misfit.weight[known] = misfit.total, misfit.weight

    def _arrange(self, ids: npt.NDArray[np.int32], stamp_ns: int) -> None:
        """Put the rows of ``ids`` first, blank ones for new targets; the others follow,
        newest first, without those unseen for long."""
        recent = self._seen_ns >= stamp_ns - self._forget_ns
        others = np.flatnonzero(recent & ~np.isin(self._ids, ids))[: MAX_TARGETS - len(ids)]
        rows = np.full(len(ids), len(self._ids), np.int64)
        new, old = np.nonzero(ids[:, None] == self._ids)
        rows[new] = old
        rows = np.concatenate([rows, others])
        self._state = select(join(self._state, self._predictor.blank(1)), rows)
        self._ids = np.concatenate([ids, self._ids[others]])
        self._seen_ns = np.append(self._seen_ns, NEVER)[rows]
        self._misfit = select(join(self._misfit, Misfit.blank(1)), rows)

    def forecast(
        self,
        stamp_ns: int,
        ready_ns: int,
        horizons: Mapping[str, int | Horizon],
        probabilities: Mapping[str, float] = NO_REGIONS,
    ) -> Forecasts:
        """All targets when each consumer acts, as ``prediction.horizon.forecasts`` says."""
        found = forecasts(self.outlook, self._ids, stamp_ns, ready_ns, horizons, probabilities)
        return found.selected(self._association.settled(self._ids))

    def outlook(self, moments_ns: IntArray) -> Outlook:
        """All targets at one of some equally probable moments, (Q,), in order, in ns."""
        found = self._predictor.predict(self._state, moments_ns)
        return Outlook.of(found, self._misfit.shares(), self._config)
