"""Time of a simulator runs on between ticks and never back, whoever says it."""

import sys
import threading
import time

import pytest

pytest.importorskip("rclpy")

from ros_nodes.simulator_clock import SmoothClock

STEP_NS = 1_000_000


def test_two_threads_never_say_an_earlier_time():
    said = []

    def say(stamp_ns):
        time.sleep(0)  # let the other one in
        said.append(stamp_ns)

    clock = SmoothClock(say, 0, STEP_NS, 1e3)
    stopped = threading.Event()

    def run_on():
        while not stopped.is_set():
            clock.run_on()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=run_on)
    thread.start()
    try:
        for k in range(1, 1000):
            clock.tick(k * STEP_NS)
    finally:
        sys.setswitchinterval(interval)
        stopped.set()
        thread.join(5)
    assert said == sorted({*said})
    assert {k * STEP_NS for k in range(1, 1000)} <= {*said}


def test_it_runs_on_between_ticks_but_not_into_the_next():
    said = []
    clock = SmoothClock(said.append, 0, STEP_NS, 1e3)
    clock.tick(STEP_NS)
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        clock.run_on()
    assert said[0] == STEP_NS and said[-1] == 2 * STEP_NS - 1
    clock.run_on()
    assert said[-1] == 2 * STEP_NS - 1 and said.count(said[-1]) == 1
    assert clock.stamp_ns == STEP_NS
