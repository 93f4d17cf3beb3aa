"""One question at a time, on a thread of its own, so that who asks never waits."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from llm_edge.answerer import cut_off
from llm_edge.reasoner import Answer, Feedback, Report
from llm_edge.scene import Scene
from pipeline.errors import first_line

WAITING = 4


class Decider(Protocol):
    """What a reasoner does (``llm_edge.reasoner.Reasoner``)."""

    def decide(self, scene: Scene, deadline_ns: int, feedback: Feedback | None = None) -> Answer:
        """By the deadline."""

    def report(self) -> Report:
        """How the last decisions went; on the thread that decides."""

    def cancel(self) -> None:
        """From any thread: answer at once."""

    def close(self) -> None:
        """Give everything back."""


@dataclass(eq=False)
class Question:
    """deadline_ns: on the reasoner's clock. done: called once on the desk's thread, with the answer
    or with None and why there is none. tell: while it goes on."""

    scene: Scene
    deadline_ns: int
    done: Callable[[Answer | None, str], None]
    tell: Feedback | None = None
    canceled: bool = field(default=False, init=False)


class Desk:
    """Hands questions to a reasoner in the order in which they come.

    complain: told of what goes wrong in ``done`` itself.
    """

    def __init__(self, reasoner: Decider, complain: Callable[[str], None]) -> None:
        self._reasoner = reasoner
        self._complain = complain
        self._waiting: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: list[Question] = []
        self._asked: Question | None = None
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a question is open."""
        return bool(self._open)

    def submit(self, question: Question) -> bool:
        """Whether there was room for it."""
        with self._lock:
            if len(self._open) > WAITING:
                return False
            self._open.append(question)
        self._waiting.put(question)
        return True

    def cancel(self, question: Question) -> None:
        """Answer it at once, or not at all where it has not begun."""
        with self._lock:
            question.canceled = True
        threading.Thread(target=self._cut, args=(question,), daemon=True).start()

    def _cut(self, question: Question) -> None:
        cut_off(self._reasoner, lambda: self._asked is question, self._lock)

    def close(self) -> None:
        """Let what goes on end, the rest be."""
        with self._lock:
            for question in self._open:
                question.canceled = True
            asked = self._asked
        if asked is not None:
            self._cut(asked)
        self._waiting.put(None)
        self._thread.join(5.0)
        self._reasoner.close()

    def _work(self) -> None:
        while (question := self._waiting.get()) is not None:
            answer, why = None, "canceled before it began"
            with self._lock:
                self._asked = None if question.canceled else question
            if self._asked is not None:
                try:
                    answer = self._reasoner.decide(
                        question.scene, question.deadline_ns, question.tell
                    )
                    why = answer.why
                except Exception as error:  # the next question must find the thread alive
                    why = first_line(error)
            with self._lock:
                self._asked = None
                self._open.remove(question)
            try:
                question.done(answer, why)
            except Exception as error:
                self._complain(f"{type(error).__name__}: {first_line(error)}")
