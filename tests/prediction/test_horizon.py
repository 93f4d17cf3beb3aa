"""Forecasts over a distribution of moments, against Monte Carlo: what the monitor knows of the
moment, the mixture's mean and covariance, and regions that hold what they say."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from pipeline.box import from_center, to_center
from pipeline.errors import InputError
from pipeline.span import Horizon, LatencyStatus, Origin, Span
from pipeline.tracks import Detections, ForecastStatus, Tracks, TrackStatus
from prediction.association import Association, AssociationConfig
from prediction.forecaster import Forecaster
from prediction.horizon import (
    CHUNK,
    FREEDOM,
    MISFIT,
    RATIO,
    Misfit,
    Outlook,
    forecasts,
    moments,
)
from prediction.kalman import kernel
from prediction.latency import LEVELS, QUANTILES, LatencyConfig, LatencyMonitor
from prediction.predictor import PREDICTORS, PredictorConfig

MS = 1_000_000
S = 1_000 * MS
EPOCH = 1_700_000_000 * S
PROBABILITIES = (0.5, 0.8, 0.9, 0.95, 0.99)
QUADRATURE = 0.02
"""What a thousand fixed samples may be off for one target."""


def log_normal(median_ms, sigma):
    """Quantiles of a log-normal time."""
    return tuple(
        round(median_ms * MS * np.exp(sigma * NormalDist().inv_cdf(level))) for level in LEVELS
    )


def horizon(quantiles_ns, origin=Origin.STAMP, ns=77 * MS):
    return Horizon("control", ns, LatencyStatus.ESTIMATED, quantiles_ns, origin)


def some_outlook(n=3, q=QUANTILES, seed=0):
    """Targets that move, grow and spread, each otherwise."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0.05, 0.31, q)[:, None]
    start = rng.uniform(100, 400, (n, 1, 4))
    centers = start + rng.uniform(-300, 300, (n, 1, 4)) * [1, 0.7, 0.2, 0.1] * time
    variances = rng.uniform(4, 60, (n, 1, 4)) * (1 + 3 * time)
    return Outlook(centers, variances, np.zeros((n, q), np.uint8))


def draws(rng, n):
    """(n, 4) of a Student-t, each of variance 1, all four of one scale."""
    scale = np.sqrt((FREEDOM - 2) / rng.chisquare(FREEDOM, (n, 1)))
    return rng.standard_normal((n, 4)) * scale


def with_error(rng, center, sigma):
    """(n, 4) centered true boxes about forecast ones, sides drawn in their logarithm."""
    error = sigma * draws(rng, len(center))
    sides = center[:, 2:] * np.exp(error[:, 2:] / center[:, 2:])
    return np.concatenate([center[:, :2] + error[:, :2], sides], axis=1)


def inside(region, boxes):
    """Share of centered boxes (n, 4) that lie wholly in regions x y w h, (4,) or (n, 4)."""
    boxes = from_center(boxes)
    low = (boxes[:, :2] >= region[..., :2]).all(axis=1)
    high = boxes[:, :2] + boxes[:, 2:] <= region[..., :2] + region[..., 2:]
    return (low & high.all(axis=1)).mean()


def binomial(p, n):
    """Four standard deviations."""
    return 4 * np.sqrt(p * (1 - p) / n)


def test_a_lead_that_is_known_is_one_moment_whatever_has_passed():
    assert moments(37 * MS, EPOCH, EPOCH + 90 * MS).tolist() == [EPOCH + 37 * MS]
    point = horizon((), ns=41 * MS)
    assert moments(point, EPOCH, EPOCH + 90 * MS).tolist() == [EPOCH + 41 * MS]


def test_times_after_the_forecast_count_from_it():
    times = log_normal(60, 0.4)
    found = moments(horizon(times, Origin.FORECAST), EPOCH, EPOCH + 90 * MS)
    assert found.tolist() == [EPOCH + 90 * MS + t for t in times]


