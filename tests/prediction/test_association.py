"""Detections become targets: by time and place, each once, whatever comes in whatever order."""

from itertools import count

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.tracks import MAX_TARGETS, Detections, TrackStatus
from prediction.association import Association, AssociationConfig
from prediction.forecaster import Forecaster
from prediction.predictor import PredictorConfig

MS = 1_000_000
SIZE = (640, 480)


def found(ms, boxes, scores=0.9, labels=0):
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    n = len(boxes)
    return Detections(
        ms * MS, ms, SIZE, boxes,
        np.broadcast_to(np.float32(scores), n).copy(), np.broadcast_to(np.int16(labels), n).copy(),
    )  # fmt: skip


class Held:
    """Targets that stand where they were detected last, known to some pixels."""

    def __init__(self, sigma=2.0, **options):
        self.association = Association(AssociationConfig(**options))
        self.ids, self.boxes = np.empty(0, np.int32), np.empty((0, 4))
        self.sigma = sigma

    def take(self, detections, moved=(0, 0)):
        """Where the targets are by then, moved; what comes of the detections."""
        expected = self.boxes + [*moved, 0, 0]
        variances = np.full((len(expected), 4), self.sigma**2)
        tracks = self.association.tracks(detections, self.ids, expected, variances)
        if tracks is not None:
            self.ids, self.boxes = tracks.ids, tracks.boxes
        return tracks

    @property
    def shown(self):
        return self.ids[self.association.settled(self.ids)].tolist()


A, B = [100.0, 100, 40, 30], [300.0, 200, 50, 60]


def test_a_target_is_published_after_as_many_detections_as_configured():
    held = Held(confirm_after=3)
    for ms, shown in ((0, []), (100, []), (200, [0, 1])):
        held.take(found(ms, [A, B]))
        assert held.shown == shown
        assert held.ids.tolist() == [0, 1]


def test_a_match_is_by_where_the_target_was_expected_in_that_frame():
    held = Held()
    held.take(found(0, [A]))
    held.take(found(100, np.array(A) + [200, 50, 0, 0]), moved=(200, 50))
    assert held.ids.tolist() == [0]
    held.take(found(200, np.array(A) + [400, 100, 0, 0]), moved=(0, 0))
    assert held.ids.tolist() == [0, 1]


def test_an_uncertain_place_reaches_further_than_a_sure_one():
    off = np.array(A) + [70, 0, 0, 0]
    sure, vague = Held(sigma=2.0), Held(sigma=40.0)
    for held in (sure, vague):
        held.take(found(0, [A]))
        held.take(found(100, [off]))
    assert sure.ids.tolist() == [0, 1]
    assert vague.ids.tolist() == [0]


def test_neighbors_are_matched_together_and_not_each_to_its_nearest():
    held = Held(sigma=20.0)
    row = np.array([[100.0, 100, 40, 40], [130.0, 100, 40, 40]])
    held.take(found(0, row))
    held.take(found(100, row[::-1] + [18, 0, 0, 0]))
    np.testing.assert_allclose(held.boxes[:, 0], [118, 148])
    assert held.ids.tolist() == [0, 1]


def test_weak_detections_keep_targets_and_begin_none():
    held = Held(sure_score=0.5)
    held.take(found(0, [A]))
    held.take(found(100, [A]))
    tracks = held.take(found(200, [A, B], scores=0.3))
    assert tracks.ids.tolist() == [0]
    assert tracks.status.tolist() == [TrackStatus.UNCERTAIN]
    assert tracks.scores[0] == np.float32(0.3)


def test_a_sure_detection_goes_before_a_weak_one_that_lies_better():
    held = Held()
    held.take(found(0, [A]))
    held.take(found(100, [A]))
    near = np.array(A) + [5, 0, 0, 0]
    tracks = held.take(found(200, [A, near], scores=[0.4, 0.8]))
    np.testing.assert_allclose(tracks.boxes[tracks.ids == 0][0], near)
    assert tracks.ids.tolist() == [0]


