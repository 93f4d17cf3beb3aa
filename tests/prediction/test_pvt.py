"""The PVT++ motion model: horizons in frames, relative motion, what lies between and beyond."""

import numpy as np
import pytest

from pipeline.box import from_center, to_center
from prediction.constant import History
from prediction.predictor import PredictorConfig
from prediction.pvt import PvtMotion, at_horizon, motions
from tests.prediction.models import HEADS, constants, write_model

MS = 1_000_000
PERIOD = 40


def make(tmp_path, **changes):
    weights = {**constants("pvt-motion"), **changes}
    model = write_model(tmp_path / "m.onnx", weights)
    return PvtMotion(PredictorConfig(model=model, frame_period_ms=PERIOD))


def observed(predictor, count=6, scale=1.0):
    state = predictor.blank(1)
    for k in range(count):
        centered = np.array([[10.0 * k, 5.0 * k * k, 50 + k, 30.0]]) * scale
        stamp = np.array([2 * k * PERIOD * MS])
        state = predictor.observe(state, stamp, from_center(centered), np.zeros(1, np.uint8))
    return state, int(stamp[0])


def test_motions_are_relative_to_the_box_before_and_times_become_frames():
    boxes = np.array(
        [[[100, 50, 20, 10], [110, 60, 40, 10], [110, 60, 40, 10], [114, 58, 20, 5.0]]]
    )
    stamps = np.array([[0, 80, 200, 400]]) * MS
    state = History(stamps, boxes, np.array([4]), np.zeros(1, np.uint8))
    moved, frames = motions(state, PERIOD * 1e-3)
    np.testing.assert_allclose(frames, [[2, 3, 5]])
    np.testing.assert_allclose(moved[0, 0], [0.5, 1.0, np.log(2), 0])
    np.testing.assert_allclose(moved[0, 2], [0.1, -0.2, -np.log(2), -np.log(2)])


def test_heads_are_interpolated_between_frames_and_the_last_ones_rate_goes_on():
    heads = np.array([1.0, 4.0, 6.0])[None, :, None] * np.ones((1, 1, 4))
    frames = np.array([[0, 0.5, 1, 1.5, 3, 6]])
    np.testing.assert_allclose(at_horizon(heads, frames)[0, :, 2], [0, 0.5, 1, 2.5, 6, 12])


def test_a_network_that_says_h_frames_of_mean_motion_is_constant_velocity(tmp_path):
    """Zero weights but the last bias: each head gives p times that bias."""
    zero = {k: 0 * v for k, v in constants("pvt-motion").items()}
    predictor = make(tmp_path, **{**zero, "out_b": np.array([1.0, 1.0, 0, 0])})
    state, last = observed(predictor)
    found = to_center(predictor.predict(state, np.array([last + 2 * PERIOD * MS])).boxes)[0, 0]
    moved, frames = motions(state, PERIOD * 1e-3)
    p = np.abs(moved / frames[..., None]).mean(axis=1)[0]
    np.testing.assert_allclose(found[:2], [50 + p[0] * 55, 125 + p[1] * 30], rtol=1e-6)
    np.testing.assert_allclose(found[2:], [55, 30], rtol=1e-6)


def test_one_answer_stands_and_two_repeat_their_motion(tmp_path):
    predictor = make(tmp_path)
    state, last = observed(predictor, 1)
    found = predictor.predict(state, np.array([last + 90 * MS])).boxes[0, 0]
    np.testing.assert_allclose(to_center(found), [0, 0, 50, 30], atol=1e-12)
    moved, _ = motions(observed(predictor, 2)[0], PERIOD * 1e-3)
    np.testing.assert_array_equal(moved[0], np.repeat(moved[0, 2:], 3, axis=0))


def test_a_still_target_does_not_move_and_hostile_weights_stay_bounded(tmp_path):
    predictor = make(tmp_path, **constants("pvt-motion", scale=1e10))
    state = predictor.blank(1)
    for k in range(5):
        box = np.array([[100.0, 90, 40, 20]])
        state = predictor.observe(state, np.array([k * PERIOD * MS]), box, np.zeros(1, np.uint8))
    found = predictor.predict(state, np.array([200, 900, 9000]) * MS)
    np.testing.assert_allclose(found.boxes[0], np.repeat(box, 3, 0), atol=1e-9)
    state, last = observed(predictor)
    found = predictor.predict(state, np.array([last + HEADS * 1000 * MS]))
    assert np.isfinite(found.boxes).all() and np.abs(found.boxes).max() < 1e5


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_the_pictures_size_does_not_matter(tmp_path, scale):
    predictor = make(tmp_path)
    moments = observed(predictor)[1] + np.array([30, 200]) * MS
    base = predictor.predict(observed(predictor)[0], moments).boxes
    found = predictor.predict(observed(predictor, scale=scale)[0], moments).boxes
    np.testing.assert_allclose(found, scale * base, rtol=1e-9)
