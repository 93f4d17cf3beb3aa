"""Whether a region of probability p holds its target in share p of its uses.

A tracker answers late, as the online clock lets it. Whenever its answer, or with two-rate tracking
a frame's step, is there, a forecast is made; a planner takes it and acts after a time of its own,
which nobody knows before. The latency monitor hears of both as they end. The truth at the act lies
between two true boxes, in a line. Every act is scored three times: with its moment "known", with
the monitor's "distribution" of it, and with the "median" age alone.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from evaluation.clock import Latency, simulate
from evaluation.online import Source, TrackerSource
from evaluation.sequences import Sequence
from evaluation.two_rate import play
from perception.propagator import Propagator, PropagatorConfig
from pipeline.box import FloatArray, from_center, iou, to_center
from pipeline.span import Horizon, LatencyStatus, Span
from pipeline.tracks import ForecastStatus, Tracks
from prediction.forecaster import Forecaster
from prediction.horizon import Outlook, moments
from prediction.latency import FORECASTS, LatencyConfig, LatencyMonitor
from prediction.predictor import IntArray, PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate

PROBABILITIES = (0.5, 0.8, 0.9, 0.95, 0.99)
KNOWLEDGE = ("known", "distribution", "median")
ON_TARGET = 0.5
"""Overlap of an answer with its own frame's truth, from which on the tracker has its target."""
PLANNER = "planner"


@dataclass(frozen=True)
class Uses:
    """K acts on forecasts whose status is OK; V = 3 kinds of knowledge, P probabilities.

    inside: (K, V, P) bool, whether the region held the whole target. area: (K, V, P), the region's
    over the target's; NaN where the moment, were it known, would be too far off for a region.
    overlap: (K, V), of the forecast box. on_target: (K,) bool, whether the answer that it rests on
    lay on the target. centers, variances: (K, 4), of the forecast for the known moment, x_center
    y_center w h. truth: (K, 4), likewise.
    """

    inside: npt.NDArray[np.bool_]
    area: FloatArray
    overlap: FloatArray
    on_target: npt.NDArray[np.bool_]
    centers: FloatArray
    variances: FloatArray
    truth: FloatArray

    def __len__(self) -> int:
        return len(self.on_target)

    def of(self, rows: npt.NDArray[np.bool_]) -> "Uses":
        """Some of them."""
        return Uses(*(getattr(self, f.name)[rows] for f in fields(self)))


def joined(parts: list[Uses]) -> Uses:
    """All of them, in order."""
    return Uses(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Uses)))


class Planner:
    """Acts on every forecast after a latency of its own, and reports that to a latency monitor."""

    def __init__(self, rest: Latency, key: int) -> None:
        self._rests = rest.draw(key)
        self._monitor = LatencyMonitor(
            LatencyConfig(
                stages=(FORECASTS, PLANNER), consumers=(PLANNER,), consumer_stage=(PLANNER,)
            )
        )
        self._busy: list[tuple[int, int, int]] = []

    def take(self, stamp_ns: int, ready_ns: int) -> tuple[int, Horizon]:
        """When it will act on the forecast for this frame, and what the monitor knows of that."""
        while self._busy and self._busy[0][0] <= ready_ns:
            end_ns, start_ns, of_ns = heapq.heappop(self._busy)
            self._monitor.add(Span(PLANNER, of_ns, start_ns, end_ns))
        horizon = self._monitor.horizon(PLANNER, ready_ns)
        self._monitor.add(Span(FORECASTS, stamp_ns, ready_ns, ready_ns))
        act_ns = ready_ns + next(self._rests)
        heapq.heappush(self._busy, (act_ns, ready_ns, stamp_ns))
        return act_ns, horizon


