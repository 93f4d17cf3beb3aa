"""A clock that drifts is told from jitter and from a delay that changes."""

import numpy as np
import pytest

from comms.drift import DriftMonitor
from tests.comms.made import NOW, S


def run(ages_s, rate_hz=10.0, monitor=None, start_s=0.0):
    """First time in s at which the monitor says drift, or None; and the monitor."""
    monitor = monitor or DriftMonitor()
    first = None
    for k, age in enumerate(ages_s):
        at = start_s + k / rate_hz
        if monitor.observe(round(age * S), NOW + round(at * S)) and first is None:
            first = at
    return first, monitor


@pytest.mark.parametrize("rate", [0.1, -0.1])
@pytest.mark.parametrize("jitter", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("hz", [3.0, 10.0, 77.0])
def test_a_drift_of_100_ms_a_second_is_seen_within_seconds(rate, jitter, hz):
    rng = np.random.default_rng(1)
    t = np.arange(round(10 * hz)) / hz
    first, _ = run(0.03 + rate * t + rng.exponential(jitter, len(t)), hz)
    assert first is not None and first < 6


def test_neither_jitter_nor_a_delay_that_changes_nor_lost_messages_are_a_drift():
    t = np.arange(1200) / 10
    for seed in range(10):
        rng = np.random.default_rng(seed)
        jitter = rng.exponential(0.03, len(t)) + 0.02
        steps = np.cumsum(rng.choice([0, 0.3, -0.3], len(t), p=[0.99, 0.005, 0.005]))
        for ages in (jitter, 0.04 + 0 * t, np.abs(steps) + jitter):
            assert run(ages)[0] is None
            assert run(ages[:300], rate_hz=1.0)[0] is None
    rare = 0.02 + np.random.default_rng(9).exponential(0.05, 300)
    assert run(rare, rate_hz=1.7)[0] is None


def test_a_clock_that_drifted_off_stays_refused_until_it_is_back():
    steady, away = np.full(80, 0.05), 0.05 + 0.1 * np.arange(40) / 10
    first, monitor = run([*steady, *away])
    assert 8 < first < 12 and monitor.drifting
    _, monitor = run(np.full(300, away[-1]), monitor=monitor, start_s=12)
    assert monitor.drifting  # steady, but 400 ms off
    _, monitor = run(np.full(60, 0.06), monitor=monitor, start_s=42)
    assert not monitor.drifting
