import numpy as np
import pytest

from prediction.path import Path

NS = 33_000_000


def walked(seed, steps=7, targets=2):
    """A path of some frames and what it was made of."""
    rng = np.random.default_rng(seed)
    path = Path.empty(np.array([0]))
    zero = [np.zeros((0, targets, sides)) for sides in (4, 2, 2)]
    start = rng.normal(100, 20, (targets, 4))
    noise = rng.uniform(1, 3, (targets, 2))
    none = np.zeros((0, targets), bool)
    path = path.with_targets(0, start, noise, *zero, none, none)
    increments = rng.normal(0, 5, (steps, targets, 4))
    variances = rng.uniform(0.2, 4, (steps, targets, 2))
    for k in range(steps):
        seen = np.ones(targets, bool)
        path = path.extended(
            (k + 1) * NS, increments[k], variances[k], np.zeros((targets, 2)), seen, seen, 32
        )
    return path, start, noise, increments, variances


def smoothed(start, noise, increments, variances, answers):
    """One coordinate by brute force: the joint Gaussian of all frames, conditioned."""
    mean = start + np.concatenate([[0], np.cumsum(increments)])
    spread = noise + np.concatenate([[0], np.cumsum(variances)])
    covariance = np.minimum(spread[:, None], spread)
    for k, z, r in answers:
        gain = covariance[:, k] / (covariance[k, k] + r)
        mean = mean + gain * (z - mean[k])
        covariance = covariance - np.outer(gain, covariance[k])
    return mean, np.diag(covariance)


def test_an_answer_corrects_the_path_as_the_joint_gaussian_says():
    path, start, noise, increments, variances = walked(0)
    place = np.array([90.0, 110, 4, 4.2])
    fixed = path.corrected(4, np.array([1]), place[None], np.array([[2.0, 0.5]]))
    for axis, group in ((0, 0), (1, 0), (2, 1), (3, 1)):
        mean, variance = smoothed(
            start[1, axis],
            noise[1, group],
            increments[:, 1, axis],
            variances[:, 1, group],
            [(4, place[axis], [2.0, 0.5][group])],
        )
        np.testing.assert_allclose(fixed.place[:, 1, axis], mean)
        np.testing.assert_allclose(fixed.variance[:, 1, group], variance)
        np.testing.assert_allclose(np.diff(mean), fixed.increment[1:, 1, axis])
    np.testing.assert_array_equal(fixed.place[:, 0], path.place[:, 0])
    assert fixed.anchor.tolist() == [0, 4 * NS]


def test_answers_in_order_are_the_filter_of_all_of_them():
    path, start, noise, increments, variances = walked(1)
    answers = [(2, 95.0, 1.5), (5, 120.0, 0.7)]
    for k, z, r in answers:
        path = path.corrected(k, np.array([0]), np.full((1, 4), z), np.full((1, 2), r))
    mean, variance = smoothed(
        start[0, 0], noise[0, 0], increments[:, 0, 0], variances[:, 0, 0], answers
    )
    np.testing.assert_allclose(path.place[5:, 0, 0], mean[5:])
    np.testing.assert_allclose(path.variance[5:, 0, 0], variance[5:])


def test_an_answer_out_of_order_counts_less_and_leaves_the_anchor():
    path, *_ = walked(2)
    rows, noise = np.array([0]), np.full((1, 2), 1.0)
    newer = path.corrected(5, rows, path.place[5, :1], noise)
    both = newer.corrected(2, rows, newer.place[2, :1] + 10, noise)
    assert both.anchor[0] == newer.anchor[0] == 5 * NS
    moved = both.place[-1, 0, 0] - newer.place[-1, 0, 0]
    assert 0 < moved < 5
    assert (both.variance[5:, 0] < newer.variance[5:, 0]).all()


def test_a_guessed_step_takes_the_blame():
    path, *_ = walked(3)
    variance = path.increment_variance.copy()
    variance[1:, 0], variance[3, 0] = 1e-4, 100.0
    path = Path.empty(np.array([0])).with_targets(
        0, path.place[0, :1], np.full((1, 2), 0.1), np.zeros((0, 1, 4)), np.zeros((0, 1, 2)),
        np.zeros((0, 1, 2)), np.zeros((0, 1), bool), np.zeros((0, 1), bool),
    )  # fmt: skip
    for k in range(1, 6):
        seen = np.array([k != 3])
        path = path.extended(
            k * NS, np.ones((1, 4)), variance[k, :1], np.zeros((1, 2)), seen, seen, 32
        )
    fixed = path.corrected(5, np.array([0]), path.place[5, :1] + 8, np.full((1, 2), 0.1))
    change = (fixed.increment - path.increment)[:, 0, 0]
    assert change[3] == pytest.approx(8, rel=0.05)
    assert np.abs(np.delete(change, 3)).max() < 0.01


def test_memory_is_bounded():
    path, *_ = walked(4)
    for k in range(20):
        ones = np.ones((2, 2))
        path = path.extended(
            (8 + k) * NS, np.ones((2, 4)), ones, ones, np.ones(2, bool), np.ones(2, bool), 5
        )
    assert len(path) == 5
    assert path.place.shape == (5, 2, 4)
    assert path.index(0) == -1
    assert path.index(27 * NS + 5) == 4
