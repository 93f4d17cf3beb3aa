"""Milliseconds that the worlds of V2X scenes take: a step, a look, a detection.

    python -m benchmarks.v2x_scenes [--steps 300] [--scenario run.sumocfg]

The kinematic town, a grid of SUMO where that is installed, and a scenario of SUMO where one is
named. A look: the share of every actor that one observer sees within 100 m; free: the ground it
sees in 36 sectors; a detection: noise, misses and ghosts over that; a filter: its update.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bridges.actors import TrafficWorld
from bridges.sight import OwnSight, SightConfig
from bridges.sumo import SumoConfig, SumoTraffic
from bridges.traffic import KinematicTraffic
from bridges.visibility import Visibility, observer_of
from comms.motion import MetricFilter
from pipeline.errors import InputError

RANGE_M = 100.0
LOOKS = 40


def timed(call: Callable[[], object], into: list[float]) -> object:
    start = time.perf_counter()
    answer = call()
    into.append((time.perf_counter() - start) * 1e3)
    return answer


def row(name: str, world: TrafficWorld, steps: int) -> str:
    """One line of the table."""
    times: dict[str, list[float]] = {k: [] for k in ("step", "look", "free", "detect", "filter")}
    for _ in range(steps):
        timed(world.step, times["step"])
    visibility = Visibility(world.buildings)
    snapshot = world.snapshot()
    for actor in snapshot.ids[snapshot.equipped][:LOOKS].tolist():
        observer = observer_of(snapshot, actor, RANGE_M)
        sight, own = OwnSight(SightConfig(range_m=RANGE_M), 0, actor), MetricFilter()
        for _ in range(3):
            shares = visibility.shares(observer, snapshot)
            timed(lambda o=observer: visibility.shares(o, snapshot), times["look"])
            timed(lambda o=observer: visibility.free_space(o, snapshot), times["free"])
            seen = sight.detect(snapshot, shares)
            timed(lambda s=sight, p=shares: s.detect(snapshot, p), times["detect"])
            timed(lambda f=own, d=seen: f.observe(d.objects()), times["filter"])
    cells = [f"{np.median(t):.2f} ({np.quantile(t, 0.99):.2f})" for t in times.values()]
    return f"| {name} | {len(snapshot)} | {len(world.buildings)} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scenario", type=Path)
    args = parser.parse_args()
    print("| ms, median (p99) | actors | houses | step | look | free | detect | filter |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(row("kinematic town", KinematicTraffic(), args.steps))
    try:
        makers: list[tuple[str, Path | None]] = [("SUMO, grid", None)]
        if args.scenario:
            makers.append(("SUMO, scenario", args.scenario))
        for name, scenario in makers:
            world = SumoTraffic(SumoConfig(warm_up_s=60.0), scenario=scenario)
            print(row(name, world, args.steps))
            world.close()
    except InputError as error:
        print(f"\n{error}")


if __name__ == "__main__":
    main()
