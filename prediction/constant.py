"""The two baselines: the box stands still, or goes on as it went."""

from dataclasses import dataclass

import numpy as np

from pipeline.box import FloatArray, to_center
from pipeline.tracks import TrackStatus
from prediction.predictor import (
    MIN_SIDE_PX,
    Estimates,
    IntArray,
    PredictorConfig,
    StatusArray,
    forecast_status,
)

MAX_LOG_GROWTH = 1.0


@dataclass(frozen=True)
class History:
    """The last K observations of N targets, newest last.

    stamps_ns: (N, K) int64. boxes: (N, K, 4), centered. count: (N,), how many of the K are filled.
    status: (N,) uint8 of the last answer.
    """

    stamps_ns: IntArray
    boxes: FloatArray
    count: IntArray
    status: StatusArray


class NoPredictor:
    """The last answer, whatever it says of itself: what a stack without prediction uses."""

    depth = 1

    def __init__(self, config: PredictorConfig) -> None:
        self._config = config
        self._noise = np.repeat([config.center_noise, config.size_noise], 2)
        self._drive = np.repeat([config.acceleration_sigma, config.growth_sigma], 2)

    def blank(self, n: int) -> History:
        return History(
            np.zeros((n, self.depth), np.int64),
            np.zeros((n, self.depth, 4)),
            np.zeros(n, np.int64),
            np.zeros(n, np.uint8),
        )

    def observe(
        self, state: History, stamp_ns: IntArray, boxes: FloatArray, status: StatusArray
    ) -> History:
        fresh = (state.count == 0) | (stamp_ns > state.stamps_ns[:, -1])
        taken = fresh & ((status != TrackStatus.LOST) | (self.depth == 1) | (state.count == 0))
        stamps = np.concatenate([state.stamps_ns[:, 1:], stamp_ns[:, None]], axis=1)
        history = np.concatenate([state.boxes[:, 1:], to_center(boxes)[:, None]], axis=1)
        return History(
            np.where(taken[:, None], stamps, state.stamps_ns),
            np.where(taken[:, None, None], history, state.boxes),
            np.minimum(state.count + taken, self.depth),
            np.where(fresh, status, state.status),
        )

    def predict(self, state: History, valid_at_ns: IntArray) -> Estimates:
        dt = (valid_at_ns - state.stamps_ns[:, -1:]) * 1e-9
        reach = np.clip(dt, 0, self._config.max_horizon_ms * 1e-3)[..., None]
        last = state.boxes[:, -1:]
        sides = np.maximum(last[..., 2:], MIN_SIDE_PX)
        velocity, growth = self._motion(state)
        boxes = np.empty((*dt.shape, 4))
        boxes[..., 2:] = sides * np.exp(np.minimum(reach * growth[:, None], MAX_LOG_GROWTH))
        moved = last[..., :2] + reach * (velocity[:, None] * sides)
        boxes[..., :2] = moved - boxes[..., 2:] / 2
        moving = (state.count > 1) | (self.depth == 1)
        status = forecast_status(self._config, dt, moving, state.status)
        return Estimates(boxes, self._variances(sides, reach), status)

    def _variances(self, sides: FloatArray, reach: FloatArray) -> FloatArray:
        """(N, m, 4) in px²: an observation's noise, and the drive's over the horizon."""
        spread = self._noise**2 + (reach**2 / 2 * self._drive) ** 2
        return np.asarray(spread * np.concatenate([sides, sides], axis=-1) ** 2)

    def _motion(self, state: History) -> tuple[FloatArray, FloatArray]:
        """Velocity (N, 2) in box sides per second and growth (N, 2) of ln side per second."""
        still = np.zeros((len(state.count), 2))
        return still, still


class ConstantVelocity(NoPredictor):
    """The mean velocity of the last observations, relative to the box's size.

    As in the motion terms of PVT++ (Li et al., ICCV 2023): v = mean over k of
    (Δcenter / side / Δt), growth = mean of (Δ ln side / Δt).
    """

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__(config)
        self.depth = config.history + 1

    def _motion(self, state: History) -> tuple[FloatArray, FloatArray]:
        # Steps that are not filled yet stand before the filled ones and have no weight.
        filled = np.arange(self.depth - 1) >= self.depth - state.count[:, None]
        dt = np.where(filled, np.diff(state.stamps_ns, axis=1), 1) * 1e-9
        weight = (filled / (np.maximum(state.count[:, None] - 1, 1) * dt))[..., None]
        sides = np.maximum(state.boxes[..., 2:], MIN_SIDE_PX)
        moved = np.diff(state.boxes[..., :2], axis=1) / sides[:, :-1]
        grown = np.diff(np.log(sides), axis=1)
        return (moved * weight).sum(axis=1), (grown * weight).sum(axis=1)
