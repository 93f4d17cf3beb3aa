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

from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from filterpy.kalman import predict as kf_predict
from filterpy.kalman import update as kf_update

from pipeline.box import FloatArray, to_center
from pipeline.tracks import TrackStatus
from prediction.predictor import Estimates, IntArray, PredictorConfig, horizon_status

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
        self._step = lru_cache(maxsize=256)(partial(_step, tau=config.velocity_memory_s))

    def observe(
        self, state: KalmanState | None, stamp_ns: int, box: FloatArray, status: TrackStatus
    ) -> KalmanState:
        if state is not None and stamp_ns <= state.stamp_ns:
            return state
        if state is not None and status == TrackStatus.LOST:
            return replace(state, status=status)
        z = to_center(box)
        variances = (self._noise * _sides(z)) ** 2
        if status != TrackStatus.TRACKED:
            variances *= UNCERTAIN_FACTOR
        if state is None:
            return self._begin(stamp_ns, z, variances, status)
        F, Q = self._step(stamp_ns - state.stamp_ns)
        q = (self._drive * _sides(state.mean)) ** 2
        mean, covariance = kf_predict(state.mean, state.covariance, F, Q * np.concatenate([q, q]))
        # The four axes are independent, so the innovation's covariance is diagonal.
        jump = (z - mean[:4]) ** 2 / (covariance.diagonal()[:4] + variances)
        if jump.sum() > self._config.gate**2:
            return self._begin(stamp_ns, z, variances, status)
        mean, covariance = kf_update(mean, covariance, z, np.diag(variances), H)
        return KalmanState(stamp_ns, mean, covariance, state.observations + 1, status)

    def predict(self, state: KalmanState, valid_at_ns: IntArray) -> Estimates:
        # kf_predict for many moments at once, positions only; a moment before the state's own
        # gets the state as it is.
        dt = np.maximum(valid_at_ns - state.stamp_ns, 0) * 1e-9
        reach, _, qxx, _, _ = _kernel(
            np.minimum(dt, self._config.max_horizon_ms * 1e-3), self._config.velocity_memory_s
        )
        boxes = state.mean[:4] + reach[:, None] * state.mean[4:]
        boxes[:, 2:] = np.maximum(boxes[:, 2:], MIN_SIDE_PX)
        boxes[:, :2] -= boxes[:, 2:] / 2
        P = state.covariance
        cross = P[:4, 4:] + P[4:, :4]
        reach, qxx = reach[:, None, None], qxx[:, None, None]
        covariances = P[:4, :4] + reach * cross + reach**2 * P[4:, 4:]
        covariances.reshape(-1, 16)[:, ::5] += qxx[:, 0] * (self._drive * _sides(state.mean)) ** 2
        status = horizon_status(self._config, dt, state.observations > 1, state.status)
        return Estimates(boxes, covariances, status)

    def _begin(
        self, stamp_ns: int, z: FloatArray, variances: FloatArray, status: TrackStatus
    ) -> KalmanState:
        first = np.concatenate([variances, (START_VELOCITY * _sides(z)) ** 2])
        return KalmanState(stamp_ns, np.concatenate([z, np.zeros(4)]), np.diag(first), 1, status)


def _kernel(dt: FloatArray, tau: float) -> tuple[FloatArray, ...]:
    """F's and Q's entries for times ``dt`` in s: τ(1−e), e, Q_xx/q, Q_xv/q, Q_vv/q."""
    e = np.exp(-dt / tau)
    reach = tau * (1 - e)
    decay = tau * (1 - e * e) / 2
    qxx = np.maximum(tau**2 * (dt - 2 * reach + decay), 0)
    return reach, e, qxx, reach**2 / 2, decay


def _step(dt_ns: int, tau: float) -> tuple[FloatArray, FloatArray]:
    """F (8, 8) and Q / q (8, 8) for one Δt."""
    reach, e, qxx, qxv, qvv = _kernel(np.array(dt_ns * 1e-9), tau)
    unit = np.eye(4)
    F = np.block([[unit, reach * unit], [0 * unit, e * unit]])
    Q = np.block([[qxx * unit, qxv * unit], [qxv * unit, qvv * unit]])
    return F, Q


def _sides(centered: FloatArray) -> FloatArray:
    """(w, h, w, h) in pixels, never under one."""
    w, h = max(centered[2], MIN_SIDE_PX), max(centered[3], MIN_SIDE_PX)
    return np.array([w, h, w, h])
