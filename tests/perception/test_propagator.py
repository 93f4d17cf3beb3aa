import cv2
import numpy as np
import pytest

from perception.camera import camera_motion, unknown_motion
from perception.propagator import LOOK, Propagator, PropagatorConfig
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.motion import moved_boxes, moved_by

NONE = np.empty((0, 4))


def propagator(**options):
    return Propagator(PropagatorConfig(**options))


def step_of(before, after, boxes, **given):
    made = propagator()
    assert made.step(before, NONE) is None
    return made.step(after, np.atleast_2d(boxes), **given)


def warped(frame, matrix, index):
    height, width = frame.image.shape[:2]
    image = cv2.warpAffine(
        frame.image,
        np.asarray(matrix[:2], np.float64),
        (width, height),
        borderMode=cv2.BORDER_REFLECT,
    )
    return Frame(image, index * 33_000_000, index=index)


def test_a_moving_target_before_a_still_background(scene):
    step = step_of(scene.frame(0), scene.frame(1), scene.box(0))
    np.testing.assert_allclose(step.shift, [[3, 2]], atol=0.2)
    np.testing.assert_allclose(step.growth, [0], atol=0.01)
    np.testing.assert_allclose(step.camera, np.eye(3), atol=0.02)
    assert step.seen.all()
    assert step.camera_sigma < 0.5


@pytest.mark.parametrize("zoom, turn", [(1.03, 0.0), (0.97, 0.02), (1.0, -0.03)])
def test_the_camera_moves_and_all_with_it(scene, zoom, turn):
    matrix = np.vstack([cv2.getRotationMatrix2D((150, 110), np.degrees(turn), zoom), [0, 0, 1]])
    matrix[:2, 2] += [4, -3]
    first = scene.frame(0)
    step = step_of(first, warped(first, matrix, 1), scene.box(0))
    points = np.array([[30.0, 40], [160, 120], [280, 200]])
    np.testing.assert_allclose(moved_by(step.camera, points), moved_by(matrix, points), atol=0.4)
    center = scene.box(0)[:2] + scene.box(0)[2:] / 2
    np.testing.assert_allclose(step.shift[0], moved_by(matrix, center) - center, atol=0.4)
    np.testing.assert_allclose(step.growth, [np.log(zoom)], atol=0.012)


def test_ten_targets_cost_no_accuracy(scene):
    first = scene.frame(0)
    matrix = np.array([[1, 0, 5.0], [0, 1, -2], [0, 0, 1]])
    rng = np.random.default_rng(0)
    boxes = np.c_[rng.uniform(30, 220, 10), rng.uniform(30, 160, 10), rng.uniform(12, 70, (10, 2))]
    step = step_of(first, warped(first, matrix, 1), boxes)
    assert step.seen.all()
    np.testing.assert_allclose(step.shift, np.tile([5, -2], (10, 1)), atol=0.3)
    alone = step_of(first, warped(first, matrix, 1), boxes[3])
    np.testing.assert_allclose(step.shift[3], alone.shift[0], atol=0.1)


def test_a_far_jump_is_found_by_correlation(scene):
    before = scene.frame(0, at=np.array([60, 80, 52, 40]))
    after = Frame(scene.frame(0, at=np.array([110, 116, 52, 40])).image, 33_000_000, index=1)
    boxes = np.array([[60.0, 80, 52, 40]])
    step = step_of(before, after, boxes)
    np.testing.assert_allclose(step.shift, [[50, 36]], atol=0.5)
    blind = propagator(fallback=False)
    blind.step(before, NONE)
    assert np.abs(blind.step(after, boxes).shift - [50, 36]).max() > 10


def test_a_hidden_target_is_not_seen_and_the_guess_stands(scene):
    made = propagator()
    made.step(scene.frame(0), NONE)
    looks = made.look(0, scene.box(0)[None])
    assert looks.shape == (1, LOOK)
    rng = np.random.default_rng(5)
    other = cv2.resize(rng.integers(0, 255, (5, 7, 3)).astype(np.uint8), (52, 40))
    hidden = scene.frame(1, target=other)
    own, background = np.array([[3.0, 2.0]]), np.zeros((1, 2))
    step = made.step(hidden, scene.box(0)[None], own, background, looks)
    assert not step.seen.any()
    np.testing.assert_allclose(step.shift, own, atol=0.1)
    seen = step_of(scene.frame(0), scene.frame(1), scene.box(0))
    assert (step.variance > 10 * seen.variance).all()


