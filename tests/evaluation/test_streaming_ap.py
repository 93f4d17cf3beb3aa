import numpy as np
import pytest

from evaluation.streaming_ap import Picture, average_precision

pytest.importorskip("pycocotools", reason="pycocotools is not installed (the mot extra)")


def picture(truth, boxes, labels=None, truth_labels=None, scores=None):
    truth, boxes = (np.asarray(b, np.float64).reshape(-1, 4) for b in (truth, boxes))
    return Picture(
        truth,
        np.zeros(len(truth), np.int16) if truth_labels is None else np.int16(truth_labels),
        boxes,
        np.zeros(len(boxes), np.int16) if labels is None else np.int16(labels),
        np.full(len(boxes), 0.5, np.float32) if scores is None else np.float32(scores),
    )


A, B = [0.0, 0, 100, 100], [300.0, 0, 100, 100]


def test_what_is_right_in_every_picture_is_one():
    found = average_precision([picture([A, B], [A, B]), picture([A], [A])])
    assert found == pytest.approx((1.0, 1.0))


def test_overlap_counts_at_ten_thresholds():
    shifted = [10.0, 0, 100, 100]  # IoU 90 / 110 = 0.818: right from 0.5 to 0.8, 7 of 10
    assert average_precision([picture([A], [shifted])]) == pytest.approx((0.7, 1.0))


def test_half_of_the_truth_found_without_a_false_alarm_is_a_half():
    found = average_precision([picture([A], [A]), picture([B], [])])
    assert found.ap == pytest.approx(51 / 101)  # recall 0 to 0.5 of COCO's 101 steps


def test_a_class_is_judged_alone_unless_agnostic():
    pictures = [picture([A, B], [A, B], truth_labels=[1, 2], labels=[1, 1])]
    assert average_precision(pictures).ap == pytest.approx(0.5)
    assert average_precision(pictures, agnostic=True).ap == pytest.approx(1.0)


def test_a_surer_false_alarm_costs_more_than_one_less_sure():
    worse = average_precision([picture([A], [A, B], scores=[0.4, 0.9])]).ap
    better = average_precision([picture([A], [A, B], scores=[0.9, 0.4])]).ap
    assert worse == pytest.approx(0.5) and better == pytest.approx(1.0)


def test_a_hundred_and_more_in_one_picture_all_count():
    many = np.array([[20.0 * k, 0, 10, 10] for k in range(150)])
    assert average_precision([picture(many, many)]).ap == pytest.approx(1.0)


def test_nothing_found_is_zero_and_nothing_true_is_not_defined():
    assert average_precision([picture([A], [])]) == (0.0, 0.0)
    assert np.isnan(average_precision([picture([], [A])]).ap)
