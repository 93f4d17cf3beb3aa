"""The two baselines: the box stands still, or goes on as it went."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pipeline.box import FloatArray, to_center
from pipeline.tracks import TrackStatus
from prediction.predictor import Estimates, IntArray, PredictorConfig, horizon_status

MIN_SIDE_PX = 1.0
MAX_LOG_GROWTH = 1.0
STILL = np.zeros(2)


@dataclass(frozen=True)
class History:
    """The last observations: stamps (k,) int ns and centered boxes (k, 4), oldest first.

    velocity: (2,) of the center, box sides per second. growth: (2,) of the logarithm of the sides,
    per second.
    """

    stamps_ns: tuple[int, ...]
    boxes: FloatArray
    velocity: FloatArray
    growth: FloatArray
    status: TrackStatus


class NoPredictor:
    """The last answer, whatever it says of itself: what a stack without prediction uses."""

    depth = 1

    def __init__(self, config: PredictorConfig) -> None:
        self._config = config
        self._reach_s = config.max_horizon_ms * 1e-3
        self._noise = np.repeat([config.center_noise, config.size_noise], 2)
        self._drive = np.repeat([config.acceleration_sigma, config.growth_sigma], 2)

    def observe(
        self, state: History | None, stamp_ns: int, box: FloatArray, status: TrackStatus
    ) -> History:
        if state is None:
            return History((stamp_ns,), to_center(box)[None], STILL, STILL, status)
        if stamp_ns <= state.stamps_ns[-1]:
            return state
        if status == TrackStatus.LOST and self.depth > 1:
            return replace(state, status=status)
        stamps = (*state.stamps_ns, stamp_ns)[-self.depth :]
        boxes = np.concatenate([state.boxes, to_center(box)[None]])[-self.depth :]
        velocity, growth = self._motion(stamps, boxes)
        return History(stamps, boxes, velocity, growth, status)

    def predict(self, state: History, valid_at_ns: IntArray) -> Estimates:
        dt = (valid_at_ns - state.stamps_ns[-1]) * 1e-9
        column = np.minimum(dt, self._reach_s)[:, None]
        last = state.boxes[-1]
        sides = np.maximum(last[2:], MIN_SIDE_PX)
        boxes = np.empty((len(dt), 4))
        boxes[:, 2:] = sides * np.exp(np.minimum(column * state.growth, MAX_LOG_GROWTH))
        boxes[:, :2] = last[:2] + column * (state.velocity * sides) - boxes[:, 2:] / 2
        moving = self.depth == 1 or len(state.stamps_ns) > 1
        noise = (self._noise**2 + (column**2 / 2 * self._drive) ** 2).reshape(-1, 2, 2) * sides**2
        covariances = np.zeros((len(dt), 16))
        covariances[:, ::5] = noise.reshape(-1, 4)
        status = horizon_status(self._config, dt, moving, state.status)
        return Estimates(boxes, covariances.reshape(-1, 4, 4), status)

    def _motion(
        self, stamps_ns: tuple[int, ...], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        return STILL, STILL


class ConstantVelocity(NoPredictor):
    """The mean velocity of the last observations, relative to the box's size.

    Centers move by box sides per second and sides grow by a rate per second, as in the motion terms
    of PVT++ (Li et al., ICCV 2023): v = mean over k of (Δcenter / side / Δt), r = mean of
    (Δ ln side / Δt).
    """

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__(config)
        self.depth = config.history + 1

    def _motion(
        self, stamps_ns: tuple[int, ...], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        dt = np.array([b - a for a, b in pairwise(stamps_ns)])[:, None] * 1e-9
        sides = np.maximum(boxes[:, 2:], MIN_SIDE_PX)
        moved = (boxes[1:, :2] - boxes[:-1, :2]) / (sides[:-1] * dt)
        grown = np.log(sides[1:] / sides[:-1]) / dt
        return moved.mean(axis=0), grown.mean(axis=0)
