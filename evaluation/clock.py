"""The online clock: which frames a tracker with a latency gets to see, and when it has answered.

The tracker starts on frame 0 at that frame's stamp and is busy for its latency. Whenever it is
free it takes the newest frame there is; when it has seen that one already, it waits for the next.
Frames that passed meanwhile are never seen. The answer of the start frame is the given box, so it
counts as known from the first moment, though the start costs its time like any other frame.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.clock import SimClock
from pipeline.errors import InputError

IntArray = npt.NDArray[np.int64]
MAX_LATENCY_S = 60.0
_RANGE = f"latency of {{:g}} s: give seconds above 0, at most {MAX_LATENCY_S:g}"


@dataclass(frozen=True)
class Schedule:
    """frames: (k,) indices seen, rising. ready_ns: (k,) when each answer was there."""

    frames: IntArray
    ready_ns: IntArray


@dataclass(frozen=True)
class Latency:
    """A tracker's latency, simulated: fixed, sampled or recorded.

    median_ns: fixed latency, or the median of a log-normal one whose logarithm has a standard
    deviation of ``jitter``. recorded_ns: used in turn, from the start again when it ends.
    """

    median_ns: int
    jitter: float = 0.0
    seed: int = 0
    recorded_ns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.median_ns <= MAX_LATENCY_S * 1e9:
            raise InputError(_RANGE.format(self.median_ns * 1e-9))
        if not 0 <= self.jitter <= 2:
            raise InputError(f"jitter {self.jitter:g}: allowed is 0 to 2")

    @classmethod
    def of_seconds(cls, seconds: float, jitter: float = 0.0, seed: int = 0) -> "Latency":
        """A simulated latency.

        Raises:
            InputError: seconds or jitter out of range, or no numbers.
        """
        if not 0 < seconds <= MAX_LATENCY_S:
            raise InputError(_RANGE.format(seconds))
        return cls(max(round(seconds * 1e9), 1), jitter, seed)

    @property
    def label(self) -> str:
        """For tables: "170 ms", "170 ms ± 0.2", "recorded (median 41 ms)"."""
        text = f"{self.median_ns * 1e-6:.4g} ms"
        if self.recorded_ns:
            return f"recorded (median {text})"
        return f"{text} ± {self.jitter:g}" if self.jitter else text

    def draw(self, key: int = 0) -> Iterator[int]:
        """Latencies of one run, in ns; the same for the same seed and key (of the sequence)."""
        if self.recorded_ns:
            while True:
                yield from self.recorded_ns
        if not self.jitter:
            while True:
                yield self.median_ns
        rng = np.random.default_rng([self.seed, key])
        while True:
            factors = np.exp(self.jitter * rng.standard_normal(1024))
            yield from np.maximum(self.median_ns * factors, 1).astype(np.int64).tolist()


def read_latency(path: Path) -> Latency:
    """A recording: one latency in seconds a line.

    Raises:
        InputError: unreadable, empty, or a line that is no time.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which is refused below
            seconds = np.loadtxt(path, dtype=np.float64, ndmin=1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: give a text file of one latency in s a line ({error})") from None
    if seconds.ndim != 1 or not len(seconds) or not np.isfinite(seconds).all():
        raise InputError(f"{path}: give a text file of one latency in s a line")
    if seconds.min() <= 0 or seconds.max() > MAX_LATENCY_S:
        raise InputError(f"{path}: latencies must be above 0 and at most {MAX_LATENCY_S:g} s")
    recorded = tuple(round(s * 1e9) for s in seconds.tolist())
    return Latency(round(float(np.median(recorded))), recorded_ns=recorded)


def run_clock(stamps_ns: IntArray, cost_ns: Callable[[int], int]) -> Schedule:
    """Let the clock run over frames with the given stamps, (n,) rising.

    ``cost_ns(frame)`` does the work on a frame, or looks up what it costs, and says how long it
    took; it is called once for each frame that is seen, in order.
    """
    n = len(stamps_ns)
    stamps = stamps_ns.tolist()
    frames, ready = [0], [stamps[0]]
    clock = SimClock(stamps[0] + cost_ns(0))
    frame = 0
    while True:
        newest = frame
        while newest + 1 < n and stamps[newest + 1] <= clock.now_ns():
            newest += 1
        if newest == frame:
            newest += 1
            if newest == n:
                break
            clock.advance_to(stamps[newest])
        frame = newest
        clock.advance_to(clock.now_ns() + cost_ns(frame))
        frames.append(frame)
        ready.append(clock.now_ns())
    return Schedule(np.array(frames, np.int64), np.array(ready, np.int64))


def simulate(stamps_ns: IntArray, latency: Latency, extra_ns: int = 0, key: int = 0) -> Schedule:
    """The schedule under a simulated latency, plus ``extra_ns`` (a predictor's cost) each.

    ``key`` chooses the draw of a sampled latency, with the latency's seed.
    """
    costs = latency.draw(key)
    return run_clock(stamps_ns, lambda frame: next(costs) + extra_ns)
