"""A Kalman filter in continuous time: the true Δt enters, however irregular the answers.

Each of x_center, y_center, w and h moves independently; its velocity v is an Ornstein-Uhlenbeck
process that forgets itself with time constant τ and is driven by white noise of density q::

    dx = v dt,   dv = −v/τ dt + √q dw

whose exact discretisation over Δt, with e = exp(−Δt/τ), is (Särkkä & Solin 2019, ch. 6)::

    F = [1  τ(1−e)]    Q = q [τ²(Δt − 2τ(1−e) + τ(1−e²)/2)   τ²(1−e)²/2]
        [0     e  ]          [τ²(1−e)²/2                      τ(1−e²)/2 ]

τ → ∞ is the usual constant-velocity model. q and the observation noise scale with the box's sides,
so one setting serves a target of 10 and of 300 pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from filterpy.kalman import predict as kf_predict
from filterpy.kalman import update as kf_update

from pipeline.box import FloatArray, from_center, to_center
from pipeline.tracks import TrackStatus
from prediction.predictor import Estimate, PredictorConfig, horizon_status

MIN_SIDE_PX = 1.0
START_VELOCITY = 3.0
"""Sigma of the unknown first velocity, box sides per second."""
UNCERTAIN_FACTOR = 9.0
"""An uncertain answer's variance over a sure one's."""
H = np.eye(4, 8)


@dataclass(frozen=True)
class KalmanState:
    """mean: (8,) x_center y_center w h and their velocities, px and px/s. covariance: (8, 8)."""

    stamp_ns: int
    mean: FloatArray
    covariance: FloatArray
    observations: int
    status: TrackStatus


class KalmanPredictor:
    """Filters observed boxes and extrapolates them to any moment."""

    def __init__(self, config: PredictorConfig) -> None:
        self._config = config
        self._noise = np.repeat([config.center_noise, config.size_noise], 2)
        self._drive = np.repeat([config.acceleration_sigma, config.growth_sigma], 2)

    def observe(
        self, state: KalmanState | None, stamp_ns: int, box: FloatArray, status: TrackStatus
    ) -> KalmanState:
        if state is not None and stamp_ns <= state.stamp_ns:
            return state
        if state is not None and status == TrackStatus.LOST:
            mean, covariance = self._advance(state, stamp_ns)
            return KalmanState(stamp_ns, mean, covariance, state.observations, status)
        z = to_center(box)
        R = np.diag((self._noise * _sides(z)) ** 2)
        if status != TrackStatus.TRACKED:
            R *= UNCERTAIN_FACTOR
        if state is None:
            return self._begin(stamp_ns, z, R, status)
        mean, covariance = self._advance(state, stamp_ns)
        innovation = z - mean[:4]
        distance = innovation @ np.linalg.solve(covariance[:4, :4] + R, innovation)
        if distance > self._config.gate**2:
            return self._begin(stamp_ns, z, R, status)
        mean, covariance = kf_update(mean, covariance, z, R, H)
        return KalmanState(stamp_ns, mean, covariance, state.observations + 1, status)

    def predict(self, state: KalmanState, valid_at_ns: int) -> Estimate:
        mean, covariance = self._advance(state, valid_at_ns)
        box = mean[:4].copy()
        box[2:] = np.maximum(box[2:], MIN_SIDE_PX)
        status = horizon_status(
            self._config, state.stamp_ns, valid_at_ns, state.observations > 1, state.status
        )
        return Estimate(from_center(box), covariance[:4, :4].copy(), status)

    def _begin(
        self, stamp_ns: int, z: FloatArray, R: FloatArray, status: TrackStatus
    ) -> KalmanState:
        covariance = np.zeros((8, 8))
        covariance[:4, :4] = R
        covariance[4:, 4:] = np.diag((START_VELOCITY * _sides(z)) ** 2)
        return KalmanState(stamp_ns, np.concatenate([z, np.zeros(4)]), covariance, 1, status)

    def _advance(self, state: KalmanState, to_ns: int) -> tuple[FloatArray, FloatArray]:
        """Mean and covariance at ``to_ns``; a moment before the state's own is the state's own."""
        dt = max(to_ns - state.stamp_ns, 0) * 1e-9
        tau = self._config.velocity_memory_s
        e = math.exp(-dt / tau)
        reach = tau * (1 - e)
        F = np.eye(8)
        F[range(4), range(4, 8)] = reach
        F[range(4, 8), range(4, 8)] = e
        q = (self._drive * _sides(state.mean)) ** 2
        position = tau**2 * (dt - 2 * reach + tau * (1 - e * e) / 2)
        Q = np.zeros((8, 8))
        Q[range(4), range(4)] = q * max(position, 0.0)
        Q[range(4), range(4, 8)] = Q[range(4, 8), range(4)] = q * reach**2 / 2
        Q[range(4, 8), range(4, 8)] = q * tau * (1 - e * e) / 2
        mean, covariance = kf_predict(state.mean, state.covariance, F, Q)
        return mean, covariance


def _sides(centered: FloatArray) -> FloatArray:
    """(w, h, w, h) in pixels, never under one."""
    return np.maximum(np.tile(centered[2:4], 2), MIN_SIDE_PX)
