"""An answerer elsewhere: in time or a reason, whatever happens; process and thread alike."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llm_edge.isolation import IsolationConfig
from llm_edge.thread_worker import ThreadWorker
from llm_edge.tools import Region
from llm_edge.worker import Work, Worker, WorkerConfig
from pipeline.clock import WallClock
from tests.llm_edge.answerers import Obedient, proceed
from tests.llm_edge.crowds import MS, crowd

CLOCK = WallClock()
FACTORY = "tests.llm_edge.answerers:Obedient"


def in_process(isolation=None, config=None, **options):
    return Worker(Work(FACTORY, options), CLOCK, isolation, config)


def in_thread(isolation=None, config=None, **options):
    return ThreadWorker(lambda: Obedient(CLOCK, **options), CLOCK, isolation)


@pytest.fixture(params=[in_process, in_thread])
def start(request):
    made = []

    def start(*args, **kwargs):
        made.append(request.param(*args, **kwargs))
        return made[-1]

    yield start
    for worker in made:
        worker.close()


@pytest.fixture
def process():
    made = []

    def start(*args, **kwargs):
        made.append(in_process(*args, **kwargs))
        return made[-1]

    yield start
    for worker in made:
        worker.close()


def ready(worker):
    assert worker.ready.wait(20)
    return worker


def ask(worker, kind=6, ms=5000):
    return worker.ask(crowd(speed_mps=float(kind)), CLOCK.now_ns() + ms * MS)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_a_question_gets_its_answer_and_what_was_measured(start):
    worker = ready(start(why="because"))
    reply = ask(worker)
    assert reply.decision == proceed(crowd())
    assert reply.why == "because"
    assert 0 < reply.figures["left_ms"] <= 5000


def test_before_it_is_ready_there_is_a_reason_at_once(start):
    worker = start()
    first = ask(worker)
    assert first.decision is not None or "starting" in first.why
    ready(worker)


def test_what_cannot_be_made_says_why_for_good(start):
    worker = start(fail=True)
    until(lambda: worker.why.startswith("failed"))
    assert ask(worker).why == "failed: no such model; give another one"
    assert not worker.ready.is_set()


def test_no_answer_by_the_deadline_is_none_and_it_is_free_again_soon(start):
    worker = ready(start())
    reply = ask(worker, 1, ms=30)
    assert (reply.decision, reply.why) == (None, "no answer by the deadline")
    until(lambda: ask(worker).decision is not None)


def test_a_second_question_is_refused_while_one_is_open(start):
    worker = ready(start())
    first = worker.submit(crowd(speed_mps=1.0), CLOCK.now_ns() + 5000 * MS)
    assert "busy" in ask(worker).why
    worker.cancel()
    assert first.result(5).why == "canceled"
    assert ask(worker).decision is not None


def test_a_deadline_in_the_past_is_none_at_once(start):
    assert ask(ready(start()), ms=-1).why == "the deadline is over"


def test_it_learns_and_prepares_and_a_question_cuts_the_preparing_off(start):
    worker = ready(start())
    worker.learn(crowd(), proceed(crowd(), speed_mps=2.5))
    worker.prepare(crowd(speed_mps=1.0))
    time.sleep(0.1)
    figures = ask(worker).figures
    assert (figures["learned"], figures["prepared"], figures["prepares_cut"]) == (2.5, 1, 1)


def test_what_is_learned_while_a_question_is_open_comes_after_it(start):
    worker = ready(start())
    first = worker.submit(crowd(speed_mps=1.0), CLOCK.now_ns() + 5000 * MS)
    worker.learn(crowd(), proceed(crowd(), speed_mps=2.5))
    worker.cancel()
    assert first.result(5).why == "canceled"
    assert ask(worker).figures["learned"] == 2.5


def test_who_is_behind_is_not_told_more_and_more(start):
    worker = ready(start())
    worker.submit(crowd(speed_mps=1.0), CLOCK.now_ns() + 5000 * MS)
    for _ in range(50):
        worker.learn(crowd(), proceed(crowd(), speed_mps=1.0))
    worker.cancel()
    until(lambda: (reply := ask(worker)).decision is not None and reply.figures["learned"] >= 15)
    assert ask(worker).figures["learned"] <= 16  # the question itself may still be the 16th


def test_one_that_does_not_run_takes_nothing(start):
    worker = start(fail=True)
    until(lambda: worker.why.startswith("failed"))
    worker.prepare(crowd())
    worker.learn(crowd(), proceed(crowd()))
    assert ask(worker).why.startswith("failed")


@pytest.mark.parametrize("scheduling", ["normal", "idle"])
def test_scheduling_is_the_answerers_alone(start, scheduling):
    worker = ready(start(IsolationConfig(scheduling=scheduling)))
    assert worker.missed == ()
    assert ask(worker).figures["idle"] == (scheduling == "idle")
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_process_is_told_to_use_one_thread_before_it_begins(process):
    assert ask(ready(process())).figures["one_thread"] == 1


def test_an_error_in_a_thread_is_an_answer_without_decision():
    worker = ready(in_thread())
    assert ask(worker, 5).why == "the engine failed: a bug"
    assert ask(worker).decision is not None
    worker.close()


@pytest.mark.parametrize("kind", [2, 5])
def test_a_process_that_dies_is_there_again_and_nobody_waited(process, kind):
    worker = ready(process())
    reply = ask(worker, kind)
    assert (reply.decision, reply.why) == (None, "the engine's process ended")
    until(lambda: ask(worker).decision is not None)
    assert worker.starts == 2


def test_kill_from_outside_is_survived_again_and_again(process):
    worker = ready(process())
    for k in range(2):
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: not worker.ready.is_set())
        assert ask(worker).decision is None
        until(lambda k=k: worker.starts == k + 2 and ask(worker).decision is not None)


def test_what_does_not_let_go_of_a_question_is_killed(process):
    worker = ready(process(config=WorkerConfig(overdue_s=0.1)))
    assert ask(worker, 3, ms=50).why == "no answer by the deadline"
    until(lambda: worker.starts == 2 and ask(worker).decision is not None)


def test_what_is_silent_is_not_asked_and_then_killed(process):
    worker = ready(process(config=WorkerConfig(silent_s=1.0)))
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: "silent" in ask(worker, ms=20).why or worker.starts == 2)
    until(lambda: worker.starts == 2 and ask(worker).decision is not None)


def test_what_never_comes_up_is_given_up(process, monkeypatch):
    monkeypatch.setattr("llm_edge.worker._DELAY_S", 0.001)
    worker = process(die=True)
    until(lambda: worker.why.startswith("failed"))
    assert "ended 5 times before it was ready" in ask(worker).why


def test_an_answer_that_names_a_target_that_is_not_there_is_none(process):
    reply = ask(ready(process()), 4)
    assert (reply.decision, reply.why) == (None, "decision: the target is not in the scene")


def test_a_tool_there_asks_others_from_here(process):
    asked = []

    def others(region):
        asked.append(region)
        return {Region.LEFT: 3}[region]  # the other one is an error

    worker = Worker(Work(FACTORY, {}, others), CLOCK)
    assert ask(ready(worker), 7).why == "$1 left: asked, 3 objects told of / $2 right: no answer"
    assert set(asked) == {Region.LEFT, Region.RIGHT}
    worker.close()
    assert ask(ready(process()), 7).why == "$1 left: no answer / $2 right: no answer"


def test_the_process_ends_with_whoever_started_it(tmp_path):
    code = (
        "import time\nfrom tests.llm_edge.test_worker import in_process, ready\n"
        "worker = ready(in_process())\nprint(worker.pid, flush=True)\ntime.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )  # fmt: skip
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until(lambda: not running(child))


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_closing_ends_it_while_a_question_is_open(start):
    worker = ready(start())
    answer = worker.submit(crowd(speed_mps=1.0), CLOCK.now_ns() + 60_000 * MS)
    closer = threading.Thread(target=worker.close)
    closer.start()
    closer.join(5)
    assert not closer.is_alive()
    assert answer.result(1).decision is None


def test_a_thread_whose_engine_cannot_be_made_says_so():
    def fails():
        raise MemoryError("no room for the model")

    worker = ThreadWorker(fails, CLOCK)
    until(lambda: worker.why == "failed: no room for the model")
    assert worker.ask(crowd(), CLOCK.now_ns() + 1000 * MS).why == worker.why
    worker.close()


def test_a_thread_outlives_what_fails_while_nobody_waits():
    class Clumsy(Obedient):
        def prepare(self, scene):
            raise RuntimeError("slipped")

        def learn(self, scene, decision):
            raise ZeroDivisionError

    worker = ready(ThreadWorker(lambda: Clumsy(CLOCK), CLOCK))
    worker.prepare(crowd())
    worker.learn(crowd(), None)
    assert ask(worker).decision is not None
    worker.close()


def test_a_question_cuts_off_a_preparation_that_only_just_begins():
    class Deaf(Obedient):
        """Hears a cancel only while it is in the midst of it, as an engine does."""

        def prepare(self, scene):
            began.set()
            time.sleep(0.05)
            self._cancel.clear()
            self._cancel.wait(30)

    began = threading.Event()
    worker = ready(ThreadWorker(lambda: Deaf(CLOCK), CLOCK))
    worker.prepare(crowd())
    assert began.wait(5)
    assert ask(worker).decision is not None
    worker.close()


def test_a_process_that_is_told_nonsense_ends_and_is_started_again(process):
    worker = ready(process())
    first = worker.pid
    worker._child._end.sendall(b"\x03\x00\x00\x00{{{")
    until(lambda: worker.pid not in (None, first) and worker.ready.is_set())
    assert ask(worker).decision is not None
