"""Many targets, truly online: what a user had of all of them at each frame's stamp.

The detector is busy for its latency and takes the newest frame whenever it is free; its answers
become targets, which are forecast for each frame's very moment from what was known by then. With
``two-rate`` every frame reaches the propagator as well, its step known ``STEP_COST_NS`` after the
stamp, and detections are matched in their own frame. Nothing is given: the first answer is late,
too. The classes that fly run on the simulated clock.

Pictures are read and detected once; all latencies and methods follow side by side.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evaluation.clock import IntArray, Latency, Schedule, run_clock
from evaluation.metrics import gap_recovered
from evaluation.mot_metrics import Counts, count, scene
from evaluation.mot_sequences import MotSequence
from evaluation.online import Progress
from evaluation.streaming_ap import Picture, average_precision
from evaluation.two_rate import STEP_COST_NS, is_two_rate
from isp.config import IspConfig
from isp.make import make_isp
from isp.task_aware import GridOf
from perception.propagator import Propagator, PropagatorConfig
from pipeline.box import FloatArray
from pipeline.frame import Frame
from pipeline.tracks import Detections, Tracks, TrackSource, TrackStatus
from prediction.association import Association, AssociationConfig
from prediction.forecaster import Forecaster
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate

OFFLINE, NONE = "offline", "none"
USER = "user"

Detect = Callable[[int, Frame], Detections]
"""What a detector says of frame k of a recording, given its picture."""


@dataclass(frozen=True)
class MotConfigs:
    """The stages' configurations that targets depend on. detector_grid: from a frame's to the
    detector's (width, height), for an ISP that gives it a view of its own."""

    isp: IspConfig
    association: AssociationConfig
    predictor: PredictorConfig
    fusion: FusionConfig
    propagator: PropagatorConfig
    detector_grid: GridOf | None = None


class Had(NamedTuple):
    """What a user had at one frame's stamp: N boxes of that very moment.

    ids, labels, scores: (N,), as in ``Tracks``. boxes: (N, 4). age_ns: (N,), stamp minus that of
    the frame in which each was last detected.
    """

    ids: npt.NDArray[np.int32]
    boxes: FloatArray
    labels: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]
    age_ns: IntArray


@dataclass(frozen=True)
class MotRun:
    """One recording under one latency with one method.

    pictures: of every frame, without what does not count. seen: frames that the detector saw.
    age_ns: mean of what a user had.
    """

    latency: str
    method: str
    counts: Counts
    pictures: list[Picture]
    seen: int
    age_ns: float


@dataclass(frozen=True)
class MotRow:
    """One latency and method over all recordings, as one.

    hota, deta, assa, idf1, mota: of ``Counts``. switches: of identities. sap, sap50: streaming AP.
    gap_hota, gap_sap: share of what latency costs that the method won back over ``none``.
    """

    latency: str
    method: str
    hota: float
    deta: float
    assa: float
    idf1: float
    mota: float
    switches: int
    sap: float
    sap50: float
    age_ms: float
    gap_hota: float = float("nan")
    gap_sap: float = float("nan")


class _Target(Protocol):
    def step(self, frame: Frame) -> None: ...

    def answer(self, found: Detections) -> None: ...

    def had(self, stamp_ns: int) -> tuple[Tracks, FloatArray, npt.NDArray[np.bool_]] | None:
        """The targets, their boxes at that stamp, and which of them a user takes."""
        ...


class _Alone:
    """Detections and a predictor, without the frames between."""

    def __init__(self, configs: MotConfigs, predictor: str) -> None:
        config = replace(configs.predictor, name=predictor)
        self._forecaster = Forecaster(config, Association(configs.association))
        self._tracks: Tracks | None = None

    def step(self, frame: Frame) -> None:
        pass

    def answer(self, found: Detections) -> None:
        self._tracks = self._forecaster.observe(found) or self._tracks

    def had(self, stamp_ns: int) -> tuple[Tracks, FloatArray, npt.NDArray[np.bool_]] | None:
        if self._tracks is None or not len(self._tracks):
            return None
        forecasts = self._forecaster.forecast(stamp_ns, stamp_ns, {USER: 0})
        return self._tracks, forecasts.boxes[0], self._tracks.status != TrackStatus.LOST


