"""The latency monitor against streams of known latency, as a delay estimator must be tested:
every stage with its own constant, samples missing, regimes changing."""

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.span import LatencyStatus, Origin, Span
from prediction.latency import LEVELS, QUANTILES, LatencyConfig, LatencyMonitor

MS = 1_000_000
S = 1_000 * MS
EPOCH = 1_700_000_000 * S


def span(stage, stamp_ns, age_ms, work_ms=1.0, dropped=0):
    end = stamp_ns + round(age_ms * MS)
    return Span(stage, stamp_ns, end - round(work_ms * MS), end, dropped)


def feed(monitor, stage, ages_ms, hz=30.0, start_ns=EPOCH, **more):
    """Frames at a steady rate; the end of the last one."""
    last = start_ns
    for k, age in enumerate(ages_ms):
        last_span = span(stage, start_ns + round(k * S / hz), age, **more)
        monitor.add(last_span)
        last = last_span.end_ns
    return last


def only(stage="tracker", **more):
    return LatencyConfig(stages=(stage,), consumer_stage=(stage,), **more)


def test_known_lags_are_recovered_within_a_millisecond_with_forty_percent_of_spans_missing():
    rng = np.random.default_rng(1)
    true_ms = {"isp": 11.0, "tracker": 83.0, "predictor": 84.7}
    monitor = LatencyMonitor(LatencyConfig())
    now = EPOCH
    for k in range(200):
        for stage, lag in true_ms.items():
            if rng.random() > 0.4:
                last = span(stage, EPOCH + k * 33 * MS, lag + rng.normal(0, 1.5), 0.5)
                monitor.add(last)
                now = max(now, last.end_ns)
    report = monitor.report(now)
    assert [s.stage for s in report.stages] == list(true_ms)
    for found in report.stages:
        assert found.status == LatencyStatus.ESTIMATED
        assert abs(found.median_ns * 1e-6 - true_ms[found.stage]) < 1.0
    assert abs(monitor.horizon("control", now).ns * 1e-6 - 84.7) < 1.0


def test_figures_are_numpys_over_the_window():
    rng = np.random.default_rng(4)
    monitor = LatencyMonitor(only(window_s=4.0))
    ages = rng.gamma(9.0, 7.0, 500)
    works = rng.uniform(2.0, 6.0, 500)
    ends, kept = [], []
    for k in range(500):
        last = span("tracker", EPOCH + k * 50 * MS, ages[k], min(works[k], ages[k]), dropped=k % 3)
        if ends and last.end_ns < ends[-1]:
            continue
        monitor.add(last)
        ends.append(last.end_ns)
        kept.append(last)
    window = [s for s in kept if ends[-1] - s.end_ns <= 4 * S]
    assert 40 < len(window) < len(kept)
    age = np.array([s.age_ns for s in window])
    found = monitor.stage("tracker", ends[-1])
    q = np.percentile(age, [25, 50, 75, 90, 99])
    assert (found.median_ns, found.p90_ns, found.p99_ns) == (round(q[1]), round(q[3]), round(q[4]))
    assert found.jitter_ns == round(q[2] - q[0])
    assert found.work_median_ns == round(np.median([s.end_ns - s.start_ns for s in window]))
    assert found.drops == sum(s.dropped for s in kept)
    rate = (len(window) - 1) / ((window[-1].end_ns - window[0].end_ns) * 1e-9)
    assert found.rate_hz == pytest.approx(rate)


@pytest.mark.parametrize(("before_ms", "after_ms"), [(60, 160), (160, 60), (45, 52)])
def test_a_change_of_regime_at_seven_hertz_is_seen_within_a_second(before_ms, after_ms):
    rng = np.random.default_rng(before_ms)
    monitor = LatencyMonitor(only())
    period = round(S / 7)
    for k in range(60):
        monitor.add(span("tracker", EPOCH + k * period, before_ms + rng.normal(0, 0.7)))
    change = EPOCH + 60 * period
    for k in range(60, 90):
        last = span("tracker", EPOCH + k * period, after_ms + rng.normal(0, 0.7))
        monitor.add(last)
        if last.end_ns - change > S:
            break
    assert k < 70
    found = monitor.horizon("control", last.end_ns)
    assert abs(found.ns * 1e-6 - after_ms) < 2.0 and found.status == LatencyStatus.ESTIMATED