def test_ages_that_are_over_when_the_forecast_is_made_are_impossible():
    rng = np.random.default_rng(3)
    ages = 80 * np.exp(0.5 * rng.standard_normal(400_000))
    for elapsed_ms in (5, 60, 80, 120):
        found = moments(horizon(log_normal(80, 0.5)), EPOCH, EPOCH + elapsed_ms * MS)
        found_ms = (found - EPOCH) / MS
        expected = np.quantile(ages[ages > elapsed_ms], LEVELS)
        assert found_ms.min() >= elapsed_ms and (np.diff(found) >= 0).all()
        # The last of sixteen parts is cut off at its middle.
        np.testing.assert_allclose(found_ms[:-3], expected[:-3], rtol=0.04)
    assert (found_ms[:1] > 120).all()


def test_a_consumer_that_should_have_acted_already_acts_now():
    now = EPOCH + 900 * MS
    assert moments(horizon(log_normal(80, 0.5)), EPOCH, now).tolist() == [now] * QUANTILES


@pytest.mark.parametrize("ready_ns", [EPOCH - 1, 0, EPOCH + 61 * S])
@pytest.mark.parametrize("origin", list(Origin))
def test_a_forecast_of_another_clock_falls_back_on_the_median(origin, ready_ns):
    found = moments(horizon(log_normal(60, 0.3), origin), EPOCH, ready_ns)
    assert found.tolist() == [EPOCH + 77 * MS]


def test_mean_and_covariance_are_those_of_the_mixture():
    rng = np.random.default_rng(1)
    outlook = some_outlook()
    n = 400_000
    at = rng.integers(0, QUANTILES, n)
    for i in range(3):
        sigma = np.sqrt(outlook.variances[i, at])
        drawn = outlook.centers[i, at] + sigma * rng.standard_normal((n, 4))
        np.testing.assert_allclose(outlook.mean()[i], drawn.mean(axis=0), atol=0.2)
        expected = np.cov(drawn.T)
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert (np.abs(outlook.covariances()[i] - expected) / scale).max() < 0.01
        assert np.abs(expected[0, 1] / scale[0, 1]) > 0.1, "the axes share the time"


def test_one_moment_is_no_mixture():
    one = some_outlook(q=1)
    np.testing.assert_array_equal(one.mean(), one.centers[:, 0])
    np.testing.assert_array_equal(one.covariances(), one.variances[:, 0, :, None] * np.eye(4))


@pytest.mark.parametrize("q", [1, QUANTILES])
def test_regions_hold_share_p_of_what_the_model_draws(q):
    rng = np.random.default_rng(2)
    targets, n = 12, 20_000
    outlook = some_outlook(targets, q)
    regions = outlook.regions(PROBABILITIES)
    levels = (np.arange(q) + 0.5) / q
    held = np.empty((len(PROBABILITIES), targets))
    for i in range(targets):
        u = rng.random(n)
        center, variance = (
            np.stack([np.interp(u, levels, of[i, :, k]) for k in range(4)], axis=1)
            for of in (outlook.centers, outlook.variances)
        )
        boxes = with_error(rng, center, np.sqrt(variance))
        held[:, i] = [inside(region, boxes) for region in regions[:, i]]
    for p, shares in zip(PROBABILITIES, held, strict=True):
        np.testing.assert_allclose(shares, p, atol=binomial(p, n) + QUADRATURE)
        assert shares.mean() == pytest.approx(p, abs=0.02)


@pytest.mark.parametrize("q", [1, 2, 5, QUANTILES, 64])
def test_regions_are_nested_and_hold_the_mean_box(q):
    outlook = some_outlook(q=q)
    found, mean = outlook.regions(PROBABILITIES), from_center(outlook.mean())
    assert (found[..., :2] < mean[:, :2]).all()
    assert (found[..., :2] + found[..., 2:] > mean[:, :2] + mean[:, 2:]).all()
    area = found[..., 2] * found[..., 3]
    assert (np.diff(area, axis=0) > 0).all()


