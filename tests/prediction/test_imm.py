"""The interacting filters against filterpy's estimator, and what they are for."""

import numpy as np
import pytest
from filterpy.common import van_loan_discretization
from filterpy.kalman import IMMEstimator, KalmanFilter

from pipeline.box import from_center, to_center
from pipeline.errors import InputError
from pipeline.tracks import TrackStatus
from prediction.imm import ImmPredictor
from prediction.kalman import KalmanPredictor
from prediction.predictor import PredictorConfig

MS = 1_000_000
CONFIG = PredictorConfig(
    imm_acceleration_sigmas=(0.3, 2.5, 9.0),
    imm_growth_sigmas=(0.05, 0.4, 1.1),
    imm_memories_s=(0.4, 2.0, 5.0),
    imm_dwell_s=0.7,
    center_noise=0.03,
    size_noise=0.06,
    gate=100.0,
)


class Reference:
    """One axis of one target as filterpy's estimator of M two-state filters."""

    def __init__(self, config: PredictorConfig, axis: int, z: float, side: float, r: float) -> None:
        self.config = config
        drives = config.imm_acceleration_sigmas if axis < 2 else config.imm_growth_sigmas
        self.models = list(zip(drives, config.imm_memories_s, strict=True))
        filters = []
        for _ in self.models:
            kf = KalmanFilter(dim_x=2, dim_z=1)
            kf.H, kf.x = np.array([[1.0, 0.0]]), np.array([[z], [0.0]])
            kf.P = np.diag([r, (3.0 * side) ** 2])
            filters.append(kf)
        m = len(filters)
        self.imm = IMMEstimator(filters, np.full(m, 1 / m), np.eye(m))
        self.imm.mu = np.full(m, 1 / m)

    def transition(self, kind, side, dt):
        drive, memory = self.models[kind]
        A = np.array([[0, 1], [0, -1 / memory]])
        return van_loan_discretization(A, np.array([[0], [drive * side]]), dt)

    def observe(self, dt, z, r, side):
        m = len(self.models)
        stay = np.exp(-dt / self.config.imm_dwell_s)
        self.imm.M = stay * np.eye(m) + (1 - stay) / m
        self.imm._compute_mixing_probabilities()
        for kind, kf in enumerate(self.imm.filters):
            kf.F, kf.Q = self.transition(kind, side, dt)
            kf.R = np.array([[r]])
        self.imm.predict()
        self.imm.update(np.array([[z]]))

    def predict(self, dt, side):
        means, variances = [], []
        for kind, kf in enumerate(self.imm.filters):
            F, Q = self.transition(kind, side, dt)
            means.append((F @ kf.x)[0, 0])
            variances.append((F @ kf.P @ F.T + Q)[0, 0])
        mu = self.imm.mu
        mean = mu @ means
        return mean, mu @ (np.array(variances) + (np.array(means) - mean) ** 2)

    @property
    def position(self):
        return self.imm.mu @ [kf.x[0, 0] for kf in self.imm.filters]


def test_equals_filterpys_estimator_over_irregular_time_for_many_targets_at_once():
    rng = np.random.default_rng(4)
    n, steps = 3, 25
    gaps = rng.integers(7, 300, (steps, n)) * MS + rng.integers(0, MS, (steps, n))
    stamps = 10**18 + np.cumsum(gaps, axis=0)
    sides = rng.uniform(30, 80, (n, 2)) * np.exp(np.cumsum(rng.normal(0, 0.02, (steps, n, 2)), 0))
    speed = np.cumsum(rng.normal(0, 4, (steps, n, 2)), axis=0)
    centers = 500 + np.cumsum(speed, axis=0)
    boxes = np.concatenate([centers, sides], axis=2)
    status = rng.choice([TrackStatus.TRACKED, TrackStatus.UNCERTAIN], (steps, n)).astype(np.uint8)
    predictor = ImmPredictor(CONFIG)
    state = predictor.blank(n)
    for k in range(steps):
        state = predictor.observe(state, stamps[k], from_center(boxes[k]), status[k])
    valid_at = stamps.max() + np.array([4, 150]) * MS
    found = predictor.predict(state, valid_at)
    centered = to_center(found.boxes)

    noise = np.repeat([CONFIG.center_noise, CONFIG.size_noise], 2)
    for i in range(n):
        r = (noise * np.tile(sides[:, i], 2)) ** 2
        r *= np.where(status[:, i] == TrackStatus.TRACKED, 1, 9)[:, None]
        first = np.tile(sides[0, i], 2)
        axes = [Reference(CONFIG, a, boxes[0, i, a], first[a], r[0, a]) for a in range(4)]
        for k in range(1, steps):
            side = [axes[2].position, axes[3].position] * 2
            for a in range(4):
                axes[a].observe(gaps[k, i] * 1e-9, boxes[k, i, a], r[k, a], side[a])
        side = [axes[2].position, axes[3].position] * 2
        for a in range(4):
            np.testing.assert_allclose(state.weight[i, :, a], axes[a].imm.mu, atol=1e-9)
            for h in range(2):
                dt = (valid_at[h] - stamps[-1, i]) * 1e-9
                mean, variance = axes[a].predict(dt, side[a])
                np.testing.assert_allclose(centered[i, h, a], mean, rtol=1e-9)
                np.testing.assert_allclose(found.variances[i, h, a], variance, rtol=1e-9)


def test_one_kind_alone_is_the_kalman_filter():
    config = PredictorConfig(
        imm_acceleration_sigmas=(3.0,), imm_growth_sigmas=(0.3,), imm_memories_s=(3.0,)
    )
    rng = np.random.default_rng(1)
    predictors = [ImmPredictor(config), KalmanPredictor(config)]
    states = [p.blank(2) for p in predictors]
    for k in range(12):
        stamps = np.array([k * 70, k * 110 + 3]) * MS
        boxes = rng.normal(0, 2, (2, 4)) + [100 + 9 * k, 80, 40, 30]
        states = [
            p.observe(s, stamps, boxes, np.zeros(2, np.uint8))
            for p, s in zip(predictors, states, strict=True)
        ]
    moments = np.array([1300, 1500]) * MS
    a, b = (p.predict(s, moments) for p, s in zip(predictors, states, strict=True))
    np.testing.assert_allclose(a.boxes, b.boxes, rtol=1e-12)
    np.testing.assert_allclose(a.variances, b.variances, rtol=1e-10)


def test_the_weights_follow_the_motion_from_steady_to_abrupt():
    predictor = ImmPredictor(CONFIG)
    state = predictor.blank(1)
    weights = []
    for k in range(40):
        x = 100.0 + 2 * k if k < 25 else 150.0 + 12 * (-1) ** k
        box = np.array([[x, 50.0, 40.0, 30.0]])
        state = predictor.observe(state, np.array([k * 33 * MS]), box, np.zeros(1, np.uint8))
        weights.append(state.weight[0, :, 0])
    assert weights[24][2] < 0.2 < 0.5 < weights[32][2]


@pytest.mark.parametrize("lists", [{"imm_memories_s": (1.0, 2.0)}, {"imm_growth_sigmas": ()}])
def test_lists_of_unequal_length_are_refused(lists):
    with pytest.raises(InputError, match="one length"):
        PredictorConfig(**lists)