def test_weak_detections_do_not_keep_what_is_not_published_yet():
    held = Held(tentative_ms=50.0)
    held.take(found(0, [A]))
    assert not len(held.take(found(100, [A], scores=0.3)))


def test_what_is_not_detected_is_lost_where_it_was_expected_and_dropped_after_a_time():
    held = Held(forget_ms=500.0, tentative_ms=150.0)
    held.take(found(0, [A]))
    held.take(found(100, [A, B]))
    tracks = held.take(found(200, []), moved=(7, 0))
    assert tracks.ids.tolist() == [0, 1]
    assert tracks.status.tolist() == [TrackStatus.LOST, TrackStatus.LOST]
    assert tracks.boxes[0, 0] == 107 and np.isnan(tracks.variances).all()
    assert held.take(found(300, [])).ids.tolist() == [0], "the tentative one goes sooner"
    assert held.take(found(590, [])).ids.tolist() == [0]
    assert not len(held.take(found(610, [])))


def test_deaths_go_by_time_and_not_by_how_often_nothing_was_found():
    many, few = Held(forget_ms=1000.0), Held(forget_ms=1000.0)
    for held, step in ((many, 10), (few, 900)):
        held.take(found(0, [A]))
        held.take(found(1, [A]))
        for ms in range(2, 950, step):
            held.take(found(ms, []))
        assert held.ids.tolist() == [0]
        assert not len(held.take(found(1100, [])))


def test_identities_are_never_given_twice():
    held = Held(forget_ms=100.0, tentative_ms=100.0)
    held.take(found(0, [A, B]))
    held.take(found(300, []))
    held.take(found(600, [A]))
    assert held.ids.tolist() == [2]
    held.association.reset()
    held.ids, held.boxes = np.empty(0, np.int32), np.empty((0, 4))
    held.take(found(0, [A, B]))
    assert held.ids.tolist() == [3, 4]


def test_identities_may_be_shared_with_others():
    ids = count(7)
    first, second = (Association(AssociationConfig(), ids) for _ in range(2))
    none = np.empty(0, np.int32), np.empty((0, 4)), np.empty((0, 4))
    assert first.tracks(found(0, [A]), *none).ids.tolist() == [7]
    assert second.tracks(found(0, [A, B]), *none).ids.tolist() == [8, 9]


def test_one_object_found_as_two_classes_is_one_target():
    held = Held()
    held.take(found(0, [A, np.array(A) + 1], scores=[0.9, 0.8], labels=[2, 7]))
    assert held.ids.tolist() == [0]
    held.take(found(100, [A, np.array(A) + 1], scores=[0.9, 0.8], labels=[2, 7]))
    assert held.ids.tolist() == [0]


def test_labels_may_differ_at_a_cost_and_the_class_is_what_most_detections_say():
    held = Held()
    for ms, label, is_now in ((0, 2, 2), (1, 2, 2), (2, 7, 2), (3, 7, 2), (4, 7, 7), (5, 7, 7)):
        tracks = held.take(found(ms, [A], labels=label))
        assert tracks.labels.tolist() == [is_now], ms
    strict = Held(label_cost=1.0)
    strict.take(found(0, [A], labels=2))
    strict.take(found(1, [A], labels=7))
    assert strict.ids.tolist() == [0, 1]


def test_of_two_alike_the_same_class_is_preferred():
    held = Held(sigma=10.0)
    held.take(found(0, [A], labels=3))
    tracks = held.take(found(1, [A, np.array(A) + [9, 0, 0, 0]], labels=[5, 3]))
    np.testing.assert_allclose(tracks.boxes[tracks.ids == 0][0, 0], 109)


def test_detections_that_come_twice_count_once():
    held = Held(confirm_after=2)
    held.take(found(0, [A]))
    assert held.take(found(0, [A])) is None
    assert held.association.ignored == 1
    assert held.shown == []


