"""Two-rate tracking on one sequence, truly online: the class that flies, on the simulated clock.

Every frame reaches the propagator, whose step is known ``STEP_COST_NS`` after the frame's stamp;
the tracker sees the frames that its latency lets it see and answers late. At each frame's stamp the
box is predicted from what was known by then. A gyroscope's samples are known ``IMU_DELAY_NS`` after
their own stamps; a frame's step begins at the frame's stamp, with those that are there.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from evaluation.clock import Latency, Schedule, simulate
from evaluation.metrics import DP_PX, errors, score, success_value
from evaluation.online import SIGMAS, Progress, Run, Source, TrackerSource
from evaluation.sequences import Sequence
from perception.ego import EgoMotion
from perception.propagator import Propagator, PropagatorConfig
from perception.tracker import TrackerAnswer
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.imu import ImuSamples
from pipeline.tracks import Tracks
from prediction.predictor import PREDICTORS, VISUAL, PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate

log = logging.getLogger(__name__)
TWO_RATE = "two-rate"
NOTHING: Mapping[int, TrackerAnswer] = {}
STEP_COST_NS = 5_000_000
"""What a step is charged, above what it takes on one core of the machines it was measured on."""
IMU_DELAY_NS = 2_000_000
"""Before a sample is at hand: two periods of an IMU at 1 kHz. Real frames take longer than that."""

METHODS = (*PREDICTORS, *VISUAL, TWO_RATE, *(f"{TWO_RATE}+{name}" for name in PREDICTORS))
"""What brings an answer to the moment of use: a predictor alone, or the frames since as well."""


def is_two_rate(predictor: str) -> bool:
    """Whether a name is "two-rate", or "two-rate+" and a predictor's."""
    return predictor.partition("+")[0] == TWO_RATE


def two_rate(
    sequence: Sequence,
    source: Source,
    latency: Latency | None,
    name: str,
    predictor: PredictorConfig,
    fusion: FusionConfig,
    propagator: PropagatorConfig,
    progress: Progress = lambda n: None,
) -> list[Run]:
    """Run and score one tracker, its answers carried to the newest frame.

    name: "two-rate+kalman" predicts onwards with ``kalman``; without a "+", with the predictor that
    is configured. With ``latency`` None the tracker's answers are those of the wall clock, which
    cannot be guided.

    Raises:
        InputError: a sequence without pictures, or a predictor of no such name.
    """
    if not isinstance(source, TrackerSource):
        raise InputError(f"{sequence.name}: {TWO_RATE} needs pictures, not only stored outputs")
    onwards = name.partition("+")[2]
    if onwards:
        predictor = replace(predictor, name=onwards)
    steps = Propagator(propagator)
    carrier = TwoRate(fusion, predictor, steps)
    recorded: dict[int, TrackerAnswer] = {}
    if latency is None:
        schedule, answers = source.wall(progress)
        for k, frame in enumerate(schedule.frames.tolist()):
            recorded[frame] = TrackerAnswer(answers.boxes[0, k], 1.0, answers.status[0, k])
    else:
        schedule = simulate(sequence.stamps_ns, latency, 0, sequence.key)
    run = _run(sequence, source, schedule, recorded, carrier, steps, progress)
    report = steps.ego.report()
    if sequence.imu is not None and not report.fine:
        log.warning("%s: %s", sequence.name, report)
    return [run]


class _Imu:
    """A sequence's gyroscope, whose samples arrive as they were recorded."""

    def __init__(self, samples: ImuSamples | None, ego: EgoMotion) -> None:
        none = ImuSamples(np.empty(0, np.int64), np.empty((0, 3)))
        self._samples, self._ego = none if samples is None else samples, ego
        self._arrived_ns = self._samples.stamps_ns - ego.offset_ns + IMU_DELAY_NS
        self._fed = 0

    def feed(self, now_ns: int) -> None:
        """Give what is there by then; a sample that is late holds up those behind it."""
        if self._fed == len(self._samples):
            return
        late = np.flatnonzero(self._arrived_ns[self._fed :] > now_ns)
        new = slice(self._fed, self._fed + int(late[0]) if len(late) else len(self._samples))
        self._ego.feed(ImuSamples(self._samples.stamps_ns[new], self._samples.rates[new]))
        self._fed = new.stop


