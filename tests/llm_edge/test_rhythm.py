"""The rhythm: windows where a periodic tracker will work, none for another one; and who is held."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from llm_edge.rhythm import Pacer, Rhythm, RhythmConfig
from tests.llm_edge.crowds import MS, crowd
from tests.llm_edge.test_worker import CLOCK, in_process, ready, until

PERIOD = 33_333_333


def told(count=40, work_ms=4.0, jitter_ms=0.3, period=PERIOD, seed=0, **config):
    """A rhythm that saw ``count`` frames from 1 s on, and when the last one began."""
    rng = np.random.default_rng(seed)
    rhythm = Rhythm(RhythmConfig(**config))
    start = 0
    for k in range(count):
        start = 1000 * MS + k * period + round(rng.uniform(0, jitter_ms) * MS)
        rhythm.told(start, start + round(work_ms * MS))
    return rhythm, start


def test_windows_cover_the_work_that_comes():
    rhythm, last = told()
    for k in range(1, 8):
        begin, end = rhythm.window(last + (k - 1) * PERIOD + 8 * MS)
        assert begin <= last + k * PERIOD - 0.5 * MS
        assert end >= last + k * PERIOD + 3.5 * MS
        assert end - begin == pytest.approx(5 * MS, rel=0.01)


def test_a_window_that_has_begun_is_told_until_it_ends():
    rhythm, last = told(jitter_ms=0.0)
    begin, end = rhythm.window(last + PERIOD + 2 * MS)
    assert begin == pytest.approx(last + PERIOD - 1 * MS, abs=2)
    later, _ = rhythm.window(end + 1000)
    assert later == pytest.approx(begin + PERIOD, abs=2)


def test_any_moment_has_a_window_that_ends_after_it_and_begins_within_a_period():
    rhythm, last = told()
    for ahead in np.random.default_rng(1).uniform(0, 9 * PERIOD, 500):
        begin, end = rhythm.window(last + round(ahead))
        assert last + ahead - 2 <= end
        assert begin <= last + ahead + PERIOD
        assert begin < end


@pytest.mark.parametrize(
    ("given", "most_ms"),
    [({"most_ms": 3.0}, 3.0), ({"work_ms": 30.0}, 15.0),
     ({"work_ms": 30.0, "most_ms": 100.0, "share": 0.5}, 16.7)],
)  # fmt: skip
def test_it_never_holds_longer_than_it_may(given, most_ms):
    rhythm, last = told(**given)
    begin, end = rhythm.window(last)
    assert end - begin <= most_ms * MS


def test_there_is_none_where_nothing_is_regular_or_known():
    assert Rhythm().window(0) is None
    assert told(count=7)[0].window(2000 * MS) is None
    assert told(jitter_ms=33.0)[0].window(1000 * MS + 40 * PERIOD) is None
    rhythm, last = told()
    assert rhythm.window(last + 11 * PERIOD) is None
    assert rhythm.window(last - 1) is None


def test_a_clock_that_goes_back_begins_anew():
    rhythm, _ = told()
    rhythm.told(5 * MS, 6 * MS)
    assert rhythm.window(6 * MS) is None


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_process_that_is_held_stands_still_and_goes_on_unharmed():
    worker = ready(in_process())
    worker.hold()
    until(lambda: state(worker.pid) == "T")
    worker.go()
    until(lambda: state(worker.pid) != "T")
    assert worker.ask(crowd(), CLOCK.now_ns() + 5000 * MS).decision is not None
    worker.hold()
    worker.close()


def test_a_process_that_is_held_ends_with_whoever_started_it():
    code = (
        "import time\nfrom tests.llm_edge.test_worker import in_process, ready\n"
        "worker = ready(in_process())\nworker.hold()\nprint(worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )  # fmt: skip
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    until(lambda: state(child) == "T")
    parent.kill()
    parent.wait()
    until(lambda: not Path(f"/proc/{child}").exists() or state(child) == "Z")


def test_a_pacer_holds_a_worker_in_its_windows_only_while_it_works():
    worker = ready(in_process())
    held = []
    stop, go = worker.hold, worker.go
    worker.hold = lambda: (held.append(CLOCK.now_ns()), stop())
    worker.go = lambda: (held.append(-CLOCK.now_ns()), go())
    rhythm = Rhythm(RhythmConfig(guard_ms=0.0))
    begun = CLOCK.now_ns()
    for k in range(20):
        rhythm.told(begun - (20 - k) * 50 * MS, begun - (20 - k) * 50 * MS + 10 * MS)
    pacer = Pacer(worker, rhythm, CLOCK)
    time.sleep(0.05)
    assert held == []
    worker.prepare(crowd(speed_mps=1.0))
    until(lambda: len(held) >= 2)
    answer = worker.submit(crowd(speed_mps=1.0), CLOCK.now_ns() + 5000 * MS)
    until(lambda: len(held) >= 6)
    pacer.close()
    worker.cancel()
    assert answer.result(5).why == "canceled"
    until(lambda: not worker.works)
    assert held[0] > 0 > held[1]
    assert len(held) % 2 == 0
    worker.close()
