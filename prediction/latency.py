"""The latency monitor: spans in, distributions and horizons out.

A stage's latency is the age of its results, ``end − stamp``. Its distribution is kept over a
sliding window; when the newest ages all lie outside what the window held before, the regime has
changed (a heavier scene, a throttled core) and the older samples are cut off, so that the estimate
follows within a few spans instead of within half a window.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.span import Horizon, LatencyReport, LatencyStatus, Span, StageLatency

REGIME_SAMPLES = 3
"""Newest ages that must all be new to the window, where they come within ``REGIME_NS``; a stage
slower than that is judged by two, so that a change is seen within a second down to 2 Hz."""
REGIME_NS = 700_000_000
REGIME_MIN_NS = 5_000_000
REGIME_SPREADS = 0.25
MAX_SAMPLES = 4096
MAX_AGE_NS = 60_000_000_000
MAX_DROPPED = 1 << 20
"""In one span: ten hours at 30 Hz."""


@dataclass(frozen=True)
class LatencyConfig(Config):
    """What the latency monitor watches, and for whom."""

    stages: tuple[str, ...] = option(
        ("isp", "tracker", "predictor"), "Stages whose spans are expected, in order."
    )
    window_s: float = option(5.0, "Length of the sliding window.", low=0.1, high=600)
    min_samples: int = option(5, "Spans before an estimate replaces the prior.", low=1, high=1000)
    silent_ms: float = option(
        1000.0, "A stage without a span for longer is stale.", low=10, high=60_000
    )
    consumers: tuple[str, ...] = option(("control",), "Who uses the forecasts.")
    consumer_stage: tuple[str, ...] = option(
        ("predictor",), "For each consumer, the stage whose results it uses."
    )
    consumer_extra_ms: tuple[float, ...] = option(
        (0.0,), "For each consumer, time from that stage's end to its own act.", low=0, high=60_000
    )
    consumer_prior_ms: tuple[float, ...] = option(
        (100.0,), "For each consumer, the horizon before enough spans came.", low=0, high=60_000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        n = len(self.consumers)
        for name in ("consumer_stage", "consumer_extra_ms", "consumer_prior_ms"):
            if len(getattr(self, name)) != n:
                raise InputError(
                    f"{name}: has {len(getattr(self, name))} entries for {n} consumers"
                )
        for stage in self.consumer_stage:
            if stage not in self.stages:
                raise InputError(f"consumer_stage: {stage!r} is none of {', '.join(self.stages)}")


class _Samples:
    """One stage's window."""

    def __init__(self) -> None:
        self.ends: deque[int] = deque(maxlen=MAX_SAMPLES)
        self.ages: deque[int] = deque(maxlen=MAX_SAMPLES)
        self.works: deque[int] = deque(maxlen=MAX_SAMPLES)
        self.drops = 0
        self.seen = 0

    def add(self, span: Span, window_ns: int) -> None:
        if self.ends and span.end_ns - self.ends[-1] > window_ns:
            self.seen = 0  # what comes after so long a silence is a new stream
        self.ends.append(span.end_ns)
        self.ages.append(span.age_ns)
        self.works.append(span.end_ns - span.start_ns)
        self.drops += span.dropped
        self.seen += 1
        while span.end_ns - self.ends[0] > window_ns:
            self._forget(1)
        new = self._new_regime()
        if new:
            self._forget(len(self.ages) - new)

    def _forget(self, n: int) -> None:
        for _ in range(n):
            self.ends.popleft()
            self.ages.popleft()
            self.works.popleft()

    def _new_regime(self) -> int:
        """How many of the newest samples are a regime of their own; 0 where there is no change."""
        if len(self.ages) < 2 * REGIME_SAMPLES:
            return 0
        n = REGIME_SAMPLES
        n -= self.ends[-1] - self.ends[-n] > REGIME_NS
        ages = np.array(self.ages, np.int64)
        before, now = ages[:-n], ages[-n:]
        low, high = np.percentile(before, (10, 90))
        margin = max(REGIME_SPREADS * (high - low), REGIME_MIN_NS)
        return n if (now > high + margin).all() or (now < low - margin).all() else 0


