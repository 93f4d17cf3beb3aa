"""Average precision with weights: COCO's own where all weigh alike, and what repetition gives."""

import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="pycocotools is not installed (the mot extra)")

from evaluation.detection_ap import Matches, paired_difference
from evaluation.streaming_ap import Picture, average_precision


def pictures(seed, noise, n=24):
    """Boxes of three classes, found with errors, misses and false alarms."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        truth = rng.uniform(5, 200, (rng.integers(0, 6), 4)) + [0, 0, 10, 10]
        labels = rng.integers(0, 3, len(truth)).astype(np.int16)
        kept = rng.random(len(truth)) < 0.8
        boxes = truth[kept] + rng.normal(0, noise, (kept.sum(), 4))
        wrong = rng.uniform(5, 200, (rng.integers(0, 4), 4)) + [0, 0, 10, 10]
        scores = rng.random(len(boxes) + len(wrong)).astype(np.float32)
        more = rng.integers(0, 3, len(wrong)).astype(np.int16)
        found.append(
            Picture(truth, labels, np.concatenate([boxes, wrong]),
                    np.concatenate([labels[kept], more]), scores)
        )  # fmt: skip
    return found


@pytest.mark.parametrize("noise", [0.1, 2.0, 8.0])
def test_with_equal_weights_it_is_cocos(noise):
    made = pictures(1, noise)
    assert Matches(made).precision()[0] == pytest.approx(average_precision(made).ap, abs=2e-3)


def test_a_weight_counts_a_picture_that_often():
    made = pictures(2, 3.0)
    times = np.random.default_rng(3).integers(0, 4, len(made))
    repeated = [p for p, n in zip(made, times, strict=True) for _ in range(n)]
    found = Matches(made).precision(times[None].astype(float))[0]
    assert found == pytest.approx(Matches(repeated).precision()[0], abs=2e-3)


def test_many_weightings_at_once_are_each_alone():
    matches = Matches(pictures(4, 3.0))
    weights = np.random.default_rng(5).integers(0, 3, (7, matches.count)).astype(float)
    alone = [matches.precision(w[None])[0] for w in weights]
    np.testing.assert_allclose(matches.precision(weights), alone)


def test_nothing_found_is_zero_and_no_truth_is_left_out():
    none = np.empty((0, 4))
    labels, scores = np.empty(0, np.int16), np.empty(0, np.float32)
    one = np.array([[1.0, 1, 9, 9]])
    missed = Picture(one, np.zeros(1, np.int16), none, labels, scores)
    empty = Picture(none, labels, one, np.zeros(1, np.int16), np.ones(1, np.float32))
    assert Matches([missed, empty]).precision()[0] == 0
    right = missed._replace(boxes=one, labels=np.zeros(1, np.int16), scores=np.ones(1, np.float32))
    assert Matches([right]).precision()[0] == pytest.approx(1)


def test_the_interval_holds_a_real_difference_apart_from_none():
    good, same, bad = (Matches(pictures(6, noise)) for noise in (0.5, 0.5, 12.0))
    better = paired_difference([good], [bad], resamples=200)
    assert better.low > 0 and better.low <= better.mean <= better.high
    none = paired_difference([good], [same], resamples=200)
    assert none == (0, 0, 0)