def test_many_targets_are_each_as_alone():
    many = some_outlook(n=CHUNK + 7)
    together = many.regions((0.6, 0.9))
    assert together.shape == (2, CHUNK + 7, 4)
    for i in (0, CHUNK - 1, CHUNK, CHUNK + 6):
        alone = Outlook(*(part[i : i + 1] for part in (many.centers, many.variances, many.status)))
        np.testing.assert_allclose(alone.regions((0.6, 0.9))[:, 0], together[:, i])
    assert some_outlook(n=0).regions((0.5,)).shape == (1, 0, 4)


@pytest.mark.parametrize("status", [ForecastStatus.STALE, ForecastStatus.LOST])
def test_what_is_stale_or_lost_has_no_region(status):
    outlook = some_outlook()
    outlook.status[1] = status
    found = outlook.regions((0.9,))[0]
    assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()


@pytest.mark.parametrize("p", [0.0, -0.1, 0.999, 1.0, float("nan")])
def test_a_probability_that_cannot_be_had_is_refused(p):
    with pytest.raises(InputError, match="a region of"):
        some_outlook().regions((0.9, p))


def test_a_speck_and_a_target_as_large_as_the_image_have_finite_regions():
    centers = np.array([[[0.0, 0, 1, 1]], [[2000.0, 1000, 4000, 2000]]])
    outlook = Outlook(centers, centers**2 + 1, np.zeros((2, 1), np.uint8))
    assert np.isfinite(outlook.regions(PROBABILITIES)).all()


def tracks(stamp_ns, boxes):
    n = len(boxes)
    return Tracks(
        stamp_ns,
        stamp_ns,
        0,
        (1280, 720),
        np.arange(n, dtype=np.int32),
        boxes,
        np.ones(n, np.float32),
        np.full(n, TrackStatus.TRACKED, np.uint8),
        np.full(n, -1, np.int16),
    )


def flown(distribution, error=(0.05, 0.09), n=20, acts=1000):
    """Shares of ``PROBABILITIES`` that held, of many targets of known motion.

    Each has a tracker with an error of its center and its sides. A planner acts after a
    log-normal time that a monitor measures; the forecasts themselves are made late, too.
    """
    rng = np.random.default_rng(4)
    config = PredictorConfig(
        name="constant-velocity",
        center_noise=1e-4,
        size_noise=1e-4,
        acceleration_sigma=1e-3,
        growth_sigma=1e-3,
        tracker_center_error=error[0],
        tracker_size_error=error[1],
    )
    monitor = LatencyMonitor(
        LatencyConfig(
            stages=("predictor", "planner"),
            consumers=("planner",),
            consumer_stage=("planner",),
            window_s=90.0,
            distribution=distribution,
        )
    )
    forecaster = Forecaster(config)
    start = np.stack(
        [
            rng.uniform(200, 900, n),
            rng.uniform(200, 500, n),
            rng.uniform(30, 90, n),
            rng.uniform(20, 60, n),
        ],
        axis=1,
    )
    sides = np.concatenate([start[:, 2:], start[:, 2:]], axis=1)
    velocity = rng.uniform(-4, 4, (n, 2)) * start[:, 2:]

    def at(seconds):
        box = start.copy()
        box[:, :2] += velocity * seconds
        return box

    def truth(seconds):
        seen = at(seconds)
        offset = np.repeat(error, 2) * sides * draws(rng, n)
        grown = seen[:, 2:] * np.exp(offset[:, 2:] / seen[:, 2:])
        return np.concatenate([seen[:, :2] + offset[:, :2], grown], axis=1)

    held = []
    for k in range(acts + 200):
        stamp = EPOCH + k * 600 * MS
        forecaster.observe(tracks(stamp, from_center(at(k * 0.6))))
        ready = stamp + round(90 * MS * np.exp(0.4 * rng.standard_normal()))
        act = ready + round(70 * MS * np.exp(0.5 * rng.standard_normal()))
        if k >= 200:
            times = moments(monitor.horizon("planner", ready), stamp, ready)
            for region in forecaster.outlook(times).regions(PROBABILITIES):
                held.append(inside(region, truth((act - EPOCH) / S)))
        monitor.add(Span("predictor", stamp, stamp, ready))
        monitor.add(Span("planner", stamp, ready, act))
    return np.reshape(held, (acts, -1)).mean(axis=0)