class LatencyMonitor:
    """Sliding distributions a stage and the horizon of each consumer. Not thread-safe."""

    def __init__(self, config: LatencyConfig) -> None:
        self._config = config
        self.reset()

    def reset(self) -> None:
        """Forget all samples: the clock jumped, or a new run begins."""
        self._samples = {stage: _Samples() for stage in self._config.stages}

    def add(self, span: Span) -> None:
        """Take in one span.

        Raises:
            InputError: what ``check`` raises, or an end before that of the stage's last span.
        """
        self.check(span)
        samples = self._samples[span.stage]
        if samples.ends and span.end_ns < samples.ends[-1]:
            raise InputError(
                f"span of stage {span.stage!r} ends {samples.ends[-1] - span.end_ns} ns before "
                "the one before it; reset the monitor when the clock jumps back"
            )
        samples.add(span, int(self._config.window_s * 1e9))

    def check(self, span: Span) -> None:
        """Whether a span can be true, whatever came before it.

        Raises:
            InputError: a stage that is not configured, times that do not fit together, an age
                above 60 s (and work, which is part of it), or an absurd number of dropped frames.
        """
        if span.stage not in self._samples:
            raise InputError(
                f"span of stage {span.stage!r}: expected are {', '.join(self._samples)}; "
                "add it to latency.stages"
            )
        if not span.stamp_ns <= span.start_ns <= span.end_ns:
            raise InputError(
                f"span of stage {span.stage!r}: stamp {span.stamp_ns}, start {span.start_ns}, "
                f"end {span.end_ns} ns are not in order; give all stages one clock"
            )
        if span.age_ns > MAX_AGE_NS:
            raise InputError(
                f"span of stage {span.stage!r}: an age of {span.age_ns} ns, allowed is 0 to 60 s; "
                "give all stages one clock"
            )
        if not 0 <= span.dropped <= MAX_DROPPED:
            raise InputError(
                f"span of stage {span.stage!r}: {span.dropped} frames dropped, allowed is 0 to "
                f"{MAX_DROPPED}; its sender is at fault"
            )

    def stage(self, name: str, now_ns: int) -> StageLatency:
        """One stage's distribution as of ``now_ns``; zeros with status PRIOR before any span."""
        samples = self._samples[name]
        if not samples.ages:
            return StageLatency(name, LatencyStatus.PRIOR, 0, 0, 0, 0, 0, 0.0, samples.drops)
        ages = np.array(samples.ages, np.int64)
        q25, median, q75, p90, p99 = np.percentile(ages, (25, 50, 75, 90, 99))
        seconds = (samples.ends[-1] - samples.ends[0]) * 1e-9
        return StageLatency(
            name,
            self._status(samples, now_ns),
            round(median),
            round(p90),
            round(p99),
            round(q75 - q25),
            round(float(np.median(np.array(samples.works, np.int64)))),
            (len(ages) - 1) / seconds if seconds > 0 else 0.0,
            samples.drops,
        )

    def horizon(self, consumer: str, now_ns: int) -> Horizon:
        """How far past a frame's stamp the consumer will act on it.

        The median age at the end of its stage plus its own extra time; before enough spans came,
        the configured prior.

        Raises:
            InputError: a consumer that is not configured.
        """
        try:
            i = self._config.consumers.index(consumer)
        except ValueError:
            raise InputError(
                f"consumer {consumer!r} is none of {', '.join(self._config.consumers)}; "
                "add it to latency.consumers"
            ) from None
        samples = self._samples[self._config.consumer_stage[i]]
        status = self._status(samples, now_ns)
        if samples.seen < self._config.min_samples:
            return Horizon(consumer, round(self._config.consumer_prior_ms[i] * 1e6), status)
        median = round(float(np.median(np.array(samples.ages, np.int64))))
        extra = round(self._config.consumer_extra_ms[i] * 1e6)
        return Horizon(consumer, median + extra, status)

    def horizons(self, now_ns: int) -> tuple[Horizon, ...]:
        """Every consumer's horizon."""
        return tuple(self.horizon(c, now_ns) for c in self._config.consumers)

    def report(self, now_ns: int) -> LatencyReport:
        """Every stage and every horizon as of ``now_ns``."""
        stages = tuple(self.stage(name, now_ns) for name in self._samples)
        return LatencyReport(now_ns, stages, self.horizons(now_ns))

    def _status(self, samples: _Samples, now_ns: int) -> LatencyStatus:
        if samples.ends and now_ns - samples.ends[-1] > self._config.silent_ms * 1e6:
            return LatencyStatus.STALE
        if samples.seen < self._config.min_samples:
            return LatencyStatus.PRIOR
        return LatencyStatus.ESTIMATED
