from itertools import pairwise

import numpy as np
import pytest

from pipeline.box import iou
from pipeline.frame import Frame
from pipeline.motion import LOOK, Step
from pipeline.tracks import Detections, Forecasts, Tracks, TrackSource, TrackStatus
from prediction.association import Association, AssociationConfig
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate

NS = 33_000_000
IMAGE = np.zeros((480, 640, 3), np.uint8)
VELOCITY = np.array([4.0, -2.0])
CAMERA = np.array([1.5, 0.5])


class Steps:
    """Steps of a world in which targets move at ``VELOCITY`` and the background at ``CAMERA``."""

    def __init__(self):
        self.hidden = self.blank = False
        self.velocity, self.growth = VELOCITY, 0.0
        self.frames = []

    def reset(self):
        self.frames = []

    def step(self, frame, boxes, own=None, background=None, looks=None):
        if self.blank:
            return None
        self.frames.append(frame.stamp_ns)
        if len(self.frames) < 2:
            return None
        return self.between(self.frames[-2], self.frames[-1], boxes, own, background)

    def between(self, before, after, boxes, own=None, background=None):
        n, frames = len(boxes), (after - before) / NS
        shift = np.tile(self.velocity * frames, (n, 1))
        if self.hidden and own is not None:
            shift = own + CAMERA * frames
        camera = np.eye(3)
        camera[:2, 2] = CAMERA * frames
        variance = np.full((n, 2), 0.01 if not self.hidden else 100.0)
        variance[:, 1] = 1e-4
        seen = np.full(n, not self.hidden)
        growth = np.full(n, self.growth * frames)
        return Step(before, after, camera, 0.1, shift, growth, variance, seen)

    def retrace(self, stamp_ns, boxes):
        kept = [s for s in self.frames if s >= stamp_ns]
        for before, after in pairwise(kept):
            yield self.between(before, after, boxes)

    def look(self, stamp_ns, boxes):
        return np.zeros((len(boxes), LOOK)) if stamp_ns in self.frames else None


def truth(k):
    return np.array([300.0, 200, 40, 30]) + np.r_[VELOCITY * k, 0, 0]


def frame(k):
    return Frame(IMAGE, k * NS, index=k)


def answer(k, box=None, status=TrackStatus.TRACKED, target=0):
    box = truth(k) if box is None else box
    return Tracks.single(k * NS, k * NS, k, (640, 480), box, 0.9, status, target)


def made(predictor="kalman", **fusion):
    steps = Steps()
    return TwoRate(FusionConfig(**fusion), PredictorConfig(name=predictor), steps), steps


def fly(two, frames, begin=0):
    for k in range(begin, frames):
        tracks = two.frame(frame(k))
        if k == 0:
            two.answer(answer(0))
    return tracks


@pytest.mark.parametrize("predictor", ["constant-velocity", "kalman", "imm"])
def test_carries_and_predicts_whatever_the_predictor(predictor):
    two, _ = made(predictor)
    tracks = fly(two, 12)
    np.testing.assert_allclose(tracks.boxes[0], truth(11), atol=0.5)
    assert tracks.source[0] == TrackSource.CARRIED
    assert tracks.answered_ns[0] == 0
    ahead = two.predict(np.array([12 * NS, 14 * NS]))
    np.testing.assert_allclose(ahead.boxes[0, 0], truth(12), atol=1.5)
    np.testing.assert_allclose(ahead.boxes[0, 1], truth(14), atol=4)
    assert (ahead.variances[0, 1] > ahead.variances[0, 0]).all()


def test_a_late_answer_moves_the_newest_box_and_leaves_the_velocity():
    two, _ = made()
    fly(two, 10)
    before = two.predict(np.array([9 * NS, 11 * NS])).boxes[0]
    two.answer(answer(5, truth(5) + [6, 0, 0, 0]))
    after = two.predict(np.array([9 * NS, 11 * NS])).boxes[0]
    moved = after[0, 0] - before[0, 0]
    assert 1 < moved < 6
    assert after[1, 0] - after[0, 0] == pytest.approx(before[1, 0] - before[0, 0], abs=1e-6)


