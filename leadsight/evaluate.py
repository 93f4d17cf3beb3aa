"""``leadsight evaluate``: recordings or stored outputs in, figures and a report out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from evaluation.clock import Latency, read_latency
from evaluation.evaluate import Evaluation, Row, environment, evaluate, mean_rows, write_json
from evaluation.online import Source, TrackerSource
from evaluation.replay import find_outputs, open_replay
from evaluation.report import write_report
from evaluation.sequences import Sequence
from evaluation.sources import find_sequences, open_any
from isp.classical import ClassicalIsp
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


def run(request: Request, console: Console) -> Evaluation:
    """Evaluate with a progress bar.

    Raises:
        InputError: anything that cannot be used, named with its remedy.
    """
    if bool(request.sources) == bool(request.replay):
        raise InputError("give recordings, or stored outputs with --replay, and not both")
    latencies = _latencies(request)
    count, cases = _cases(request)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[frames]} frames"),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("evaluate", total=count, frames=0)
        frames = 0

        def progress(n: int) -> None:
            nonlocal frames
            frames += n
            bar.update(task, frames=frames)

        results = []
        for sequence, source in cases:
            bar.update(task, description=f"{', '.join(source.trackers[:2])} on {sequence.name}")
            results += evaluate(
                [(sequence, source)],
                latencies,
                list(request.predictors),
                request.configs["predictor"],
                round(request.predictor_cost_ms * 1e6),
                progress,
            )
            bar.advance(task)
    results.sort(key=lambda r: r.tracker)
    return Evaluation(results, _settings(request))


def _latencies(request: Request) -> list[Latency | None]:
    if request.clock == "wall":
        if request.latencies_s or request.latency_file or request.replay:
            raise InputError(
                "--clock wall measures this machine: leave --latency and --replay away"
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


def _cases(request: Request) -> tuple[int, Iterator[tuple[Sequence, Source]]]:
    """How many, and each opened only when its turn comes."""
    if request.replay:
        opened = open_replay(find_outputs(list(request.replay)), request.truth, request.fps)
        return len(opened), iter(opened)
    paths = [path for source in request.sources for path in find_sequences(source)]
    if request.truth is not None and len(paths) > 1:
        raise InputError(
            f"--gt {request.truth}: one box file goes with one recording, here are {len(paths)}; "
            "keep truth beside each"
        )

    def recordings() -> Iterator[tuple[Sequence, Source]]:
        isp = ClassicalIsp(request.configs["isp"])
        for name in request.trackers:
            tracker = make_tracker(replace(request.configs["tracker"], name=name))
            for path in paths:
                sequence = open_any(path, request.truth, request.fps, request.topic, request.target)
                yield sequence, TrackerSource(name, tracker, isp, sequence)

    return len(request.trackers) * len(paths), recordings()


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


def write(evaluation: Evaluation, out: Path, command: str, isp: ClassicalIsp) -> None:
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
