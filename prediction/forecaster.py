"""The track table: every target's motion state, forecast for every consumer's moment of use."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.tracks import Forecasts, Tracks, TrackStatus
from prediction.predictor import Estimates, IntArray, PredictorConfig, make_predictor


class Forecaster:
    """Keeps one predictor state a target; forgets targets that are gone."""

    def __init__(self, config: PredictorConfig) -> None:
        self._predictor = make_predictor(config)
        self._forget_ns = int(config.forget_ms * 1e6)
        self._states: dict[int, tuple[int, Any]] = {}

    def reset(self) -> None:
        """Forget all targets: the clock jumped, or a new run begins."""
        self._states.clear()

    def observe(self, tracks: Tracks) -> None:
        """Take in one frame's targets, stamped when the light hit the sensor."""
        for i, track_id in enumerate(tracks.ids.tolist()):
            _, state = self._states.get(track_id, (0, None))
            status = TrackStatus(int(tracks.status[i]))
            state = self._predictor.observe(state, tracks.stamp_ns, tracks.boxes[i], status)
            self._states[track_id] = (tracks.stamp_ns, state)
        oldest_ns = tracks.stamp_ns - self._forget_ns
        for track_id in [t for t, (seen, _) in self._states.items() if seen < oldest_ns]:
            del self._states[track_id]

    def at(self, track_id: int, valid_at_ns: IntArray) -> Estimates | None:
        """One target at each moment, (m,) int64; None for a target that is not known."""
        found = self._states.get(track_id)
        return None if found is None else self._predictor.predict(found[1], valid_at_ns)

    def forecast(self, stamp_ns: int, ready_ns: int, horizons_ns: Mapping[str, int]) -> Forecasts:
        """All targets at ``stamp_ns`` + each consumer's horizon."""
        ids = list(self._states)
        valid_at = np.array([stamp_ns + h for h in horizons_ns.values()], np.int64)
        shape = (len(valid_at), len(ids))
        boxes, status = np.zeros((*shape, 4)), np.zeros(shape, np.uint8)
        covariances = np.zeros((*shape, 4, 4))
        for n, (_, state) in enumerate(self._states.values()):
            estimates = self._predictor.predict(state, valid_at)
            boxes[:, n], covariances[:, n], status[:, n] = estimates
        return Forecasts(
            stamp_ns,
            ready_ns,
            tuple(horizons_ns),
            valid_at,
            np.array(ids, np.int32),
            boxes,
            covariances,
            status,
        )
