"""Objects in metric space: held to filterpy's filter, and existence as evidence."""

import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import KalmanFilter

from comms.motion import (
    MISSED,
    START_SPEED,
    MetricFilter,
    densities,
    horizontal,
    moved_covariances,
    predicted,
)
from pipeline.objects import ObjectClass, Objects
from tests.comms.made import MS, NOW, covariances, objects
from tests.comms.scenes import things


def transition(dt, q):
    F = np.eye(6)
    F[:3, 3:] = dt * np.eye(3)
    Q = Q_continuous_white_noise(2, abs(dt), q, block_size=3, order_by_dim=False)
    if dt < 0:  # the same drive, seen from its end
        Q[:3, 3:] *= -1
        Q[3:, :3] *= -1
    return F, Q


@pytest.mark.parametrize("dt", [0.0, 0.013, 0.5, 3.0, -0.2, -1.7])
def test_prediction_is_filterpys_with_continuous_white_noise(dt):
    some = objects(np.random.default_rng(1), 40)
    got = predicted(some, some.stamp_ns + round(dt * 1e9))
    for k, q in enumerate(densities(some)):
        F, Q = transition(dt, q)
        kf = KalmanFilter(6, 3)
        kf.x = np.hstack([some.positions[k], some.velocities[k]])[:, None]
        kf.P = some.covariances[k]
        kf.predict(F=F, Q=Q)
        np.testing.assert_allclose(np.hstack([got.positions[k], got.velocities[k]]), kf.x[:, 0])
        np.testing.assert_allclose(got.covariances[k], kf.P, rtol=1e-9, atol=1e-12)


def test_two_steps_are_as_one():
    some = objects(np.random.default_rng(2), 30)
    once = predicted(some, NOW + 900 * MS)
    twice = predicted(predicted(some, NOW + 137 * MS), NOW + 900 * MS)
    np.testing.assert_allclose(twice.positions, once.positions)
    np.testing.assert_allclose(twice.covariances, once.covariances, rtol=1e-9)


@pytest.mark.parametrize("dt", [0.3, -0.3, 2.0, -2.0])
def test_going_there_and_back_never_makes_surer(dt):
    rng = np.random.default_rng(3)
    P, q = covariances(rng, 50, 6), rng.uniform(0.1, 3, 50)
    there = moved_covariances(P, np.full(50, dt), q)
    back = moved_covariances(there, np.full(50, -dt), q)
    assert (np.linalg.eigvalsh(back - P).min(axis=1) >= -1e-9).all()
    assert (np.linalg.eigvalsh(there).min(axis=1) > 0).all()


def test_the_past_is_as_unsure_as_the_future():
    some = things([(0, 0)], (5.0, 0.0))
    before, after = predicted(some, NOW - 800 * MS), predicted(some, NOW + 800 * MS)
    assert horizontal(before.covariances)[0] == pytest.approx(horizontal(after.covariances)[0])
    assert horizontal(before.covariances)[0] > horizontal(some.covariances)[0]


def test_horizontal_is_the_longer_axis_on_the_ground():
    P = covariances(np.random.default_rng(4), 60, 6)
    longest = np.sqrt(np.linalg.eigvalsh(P[:, :2, :2])[:, -1])
    np.testing.assert_allclose(horizontal(P), longest)


