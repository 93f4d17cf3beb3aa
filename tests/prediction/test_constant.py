"""The two baselines: exact where their assumption holds, honest where they know nothing."""

import numpy as np
import pytest

from pipeline.box import from_center
from pipeline.tracks import ForecastStatus, TrackStatus
from prediction.constant import ConstantVelocity, NoPredictor
from prediction.predictor import PredictorConfig

MS = 1_000_000
GAPS_MS = np.array([0, 17, 60, 33, 210, 48, 5])


def at(seconds, velocity=(140.0, -35.0), growth=(0.0, 0.0)):
    """(n, 4) x y w h of a target of 50×20 at (300, 200) at time 0."""
    seconds = np.asarray(seconds, np.float64)[:, None]
    centers = np.array([300.0, 200.0]) + seconds * velocity
    sides = np.array([50.0, 20.0]) * np.exp(seconds * growth)
    return from_center(np.hstack([centers, sides]))


def observed(predictor, stamps, boxes, status=None):
    state = predictor.blank(1)
    for k, (stamp, box) in enumerate(zip(stamps, boxes, strict=True)):
        how = np.array([status[k] if status else 0], np.uint8)
        state = predictor.observe(state, np.array([stamp]), box[None], how)
    return state


@pytest.mark.parametrize("history", [1, 3, 6])
def test_constant_velocity_is_exact_on_steady_motion_at_irregular_times(history):
    predictor = ConstantVelocity(PredictorConfig(history=history))
    stamps = 10**18 + np.cumsum(GAPS_MS) * MS
    state = observed(predictor, stamps, at((stamps - 10**18) * 1e-9))
    moments = stamps[-1] + np.array([0, 7, 333, 1000]) * MS
    found = predictor.predict(state, moments)
    np.testing.assert_allclose(found.boxes[0], at((moments - 10**18) * 1e-9), rtol=1e-12)
    assert (found.status == ForecastStatus.OK).all()


@pytest.mark.parametrize("kind", [NoPredictor, ConstantVelocity])
def test_a_moment_before_the_last_observation_gets_that_observation(kind):
    predictor = kind(PredictorConfig())
    stamps = np.cumsum(GAPS_MS) * MS
    state = observed(predictor, stamps, at(stamps * 1e-9))
    early = predictor.predict(state, stamps[-1:] - 70 * MS)
    last = predictor.predict(state, stamps[-1:])
    np.testing.assert_array_equal(early.boxes, last.boxes)
    np.testing.assert_array_equal(early.variances, last.variances)


def test_constant_velocity_is_exact_on_steady_growth():
    predictor = ConstantVelocity(PredictorConfig())
    seconds = np.cumsum(GAPS_MS) * 1e-3
    still, growth = (0.0, 0.0), (0.8, -0.3)
    stamps = np.cumsum(GAPS_MS) * MS
    state = observed(predictor, stamps, at(seconds, still, growth))
    found = predictor.predict(state, stamps[-1:] + 500 * MS)
    np.testing.assert_allclose(found.boxes[0], at(seconds[-1:] + 0.5, still, growth), rtol=1e-12)


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_constant_velocity_uses_the_part_of_its_history_that_it_has(seen):
    predictor = ConstantVelocity(PredictorConfig(history=5))
    stamps = np.cumsum(GAPS_MS)[1 : 1 + seen] * MS
    state = observed(predictor, stamps, at(stamps * 1e-9))
    found = predictor.predict(state, stamps[-1:] + 90 * MS)
    if seen == 1:
        np.testing.assert_allclose(found.boxes[0], at(stamps[-1:] * 1e-9))
        assert found.status[0, 0] == ForecastStatus.PRIOR
    else:
        np.testing.assert_allclose(found.boxes[0], at(stamps[-1:] * 1e-9 + 0.09), rtol=1e-12)
        assert found.status[0, 0] == ForecastStatus.OK


def test_constant_velocity_averages_relative_to_the_boxs_size():
    """Steps of 10, 40 px at sides 50, 100 and 100, 200 ms: (10/50/.1 + 40/100/.2)/2 = 2 sides/s."""
    predictor = ConstantVelocity(PredictorConfig(history=2))
    centered = np.array([[100, 80, 50, 20], [110, 80, 100, 20], [150, 80, 100, 20.0]])
    state = observed(predictor, [0, 100 * MS, 300 * MS], from_center(centered))
    ahead = predictor.predict(state, np.array([400 * MS])).boxes[0, 0]
    assert ahead[0] + ahead[2] / 2 == pytest.approx(150 + 0.1 * 2.0 * 100)


def test_lost_answers_do_not_enter_the_velocity():
    predictor = ConstantVelocity(PredictorConfig())
    stamps = np.arange(5) * 40 * MS
    boxes = at(stamps * 1e-9)
    boxes[3] = (0, 0, 5, 5)
    status = [0, 0, 0, TrackStatus.LOST, 0]
    lost = observed(predictor, stamps[:4], boxes[:4], status)
    assert predictor.predict(lost, stamps[3:4]).status[0, 0] == ForecastStatus.LOST
    found = predictor.predict(observed(predictor, stamps, boxes, status), stamps[-1:] + 60 * MS)
    np.testing.assert_allclose(found.boxes[0], at(stamps[-1:] * 1e-9 + 0.06), rtol=1e-12)
    assert found.status[0, 0] == ForecastStatus.OK


def test_no_predictor_stands_where_the_last_answer_was_even_a_lost_one():
    predictor = NoPredictor(PredictorConfig())
    stamps = np.arange(4) * 40 * MS
    boxes = at(stamps * 1e-9)
    state = observed(predictor, stamps, boxes, [0, 0, 0, TrackStatus.LOST])
    found = predictor.predict(state, stamps[-1:] + np.array([0, 900]) * MS)
    np.testing.assert_allclose(found.boxes[0], np.repeat(boxes[-1:], 2, axis=0))
    assert (found.status == ForecastStatus.LOST).all()


@pytest.mark.parametrize("kind", [NoPredictor, ConstantVelocity])
def test_forecasts_past_the_longest_horizon_are_stale_and_stand(kind):
    predictor = kind(PredictorConfig(max_horizon_ms=300))
    stamps = np.arange(4) * 40 * MS
    state = observed(predictor, stamps, at(stamps * 1e-9))
    found = predictor.predict(state, stamps[-1] + np.array([299, 301, 90_000]) * MS)
    assert found.status[0].tolist() == [ForecastStatus.OK, *[ForecastStatus.STALE] * 2]
    np.testing.assert_allclose(found.boxes[0, 1], found.boxes[0, 0], atol=0.3)
    np.testing.assert_allclose(found.boxes[0, 2], found.boxes[0, 1])


@pytest.mark.parametrize("kind", [NoPredictor, ConstantVelocity])
def test_uncertainty_grows_with_the_horizon(kind):
    predictor = kind(PredictorConfig())
    stamps = np.arange(4) * 40 * MS
    state = observed(predictor, stamps, at(stamps * 1e-9))
    found = predictor.predict(state, stamps[-1] + np.array([0, 100, 400]) * MS)
    assert (np.diff(found.variances[0], axis=0) > 0).all()
