"""The light option: the answerer in a thread of this process, behind the same interface.

Saves a process and some memory. It shares the interpreter's lock with whoever else runs here, and
what crashes takes all with it.
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

from llm_edge.answerer import Answerer, Reply, cut_off, waited
from llm_edge.decision import Decision
from llm_edge.isolation import IsolationConfig, apply
from llm_edge.scene import Scene
from pipeline.clock import Clock
from pipeline.errors import first_line

MOST_TOLD = 16
"""Jobs that wait; beyond them nothing is prepared or learned."""
_Job = Callable[[Answerer], None]


class ThreadWorker:
    """See ``llm_edge.worker.Worker``. make: called on the thread. The memory cap of ``isolation``
    is a process's, so it is not set here."""

    def __init__(
        self, make: Callable[[], Answerer], clock: Clock, isolation: IsolationConfig | None = None
    ) -> None:
        self._make, self._clock = make, clock
        self._scheduling = (isolation or IsolationConfig()).scheduling
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._busy = self._preparing = False
        self._answerer: Answerer | None = None
        self.ready = threading.Event()
        self.why = "the engine is starting"
        self.missed: tuple[str, ...] = ()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self, scene: Scene, deadline_ns: int) -> Reply:
        return waited(self, scene, deadline_ns, self._clock)

    def submit(self, scene: Scene, deadline_ns: int) -> "Future[Reply]":
        answer: Future[Reply] = Future()
        with self._lock:
            why = "" if self.ready.is_set() else self.why
            why = why or ("the engine is busy with another question" if self._busy else "")
            if deadline_ns <= self._clock.now_ns():
                why = "the deadline is over"
            if not why:
                self._busy = True
                self._count += 1
        if why:
            answer.set_result(Reply(None, why))
            return answer

        def job(answerer: Answerer) -> None:
            try:
                reply = answerer.answer(scene, deadline_ns)
            except Exception as error:
                reply = Reply(None, f"the engine failed: {first_line(error)}")
            with self._lock:
                self._busy = False
            answer.set_result(reply)

        self._jobs.put(job)
        self._cut(lambda: self._preparing)
        return answer

    def prepare(self, scene: Scene) -> None:
        if not self.ready.is_set() or self._jobs.qsize() >= MOST_TOLD:
            return

        def job(answerer: Answerer) -> None:
            with self._lock:
                self._preparing = not self._busy and self._jobs.empty()
            try:
                if self._preparing:
                    answerer.prepare(scene)
            finally:
                with self._lock:
                    self._preparing = False

        self._jobs.put(job)

    def learn(self, scene: Scene, decision: Decision) -> None:
        if self.ready.is_set() and self._jobs.qsize() < MOST_TOLD:
            self._jobs.put(lambda answerer: answerer.learn(scene, decision))

    def cancel(self) -> None:
        number = self._count
        self._cut(lambda: self._busy and self._count == number)

    def _cut(self, runs: Callable[[], bool]) -> None:
        if self._answerer is not None and runs():
            given = self._answerer, runs, self._lock
            threading.Thread(target=cut_off, args=given, daemon=True).start()

    def close(self) -> None:
        self._jobs.put(None)
        self.cancel()
        self._thread.join()

    def _run(self) -> None:
        self.missed = apply(IsolationConfig(scheduling=self._scheduling))
        try:
            answerer = self._make()
        except Exception as error:  # whoever asks must hear of it
            self.why = f"failed: {first_line(error)}"
            return
        self._answerer = answerer
        self.ready.set()
        while (job := self._jobs.get()) is not None:
            with contextlib.suppress(Exception):  # of what nobody waits for; the next is answered
                job(answerer)
        answerer.close()
