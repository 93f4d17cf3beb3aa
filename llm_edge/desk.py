"""One question at a time, on a thread of its own, so that who asks never waits."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from llm_edge.reasoner import Answer, Feedback
from llm_edge.rhythm import Rhythm
from llm_edge.scene import Scene
from pipeline.errors import first_line

WAITING = 4


class Decider(Protocol):
    """What a reasoner does (``llm_edge.reasoner.Reasoner``); all but what is for any thread on the
    desk's. rhythm: told when the tracker works; None where nobody cares. prepares: whether
    ``prepare`` is of use."""

    rhythm: Rhythm | None
    prepares: bool

    def decide(self, scene: Scene, deadline_ns: int, feedback: Feedback | None = None) -> Answer:
        """By the deadline."""

    def prepare(self, scene: Scene) -> None:
        """Use the time until the next scene, which is like this one."""

    def learn(self, scene: Scene, answer: Answer) -> None:
        """Told what came of a scene."""

    def tiers(self) -> dict[str, str]:
        """From any thread: state of each that is asked."""

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
    """Hands questions to a reasoner in the order in which they come, and in between scenes to
    prepare for.

    complain: told of what goes wrong in ``done`` itself, and beside questions.
    """

    def __init__(self, reasoner: Decider, complain: Callable[[str], None]) -> None:
        self._reasoner = reasoner
        self._complain = complain
        self._waiting: queue.SimpleQueue[Question | Scene | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: list[Question] = []
        self._preparing = False
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

    def prepare(self, scene: Scene) -> None:
        """Where no question is open, let the reasoner use the time."""
        with self._lock:
            if self._open or self._preparing:
                return
            self._preparing = True
        self._waiting.put(scene)

    def cancel(self, question: Question) -> None:
        """Answer it at once, or not at all where it has not begun."""
        with self._lock:
            question.canceled = True
            if self._open[:1] == [question]:
                self._reasoner.cancel()

    def close(self) -> None:
        """Let what goes on end, the rest be."""
        with self._lock:
            for question in self._open:
                question.canceled = True
            if self._open:
                self._reasoner.cancel()
        self._waiting.put(None)
        self._thread.join(5.0)
        self._reasoner.close()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            try:
                if isinstance(job, Scene):
                    self._prepare(job)
                else:
                    self._answer(job)
            except Exception as error:  # the next question must find the thread alive
                self._complain(f"{type(error).__name__}: {first_line(error)}")

    def _prepare(self, scene: Scene) -> None:
        self._preparing = False
        if not self._open:
            self._reasoner.prepare(scene)

    def _tell(self, question: Question, stage: str, calls: int) -> None:
        if question.canceled:  # perhaps before the reasoner had begun, and would have noticed
            self._reasoner.cancel()
        if question.tell is not None:
            try:
                question.tell(stage, calls)
            except Exception as error:  # who does not hear it any more costs no decision
                self._complain(f"{type(error).__name__}: {first_line(error)}")

    def _answer(self, question: Question) -> None:
        answer, why = None, "canceled before it began"
        if not question.canceled:
            try:
                answer = self._reasoner.decide(
                    question.scene, question.deadline_ns, partial(self._tell, question)
                )
                why = answer.why
            except Exception as error:
                why = first_line(error)
        with self._lock:
            self._open.remove(question)
        question.done(answer, why)
        if answer is not None and self._waiting.empty():  # who waits goes first
            self._reasoner.learn(question.scene, answer)