def test_two_slow_frames_do_not_move_the_horizon():
    monitor = LatencyMonitor(only())
    ages = [40.0 + 0.1 * (k % 5) for k in range(40)]
    ages[20:22] = [300.0, 290.0]
    now = feed(monitor, "tracker", ages, hz=3.0)
    assert abs(monitor.horizon("control", now).ns * 1e-6 - 40.2) < 1.0


def test_noise_alone_is_no_change_of_regime():
    rng = np.random.default_rng(2)
    monitor = LatencyMonitor(only(window_s=10.0))
    ages = 80 + 15 * rng.standard_normal(90)
    now = feed(monitor, "tracker", ages, hz=9.0)
    assert abs(monitor.horizon("control", now).ns * 1e-6 - np.median(ages)) < 0.01


def test_stages_of_unequal_latency_are_not_swapped_whatever_their_order():
    config = LatencyConfig(
        stages=("predictor", "isp", "tracker"),
        consumers=("radio", "control", "display"),
        consumer_stage=("tracker", "predictor", "isp"),
        consumer_extra_ms=(31.0, 3.0, 7.0),
        consumer_prior_ms=(501.0, 502.0, 503.0),
    )
    monitor = LatencyMonitor(config)
    before = [h.ns for h in monitor.horizons(EPOCH)]
    assert before == [501 * MS, 502 * MS, 503 * MS]
    for k in range(20):
        for stage, age in (("isp", 9), ("tracker", 70), ("predictor", 72)):
            last = span(stage, EPOCH + k * 33 * MS, age)
            monitor.add(last)
    found = {h.consumer: h.ns for h in monitor.horizons(last.end_ns)}
    assert found == {"radio": 101 * MS, "control": 75 * MS, "display": 16 * MS}
    assert {s.stage: s.median_ns for s in monitor.report(last.end_ns).stages} == {
        "predictor": 72 * MS,
        "isp": 9 * MS,
        "tracker": 70 * MS,
    }


def test_the_prior_holds_until_there_are_enough_samples():
    monitor = LatencyMonitor(only(min_samples=4, consumer_prior_ms=(123.0,)))
    for k in range(4):
        found = monitor.horizon("control", EPOCH + k * 33 * MS + 20 * MS)
        assert (found.ns, found.status) == (123 * MS, LatencyStatus.PRIOR)
        monitor.add(span("tracker", EPOCH + k * 33 * MS, 20.0))
    found = monitor.horizon("control", EPOCH + 3 * 33 * MS + 20 * MS)
    assert (found.ns, found.status) == (20 * MS, LatencyStatus.ESTIMATED)


def test_a_silent_stage_is_stale_and_comes_back():
    monitor = LatencyMonitor(only(silent_ms=400.0))
    now = feed(monitor, "tracker", [25.0] * 30)
    assert monitor.horizon("control", now + 400 * MS).status == LatencyStatus.ESTIMATED
    late = monitor.horizon("control", now + 401 * MS)
    assert (late.ns, late.status) == (25 * MS, LatencyStatus.STALE)
    assert monitor.stage("tracker", now + 401 * MS).status == LatencyStatus.STALE
    now = feed(monitor, "tracker", [25.0] * 30, start_ns=now + 3 * S)
    assert monitor.horizon("control", now).status == LatencyStatus.ESTIMATED


