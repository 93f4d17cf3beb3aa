"""Answerers that behave well, badly, and not at all: what ``child`` and ``ThreadWorker`` make."""

import ctypes
import os
import threading
import time

from llm_edge.answerer import Reply
from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source
from llm_edge.isolation import ONE_THREAD
from llm_edge.tools import Call, run
from pipeline.errors import InputError


def proceed(scene, **changed):
    values = {
        "action": Action.PROCEED, "target": None, "direction": Direction.NONE,
        "speed_mps": min(scene.cruise_mps, scene.platform.limit_mps), "risk": Risk.NONE,
        "reason": Reason.CLEAR, "valid_until_ns": scene.at_ns + 1, "source": Source.GGUF,
    }  # fmt: skip
    return Decision(**{**values, **changed})


class Obedient:
    """Proceeds; a scene's speed says how: 1 waits for a cancel, 2 dies, 3 hangs with the
    interpreter's lock given away, 4 names a target that is not there, 5 dies of a Python error, 7
    asks others."""

    def __init__(self, clock, why="", fail=False, die=False, ask=None):
        if fail:
            raise InputError("no such model; give another one")
        if die:
            os.abort()
        self._clock, self._why, self._ask = clock, why, ask
        self._cancel = threading.Event()
        self.figures = {"learned": 0.0, "prepared": 0.0, "prepares_cut": 0.0}

    def answer(self, scene, deadline_ns):
        kind = int(scene.speed_mps)
        self._cancel.clear()
        if kind == 1:
            self._cancel.wait(20)
            return Reply(None, "canceled")
        if kind == 2:
            os.kill(os.getpid(), 9)
        if kind == 3:
            ctypes.CDLL(None).pause()
        if kind == 4:
            return Reply(proceed(scene, target=999))
        if kind == 7:
            calls = (Call("request_v2x", region="left"), Call("request_v2x", region="right"))
            return Reply(proceed(scene), " / ".join(run(calls, scene, 5, self._ask)))
        if kind == 5:
            raise RuntimeError("a bug")
        left_ms = (deadline_ns - self._clock.now_ns()) * 1e-6
        return Reply(proceed(scene), self._why, {**self.figures, "left_ms": left_ms, **system()})

    def prepare(self, scene):
        self.figures["prepared"] += 1
        self._cancel.clear()
        if int(scene.speed_mps) == 1:
            self.figures["prepares_cut"] += self._cancel.wait(20)

    def learn(self, scene, decision):
        self.figures["learned"] += decision.speed_mps

    def cancel(self):
        self._cancel.set()

    def close(self):
        time.sleep(0)


def system():
    """How this process or thread runs."""
    ours = all(os.environ.get(k) == v for k, v in ONE_THREAD.items())
    return {"idle": float(os.sched_getscheduler(0) == os.SCHED_IDLE), "one_thread": float(ours)}