def play(
    sequence: Sequence,
    source: TrackerSource,
    schedule: Schedule,
    carrier: TwoRate,
    propagator: Propagator,
    recorded: Mapping[int, TrackerAnswer] = NOTHING,
) -> Iterator[tuple[int, str, int, TrackerAnswer | None]]:
    """Let frames, steps and answers reach ``carrier`` in the order of time.

    Yields (time in ns, "frame", "step" or "answer", number of the frame, the answer), each when the
    carrier knows of it. propagator: the carrier's, which the gyroscope's samples go to. recorded:
    answers, by frame, that were made before.
    """
    imu = _Imu(sequence.imu, propagator.ego)
    stamps = sequence.stamps_ns.tolist()
    pictures: dict[int, Frame] = {}
    found: dict[int, TrackerAnswer] = {}
    source.reset()

    def answer(k: int) -> TrackerAnswer:
        picture, got = pictures[k], found.pop(k)
        stamp = stamps[k]
        carrier.answer(Tracks.single(stamp, stamp, k, picture.size, got.box, got.score, got.status))
        return got

    for now_ns, kind, k in _events(stamps, schedule):
        got = None
        if kind == "frame":
            pictures[k] = source.picture(k)
            if k == 0:
                imu.feed(stamps[0])
                carrier.frame(pictures[0])
                found[0] = recorded.get(0) or source.answer(0, pictures[0])
                yield now_ns, "answer", 0, answer(0)
        elif kind == "step":
            imu.feed(stamps[k])
            carrier.frame(pictures[k])
        elif kind == "track":
            near = None if recorded else carrier.guide(0, stamps[k])
            found[k] = recorded.get(k) or source.answer(k, pictures[k], near)
            continue
        else:
            got = answer(k)
        yield now_ns, kind, k, got
        if kind == "frame":
            for old in [old for old in pictures if old < k - 1 and old not in found]:
                del pictures[old]


def _run(
    sequence: Sequence,
    source: TrackerSource,
    schedule: Schedule,
    recorded: dict[int, TrackerAnswer],
    carrier: TwoRate,
    propagator: Propagator,
    progress: Progress,
) -> Run:
    stamps = sequence.stamps_ns.tolist()
    n = len(stamps)
    boxes: list[list[np.ndarray]] = [[] for _ in stamps]
    known_ns: list[list[int]] = [[] for _ in stamps]
    rests_on = np.zeros(n, np.int64)
    newest, step = -1, 0

    for now_ns, kind, k, _ in play(sequence, source, schedule, carrier, propagator, recorded):
        if kind == "frame":
            newest = k
            rests_on[k] = stamps[step]
            progress(1)
        elif kind == "step":
            step = k
        if newest >= 0:
            box = carrier.predict(np.array([stamps[newest]], np.int64)).boxes
            boxes[newest].append(box[0, 0] if len(box) else sequence.truth[0])
            known_ns[newest].append(now_ns)

    table = np.full((n, max(map(len, boxes)), 4), np.nan)
    ready = np.full(table.shape[:2], np.iinfo(np.int64).max)
    for i in range(n):
        table[i, : len(boxes[i])], ready[i, : len(boxes[i])] = boxes[i], known_ns[i]
    period = float(np.median(np.diff(sequence.stamps_ns))) if n > 1 else 0.0
    limit = sequence.stamps_ns + np.round(SIGMAS * period).astype(np.int64)[:, None]
    used = (ready <= limit[..., None]).sum(axis=-1) - 1
    measured = errors(table, sequence.truth[:, None])
    frame = np.arange(n)
    age_ns = sequence.stamps_ns - rests_on
    return Run(
        table[frame, used[0]],
        age_ns,
        score(errors(table[frame, used[0]], sequence.truth)),
        success_value(measured.overlap)[frame, used].mean(axis=1),
        (measured.distance <= DP_PX)[frame, used].mean(axis=1),
        len(schedule.frames),
        float(age_ns.mean()),
    )


def _events(stamps: list[int], schedule: Schedule) -> Iterator[tuple[int, str, int]]:
    """(time, kind, frame) in order: a frame comes, its step is known, the tracker starts on it, its
    answer is there. What is known at a frame's very stamp counts for it."""
    frames, ready = schedule.frames.tolist(), schedule.ready_ns.tolist()
    order = {"step": 0, "answer": 1, "frame": 2, "track": 3}
    events = [(stamp, "frame", k) for k, stamp in enumerate(stamps)]
    events += [(stamp + STEP_COST_NS, "step", k) for k, stamp in enumerate(stamps) if k]
    for k in range(1, len(frames)):
        events.append((max(ready[k - 1], stamps[frames[k]]), "track", frames[k]))
        events.append((ready[k], "answer", frames[k]))
    # An answer before its frame's step waits in the carrier for it.
    yield from sorted(events, key=lambda e: (e[0], order[e[1]]))
