"""``leadsight evaluate-isp``: labeled pictures in, how well detectors see through each ISP out."""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from evaluation.detection_ap import Matches
from evaluation.evaluate import environment, without_nan
from evaluation.isp_quality import Column, Study, Unit, classical_rows, clean, column, run_unit
from evaluation.isp_report import Tile, raw_tiles, tiles, write_isp_report
from evaluation.isp_steady import Steadiness, steadiness
from evaluation.streaming_ap import require_coco


@dataclass(frozen=True)
class Result:
    """clean: each detector's AP on the pictures themselves. steady: of each trained ISP."""

    columns: list[Column]
    clean: dict[str, float]
    steady: dict[str, Steadiness]
    settings: dict[str, object]


def run(study: Study, jobs: int, console: Console) -> Result:
    """Evaluate with a progress bar.

    Raises:
        InputError: anything that cannot be used, named with its remedy.
    """
    require_coco()
    found: dict[Unit, dict[str, Matches]] = {}
    units = study.units()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("detectors × levels × seeds", total=len(units))
        for unit, matches in _each(study, units, jobs):
            found[unit] = matches
            bar.advance(task)
    made = [
        column(study, d, level, found)
        for d in range(len(study.detectors))
        for level in study.levels
    ]
    return Result(
        made,
        {Path(d.model).stem: clean(study, d) for d in study.detectors},
        {t.name: steadiness(t.row(0), study.sensor) for t in study.trained},
        _settings(study),
    )


def _each(study: Study, units: list[Unit], jobs: int) -> Iterator[tuple[Unit, dict[str, Matches]]]:
    if jobs <= 1:
        yield from ((unit, run_unit(study, unit)) for unit in units)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run_unit, study, unit): unit for unit in units}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _settings(study: Study) -> dict[str, object]:
    """What the figures depend on; not where the input lies."""
    return {
        "detectors": [Path(d.model).name for d in study.detectors],
        "isps": {t.name: [Path(m).name or "shipped" for m in t.models] for t in study.trained},
        "levels": list(study.levels),
        "seeds": study.seeds,
        "sensor": f"{study.sensor}, simulated",
        **environment(),
    }


def print_columns(result: Result, console: Console) -> None:
    """A table for each detector: AP of every ISP at every level."""
    classical = {row.name for row in classical_rows()}
    for detector in dict.fromkeys(c.detector for c in result.columns):
        mine = [c for c in result.columns if c.detector == detector]
        table = Table(
            box=SIMPLE_HEAD,
            title=f"{detector}: AP × 100, SIMULATED RAW; clean pictures "
            f"{100 * result.clean[detector]:.1f}",
        )
        table.add_column("ISP")
        for c in mine:
            table.add_column(c.level, justify="right")
        for name in mine[0].ap:
            cells = [
                f"[bold]{100 * c.ap[name]:.1f}[/]" if name == c.best else f"{100 * c.ap[name]:.1f}"
                for c in mine
            ]
            table.add_row(name, *cells)
            if name not in classical:
                table.add_row(
                    "  over the best classical",
                    *(
                        f"{100 * g.mean:+.1f} [{100 * g.low:+.1f}, {100 * g.high:+.1f}]".replace(
                            "[", "\\[", 1
                        )
                        for g in (c.gains[name] for c in mine)
                    ),
                )
        console.print(table)
    for name, steady in result.steady.items():
        console.print(f"{name}: {steady.sentence()}", soft_wrap=True)


def write(
    result: Result,
    study: Study,
    out: Path,
    raw: list[Path],
    command: str,
) -> None:
    """``results.json`` and ``report.html`` with views side by side."""
    out.mkdir(parents=True, exist_ok=True)
    data = {
        "settings": result.settings,
        "clean": result.clean,
        "columns": [
            without_nan({**c._asdict(), "gains": {n: g._asdict() for n, g in c.gains.items()}})
            for c in result.columns
        ],
        "steady": {name: s._asdict() for name, s in result.steady.items()},
    }
    (out / "results.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    shown: list[Tile] = tiles(study, result.columns)
    write_isp_report(
        out / "report.html", result.columns, result.clean, result.steady, shown,
        raw_tiles(raw), result.settings, command,
    )  # fmt: skip
