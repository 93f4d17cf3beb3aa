"""Clocks: nanoseconds as ``int``, one clock per run."""

import time
from typing import Any, Protocol


class Clock(Protocol):
    """Answers what time it is; every stage of a run shares one."""

    def now_ns(self) -> int:
        """Nanoseconds since the clock's epoch."""
        ...


class WallClock:
    """The Unix epoch, advanced by the monotonic counter: an NTP step never makes time jump."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return self._offset_ns + time.monotonic_ns()


class SimClock:
    """Time that stands still until it is told to go on."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance_to(self, now_ns: int) -> None:
        """Go on to ``now_ns``.

        Raises:
            ValueError: ``now_ns`` lies before the present; make a new clock instead.
        """
        if now_ns < self._now_ns:
            raise ValueError(f"SimClock at {self._now_ns} ns cannot go back to {now_ns} ns")
        self._now_ns = now_ns


class RosClock:
    """A node's clock (``node.get_clock()``), which follows ``use_sim_time``."""

    def __init__(self, ros_clock: Any) -> None:
        self._clock = ros_clock

    def now_ns(self) -> int:
        return int(self._clock.now().nanoseconds)
