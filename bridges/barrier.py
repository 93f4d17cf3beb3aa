"""Waiting until every sensor has said its word on one tick, but not for ever."""

import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence

from bridges.simulator import Reading, Sensor, SensorKind

EVENTS = (SensorKind.V2X,)
"""Kinds that speak when something happens; nobody waits for them."""
SILENT_AFTER = 5
"""A sensor that missed as many ticks in a row is not waited for until it speaks again."""
MOST_EVENTS = 256
MOST_AHEAD = 64


class FrameBarrier:
    """Collects readings by tick. ``put`` on any thread, ``collect`` on one.

    counts: of what went wrong: ``missing`` (not there in time), ``late`` (of a tick that is over),
    ``unasked`` (of a sensor that is not known, or too far ahead), ``repeated``.
    """

    def __init__(self, sensors: Sequence[Sensor], first: int | None = None) -> None:
        """first: the tick on which all read, and from which every n-th is counted; None: the one
        that is collected first."""
        self._every = {s.name: s.every for s in sensors if s.kind not in EVENTS}
        self._events = {s.name for s in sensors if s.kind in EVENTS}
        self._ready = threading.Condition()
        self._waiting: dict[int, dict[str, Reading]] = {}
        self._happened: list[Reading] = []
        self._first = first
        self._done = -1 if first is None else first - 1
        self._missed: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    @property
    def silent(self) -> tuple[str, ...]:
        """Sensors that are not waited for now."""
        with self._ready:
            return tuple(sorted(n for n, k in self._missed.items() if k >= SILENT_AFTER))

    def put(self, reading: Reading) -> None:
        """A reading; one that nobody waits for is counted and dropped."""
        with self._ready:
            if reading.sensor in self._events:
                self._happened.append(reading)
                self.counts["unasked"] += len(self._happened) > MOST_EVENTS
                del self._happened[:-MOST_EVENTS]
                return
            far = self._first is not None and reading.frame > self._done + MOST_AHEAD
            if far or reading.sensor not in self._every:
                self.counts["unasked"] += 1
                return
            self._missed.pop(reading.sensor, None)
            if reading.frame <= self._done:
                self.counts["late"] += 1
                return
            place = self._waiting.setdefault(reading.frame, {})
            self.counts["repeated"] += reading.sensor in place
            place[reading.sensor] = reading
            self._ready.notify_all()

    def due(self, frame: int) -> set[str]:
        """Sensors that read on this tick and are waited for."""
        first = frame if self._first is None else self._first
        return {
            name
            for name, every in self._every.items()
            if (frame - first) % every == 0 and self._missed[name] < SILENT_AFTER
        }

    def collect(
        self, frame: int, timeout_s: float, absent: Collection[str] = ()
    ) -> tuple[dict[str, Reading], tuple[str, ...]]:
        """What was said of tick ``frame``, and who is missing after at most ``timeout_s``.

        absent: nobody waits for them: whoever carries them is gone. Readings of earlier ticks are
        late from here on.
        """
        end = time.monotonic() + timeout_s
        with self._ready:
            due = self.due(frame)
            if self._first is None:
                self._first, self._done = frame, frame - 1
            awaited = due.difference(absent)
            while not awaited <= self._waiting.get(frame, {}).keys():
                left = end - time.monotonic()
                if left <= 0 or not self._ready.wait(left):
                    break
            there = self._waiting.pop(frame, {})
            for late in [f for f in self._waiting if f < frame]:
                self.counts["late"] += len(self._waiting.pop(late))
            self._done = max(self._done, frame)
            missing = tuple(sorted(due - there.keys()))
            self._missed.update(missing)
            self.counts["missing"] += len(missing)
            return there, missing

    def events(self) -> list[Reading]:
        """What happened since the last call."""
        with self._ready:
            happened, self._happened = self._happened, []
            return happened
