"""``leadsight evaluate-mot``: recordings of many targets in, figures out."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from evaluation.clock import Latency
from evaluation.evaluate import environment, without_nan
from evaluation.mot import Detect, MotConfigs, MotRow, evaluate_mot, mot_rows
from evaluation.mot_sequences import MotSequence, find_mot_sequences, open_mot_sequence
from evaluation.simulated_detector import SimulatedDetector
from evaluation.streaming_ap import require_coco
from perception.detector import Detector
from pipeline.errors import InputError

SIMULATED = "simulated"


@dataclass(frozen=True)
class Request:
    """What the command line asked for. detector: whether it is a simulated one."""

    sources: tuple[str, ...]
    simulated: bool
    latencies_s: tuple[float, ...]
    jitter: float
    methods: tuple[str, ...]
    seed: int
    seconds: float
    fps: float | None
    topic: str | None
    agnostic: bool
    configs: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """Rows of all recordings as one, and of each by its name."""

    rows: list[MotRow]
    sequences: dict[str, list[MotRow]]
    settings: dict[str, object]
    simulated: bool


def run(request: Request, console: Console) -> Result:
    """Evaluate with a progress bar.

    Raises:
        InputError: anything that cannot be used, named with its remedy.
    """
    require_coco()
    latencies = [Latency.of_seconds(s, request.jitter, request.seed) for s in request.latencies_s]
    if not latencies:
        raise InputError("give --latency, one or more in seconds: --latency 0.047 0.170")
    c = request.configs
    configs = MotConfigs(c["isp"], c["association"], c["predictor"], c["fusion"], c["propagator"])
    detector = None if request.simulated else Detector(c["detector"])
    runs, sequences = [], {}
    paths = [path for source in request.sources for path in find_mot_sequences(source)]
    with Progress(console=console, transient=True) as bar:
        for number, path in enumerate(paths, 1):
            sequence = open_mot_sequence(
                path, request.fps, request.topic, request.seed, request.seconds
            )
            task = bar.add_task(f"{number}/{len(paths)} {sequence.name}", total=len(sequence))
            found = evaluate_mot(
                sequence,
                _detect(detector, sequence, request.seed),
                latencies,
                list(request.methods),
                configs,
                lambda n, task=task: bar.advance(task, n),  # type: ignore[misc]
                request.agnostic,
            )
            sequences[sequence.name] = mot_rows(found, request.agnostic)
            runs += found
            bar.remove_task(task)
    rows = mot_rows(runs, request.agnostic)
    return Result(rows, sequences, _settings(request), request.simulated)


def _detect(detector: Detector | None, sequence: MotSequence, seed: int) -> Detect:
    if detector is None:
        return SimulatedDetector(sequence, seed).detect
    return lambda k, picture: detector.detect(picture)


def _settings(request: Request) -> dict[str, object]:
    """What the figures depend on; not where the input lies."""
    detector = asdict(request.configs["detector"])
    detector["model"] = SIMULATED if request.simulated else Path(detector["model"]).name
    stages = ("association", "predictor", "fusion", "propagator")
    return {
        "detector": detector,
        "latencies_s": list(request.latencies_s),
        "jitter": request.jitter,
        "seed": request.seed,
        "agnostic": request.agnostic,
        **{stage: asdict(request.configs[stage]) for stage in stages},
        **environment(),
    }


def write(result: Result, path: Path) -> None:
    """Write ``results.json``: all figures, and nothing that differs between two runs."""
    document = {
        "settings": result.settings,
        "rows": [asdict(row) for row in result.rows],
        "sequences": {
            name: [asdict(row) for row in rows] for name, rows in result.sequences.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(without_nan(document), indent=1) + "\n", encoding="utf-8")


def print_rows(result: Result, console: Console) -> None:
    """The headline table; the best HOTA of each latency in bold."""
    made = ", a SIMULATED detector" if result.simulated else ""
    table = Table(
        title=f"many targets, as a user had them at each frame{made}",
        caption="gap: share of what latency costs that the method won back over none",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in ("latency", "method"):
        table.add_column(name, overflow="fold")
    names = (
        "HOTA",
        "DetA",
        "AssA",
        "IDF1",
        "MOTA",
        "switches",
        "sAP",
        "sAP50",
        "gap HOTA",
        "gap sAP",
    )
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.rows:
        best = max(r.hota for r in result.rows if r.latency == row.latency)
        values = (row.hota, row.deta, row.assa, row.idf1, row.mota)
        gaps = (row.gap_hota, row.gap_sap)
        table.add_row(
            row.latency,
            row.method,
            *(f"{v:.3f}" for v in values),
            str(row.switches),
            f"{row.sap:.3f}",
            f"{row.sap50:.3f}",
            *("–" if gap != gap else f"{gap:.0%}" for gap in gaps),
            style="bold" if row.hota == best else None,
        )
    console.print(table)
