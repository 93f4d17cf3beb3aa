"""Measures an engine's costs in at most 14 probes."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from llm_edge.cost import CostModel, fit_decode, fit_prefill
from llm_edge.cost_file import calibration_file, load_costs, save_costs
from llm_edge.engine import Engine, Tokens
from pipeline.clock import Clock
from pipeline.errors import InputError

STEPS = (2, 4, 8)
LANES = (2, 4, 8)
BURST = 7
"""Single tokens timed in a row, as decoding does."""
_LONGEST, _SHORT = 256, 48
_ROUNDS = 3
_QUIET = 0.25
"""Quantile of equal calls' work that counts: other load can only make them longer."""
_TRUSTED = 1.3
"""A kept measurement holds as long as a token takes at most so many times longer or shorter."""
_WINDOW_NS = 3_000_000


class LaneEngine(Engine, Protocol):
    """An engine with several states side by side."""

    max_lanes: int

    def fork(self, count: int) -> None:
        """Make lanes of the state of now."""

    def feed_lanes(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """Read (n, K) tokens on."""


Probe = tuple[str, int]
"""What is timed, and how large: at most 14 of them."""
Times = tuple[int, int]
"""ns that a call took, and that the processor worked on it."""


def probes(context: int, lanes: int) -> list[Probe]:
    """What to time in an engine of that context and most lanes."""
    top = min(context - max(STEPS), _LONGEST)
    sizes = sorted({max(1, round(top * share)) for share in (0.12, 0.35, 0.65, 1.0)})
    made = [("prefill", size) for size in sizes]
    made += [("decode", sizes[-1]), *(("step", k) for k in STEPS), ("decode", sizes[0])]
    if lanes >= 2:
        made.append(("fork", min(lanes, LANES[-1])))
        made += [("lanes", n) for n in LANES if n <= lanes]
    return made


class ThreadClock:
    """Time that the processor spent on the calling thread: what interrupts it does not count."""

    def now_ns(self) -> int:
        """Nanoseconds since the thread's start."""
        return time.thread_time_ns()


def calibrate(
    engine: Engine, clock: Clock, work: Clock | None = None, budget_ns: int = 70_000_000
) -> CostModel:
    """Time an engine; its state is empty afterwards. Each probe is made once without counting and
    three times more, then again and again until the budget is spent. The budget is of work where
    that is told: a busy machine must not leave a probe with a single sample.

    work: ``ThreadClock()`` where the engine computes on the calling thread; then the numbers are
    fitted to that, and other load shows in factor and tail alone.

    Raises:
        InputError: a context too short to measure in.
        CanceledError: the engine was canceled meanwhile.
    """
    if engine.context < 4 * max(STEPS):
        raise InputError(f"calibrate: a context of {engine.context} is under {4 * max(STEPS)}")
    planned = probes(engine.context, getattr(engine, "max_lanes", 0))
    # Lanes push everything else out of the caches, so they are timed apart.
    lanes = [probe for probe in planned if probe[0] in ("fork", "lanes")]
    rest = [probe for probe in planned if probe not in lanes]
    run = _Runner(engine, clock, work or clock)
    taken: list[tuple[Probe, Times]] = []
    paid = work or clock
    began = paid.now_ns()
    for group, share in ((rest, 0.7 if lanes else 1.0), (lanes, 1.0)):
        run.round(group)
        rounds = 0
        while group and (rounds < _ROUNDS or paid.now_ns() - began < share * budget_ns):
            taken += [(probe, t) for probe, times in run.round(group).items() for t in times]
            rounds += 1
    engine.rewind(0)
    return fit(taken)


def fit(taken: Sequence[tuple[Probe, Times]]) -> CostModel:
    """A cost model from the times of ``probes`` in the order in which they were made: the numbers
    from the lower quartile of the work, factor and tail from how much longer it took."""
    names = [probe for probe, _ in taken]
    took, work = np.array([times for _, times in taken], float).T
    # An engine that computes elsewhere leaves no work on this thread.
    told = work if work.sum() > 0.5 * np.median(took) * len(took) else took
    typical = {}
    for probe in dict.fromkeys(names):
        same = [w for p, w in zip(names, told, strict=True) if p == probe]
        typical[probe] = max(float(np.quantile(same, _QUIET)), 1.0)
    kinds: dict[str, list[tuple[int, float]]] = {}
    for (kind, size), ns in typical.items():
        kinds.setdefault(kind, []).append((size, ns))
    top = max(size for size, _ in kinds["prefill"])
    a, b, c = fit_prefill(*zip(*kinds["prefill"], strict=True))
    n, m = fit_decode(*zip(*kinds["decode"], strict=True))
    single = typical["decode", top]
    expected = np.array([typical[probe] for probe in names])
    window = np.cumsum(expected) // _WINDOW_NS  # of the length of a decision
    _, starts = np.unique(window, return_index=True)
    ratios = np.log(np.add.reduceat(took, starts) / np.add.reduceat(expected, starts))
    middle = float(np.median(ratios))
    spread = float(np.quantile(ratios, 0.99)) - middle
    return CostModel(
        a, b, c, n, m,
        steps=tuple((k, max(ns / single, 0.1)) for k, ns in sorted(kinds["step"])),
        lanes=tuple((k, max(ns / single, 0.1)) for k, ns in sorted(kinds.get("lanes", []))),
        fork=sum(ns / (count * top) for count, ns in kinds.get("fork", [])),
        factor=min(max(math.exp(middle), 1.0), 10.0),
        # Not trusted below a tenth: a decision is more than its forwards.
        tail=min(max(spread, 0.1), 2.0),
    )  # fmt: skip


class _Runner:
    """Brings an engine into the state for each probe, and times it."""

    def __init__(self, engine: Engine, clock: Clock, work: Clock) -> None:
        self._engine, self._clock, self._work = engine, clock, work
        self._tokens = np.arange(_LONGEST, dtype=np.int64) % engine.vocabulary

    def round(self, planned: list[Probe]) -> dict[Probe, list[Times]]:
        calls = {
            "prefill": self._prefill, "decode": self._decode, "step": self._step,
            "fork": self._fork, "lanes": self._lanes,
        }  # fmt: skip
        return {(kind, size): calls[kind](size) for kind, size in planned}

    def _timed(self, call: Callable[[], object]) -> Times:
        began, worked = self._clock.now_ns(), self._work.now_ns()
        call()
        spent = self._work.now_ns() - worked
        return self._clock.now_ns() - began, spent

    def _hold(self, length: int) -> None:
        """The state holds so many tokens."""
        engine = self._engine
        if engine.length < length:
            engine.feed(self._tokens[engine.length : length])
        engine.rewind(length)

    def _prefill(self, size: int) -> list[Times]:
        tokens = self._tokens[:size]
        self._top = size
        times = []
        for _ in range(2 if size > _SHORT else 3):
            self._engine.rewind(0)
            times.append(self._timed(lambda: self._engine.feed(tokens)))
        return times[1:]  # the first one finds other things in the caches

    def _decode(self, held: int) -> list[Times]:
        self._hold(held)
        token = self._tokens[:1]
        return [self._timed(lambda: self._engine.feed(token)) for _ in range(BURST)][1:]

    def _step(self, size: int) -> list[Times]:
        times = []
        for _ in range(4):
            self._hold(self._top)
            times.append(self._timed(lambda: self._engine.feed(self._tokens[:size])))
        return times[1:]

    def _fork(self, count: int) -> list[Times]:
        self._hold(self._top)
        engine: LaneEngine = self._engine  # type: ignore[assignment]
        return [self._timed(lambda: engine.fork(count))]

    def _lanes(self, count: int) -> list[Times]:
        self._hold(self._top)
        engine: LaneEngine = self._engine  # type: ignore[assignment]
        engine.fork(count)
        tokens = self._tokens[:count, None]
        return [self._timed(lambda: engine.feed_lanes(tokens)) for _ in range(4)][1:]


def known_costs(
    engine: Engine, clock: Clock, model: Path, work: Clock | None = None, folder: Path | None = None
) -> tuple[CostModel, bool]:
    """The engine's costs, and whether they were measured now rather than read.

    A kept measurement is held against a few tokens first. work: as ``calibrate``.

    Raises:
        InputError: the model cannot be read, or a context too short to measure in.
    """
    file = calibration_file(model, folder)
    kept = load_costs(file)
    if kept is not None and _holds(kept, engine, clock, work):
        return kept, False
    costs = calibrate(engine, clock, work)
    save_costs(costs, file)
    return costs, True


def _holds(costs: CostModel, engine: Engine, clock: Clock, work: Clock | None) -> bool:
    run = _Runner(engine, clock, work or clock)
    held = min(engine.context - BURST, 16)
    run.round([("decode", held)])
    times = run.round([("decode", held)])["decode", held]
    engine.rewind(0)
    took = float(np.median([spent for _, spent in times]))
    expected = replace(costs, factor=1.0).decode(1, held + BURST // 2)
    return expected / _TRUSTED <= took <= expected * _TRUSTED
