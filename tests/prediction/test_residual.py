"""The learned correction: bounded, continuous, symmetric, and nothing where the network is zero."""

import numpy as np
import pytest

from pipeline.box import from_center, to_center
from prediction.imm import ImmPredictor
from prediction.predictor import PredictorConfig
from prediction.residual import LONGEST_S, ResidualPredictor
from tests.prediction.models import constants, write_model

MS = 1_000_000


@pytest.fixture
def predictor(tmp_path):
    model = write_model(tmp_path / "m.onnx", constants("residual"))
    return ResidualPredictor(PredictorConfig(model=model))


def walked(predictor, scale=1.0, turn=1.0, n=3, offset=0.0):
    """The state after an irregular walk of n targets, mirrored where turn is −1."""
    rng = np.random.default_rng(2)
    state = predictor.blank(n)
    position = rng.uniform(-20, 20, (n, 4))
    position[:, 2:] = 40
    for stamp in np.cumsum(rng.integers(20, 200, 9)):
        position = position + np.hstack([rng.normal(5, 4, (n, 2)), rng.normal(0, 0.5, (n, 2))])
        centered = position * [turn, turn, 1, 1]
        boxes = from_center(centered * scale + [offset, offset, 0, 0])
        state = predictor.observe(state, np.full(n, stamp * MS), boxes, np.zeros(n, np.uint8))
    return state, int(stamp) * MS


def test_a_network_that_ends_in_zeros_is_the_interacting_filters(tmp_path):
    weights = constants("residual")
    weights["w3"], weights["b3"] = 0 * weights["w3"], 0 * weights["b3"]
    config = PredictorConfig(model=write_model(tmp_path / "m.onnx", weights))
    a, b = ResidualPredictor(config), ImmPredictor(config)
    (state, last), (plain, _) = walked(a), walked(b)
    moments = last + np.array([0, 40, 350, 5000]) * MS
    for x, y in zip(a.predict(state, moments), b.predict(plain, moments), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_the_correction_begins_at_zero_is_smooth_in_time_and_stops_growing(predictor):
    state, last = walked(predictor)
    plain = ImmPredictor(PredictorConfig())
    at = last + (np.arange(0, 1000) * MS)
    moved = to_center(predictor.predict(state, at).boxes) - to_center(
        plain.predict(state, at).boxes
    )
    assert np.abs(moved[:, 0]).max() == 0
    assert np.abs(moved).max() > 1
    assert np.abs(np.diff(moved, axis=1)).max() < 0.02 * np.abs(moved).max()
    beyond = moved[:, round(LONGEST_S * 1000) :]
    np.testing.assert_allclose(beyond, np.repeat(beyond[:, :1], beyond.shape[1], 1), atol=1e-9)


def test_it_turns_with_the_motion_and_scales_with_the_picture(predictor):
    state, last = walked(predictor)
    moments = last + np.array([50, 300]) * MS
    base = to_center(predictor.predict(state, moments).boxes)
    mirrored = walked(predictor, turn=-1.0)[0]
    # Sides are not mirrored, so this holds of the center alone.
    found = to_center(predictor.predict(mirrored, moments).boxes)
    np.testing.assert_allclose(found[..., :2], -base[..., :2], rtol=1e-9)
    np.testing.assert_allclose(found[..., 2:], base[..., 2:], rtol=1e-9)
    moved = walked(predictor, scale=3.0, offset=700.0)[0]
    found = to_center(predictor.predict(moved, moments).boxes) - [700, 700, 0, 0]
    np.testing.assert_allclose(found, 3 * base, rtol=1e-6)


def test_a_still_target_stays_where_it_is_and_hostile_weights_stay_bounded(tmp_path):
    model = write_model(tmp_path / "m.onnx", constants("residual", scale=1e18))
    predictor = ResidualPredictor(PredictorConfig(model=model))
    box, state = np.array([[100.0, 90.0, 40.0, 20.0]]), predictor.blank(1)
    for k in range(8):
        state = predictor.observe(state, np.array([k * 40 * MS]), box, np.zeros(1, np.uint8))
    found = predictor.predict(state, np.array([280, 480, 9000]) * MS)
    np.testing.assert_allclose(found.boxes[0], np.repeat(box, 3, 0), atol=1e-6)
    state, last = walked(predictor)
    found = predictor.predict(state, last + np.array([0, 100, 60_000]) * MS)
    assert np.isfinite(found.boxes).all() and (found.boxes[..., 2:] >= 1).all()
    assert np.isfinite(found.variances).all() and (found.variances > 0).all()
    assert np.abs(found.boxes).max() < 1000
