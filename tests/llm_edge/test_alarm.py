"""A cancel ends what runs and nothing else."""

import threading
import time

from llm_edge.alarm import Alarm


class Engine:
    def __init__(self):
        self.stopped = False

    def cancel(self):
        self.stopped = True

    def clear(self):
        self.stopped = False


def test_it_rings_within_and_is_forgotten_after():
    engine = Engine()
    alarm = Alarm(engine)
    alarm.ring()
    assert not engine.stopped
    with alarm.set():
        alarm.ring()
        assert engine.stopped
    assert not engine.stopped


def test_it_rings_by_itself_at_its_time():
    engine = Engine()
    with Alarm(engine).set(2_000_000):
        end = time.monotonic() + 5
        while not engine.stopped and time.monotonic() < end:
            time.sleep(0.001)
        assert engine.stopped


def test_a_timer_that_is_late_does_not_end_the_next_one():
    engine = Engine()
    alarm = Alarm(engine)
    with alarm.set(60 * 10**9):
        late = alarm._timer
    with alarm.set():
        ringing = threading.Thread(target=late.function, args=late.args)
        ringing.start()
        ringing.join()
        assert not engine.stopped