def test_answers_out_of_order_and_twice_and_too_old():
    two, _ = made(memory=8)
    fly(two, 10)
    two.answer(answer(8))
    two.answer(answer(6, truth(6) + [3, 0, 0, 0]))
    two.answer(answer(8))
    box = two.predict(np.array([9 * NS])).boxes[0, 0]
    np.testing.assert_allclose(box, truth(9), atol=1.5)
    two.answer(answer(0))
    assert two.ignored == 1


def test_an_answer_ahead_of_its_frame_waits_for_it():
    two, _ = made()
    two.frame(frame(0))
    two.answer(answer(1))
    assert not len(two.ids)
    tracks = two.frame(frame(1))
    assert tracks.source[0] == TrackSource.TRACKED
    np.testing.assert_allclose(tracks.boxes[0], truth(1))


def test_an_answer_before_the_very_first_frame_waits_for_it():
    two, _ = made()
    two.answer(answer(0))
    assert two.frame(frame(0)).ids.tolist() == [0]


def test_an_answer_from_a_time_that_never_comes_is_dropped():
    two, _ = made()
    fly(two, 3)
    two.answer(answer(10_000))
    two.frame(frame(3))
    assert two.ignored == 1
    assert two.ids.tolist() == [0]


def test_a_hidden_target_coasts_with_the_camera_and_then_is_lost():
    two, steps = made(max_carry_ms=500.0)
    fly(two, 10)
    sure = two.predict(np.array([9 * NS])).variances[0, 0, 0]
    steps.hidden = True
    tracks = two.frame(frame(10))
    assert tracks.status[0] == TrackStatus.UNCERTAIN
    assert tracks.source[0] == TrackSource.PREDICTED
    for k in range(11, 14):
        tracks = two.frame(frame(k))
    np.testing.assert_allclose(tracks.boxes[0], truth(13), atol=2)
    assert tracks.variances[0, 0] > 10 * sure
    for k in range(14, 60):
        tracks = two.frame(frame(k))
    assert tracks.status[0] == TrackStatus.LOST
    assert 0 <= tracks.boxes[0, 0] + 20 <= 640
    steps.hidden = False
    two.frame(frame(60))
    two.answer(answer(60, np.array([100.0, 100, 40, 30])))
    tracks = two.frame(frame(61))
    assert tracks.status[0] == TrackStatus.TRACKED
    np.testing.assert_allclose(tracks.boxes[0, :2], np.array([100, 100]) + VELOCITY, atol=1)


def test_an_answer_elsewhere_begins_anew_and_a_doubtful_one_does_not():
    two, _ = made()
    fly(two, 10)
    elsewhere = truth(5) + [150, 0, 0, 0]
    two.answer(answer(5, elsewhere, TrackStatus.UNCERTAIN))
    assert iou(two.predict(np.array([9 * NS])).boxes[0, 0], truth(9)) > 0.9
    two.answer(answer(6, elsewhere, TrackStatus.LOST))
    assert iou(two.predict(np.array([9 * NS])).boxes[0, 0], truth(9)) > 0.9
    two.answer(answer(7, truth(7) + [150, 0, 0, 0]))
    now = two.predict(np.array([9 * NS])).boxes[0, 0]
    np.testing.assert_allclose(now, truth(9) + [150, 0, 0, 0], atol=1)


def test_two_doubtful_answers_off_the_path_begin_anew():
    two, _ = made()
    fly(two, 10)
    for k in (5, 7):
        two.answer(answer(k, truth(k) + [150, 0, 0, 0], TrackStatus.UNCERTAIN))
    now = two.predict(np.array([9 * NS])).boxes[0, 0]
    np.testing.assert_allclose(now, truth(9) + [150, 0, 0, 0], atol=1)


def test_a_new_target_guides_at_once_one_that_began_anew_after_two_sure_answers():
    two, _ = made(guide_after=2)
    fly(two, 10)
    np.testing.assert_allclose(two.guide(0, 10 * NS), truth(10), atol=1)
    elsewhere = [150, 0, 0, 0]
    two.answer(answer(4, truth(4) + elsewhere))
    assert two.guide(0, 10 * NS) is None
    two.answer(answer(6, truth(6) + elsewhere))
    np.testing.assert_allclose(two.guide(0, 10 * NS), truth(10) + elsewhere, atol=1)


