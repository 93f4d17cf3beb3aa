"""An ego that drives by what it knows up to crossings it cannot see into, on SUMO.

    python -m benchmarks.v2x_closed_loop [--seeds 60] [--delay-ms 100] [--out outcomes.csv]

Modes: what the ego sees itself (``none``); with messages of real stations, by selector and by what
the receiver does about delay (evaluation/v2x_closed_loop.py); everybody, exactly (``oracle``). Own
pose errors, losses, delays, detections and traffic are the same for all. Collisions with Wilson's
interval; the least time to collision, 0 in a collision; the delay against driving through freely,
of those that got through; encounters with an emergency braking. Other intervals are 95 % ones by
bootstrap over the encounters. Simulated traffic and a simple driver: the differences between modes
are what it shows.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from bridges.crossing import CrossingConfig
from comms.channel import ChannelConfig
from evaluation.v2x_closed_loop import (
    MODES,
    NONE,
    ORACLE,
    Loop,
    Outcome,
    by_mode,
    differences,
    encounter,
    summary,
)

Task = tuple[int, Sequence[str], Loop]


def _all_modes(task: Task) -> list[Outcome]:
    seed, modes, loop = task
    return [encounter(mode, seed, loop) for mode in modes]


def main() -> None:
    known = [NONE, *MODES, ORACLE]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--modes", default=",".join(known))
    parser.add_argument("--delay-ms", type=float, default=100.0)
    parser.add_argument("--loss", type=float, default=0.1)
    parser.add_argument("--budget", type=float, default=20_000.0, help="bytes a second and agent")
    parser.add_argument("--cruise", type=float, default=12.0, help="what the ego wishes, m/s")
    parser.add_argument("--spread", type=float, default=1.0, help="of the times of meeting, s")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="CSV file of all outcomes")
    args = parser.parse_args()
    modes = args.modes.split(",")
    if not set(modes) <= set(known):
        parser.error(f"--modes {args.modes}: known are {', '.join(known)}")
    loop = Loop(
        CrossingConfig(cruise_mps=args.cruise, spread_s=args.spread),
        ChannelConfig(delay_ms=args.delay_ms, loss=args.loss),
        budget_bytes_s=args.budget,
    )
    tasks: list[Task] = [(args.first + k, modes, loop) for k in range(args.seeds)]
    outcomes: list[Outcome] = []
    with get_context("spawn").Pool(args.jobs) as pool:  # SUMO: one simulation a process
        done = pool.imap(_all_modes, tasks)
        for some in track(done, description="encounters", total=len(tasks)):
            outcomes += some
    if args.out:
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(outcomes[0])))
            writer.writeheader()
            writer.writerows(map(asdict, outcomes))
    rows = by_mode(outcomes)
    against = [mode for mode in (NONE, "stale", "etsi") if mode in rows]
    tables = [summary(rows), *(differences(rows, mode) for mode in against)]
    print("\n\n".join("\n".join(lines) for lines in tables))


if __name__ == "__main__":
    main()
