"""The latency monitor: spans in, distributions and horizons out.

A stage's latency is the age of its results, ``end − stamp``. Its distribution is kept over a
sliding window; when the newest ages all lie outside what the window held before, the regime has
changed (a heavier scene, a throttled core) and the older samples are cut off, so that the estimate
follows within a few spans instead of within half a window.

A consumer's horizon is a distribution as well. When a forecast is made, the age of its frame is
known; what is not known is the time from then to the act. Where the spans tell that time, because
the consumer's stage and the one that forecasts report the same frames, it is the horizon, and the
jitter of all that came before the forecast is none of its uncertainty. Where they do not, the
horizon is the age at the end of the consumer's stage, of which only what is not over yet counts
(``prediction.horizon``).
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.span import Horizon, LatencyReport, LatencyStatus, Origin, Span, StageLatency

FORECASTS = "predictor"
"""The stage at whose end a forecast is made."""
QUANTILES = 16
LEVELS = (np.arange(QUANTILES) + 0.5) / QUANTILES

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
    consumer_probability: tuple[float, ...] = option(
        (0.0,),
        "For each consumer, or for all, the probability with which its region shall contain the "
        "target; 0 is no region.",
        low=0,
        high=0.995,
    )
    distribution: bool = option(
        True, "Forecast over the distribution of the moment of use; else for its median."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        n = len(self.consumers)
        lists = ["consumer_stage", "consumer_extra_ms", "consumer_prior_ms"]
        if len(self.consumer_probability) != 1:
            lists.append("consumer_probability")
        for name in lists:
            if len(getattr(self, name)) != n:
                raise InputError(
                    f"{name}: has {len(getattr(self, name))} entries for {n} consumers"
                )
        for stage in self.consumer_stage:
            if stage not in self.stages:
                raise InputError(f"consumer_stage: {stage!r} is none of {', '.join(self.stages)}")

    @property
    def probabilities(self) -> dict[str, float]:
        """Each consumer that asks for a region, with its probability."""
        each = self.consumer_probability
        each = each * len(self.consumers) if len(each) == 1 else each
        return {consumer: p for consumer, p in zip(self.consumers, each, strict=True) if p > 0}


class _Samples:
    """One stage's window."""

    def __init__(self) -> None:
        self.ends: deque[int] = deque(maxlen=MAX_SAMPLES)
        self.ages: deque[int] = deque(maxlen=MAX_SAMPLES)
        self.works: deque[int] = deque(maxlen=MAX_SAMPLES)
        self.stamps: deque[int] = deque(maxlen=MAX_SAMPLES)
        self.drops = 0
        self.seen = 0

    def add(self, span: Span, window_ns: int) -> None:
        if self.ends and span.end_ns - self.ends[-1] > window_ns:
            self.seen = 0  # what comes after so long a silence is a new stream
        self.ends.append(span.end_ns)
        self.ages.append(span.age_ns)
        self.works.append(span.end_ns - span.start_ns)
        self.stamps.append(span.stamp_ns)
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
            self.stamps.popleft()

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

        The median age at the end of its stage plus its own extra time, with the distribution unless
        ``distribution`` is off. Before enough spans came it is the configured prior, and anything
        from at once to twice the prior is as likely.

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
            prior = round(self._config.consumer_prior_ms[i] * 1e6)
            return Horizon(consumer, prior, status, self._quantiles(2 * prior * LEVELS))
        ages = np.array(samples.ages, np.int64)
        extra = round(self._config.consumer_extra_ms[i] * 1e6)
        ns = round(float(np.median(ages))) + extra
        if not self._config.distribution:
            return Horizon(consumer, ns, status)
        rest = self._rest(samples)
        times, origin = (ages, Origin.STAMP) if rest is None else (rest, Origin.FORECAST)
        # The k-th of n samples has k/(n+1) of what is to come below it.
        at = LEVELS * (len(times) + 1) - 1
        found = np.interp(at, np.arange(len(times)), np.sort(times) + extra)
        return Horizon(consumer, ns, status, self._quantiles(found), origin)

    def _quantiles(self, values: FloatArray) -> tuple[int, ...]:
        if not self._config.distribution:
            return ()
        return tuple(np.clip(np.rint(values), 0, MAX_AGE_NS).astype(np.int64).tolist())

    def _rest(self, samples: _Samples) -> npt.NDArray[np.int64] | None:
        """(n,) times in ns from the making of a forecast to the end of the consumer's stage; None
        where the spans do not tell, as of stages that do not handle the forecasts' frames."""
        forecasts = self._samples.get(FORECASTS)
        if forecasts is None:
            return None
        if samples is forecasts:
            return np.zeros(1, np.int64)
        own, made = (np.array(s.stamps, np.int64) for s in (samples, forecasts))
        _, at, since = np.intersect1d(own, made, return_indices=True)
        if len(at) < min(self._config.min_samples, len(own)):
            return None
        ends = np.array(samples.ends, np.int64)[at]
        return np.asarray(ends - np.array(forecasts.ends, np.int64)[since])

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