def test_guides_only_where_the_path_is_sure():
    two, steps = made(guide_after=2)
    fly(two, 10)
    two.answer(answer(4))
    np.testing.assert_allclose(two.guide(0, 10 * NS), truth(10), atol=1)
    assert two.guide(7, 10 * NS) is None
    two.answer(answer(9, status=TrackStatus.UNCERTAIN))
    assert two.guide(0, 10 * NS) is None
    two.answer(answer(9))
    two.answer(answer(9))
    assert two.guide(0, 10 * NS) is not None
    steps.hidden = True
    two.frame(frame(10))
    assert two.guide(0, 11 * NS) is None
    off, _ = made(guided=False)
    fly(off, 10)
    off.answer(answer(4))
    assert off.guide(0, 10 * NS) is None


def test_the_tracker_is_guided_by_its_own_answer_moved_along_the_path():
    two, _ = made(guide_after=1)
    fly(two, 10)
    wide = truth(8) + [-4, -3, 8, 6]
    two.answer(answer(8, wide))
    carried = two.tracks(frame(9)).boxes[0]
    assert carried[2] < wide[2] - 2  # the path believes an answer in part only
    np.testing.assert_allclose(two.guide(0, 9 * NS), wide + np.r_[VELOCITY, 0, 0], atol=0.2)


def test_the_tracker_is_guided_by_half_of_what_a_target_grew():
    two, steps = made(guide_after=1)
    steps.growth = 0.05
    fly(two, 10)
    two.answer(answer(5))
    two.answer(answer(5))
    box = two.guide(0, 9 * NS)
    np.testing.assert_allclose(np.log(box[2:] / [40, 30]), 4 * 0.05 / 2, atol=0.01)
    assert two.tracks(frame(9)).boxes[0, 2] > 1.2 * 40


def test_a_sharp_turn_at_speed_is_followed_from_the_next_frame_on():
    two, steps = made()
    fly(two, 10)
    before = truth(9)
    steps.velocity = np.array([-30.0, 40.0])
    for k in (10, 11):
        two.frame(frame(k))
    ahead = two.predict(np.array([12 * NS])).boxes[0, 0]
    np.testing.assert_allclose(ahead[:2], before[:2] + 3 * steps.velocity, atol=6)


def test_a_new_target_that_is_lost_at_once_is_still_shown():
    two, _ = made()
    two.frame(frame(0))
    two.answer(answer(0, status=TrackStatus.LOST))
    tracks = two.frame(frame(1))
    assert tracks.ids.tolist() == [0]
    assert tracks.status[0] != TrackStatus.TRACKED


def test_answers_name_all_targets_there_are():
    two, _ = made()
    two.frame(frame(0))
    both = Tracks(
        0, 0, 0, (640, 480), np.array([3, 9], np.int32), np.stack([truth(0), truth(0) + 50]),
        np.ones(2, np.float32), np.zeros(2, np.uint8), np.full(2, -1, np.int16),
    )  # fmt: skip
    two.answer(both)
    for k in range(1, 6):
        two.frame(frame(k))
    assert two.ids.tolist() == [3, 9]
    two.answer(answer(4, target=9))
    assert two.ids.tolist() == [9]
    np.testing.assert_allclose(two.frame(frame(6)).boxes[0], truth(6), atol=1)


def test_a_blank_frame_is_predicted_and_the_next_one_recovers():
    two, steps = made()
    fly(two, 10)
    steps.blank = True
    tracks = two.frame(frame(10))
    assert tracks.source[0] == TrackSource.PREDICTED
    assert tracks.status[0] == TrackStatus.UNCERTAIN
    np.testing.assert_allclose(tracks.boxes[0], truth(10), atol=1)
    steps.blank = False
    tracks = two.frame(frame(11))
    assert tracks.source[0] == TrackSource.CARRIED
    np.testing.assert_allclose(tracks.boxes[0], truth(11), atol=1)


