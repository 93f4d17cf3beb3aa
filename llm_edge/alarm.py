"""A cancel that ends what runs now, and never what is asked next."""

import threading
from typing import Protocol


class Stoppable(Protocol):
    """An engine that can be canceled (``llm_edge.engine.Engine``)."""

    def cancel(self) -> None:
        """Whatever runs now, or else the next call, ends."""

    def clear(self) -> None:
        """Forget a ``cancel`` that came when nothing ran."""


class Alarm:
    """Cancels an engine at a time, or earlier, and never when nothing runs on it."""

    def __init__(self, engine: Stoppable) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._running = False
        self._turn = 0
        self._timer: threading.Timer | None = None

    def set(self, left_ns: int | None = None) -> "Alarm":
        """For the next ``with``; left_ns: until it rings by itself, None for never."""
        if left_ns is not None:
            self._timer = threading.Timer(left_ns * 1e-9, self._ring, (self._turn + 1,))
            self._timer.daemon = True
        return self

    def __enter__(self) -> None:
        with self._lock:
            self._running = True
            self._turn += 1
        if self._timer is not None:
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            self._running = False
            self._engine.clear()

    def ring(self) -> None:
        """From any thread: what runs within the ``with`` ends."""
        self._ring(None)

    def _ring(self, turn: int | None) -> None:
        """turn: of whom alone, so that a late timer does not end the next one."""
        with self._lock:
            if self._running and turn in (None, self._turn):
                self._engine.cancel()