class Record:
    """Collects the uses of one run. left_out: how many acts are not among them, and why."""

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        truth = sequence.truth
        self._usable = np.asarray(np.isfinite(truth).all(axis=1) & (truth > 0).all(axis=1))
        self._parts: list[Uses] = []
        self.left_out: Counter[str] = Counter()

    def on_target(self, boxes: FloatArray, frame: int) -> npt.NDArray[np.bool_] | None:
        """(L,) whether answers about a frame lie on the target; None without usable truth."""
        if not self._usable[frame]:
            return None
        return np.asarray(iou(boxes, self._sequence.truth[frame]) >= ON_TARGET)

    def add(
        self,
        outlook: Callable[[IntArray], Outlook],
        stamp_ns: int,
        ready_ns: int,
        act_ns: int,
        horizon: Horizon,
        on_target: npt.NDArray[np.bool_] | None,
    ) -> None:
        """One act on the forecasts of L trackers, or why it is none."""
        truth = self._truth(act_ns)
        if truth is None or on_target is None:
            self.left_out["no truth"] += 1
            return
        if horizon.status != LatencyStatus.ESTIMATED:
            self.left_out["latency not measured yet"] += 1
            return
        point = replace(horizon, quantiles_ns=())
        times = [np.array([act_ns]), *(moments(h, stamp_ns, ready_ns) for h in (horizon, point))]
        looks = [outlook(t) for t in times]
        # What the planner is told; an act that comes later than that counts all the same.
        good = looks[1].middle_status() == ForecastStatus.OK
        self.left_out["status not OK"] += int((~good).sum())
        inside, area, overlap = [], [], []
        for look in looks:
            regions = look.regions(PROBABILITIES)
            inside.append(contains(regions, truth))
            area.append(regions[..., 2] * regions[..., 3] / (truth[2] * truth[3]))
            overlap.append(iou(from_center(look.mean()), truth))
        uses = Uses(
            np.array(inside).transpose(2, 0, 1),
            np.array(area).transpose(2, 0, 1),
            np.array(overlap).T,
            on_target,
            looks[0].centers[:, 0],
            looks[0].variances[:, 0],
            np.broadcast_to(to_center(truth), (len(good), 4)),
        )
        self._parts.append(uses.of(good))

    def uses(self) -> Uses:
        """All of the run."""
        v, p = len(KNOWLEDGE), len(PROBABILITIES)
        none = np.empty((0, 4))
        empty = Uses(
            np.empty((0, v, p), bool),
            np.empty((0, v, p)),
            np.empty((0, v)),
            np.empty(0, bool),
            none,
            none,
            none,
        )
        return joined([empty, *self._parts])

    def _truth(self, at_ns: int) -> FloatArray | None:
        """(4,) the true box then; None where it is not between two that are usable."""
        stamps = self._sequence.stamps_ns
        after = int(np.searchsorted(stamps, at_ns, side="right"))
        if not 0 < after < len(stamps) or not self._usable[after - 1 : after + 1].all():
            return None
        before = after - 1
        share = (at_ns - stamps[before]) / (stamps[after] - stamps[before])
        truth = self._sequence.truth
        return np.asarray(truth[before] + share * (truth[after] - truth[before]))


def predicted_uses(
    sequence: Sequence,
    source: Source,
    latency: Latency,
    rest: Latency,
    config: PredictorConfig,
    every: int = 1,
) -> tuple[Uses, Counter[str]]:
    """Uses of forecasts from answers alone, and what was left out; one in ``every`` is scored."""
    schedule = simulate(sequence.stamps_ns, latency, 0, sequence.key)
    answers = source.answers(schedule.frames, lambda n: None)
    planner, record = Planner(rest, sequence.key), Record(sequence)
    forecaster = Forecaster(config)
    lanes = len(answers.boxes)
    for k, (frame, ready) in enumerate(zip(schedule.frames, schedule.ready_ns, strict=True)):
        stamp_ns, ready_ns = int(sequence.stamps_ns[frame]), int(ready)
        found = Tracks(
            stamp_ns,
            ready_ns,
            int(frame),
            (1, 1),
            np.arange(lanes, dtype=np.int32),
            answers.boxes[:, k],
            np.ones(lanes, np.float32),
            answers.status[:, k],
            np.full(lanes, -1, np.int16),
        )
        forecaster.observe(found)
        act_ns, horizon = planner.take(stamp_ns, ready_ns)
        if k % every == 0:
            seen = record.on_target(found.boxes, int(frame))
            record.add(forecaster.outlook, stamp_ns, ready_ns, act_ns, horizon, seen)
    return record.uses(), record.left_out


def carried_uses(
    sequence: Sequence,
    source: TrackerSource,
    latency: Latency,
    rest: Latency,
    config: PredictorConfig,
    fusion: FusionConfig,
    propagator: PropagatorConfig,
) -> tuple[Uses, Counter[str]]:
    """Uses of forecasts at camera rate by two-rate tracking, and what was left out."""
    schedule = simulate(sequence.stamps_ns, latency, 0, sequence.key)
    planner, record = Planner(rest, sequence.key), Record(sequence)
    steps = Propagator(propagator)
    carrier = TwoRate(fusion, config, steps)
    seen = None
    for now_ns, kind, k, answer in play(sequence, source, schedule, carrier, steps):
        if answer is not None:
            seen = record.on_target(answer.box[None], k)
        elif kind == "step":
            stamp_ns = int(sequence.stamps_ns[k])
            act_ns, horizon = planner.take(stamp_ns, now_ns)
            record.add(carrier.outlook, stamp_ns, now_ns, act_ns, horizon, seen)
    return record.uses(), record.left_out


def contains(regions: FloatArray, boxes: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether regions hold the whole of boxes, both (..., 4) x y w h; never where NaN."""
    low = (regions[..., :2] <= boxes[..., :2]).all(axis=-1)
    ends = boxes[..., :2] + boxes[..., 2:]
    return np.asarray(low & (regions[..., :2] + regions[..., 2:] >= ends).all(axis=-1))