def test_the_filter_is_filterpys_over_irregular_looks():
    rng = np.random.default_rng(5)
    mine = MetricFilter(max_age_s=5)
    R = np.diag([0.3, 0.2, 0.1]) ** 2
    kf, stamp, truth = None, NOW, np.array([4.0, -3.0, 0.5])
    for step in range(30):
        dt = 0.0 if step == 0 else float(rng.uniform(0.02, 0.3))
        stamp += round(dt * 1e9)
        truth = truth + dt * np.array([6.0, 1.0, 0.0])
        seen = truth + rng.normal(0, 0.2, 3)
        look = things([seen], stamp_ns=stamp)
        P = np.zeros((1, 6, 6))
        P[0, :3, :3] = R
        got = mine.observe(look.derived(covariances=P))
        if kf is None:
            kf = KalmanFilter(6, 3)
            kf.H = np.eye(3, 6)
            kf.x = np.append(seen, np.zeros(3))[:, None]
            first = START_SPEED[ObjectClass.CAR] ** 2
            kf.P = np.diag([0.09, 0.04, 0.01, first, first, 0.01 * first])
        else:
            q = densities(things([seen], kf.x[3:, 0]))[0]
            F, Q = transition(dt, q)
            kf.predict(F=F, Q=Q)
            kf.update(seen[:, None], R=R)
        state = np.hstack([got.positions[0], got.velocities[0]])
        np.testing.assert_allclose(state, kf.x[:, 0], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(got.covariances[0], kf.P, rtol=1e-6, atol=1e-9)
    assert abs(got.velocities[0, 0] - 6) < 0.5


def test_looks_at_a_real_thing_make_it_surer_and_looks_that_miss_it_less():
    mine = MetricFilter(max_age_s=5)
    sure = [
        mine.observe(things([(0, 0)], stamp_ns=NOW + k * 100 * MS)).quality[0] for k in range(4)
    ]
    assert sure == sorted(sure)
    assert sure[-1] > 0.97
    missed = [mine.observe(Objects.none(NOW + k * 100 * MS)).quality[0] for k in range(4, 10)]
    assert missed == sorted(missed, reverse=True)
    odds = np.array(missed) / (1 - np.array(missed))
    np.testing.assert_allclose(odds[1:] / odds[:-1], MISSED)


def test_a_first_look_is_believed_less_than_its_own_quality():
    for quality in (0.5, 0.8, 0.97):
        begun = MetricFilter().observe(things([(0, 0)], quality=quality))
        assert begun.quality[0] < quality


def test_what_was_not_measured_for_long_is_forgotten():
    mine = MetricFilter(max_age_s=1.0)
    mine.observe(things([(0, 0), (9, 0)], ids=[1, 2]))
    assert mine.observe(things([(0, 0)], ids=[1], stamp_ns=NOW + 900 * MS)).ids.tolist() == [1, 2]
    late = mine.observe(things([(0, 0)], ids=[1], stamp_ns=NOW + 1100 * MS))
    assert late.ids.tolist() == [1]


def test_a_look_out_of_order_changes_nothing():
    mine = MetricFilter()
    after = mine.observe(things([(1, 0)]))
    assert mine.observe(things([(5, 0)], stamp_ns=NOW - 50 * MS)) is after
    mine.reset()
    assert mine.observe(things([(5, 0)], stamp_ns=NOW - 50 * MS)).positions[0, 0] == 5


def test_errors_are_as_large_as_the_covariances_say():
    """Normalized estimation error squared of 400 objects that move as the model says: chi-squared
    of 6 degrees of freedom, whose mean over 400 is 6 ± 0.17 (one sigma)."""
    rng = np.random.default_rng(6)
    n, dt, q = 400, 0.1, 2.0
    x = np.zeros((n, 6))
    x[:, 3:] = rng.normal(0, 8, (n, 3)) * [1, 1, 0.1]
    F, Q = transition(dt, q)
    mine = MetricFilter(max_age_s=5)
    for k in range(15):
        seen = x[:, :3] + rng.normal(0, 0.2, (n, 3))
        fast = np.linalg.norm(x[:, 3:5], axis=1) > 4  # below, the model is driven less
        got = mine.observe(things(seen, stamp_ns=NOW + round(k * dt * 1e9)))
        error = np.hstack([got.positions, got.velocities]) - x[got.ids - 1]
        x = x @ F.T + rng.multivariate_normal(np.zeros(6), Q, n)
    nees = (error * np.linalg.solve(got.covariances, error[..., None])[..., 0]).sum(axis=1)
    assert nees[fast[got.ids - 1]].mean() == pytest.approx(6, abs=0.7)
