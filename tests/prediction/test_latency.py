"""The latency monitor against streams of known latency, as a delay estimator must be tested:
every stage with its own constant, samples missing, regimes changing."""

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.span import LatencyStatus, Span
from prediction.latency import LatencyConfig, LatencyMonitor

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
