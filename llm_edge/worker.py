"""An answerer in a process of its own: it may be slow, starve, hang or die, and nobody waits.

A question gets its answer by the deadline or a reason. The process says that it lives four times a
second; one that ended, went silent or does not let go of a question is killed and started again.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any

from llm_edge.answerer import Reply, waited
from llm_edge.child_process import ChildProcess
from llm_edge.decision import Decision, parse
from llm_edge.isolation import IsolationConfig
from llm_edge.scene import Scene, scene_json
from llm_edge.tools import Ask, Region
from pipeline.clock import Clock
from pipeline.config import Config, option
from pipeline.errors import InputError

_LOOK_S = 0.05
_DELAY_S = 0.1
"""Before the first start after an end; it doubles with each one that follows soon."""
_MAX_DELAY_S = 10.0
_STEADY_S = 10.0
"""A process that answered for so long was not broken by its start."""
_MOST_TOLD = 16
"""Scenes to prepare for or to learn from that it has not come to yet; more are not sent."""
MAX_STARTS = 5
"""Ends in a row before it was ready, after which it is not started again."""


@dataclass(frozen=True)
class WorkerConfig(Config):
    """When a process counts as lost."""

    silent_s: float = option(5.0, "Without a sign of life for longer.", low=1, high=600)
    overdue_s: float = option(1.0, "Beyond a question's deadline.", low=0.1, high=600)


@dataclass(frozen=True, slots=True)
class Work:
    """factory: "module:name" of a callable that makes the ``Answerer`` from ``options`` (values of
    JSON) and ``clock``. ask: what a tool that asks other stations comes to, here, on a thread that
    must go on soon; where it is given, the callable gets an ``ask`` as well."""

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ask: Ask | None = None


@dataclass(slots=True)
class _Asked:
    number: int
    scene: Scene
    until_s: float
    answer: "Future[Reply]"


class Worker:
    """See ``Answerer`` for what the other process does; here nothing blocks beyond a deadline."""

    def __init__(
        self,
        work: Work,
        clock: Clock,
        isolation: IsolationConfig | None = None,
        config: WorkerConfig | None = None,
    ) -> None:
        self._work, self._clock = work, clock
        self._isolation = isolation or IsolationConfig()
        self._config = config or WorkerConfig()
        self._lock = threading.Lock()
        self._asked: _Asked | None = None
        self._count = 0
        self._told_of = 0
        self._child: ChildProcess | None = None
        self._heard_s = 0.0
        self._closed = threading.Event()
        self.ready = threading.Event()
        self.why = "the engine's process is starting"
        self.missed: tuple[str, ...] = ()
        self.starts = 0
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None else None

    def ask(self, scene: Scene, deadline_ns: int) -> Reply:
        """See ``answerer.waited``."""
        return waited(self, scene, deadline_ns, self._clock)

    def submit(self, scene: Scene, deadline_ns: int) -> "Future[Reply]":
        """The same without waiting. One question at a time; a second one is refused."""
        answer: Future[Reply] = Future()
        left_s = (deadline_ns - self._clock.now_ns()) * 1e-9
        now_s = time.monotonic()
        with self._lock:
            why = self._refusal(left_s, now_s)
            if not why:
                self._count += 1
                asked = _Asked(self._count, scene, now_s + left_s, answer)
                self._asked = asked
        if why:
            answer.set_result(Reply(None, why))
            return answer
        deadline = round((now_s + left_s) * 1e9)
        told = {"deadline": deadline, "scene": scene_json(scene, None)}
        sent = self._send({"ask": asked.number, **told})
        if not sent:
            self._resolve(asked.number, Reply(None, "the engine's process ended"))
        return answer

    def _refusal(self, left_s: float, now_s: float) -> str:
        if left_s <= 0:
            return "the deadline is over"
        if not self.ready.is_set():
            return self.why
        if self._asked is not None:
            return "the engine is busy with another question"
        if now_s - self._heard_s > min(1.0, self._config.silent_s):
            return "the engine's process is silent"
        return ""

    def prepare(self, scene: Scene) -> None:
        """Let it use the time until the next question."""
        if self._asked is None:
            self._tell({"scene": scene_json(scene, None)})

    def learn(self, scene: Scene, decision: Decision) -> None:
        """After the question that is open, if there is one."""
        self._tell({"scene": scene_json(scene, None), "decision": decision.to_json()})

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock:
            free = self.ready.is_set() and self._told_of < _MOST_TOLD
            self._told_of += free
        if free:
            self._send(message)

    def cancel(self) -> None:
        """The question that is open gets no decision; what runs for it is cut off."""
        with self._lock:
            asked = self._asked
        if asked is not None:
            self._send({"cancel": asked.number})

    @property
    def works(self) -> bool:
        """Whether a question is open, or something is prepared or learned."""
        return self._asked is not None or self._told_of > 0

    def hold(self) -> None:
        """Stop the process where it is, until ``go``."""
        self._signal(signal.SIGSTOP)

    def go(self) -> None:
        """Let it run on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        child = self._child
        if child is not None:
            child.signal(number)

    def close(self) -> None:
        """End the process."""
        self._closed.set()
        self._keeper.join()

    def _send(self, message: dict[str, Any]) -> bool:
        child = self._child
        return child is not None and child.wire.send(message)

    def _resolve(self, number: int | None, reply: Reply) -> None:
        with self._lock:
            asked = self._asked
            if asked is None or number not in (None, asked.number):
                return
            self._asked = None
        asked.answer.set_result(reply)

    def _keep(self) -> None:
        """Start the process and listen to it, again and again."""
        delay_s, failed = _DELAY_S, 0
        while not self._closed.is_set():
            begun_s = time.monotonic()
            with contextlib.suppress(OSError):  # no process to be had now
                self._run()
            steady = time.monotonic() - begun_s > _STEADY_S and self.ready.is_set()
            failed = 0 if self.ready.is_set() else failed + 1
            self.ready.clear()
            self._resolve(None, Reply(None, "the engine's process ended"))
            if self.why.startswith("failed"):
                return
            if failed >= MAX_STARTS:
                self.why = f"failed: the engine's process ended {failed} times before it was ready"
                return
            delay_s = _DELAY_S if steady else min(delay_s, _MAX_DELAY_S)
            self.why = "the engine's process is starting again"
            self._closed.wait(delay_s)
            delay_s *= 2

    def _run(self) -> None:
        """One process from its start to its end."""
        first = {
            "factory": self._work.factory,
            "options": dict(self._work.options),
            "isolation": asdict(self._isolation),
            "asks": self._work.ask is not None,
        }
        self.starts += 1
        with self._lock:
            self._told_of = 0
        self._heard_s = time.monotonic()
        child = ChildProcess(first, self._config.silent_s)
        self._child = child
        # One that talks nonsense is as good as dead.
        with contextlib.suppress(ValueError, TypeError, KeyError):
            self._listen(child)
        self._child = None
        child.end()

    def _listen(self, child: ChildProcess) -> None:
        while not self._closed.is_set():
            if not child.speaks(_LOOK_S):
                if self._lost(time.monotonic()):
                    return
                continue
            message = child.wire.receive()
            if message is None:
                return
            self._heard_s = time.monotonic()
            if "reply" in message:
                self._replied(message)
            elif "region" in message:
                self._send({"told": message["number"], "count": self._told(message["region"])})
            elif "done" in message:
                with self._lock:
                    self._told_of -= 1
            elif "ready" in message:
                self.ready.set()
            elif "missed" in message:
                self.missed = (*self.missed, str(message["missed"]))[-4:]
            elif "failed" in message:
                self.why = f"failed: {message['failed']}"

    def _told(self, region: str) -> int | None:
        """What others told of a region, for a tool there; None where they cannot be asked."""
        if self._work.ask is None:
            return None
        try:
            return int(self._work.ask(Region(region)))
        except Exception:  # of who sends; the tool has no answer then
            return None

    def _lost(self, now_s: float) -> bool:
        asked = self._asked
        overdue = asked is not None and now_s > asked.until_s + self._config.overdue_s
        return overdue or now_s - self._heard_s > self._config.silent_s

    def _replied(self, message: dict[str, Any]) -> None:
        with self._lock:
            asked = self._asked
        if asked is None or message["reply"] != asked.number:
            return
        decision = None
        why = str(message.get("why", ""))
        if message.get("decision") is not None:
            try:
                decision = parse(str(message["decision"]), asked.scene)
            except InputError as error:
                why = str(error)
        self._resolve(asked.number, Reply(decision, why, dict(message.get("figures", {}))))
