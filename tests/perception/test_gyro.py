"""Rotations from samples: exact on SO(3), honest about what no sample covers."""

import cv2
import numpy as np
import pytest

from perception.gyro import (
    MAX_GAP_NS,
    MAX_HELD_NS,
    MAX_SAMPLES,
    Gyro,
    GyroStatus,
    product,
    rotations,
)
from pipeline.imu import GyroCalibration, ImuSamples

MS = 1_000_000
NO_BIAS = np.zeros(3)


def samples(rate, start_ns=0, end_ns=1000 * MS, period_ns=MS):
    """Of a rate that is a function of the seconds."""
    stamps = np.arange(start_ns, end_ns + 1, period_ns)
    return ImuSamples(stamps, np.array([rate(t) for t in (stamps * 1e-9).tolist()], np.float64))


def steady(t):
    return (0.7, -1.9, 3.1)


def tumbling(t):
    return (2.1 * np.sin(11 * t), 1.3 * np.cos(7 * t), 0.4 + 3 * np.sin(5 * t + 1))


def gyro(*batches, now_ns=1000 * MS, **calibration):
    made = Gyro(GyroCalibration(np.eye(3), **calibration))
    for batch in batches:
        made.feed(batch)
    made.take(now_ns)
    return made


def integrated(rate, start, end, steps=20_000):
    """The orientation at the end in the axes of the start, by brute force."""
    t = start + (np.arange(steps) + 0.5) * (end - start) / steps
    return product(rotations(np.array([rate(s) for s in t]) * ((end - start) / steps)))


def angle_between(a, b):
    return float(np.linalg.norm(cv2.Rodrigues(a @ b.T)[0]))


def test_rotation_vectors_become_rotations():
    vectors = np.array([[0.3, -0.7, 1.1], [0, 0, 0], [1e-9, 0, 0], [0, 3.0, 0]])
    for made, vector in zip(rotations(vectors), vectors, strict=True):
        np.testing.assert_allclose(made, cv2.Rodrigues(vector)[0], atol=1e-12)


def test_a_direction_turns_against_the_imu():
    turn = gyro(samples(steady)).turn(0, 500 * MS, NO_BIAS)
    np.testing.assert_allclose(turn.matrix, rotations(np.array([steady(0)]) * 0.5)[0].T, atol=1e-9)
    quarter = gyro(samples(lambda t: (0, 0, np.pi))).turn(0, 500 * MS, NO_BIAS).matrix
    # A craft that turns left by 90 degrees has on its right what was ahead: x ahead, y left.
    np.testing.assert_allclose(quarter @ [1, 0, 0], [0, -1, 0], atol=1e-9)


