"""The two baselines: the box stands still, or goes on as it went."""

from dataclasses import dataclass

import numpy as np

from pipeline.box import FloatArray, from_center, to_center
from pipeline.tracks import TrackStatus
from prediction.predictor import Estimate, PredictorConfig, horizon_status

MIN_SIDE_PX = 1.0


@dataclass(frozen=True)
class History:
    """The last observations: stamps (k,) int ns and centered boxes (k, 4), oldest first."""

    stamps_ns: tuple[int, ...]
    boxes: FloatArray
    status: TrackStatus


class NoPredictor:
    """The last box seen, whenever it is asked for: what a stack without prediction uses."""

    depth = 1

    def __init__(self, config: PredictorConfig) -> None:
        self._config = config

    def observe(
        self, state: History | None, stamp_ns: int, box: FloatArray, status: TrackStatus
    ) -> History:
        centered = to_center(box)[None]
        if state is None:
            return History((stamp_ns,), centered, status)
        if stamp_ns <= state.stamps_ns[-1]:
            return state
        if status == TrackStatus.LOST:
            return History(state.stamps_ns, state.boxes, status)
        stamps = (*state.stamps_ns, stamp_ns)[-self.depth :]
        return History(stamps, np.concatenate([state.boxes, centered])[-self.depth :], status)

    def predict(self, state: History, valid_at_ns: int) -> Estimate:
        status = horizon_status(
            self._config, state.stamps_ns[-1], valid_at_ns, moving=True, status=state.status
        )
        box = state.boxes[-1]
        dt = (valid_at_ns - state.stamps_ns[-1]) * 1e-9
        return Estimate(from_center(box), _spread(self._config, box, dt), status)


class ConstantVelocity(NoPredictor):
    """The mean velocity of the last observations, relative to the box's size.

    Centers move by box sides per second and sides grow by a rate per second, as in the motion terms
    of PVT++ (Li et al., ICCV 2023): v = mean over k of (Δcenter / side / Δt), r = mean of
    (Δ ln side / Δt).
    """

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__(config)
        self.depth = config.history + 1

    def predict(self, state: History, valid_at_ns: int) -> Estimate:
        last_ns = state.stamps_ns[-1]
        moving = len(state.stamps_ns) > 1
        status = horizon_status(self._config, last_ns, valid_at_ns, moving, state.status)
        last = state.boxes[-1]
        dt = (valid_at_ns - last_ns) * 1e-9
        box = last.copy()
        if moving:
            steps = np.diff(np.array(state.stamps_ns, np.float64) - last_ns)[:, None] * 1e-9
            sides = np.maximum(state.boxes[:, 2:], MIN_SIDE_PX)
            velocity = (np.diff(state.boxes[:, :2], axis=0) / sides[:-1] / steps).mean(axis=0)
            growth = (np.diff(np.log(sides), axis=0) / steps).mean(axis=0)
            box[:2] += velocity * sides[-1] * dt
            box[2:] = sides[-1] * np.exp(np.clip(growth * dt, -1, 1))
        return Estimate(from_center(box), _spread(self._config, last, dt), status)


def _spread(config: PredictorConfig, box: FloatArray, dt: float) -> FloatArray:
    """(4, 4) diagonal: observation noise and what an unknown acceleration adds over ``dt``."""
    sides = np.maximum(np.tile(box[2:], 2), MIN_SIDE_PX)
    noise = np.repeat([config.center_noise, config.size_noise], 2)
    drive = np.repeat([config.acceleration_sigma, config.growth_sigma], 2) * dt**2 / 2
    return np.diag((noise * sides) ** 2 + (drive * sides) ** 2)
