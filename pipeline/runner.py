"""The in-process runner: each stage on its own thread, the newest item wins, images by reference.

A stage that is busy never blocks another: its mailbox holds one item, a newer one takes its place
and the drop is counted. What a stage returns goes to the mailboxes of those that follow it.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pipeline.clock import Clock
from pipeline.errors import InputError
from pipeline.span import Span

log = logging.getLogger(__name__)
_FAILED = object()
T = TypeVar("T")


def _log_error(stage: str, text: str) -> None:
    log.warning("%s: %s", stage, text)


class Stamped(Protocol):
    """Anything that says when its light hit the sensor."""

    @property
    def stamp_ns(self) -> int: ...


class Mailbox(Generic[T]):
    """Depth one: ``put`` never waits, and what it replaces is counted."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._dropped = 0
        self._closed = False

    def put(self, item: T) -> None:
        """Leave an item for ``take``; the one that was not taken yet is dropped."""
        with self._condition:
            self._dropped += self._item is not None
            self._item = item
            self._condition.notify()

    def take(self) -> tuple[T, int] | None:
        """Wait for an item: it and the number dropped since the last one; None once closed."""
        with self._condition:
            while self._item is None and not self._closed:
                self._condition.wait()
            if self._item is None:
                return None
            item, dropped = self._item, self._dropped
            self._item, self._dropped = None, 0
            return item, dropped

    def close(self) -> None:
        """Let ``take`` hand out what is there, then None."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


@dataclass(slots=True)
class StageCount:
    """How many items a stage handled, never had time for, and could not use."""

    handled: int = 0
    dropped: int = 0
    failed: int = 0


class _Stage:
    def __init__(
        self, name: str, work: Callable[[Any], Any], reset: Callable[[], None] | None
    ) -> None:
        self.name = name
        self.work = work
        self.reset = reset
        self.newest_ns: int | None = None
        self.unreported_drops = 0
        self.mailbox: Mailbox[Any] = Mailbox()
        self.followers: list[Mailbox[Any]] = []
        self.listeners: list[Callable[[Any], None]] = []
        self.count = StageCount()
        self.thread: threading.Thread | None = None


class Runner:
    """Stages in a tree, joined by depth-one mailboxes.

    on_span is called from the stages' threads with each ``Span``; on_error with the stage's name
    and one line for each item that a stage could not use. Both must be quick.
    """

    def __init__(
        self,
        clock: Clock,
        on_span: Callable[[Span], None] = lambda span: None,
        on_error: Callable[[str, str], None] = _log_error,
    ) -> None:
        self._clock = clock
        self._on_span = on_span
        self._on_error = on_error
        self._stages: dict[str, _Stage] = {}

    def add(
        self,
        name: str,
        work: Callable[[Any], Any],
        after: str | None = None,
        reset: Callable[[], None] | None = None,
    ) -> None:
        """Add a stage: ``work(item)`` returns what its followers get, or None for nothing.

        A span is reported where there is a result. ``reset()`` is called before an item whose stamp
        lies before the last one's: the source began anew. Both run on the stage's own thread, and
        items reach it in order, so what was on its way never meets what comes after.
        """
        if name in self._stages:
            raise ValueError(f"stage {name!r} is there already")
        stage = self._stages[name] = _Stage(name, work, reset)
        if after is not None:
            self._stages[after].followers.append(stage.mailbox)

    def listen(self, name: str, callback: Callable[[Any], None]) -> None:
        """Call back with each result of a stage, on that stage's thread."""
        self._stages[name].listeners.append(callback)

    def feed(self, name: str, item: Stamped) -> None:
        """Give a stage its newest item; never waits."""
        self._stages[name].mailbox.put(item)

    def counts(self) -> dict[str, StageCount]:
        """Items handled, dropped and failed so far, by stage."""
        return {name: stage.count for name, stage in self._stages.items()}

    def start(self) -> None:
        """Start every stage's thread."""
        for stage in self._stages.values():
            stage.thread = threading.Thread(
                target=self._run, args=(stage,), name=stage.name, daemon=True
            )
            stage.thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Let each stage finish what it has, first stages first, and end the threads.

        Raises:
            TimeoutError: stages that did not finish in time; the others have ended.
        """
        stuck = []
        for stage in self._stages.values():
            stage.mailbox.close()
            if stage.thread is not None:
                stage.thread.join(timeout_s)
                if stage.thread.is_alive():
                    stuck.append(stage.name)
        if stuck:
            raise TimeoutError(f"stages {stuck} did not finish in {timeout_s:g} s")

    def _run(self, stage: _Stage) -> None:
        while (taken := stage.mailbox.take()) is not None:
            item, dropped = taken
            stage.count.dropped += dropped
            stage.unreported_drops += dropped
            if stage.newest_ns is not None and item.stamp_ns < stage.newest_ns and stage.reset:
                self._guarded(stage, item, stage.reset)
            stage.newest_ns = item.stamp_ns
            start_ns = self._clock.now_ns()
            result = self._guarded(stage, item, stage.work, item)
            end_ns = self._clock.now_ns()
            if result is _FAILED:
                stage.count.failed += 1
                continue
            stage.count.handled += 1
            if result is None:
                continue
            for follower in stage.followers:
                follower.put(result)
            span = Span(stage.name, item.stamp_ns, start_ns, end_ns, stage.unreported_drops)
            stage.unreported_drops = 0
            self._guarded(stage, item, self._on_span, span)
            for listener in stage.listeners:
                self._guarded(stage, item, listener, result)

    def _guarded(self, stage: _Stage, item: Any, call: Callable[..., Any], *given: Any) -> Any:
        """The call's result; a failure is reported and must not end the stage's thread."""
        try:
            return call(*given)
        except Exception as error:
            if not isinstance(error, InputError):
                log.exception("stage %s failed at stamp %d ns", stage.name, item.stamp_ns)
            try:
                self._on_error(stage.name, str(error) or type(error).__name__)
            except Exception:
                log.exception("the report of stage %s's failure failed", stage.name)
            return _FAILED
