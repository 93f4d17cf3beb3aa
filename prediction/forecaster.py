"""The track table: every target's motion state, forecast for every consumer's moment of use."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.tracks import MAX_TARGETS, Forecasts, Tracks
from prediction.predictor import PredictorConfig, join, make_predictor, select


class Forecaster:
    """Keeps a row of the predictor's state a target; forgets targets that are gone."""

    def __init__(self, config: PredictorConfig) -> None:
        self._predictor = make_predictor(config)
        self._forget_ns = int(config.forget_ms * 1e6)
        self.reset()

    def reset(self) -> None:
        """Forget all targets: the clock jumped, or a new run begins."""
        self._ids = np.empty(0, np.int32)
        self._seen_ns = np.empty(0, np.int64)
        self._state = self._predictor.blank(0)

    def observe(self, tracks: Tracks) -> None:
        """Take in one frame's targets, stamped when the light hit the sensor."""
        recent = self._seen_ns >= tracks.stamp_ns - self._forget_ns
        kept = np.flatnonzero(recent & ~np.isin(self._ids, tracks.ids))[:MAX_TARGETS]
        n = len(tracks)
        observed = self._predictor.observe(
            self._state_of(tracks.ids),
            np.full(n, tracks.stamp_ns, np.int64),
            tracks.boxes,
            tracks.status,
        )
        self._state = join(observed, select(self._state, kept))
        self._ids = np.concatenate([tracks.ids, self._ids[kept]])
        self._seen_ns = np.concatenate([np.full(n, tracks.stamp_ns), self._seen_ns[kept]])

    def forecast(self, stamp_ns: int, ready_ns: int, horizons_ns: Mapping[str, int]) -> Forecasts:
        """All targets at ``stamp_ns`` + each consumer's horizon."""
        valid_at = np.array([stamp_ns + h for h in horizons_ns.values()], np.int64)
        boxes, variances, status = self._predictor.predict(self._state, valid_at)
        return Forecasts(
            stamp_ns,
            ready_ns,
            tuple(horizons_ns),
            valid_at,
            self._ids,
            boxes.transpose(1, 0, 2),
            variances.transpose(1, 0, 2)[..., None] * np.eye(4),
            status.T,
        )

    def _state_of(self, ids: npt.NDArray[np.int32]) -> Any:
        """Rows of the state in the order of ``ids``, blank for those that are new."""
        padded = join(self._state, self._predictor.blank(1))
        match = ids[:, None] == self._ids
        rows = np.where(
            match.any(axis=1), match.argmax(axis=1) if match.size else 0, len(self._ids)
        )
        return select(padded, rows)
