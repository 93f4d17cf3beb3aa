"""How a reasoner has fared lately: deadlines, fallbacks, times."""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from llm_edge.decision import Source
from llm_edge.reasoner import Answer

WINDOW = 300


@dataclass(frozen=True, slots=True)
class Fare:
    """Over the newest answers; NaN where there is nothing to tell.

    met, fallback, refused: shares in time, made by the rule policy, and where it let a model's
    decision not pass. goodput_hz: answers in time that it did not make, a second. first_token_ms,
    took_ms: medians; took_p99_ms. token_ms: mean of the decoder's time a token that it says.
    """

    answers: int
    met: float
    fallback: float
    refused: float
    goodput_hz: float
    first_token_ms: float
    token_ms: float
    took_ms: float
    took_p99_ms: float


class Tally:
    """Counts the newest ``WINDOW`` answers; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: deque[tuple[int, ...]] = deque(maxlen=WINDOW)

    def add(self, answer: Answer, now_ns: int) -> None:
        """An answer that was handed on at ``now_ns``."""
        own = answer.decision.source is not Source.POLICY
        times = answer.ttft_ns, answer.token_ns, answer.took_ns
        row = now_ns, answer.met, own, answer.refused, *times
        with self._lock:
            self._rows.append(row)

    def fare(self) -> Fare:
        """Of the answers in the window."""
        with self._lock:
            rows = list(self._rows)
        if not rows:
            return Fare(0, *[float("nan")] * 8)
        at, met, own, refused, first, token, took = np.array(rows, np.int64).T
        seconds = (at[-1] - at[0]) * 1e-9
        good = int((met * own)[1:].sum())
        started, spoke = first[first > 0], token[token > 0]
        return Fare(
            answers=len(at),
            met=float(met.mean()),
            fallback=float((own == 0).mean()),
            refused=float(refused.mean()),
            goodput_hz=float(good / seconds) if seconds > 0 else float("nan"),
            first_token_ms=float(np.median(started)) * 1e-6 if len(started) else np.nan,
            token_ms=float(spoke.mean()) * 1e-6 if len(spoke) else np.nan,
            took_ms=float(np.median(took)) * 1e-6,
            took_p99_ms=float(np.percentile(took, 99)) * 1e-6,
        )
