import threading
import time

import pytest

from pipeline.clock import SimClock, WallClock
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.runner import Mailbox, Runner

WAIT_S = 5.0


def frame(i):
    return Frame(None, i * 1000, index=i)


def wait_for(condition):
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.001)


def test_the_newest_item_wins_and_the_others_are_counted():
    mailbox = Mailbox()
    for i in range(5):
        mailbox.put(i)
    assert mailbox.take() == (4, 4)
    mailbox.put(7)
    assert mailbox.take() == (7, 0)
    mailbox.put(8)
    mailbox.close()
    assert mailbox.take() == (8, 0)
    assert mailbox.take() is None


def test_a_busy_stage_takes_the_newest_frame_and_counts_what_it_missed():
    entered, go = threading.Event(), threading.Event()
    seen, spans = [], []

    def work(item):
        seen.append(item.index)
        entered.set()
        assert go.wait(WAIT_S)
        return item

    runner = Runner(WallClock(), spans.append)
    runner.add("slow", work)
    runner.start()
    runner.feed("slow", frame(0))
    assert entered.wait(WAIT_S)
    for i in range(1, 7):
        runner.feed("slow", frame(i))
    go.set()
    runner.stop()
    assert seen == [0, 6]
    assert [(s.stamp_ns, s.dropped) for s in spans] == [(0, 0), (6000, 5)]
    count = runner.counts()["slow"]
    assert (count.handled, count.dropped, count.failed) == (2, 5, 0)


def test_a_slow_stage_never_blocks_a_fast_one():
    blocked, go = threading.Event(), threading.Event()
    fast = []
    arrived = threading.Semaphore(0)

    def slow(item):
        blocked.set()
        assert go.wait(WAIT_S)

    def quick(item):
        fast.append(item.index)
        arrived.release()

    runner = Runner(WallClock())
    runner.add("source", lambda item: item)
    runner.add("slow", slow, after="source")
    runner.add("fast", quick, after="source")
    runner.start()
    for i in range(20):
        runner.feed("source", frame(i))
        assert arrived.acquire(timeout=WAIT_S)  # while the slow one stands still
    assert blocked.wait(WAIT_S)
    go.set()
    runner.stop()
    assert fast == list(range(20))
    counts = runner.counts()
    assert counts["slow"].handled + counts["slow"].dropped == 20
    assert counts["slow"].handled <= 2


def test_a_failing_item_is_reported_and_the_stream_goes_on():
    reports, results = [], []
    handled = threading.Semaphore(0)

    def work(item):
        if item.index == 1:
            raise InputError("frame 1: is bad; give a good one")
        if item.index == 2:
            raise ZeroDivisionError
        return item

    def report(*report):
        reports.append(report)
        handled.release()

    def result(item):
        results.append(item.index)
        handled.release()

    runner = Runner(WallClock(), on_error=report)
    runner.add("stage", work)
    runner.listen("stage", result)
    runner.start()
    for i in range(4):
        runner.feed("stage", frame(i))
        assert handled.acquire(timeout=WAIT_S)
    runner.stop()
    assert results == [0, 3]
    assert reports == [
        ("stage", "frame 1: is bad; give a good one"),
        ("stage", "ZeroDivisionError"),
    ]
    count = runner.counts()["stage"]
    assert (count.handled, count.failed) == (2, 2)


def test_stop_lets_every_stage_finish_what_it_has():
    done = []

    def slow(item):
        time.sleep(0.02)
        return item

    runner = Runner(WallClock())
    runner.add("first", slow)
    runner.add("second", slow, after="first")
    runner.add("third", lambda item: done.append(item.index), after="second")
    runner.start()
    runner.feed("first", frame(5))
    runner.stop()
    assert done == [5]


