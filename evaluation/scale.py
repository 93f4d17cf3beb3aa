"""Many sequences at once: in this process, in several, or on a Ray cluster, with the same results.

A unit of work is one tracker on one recording, or one sequence of stored outputs: a small value of
names and paths. ``evaluate_unit`` turns it into its row, which depends on nothing else, so it does
not matter where, when, or how often a unit is evaluated.
"""

import logging
import os
import signal
import socket
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import cv2

from evaluation.clock import Latency
from evaluation.evaluate import environment, evaluate
from evaluation.online import Progress, Source, TrackerSource
from evaluation.replay import StoredSequence
from evaluation.rows import Key, encode
from evaluation.sequences import Frames, Sequence
from evaluation.sources import open_any
from isp.config import IspConfig
from isp.make import make_isp
from perception.propagator import PropagatorConfig
from perception.tracker import TrackerConfig, make_tracker
from pipeline.errors import InputError, first_line
from pipeline.frame import Frame
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig

TRIES = 3
"""How often a unit is begun whose worker dies."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Conditions:
    """What every unit is evaluated under. A None among the latencies is this machine's clock."""

    latencies: tuple[Latency | None, ...]
    predictors: tuple[str, ...]
    predictor: PredictorConfig
    predictor_cost_ns: int
    tracker: TrackerConfig
    isp: IspConfig
    fps: float | None = None
    topic: str | None = None
    target: int | None = None
    imu: str = ""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    propagator: PropagatorConfig = field(default_factory=PropagatorConfig)

    def settings(self) -> dict[str, object]:
        """All that rows depend on beside their unit, as JSON values."""
        found = asdict(self)
        del found["tracker"]["name"], found["predictor"]["name"]  # the unit and predictors say it
        return {**found, **environment()}


@dataclass(frozen=True)
class Recording:
    """One tracker on one recording; ``truth`` where it does not lie beside it."""

    tracker: str
    path: Path
    truth: Path | None = None

    def sequence(self, conditions: Conditions) -> Sequence:
        """The recording, opened.

        Raises:
            InputError: what ``open_any`` raises.
        """
        c = conditions
        imu = c.imu if c.propagator.calibration else None
        return open_any(self.path, self.truth, c.fps, c.topic, c.target, imu)


Unit = Recording | StoredSequence
Outcome = str | InputError
"""The row of a unit, or why there is none."""
Work = Callable[[Unit], str]
"""Picklable: a function of a module, or a partial of one."""


def unit_key(unit: Unit) -> Key:
    """The unit as JSON values, to name its row."""
    found: Key = {}
    for name, value in asdict(unit).items():
        if isinstance(value, tuple):
            found[name] = [str(v) for v in value]
        else:
            found[name] = str(value) if isinstance(value, Path) else value
    return found


def unit_name(unit: Unit) -> str:
    """For messages: "kcf on car1", or the name of the stored sequence."""
    if isinstance(unit, StoredSequence):
        return unit.name
    return f"{unit.tracker} on {unit.path.name}"


def unit_frames(unit: Unit, conditions: Conditions) -> Frames | None:
    """The pictures of a unit's recording; it is opened when the first of them is read."""
    if isinstance(unit, StoredSequence):
        return None

    def read() -> Iterator[Frame]:
        sequence = unit.sequence(conditions)
        assert sequence.frames is not None
        for k in range(len(sequence)):
            yield sequence.frames.read(k)

    return Frames(str(unit.path), read)


def evaluate_unit(conditions: Conditions, unit: Unit, progress: Progress = lambda n: None) -> str:
    """The unit's row.

    Raises:
        InputError: a recording, truth or stored outputs that cannot be used.
    """
    source: Source
    if isinstance(unit, StoredSequence):
        sequence, source = unit.open(conditions.fps)
    else:
        sequence = unit.sequence(conditions)
        tracker = make_tracker(replace(conditions.tracker, name=unit.tracker))
        source = TrackerSource(unit.tracker, tracker, make_isp(conditions.isp), sequence)
    results = evaluate(
        [(sequence, source)],
        list(conditions.latencies),
        list(conditions.predictors),
        conditions.predictor,
        conditions.predictor_cost_ns,
        progress,
        conditions.fusion,
        conditions.propagator,
    )
    return encode(unit_key(unit), results)


