"""The other process: makes an answerer, answers, and hears "stop" while it computes.

Started by ``llm_edge.worker`` with a socket; it ends when that socket does.
"""

import contextlib
import ctypes
import importlib
import itertools
import os
import signal
import socket
import sys
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

from llm_edge.answerer import Answerer, Reply, cut_off
from llm_edge.decision import parse
from llm_edge.isolation import IsolationConfig, apply
from llm_edge.scene import scene_from_json
from llm_edge.tools import Ask, Region
from llm_edge.wire import Wire
from pipeline.errors import InputError, first_line

BEAT_S = 0.25
_ASK_S = 10.0
_PR_SET_PDEATHSIG = 1
_NOTHING, _PREPARES = -1, 0


class MonotonicClock:
    """The one clock that both processes share."""

    def now_ns(self) -> int:
        return time.monotonic_ns()


def make(factory: str, options: dict[str, Any], ask: Ask | None = None) -> Answerer:
    """An answerer by ``module:name``; the callable takes the options, a clock, and ``ask`` where
    there is one."""
    module, _, name = factory.partition(":")
    given = options if ask is None else {**options, "ask": ask}
    made: Answerer = getattr(importlib.import_module(module), name)(clock=MonotonicClock(), **given)
    return made


class Child:
    """Takes jobs from the wire, one after the other. A cancel, or a question while something is
    prepared, cuts off what runs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._answerer: Answerer | None = None
        self._jobs: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._numbers = itertools.count()
        self._questions: dict[int, SimpleQueue[int | None]] = {}
        self._now = _NOTHING
        self._turn = threading.Lock()  # of who begins or ends a job, or cancels it
        self._canceled = _NOTHING
        # Before the caller is put behind everybody else, so that these two are not.
        threading.Thread(target=self._hear, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def run(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._wire.send({"ready": os.getpid()})
        while True:
            job = self._jobs.get()
            number = int(job.get("ask", _PREPARES))
            with self._turn:
                self._now = number
            try:
                reply = self._done(answerer, job, number)
            except InputError as error:
                reply = Reply(None, str(error))
            with self._turn:
                self._now = _NOTHING
            if number == _PREPARES:
                self._wire.send({"done": number})
            else:
                text = None if reply.decision is None else reply.decision.to_json()
                self._wire.send(
                    {"reply": number, "decision": text, "why": reply.why, "figures": reply.figures}
                )

    def _done(self, answerer: Answerer, job: dict[str, Any], number: int) -> Reply:
        scene = scene_from_json(job["scene"])
        if number != _PREPARES:
            if number == self._canceled:
                return Reply(None, "canceled")
            return answerer.answer(scene, int(job["deadline"]))
        if "decision" in job:
            answerer.learn(scene, parse(job["decision"], scene))
        elif self._jobs.empty():
            answerer.prepare(scene)
        return Reply(None)

    def ask(self, region: Region) -> int:
        """What others told of a region, through the process that started this one; from any thread.

        Raises:
            InputError: they cannot be asked.
        """
        number = next(self._numbers)
        answer: SimpleQueue[int | None] = SimpleQueue()
        self._questions[number] = answer
        self._wire.send({"region": region.value, "number": number})
        try:
            count = answer.get(timeout=_ASK_S)
        except Empty:
            count = None
        del self._questions[number]
        if count is None:
            raise InputError("nobody can be asked")
        return count

    def _hear(self) -> None:
        with contextlib.suppress(InputError):  # who sends nonsense is as good as gone
            self._listen()
        os._exit(0)  # whoever asked is gone; what runs is of no use

    def _listen(self) -> None:
        while (message := self._wire.receive()) is not None:
            if "told" in message:
                question = self._questions.get(message["told"])
                if question is not None:
                    question.put(message["count"])
            elif "cancel" in message:
                self._canceled = int(message["cancel"])
                self._cut(self._canceled)
            elif "scene" in message:
                self._jobs.put(message)
                if "ask" in message:
                    self._cut(_PREPARES)

    def _cut(self, number: int) -> None:
        if self._answerer is not None:
            cut_off(self._answerer, lambda: self._now == number, self._turn)

    def _beat(self) -> None:
        while self._wire.send({"beat": time.monotonic_ns()}):
            time.sleep(BEAT_S)


def end_with_parent() -> None:
    """Also while it is stopped, and hears nothing."""
    with contextlib.suppress(AttributeError, OSError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    end_with_parent()
    wire = Wire(socket.socket(fileno=int(sys.argv[1])))
    first = wire.receive()
    if first is None:
        return
    child = Child(wire)
    missed = apply(IsolationConfig(**first["isolation"]))
    try:
        ask = child.ask if first["asks"] else None
        answerer = make(first["factory"], first["options"], ask)
    except InputError as error:
        wire.send({"failed": str(error)})
        return
    except (MemoryError, ImportError, AttributeError, TypeError) as error:
        wire.send({"failed": f"{first['factory']}: {first_line(error)}"})
        return
    for line in missed:
        wire.send({"missed": line})
    child.run(answerer)


if __name__ == "__main__":
    main()
