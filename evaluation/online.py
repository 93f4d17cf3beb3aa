"""Latency-aware evaluation of one tracker and one predictor on one sequence.

At each frame's stamp the newest answer that is ready is what a user would have; the predictor is
asked for that very moment. With a tolerance of σ frames an answer may come σ periods late.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.clock import IntArray, Latency, Schedule, measured, run_clock, simulate
from evaluation.metrics import DP_PX, Score, errors, score, success_value
from evaluation.sequences import Sequence
from isp.classical import ClassicalIsp
from perception.tracker import Tracker
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.tracks import TrackStatus
from prediction.predictor import PredictorConfig, make_predictor

SIGMAS = np.arange(51) * 0.02
"""Permitted latency in frames, the e-LAE grid."""


@dataclass(frozen=True)
class Answers:
    """boxes: (k, 4) float64, x y w h in pixels. status: (k,) uint8, ``TrackStatus``."""

    boxes: FloatArray
    status: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Run:
    """One sequence under one latency with one predictor.

    boxes: (n, 4), what a user had at each stamp. age_ns: (n,), stamp minus the stamp of the frame
    that it rests on. la0: score at σ = 0. auc, dp: (51,) over SIGMAS. seen: frames the tracker saw.
    """

    boxes: FloatArray
    age_ns: IntArray
    la0: Score
    auc: FloatArray
    dp: FloatArray
    seen: int


class TrackerSource:
    """Answers of a real tracker, run on just the frames that a schedule lets it see."""

    def __init__(self, tracker: Tracker, isp: ClassicalIsp, sequence: Sequence) -> None:
        if sequence.frames is None:
            raise InputError(f"{sequence.name}: has boxes only; give its frames, or use --replay")
        self._tracker = tracker
        self._isp = isp
        self._sequence = sequence
        self._frames = sequence.frames
        self._cache: dict[bytes, Answers] = {}
        self._wall: tuple[Schedule, Answers] | None = None

    def __call__(self, frames: IntArray, progress: Callable[[int], None]) -> Answers:
        key = frames.tobytes()
        if key not in self._cache:
            self._isp.reset()
            rows = []
            for k in frames.tolist():
                rows.append(self._answer(k, self._picture(k)))
                progress(1)
            self._cache[key] = _stack(rows)
        return self._cache[key]

    def wall(self, progress: Callable[[int], None]) -> tuple[Schedule, Answers]:
        """Run online, each frame charged what it costs on this machine (decoding not counted).

        Runs once; every predictor is then judged on the same answers.
        """
        if self._wall is not None:
            return self._wall
        self._isp.reset()
        rows: list[tuple[FloatArray, TrackStatus]] = []

        def cost_ns(k: int) -> int:
            picture = self._picture(k)
            spent = measured(lambda frame: rows.append(self._answer(frame, picture)))(k)
            progress(1)
            return spent

        schedule = run_clock(self._sequence.stamps_ns, cost_ns)
        self._wall = schedule, _stack(rows)
        return self._wall

    def _picture(self, k: int) -> Frame:
        return self._isp.process(self._frames.read(k))

    def _answer(self, k: int, picture: Frame) -> tuple[FloatArray, TrackStatus]:
        if k == 0:
            answer = self._tracker.start(picture, self._sequence.truth[0])
        else:
            answer = self._tracker.update(picture)
        return answer.box, answer.status


class ReplaySource:
    """Stored answers of every frame, sampled as the schedule allows.

    Optimistic: the tracker that made them saw every frame.
    """

    def __init__(self, boxes: FloatArray, sequence: Sequence) -> None:
        if boxes.shape != sequence.truth.shape:
            raise InputError(
                f"{sequence.name}: stored answers are {boxes.shape}, the truth is "
                f"{sequence.truth.shape}; give the outputs of this sequence"
            )
        self._boxes = boxes.astype(np.float64)

    def __call__(self, frames: IntArray, progress: Callable[[int], None]) -> Answers:
        progress(len(frames))
        boxes = self._boxes[frames]
        usable = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
        lost = np.where(usable, TrackStatus.TRACKED, TrackStatus.LOST).astype(np.uint8)
        return Answers(np.where(usable[:, None], boxes, 0.0), lost)


Source = TrackerSource | ReplaySource


def offline(sequence: Sequence, source: Source, progress: Callable[[int], None]) -> Answers:
    """The tracker's answers when it has all the time in the world."""
    return source(np.arange(len(sequence), dtype=np.int64), progress)