def test_share_p_of_real_uses_is_inside_when_latency_and_errors_are_as_modeled():
    found = flown(distribution=True)
    for p, share in zip(PROBABILITIES, found, strict=True):
        # 1000 acts, the moment of each shared by all its targets.
        assert share == pytest.approx(p, abs=binomial(p, 1000) / 2 + 0.01)


def test_without_the_distribution_the_regions_hold_too_little():
    assert (flown(distribution=False)[:4] < np.array(PROBABILITIES[:4]) - 0.08).all()


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_predictor_forecasts_over_a_distribution(name):
    forecaster = Forecaster(PredictorConfig(name=name))
    for k in range(12):
        box = np.array([[100 + 6.0 * k, 80 + 1.0 * k, 40, 30], [300 - 5.0 * k, 200, 25, 50]])
        forecaster.observe(tracks(EPOCH + k * 33 * MS, box))
    stamp, ready = EPOCH + 11 * 33 * MS, EPOCH + 11 * 33 * MS + 40 * MS
    times = log_normal(100, 0.5)
    known = {"planner": horizon(times, Origin.FORECAST), "control": 50 * MS}
    found = forecaster.forecast(stamp, ready, known, {"planner": 0.9})
    assert found.consumers == ("planner", "control")
    assert abs(found.valid_at_ns[0] - ready - np.mean(times)) <= 1
    assert found.valid_at_ns[1] == stamp + 50 * MS
    assert np.isfinite(found.regions[0]).all() and np.isnan(found.regions[1]).all()
    assert found.probabilities.tolist() == [0.9, 0.0]
    each = forecaster.outlook(ready + np.array(times))
    np.testing.assert_allclose(found.boxes[0], from_center(each.mean()))
    np.testing.assert_allclose(found.covariances[0], each.covariances())
    exact = forecaster.outlook(np.array([stamp + 50 * MS]))
    np.testing.assert_allclose(to_center(found.boxes[1]), exact.centers[:, 0])
    one = found.covariances[1, 0]
    np.testing.assert_array_equal(one, np.diag(np.diag(one)))
    if name != "none":
        assert abs(found.covariances[0, 0, 0, 1]) > 0


def test_the_trackers_own_error_is_in_every_covariance():
    def covariance(**options):
        forecaster = Forecaster(PredictorConfig(**options))
        for k in range(9):
            forecaster.observe(tracks(EPOCH + k * 33 * MS, np.array([[100.0, 80, 40, 20]])))
        return np.diag(forecaster.forecast(EPOCH + 264 * MS, 0, {"a": 0}).covariances[0, 0])

    alone = covariance(tracker_center_error=0.0, tracker_size_error=0.0)
    whole = covariance(tracker_center_error=0.05, tracker_size_error=0.2)
    np.testing.assert_allclose(whole - alone, [2.0**2, 1.0**2, 8.0**2, 4.0**2])


def misfits(forecaster):
    return forecaster._misfit.shares() / RATIO


def wandering(rng, n, sigma):
    """(n, 4): a target that a Kalman filter's own model moves, its drive times sigma."""
    config = PredictorConfig()
    dt, side = 0.1, 40.0
    reach, e, qxx, qxv, qvv = (float(k) for k in kernel(np.array(dt), config.velocity_memory_s))
    drive = np.linalg.cholesky([[qxx, qxv], [qxv, qvv]]) * config.acceleration_sigma * side * sigma
    x, v = np.array([300.0, 300.0]), np.zeros(2)
    boxes = []
    for _ in range(n):
        step = drive @ rng.standard_normal((2, 2))
        x, v = x + reach * v + step[0], e * v + step[1]
        boxes.append([*(x + config.center_noise * side * sigma * rng.standard_normal(2)), 40, 40])
    return from_center(np.array(boxes))