class _Carried:
    """The same with the frames between."""

    def __init__(self, configs: MotConfigs, predictor: str) -> None:
        config = replace(configs.predictor, name=predictor or configs.predictor.name)
        propagator = Propagator(configs.propagator)
        association = Association(configs.association)
        self._carrier = TwoRate(configs.fusion, config, propagator, association)
        self._frame: Frame | None = None

    def step(self, frame: Frame) -> None:
        self._carrier.frame(frame)
        self._frame = frame

    def answer(self, found: Detections) -> None:
        self._carrier.answer(found)

    def had(self, stamp_ns: int) -> tuple[Tracks, FloatArray, npt.NDArray[np.bool_]] | None:
        if self._frame is None:
            return None
        tracks = self._carrier.tracks(self._frame)
        if not len(tracks):
            return None
        forecasts = self._carrier.forecast(stamp_ns, stamp_ns, {USER: 0})
        # Neither in the last detections nor seen since: a guess that a user leaves alone.
        fresh = tracks.answered_ns == tracks.answered_ns.max()
        shown = (tracks.status != TrackStatus.LOST) & (
            fresh | (tracks.source != TrackSource.PREDICTED)
        )
        return tracks, forecasts.boxes[0], shown


class _Lane:
    """One latency and method, fed with every frame."""

    def __init__(
        self, latency: str, method: str, schedule: Schedule, target: _Target, step_ns: int
    ) -> None:
        self.latency, self.method = latency, method
        self._step_ns = step_ns
        self.ready = dict(zip(schedule.frames.tolist(), schedule.ready_ns.tolist(), strict=True))
        self.had: list[Had] = []
        self._target = target
        self._events: list[tuple[int, int, int, Frame | Detections]] = []

    def take(self, k: int, picture: Frame, found: Detections | None) -> None:
        """Frame k has come; ``found``, what is in it, will be known when the schedule says."""
        heapq.heappush(self._events, (picture.stamp_ns + self._step_ns, 0, k, picture))
        if k in self.ready and found is not None:
            heapq.heappush(self._events, (self.ready[k], 1, k, found))
        while self._events and self._events[0][0] <= picture.stamp_ns:
            item = heapq.heappop(self._events)[-1]
            if isinstance(item, Frame):
                self._target.step(item)
            else:
                self._target.answer(item)
        self.had.append(self._now(picture))

    def _now(self, picture: Frame) -> Had:
        now = self._target.had(picture.stamp_ns)
        if now is None:
            return Had(
                np.empty(0, np.int32),
                np.empty((0, 4)),
                np.empty(0, np.int16),
                np.empty(0, np.float32),
                np.empty(0, np.int64),
            )
        tracks, boxes, shown = now
        low = np.clip(boxes[:, :2], 0, picture.size)
        sides = np.clip(boxes[:, :2] + boxes[:, 2:], 0, picture.size) - low
        shown = shown & (sides >= 1).all(axis=1)
        return Had(
            tracks.ids[shown],
            np.concatenate([low, sides], axis=1)[shown],
            tracks.labels[shown],
            tracks.scores[shown],
            (picture.stamp_ns - tracks.answered_ns)[shown],
        )


