"""A Kalman filter in continuous time: the true Δt enters, however irregular the answers.

Each of x_center, y_center, w and h moves independently; its velocity v is an Ornstein-Uhlenbeck
process that forgets itself with time constant τ and is driven by white noise of density q::

    dx = v dt,   dv = −v/τ dt + √q dw

whose exact discretization over Δt, with e = exp(−Δt/τ), is (Särkkä & Solin 2019, ch. 6)::

    F = [1  τ(1−e)]    Q = q [τ²(Δt − 2τ(1−e) + τ(1−e²)/2)   τ²(1−e)²/2]
        [0     e  ]          [τ²(1−e)²/2                      τ(1−e²)/2 ]

τ → ∞ is the usual constant-velocity model. q and the observation noise scale with the box's sides,
so one setting serves a target of 10 and of 300 pixels.

With independent axes the 8-state filter falls apart into four of two states, whose equations are
written out below for all targets at once; filterpy's general filter, which handles one target a
call, gives the same numbers (tests/prediction); what both cost: benchmarks/predictor.py.
"""

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

START_VELOCITY = 3.0
"""Sigma of the unknown first velocity, box sides per second."""
UNCERTAIN_FACTOR = 9.0
"""An uncertain answer's variance over a sure one's."""


@dataclass(frozen=True)
class KalmanState:
    """N targets.

    stamp_ns: (N,) int64. position: (N, 4), x_center y_center w h in px. velocity: (N, 4) in px/s.
    pp, pv, vv: (N, 4), variance of the position, covariance of the two, variance of the velocity.
    count: (N,) observations since the filter began. status: (N,) uint8 of the last answer.
    """

    stamp_ns: IntArray
    position: FloatArray
    velocity: FloatArray
    pp: FloatArray
    pv: FloatArray
    vv: FloatArray
    count: IntArray
    status: StatusArray


class KalmanPredictor:
    """Filters observed boxes and extrapolates them to any moment."""

    def __init__(self, config: PredictorConfig) -> None:
        self._config = config
        self._noise = np.repeat([config.center_noise, config.size_noise], 2)
        self._drive = np.repeat([config.acceleration_sigma, config.growth_sigma], 2)

    def blank(self, n: int) -> KalmanState:
        zero, none = np.zeros((n, 4)), np.zeros(n, np.int64)
        return KalmanState(none, zero, zero, zero, zero, zero, none, np.zeros(n, np.uint8))

    def observe(
        self, state: KalmanState, stamp_ns: IntArray, boxes: FloatArray, status: StatusArray
    ) -> KalmanState:
        z = to_center(boxes)
        sides = doubled_sides(z)
        r = (self._noise * sides) ** 2
        r[status != TrackStatus.TRACKED] *= UNCERTAIN_FACTOR

        known = state.count > 0
        fresh = ~known | (stamp_ns > state.stamp_ns)
        dt = np.where(known & fresh, stamp_ns - state.stamp_ns, 0)[:, None] * 1e-9
        reach, e, qxx, qxv, qvv = kernel(dt, self._config.velocity_memory_s)
        q = (self._drive * doubled_sides(state.position)) ** 2
        position = state.position + reach * state.velocity
        pp = state.pp + 2 * reach * state.pv + reach**2 * state.vv + q * qxx
        pv = e * (state.pv + reach * state.vv) + q * qxv
        vv = e**2 * state.vv + q * qvv

        innovation = z - position
        s = pp + r
        begins = ~known | ((innovation**2 / s).sum(axis=1) > self._config.gate**2)
        gain_p, gain_v = pp / s, pv / s
        taken = fresh & (~known | (status != TrackStatus.LOST))
        begin, take = begins[:, None], taken[:, None]

        def settle(filtered: FloatArray, begun: FloatArray, before: FloatArray) -> FloatArray:
            return np.where(take, np.where(begin, begun, filtered), before)

        return KalmanState(
            np.where(taken, stamp_ns, state.stamp_ns),
            settle(position + gain_p * innovation, z, state.position),
            settle(e * state.velocity + gain_v * innovation, np.zeros_like(z), state.velocity),
            settle((1 - gain_p) * pp, r, state.pp),
            settle((1 - gain_p) * pv, np.zeros_like(z), state.pv),
            settle(vv - gain_v * pv, (START_VELOCITY * sides) ** 2, state.vv),
            np.where(taken, np.where(begins, 1, state.count + 1), state.count),
            np.where(fresh, status, state.status),
        )

    def predict(self, state: KalmanState, valid_at_ns: IntArray) -> Estimates:
        dt = (valid_at_ns - state.stamp_ns[:, None]) * 1e-9
        within = np.clip(dt, 0, self._config.max_horizon_ms * 1e-3)[..., None]
        reach, _, qxx, _, _ = kernel(within, self._config.velocity_memory_s)
        boxes = state.position[:, None] + reach * state.velocity[:, None]
        boxes[..., 2:] = np.maximum(boxes[..., 2:], MIN_SIDE_PX)
        boxes[..., :2] -= boxes[..., 2:] / 2
        q = (self._drive * doubled_sides(state.position))[:, None] ** 2
        moved = 2 * reach * state.pv[:, None] + reach**2 * state.vv[:, None]
        variances = state.pp[:, None] + moved + q * qxx
        status = forecast_status(self._config, dt, state.count > 1, state.status)
        return Estimates(boxes, variances, status)


def kernel(dt: FloatArray, tau: float | FloatArray) -> tuple[FloatArray, ...]:
    """F's and Q's entries for times ``dt`` in s: τ(1−e), e, Q_xx/q, Q_xv/q, Q_vv/q."""
    e = np.exp(-dt / tau)
    reach = tau * (1 - e)
    decay = tau * (1 - e * e) / 2
    qxx = np.maximum(tau**2 * (dt - 2 * reach + decay), 0)
    return reach, e, qxx, reach**2 / 2, decay


def doubled_sides(centered: FloatArray) -> FloatArray:
    """(N, 4): w h w h in pixels, never under one."""
    sides = np.maximum(centered[:, 2:], MIN_SIDE_PX)
    return np.concatenate([sides, sides], axis=1)