def online(
    sequence: Sequence,
    source: Source,
    latency: Latency | None,
    predictor: PredictorConfig,
    predictor_cost_ns: int,
    progress: Callable[[int], None] = lambda n: None,
) -> Run:
    """Run and score. ``latency`` None measures the tracker on this machine's wall clock."""
    if latency is None:
        if not isinstance(source, TrackerSource):
            raise InputError("stored outputs have no wall clock: give --latency")
        schedule, answers = source.wall(progress)
        extra = np.arange(len(schedule.frames)) > 0
        schedule = Schedule(schedule.frames, schedule.ready_ns + predictor_cost_ns * extra)
    else:
        schedule = simulate(sequence.stamps_ns, latency, sequence.name, predictor_cost_ns)
        answers = source(schedule.frames, progress)
    return _score_online(sequence, schedule, answers, predictor)


def _score_online(
    sequence: Sequence, schedule: Schedule, answers: Answers, config: PredictorConfig
) -> Run:
    stamps = sequence.stamps_ns
    period = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
    tolerance = np.round(SIGMAS * period).astype(np.int64)
    # used[s, i]: which answer a user has for frame i under tolerance s; never falls with s.
    used = np.searchsorted(schedule.ready_ns, stamps + tolerance[:, None], side="right") - 1
    first = used[0]
    depth = int((used[-1] - first).max()) + 1
    table = _predict_table(sequence, schedule, answers, config, first, used[-1], depth)
    found = errors(table, sequence.truth[:, None])
    frame = np.arange(len(stamps))
    column = used - first
    return Run(
        table[:, 0],
        stamps - stamps[schedule.frames[first]],
        score(errors(table[:, 0], sequence.truth)),
        success_value(found.overlap)[frame, column].mean(axis=1),
        np.asarray(found.distance[frame, column] <= DP_PX).mean(axis=1),
        len(schedule.frames),
    )


def _predict_table(
    sequence: Sequence,
    schedule: Schedule,
    answers: Answers,
    config: PredictorConfig,
    first: IntArray,
    last: IntArray,
    depth: int,
) -> FloatArray:
    """(n, depth, 4): for frame i the forecasts that rest on answers first[i] … last[i]."""
    stamps = sequence.stamps_ns
    predictor = make_predictor(config)
    table = np.full((len(stamps), depth, 4), np.nan)
    # Both bounds rise with the frame, so each answer serves one run of frames.
    begin = np.searchsorted(last, np.arange(len(schedule.frames)), side="left").tolist()
    end = np.searchsorted(first, np.arange(len(schedule.frames)), side="right").tolist()
    state = None
    seen_ns = stamps[schedule.frames].tolist()
    status = [TrackStatus(s) for s in answers.status.tolist()]
    for k, box in enumerate(answers.boxes):
        state = predictor.observe(state, seen_ns[k], box, status[k])
        frames = slice(begin[k], end[k])
        if begin[k] < end[k]:
            boxes = predictor.predict(state, stamps[frames]).boxes
            table[np.arange(begin[k], end[k]), k - first[frames]] = boxes
    return table


def _stack(rows: list[tuple[FloatArray, TrackStatus]]) -> Answers:
    return Answers(np.array([r[0] for r in rows]), np.array([r[1] for r in rows], np.uint8))