def test_a_target_that_changes_but_goes_on_as_expected_is_still_seen(scene):
    made = propagator()
    rng = np.random.default_rng(5)
    other = cv2.resize(rng.integers(0, 255, (5, 7, 3)).astype(np.uint8), (52, 40))
    made.step(scene.frame(0, target=other), NONE)
    looks = made.look(0, scene.box(0)[None])
    made.step(scene.frame(1), NONE)
    own, still = np.array([[3.0, 2.0]]), np.zeros((1, 2))
    as_expected = made.step(scene.frame(2), scene.box(1)[None], own, still, looks)
    assert as_expected.seen.all()
    back = Frame(scene.frame(1).image, 3 * 33_000_000, index=3)
    made.step(Frame(scene.frame(1).image, 67_000_000, index=2), NONE)
    # Something that looks otherwise and stands with the background hides the target.
    assert not made.step(back, scene.box(1)[None], own, still, looks).seen.any()


def test_bars_before_a_moving_target_do_not_hold_it_back(scene):
    def behind_bars(k):
        image = scene.frame(k).image.copy()
        for x in range(4, 320, 22):
            image[:, x : x + 4] = scene.ground[:, x : x + 4]
        return Frame(image, k * 33_000_000, index=k)

    made = propagator()
    made.step(behind_bars(0), NONE)
    box, growth = scene.box(0)[None], 0.0
    for k in range(1, 9):
        step = made.step(behind_bars(k), box, np.array([[3.0, 2.0]]), np.zeros((1, 2)))
        box, growth = moved_boxes(box, step.shift, step.growth), growth + step.growth[0]
    np.testing.assert_allclose(box[0], scene.box(8), atol=2.5)
    assert abs(growth) < 0.05


def test_a_black_frame_is_as_if_it_had_not_come(scene):
    made = propagator()
    made.step(scene.frame(0), NONE)
    black = Frame(np.zeros_like(scene.frame(1).image), 33_000_000, index=1)
    white = Frame(np.full_like(black.image, 255), 40_000_000, index=1)
    assert made.step(black, scene.box(0)[None]) is None
    assert made.step(white, scene.box(0)[None]) is None
    step = made.step(scene.frame(2), scene.box(0)[None])
    assert step.previous_ns == 0
    np.testing.assert_allclose(step.shift, [[6, 4]], atol=0.3)


def test_a_repeated_stamp_is_refused(scene):
    made = propagator()
    made.step(scene.frame(0), NONE)
    with pytest.raises(InputError, match="repeated"):
        made.step(scene.frame(0), NONE)


def test_a_scene_cut_is_not_seen(scene_of):
    step = step_of(scene_of(0).frame(0), scene_of(1).frame(1), scene_of(0).box(0))
    assert not step.seen.any()
    assert np.isinf(step.camera_sigma)
    np.testing.assert_array_equal(step.camera, np.eye(3))


def test_another_size_begins_anew(scene):
    made = propagator()
    made.step(scene.frame(0), NONE)
    small = Frame(np.ascontiguousarray(scene.frame(1).image[:200, :300]), 33_000_000, index=1)
    assert made.step(small, scene.box(0)[None]) is None


def test_retrace_follows_a_box_through_the_kept_frames(scene):
    made = propagator(memory=4)
    for k in range(6):
        made.step(scene.frame(k), NONE)
    boxes = scene.box(2)[None]
    for step in made.retrace(2 * 33_000_000, boxes):
        boxes = moved_boxes(boxes, step.shift, step.growth)
    np.testing.assert_allclose(boxes[0, :2], scene.box(5)[:2], atol=0.6)
    assert list(made.retrace(33_000_000, boxes)) == []
    assert made.look(33_000_000, boxes) is None


def test_gray_and_rgb_frames_give_the_same_step(scene):
    def gray(k):
        frame = scene.frame(k)
        return Frame(frame.gray(), frame.stamp_ns, "mono8", k)

    a = step_of(scene.frame(0), scene.frame(1), scene.box(0))
    b = step_of(gray(0), gray(1), scene.box(0))
    np.testing.assert_array_equal(a.shift, b.shift)


def test_too_little_background_is_an_unknown_motion(scene):
    gray = scene.frame(0).gray()
    all_of_it = np.array([[0.0, 0, 320, 240]])
    assert camera_motion(gray, gray, 1.0, all_of_it).sigma == unknown_motion().sigma == np.inf
