"""When the next decision is due, by the rate that is wished for and what the tracker can bear."""

from typing import Any, Protocol

from pipeline.span import LatencyReport, LatencyStatus

EARLY = 0.95
"""Of an interval: timers are not exact."""


class Governs(Protocol):
    """What a governor does (``llm_edge.governor.Governor``). advice: its ``value`` is go, stretch
    or skip. stretch: multiple of the interval."""

    advice: Any
    stretch: float

    def update(self, now_ns: int, p99_ns: int, missed: int = 0, *, reasoning: bool) -> Any:
        """Told the tracker's latency."""


class Pace:
    """rate_hz: wished for. governor: None lets every turn be."""

    def __init__(self, governor: Governs | None, rate_hz: float) -> None:
        self._governor, self._rate_hz = governor, rate_hz
        self._last_ns: int | None = None
        self._reasoned = False

    @property
    def advice(self) -> str:
        """go, stretch or skip."""
        return "go" if self._governor is None else str(self._governor.advice.value)

    def due(self, now_ns: int) -> bool:
        """Whether a turn at ``now_ns`` shall be taken; if so it counts as taken."""
        if self._governor is not None and self._last_ns is not None:
            wait_ns = EARLY * 1e9 * self._governor.stretch / max(self._rate_hz, 1e-3)
            if self.advice == "skip" or 0 <= now_ns - self._last_ns < wait_ns:
                return False
        self._last_ns = now_ns
        return True

    def reasoned(self) -> None:
        """A decision was made."""
        self._reasoned = True

    def told(self, report: LatencyReport, stage: str, now_ns: int) -> None:
        """How the tracker fares; stage: its name. A stage without an estimate says nothing."""
        found = next((s for s in report.stages if s.stage == stage), None)
        if self._governor is None or found is None or found.status != LatencyStatus.ESTIMATED:
            return
        reasoned, self._reasoned = self._reasoned, False
        self._governor.update(now_ns, found.p99_ns, reasoning=reasoned)
