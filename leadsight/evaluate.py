"""``leadsight evaluate``: recordings or stored outputs in, figures and a report out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from evaluation.clock import Latency, read_latency
from evaluation.evaluate import Evaluation, Row, environment, mean_rows, write_json
from evaluation.replay import find_outputs, find_stored
from evaluation.report import write_report
from evaluation.rows import RowFile
from evaluation.scale import (
    Conditions,
    Outcome,
    Recording,
    Unit,
    evaluate_unit,
    in_processes,
    in_turn,
    on_ray,
    unit_frames,
    unit_key,
    unit_name,
)
from evaluation.sources import find_sequences
from isp.make import Isp
from perception.propagator import Propagator
from perception.tracker import make_tracker
from pipeline.errors import InputError


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    sources: tuple[Path, ...]
    replay: tuple[Path, ...]
    truth: Path | None
    trackers: tuple[str, ...]
    latencies_s: tuple[float, ...]
    latency_file: Path | None
    jitter: float
    clock: str
    predictors: tuple[str, ...]
    predictor_cost_ms: float
    seed: int
    fps: float | None
    topic: str | None
    target: int | None
    configs: dict[str, Any]
    out: Path
    jobs: int | None = None
    ray: str | None = None
    resume: bool = False
    imu: str | None = None


def run(request: Request, console: Console) -> tuple[Evaluation, list[tuple[str, str]]]:
    """Evaluate with a progress bar; what was found, and the name of each sequence that failed and
    why.

    Rows are kept in ``<out>/rows.jsonl`` as they come.

    Raises:
        InputError: anything that cannot be used, named with its remedy; or nothing was found.
    """
    if bool(request.sources) == bool(request.replay):
        raise InputError("give recordings, or stored outputs with --replay, and not both")
    if request.jobs is not None and request.ray is not None:
        raise InputError("give --jobs for this machine or --ray for a cluster, and not both")
    conditions = _conditions(request)
    units = _units(request)
    for name in {unit.tracker: None for unit in units if isinstance(unit, Recording)}:
        make_tracker(replace(conditions.tracker, name=name))  # missing models are told at once
    rows = RowFile(request.out / "rows.jsonl", conditions.settings(), request.resume)
    left = [unit for unit in units if unit_key(unit) not in rows]
    failed: list[tuple[str, str]] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("sequences,"),
        TimeRemainingColumn(),
        TextColumn("left {task.fields[frames]}"),
        console=console,
        transient=True,
    ) as bar:
        # The time remaining is told from the speed of this run, without what was kept.
        task = bar.add_task("evaluate", total=len(left), frames="")
        frames = 0

        def progress(n: int) -> None:
            nonlocal frames
            frames += n
            bar.update(task, frames=f"({frames} frames)")

        try:
            for unit, outcome in _outcomes(request, conditions, left, progress):
                if isinstance(outcome, InputError):
                    failed.append((unit_name(unit), str(outcome)))
                    if len(units) > 1:
                        bar.console.print(f"failed: {unit_name(unit)}: {outcome}", markup=False)
                else:
                    rows.append(unit_key(unit), outcome)
                bar.advance(task)
        except KeyboardInterrupt:
            done = sum(unit_key(unit) in rows for unit in units)
            bar.console.print(f"{done} of {len(units)} sequences are kept: go on with --resume")
            raise
    if len(failed) == len(units):
        raise InputError(failed[0][1] if len(units) == 1 else complaint(failed))
    results = rows.results((unit_key(unit), unit_frames(unit, conditions)) for unit in units)
    results.sort(key=lambda r: r.tracker)
    return Evaluation(results, _settings(request)), failed


def complaint(failed: list[tuple[str, str]]) -> str:
    """One line on the sequences that failed."""
    name, why = failed[0]
    others = [name for name, _ in failed[1:]]
    more = f"; and {len(others)} more: {', '.join(others)[:400]}" if others else ""
    return f"failed: {name}: {why}{more}; mend that and go on with --resume"


def _outcomes(
    request: Request, conditions: Conditions, units: list[Unit], progress: Callable[[int], None]
) -> Iterator[tuple[Unit, Outcome]]:
    if request.ray is not None:
        return on_ray(partial(evaluate_unit, conditions), units, request.ray)
    if request.jobs is not None and request.jobs > 1:
        return in_processes(partial(evaluate_unit, conditions), units, request.jobs)
    return in_turn(partial(evaluate_unit, conditions, progress=progress), units)


def _conditions(request: Request) -> Conditions:
    tracker, propagator = request.configs["tracker"], request.configs["propagator"]
    if propagator.calibration:
        calibration = Path(propagator.calibration).expanduser().absolute()
        propagator = replace(propagator, calibration=str(calibration))
        Propagator(propagator)  # what is wrong with it is told at once
    elif request.imu is not None:
        raise InputError("--imu: needs the calibration, --set propagator.calibration=FILE.yaml")
    if tracker.models:  # Ray's workers start in another folder
        models = Path(tracker.models).expanduser().absolute()
        tracker = replace(tracker, models=str(models))
    return Conditions(
        tuple(_latencies(request)),
        request.predictors,
        request.configs["predictor"],
        round(request.predictor_cost_ms * 1e6),
        tracker,
        request.configs["isp"],
        request.fps,
        request.topic,
        request.target,
        request.imu or "",
        request.configs["fusion"],
        propagator,
    )


def _latencies(request: Request) -> list[Latency | None]:
    if request.clock == "wall":
        others = (request.latencies_s, request.latency_file, request.replay, request.ray)
        if any(others) or (request.jobs or 1) > 1:
            raise InputError(
                "--clock wall measures this machine when it does nothing else: leave --latency, "
                "--replay, --jobs and --ray away"
            )
        return [None]
    given: list[Latency | None] = [
        Latency.of_seconds(s, request.jitter, request.seed) for s in request.latencies_s
    ]
    if request.latency_file is not None:
        given.append(read_latency(request.latency_file))
    if not given:
        raise InputError("give --latency in seconds (0.047 0.170), --latency-file or --clock wall")
    return given


def _units(request: Request) -> list[Unit]:
    truth = request.truth.absolute() if request.truth is not None else None
    if request.replay:
        return [*find_stored([p.absolute() for p in find_outputs(list(request.replay))], truth)]
    paths = [path.absolute() for source in request.sources for path in find_sequences(source)]
    if truth is not None and len(paths) > 1:
        raise InputError(
            f"--gt {request.truth}: one box file goes with one recording, here are {len(paths)}; "
            "keep truth beside each"
        )
    return [Recording(name, path, truth) for name in request.trackers for path in paths]


def _settings(request: Request) -> dict[str, object]:
    """What the figures depend on; not where the input lies."""
    return {
        "clock": request.clock,
        "latencies_s": list(request.latencies_s),
        "jitter": request.jitter,
        "seed": request.seed,
        "predictors": list(request.predictors),
        "predictor_cost_ms": request.predictor_cost_ms,
        "replay": bool(request.replay),
        **environment(),
    }


def write(evaluation: Evaluation, out: Path, command: str, isp: Isp) -> None:
    """Write ``results.json`` and ``report.html``; ``isp`` develops RAW for its pictures."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(evaluation, out / "results.json")
    write_report(evaluation, out / "report.html", command=command, isp=isp)


def print_rows(rows: list[Row], console: Console) -> None:
    """The headline table; best online AUC of each tracker and latency in bold."""
    table = Table(
        title="AUC and DP at 20 px when the answer is used (La0); σ: mean over 0 … 1 frame late",
        caption="gap: share of the AUC lost to latency that the predictor won back",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in ("tracker", "latency", "predictor"):
        table.add_column(name, overflow="fold")
    for name in ("offline", "AUC", "DP", "σ AUC", "gap"):
        table.add_column(name, justify="right", no_wrap=True, min_width=5)
    if len({row.tracker for row in rows}) > 1:
        rows = rows + mean_rows(rows)
    for row in rows:
        rivals = [r.auc for r in rows if (r.tracker, r.latency) == (row.tracker, row.latency)]
        gap = "–" if row.predictor == "none" or row.gap_auc != row.gap_auc else f"{row.gap_auc:.0%}"
        table.add_row(
            row.tracker,
            row.latency,
            row.predictor,
            f"{row.offline_auc:.3f}",
            f"{row.auc:.3f}",
            f"{row.dp:.3f}",
            f"{row.sigma_auc:.3f}",
            gap,
            style="bold" if row.auc == max(rivals) else None,
        )
    console.print(table)