def test_after_a_silence_longer_than_the_window_one_span_is_no_distribution():
    monitor = LatencyMonitor(only(window_s=2.0, min_samples=4, consumer_prior_ms=(123.0,)))
    now = feed(monitor, "tracker", [25.0] * 30)
    now = feed(monitor, "tracker", [61.0] * 3, start_ns=now + 60 * S)
    assert monitor.horizon("control", now).status == LatencyStatus.PRIOR
    now = feed(monitor, "tracker", [61.0] * 2, start_ns=now)
    found = monitor.horizon("control", now)
    assert (found.ns, found.status) == (61 * MS, LatencyStatus.ESTIMATED)


@pytest.mark.parametrize("now_ns", [0, EPOCH, 2 * EPOCH])
def test_without_input_nothing_is_ever_called_estimated(now_ns):
    monitor = LatencyMonitor(LatencyConfig(min_samples=1))
    report = monitor.report(now_ns)
    assert all(s.status != LatencyStatus.ESTIMATED for s in report.stages)
    assert all(h.status != LatencyStatus.ESTIMATED for h in report.horizons)
    feed(monitor, "isp", [5.0] * 30)
    report = monitor.report(EPOCH + S)
    assert [s.status == LatencyStatus.ESTIMATED for s in report.stages] == [True, False, False]
    assert report.horizons[0].status == LatencyStatus.PRIOR


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Span("radar", 0, 1, 2), "'radar'.*isp, tracker, predictor.*latency.stages"),
        (Span("isp", 10, 9, 20), "not in order"),
        (Span("isp", 10, 20, 19), "not in order"),
        (Span("isp", 10, 20, 30, -1), "-1 frames dropped"),
        (Span("isp", EPOCH, EPOCH + S, EPOCH + 2 * S, 2**32 - 1), "4294967295 frames dropped"),
        (Span("isp", EPOCH, 2**63 - 1, 2**63 - 1), "allowed is 0 to 60 s"),
        (Span("isp", EPOCH, EPOCH, EPOCH + 60 * S + 1), "allowed is 0 to 60 s"),
        (Span("isp", EPOCH, EPOCH, EPOCH + 1), "before the one before it"),
    ],
)
def test_a_span_that_makes_no_sense_is_refused_and_changes_nothing(bad, says):
    monitor = LatencyMonitor(LatencyConfig())
    now = feed(monitor, "isp", [5.0] * 10)
    before = monitor.report(now)
    with pytest.raises(InputError, match=says) as caught:
        monitor.add(bad)
    assert "\n" not in str(caught.value)
    assert monitor.report(now) == before


def test_reset_takes_a_clock_that_jumped_back():
    monitor = LatencyMonitor(only(consumer_prior_ms=(77.0,)))
    feed(monitor, "tracker", [250.0] * 20)
    monitor.reset()
    assert monitor.horizon("control", 5).ns == 77 * MS
    now = feed(monitor, "tracker", [31.0] * 20, start_ns=0)
    found = monitor.horizon("control", now)
    assert (found.ns, found.status) == (31 * MS, LatencyStatus.ESTIMATED)