def in_turn(work: Work, units: Iterable[Unit]) -> Iterator[tuple[Unit, Outcome]]:
    """Each unit's outcome, one after the other in this process."""
    for unit in units:
        yield unit, _attempt(work, unit)


def in_processes(work: Work, units: Iterable[Unit], jobs: int) -> Iterator[tuple[Unit, Outcome]]:
    """Each unit's outcome as it comes from ``jobs`` processes of one thread each.

    A unit whose process dies is begun again, ``TRIES`` times in all.
    """
    waiting = deque((unit, 1) for unit in units)
    busy: dict[Connection, tuple[Unit, int]] = {}
    processes: list[BaseProcess] = []

    def begin(connection: Connection) -> None:
        busy[connection] = waiting.popleft()
        with suppress(ConnectionError):  # one that just died shows in ``wait``
            connection.send(busy[connection][0])

    try:
        for _ in range(min(jobs, len(waiting))):
            begin(_start_worker(work, processes))
        while busy:
            for ready in wait(list(busy)):
                connection = cast(Connection, ready)
                unit, tries = busy.pop(connection)
                try:
                    outcome = connection.recv()
                except (EOFError, ConnectionError):
                    connection.close()
                    if tries < TRIES:
                        waiting.append((unit, tries + 1))
                        begin(_start_worker(work, processes))
                        continue
                    outcome = _died("")
                    connection = _start_worker(work, processes) if waiting else connection
                if isinstance(outcome, RuntimeError):
                    raise outcome
                if waiting:
                    begin(connection)
                yield unit, outcome
    finally:
        for process in processes:
            process.terminate()


def on_ray(work: Work, units: Iterable[Unit], address: str) -> Iterator[tuple[Unit, Outcome]]:
    """Each unit's outcome as it comes from a Ray cluster; ``local`` starts one on this machine.

    Every node needs leadsight, and the units' files at the same paths. A unit whose worker dies is
    begun again, ``TRIES`` times in all.

    Raises:
        InputError: no Ray here, or no cluster at this address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError:
        raise InputError("--ray: needs Ray; pip install '.[scale]'") from None
    try:
        if address != "local":
            _knock(address)
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--ray {address}: no such cluster ({first_line(error)}); give local, or host:port of "
            "`ray start --head`"
        ) from None
    try:
        task = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_attempt_on_one_thread)
        pending = {task.remote(work, unit): unit for unit in units}
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            unit = pending.pop(done)
            try:
                yield unit, ray.get(done)
            except RayTaskError:
                raise
            except RayError as error:
                yield unit, _died(f": {first_line(error)}")
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself goes on asking for minutes where nobody answers."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _attempt(work: Work, unit: Unit) -> Outcome:
    try:
        return work(unit)
    except InputError as error:
        return error


def _attempt_on_one_thread(work: Work, unit: Unit) -> Outcome:
    """Workers share a machine, so each keeps to one core; Ray sees to numpy's libraries."""
    cv2.setNumThreads(1)
    return _attempt(work, unit)


def _died(why: str) -> InputError:
    return InputError(
        f"its worker died {TRIES} times{why}; see whether memory suffices, and give fewer --jobs"
    )


def _start_worker(work: Work, processes: list[BaseProcess]) -> Connection:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)  # read when the worker imports numpy
    try:
        process.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    theirs.close()  # so that the pipe ends with the process
    processes.append(process)
    return ours


def _serve(connection: Connection, work: Work) -> None:
    """A worker's life: a unit in, its outcome out, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells when to end
    with suppress(EOFError, ConnectionError):
        while True:
            unit = connection.recv()
            try:
                outcome: Outcome | RuntimeError = _attempt_on_one_thread(work, unit)
            except Exception:
                outcome = RuntimeError(f"{unit_name(unit)}: {traceback.format_exc()}")
            connection.send(outcome)