def test_another_image_size_begins_anew():
    two, _ = made()
    fly(two, 5)
    tracks = two.frame(Frame(np.zeros((240, 320, 3), np.uint8), 5 * NS, index=5))
    assert not len(tracks)


def test_nothing_is_extrapolated_without_bound():
    two, _ = made()
    fly(two, 10)
    second = int(1e9)
    far = two.predict(np.array([9 * NS + second, 9 * NS + 3600 * second])).boxes[0]
    np.testing.assert_allclose(far[0], far[1])


@pytest.mark.parametrize("growth", [-0.004, 0.004])
def test_steps_that_err_to_one_side_spoil_no_size_in_the_long_run(growth):
    two, steps = made()
    steps.velocity, steps.growth = np.zeros(2), growth
    for k in range(1500):
        two.frame(frame(k))
        if k % 5 == 0:
            two.answer(answer(k, truth(0)))
    now, ahead = two.predict(np.array([1499 * NS, 1502 * NS])).boxes[0]
    np.testing.assert_allclose(now, truth(0), atol=2)
    np.testing.assert_allclose(ahead, truth(0), atol=3)
    fresh, _ = made()
    fly(fresh, 30)
    fresh.answer(answer(25))
    sigma = [
        np.sqrt(t.predict(np.array([n * NS])).variances[0, 0, 0])
        for t, n in ((two, 1502), (fresh, 32))
    ]
    assert sigma[0] < 2 * sigma[1]


def test_a_stream_that_begins_black_begins_with_what_is_seen():
    two, steps = made()
    steps.blank = True
    two.frame(frame(0))
    two.answer(answer(0))
    steps.blank = False
    for k in range(1, 4):
        two.frame(frame(k))
    two.answer(answer(1))
    now = two.predict(np.array([3 * NS])).boxes[0, 0]
    np.testing.assert_allclose(now, truth(3), atol=0.5)


def test_an_answer_without_size_is_one_pixel_large():
    two, _ = made()
    two.frame(frame(0))
    two.answer(answer(0, np.array([300.0, 200, -5, 0])))
    tracks = two.frame(frame(1))
    assert (tracks.boxes[0, 2:] >= 0.99).all()


def test_memory_is_bounded():
    two, _ = made(memory=8)
    fly(two, 100)
    assert len(two._path) == len(two._own) == len(two._background) == 8


def detections(k, boxes, score=0.9):
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    n = len(boxes)
    scores, labels = np.full(n, score, np.float32), np.full(n, 2, np.int16)
    return Detections(k * NS, k, (640, 480), boxes, scores, labels)


def many(**options):
    steps = Steps()
    association = Association(AssociationConfig(**options))
    return TwoRate(FusionConfig(), PredictorConfig(), steps, association), steps


def test_late_detections_of_every_fifth_frame_become_targets_that_are_carried_to_now():
    two, _ = many()
    apart = np.array([0.0, 40, 0, 0])  # closer than the targets move in ten frames
    for k in range(26):
        tracks = two.frame(frame(k))
        if k >= 5 and k % 5 == 0:
            two.answer(detections(k - 5, [truth(k - 5), truth(k - 5) + apart]))
        if k <= 10:
            assert not len(tracks), "nobody is published after one detection"
    assert tracks.ids.tolist() == [0, 1]
    assert tracks.labels.tolist() == [2, 2]
    np.testing.assert_allclose(tracks.boxes, [truth(25), truth(25) + apart], atol=0.5)
    assert (tracks.source == TrackSource.CARRIED).all()
    ahead = two.forecast(25 * NS, 25 * NS, {"control": 2 * NS})
    assert isinstance(ahead, Forecasts) and ahead.ids.tolist() == [0, 1]
    np.testing.assert_allclose(ahead.boxes[0, 0], truth(27), atol=2)


