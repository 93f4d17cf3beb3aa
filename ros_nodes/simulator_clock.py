"""``/clock`` of a simulator: its ticks, and time that runs on between them."""

import threading
import time
from collections.abc import Callable

PERIOD_S = 0.005


class SmoothClock:
    """Says what time it is, on any thread, and never an earlier one than before.

    A step back of a nanosecond would be a jump in time to every node that listens.
    """

    def __init__(
        self, say: Callable[[int], None], stamp_ns: int, step_ns: int, factor: float
    ) -> None:
        """say: told nanoseconds. stamp_ns, step_ns: of the last tick, and between two ticks.
        factor: simulation time to wall time."""
        self._say, self._step_ns, self._factor = say, step_ns, factor
        self._lock = threading.Lock()
        self._tick = time.monotonic(), stamp_ns
        self._said_ns = stamp_ns

    @property
    def stamp_ns(self) -> int:
        """Of the last tick."""
        return self._tick[1]

    def tick(self, stamp_ns: int) -> None:
        """A tick; it is said at once."""
        with self._lock:
            self._tick = time.monotonic(), stamp_ns
            self._say_if_later(stamp_ns)

    def run_on(self) -> None:
        """Time goes on after the last tick, but never into the next one."""
        with self._lock:
            begin, stamp_ns = self._tick
            passed_ns = round((time.monotonic() - begin) * 1e9 * self._factor)
            if passed_ns > PERIOD_S * 5e8:
                self._say_if_later(stamp_ns + min(passed_ns, self._step_ns - 1))

    def _say_if_later(self, stamp_ns: int) -> None:
        if stamp_ns > self._said_ns:
            self._said_ns = stamp_ns
            self._say(stamp_ns)
