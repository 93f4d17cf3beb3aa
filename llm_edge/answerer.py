"""Who answers scenes: a model in this process, in another one, or far away."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from llm_edge.decision import Decision
from llm_edge.scene import Scene
from pipeline.clock import Clock

_TRIES, _TRY_S = 500, 0.002


@dataclass(frozen=True, slots=True)
class Reply:
    """decision: None where there is none, then ``why`` says so in one line. figures: what was
    measured on the way, by name."""

    decision: Decision | None
    why: str = ""
    figures: dict[str, float] = field(default_factory=dict)


class Answerer(Protocol):
    """One scene at a time, on one thread; only ``cancel`` may be called from another."""

    def answer(self, scene: Scene, deadline_ns: int) -> Reply:
        """The decision by a time of the answerer's clock, or the reason why there is none. It
        returns by then, and raises nothing."""

    def prepare(self, scene: Scene) -> None:
        """Use idle time for scenes like this one; ends when ``cancel`` is called."""

    def learn(self, scene: Scene, decision: Decision) -> None:
        """A solved scene, which may serve as an example."""

    def cancel(self) -> None:
        """What runs now ends soon, without a decision."""

    def close(self) -> None:
        """Give everything back."""


class Asked(Protocol):
    """Where an answerer runs: a question goes there without waiting."""

    def submit(self, scene: Scene, deadline_ns: int) -> "Future[Reply]":
        """The answer, or None with a reason."""

    def cancel(self) -> None:
        """The question that is open gets no decision."""


def waited(host: Asked, scene: Scene, deadline_ns: int, clock: Clock) -> Reply:
    """The answer, or None with a reason: at once where nobody can be asked, at the deadline where
    none has come."""
    answer = host.submit(scene, deadline_ns)
    left_s = (deadline_ns - clock.now_ns()) * 1e-9
    try:
        return answer.result(max(0.0, left_s))
    except FutureTimeoutError:
        host.cancel()
        return Reply(None, "no answer by the deadline")


def cut_off(
    answerer: Answerer, runs: Callable[[], bool], lock: AbstractContextManager[object]
) -> None:
    """Cancel a job again and again while it runs, for it may only just begin; for a second.

    lock: without which ``runs`` does not change, so that no other job is canceled.
    """
    for _ in range(_TRIES):
        with lock:
            if not runs():
                return
            answerer.cancel()
        time.sleep(_TRY_S)