def test_older_detections_correct_and_neither_begin_nor_end_anything():
    held = Held(forget_ms=10.0, tentative_ms=10.0)
    held.take(found(0, [A]))
    held.take(found(100, [A, B]))
    late = held.association.tracks(
        found(50, [A, [500.0, 300, 20, 20]]), held.ids, held.boxes, np.full((2, 4), 4.0)
    )
    assert late.ids.tolist() == [0]
    assert held.association.settled(np.array([0, 1], np.int32)).tolist() == [True, False]
    later = held.take(found(105, [B]))
    assert later.ids.tolist() == [0, 1], "what was known before the late one still is"


def test_a_target_is_never_an_older_detection_than_its_first():
    held = Held()
    held.take(found(0, []))
    held.take(found(100, [A]))
    late = held.association.tracks(found(50, [A]), held.ids, held.boxes, np.full((1, 4), 4.0))
    assert not len(late)


def test_targets_that_somebody_else_began_are_published_and_matched():
    association = Association(AssociationConfig())
    ids = np.array([12], np.int32)
    assert association.settled(ids).tolist() == [True]
    tracks = association.tracks(found(0, [A], labels=4), ids, np.array([A]), np.full((1, 4), 4.0))
    assert tracks.ids.tolist() == [12]
    assert tracks.labels.tolist() == [4]


def test_hundreds_are_matched_and_no_more_are_followed_than_configured():
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, 10_000, (MAX_TARGETS, 2))
    boxes = np.concatenate([centers, np.full((MAX_TARGETS, 2), 20.0)], axis=1)
    scores = rng.uniform(0.5, 1, MAX_TARGETS).astype(np.float32)
    held = Held(max_targets=MAX_TARGETS, duplicate_iou=1.0)
    held.take(found(0, boxes, scores))
    order = rng.permutation(MAX_TARGETS)
    held.take(found(100, boxes[order] + [3, 2, 0, 0]), moved=(3, 2))
    assert len(held.ids) == MAX_TARGETS == len(held.shown)
    few = Held(max_targets=9)
    tracks = few.take(found(0, boxes, scores))
    assert set(tracks.scores) <= set(np.sort(scores)[-20:])
    assert len(tracks) == 9


def test_bad_detections_are_refused_before_anything_is_matched():
    for boxes, scores in (
        ([[np.nan, 0, 1, 1]], 0.5),
        ([[0, 0, 0, 4]], 0.5),
        ([A], np.nan),
        ([A], 1.5),
        (np.tile(A, (MAX_TARGETS + 1, 1)), 0.5),
    ):
        with pytest.raises(InputError, match="Detections"):
            found(0, boxes, scores)


def test_without_frames_detections_are_matched_with_where_targets_are_predicted():
    forecaster = Forecaster(PredictorConfig(), Association(AssociationConfig(forget_ms=300.0)))
    step = np.array([30.0, 0, 0, 0])
    for k in range(6):
        tracks = forecaster.observe(found(200 * k, [A + step * k, B - step * k]))
    assert tracks.ids.tolist() == [0, 1]
    ahead = forecaster.forecast(1000 * MS, 0, {"control": 200 * MS})
    assert ahead.ids.tolist() == [0, 1]
    np.testing.assert_allclose(ahead.boxes[0, 0], A + step * 6, atol=3)
    assert forecaster.observe(found(1000, [A])) is None, "no newer than the last"
    new = forecaster.observe(found(1200, [A + step * 6, [20.0, 400, 30, 30]]))
    assert new.ids.tolist() == [0, 1], "the new one is not published yet"
    assert forecaster.forecast(0, 0, {"control": 0}).ids.tolist() == [0, 1]
    gone = forecaster.observe(found(1600, [A + step * 8]))
    assert gone.ids.tolist() == [0]
    assert forecaster.forecast(0, 0, {"control": 0}).ids.tolist() == [0]
