"""What is known of hidden road users, against every byte that it takes (simulated traffic).

    python -m benchmarks.v2x_tradeoff [--world sumo | town | FILE.sumocfg] [--seeds 100 101 …]
        [--sweeps budget delay loss pose] [--jobs 2] [--out out/v2x_tradeoff]

Ten equipped actors, three of them scored: recall of actors that the ego does not see and another
agent does, at the moment of fusion with truth fixed there; the same of those that come near the
ego's plan; precision of what others told; position error; harm, the share of frames in which
fusing was worse than silence by GOSPA; and all bytes a second and agent. Each selector spends the
same budget in the same wire format, signed, over the same losses. stale: fused as told; floored:
predicted over whole 100 ms; predict: over the true delay; oracle: put where the truth is.

Constants were chosen on seeds 0, 1, 3, 4 and 5; give others to measure.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from comms.config import SELECTORS
from evaluation.v2x_study import (
    AS_CPM,
    Condition,
    Results,
    Where,
    conditions,
    paired,
    study,
    table,
    write_csv,
)


def main() -> None:
    arguments = _arguments()
    where = Where(
        arguments.world, tuple(arguments.seeds), arguments.seconds, arguments.agents, arguments.egos
    )
    rows = conditions(arguments.sweeps, arguments.selectors)
    console = Console(width=170)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("scenes × conditions", total=len(rows) * len(where.seeds))
        results = study(where, rows, arguments.jobs, lambda: progress.advance(task))
    lines = table(rows, results)
    write_csv(lines, arguments.out / "v2x_tradeoff.csv")
    for sweep in arguments.sweeps:
        console.print(_shown(sweep, [line for line in lines if line["sweep"] == sweep]))
    if "budget" in arguments.sweeps:
        console.print(_against(rows, results))
        _plot(lines, arguments.out / "v2x_tradeoff.png")


def _shown(sweep: str, lines: Sequence[dict[str, object]]) -> Table:
    shown = Table(title=f"{sweep}, simulated")
    for name in (
        sweep, "selector", "delay made up", "recall", "relevant", "precision", "error m", "harm",
        "B/s agent", "payload/header/signature/request", "GOSPA m (ego only)",
    ):  # fmt: skip
        shown.add_column(name, justify="left" if name in (sweep, "selector") else "right")
    for line in lines:
        parts = "/".join(
            f"{line[f'{k}_s']:.0f}" for k in ("payload", "header", "signature", "request")
        )
        shown.add_row(
            str(line["at"]), str(line["selector"]), str(line["alignment"]),
            f"{line['recall']:.3f}", f"{line['recall_relevant']:.3f}", f"{line['precision']:.3f}",
            f"{line['error_m']:.2f}", f"{line['harm']:.4f}", f"{line['bytes_s']:.0f}", parts,
            f"{line['gospa_m']:.1f} ({line['gospa_alone_m']:.1f})",
        )  # fmt: skip
    return shown


def _against(rows: Sequence[Condition], results: Results) -> Table:
    """Recall of apc less each other selector's, at the same budget."""
    shown = Table(title="recall of apc less that of …, paired over scenes (95 %)")
    shown.add_column("selector")
    ours = {
        row.at: k for k, row in enumerate(rows) if row.sweep == "budget" and row.selector == "apc"
    }
    for at in ours:
        shown.add_column(at, justify="right")
    for selector in dict.fromkeys(row.selector for row in rows if row.selector != "apc"):
        cells = []
        for at, mine in ours.items():
            other = next(
                (k for k, r in enumerate(rows)
                 if r.sweep == "budget" and r.selector == selector and r.at == at), None,
            )  # fmt: skip
            if other is None:
                cells.append("")
                continue
            mean, low, high = paired(results[mine, "predict"], results[other, "predict"])
            cells.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
        shown.add_row(selector, *cells)
    return shown


def _plot(lines: Sequence[dict[str, object]], path: Path) -> None:
    """Recall against bytes, one line a selector."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharex=True)
    for key, title, axis in zip(
        ("recall", "recall_relevant"), ("all hidden", "near the ego's plan"), axes, strict=True
    ):
        for selector in (*SELECTORS, AS_CPM):
            mine = [
                line for line in lines
                if line["selector"] == selector and line["alignment"] == "predict"
                and line["sweep"] == "budget"
            ]  # fmt: skip
            if mine:
                axis.plot(
                    [line["bytes_s"] for line in mine], [line[key] for line in mine], "o-",
                    label=selector, linewidth=2.5 if selector == "apc" else 1.0, markersize=4,
                )  # fmt: skip
        axis.set_xscale("log")
        axis.set_xlabel("bytes a second and agent, all included")
        axis.set_ylabel("recall at the moment of fusion")
        axis.set_title(title)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="sumo", help="sumo, town, or a .sumocfg file")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(100, 106)))
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a scene")
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--egos", type=int, default=3)
    sweeps = ("budget", "delay", "loss", "pose")
    parser.add_argument("--sweeps", nargs="+", choices=sweeps, default=list(sweeps))
    parser.add_argument("--selectors", nargs="+", choices=SELECTORS, default=list(SELECTORS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/v2x_tradeoff"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
