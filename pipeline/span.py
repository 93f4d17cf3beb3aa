"""What stages report of their own work, and what the latency monitor makes of it."""

from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class Span:
    """One frame's passage through one stage.

    stamp_ns: acquisition of the frame. start_ns, end_ns: the stage's work on it.
    dropped: frames this stage had no time for since its last span.
    """

    stage: str
    stamp_ns: int
    start_ns: int
    end_ns: int
    dropped: int = 0

    @property
    def age_ns(self) -> int:
        """How old the frame was when the stage had finished."""
        return self.end_ns - self.stamp_ns


class LatencyStatus(IntEnum):
    """Where a latency figure comes from."""

    ESTIMATED = 0
    PRIOR = 1
    """Too few samples: the configured prior."""
    STALE = 2
    """No span for longer than the stage may be silent: the last estimate, which may be wrong."""


@dataclass(frozen=True, slots=True)
class StageLatency:
    """Age at the end of a stage over the sliding window, and the stage's own work.

    median_ns, p90_ns, p99_ns: of the age (end − stamp). jitter_ns: interquartile range of the age.
    work_median_ns: of the work (end − start). rate_hz: spans a second. drops: since the start.
    """

    stage: str
    status: LatencyStatus
    median_ns: int
    p90_ns: int
    p99_ns: int
    jitter_ns: int
    work_median_ns: int
    rate_hz: float
    drops: int


class Origin(IntEnum):
    """From when a horizon's quantiles count."""

    STAMP = 0
    """The acquisition of the frame."""
    FORECAST = 1
    """The moment at which the forecast is made: what has passed by then is known."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far past the acquisition stamp a consumer will act.

    ns: the median. quantiles_ns: the distribution of the time from ``origin`` to the act, as the
    middles of parts of equal probability, rising; empty where only the median is known.
    """

    consumer: str
    ns: int
    status: LatencyStatus
    quantiles_ns: tuple[int, ...] = ()
    origin: Origin = Origin.STAMP


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """The monitor's view at ``stamp_ns``."""

    stamp_ns: int
    stages: tuple[StageLatency, ...]
    horizons: tuple[Horizon, ...]
