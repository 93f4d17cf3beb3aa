"""Latency-aware evaluation of one tracker and one predictor on one sequence.

At each frame's stamp the newest answer that is ready is what a user would have; the predictor is
asked for that very moment. With a tolerance of σ frames an answer may come σ periods late.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.clock import IntArray, Latency, Schedule, run_clock, simulate
from evaluation.metrics import DP_PX, Errors, Score, errors, score, success_value
from evaluation.sequences import Sequence
from isp.make import Isp
from perception.tracker import Tracker, TrackerAnswer
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.tracks import TrackStatus, View
from prediction.make import make_predictor, make_visual
from prediction.predictor import VISUAL, PredictorConfig

Progress = Callable[[int], None]
SIGMAS = np.arange(51) * 0.02
"""Permitted latency in frames, the e-LAE grid."""


@dataclass(frozen=True)
class Answers:
    """What L trackers answered on the same k frames.

    boxes: (L, k, 4) float64, x y w h in pixels. status: (L, k) uint8, ``TrackStatus``. views: of
    the only tracker, one an answer, where they were kept and its network shows them.
    """

    boxes: FloatArray
    status: npt.NDArray[np.uint8]
    views: tuple[View | None, ...] = ()


@dataclass(frozen=True)
class Run:
    """One sequence and tracker under one latency with one predictor.

    boxes: (n, 4), what a user had at each stamp. age_ns: (n,), stamp minus the stamp of the frame
    that it rests on; mean_age_ns, their mean. la0: score at σ = 0. auc, dp: (51,) over SIGMAS.
    seen: frames the tracker saw.
    """

    boxes: FloatArray
    age_ns: IntArray
    la0: Score
    auc: FloatArray
    dp: FloatArray
    seen: int
    mean_age_ns: float


class TrackerSource:
    """Answers of a real tracker, run on just the frames that a schedule lets it see."""

    def __init__(self, name: str, tracker: Tracker, isp: Isp, sequence: Sequence) -> None:
        if sequence.frames is None:
            raise InputError(f"{sequence.name}: has boxes only; give its frames, or use --replay")
        self.trackers = (name,)
        self._tracker = tracker
        self._isp = isp
        self._sequence = sequence
        self._frames = sequence.frames
        self._cache: dict[bytes, Answers] = {}
        self._wall: tuple[Schedule, Answers] | None = None
        self.keep_views = False
        """Whether answers come with what the network saw: 100 kB each."""

    def answers(self, frames: IntArray, progress: Progress) -> Answers:
        """Run on these frames, or recall what the same frames gave before."""
        key = frames.tobytes()
        if key not in self._cache:
            self._isp.reset()
            rows = []
            for k in frames.tolist():
                rows.append(self._kept(self.answer(k, self.picture(k))))
                progress(1)
            self._cache[key] = _stack(rows)
        return self._cache[key]

    def wall(self, progress: Progress) -> tuple[Schedule, Answers]:
        """Run online, each frame charged what it costs on this machine (decoding not counted).

        Runs once; every predictor is then judged on the same answers.
        """
        if self._wall is None:
            self._isp.reset()
            rows: list[TrackerAnswer] = []

            def cost_ns(k: int) -> int:
                raw = self._frames.read(k)
                start = time.perf_counter_ns()
                rows.append(self._kept(self.answer(k, self._isp.process(raw))))
                spent = time.perf_counter_ns() - start
                progress(1)
                return spent

            schedule = run_clock(self._sequence.stamps_ns, cost_ns)
            self._wall = schedule, _stack(rows)
        return self._wall

    def _kept(self, answer: TrackerAnswer) -> TrackerAnswer:
        return answer if self.keep_views else answer._replace(view=None)

    def reset(self) -> None:
        """Begin the recording anew."""
        self._isp.reset()

    def picture(self, k: int) -> Frame:
        """Frame k as the tracker sees it; cheapest in order."""
        return self._isp.process(self._frames.read(k))

    def answer(self, k: int, picture: Frame, near: FloatArray | None = None) -> TrackerAnswer:
        """The tracker's answer about frame k, told where the target is expected."""
        if k == 0:
            return self._tracker.start(picture, self._sequence.truth[0])
        return self._tracker.update(picture, near)


