"""Highway driving among other drivers: how often a policy gets through 30 decisions.

    python -m benchmarks.highway [--policies idle,ttc] [--seeds 20] [--jobs 2] [--out drives.csv]

Needs the ``highway`` extra. Success: no crash in 30 decisions, one a second, with Wilson's 95 %
interval; the mean speed of those that got through, which end with the crash elsewhere; how often a
drive goes aside; the 50th and 99th percentile of a decision's time, wall clock, with ``--jobs``
processes at once; the share of decisions that are a model's, not the rule policy's in its place.
Every policy meets the same seeds. ``brake`` slows down from the first moment on: who crashes even
so could do little. The world waits for a decision, as in DiLu. ``--vehicles 50`` is DiLu's own
road, slower by six. Figures that others published stand below for orientation: other seeds, older
versions of highway-env.
"""

import argparse
import csv
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.progress import track

from evaluation.highway import VEHICLES, Drive, run
from evaluation.policies import POLICIES, Policy, here, make
from evaluation.v2x_closed_loop import wilson
from pipeline.clock import WallClock

NAMES = ("idle", "brake", "ttc", "policy", "lookahead", "reasoner-10ms", "reasoner-33ms")
ROADS = ((4, 2.0), (4, 3.0), (5, 2.5), (5, 3.0))
PUBLISHED = (
    (
        "DiLu with GPT-4",
        "70 / – / 65 / 35",
        "Wen et al., arXiv 2309.16292, as wizwand.com lists it",
    ),
    ("the same, another paper's run", "93 / – / – / –", "wizwand.com's list"),
)
Task = tuple[str, int, float, int, int]
_made: dict[str, Policy] = {}


def _drive(task: Task) -> Drive:
    name, lanes, density, seed, vehicles = task
    if name not in _made:  # once a process
        _made[name] = make(name)
    return run(_made[name], lanes, density, seed, WallClock().now_ns, vehicles)


def row(name: str, lanes: int, density: float, drives: Sequence[Drive]) -> str:
    """One line of the table in Markdown."""
    n, through = len(drives), [d for d in drives if not d.crashed]
    low, high = wilson(len(through), n)
    speed = np.mean([d.mean_mps for d in through]) if through else np.nan
    p50, p99 = np.percentile(np.concatenate([d.took_ms for d in drives]), [50, 99])
    decisions, aside = np.mean([(d.decisions, d.lanes) for d in drives], axis=0)
    return (
        f"| {name} | {lanes}, {density:g} | {100 * len(through) / n:.0f} "
        f"({100 * low:.0f} to {100 * high:.0f}) | {speed:.1f} "
        f"| {decisions:.1f} | {aside:.1f} | {p50:.2f} / {p99:.2f} "
        f"| {100 * np.mean([d.by_model for d in drives]):.1f} |"
    )


def _road(text: str) -> tuple[int, float]:
    lanes, density = text.split("x")
    return int(lanes), float(density)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policies", default=",".join(here(NAMES)))
    parser.add_argument("--roads", type=_road, nargs="+", default=ROADS, metavar="LANESxDENSITY")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--vehicles", type=int, default=VEHICLES, help="others on the road")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="CSV file of all drives")
    args = parser.parse_args()
    names = args.policies.split(",")
    if not set(names) <= set(POLICIES):
        parser.error(f"--policies {args.policies}: known are {', '.join(POLICIES)}")
    if args.seeds < 1:
        parser.error("--seeds: give at least 1")
    seeds = range(args.first, args.first + args.seeds)
    tasks: list[Task] = [
        (n, *r, s, args.vehicles) for r in args.roads for n in names for s in seeds
    ]
    with get_context("spawn").Pool(args.jobs) as pool:
        done = pool.imap(_drive, tasks)
        drives = list(track(done, description="drives", total=len(tasks)))
    if args.out:
        with args.out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["policy", "lanes", "density", "seed", "crashed", "decisions", "mps"])
            for t, d in zip(tasks, drives, strict=True):
                writer.writerow([*t[:4], d.crashed, d.decisions, d.mean_mps])
    print(
        "| policy | lanes, density | success % | m/s | decisions | aside | decision ms p50 / p99 "
        "| by model % |"
    )
    print("| --- | --- | --- | ---: | ---: | ---: | --- | ---: |")
    for k in range(0, len(tasks), args.seeds):
        name, lanes, density = tasks[k][:3]
        print(row(name, lanes, density, drives[k : k + args.seeds]))
    print("\nPublished, success % at 4, 2.0 / 4, 3.0 / 5, 2.5 / 5, 3.0:")
    for name, figures, source in PUBLISHED:
        print(f"- {name}: {figures} ({source})")


if __name__ == "__main__":
    main()
