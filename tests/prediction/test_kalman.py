"""The Kalman predictor against filterpy's general filter and against its own process."""

from dataclasses import fields

import numpy as np
import pytest
from filterpy.common import van_loan_discretization
from filterpy.kalman import KalmanFilter

from pipeline.box import from_center
from pipeline.tracks import ForecastStatus, TrackStatus
from prediction.kalman import KalmanPredictor
from prediction.make import make_predictor
from prediction.predictor import PREDICTORS, PredictorConfig, select

CONFIG = PredictorConfig(
    acceleration_sigma=2.5,
    growth_sigma=0.4,
    velocity_memory_s=1.7,
    center_noise=0.03,
    size_noise=0.06,
    gate=100.0,
)
MS = 1_000_000


class Reference:
    """The model of the module's docstring as one 8-state filterpy filter."""

    def __init__(self, config: PredictorConfig, box: np.ndarray, uncertain: bool = False) -> None:
        self.config = config
        self.kf = KalmanFilter(dim_x=8, dim_z=4)
        self.kf.H = np.eye(4, 8)
        self.kf.x = np.append(box, np.zeros(4))[:, None]
        first_velocity = (3.0 * np.tile(box[2:], 2)) ** 2
        self.kf.P = np.diag(np.append(self.r(box, uncertain), first_velocity))

    def r(self, box, uncertain):
        c = self.config
        sigma = np.array([c.center_noise, c.center_noise, c.size_noise, c.size_noise])
        return (sigma * np.tile(box[2:], 2)) ** 2 * (9 if uncertain else 1)

    def transition(self, dt):
        c = self.config
        drive = np.array([c.acceleration_sigma] * 2 + [c.growth_sigma] * 2)
        drive *= np.tile(self.kf.x[2:4, 0], 2)
        F, Q = np.zeros((8, 8)), np.zeros((8, 8))
        for axis in range(4):
            A = np.array([[0, 1], [0, -1 / c.velocity_memory_s]])
            phi, q = van_loan_discretization(A, np.array([[0], [drive[axis]]]), dt)
            at = np.ix_([axis, axis + 4], [axis, axis + 4])
            F[at], Q[at] = phi, q
        return F, Q

    def observe(self, dt, box, uncertain=False):
        F, Q = self.transition(dt)
        self.kf.predict(F=F, Q=Q)
        self.kf.update(box[:, None], R=np.diag(self.r(box, uncertain)))

    def predict(self, dt):
        F, Q = self.transition(dt)
        return (F @ self.kf.x)[:4, 0], (F @ self.kf.P @ F.T + Q)[:4, :4]


def walk(rng, steps):
    """Centered boxes (steps, 4) of a target that wanders, and irregular stamps."""
    velocity = np.cumsum(rng.normal(0, 3, (steps, 2)), axis=0)
    centers = rng.uniform(100, 900, 2) + np.cumsum(velocity, axis=0)
    sides = rng.uniform(20, 90, 2) * np.exp(np.cumsum(rng.normal(0, 0.02, (steps, 2)), axis=0))
    return np.hstack([centers, sides])


def observe_all(predictor, stamps, boxes, status=None):
    """The state after (k, n, 4) centered boxes at (k, n) stamps."""
    status = np.zeros(stamps.shape, np.uint8) if status is None else status
    state = predictor.blank(stamps.shape[1])
    for at, seen, how in zip(stamps, from_center(boxes), status, strict=True):
        state = predictor.observe(state, at, seen, how)
    return state