def evaluate_mot(
    sequence: MotSequence,
    detect: Detect,
    latencies: list[Latency],
    methods: list[str],
    configs: MotConfigs,
    progress: Progress = lambda n: None,
    agnostic: bool = False,
) -> list[MotRun]:
    """Every latency with every method, and ``none`` and ``offline`` beside them.

    What is found of a class that the truth does not have is left away, unless ``agnostic``, where
    the detector's classes are not the truth's.

    methods: predictors' names, ``two-rate``, or ``two-rate+`` and a predictor's name. ``none``: the
    newest detections stand still. ``offline``: ``two-rate`` on every frame, all of it at once.
    """
    n = len(sequence)
    every = Schedule(np.arange(n), sequence.stamps_ns)
    lanes = [_Lane("0 ms", OFFLINE, every, _Carried(configs, ""), 0)]
    for latency in latencies:
        schedule = _schedule(sequence, latency)
        for method in dict.fromkeys([NONE, *methods]):
            target: _Target = (
                _Alone(configs, method)
                if not is_two_rate(method)
                else _Carried(configs, method.partition("+")[2])
            )
            lanes.append(_Lane(latency.label, method, schedule, target, STEP_COST_NS))
    isp = make_isp(configs.isp, configs.detector_grid)
    classes = np.unique(sequence.labels[~sequence.ignored])
    for k in range(n):
        picture = isp.process(sequence.frames.read(k))
        found = detect(k, picture)
        if not agnostic:
            found = found.selected(np.isin(found.labels, classes))
        for lane in lanes:
            lane.take(k, picture, found)
        progress(1)
    return [_run(sequence, lane) for lane in lanes]


def _schedule(sequence: MotSequence, latency: Latency) -> Schedule:
    """As the online clock has it, but that nobody gives the first frame's answer."""
    costs = latency.draw(sequence.key)
    first: list[int] = []

    def cost_ns(frame: int) -> int:
        cost = next(costs)
        first.append(cost)
        return cost

    schedule = run_clock(sequence.stamps_ns, cost_ns)
    ready = schedule.ready_ns.copy()
    ready[0] += first[0]
    return Schedule(schedule.frames, ready)


def _run(sequence: MotSequence, lane: _Lane) -> MotRun:
    scenes, pictures = [], []
    for k, had in enumerate(lane.had):
        rows = sequence.rows(k)
        ignored = sequence.ignored[rows]
        frame, counts = scene(
            sequence.ids[rows], sequence.boxes[rows], ignored, had.ids.astype(np.int64), had.boxes
        )
        scenes.append(frame)
        pictures.append(
            Picture(
                sequence.boxes[rows][~ignored],
                sequence.labels[rows][~ignored],
                had.boxes[counts],
                had.labels[counts],
                had.scores[counts],
            )
        )
    ages = np.concatenate([had.age_ns for had in lane.had])
    age_ns = float(ages.mean()) if len(ages) else float("nan")
    return MotRun(lane.latency, lane.method, count(scenes), pictures, len(lane.ready), age_ns)


def mot_rows(runs: Iterable[MotRun], agnostic: bool = False) -> list[MotRow]:
    """One row a latency and method, the recordings counted as one.

    agnostic: the detector's classes are not the truth's, so streaming AP does not ask for them.

    Raises:
        InputError: COCO's code is not installed.
    """
    grouped: dict[tuple[str, str], list[MotRun]] = {}
    for run in runs:
        grouped.setdefault((run.latency, run.method), []).append(run)
    rows = {key: _row(key, group, agnostic) for key, group in grouped.items()}
    offline = next(row for row in rows.values() if row.method == OFFLINE)
    found = []
    for (latency, method), row in rows.items():
        if method not in (OFFLINE, NONE):
            none = rows[latency, NONE]
            row = replace(
                row,
                gap_hota=gap_recovered(row.hota, none.hota, offline.hota),
                gap_sap=gap_recovered(row.sap, none.sap, offline.sap),
            )
        found.append(row)
    return found


def _row(key: tuple[str, str], runs: list[MotRun], agnostic: bool) -> MotRow:
    counts = reduce(add, (run.counts for run in runs))
    precision = average_precision([p for run in runs for p in run.pictures], agnostic)
    return MotRow(
        *key,
        counts.hota,
        float(counts.detection.mean()),
        float(counts.association.mean()),
        counts.idf1,
        counts.mota,
        counts.switches,
        precision.ap,
        precision.ap50,
        float(np.mean([run.age_ns for run in runs])) * 1e-6,
    )
