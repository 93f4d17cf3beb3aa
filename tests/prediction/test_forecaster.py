"""The track table: targets that come and go, and what consumers get of them."""

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.tracks import MAX_TARGETS, ForecastStatus, Tracks, TrackStatus
from prediction.forecaster import Forecaster
from prediction.predictor import PREDICTORS, PredictorConfig

MS = 1_000_000


def tracks(stamp_ms, boxes, status=TrackStatus.TRACKED):
    """Tracks of {id: center x}, each 40×20 at y 100."""
    n = len(boxes)
    xs = np.array(list(boxes.values()), np.float64)
    return Tracks(
        stamp_ms * MS,
        stamp_ms * MS,
        0,
        (640, 480),
        np.array(list(boxes), np.int32),
        np.stack([xs - 20, np.full(n, 90.0), np.full(n, 40.0), np.full(n, 20.0)], axis=1),
        np.ones(n, np.float32),
        np.full(n, status, np.uint8),
        np.full(n, -1, np.int16),
    )


def center_x(forecasts, consumer, target):
    row = forecasts.ids.tolist().index(target)
    box = forecasts.boxes[forecasts.of(consumer), row]
    return box[0] + box[2] / 2


@pytest.mark.parametrize("name", PREDICTORS)
def test_an_empty_table_forecasts_nothing_for_every_consumer(name):
    found = Forecaster(PredictorConfig(name=name)).forecast(5, 9, {"control": 3, "radio": 8})
    assert found.boxes.shape == (2, 0, 4) and found.covariances.shape == (2, 0, 4, 4)
    assert found.valid_at_ns.tolist() == [8, 13] and found.ready_ns == 9


def test_each_consumer_gets_its_own_horizon():
    forecaster = Forecaster(PredictorConfig(name="constant-velocity"))
    for k in range(4):
        forecaster.observe(tracks(k * 50, {7: 100 + 10 * k, 3: 400 - 4 * k}))
    found = forecaster.forecast(150 * MS, 170 * MS, {"control": 100 * MS, "radio": 350 * MS})
    assert found.consumers == ("control", "radio")
    assert found.valid_at_ns.tolist() == [250 * MS, 500 * MS]
    assert center_x(found, "control", 7) == pytest.approx(130 + 20)
    assert center_x(found, "radio", 7) == pytest.approx(130 + 70)
    assert center_x(found, "control", 3) == pytest.approx(388 - 8)
    assert (found.status == ForecastStatus.OK).all()
    with pytest.raises(InputError, match=r"'gripper'.*control, radio"):
        found.of("gripper")


def test_covariances_are_diagonal_and_of_the_consumers_own_horizon():
    forecaster = Forecaster(PredictorConfig())
    for k in range(6):
        forecaster.observe(tracks(k * 50, {1: 100 + 10 * k}))
    found = forecaster.forecast(250 * MS, 0, {"near": 10 * MS, "far": 300 * MS})
    for matrix in found.covariances[:, 0]:
        np.testing.assert_array_equal(matrix, np.diag(np.diag(matrix)))
    assert (np.diag(found.covariances[1, 0]) > np.diag(found.covariances[0, 0])).all()


@pytest.mark.parametrize("name", ["constant-velocity", "kalman"])
def test_targets_that_come_go_and_swap_places_keep_their_own_motion(name):
    forecaster = Forecaster(PredictorConfig(name=name, velocity_memory_s=1000))
    for k in range(30):
        here = {1: 100 + 6 * k, 2: 500 - 9 * k}
        if k >= 10:
            here[5] = 50.0
        if 12 <= k < 15:
            del here[2]
        order = list(here)[:: 1 if k % 2 else -1]
        forecaster.observe(tracks(k * 40, {i: here[i] for i in order}))
    found = forecaster.forecast(29 * 40 * MS, 0, {"control": 80 * MS})
    assert center_x(found, "control", 1) == pytest.approx(100 + 6 * 31, abs=0.6)
    assert center_x(found, "control", 2) == pytest.approx(500 - 9 * 31, abs=0.9)
    assert center_x(found, "control", 5) == pytest.approx(50.0, abs=0.01)


def test_an_unseen_target_goes_on_becomes_stale_and_is_forgotten():
    forecaster = Forecaster(
        PredictorConfig(name="constant-velocity", max_horizon_ms=400, forget_ms=1000)
    )
    for k in range(3):
        forecaster.observe(tracks(k * 100, {1: 100 + 10 * k, 2: 300.0}))
    statuses = {}
    for stamp_ms in (300, 600, 1200, 1201):
        forecaster.observe(tracks(stamp_ms, {2: 300.0}))
        found = forecaster.forecast(stamp_ms * MS, 0, {"control": 0})
        ids = found.ids.tolist()
        statuses[stamp_ms] = int(found.status[0, ids.index(1)]) if 1 in ids else None
        if stamp_ms == 300:
            assert center_x(found, "control", 1) == pytest.approx(130)
    assert statuses == {
        300: ForecastStatus.OK,
        600: ForecastStatus.OK,
        1200: ForecastStatus.STALE,
        1201: None,
    }


def test_frames_without_targets_are_frames_too():
    forecaster = Forecaster(PredictorConfig(forget_ms=100))
    forecaster.observe(tracks(0, {1: 100.0}))
    forecaster.observe(tracks(90, {}))
    assert forecaster.forecast(0, 0, {"control": 0}).ids.tolist() == [1]
    forecaster.observe(tracks(101, {}))
    assert len(forecaster.forecast(0, 0, {"control": 0}).ids) == 0


def test_the_table_is_bounded_and_keeps_the_newest():
    forecaster = Forecaster(PredictorConfig(forget_ms=600_000))
    for k in range(6):
        ids = range(k * 400, (k + 1) * 400)
        forecaster.observe(tracks(k, {i: 10.0 for i in ids}))
    ids = forecaster.forecast(0, 0, {"control": 0}).ids
    assert len(ids) <= MAX_TARGETS
    assert set(range(2000, 2400)) <= set(ids.tolist()) and 0 not in ids


def test_reset_forgets_so_that_an_earlier_clock_is_taken():
    forecaster = Forecaster(PredictorConfig(name="constant-velocity"))
    for k in range(4):
        forecaster.observe(tracks(90_000 + k * 50, {1: 100 + 30 * k}))
    forecaster.reset()
    forecaster.observe(tracks(5, {1: 222.0}))
    found = forecaster.forecast(5 * MS, 0, {"control": 100 * MS})
    assert center_x(found, "control", 1) == pytest.approx(222.0)
    assert found.status.tolist() == [[ForecastStatus.PRIOR]]


def test_a_lost_target_is_forecast_with_that_status():
    forecaster = Forecaster(PredictorConfig())
    forecaster.observe(tracks(0, {1: 100.0}))
    forecaster.observe(tracks(40, {1: 300.0}, TrackStatus.LOST))
    found = forecaster.forecast(40 * MS, 0, {"control": 0})
    assert found.status.tolist() == [[ForecastStatus.LOST]]
    assert center_x(found, "control", 1) == pytest.approx(100.0)