def test_what_answers_were_off_by_scales_the_variance_of_that_target():
    rng = np.random.default_rng(12)
    sigmas = [1.0, 0.3, 1.0, 0.3] * 8
    paths = np.stack([wandering(rng, 60, sigma) for sigma in sigmas], axis=1)
    forecaster = Forecaster(PredictorConfig())
    for k, boxes in enumerate(paths):
        forecaster.observe(tracks(EPOCH + k * 100 * MS, boxes))
    found = misfits(forecaster)
    assert np.mean(found[::2]) == pytest.approx(1.0, abs=0.25)
    assert np.mean(found[1::2]) == pytest.approx(0.09, abs=0.05)
    regions = forecaster.outlook(np.array([EPOCH + 60 * 100 * MS])).regions((0.9,))[0]
    assert regions[::2, 2].min() > 1.05 * regions[1::2, 2].max()


def test_a_new_target_and_one_that_jumped_count_as_any_other():
    forecaster = Forecaster(PredictorConfig())
    still = np.array([[100.0, 80, 40, 20], [300.0, 80, 40, 20]])
    forecaster.observe(tracks(EPOCH, still))
    assert misfits(forecaster).tolist() == [MISFIT, MISFIT]
    for k in range(1, 20):
        forecaster.observe(tracks(EPOCH + k * 33 * MS, still))
    assert (misfits(forecaster) < MISFIT / 4).all()
    jumped = still + [[0.0, 0, 0, 0], [500, 0, 0, 0]]
    forecaster.observe(tracks(EPOCH + 660 * MS, jumped))
    low, again = misfits(forecaster)
    assert low < MISFIT / 4 and again == MISFIT


def test_answers_that_are_doubtful_or_old_say_nothing_of_the_motion():
    forecaster = Forecaster(PredictorConfig())
    box = np.array([[100.0, 80, 40, 20]])
    for k in range(5):
        forecaster.observe(tracks(EPOCH + k * 33 * MS, box))
    before = misfits(forecaster)
    for stamp, status in (
        (EPOCH + 5 * 33 * MS, TrackStatus.UNCERTAIN),
        (EPOCH + 6 * 33 * MS, TrackStatus.LOST),
        (EPOCH + 2 * 33 * MS, TrackStatus.TRACKED),
    ):
        odd = tracks(stamp, box + [9.0, 9, 0, 0])
        odd.status[:] = status
        forecaster.observe(odd)
        np.testing.assert_array_equal(misfits(forecaster), before)


def test_each_target_keeps_its_own_misfit_when_others_come_and_go():
    rng = np.random.default_rng(5)
    forecaster = Forecaster(PredictorConfig())
    for k in range(30):
        boxes = np.array([[100.0, 80, 40, 20], [300.0 + 8 * rng.standard_normal(), 80, 40, 20]])
        found = tracks(EPOCH + k * 33 * MS, boxes)
        order = [1, 0] if k % 2 else [0, 1]
        forecaster.observe(replace(found, ids=found.ids[order], boxes=boxes[order]))
    by_id = dict(zip(forecaster._ids.tolist(), misfits(forecaster), strict=True))
    assert by_id[1] > 20 * by_id[0]
    late = tracks(EPOCH + 1000 * MS, np.array([[500.0, 80, 40, 20]]))
    forecaster.observe(replace(late, ids=np.array([7], np.int32)))
    again = dict(zip(forecaster._ids.tolist(), misfits(forecaster), strict=True))
    assert again == {7: MISFIT, **by_id}


