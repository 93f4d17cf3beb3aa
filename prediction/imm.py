"""Interacting multiple models: Kalman filters of different motion, weighed by how well they fit.

Each of x_center, y_center, w and h is followed by M two-state filters of ``prediction.kalman``,
each with its own drive √q and memory τ. Before an observation the filters are mixed by the chance
that the motion has changed its kind; after it their weights follow from the likelihood (Blom &
Bar-Shalom, 1988). The kind changes at random, 1/``imm_dwell_s`` times a second on average, to any
kind alike, which over Δt gives the transition matrix::

    T = e I + (1−e)/M,   e = exp(−Δt / imm_dwell_s)

filterpy's IMMEstimator, one a target and axis, gives the same numbers (tests/prediction).
"""

from dataclasses import dataclass

import numpy as np

from pipeline.box import FloatArray, to_center
from pipeline.tracks import TrackStatus
from prediction.kalman import START_VELOCITY, UNCERTAIN_FACTOR, doubled_sides, kernel
from prediction.predictor import (
    MIN_SIDE_PX,
    Estimates,
    IntArray,
    PredictorConfig,
    StatusArray,
    forecast_status,
)


@dataclass(frozen=True)
class ImmState:
    """N targets, M kinds of motion.

    stamp_ns: (N,) int64. position, velocity, pp, pv, vv: (N, M, 4) as in ``KalmanState``.
    weight: (N, M, 4), probability of each kind; they add up to 1 over M. count: (N,) observations
    since the filters began. status: (N,) uint8 of the last answer.
    """

    stamp_ns: IntArray
    position: FloatArray
    velocity: FloatArray
    pp: FloatArray
    pv: FloatArray
    vv: FloatArray
    weight: FloatArray
    count: IntArray
    status: StatusArray


class ImmPredictor:
    """Filters observed boxes with several models of motion at once."""

    def __init__(self, config: PredictorConfig) -> None:
        self._config = config
        self._noise = np.repeat([config.center_noise, config.size_noise], 2)
        drives = [config.imm_acceleration_sigmas, config.imm_growth_sigmas]
        self._drive = np.repeat(np.array(drives, np.float64).T, 2, axis=1)
        self._memory = np.array(config.imm_memories_s)[:, None]
        self._kinds = len(self._memory)

    def blank(self, n: int) -> ImmState:
        zero, none = np.zeros((n, self._kinds, 4)), np.zeros(n, np.int64)
        status = np.zeros(n, np.uint8)
        return ImmState(none, zero, zero, zero, zero, zero, zero, none, status)

    def observe(
        self, state: ImmState, stamp_ns: IntArray, boxes: FloatArray, status: StatusArray
    ) -> ImmState:
        z = to_center(boxes)
        sides = doubled_sides(z)
        r = (self._noise * sides) ** 2
        r[status != TrackStatus.TRACKED] *= UNCERTAIN_FACTOR
        z, r, sides = z[:, None], r[:, None], sides[:, None]

        known = state.count > 0
        fresh = ~known | (stamp_ns > state.stamp_ns)
        dt = np.where(known & fresh, stamp_ns - state.stamp_ns, 0)[:, None, None] * 1e-9
        prior, mixed, drift, pp, pv, vv = self._mix(state, dt)
        reach, e, qxx, qxv, qvv = kernel(dt, self._memory)
        q = (self._drive * doubled_sides(_mean(state.position, state.weight))[:, None]) ** 2
        position = mixed + reach * drift
        s = pp + 2 * reach * pv + reach**2 * vv + q * qxx
        pv = e * (pv + reach * vv) + q * qxv
        vv = e**2 * vv + q * qvv
        pp, s = s, s + r

        innovation = z - position
        misfit = innovation**2 / s
        begins = ~known | (misfit.min(axis=1).sum(axis=1) > self._config.gate**2)
        # Likelihoods relative to the best kind's, so that none underflows.
        log_likelihood = -(misfit + np.log(s)) / 2
        weight = prior * np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        gain_p, gain_v = pp / s, pv / s
        taken = fresh & (~known | (status != TrackStatus.LOST))
        begin, take = begins[:, None, None], taken[:, None, None]

        def settle(filtered: FloatArray, begun: FloatArray, before: FloatArray) -> FloatArray:
            return np.where(take, np.where(begin, begun, filtered), before)

        still = np.zeros_like(position)
        return ImmState(
            np.where(taken, stamp_ns, state.stamp_ns),
            settle(position + gain_p * innovation, z, state.position),
            settle(e * drift + gain_v * innovation, still, state.velocity),
            settle((1 - gain_p) * pp, r, state.pp),
            settle((1 - gain_p) * pv, still, state.pv),
            settle(vv - gain_v * pv, (START_VELOCITY * sides) ** 2, state.vv),
            settle(weight, still + 1 / self._kinds, state.weight),
            np.where(taken, np.where(begins, 1, state.count + 1), state.count),
            np.where(fresh, status, state.status),
        )

    def predict(self, state: ImmState, valid_at_ns: IntArray) -> Estimates:
        dt = (valid_at_ns - state.stamp_ns[:, None]) * 1e-9
        within = np.clip(dt, 0, self._config.max_horizon_ms * 1e-3)[..., None, None]
        reach, _, qxx, _, _ = kernel(within, self._memory)
        weight = state.weight[:, None]
        each = state.position[:, None] + reach * state.velocity[:, None]
        boxes = _mean(each, weight, axis=2)
        q = (self._drive * doubled_sides(_mean(state.position, state.weight))[:, None]) ** 2
        moved = 2 * reach * state.pv[:, None] + reach**2 * state.vv[:, None]
        spread = state.pp[:, None] + moved + q[:, None] * qxx + (each - boxes[:, :, None]) ** 2
        boxes[..., 2:] = np.maximum(boxes[..., 2:], MIN_SIDE_PX)
        boxes[..., :2] -= boxes[..., 2:] / 2
        status = forecast_status(self._config, dt, state.count > 1, state.status)
        return Estimates(boxes, _mean(spread, weight, axis=2), status)

    def _mix(self, state: ImmState, dt: FloatArray) -> tuple[FloatArray, ...]:
        """Each kind's probability and its filter's start after a possible change of kind:
        prior, position, velocity, pp, pv, vv, all (N, M, 4)."""
        stay = np.exp(-dt / self._config.imm_dwell_s)[..., None]
        transition = stay * np.eye(self._kinds)[:, :, None] + (1 - stay) / self._kinds
        joint = state.weight[:, :, None] * transition  # (N, from, to, 4)
        prior = joint.sum(axis=1)
        share = joint / np.maximum(prior, np.finfo(np.float64).tiny)[:, None]

        def blend(values: FloatArray) -> FloatArray:
            return np.asarray((share * values).sum(axis=1))

        x, v = state.position[:, :, None], state.velocity[:, :, None]
        position, velocity = blend(x), blend(v)
        dx, dv = x - position[:, None], v - velocity[:, None]
        return (
            prior,
            position,
            velocity,
            blend(state.pp[:, :, None] + dx * dx),
            blend(state.pv[:, :, None] + dx * dv),
            blend(state.vv[:, :, None] + dv * dv),
        )


def _mean(values: FloatArray, weight: FloatArray, axis: int = 1) -> FloatArray:
    """Mean over the kinds of motion."""
    return np.asarray((values * weight).sum(axis=axis))
