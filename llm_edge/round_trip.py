"""Whether an answer from far away would be here in time: measured, not hoped for."""

import math

_GAIN, _SPREAD_GAIN = 0.125, 0.25
SPREADS = 4.0
"""RFC 6298's: what is waited for is the mean and four mean deviations."""


class RoundTrip:
    """Mean and deviation of what a question took, both as exponentially weighted averages.

    A failure counts as a question that took as long as was waited. After one, and before the
    first answer, only probes go out: at most one in ``probe_s``.
    """

    def __init__(self, probe_s: float = 5.0) -> None:
        self._probe_ns = round(probe_s * 1e9)
        self.mean_ns = math.nan
        self.spread_ns = math.nan
        self.failed = True
        self._asked_ns: int | None = None

    @property
    def expected_ns(self) -> float:
        """What the next one takes at most, by far the most often; NaN before the first."""
        return self.mean_ns + SPREADS * self.spread_ns

    def allows(self, now_ns: int, left_ns: int) -> bool:
        """Whether to ask now, with so much time left. A probe may be asked even where its answer
        will come too late, for else nobody learns that the link is better again."""
        if not self.failed and self.expected_ns <= left_ns:
            return True
        return self._asked_ns is None or not 0 <= now_ns - self._asked_ns < self._probe_ns

    def asked(self, now_ns: int) -> None:
        """A question goes out."""
        self._asked_ns = now_ns

    def answered(self, took_ns: int) -> None:
        """A whole answer came."""
        self.failed = False
        self._weigh(took_ns)

    def gave_up(self, waited_ns: int) -> None:
        """No usable answer came."""
        self.failed = True
        if not math.isnan(self.mean_ns):
            self._weigh(max(waited_ns, round(self.mean_ns)))

    def _weigh(self, took_ns: int) -> None:
        if math.isnan(self.mean_ns):
            self.mean_ns, self.spread_ns = float(took_ns), took_ns / 2
            return
        away = abs(took_ns - self.mean_ns)
        self.spread_ns += _SPREAD_GAIN * (away - self.spread_ns)
        self.mean_ns += _GAIN * (took_ns - self.mean_ns)