def test_targets_of_detections_have_misfits_and_regions_of_their_own():
    forecaster = Forecaster(PredictorConfig(), Association(AssociationConfig(forget_ms=300.0)))
    rng = np.random.default_rng(6)

    def detected(k, *boxes):
        n = len(boxes)
        score, label = np.full(n, 0.9, np.float32), np.zeros(n, np.int16)
        found = Detections(EPOCH + k * 100 * MS, k, (640, 480), np.array(boxes), score, label)
        return forecaster.observe(found)

    def regions(stamp_ns):
        known = {"a": horizon(log_normal(60, 0.3), Origin.FORECAST)}
        found = forecaster.forecast(stamp_ns, stamp_ns, known, {"a": 0.9})
        return found.ids.tolist(), found.regions[0]

    still, new = [100.0, 80, 40, 20], [500.0, 300, 40, 20]
    for k in range(20):
        detected(k, still, [300.0 + 3 * rng.standard_normal(), 80, 40, 20])
    calm, restless = misfits(forecaster)
    assert restless > 10 * calm
    detected(20, still, [300.0, 80, 40, 20], new)
    ids, region = regions(EPOCH + 2000 * MS)
    assert ids == [0, 1] and region[1, 2] > region[0, 2], "the new one is not published yet"
    for k in (21, 22, 23, 24):
        detected(k, new, [300.0, 80, 40, 20])
    assert regions(EPOCH + 2400 * MS)[0] == forecaster._ids.tolist() == [1, 2]
    assert misfits(forecaster)[0] > 3 * misfits(forecaster)[1]


def test_no_answers_at_all_are_no_misfit():
    assert Misfit.blank(0).shares().shape == (0,)
    assert Misfit.blank(3).shares().tolist() == [RATIO * MISFIT] * 3


def test_the_status_is_that_of_the_middle_moment():
    config = PredictorConfig(name="constant-velocity", max_horizon_ms=100)
    forecaster = Forecaster(config)
    for k in range(4):
        forecaster.observe(tracks(EPOCH + k * 33 * MS, np.array([[100.0, 80, 40, 20]])))
    stamp = EPOCH + 3 * 33 * MS
    for median_ms, status in ((60, ForecastStatus.OK), (140, ForecastStatus.STALE)):
        known = {"a": horizon(log_normal(median_ms, 0.6), Origin.FORECAST)}
        found = forecaster.forecast(stamp, stamp, known, {"a": 0.9})
        assert found.status.tolist() == [[status]]
        assert np.isnan(found.regions).all() == (status == ForecastStatus.STALE)


def test_nobody_to_forecast_for_and_nothing_to_forecast():
    forecaster = Forecaster(PredictorConfig())
    found = forecaster.forecast(EPOCH, EPOCH, {}, {})
    assert found.boxes.shape == (0, 0, 4) and found.regions.shape == (0, 0, 4)
    known = {"a": horizon(log_normal(60, 0.6), Origin.FORECAST)}
    assert forecaster.forecast(EPOCH, EPOCH, known, {"a": 0.9}).regions.shape == (1, 0, 4)
    forecaster.observe(tracks(EPOCH, np.array([[100.0, 80, 40, 20]])))
    assert forecaster.forecast(EPOCH, EPOCH, {}).boxes.shape == (0, 1, 4)


def test_all_consumers_cost_one_call_of_the_predictor():
    asked = []

    def outlook(times):
        asked.append(len(times))
        return some_outlook(q=len(times))

    ids = np.arange(3, dtype=np.int32)
    known = {"a": horizon(log_normal(60, 0.3)), "b": 5, "c": horizon(log_normal(9, 0.1))}
    found = forecasts(outlook, ids, EPOCH, EPOCH, known, {"c": 0.5})
    assert asked == [2 * QUANTILES + 1]
    whole = some_outlook(q=2 * QUANTILES + 1)
    np.testing.assert_allclose(to_center(found.boxes[1]), whole.centers[:, QUANTILES])
    np.testing.assert_allclose(
        to_center(found.boxes[2]), whole.centers[:, QUANTILES + 1 :].mean(axis=1)
    )