class ReplaySource:
    """Stored answers of every frame by L trackers, (L, n, 4), sampled as the schedule allows.

    Optimistic: the trackers that made them saw every frame.
    """

    def __init__(self, trackers: tuple[str, ...], boxes: FloatArray) -> None:
        self.trackers = trackers
        usable = np.asarray(np.isfinite(boxes).all(axis=-1) & (boxes[..., 2:] > 0).all(axis=-1))
        self._boxes = np.where(usable[..., None], boxes, 0.0).astype(np.float64)
        self._status = np.where(usable, TrackStatus.TRACKED, TrackStatus.LOST).astype(np.uint8)

    def answers(self, frames: IntArray, progress: Progress) -> Answers:
        """The stored answers of these frames."""
        progress(len(frames))
        return Answers(self._boxes[:, frames], self._status[:, frames])

    def wall(self, progress: Progress) -> tuple[Schedule, Answers]:
        """Stored outputs cost nothing, so there is nothing to measure.

        Raises:
            InputError: always.
        """
        raise InputError("stored outputs have no wall clock: give --latency")


Source = TrackerSource | ReplaySource


def offline(sequence: Sequence, source: Source, progress: Progress) -> list[Score]:
    """Each tracker's score when it has all the time in the world."""
    answers = source.answers(np.arange(len(sequence), dtype=np.int64), progress)
    return [score(errors(boxes, sequence.truth)) for boxes in answers.boxes]


def online(
    sequence: Sequence,
    source: Source,
    latency: Latency | None,
    predictor: PredictorConfig,
    predictor_cost_ns: int,
    progress: Progress = lambda n: None,
) -> list[Run]:
    """Run and score each tracker of the source.

    ``latency`` None measures on this machine; the predictor's cost then delays the answers only.
    """
    if latency is None:
        schedule, answers = source.wall(progress)
        later = np.minimum(schedule.ready_ns - schedule.ready_ns[0], predictor_cost_ns)
        schedule = Schedule(schedule.frames, schedule.ready_ns + later)
    else:
        schedule = simulate(sequence.stamps_ns, latency, predictor_cost_ns, sequence.key)
        answers = source.answers(schedule.frames, progress)

    stamps = sequence.stamps_ns
    period = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
    tolerance = np.round(SIGMAS * period).astype(np.int64)
    # used[s, i]: which answer a user has for frame i under tolerance s; never falls with s, nor
    # is it about a later frame, which with uneven stamps may be ready within the tolerance.
    used = np.searchsorted(schedule.ready_ns, stamps + tolerance[:, None], side="right") - 1
    newest = np.searchsorted(schedule.frames, np.arange(len(stamps)), side="right") - 1
    used = np.minimum(used, newest)
    table = _forecast_table(sequence, schedule, answers, predictor, used[0], used[-1])
    found = errors(table, sequence.truth[:, None])
    value = success_value(found.overlap)
    near: npt.NDArray[np.bool_] = np.asarray(found.distance <= DP_PX)
    frame, column = np.arange(len(stamps)), used - used[0]
    age_ns = stamps - stamps[schedule.frames[used[0]]]
    return [
        Run(
            table[lane, :, 0],
            age_ns,
            score(Errors(found.overlap[lane, :, 0], found.distance[lane, :, 0])),
            value[lane, frame, column].mean(axis=1),
            near[lane, frame, column].mean(axis=1),
            len(schedule.frames),
            float(age_ns.mean()),
        )
        for lane in range(len(table))
    ]


def _forecast_table(
    sequence: Sequence,
    schedule: Schedule,
    answers: Answers,
    config: PredictorConfig,
    first: IntArray,
    last: IntArray,
) -> FloatArray:
    """(L, n, depth, 4): for frame i the forecasts that rest on answers first[i] … last[i]."""
    stamps = sequence.stamps_ns
    lanes = len(answers.boxes)
    table = np.full((lanes, len(stamps), int((last - first).max()) + 1, 4), np.nan)
    # Both bounds rise with the frame, so each answer serves one run of frames.
    order = np.arange(len(schedule.frames))
    begin = np.searchsorted(last, order, side="left").tolist()
    end = np.searchsorted(first, order, side="right").tolist()
    visual = make_visual(config) if config.name in VISUAL else None
    if visual is not None and not any(answers.views):
        raise InputError(
            f"{sequence.name}: {config.name} needs what the tracker's network saw; give pictures "
            "and one of the nanotrack trackers"
        )
    predictor = visual or make_predictor(config)
    state = predictor.blank(lanes)
    for k, seen_ns in enumerate(stamps[schedule.frames].tolist()):
        state = predictor.observe(
            state, np.full(lanes, seen_ns), answers.boxes[:, k], answers.status[:, k]
        )
        if visual is not None and (view := answers.views[k]) is not None:
            state = visual.see(state, 0, seen_ns, view)
        if begin[k] < end[k]:
            frames = np.arange(begin[k], end[k])
            table[:, frames, k - first[frames]] = predictor.predict(state, stamps[frames]).boxes
    return table


def _stack(rows: list[TrackerAnswer]) -> Answers:
    boxes = np.array([[r.box for r in rows]])
    status = np.array([[r.status for r in rows]], np.uint8)
    return Answers(boxes, status, tuple(r.view for r in rows))