def test_equals_filterpys_eight_state_filter_over_irregular_time_for_many_targets_at_once():
    rng = np.random.default_rng(3)
    n, steps = 5, 40
    gaps = rng.integers(7, 400, (steps, n)) * MS + rng.integers(0, MS, (steps, n))
    stamps = 10**18 + np.cumsum(gaps, axis=0)
    boxes = np.stack([walk(rng, steps) for _ in range(n)], axis=1)
    status = rng.choice([TrackStatus.TRACKED, TrackStatus.UNCERTAIN], (steps, n)).astype(np.uint8)
    predictor = KalmanPredictor(CONFIG)
    state = observe_all(predictor, stamps, boxes, status)
    valid_at = stamps.max() + np.array([5, 130]) * MS
    found = predictor.predict(state, valid_at)

    for i in range(n):
        reference = Reference(CONFIG, boxes[0, i], bool(status[0, i]))
        for k in range(1, steps):
            reference.observe(gaps[k, i] * 1e-9, boxes[k, i], bool(status[k, i]))
        x, P = reference.kf.x[:, 0], reference.kf.P
        np.testing.assert_allclose(state.position[i], x[:4], rtol=1e-9)
        np.testing.assert_allclose(state.velocity[i], x[4:], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(state.pp[i], np.diag(P)[:4], rtol=1e-9)
        np.testing.assert_allclose(state.pv[i], np.diag(P[:4, 4:]), rtol=1e-9)
        np.testing.assert_allclose(state.vv[i], np.diag(P)[4:], rtol=1e-9)
        for h, moment in enumerate(valid_at):
            dt = min((moment - stamps[-1, i]) * 1e-9, CONFIG.max_horizon_ms * 1e-3)
            mean, covariance = reference.predict(dt)
            np.testing.assert_allclose(found.boxes[i, h], from_center(mean), rtol=1e-9)
            np.testing.assert_allclose(found.variances[i, h], np.diag(covariance), rtol=1e-9)
            assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-9


def test_targets_do_not_influence_each_other():
    rng = np.random.default_rng(8)
    n, steps = 4, 12
    stamps = np.cumsum(rng.integers(10, 300, (steps, n)), axis=0) * MS
    boxes = np.stack([walk(rng, steps) for _ in range(n)], axis=1)
    predictor = KalmanPredictor(PredictorConfig())
    together = observe_all(predictor, stamps, boxes)
    for i in range(n):
        alone = observe_all(predictor, stamps[:, i : i + 1], boxes[:, i : i + 1])
        for f in fields(alone):
            row = getattr(select(together, np.array([i])), f.name)
            np.testing.assert_array_equal(row, getattr(alone, f.name))


def simulated(rng, config, n, steps):
    """Targets of the model's own process by Euler steps of 1 ms, x only: truth and observation."""
    side = 40.0
    v = rng.normal(0, 3.0 * side, n)
    x = rng.uniform(200, 400, n)
    stamps, seen = [], []
    now = 0
    for _ in range(steps):
        for _ in range(int(rng.integers(20, 180))):
            x = x + v * 1e-3
            kick = config.acceleration_sigma * side * np.sqrt(1e-3) * rng.standard_normal(n)
            v = v - v / config.velocity_memory_s * 1e-3 + kick
            now += MS
        stamps.append(now)
        observed = x + config.center_noise * side * rng.standard_normal(n)
        seen.append(np.stack([observed, np.full(n, 50.0), np.full(n, side), np.full(n, side)], 1))
    return np.array(stamps), np.array(seen), x, v


@pytest.mark.parametrize("horizon_ms", [50, 250])
def test_ninety_percent_intervals_cover_what_its_own_process_does(horizon_ms):
    rng = np.random.default_rng(11)
    config = PredictorConfig(gate=100.0)
    n, steps = 800, 25
    stamps, seen, x, v = simulated(rng, config, n, steps)
    for _ in range(horizon_ms):
        x = x + v * 1e-3
        kick = config.acceleration_sigma * 40.0 * np.sqrt(1e-3) * rng.standard_normal(n)
        v = v - v / config.velocity_memory_s * 1e-3 + kick
    predictor = KalmanPredictor(config)
    state = observe_all(predictor, np.repeat(stamps[:, None], n, 1), seen)
    found = predictor.predict(state, stamps[-1:] + horizon_ms * MS)
    center = found.boxes[:, 0, 0] + found.boxes[:, 0, 2] / 2
    sigmas = (center - x) / np.sqrt(found.variances[:, 0, 0])
    assert 0.86 < np.mean(np.abs(sigmas) < 1.645) < 0.94
    assert abs(sigmas.mean()) < 0.15


def moving(predictor, count=10, velocity=(300.0, -120.0), gap_ms=40):
    """A state of one target that moves steadily, its last stamp and center."""
    stamps = np.arange(count)[:, None] * gap_ms * MS
    centers = np.array([500.0, 400.0]) + np.arange(count)[:, None] * gap_ms * 1e-3 * velocity
    boxes = np.hstack([centers, np.full((count, 1), 60.0), np.full((count, 1), 30.0)])
    return observe_all(predictor, stamps, boxes[:, None]), int(stamps[-1, 0]), centers[-1]


def test_variance_grows_with_the_horizon_and_ends_where_the_forecast_ends():
    predictor = KalmanPredictor(PredictorConfig(max_horizon_ms=700))
    state, last, _ = moving(predictor)
    found = predictor.predict(state, last + np.array([0, 30, 100, 300, 700, 5000]) * MS)
    grown = np.diff(found.variances[0], axis=0)
    assert (grown[:4] > 0).all() and (grown[4] == 0).all()
    assert found.status[0].tolist() == [ForecastStatus.OK] * 5 + [ForecastStatus.STALE]
    np.testing.assert_array_equal(found.boxes[0, 4], found.boxes[0, 5])


def test_learns_velocity_from_true_time_not_from_counts():
    predictor = KalmanPredictor(PredictorConfig(velocity_memory_s=100.0))
    for gap_ms in (10, 35, 120):
        state, last, center = moving(predictor, 30, gap_ms=gap_ms)
        ahead = predictor.predict(state, np.array([last + 100 * MS])).boxes[0, 0]
        found = ahead[:2] + ahead[2:] / 2 - center
        np.testing.assert_allclose(found, [30.0, -12.0], atol=0.8)


def test_a_jump_beyond_the_gate_restarts_at_the_new_place_with_unknown_velocity():
    predictor = KalmanPredictor(PredictorConfig())
    state, last, center = moving(predictor)
    there = from_center(np.array([[center[0] + 900, center[1], 60, 30]]))
    state = predictor.observe(state, np.array([last + 40 * MS]), there, np.zeros(1, np.uint8))
    assert state.count.tolist() == [1] and not state.velocity.any()
    found = predictor.predict(state, np.array([last + 140 * MS]))
    np.testing.assert_allclose(found.boxes[0, 0], there[0])
    assert found.status[0, 0] == ForecastStatus.PRIOR


def test_a_step_inside_the_gate_is_filtered_not_believed():
    predictor = KalmanPredictor(PredictorConfig())
    state, last, center = moving(predictor)
    expected = center + np.array([12.0, -4.8])
    beside = from_center(np.array([[expected[0] + 6, expected[1], 60, 30]]))
    state = predictor.observe(state, np.array([last + 40 * MS]), beside, np.zeros(1, np.uint8))
    assert state.count.tolist() == [11]
    assert 0.5 < state.position[0, 0] - expected[0] < 5.5


def test_lost_answers_leave_the_motion_alone_and_say_lost():
    predictor = KalmanPredictor(PredictorConfig())
    state, last, center = moving(predictor)
    before = predictor.predict(state, np.array([last + 80 * MS]))
    wrong = np.array([[3.0, 3.0, 9.0, 9.0]])
    lost = predictor.observe(
        state, np.array([last + 40 * MS]), wrong, np.array([TrackStatus.LOST], np.uint8)
    )
    after = predictor.predict(lost, np.array([last + 80 * MS]))
    np.testing.assert_array_equal(after.boxes, before.boxes)
    assert after.status[0, 0] == ForecastStatus.LOST

    found_at = center + np.array([300.0, -120.0]) * 0.08
    again = from_center(np.array([[*found_at, 60.0, 30.0]]))
    found = predictor.observe(lost, np.array([last + 80 * MS]), again, np.zeros(1, np.uint8))
    assert predictor.predict(found, np.array([last + 90 * MS])).status[0, 0] == ForecastStatus.OK
    assert found.count.tolist() == [11]


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize("late_ms", [0, 15, 400])
def test_repeated_and_late_observations_change_nothing(name, late_ms):
    predictor = make_predictor(PredictorConfig(name=name))
    state, last, _ = moving(predictor)
    away = np.array([[0.0, 0.0, 10.0, 10.0]])
    for status in TrackStatus:
        same = predictor.observe(
            state, np.array([last - late_ms * MS]), away, np.array([status], np.uint8)
        )
        for f in fields(state):
            np.testing.assert_array_equal(getattr(same, f.name), getattr(state, f.name))


@pytest.mark.parametrize("name", PREDICTORS)
def test_predicting_leaves_the_state_untouched(name):
    predictor = make_predictor(PredictorConfig(name=name))
    state, last, _ = moving(predictor)
    before = {f.name: getattr(state, f.name).copy() for f in fields(state)}
    first = predictor.predict(state, last + np.array([0, 50, 900]) * MS)
    again = predictor.predict(state, last + np.array([0, 50, 900]) * MS)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    for name_, value in before.items():
        np.testing.assert_array_equal(getattr(state, name_), value)


def test_uncertain_answers_pull_less():
    predictor = KalmanPredictor(PredictorConfig())
    state, last, center = moving(predictor)
    aside = from_center(np.array([[center[0] + 20, center[1], 60, 30]]))
    pulled = [
        predictor.observe(
            state, np.array([last + 40 * MS]), aside, np.array([status], np.uint8)
        ).position[0, 0]
        for status in (TrackStatus.UNCERTAIN, TrackStatus.TRACKED)
    ]
    assert center[0] + 12 < pulled[0] < pulled[1] < center[0] + 20


def test_a_shrinking_target_keeps_a_side_of_a_pixel_and_finite_numbers():
    predictor = KalmanPredictor(PredictorConfig(velocity_memory_s=1000.0, max_horizon_ms=60_000))
    sides = np.linspace(30, 2, 12)
    boxes = np.stack([np.full(12, 50.0), np.full(12, 50.0), sides, sides], axis=1)
    state = observe_all(predictor, np.arange(12)[:, None] * 40 * MS, boxes[:, None])
    found = predictor.predict(state, np.array([60_000 * MS]))
    assert (found.boxes[0, 0, 2:] >= 1).all() and np.isfinite(found.variances).all()