def test_a_tentative_target_is_carried_and_not_published():
    two, _ = many(confirm_after=2)
    two.frame(frame(0))
    two.answer(detections(0, [truth(0)]))
    assert two.ids.tolist() == [0]
    tracks = two.frame(frame(1))
    assert not len(tracks)
    assert not len(two.forecast(NS, NS, {"control": NS}).ids)
    two.answer(detections(1, [truth(1)]))
    assert two.tracks(frame(1)).ids.tolist() == [0]
    assert two.forecast(NS, NS, {"control": NS}).ids.tolist() == [0]


def test_detections_early_twice_too_late_and_none_at_all():
    two, _ = many(forget_ms=600.0, tentative_ms=600.0)
    two.answer(detections(1, [truth(1)]))
    two.frame(frame(0))
    assert not len(two.ids), "their frame has not come"
    two.frame(frame(1))
    assert two.ids.tolist() == [0]
    two.answer(detections(1, [truth(1)]))
    for k in range(2, 45):
        two.frame(frame(k))
    two.answer(detections(2, [truth(2)]))
    assert two.ignored == 1
    two.answer(detections(18, []))
    assert two.ids.tolist() == [0]
    two.answer(detections(44, []))
    assert not len(two.ids)


def test_an_undetected_target_is_carried_on_as_uncertain():
    two, _ = many(confirm_after=1)
    for k in range(8):
        tracks = two.frame(frame(k))
        if k in (0, 2):
            two.answer(detections(k, [truth(k)]))
        if k == 6:
            two.answer(detections(4, []))
    assert tracks.ids.tolist() == [0]
    assert tracks.status.tolist() == [TrackStatus.UNCERTAIN]
    assert tracks.answered_ns.tolist() == [2 * NS]
    np.testing.assert_allclose(tracks.boxes[0], truth(7), atol=0.5)


def test_an_answer_that_gives_its_variance_is_taken_at_its_word():
    moved = []
    for sigma in (0.5, 8.0):
        two, _ = made()
        fly(two, 6)
        plain = answer(5, truth(5) + [6, 0, 0, 0])
        given = np.full((1, 4), sigma**2)
        two.answer(Tracks(
            plain.stamp_ns, plain.ready_ns, 5, plain.image_size, plain.ids, plain.boxes,
            plain.scores, plain.status, plain.labels, variances=given,
        ))  # fmt: skip
        moved.append(two.predict(np.array([5 * NS])).boxes[0, 0, 0] - truth(5)[0])
    assert moved[0] > 3 > 0.5 > moved[1]


def test_a_target_that_was_selected_stays_itself_when_a_tracker_takes_over_and_gives_back():
    two, _ = many(confirm_after=1)
    other = np.array([50.0, 40, 30, 30])
    two.frame(frame(0))
    two.answer(detections(0, [other, truth(0)]))
    two.frame(frame(1))
    two.answer(answer(1, target=1))
    assert two.frame(frame(2)).ids.tolist() == [1]
    two.answer(answer(2, target=1, status=TrackStatus.LOST))
    two.frame(frame(3))
    two.answer(detections(3, [truth(3), other]))
    tracks = two.frame(frame(4))
    assert tracks.ids.tolist() == [1, 2]
    np.testing.assert_allclose(tracks.boxes[0], truth(4), atol=1)


def test_a_hundred_targets_begin_and_are_corrected_at_once():
    two, _ = many(confirm_after=1)
    x, y = np.meshgrid(np.arange(20) * 30.0, np.arange(5) * 80.0 + 60)
    boxes = np.stack([x.ravel(), y.ravel(), np.full(100, 20.0), np.full(100, 30.0)], axis=1)
    shift = np.array([*VELOCITY, 0, 0])
    for k in range(13):
        tracks = two.frame(frame(k))
        if k in (4, 8, 12):
            two.answer(detections(k - 4, boxes + shift * (k - 4)))
    tracks = two.tracks(frame(12))
    seen = (tracks.source == TrackSource.CARRIED) | (tracks.source == TrackSource.TRACKED)
    assert len(tracks) == 100 and sorted(tracks.ids) == list(range(100))
    order = np.argsort(tracks.ids)
    expected = boxes + shift * 12
    inside = seen[order]
    np.testing.assert_allclose(tracks.boxes[order][inside], expected[inside], atol=0.5)
    assert inside.mean() > 0.9