def test_an_unknown_consumer_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"'gripper'.*control.*latency.consumers"):
        LatencyMonitor(LatencyConfig()).horizon("gripper", 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"consumers": ("a", "b")}, "consumer_stage: has 1 entries for 2"),
        ({"consumer_stage": ("radar",)}, "'radar' is none of isp, tracker, predictor"),
        ({"window_s": 0.0}, "window_s"),
        ({"consumer_extra_ms": (-1.0,)}, "consumer_extra_ms"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(options, says):
    with pytest.raises(InputError, match=says):
        LatencyConfig(**options)


def test_memory_is_bounded_at_any_rate():
    monitor = LatencyMonitor(only(window_s=600.0))
    for k in range(6000):
        monitor.add(Span("tracker", k * 1000, k * 1000, k * 1000 + 500))
    assert monitor.stage("tracker", 6_000_000).median_ns == 500
    assert len(monitor._samples["tracker"].ages) <= 4096


PLANNER = LatencyConfig(
    stages=("tracker", "predictor", "planner"),
    consumer_stage=("planner",),
    consumer_extra_ms=(7.0,),
    window_s=20.0,
)


def plan(monitor, rng, count=200, period_ms=300, handled=1.0, offset_ns=0):
    """Frames whose forecast comes after 60 ± ms, and whose plan takes 90 ± ms more; those times."""
    rests = []
    for k in range(count):
        stamp = EPOCH + k * period_ms * MS
        made = stamp + round(60 * MS * np.exp(0.4 * rng.standard_normal()))
        rest = round(90 * MS * np.exp(0.3 * rng.standard_normal()))
        monitor.add(Span("predictor", stamp, stamp, made))
        if rng.random() < handled:
            monitor.add(Span("planner", stamp + offset_ns, made, made + rest))
            rests.append(rest)
    return np.array(rests), made + rest


def test_the_horizon_after_a_forecast_has_none_of_the_jitter_before_it():
    monitor = LatencyMonitor(PLANNER)
    rests, now = plan(monitor, np.random.default_rng(5))
    found = monitor.horizon("control", now)
    assert (found.origin, found.status) == (Origin.FORECAST, LatencyStatus.ESTIMATED)
    assert len(found.quantiles_ns) == QUANTILES
    window = rests[-66:] / MS
    expected = np.quantile(window, LEVELS) + 7
    np.testing.assert_allclose(np.array(found.quantiles_ns) / MS, expected, rtol=0.05)
    ages_ms = found.ns / MS
    assert 140 < ages_ms < 180, "the median is still that of the age"


def test_frames_that_the_consumer_let_go_are_no_samples():
    monitor = LatencyMonitor(PLANNER)
    rests, now = plan(monitor, np.random.default_rng(6), handled=0.4)
    found = monitor.horizon("control", now)
    assert found.origin == Origin.FORECAST
    assert abs(np.mean(found.quantiles_ns) / MS - 7 - rests[-26:].mean() / MS) < 8


def test_a_consumer_of_other_frames_has_the_distribution_of_the_age():
    monitor = LatencyMonitor(PLANNER)
    _, now = plan(monitor, np.random.default_rng(7), offset_ns=1)
    found = monitor.horizon("control", now)
    assert found.origin == Origin.STAMP
    assert abs(np.median(found.quantiles_ns) - found.ns) < 2 * MS
    assert found.quantiles_ns[0] < 110 * MS and found.quantiles_ns[-1] > 220 * MS


def test_a_consumer_of_the_forecast_itself_acts_after_its_own_extra_time():
    monitor = LatencyMonitor(LatencyConfig(consumer_extra_ms=(12.5,)))
    rng = np.random.default_rng(8)
    now = feed(monitor, "predictor", 50 + rng.gamma(2.0, 9.0, 40), hz=7.0)
    found = monitor.horizon("control", now)
    assert found.origin == Origin.FORECAST
    assert set(found.quantiles_ns) == {round(12.5 * MS)}


def test_a_consumer_of_what_comes_before_the_forecast_acts_no_earlier_than_it():
    config = LatencyConfig(consumer_stage=("isp",), consumer_extra_ms=(15.0,))
    monitor = LatencyMonitor(config)
    for k in range(30):
        for stage, age in (("isp", 9), ("predictor", 60 + k % 3)):
            last = span(stage, EPOCH + k * 33 * MS, age)
            monitor.add(last)
    found = monitor.horizon("control", last.end_ns)
    assert (found.ns, found.origin) == (24 * MS, Origin.FORECAST)
    assert set(found.quantiles_ns) == {0}


def test_share_p_of_what_comes_lies_below_the_quantile_of_p_however_few_the_samples():
    rng = np.random.default_rng(9)
    config = LatencyConfig(stages=("tracker",), consumer_stage=("tracker",), min_samples=9)
    below = []
    for _ in range(3000):
        monitor = LatencyMonitor(config)
        times = 40 + 20 * rng.random(10)
        now = feed(monitor, "tracker", times[:9], hz=20.0)
        quantiles = np.array(monitor.horizon("control", now).quantiles_ns)
        below.append(times[9] * MS < quantiles)
    share = np.mean(below, axis=0)
    inner = slice(2, -2)  # of nine samples nothing lies outside the first and the last
    np.testing.assert_allclose(share[inner], LEVELS[inner], atol=0.04)


def test_the_prior_may_be_anything_from_at_once_to_twice_it():
    monitor = LatencyMonitor(only(consumer_prior_ms=(123.0,)))
    found = monitor.horizon("control", EPOCH)
    assert (found.status, found.origin, found.ns) == (LatencyStatus.PRIOR, Origin.STAMP, 123 * MS)
    np.testing.assert_allclose(np.array(found.quantiles_ns) / MS, 2 * 123 * LEVELS)


def test_a_silent_consumers_last_distribution_stays_and_is_called_stale():
    monitor = LatencyMonitor(PLANNER)
    _, now = plan(monitor, np.random.default_rng(5))
    before, late = monitor.horizon("control", now), monitor.horizon("control", now + 5 * S)
    assert late.status == LatencyStatus.STALE
    assert (late.quantiles_ns, late.origin) == (before.quantiles_ns, before.origin)


def test_after_a_change_of_regime_the_distribution_is_the_new_one():
    monitor = LatencyMonitor(PLANNER)
    rng = np.random.default_rng(5)
    for k in range(60):
        stamp, rest = EPOCH + k * 100 * MS, (40 if k < 50 else 200) + rng.normal(0, 2)
        monitor.add(span("predictor", stamp, 30 + rng.normal(0, 1)))
        end = stamp + round((30 + rest) * MS)
        monitor.add(Span("planner", stamp, stamp, end))
    found = monitor.horizon("control", end)
    assert found.origin == Origin.FORECAST
    assert min(found.quantiles_ns) > 190 * MS and found.ns > 220 * MS


def test_without_the_distribution_only_the_median_is_given():
    for monitor in (
        LatencyMonitor(only(distribution=False)),
        LatencyMonitor(LatencyConfig(distribution=False)),
    ):
        assert monitor.horizon("control", EPOCH).quantiles_ns == ()
    monitor = LatencyMonitor(only(distribution=False))
    now = feed(monitor, "tracker", [25.0] * 30)
    found = monitor.horizon("control", now)
    assert (found.ns, found.quantiles_ns) == (25 * MS, ())


def test_no_quantile_is_past_what_a_report_may_hold():
    monitor = LatencyMonitor(only(consumer_extra_ms=(60_000.0,), consumer_prior_ms=(60_000.0,)))
    assert max(monitor.horizon("control", EPOCH).quantiles_ns) == 60 * S
    now = feed(monitor, "tracker", [59_000.0] * 9)
    assert max(monitor.horizon("control", now).quantiles_ns) == 60 * S


def test_regions_are_asked_for_by_consumer():
    two = {
        "consumers": ("a", "b"),
        "consumer_stage": ("isp", "tracker"),
        "consumer_extra_ms": (0.0, 0.0),
        "consumer_prior_ms": (9.0, 9.0),
    }
    assert LatencyConfig(**two).probabilities == {}
    assert LatencyConfig(**two, consumer_probability=(0.9,)).probabilities == {"a": 0.9, "b": 0.9}
    assert LatencyConfig(**two, consumer_probability=(0.0, 0.8)).probabilities == {"b": 0.8}
    with pytest.raises(InputError, match="consumer_probability: has 3 entries for 2 consumers"):
        LatencyConfig(**two, consumer_probability=(0.1, 0.2, 0.3))
    with pytest.raises(InputError, match="consumer_probability"):
        LatencyConfig(consumer_probability=(1.0,))