def test_a_stage_that_hangs_is_named_and_the_others_end():
    go = threading.Event()
    runner = Runner(WallClock())
    runner.add("stuck", lambda item: go.wait(WAIT_S))
    runner.add("other", lambda item: None)
    runner.start()
    runner.feed("stuck", frame(0))
    try:
        with pytest.raises(TimeoutError, match=r"\['stuck'\] did not finish"):
            runner.stop(timeout_s=0.05)
        assert [t.name for t in threading.enumerate() if t.name in ("stuck", "other")] == ["stuck"]
    finally:
        go.set()


def test_an_error_report_that_fails_does_not_end_the_stage():
    def report(stage, text):
        raise RuntimeError("no one listens")

    def work(item):
        if item.index == 0:
            raise InputError("bad")
        return item

    seen = []
    runner = Runner(WallClock(), on_error=report)
    runner.add("stage", work)
    runner.listen("stage", lambda item: seen.append(item.index))
    runner.start()
    runner.feed("stage", frame(0))
    wait_for(lambda: runner.counts()["stage"].failed == 1)
    runner.feed("stage", frame(1))
    runner.stop()
    assert seen == [1]


def test_a_stage_without_results_reports_no_span_and_its_drops_come_with_the_next():
    spans = []
    go = threading.Event()

    def work(item):
        if item.index == 0:
            go.wait(WAIT_S)
        return item if item.index > 2 else None

    runner = Runner(WallClock(), on_span=spans.append)
    runner.add("stage", work)
    runner.start()
    runner.feed("stage", frame(0))
    wait_for(lambda: runner._stages["stage"].mailbox._item is None)
    runner.feed("stage", frame(1))
    runner.feed("stage", frame(2))
    go.set()
    wait_for(lambda: runner.counts()["stage"].handled == 2)
    runner.feed("stage", frame(3))
    runner.stop()
    assert [(s.stamp_ns, s.dropped) for s in spans] == [(frame(3).stamp_ns, 1)]


def test_a_stamp_that_goes_back_resets_each_stage_before_the_item():
    seen = []
    runner = Runner(WallClock())
    runner.add("stage", lambda item: seen.append(item.index), reset=lambda: seen.append("reset"))
    runner.start()
    for index in (5, 6, 2, 3):
        before = runner.counts()["stage"].handled
        runner.feed("stage", frame(index))
        wait_for(lambda before=before: runner.counts()["stage"].handled == before + 1)
    runner.stop()
    assert seen == [5, 6, "reset", 2, 3]


def test_nothing_is_passed_on_where_a_stage_returns_none():
    seen = []
    runner = Runner(WallClock())
    runner.add("filter", lambda item: item if item.index % 2 else None)
    runner.add("sink", lambda item: seen.append(item.index), after="filter")
    runner.start()
    runner.feed("filter", frame(2))
    runner.stop()
    assert seen == []
    assert runner.counts()["filter"].handled == 1


def test_images_pass_by_reference():
    seen = []
    runner = Runner(WallClock())
    runner.add("a", lambda item: item)
    runner.add("b", seen.append, after="a")
    item = frame(1)
    runner.start()
    runner.feed("a", item)
    runner.stop()
    assert seen[0] is item


def test_spans_carry_the_clock_s_times():
    clock, spans = SimClock(100_000), []

    def work(item):
        clock.advance_to(clock.now_ns() + 3_000)
        return item

    runner = Runner(clock, spans.append)
    runner.add("stage", work)
    runner.start()
    runner.feed("stage", frame(20))
    runner.stop()
    (span,) = spans
    assert (span.stage, span.stamp_ns, span.start_ns, span.end_ns) == (
        "stage",
        20_000,
        100_000,
        103_000,
    )
    assert span.age_ns == 83_000


def test_two_stages_of_one_name_are_refused():
    runner = Runner(WallClock())
    runner.add("a", lambda item: item)
    with pytest.raises(ValueError, match="'a' is there already"):
        runner.add("a", lambda item: item)
    with pytest.raises(KeyError):
        runner.add("b", lambda item: item, after="missing")
