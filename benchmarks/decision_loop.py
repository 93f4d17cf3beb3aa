"""Decisions in a closed loop: what comes of a policy's driving in a small simulated world.

    python -m benchmarks.decision_loop [--kinds crossing] [--seeds 100] [--jobs 2] [--out runs.csv]

Five kinds of trouble (evaluation/decision_world.py): a target that is lost, others who cross,
things in the way, somebody behind a house whom others tell of, and the same where hardly a message
comes through. Collisions with Wilson's 95 % interval; near misses, within half a meter; the share
of the time in which a target was kept, elsewhere of the way that was covered in 30 s; mean speed;
seconds until the end, which a collision is as well; the share of decisions that are a model's, not
the rule policy's in its place. Those with 95 % intervals by bootstrap over the runs. Every row
meets the same worlds, decides five times a second and is obeyed after its delay: the reasoner's is
its deadline, that of all others ``--delay-ms``. ``policy, unheard``: without V2X. The others on the
road are simple: the differences between rows are what it shows.
"""

import argparse
import csv
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from evaluation.decision_loop import Outcome, run, summary
from evaluation.decision_world import KINDS
from evaluation.policies import DEADLINES_MS, POLICIES, Policy, here, make

NAMES = ("idle", "ttc", "policy", "lookahead", *DEADLINES_MS)
UNHEARD = "policy, unheard"
Task = tuple[str, str, int, float]
_made: dict[str, Policy] = {}


def _run(task: Task) -> Outcome:
    name, kind, seed, delay_ms = task
    policy = name.partition(",")[0]
    if policy not in _made:  # once a process
        _made[policy] = make(policy)
    return run(name, _made[policy], kind, seed, delay_ms, hears=name != UNHEARD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policies", default=",".join(here(NAMES)))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--delay-ms", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="CSV file of all runs")
    args = parser.parse_args()
    names, kinds = args.policies.split(","), args.kinds.split(",")
    if not set(names) <= set(POLICIES):
        parser.error(f"--policies {args.policies}: known are {', '.join(POLICIES)}")
    if not set(kinds) <= set(KINDS):
        parser.error(f"--kinds {args.kinds}: known are {', '.join(KINDS)}")
    if args.seeds < 1 or args.jobs < 1:
        parser.error("--seeds, --jobs: give at least 1")
    rows = [
        (name, kind, DEADLINES_MS.get(name, args.delay_ms))
        for kind in kinds
        for name in [*names, *([UNHEARD] if kind == "v2x-warning" and "policy" in names else [])]
    ]
    seeds = range(args.first, args.first + args.seeds)
    tasks: list[Task] = [(name, kind, s, delay) for name, kind, delay in rows for s in seeds]
    with get_context("spawn").Pool(args.jobs) as pool:
        done = pool.imap(_run, tasks, chunksize=4)
        outcomes = list(track(done, description="runs", total=len(tasks)))
    if args.out:
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(outcomes[0])))
            writer.writeheader()
            writer.writerows(map(asdict, outcomes))
    print("\n".join(summary(outcomes)))


if __name__ == "__main__":
    main()
