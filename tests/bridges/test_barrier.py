"""Waiting for sensors: bounded, counted, and not for those that keep away."""

import threading
import time

import numpy as np
import pytest

from bridges.barrier import MOST_AHEAD, MOST_EVENTS, SILENT_AFTER, FrameBarrier
from bridges.simulator import Fix, Heard, Reading, Sensor, SensorKind

GNSS = [Sensor(SensorKind.GNSS, name, 1) for name in ("a", "b")]


def said(name, frame):
    return Reading(name, frame, frame * 10, Fix(0.0, 0.0, 0.0))


def test_all_that_is_due_is_there():
    barrier = FrameBarrier(GNSS)
    barrier.put(said("b", 7))
    threading.Timer(0.05, barrier.put, [said("a", 7)]).start()
    readings, missing = barrier.collect(7, 5.0)
    assert (sorted(readings), missing) == (["a", "b"], ())


def test_who_stays_away_is_named_in_time():
    barrier = FrameBarrier(GNSS)
    barrier.put(said("b", 7))
    begin = time.monotonic()
    readings, missing = barrier.collect(7, 0.1)
    assert 0.1 <= time.monotonic() - begin < 1
    assert ([*readings], missing) == (["b"], ("a",))
    assert barrier.counts["missing"] == 1


def test_who_never_speaks_is_not_waited_for_until_it_does():
    barrier = FrameBarrier(GNSS)
    for frame in range(SILENT_AFTER + 3):
        barrier.put(said("b", frame))
        begin = time.monotonic()
        _, missing = barrier.collect(frame, 0.02)
        assert missing == (("a",) if frame < SILENT_AFTER else ())
    assert time.monotonic() - begin < 0.02
    assert barrier.silent == ("a",)
    barrier.put(said("a", 50))
    barrier.put(said("b", 50))
    assert sorted(barrier.collect(50, 1.0)[0]) == ["a", "b"] and barrier.silent == ()


def test_what_comes_late_repeated_or_of_nobody_is_counted_and_dropped():
    barrier = FrameBarrier(GNSS)
    barrier.put(said("a", 3))
    barrier.put(said("a", 4))
    barrier.put(said("a", 4))
    barrier.put(said("b", 4))
    barrier.collect(4, 0.0)
    barrier.put(said("b", 4))
    barrier.put(said("nobody", 5))
    barrier.put(said("a", 100_000))
    counts = {k: v for k, v in barrier.counts.items() if v}
    assert counts == {"late": 2, "repeated": 1, "unasked": 2}


def test_every_third_is_due_from_the_first_on():
    barrier = FrameBarrier([Sensor(SensorKind.GNSS, "a", 1, every=3)])
    for frame in range(10, 17):
        if (frame - 10) % 3 == 0:
            barrier.put(said("a", frame))
        readings, missing = barrier.collect(frame, 0.0)
        assert (len(readings), missing) == (((frame - 10) % 3 == 0), ())


@pytest.mark.parametrize("count", [3, MOST_EVENTS + 9])
def test_events_are_not_waited_for_and_bounded(count):
    barrier = FrameBarrier([*GNSS, Sensor(SensorKind.V2X, "radio", 1)])
    for k in range(count):
        barrier.put(Reading("radio", k, k, Heard(b"x", -60.0)))
    assert barrier.due(0) == {"a", "b"}
    assert len(barrier.events()) == min(count, MOST_EVENTS) and barrier.events() == []


def test_many_threads_at_once():
    barrier = FrameBarrier([Sensor(SensorKind.GNSS, f"s{k}", 1) for k in range(20)])
    frames = np.arange(50)

    def speak(k):
        for frame in frames.tolist():
            barrier.put(said(f"s{k}", frame))

    threads = [threading.Thread(target=speak, args=[k]) for k in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(barrier.collect(frame, 1.0)[0]) == 20 for frame in frames.tolist())


def test_every_second_is_due_from_where_sensors_began_though_ticks_were_missed():
    barrier = FrameBarrier([Sensor(SensorKind.GNSS, "a", 1, every=2)], first=11)
    for frame in range(11, 20, 2):
        barrier.put(said("a", frame))
    for frame in range(12, 20):  # somebody else ticked 11
        readings, missing = barrier.collect(frame, 0.0)
        assert (len(readings), missing) == (frame % 2, ())


def test_before_the_first_tick_no_more_is_kept_than_after():
    barrier = FrameBarrier(GNSS, first=1)
    for frame in range(1, 1000):
        barrier.put(said("a", frame))
    assert barrier.counts["unasked"] == 999 - MOST_AHEAD


def test_the_first_frame_may_have_any_number():
    """Servers count on from where they are; what comes while the first frame is waited for is of
    it, not far ahead."""
    barrier = FrameBarrier(GNSS[:1])
    threading.Timer(0.05, barrier.put, [said("a", 471_100)]).start()
    readings, missing = barrier.collect(471_100, 2.0)
    assert readings.keys() == {"a"} and not missing and not barrier.counts["unasked"]
