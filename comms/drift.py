"""Whether a station's clock runs at another rate than ours.

All that is seen is the age of its messages as they come: link delay plus the difference of the
clocks. A drifting clock makes it a ramp; jitter makes it rough, and a new delay makes a step of it.
So the last seconds must rise or fall by more than their roughness, and from each fifth of them to
the next, which one or two steps do not. Once seen, a drift stays until the age is back where it was
before: a clock that has stopped drifting far off is as wrong as one that drifts.

A queue that fills for seconds looks the same. What waits in it is late, too, and not to be fused.
"""

from collections import deque
from collections.abc import Collection, Sequence
from itertools import pairwise
from operator import mul
from statistics import median

_SPACING_NS = 100_000_000
"""Of the samples; the smallest age in between counts."""
_SAMPLES, _MIN_SAMPLES = 40, 15
_PARTS = 5
_MIN_SPAN_S = 2.0
_MIN_RATE = 0.03
"""s/s; quartz is a thousand times better."""
_SIGMAS = 5.0
_EVENNESS = 0.3
"""Least rise from a fifth to the next, as a share of the average one."""
_RETURN_S = 0.05
_REMEMBERED = 2 * _SAMPLES


class DriftMonitor:
    """Follows one station."""

    def __init__(self) -> None:
        self.drifting = False
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)
        self._start_ns: int | None = None
        self._bin = 0
        self._usual: deque[float] = deque(maxlen=_REMEMBERED)

    def observe(self, age_ns: int, now_ns: int) -> bool:
        """Whether the clock drifts, given that a message of ``age_ns`` came at ``now_ns``."""
        if self._start_ns is None:
            self._start_ns = now_ns
        at, age = (now_ns - self._start_ns) * 1e-9, age_ns * 1e-9
        current = now_ns // _SPACING_NS
        if self._samples and current == self._bin:
            if age < self._samples[-1][1]:
                self._samples[-1] = (at, age)
            return self.drifting
        self._judge()
        self._bin = current
        self._samples.append((at, age))
        return self.drifting

    def _judge(self) -> None:
        samples = self._samples
        if len(samples) < _MIN_SAMPLES or samples[-1][0] - samples[0][0] < _MIN_SPAN_S:
            return
        recent = median([samples[-k][1] for k in range(1, 6)])
        if _is_ramp(samples):
            self.drifting = True
        elif self.drifting and self._usual:
            self.drifting = abs(recent - self._usual[0]) > _RETURN_S
        else:  # also the first steady age after a ramp with nothing before it
            self.drifting = False
            self._usual.append(recent)


def _is_ramp(samples: Collection[tuple[float, float]]) -> bool:
    times, ages = [at for at, _ in samples], [age for _, age in samples]
    if not _rises(times, ages):
        return False
    n = len(ages)
    parts = [min(ages[k * n // _PARTS : (k + 1) * n // _PARTS]) for k in range(_PARTS)]
    rises = [(b - a) / (parts[-1] - parts[0] or 1) for a, b in pairwise(parts)]
    return min(rises) > _EVENNESS / len(rises)


def _rises(times: Sequence[float], ages: Sequence[float]) -> bool:
    """Whether the least-squares line is steep, also against its slope's standard deviation."""
    n = len(ages)
    t0, y0 = sum(times) / n, sum(ages) / n
    t, y = [time - t0 for time in times], [age - y0 for age in ages]
    tt = sum([d * d for d in t])
    if tt == 0:
        return False
    slope: float = sum(map(mul, t, y)) / tt
    if abs(slope) < _MIN_RATE:
        return False
    rest = sum([(b - slope * a) ** 2 for a, b in zip(t, y, strict=True)])
    return abs(slope) >= _SIGMAS * float((rest / (n - 2) / tt) ** 0.5)
