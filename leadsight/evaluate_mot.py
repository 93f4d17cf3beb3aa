"""``leadsight evaluate-mot``: recordings of many targets in, figures out."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from evaluation.clock import Latency
from evaluation.evaluate import environment, without_nan
from evaluation.mot import Detect, MotConfigs, MotRow, evaluate_mot, mot_rows
from evaluation.mot_sequences import MotSequence, find_mot_sequences, open_mot_sequence
from evaluation.own_truth import with_own_truth
from evaluation.simulated_detector import SimulatedDetector
from evaluation.sources import find_sequences
from evaluation.streaming_ap import require_coco
from perception.detector import Detector
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.tracks import Detections

SIMULATED = "simulated"


@dataclass(frozen=True)
class Request:
    """What the command line asked for. simulated: the detector is; own_truth: the truth is the
    detector's."""

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
    own_truth: bool
    configs: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """Rows of all recordings as one, and of each by its name. kind: a clause for the title."""

    rows: list[MotRow]
    sequences: dict[str, list[MotRow]]
    settings: dict[str, object]
    kind: str


def run(request: Request, console: Console) -> Result:
    """Evaluate with a progress bar.

    Raises:
        InputError: anything that cannot be used, named with its remedy.
    """
    require_coco()
    if request.configs["propagator"].calibration:
        raise InputError(
            "propagator.calibration: evaluate-mot reads no gyroscope; leave the option away"
        )
    if request.own_truth and request.simulated:
        raise InputError("--own-truth needs a real detector: give --detector an ONNX file")
    latencies = [Latency.of_seconds(s, request.jitter, request.seed) for s in request.latencies_s]
    if not latencies:
        raise InputError("give --latency, one or more in seconds: --latency 0.047 0.170")
    c = request.configs
    detector = None if request.simulated else Detector(c["detector"])
    configs = MotConfigs(
        c["isp"],
        c["association"],
        c["predictor"],
        c["fusion"],
        c["propagator"],
        detector.grid if detector else None,
    )
    find = find_sequences if request.own_truth else find_mot_sequences
    paths = [path for source in request.sources for path in find(Path(source))]
    runs, sequences = [], {}
    with Progress(console=console, transient=True) as bar:
        for number, path in enumerate(paths, 1):
            task = bar.add_task(f"{number}/{len(paths)} {path.name}", total=None)

            def progress(n: int, task: TaskID = task) -> None:
                bar.advance(task, n)

            sequence, detect = _opened(path, detector, request, configs, progress)
            bar.update(task, total=len(sequence), completed=0)
            found = evaluate_mot(
                sequence,
                detect,
                latencies,
                list(request.methods),
                configs,
                progress,
                request.agnostic,
            )
            sequences[sequence.name] = mot_rows(found, request.agnostic)
            runs += found
            bar.remove_task(task)
    rows = mot_rows(runs, request.agnostic)
    return Result(rows, sequences, _settings(request), _kind(request))


def _opened(
    path: Path,
    detector: Detector | None,
    request: Request,
    configs: MotConfigs,
    progress: Callable[[int], None],
) -> tuple[MotSequence, Detect]:
    """A recording with its truth, and what the detector says of its frames."""
    seen: dict[int, Detections] = {}

    def detect(k: int, picture: Frame) -> Detections:
        if k not in seen:
            assert detector is not None
            seen[k] = detector.detect(picture)
        return seen[k]

    if request.own_truth:
        return with_own_truth(path, detect, configs, request.fps, request.topic, progress), detect
    sequence = open_mot_sequence(path, request.fps, request.topic, request.seed, request.seconds)
    simulated = request.simulated
    return sequence, SimulatedDetector(sequence, request.seed).detect if simulated else detect


def _kind(request: Request) -> str:
    """What the figures may not be taken for."""
    if request.own_truth:
        return ", held to what the same detector says offline"
    return ", a SIMULATED detector" if request.simulated else ""


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
        "own_truth": request.own_truth,
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
    table = Table(
        title=f"many targets, as a user had them at each frame{result.kind}",
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
