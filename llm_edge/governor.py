"""How much reasoning the tracker can bear: as much as does not show in its latency.

Told the tracker's latency once in a while, it says whether reasoning may go on as wished, at longer
intervals, or not at all. What counts as undisturbed is learned while nothing reasons; where
something always does, it is the least that was seen.
"""

import math
from dataclasses import dataclass
from enum import Enum

from pipeline.config import Config, option
from pipeline.errors import InputError


class Advice(Enum):
    """What reasoning may do."""

    GO = "go"
    STRETCH = "stretch"
    SKIP = "skip"


@dataclass(frozen=True)
class GovernorConfig(Config):
    """When the tracker counts as disturbed."""

    worse: float = option(1.1, "Of the calm p99; above it, intervals grow.", low=1.01, high=10)
    bad: float = option(1.5, "Of the calm p99; above it, reasoning is skipped.", low=1.05, high=20)
    better: float = option(1.05, "Of the calm p99; below it, it recovers.", low=1, high=10)
    slack_ms: float = option(0.5, "A difference below this is none.", low=0, high=100)
    patience: int = option(2, "Disturbed reports in a row before it acts.", low=1, high=100)
    recover_s: float = option(3.0, "Calm for so long before a step back.", low=0.1, high=600)
    most: float = option(16.0, "Longest interval, as a multiple.", low=1, high=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.better < self.worse < self.bad:
            raise InputError("governor: give better below worse below bad")


class Governor:
    """``update`` with each report; ``advice`` and ``stretch`` (a multiple of the interval, 1 for as
    wished) hold until the next one."""

    def __init__(self, config: GovernorConfig | None = None) -> None:
        self._config = config or GovernorConfig()
        self.advice = Advice.GO
        self.stretch = 1.0
        self.calm_ns = math.nan
        """p99 while nothing reasons, or the least; NaN before the first report."""
        self._bad = 0
        self._calm_since_ns: int | None = None
        self._last_ns: int | None = None

    def update(self, now_ns: int, p99_ns: int, missed: int = 0, *, reasoning: bool) -> Advice:
        """
        p99_ns: of the tracker's latency over the last moments. missed: frames that it missed in
        them beyond what it misses when calm. reasoning: whether something reasoned in them.
        """
        if self._last_ns is not None and now_ns < self._last_ns:  # the clock went back
            self._calm_since_ns, self._bad = None, 0
        self._last_ns = now_ns
        if not reasoning:
            self._learn(p99_ns)
        elif not p99_ns >= self.calm_ns:  # so calm that it must be, or nothing else is known
            self.calm_ns = float(p99_ns)
        level = self._level(p99_ns, missed)
        if level > 0 and reasoning:
            self._calm_since_ns = None
            self._bad += 1
            if self._bad >= self._config.patience:
                self._bad = 0
                self._tighten(level)
        elif level == 0 and reasoning:
            self._calm_since_ns, self._bad = None, 0
        else:
            self._bad = 0
            self._recover(now_ns)
        return self.advice

    def _learn(self, p99_ns: int) -> None:
        """A heavier picture is slower as well: the calm figure follows, half each time."""
        known = not math.isnan(self.calm_ns)
        self.calm_ns = (self.calm_ns + p99_ns) / 2 if known else float(p99_ns)

    def _level(self, p99_ns: int, missed: int) -> int:
        """−1 calm, 0 between, 1 worse, 2 bad."""
        if missed > 0:
            return 2
        c = self._config
        if math.isnan(self.calm_ns) or p99_ns - self.calm_ns <= c.slack_ms * 1e6:
            return -1
        ratio = p99_ns / max(self.calm_ns, 1.0)
        return 2 if ratio > c.bad else 1 if ratio > c.worse else 0 if ratio > c.better else -1

    def _tighten(self, level: int) -> None:
        if level == 2 or self.stretch >= self._config.most:
            self.advice, self.stretch = Advice.SKIP, self._config.most
        else:
            self.advice, self.stretch = Advice.STRETCH, min(self._config.most, 2 * self.stretch)

    def _recover(self, now_ns: int) -> None:
        """One step back after each time of calm: out of SKIP, then half the interval."""
        if self._calm_since_ns is None:
            self._calm_since_ns = now_ns
        if now_ns - self._calm_since_ns < self._config.recover_s * 1e9:
            return
        self._calm_since_ns = now_ns
        if self.advice is Advice.SKIP:
            self.advice = Advice.STRETCH
        elif self.advice is Advice.STRETCH:
            self.stretch /= 2
            if self.stretch <= 1:
                self.advice, self.stretch = Advice.GO, 1.0
