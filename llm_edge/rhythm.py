"""When the tracker will work next, and a large model that stands still for so long.

Under ``SCHED_IDLE`` a model takes no processor time from the tracker, but it streams its weights
through the caches and the memory that the tracker needs. A camera is periodic, so it is known when
that will be: the model's process is stopped for those milliseconds, in the midst of a forward.
"""

import contextlib
import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from llm_edge.worker import Worker
from pipeline.clock import Clock
from pipeline.config import Config, option

KEPT = 32
_LEAST = 8
_REGULAR = 0.2
"""Half of the steps from start to start lie within this share of their median."""
_MISSED = 10
"""Periods without a span after which nothing is known any more."""


@dataclass(frozen=True)
class RhythmConfig(Config):
    """How long the model stands still."""

    guard_ms: float = option(1.0, "Before the tracker is expected.", low=0, high=20)
    most_ms: float = option(15.0, "For one frame at most.", low=0.1, high=1000)
    share: float = option(0.6, "Of the time at most.", low=0.05, high=0.95)


class Rhythm:
    """Told when the tracker began and ended its work; predicts when it will do so again."""

    def __init__(self, config: RhythmConfig | None = None) -> None:
        self._config = config or RhythmConfig()
        self._starts: deque[int] = deque(maxlen=KEPT)
        self._works: deque[int] = deque(maxlen=KEPT)

    def told(self, start_ns: int, end_ns: int) -> None:
        """One frame's work. A clock that goes back begins anew."""
        if self._starts and start_ns <= self._starts[-1]:
            self._starts.clear()
            self._works.clear()
        self._starts.append(start_ns)
        self._works.append(max(0, end_ns - start_ns))

    def window(self, now_ns: int) -> tuple[int, int] | None:
        """From when to when to stand still, the end after now; None where there is no rhythm."""
        starts = list(self._starts)
        if len(starts) < _LEAST:
            return None
        steps = np.sort(np.diff(starts))
        period = float(np.median(steps))
        spread = steps[3 * len(steps) // 4] - steps[len(steps) // 4]
        if spread > _REGULAR * period or not 0 <= now_ns - starts[-1] < _MISSED * period:
            return None
        guard = self._config.guard_ms * 1e6
        work = sorted(self._works)[9 * len(self._works) // 10]
        most = min(self._config.most_ms * 1e6, self._config.share * period)
        length = min(guard + work, most)
        passed = max(1, int((now_ns - starts[-1] + guard - length) // period) + 1)
        begin = starts[-1] + passed * period - guard
        return round(begin), round(begin + length)


class Pacer:
    """Stops a worker's process in the windows of a rhythm; on a thread of its own."""

    def __init__(self, worker: Worker, rhythm: Rhythm, clock: Clock) -> None:
        self._worker, self._rhythm, self._clock = worker, rhythm, clock
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the process run on."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(RuntimeError):  # told meanwhile: once more
                window = self._rhythm.window(self._clock.now_ns())
                if window is None or not self._worker.works:
                    self._closed.wait(0.01)
                    continue
                self._wait(window[0])
                self._worker.hold()
                self._wait(window[1])
                self._worker.go()

    def _wait(self, until_ns: int) -> None:
        left_ns = until_ns - self._clock.now_ns()
        if left_ns > 0:
            self._closed.wait(left_ns * 1e-9)