@pytest.mark.parametrize(("hz", "limit"), [(1000, 2e-6), (200, 4e-5), (50, 7e-4)])
def test_a_tumble_is_followed_from_between_two_samples_to_between_two_others(hz, limit):
    made = gyro(samples(tumbling, period_ns=10**9 // hz))
    turn = made.turn(203_300_000, 341_700_000, NO_BIAS)
    truth = integrated(tumbling, 0.2033, 0.3417).T
    assert angle_between(turn.matrix, truth) < limit
    assert turn.status == GyroStatus.COVERED
    assert angle_between(turn.matrix, truth) < 3 * np.sqrt(turn.variance)


def test_parts_make_the_whole():
    made = gyro(samples(tumbling))
    first, second, whole = (
        made.turn(a * MS, b * MS, NO_BIAS).matrix for a, b in ((100, 157), (157, 230), (100, 230))
    )
    np.testing.assert_allclose(second @ first, whole, atol=1e-7)


def test_bias_and_offset_are_taken_off():
    bias = np.array([0.01, -0.05, 0.02])
    shifted = samples(lambda t: tumbling(t - 0.0125) + bias)
    turn = gyro(shifted, offset_ns=12_500_000).turn(300 * MS, 400 * MS, bias)
    assert angle_between(turn.matrix, integrated(tumbling, 0.3, 0.4).T) < 1e-5


def test_disordered_repeated_and_broken_samples_are_counted_and_cost_nothing():
    clean = samples(tumbling, end_ns=400 * MS)
    order = np.arange(len(clean))
    order[100], order[101] = 101, 100
    order = np.insert(order, 300, [200, 250])  # a packet that came twice
    stamps, rates = clean.stamps_ns[order], clean.rates[order]
    broken = ImuSamples(
        np.array([50_500_000, 60_500_000, 70_500_000]),
        np.array([[np.nan, 0, 0], [0, 36.0, 0], [0, 0, -np.inf]]),
    )
    made = gyro(
        ImuSamples(stamps[:150], rates[:150]), broken, ImuSamples(stamps[150:], rates[150:])
    )
    expected = gyro(clean).turn(33 * MS, 366 * MS, NO_BIAS)
    found = made.turn(33 * MS, 366 * MS, NO_BIAS)
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    counts = made.counts
    assert (counts.used, counts.late, counts.repeated, counts.impossible) == (401, 3, 2, 3)


def test_a_sample_that_comes_after_its_frame_is_sorted_in():
    early = samples(tumbling, end_ns=300 * MS)
    made = gyro(early, now_ns=300 * MS)
    late = samples(tumbling, 301 * MS, 400 * MS)
    made.feed(ImuSamples(late.stamps_ns[50:], late.rates[50:]))
    made.take(400 * MS)
    made.feed(ImuSamples(late.stamps_ns[:50], late.rates[:50]))
    made.take(433 * MS)
    found = made.turn(280 * MS, 390 * MS, NO_BIAS)
    assert angle_between(found.matrix, integrated(tumbling, 0.28, 0.39).T) < 1e-5


@pytest.mark.parametrize("apart_ns", [3600 * 10**9, -5 * 10**9, 1_700_000_000 * 10**9])
def test_samples_of_another_clock_are_counted_and_not_used(apart_ns):
    wrong = samples(steady)
    made = gyro(ImuSamples(wrong.stamps_ns + apart_ns, wrong.rates))
    assert made.foreign
    assert (made.counts.other_clock, made.counts.used) == (1001, 0)
    assert made.turn(100 * MS, 200 * MS, NO_BIAS).status == GyroStatus.UNCOVERED
    made.feed(samples(steady))
    made.take(1000 * MS)
    assert not made.foreign
    assert made.turn(100 * MS, 200 * MS, NO_BIAS).status == GyroStatus.COVERED


def test_frames_that_pause_do_not_make_the_samples_foreign():
    made = gyro(samples(steady, end_ns=9000 * MS), now_ns=9000 * MS)
    assert made.counts.other_clock == 0 and not made.foreign
    assert made.turn(8900 * MS, 9000 * MS, NO_BIAS).status == GyroStatus.COVERED


def test_a_gap_is_not_bridged():
    whole = samples(tumbling)
    keep = (whole.stamps_ns < 400 * MS) | (whole.stamps_ns > 400 * MS + MAX_GAP_NS + MS)
    made = gyro(ImuSamples(whole.stamps_ns[keep], whole.rates[keep]))
    turn = made.turn(390 * MS, 480 * MS, NO_BIAS)
    assert turn.status == GyroStatus.UNCOVERED
    assert np.isinf(turn.variance)
    np.testing.assert_array_equal(turn.matrix, np.eye(3))
    assert made.turn(480 * MS, 500 * MS, NO_BIAS).status == GyroStatus.COVERED


def test_the_last_rate_is_held_for_a_moment_and_not_longer():
    made = gyro(samples(tumbling, end_ns=500 * MS))
    covered = made.turn(450 * MS, 500 * MS, NO_BIAS)
    held = made.turn(450 * MS, 506 * MS, NO_BIAS)
    assert held.status == GyroStatus.PARTLY
    assert held.variance > covered.variance
    error = angle_between(held.matrix, integrated(tumbling, 0.45, 0.506).T)
    assert error < 3 * np.sqrt(held.variance)
    beyond = made.turn(450 * MS, 501 * MS + MAX_HELD_NS, NO_BIAS)
    assert beyond.status == GyroStatus.UNCOVERED
    assert made.turn(2000 * MS, 2033 * MS, NO_BIAS).status == GyroStatus.UNCOVERED


def test_no_samples_cover_nothing():
    made = gyro()
    assert made.turn(0, 33 * MS, NO_BIAS).status == GyroStatus.UNCOVERED
    made.feed(ImuSamples(np.empty(0, np.int64), np.empty((0, 3))))
    made.take(33 * MS)
    assert made.turn(0, 33 * MS, NO_BIAS).status == GyroStatus.UNCOVERED


def test_noise_makes_the_variance_that_is_told():
    noise, hz = 2e-3, 1000
    rng = np.random.default_rng(7)
    angles = []
    for _ in range(400):
        drawn = samples(steady, end_ns=150 * MS)
        rates = drawn.rates + rng.normal(size=drawn.rates.shape) * noise * np.sqrt(hz)
        made = gyro(ImuSamples(drawn.stamps_ns, rates), noise=noise, now_ns=150 * MS)
        turn = made.turn(20 * MS, 120 * MS, NO_BIAS)
        truth = rotations(np.array([steady(0)]) * 0.1)[0].T
        angles.append(cv2.Rodrigues(turn.matrix @ truth.T)[0].ravel())
    assert np.var(angles) == pytest.approx(turn.variance, rel=0.15)
    assert turn.variance == pytest.approx(noise**2 * 0.1, rel=0.05)


def test_memory_is_bounded_and_jumps_are_forgotten():
    made = gyro()
    for k in range(20):
        made.feed(samples(steady, k * 10**9, (k + 1) * 10**9, period_ns=100_000))
        made.take((k + 1) * 10**9)
    assert len(made._stamps) <= MAX_SAMPLES
    for k in range(10_000):  # nobody takes them
        made.feed(samples(steady, k * MS, k * MS))
    assert len(made._inbox) < 10_000
    made.reset()
    assert made.turn(19 * 10**9, 19_500 * MS, NO_BIAS).status == GyroStatus.UNCOVERED
