"""What a forward costs on this machine: a few fitted numbers, and how far today is from them.

The form is EdgeReasoning's (Kubwimana & Huang, arXiv 2511.01866, 2025): a prefill of I tokens takes
a·I² + b·I + c, a token after ctx others n + m·ctx. To it come the curves of calls of a few tokens
and of several lanes, which say whether forced tokens, drafts and votes are cheap. ``calibrate`` has
the measuring.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.box import FloatArray
from pipeline.errors import InputError

Curve = tuple[tuple[int, float], ...]
_MAX_NS = 1e12
_MAX_COUNT = 1 << 16


@dataclass(frozen=True, slots=True)
class CostModel:
    """Times in nanoseconds of one engine with one model on one machine.

    a, b, c: ns a token², a token and a call, of a call of many tokens. n, m: ns of one token, and
    more for each token before it. steps: (k, ratio) of a call of k tokens to one of one, k rising.
    lanes: (n, ratio) of one token in each of n lanes to one token; empty where there are no lanes.
    fork: ns a lane and token of the state that ``fork`` copies. factor: how much slower it is
    today. tail: logarithm of the ratio of the 99th percentile to the mean.

    Raises:
        InputError: a number that is not finite or out of range, a curve that does not rise.
    """

    a: float
    b: float
    c: float
    n: float
    m: float
    steps: Curve
    lanes: Curve = ()
    fork: float = 0.0
    factor: float = 1.0
    tail: float = 0.2

    def __post_init__(self) -> None:
        for name in ("a", "b", "c", "n", "m", "fork"):
            if not 0 <= getattr(self, name) <= _MAX_NS:
                raise InputError(f"CostModel.{name} is not from 0 to {_MAX_NS:g}")
        if not self.n or not (self.b or self.c):
            raise InputError("CostModel: a token that costs nothing")
        if not 0.01 <= self.factor <= 1000 or not 0 <= self.tail <= 10:
            raise InputError("CostModel: factor or tail is out of range")
        for name in ("steps", "lanes"):
            curve = getattr(self, name)
            sizes = [k for k, _ in curve]
            if sizes != sorted(set(sizes)) or not all(
                1 < k <= _MAX_COUNT and 0.1 <= ratio <= _MAX_COUNT for k, ratio in curve
            ):
                raise InputError(f"CostModel.{name} is no curve of sizes above 1, rising")

    def prefill(self, tokens: int, held: int = 0) -> float:
        """ns of one call of many tokens after ``held`` others."""
        return self.factor * (tokens * (self.a * (held + tokens) + self.b) + self.c)

    def decode(self, tokens: int, held: int) -> float:
        """ns of so many calls of one token, the first after ``held`` others."""
        grown = self.m * tokens * (tokens - 1) / 2
        return self.factor * (tokens * (self.n + self.m * held) + grown)

    def step(self, tokens: int, held: int) -> float:
        """ns of one call of a few tokens; of many it is ``prefill``."""
        if tokens <= 1:
            return self.decode(tokens, held)
        if not self.steps or tokens > self.steps[-1][0]:
            return self.prefill(tokens, held)
        return self.decode(1, held) * _ratio(self.steps, tokens)

    def step_lanes(self, lanes: int, tokens: int, held: int) -> float:
        """ns of so many tokens in each of some lanes: as one call a token, or one call a lane,
        whichever are fewer."""
        if lanes <= 1:
            return self.step(tokens, held)
        if tokens <= lanes:
            grown = self.factor * self.m * lanes * tokens * (tokens - 1) / 2
            return tokens * self.decode(1, held) * _ratio(self.lanes, lanes) + grown
        return lanes * self.step(tokens, held)

    def whole(
        self, prefill: int, thought: int, answer: Sequence[int], held: int = 0, votes: int = 1
    ) -> float:
        """ns of a decision: a prompt, a thought token by token, an answer's calls by their tokens.

        held: tokens that the state holds already. votes: lanes that think and answer.
        """
        total = self.step(prefill, held) if prefill else 0.0
        at = held + prefill
        if votes > 1:
            total += self.factor * self.fork * votes * at
            total += self.step_lanes(votes, 1, at + thought // 2) * thought
        else:
            total += self.decode(thought, at)
        return total + self.answer(answer, at + thought, votes)

    def answer(self, calls: Sequence[int], held: int, votes: int = 1) -> float:
        """ns of an answer's calls, by their tokens, in so many lanes."""
        total = 0.0
        for tokens in calls:
            total += self.step_lanes(votes, tokens, held)
            held += tokens
        return total

    def predict(
        self, prefill: int, thought: int, answer: Sequence[int], held: int = 0, votes: int = 1
    ) -> tuple[float, float]:
        """Mean and 99th percentile, ns, of ``whole``."""
        mean = self.whole(prefill, thought, answer, held, votes)
        return mean, self.p99(mean)

    def p99(self, mean_ns: float) -> float:
        """99th percentile of what takes so long in the mean."""
        return mean_ns * math.exp(self.tail)

    def to_dict(self) -> dict[str, Any]:
        """As ``from_dict`` reads it; factor and tail of now included."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def from_dict(given: Any) -> CostModel:
    """A cost model from JSON's kinds.

    Raises:
        InputError: another shape, or values that ``CostModel`` refuses.
    """
    names = [f.name for f in fields(CostModel)]
    if not isinstance(given, dict) or sorted(given) != sorted(names):
        raise InputError(f"cost model: give exactly {', '.join(names)}")
    values: dict[str, Any] = {}
    for name in names:
        value: Any = given[name]
        if name in ("steps", "lanes"):
            if not isinstance(value, list) or len(value) > 64:
                raise InputError(f"cost model: {name} is no short list")
            pairs: list[Any] = [
                v if isinstance(v, list) and len(v) == 2 else (None, None) for v in value
            ]
            if not all(type(k) is int and _is_number(r) for k, r in pairs):
                raise InputError(f"cost model: {name} holds something that is no pair")
            values[name] = tuple((k, float(r)) for k, r in pairs)
        elif not _is_number(value):
            raise InputError(f"cost model: {name} is no number")
        else:
            values[name] = float(value)
    return CostModel(**values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e15


def _ratio(curve: Curve, size: int) -> float:
    """Between the points of a curve that begins at (1, 1); beyond its end in proportion."""
    before = (1, 1.0)
    for point in curve:
        if size <= point[0]:
            share = (size - before[0]) / (point[0] - before[0])
            return before[1] + share * (point[1] - before[1])
        before = point
    return before[1] * size / before[0]


def fit_prefill(tokens: Sequence[int], took_ns: Sequence[float]) -> tuple[float, float, float]:
    """a, b, c ≥ 0 with the least sum of squared relative errors.

    tokens, took_ns: three or more calls from an empty state.
    """
    sizes, took = np.asarray(tokens, float), np.asarray(took_ns, float)
    a, b, c = _fit(np.stack([sizes**2, sizes, np.ones_like(sizes)], axis=1), took).tolist()
    return a, b, c


def fit_decode(held: Sequence[int], took_ns: Sequence[float]) -> tuple[float, float]:
    """n and m ≥ 0, of single tokens after ``held`` others."""
    sizes = np.asarray(held, float)
    n, m = _fit(np.stack([np.ones_like(sizes), sizes], axis=1), np.asarray(took_ns, float)).tolist()
    return n, m


def _fit(columns: FloatArray, took: FloatArray) -> FloatArray:
    """Least relative squares without negative factors: the best of all sets of columns."""
    rows = columns / took[:, None]
    best, least = np.zeros(columns.shape[1]), math.inf
    for count in range(1, columns.shape[1] + 1):
        for chosen in combinations(range(columns.shape[1]), count):
            found = np.linalg.lstsq(rows[:, chosen], np.ones(len(took)), rcond=None)[0]
            error = float(np.sum((rows[:, chosen] @ found - 1) ** 2))
            if found.min() >= 0 and error < least - 1e-12:
                best, least = np.zeros(columns.shape[1]), error
                best[list(chosen)] = found
    return best


_REST = 0.02


class Drift:
    """How far the machine of today is from the fitted numbers; load and heat change it.

    The factor is an exponentially weighted mean of the logarithm of took/predicted. The tail is a
    quantile followed step by step (Robbins & Monro 1951): it rises by 0.99 of a step when exceeded
    and falls by 0.01 else, so that one in a hundred exceeds it.
    """

    def __init__(self, model: CostModel, weight: float = 0.1, step: float = 0.1) -> None:
        """weight: of the newest observation. step: of the tail, in logarithms."""
        self._model = model
        self._weight, self._step = weight, step
        self._factor = math.log(model.factor)
        self._tail = model.tail

    def observe(self, predicted_ns: float, took_ns: float) -> None:
        """One decision or part of one; predicted_ns: mean by ``costs`` at that time."""
        if not predicted_ns > 0 or not took_ns > 0:
            return
        error = min(max(math.log(took_ns / predicted_ns), -3.0), 3.0)
        self._factor += self._weight * error
        self._factor = min(max(self._factor, -4.0), 6.0)
        over = error > self._tail
        self._tail += self._step * (0.99 if over else -0.01)
        self._tail = min(max(self._tail, 0.02), 4.0)

    def rest(self) -> None:
        """Nothing was tried since it would take too long: a little back towards the fitted model,
        so that what a slow moment taught is not believed for ever."""
        self._factor += _REST * (math.log(self._model.factor) - self._factor)
        self._tail += _REST * (self._model.tail - self._tail)

    @property
    def costs(self) -> CostModel:
        """The fitted model as it holds now."""
        return replace(self._model, factor=math.exp(self._factor), tail=self._tail)
