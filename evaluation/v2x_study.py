"""The trade-off study: ways to communicate over the same scenes, condition by condition, paired."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bridges.actors import TrafficWorld
from bridges.sumo import SumoConfig, SumoTraffic
from bridges.traffic import KinematicTraffic, TrafficConfig
from comms.channel import ChannelConfig
from comms.config import SELECTORS, V2xConfig
from evaluation.v2x import Score, simulate
from evaluation.v2x_fleet import Run
from evaluation.v2x_scenes import Scene, record

ALIGNMENTS = ("stale", "floored", "predict", "oracle")
BUDGETS = (1_000.0, 5_000.0, 20_000.0, 100_000.0)
AS_CPM = "send_all as CPM"
"""Everything in the standard's own encoding: the plainest station that keeps to it."""
SOME = ("apc", "send_all", "etsi")
"""Selectors of the sweeps of delay, loss and pose; all of them meet every budget."""
STEP_S = 0.05
"""Half of what agents look in: what they make of it is used in between."""
SETTLE_STEPS = 200


@dataclass(frozen=True)
class Where:
    """The scenes. world: town, sumo, or a .sumocfg; seeds differ in traffic, pose and losses."""

    world: str
    seeds: tuple[int, ...]
    seconds: float = 8.0
    agents: int = 10
    egos: int = 3


@dataclass(frozen=True)
class Condition:
    """One row of a table. sweep, at: which one, and its place in it. selector: as the table names
    it. run: how."""

    sweep: str
    at: str
    selector: str
    run: Run


def base(selector: str, budget: float = 5_000.0, content: str = "compact") -> Run:
    """What every sweep leaves as it is: 150 ms, 10 % loss, poses off by 0.2 m and 0.2°."""
    config = V2xConfig(selector=selector, budget_bytes_s=budget, content=content)
    return Run(config, ChannelConfig(delay_ms=150, loss=0.1), 0.2, 0.2, ALIGNMENTS)


def conditions(sweeps: Iterable[str], selectors: Sequence[str] = SELECTORS) -> list[Condition]:
    """All rows of the named sweeps: budget, delay, loss, pose."""
    made: dict[str, Callable[[], Iterator[Condition]]] = {
        "budget": lambda: _budgets(selectors),
        "delay": lambda: _sweep("delay", selectors, _DELAYS),
        "loss": lambda: _sweep("loss", selectors, _LOSSES),
        "pose": lambda: _poses(selectors),
    }
    return [row for name in sweeps for row in made[name]()]


_DELAYS = {
    "0 ms": {"delay_ms": 0.0}, "50 ms": {"delay_ms": 50.0}, "100 ms": {"delay_ms": 100.0},
    "200 ms": {"delay_ms": 200.0}, "500 ms": {"delay_ms": 500.0},
    "150 ms, σ 0.8": {"delay_ms": 150.0, "delay_sigma": 0.8},
}  # fmt: skip
_LOSSES = {
    "0 %": {"loss": 0.0}, "10 %": {"loss": 0.1}, "30 %": {"loss": 0.3}, "90 %": {"loss": 0.9},
    "bursts": {"loss": 0.05, "burst_ms": 500.0, "gap_ms": 1500.0},
}  # fmt: skip
_POSES = ((0.0, 0.0), (0.2, 0.0), (0.5, 1.0), (1.0, 0.0), (0.2, 1.0), (0.2, 2.0), (1.0, 2.0))


def _budgets(selectors: Sequence[str]) -> Iterator[Condition]:
    for selector in selectors:
        for budget in BUDGETS:
            yield Condition("budget", _kilobytes(budget), selector, base(selector, budget))
    for budget in BUDGETS if "send_all" in selectors else ():
        yield Condition("budget", _kilobytes(budget), AS_CPM, base("send_all", budget, "cpm"))


def _kilobytes(budget: float) -> str:
    return f"{budget / 1000:g} kB/s"


def _sweep(
    name: str, selectors: Sequence[str], values: Mapping[str, Mapping[str, Any]]
) -> Iterator[Condition]:
    for selector in (s for s in SOME if s in selectors):
        for at, options in values.items():
            run = base(selector)
            yield Condition(
                name, at, selector, replace(run, channel=replace(run.channel, **options))
            )


def _poses(selectors: Sequence[str]) -> Iterator[Condition]:
    for selector in (s for s in SOME if s in selectors):
        for meters, degrees in _POSES:
            run = replace(base(selector), pose_m=meters, pose_deg=degrees)
            yield Condition("pose", f"{meters:g} m, {degrees:g}°", selector, run)


def make_world(name: str, seed: int) -> TrafficWorld:
    """A dense one of its kind.

    Raises:
        InputError: SUMO is missing, or refuses the scenario.
    """
    if name == "town":
        config = TrafficConfig(
            step_s=STEP_S, vehicles=70, cyclists=20, people=90, parked=110, equipped=0.15
        )
        town = KinematicTraffic(config, seed)
        for _ in range(SETTLE_STEPS):
            town.step()
        return town
    if name == "sumo":
        return SumoTraffic(SumoConfig(step_s=STEP_S, vehicles=160, people=160, equipped=0.15), seed)
    return SumoTraffic(SumoConfig(step_s=STEP_S, equipped=0.15), seed, Path(name))


@lru_cache(2)
def _scene(where: Where, seed: int) -> Scene:
    world = make_world(where.world, seed)
    try:
        return record(world, seed, where.seconds, where.agents, where.egos)
    finally:
        world.close()


def _work(job: tuple[Where, int, int, Condition]) -> tuple[int, int, dict[str, Score]]:
    where, seed, index, condition = job
    scores = simulate(_scene(where, seed), condition.run)
    return index, seed, {name: sum(s.values(), Score()) for name, s in scores.items()}


Results = dict[tuple[int, str], dict[int, Score]]
"""Of a condition's index and an alignment: each seed's score."""


def study(
    where: Where, rows: Sequence[Condition], jobs: int, step: Callable[[], None] = lambda: None
) -> Results:
    """Every condition over every scene; a scene stays with one process."""
    work = [(where, seed, k, row) for seed in where.seeds for k, row in enumerate(rows)]
    results: Results = {}
    with get_context("spawn").Pool(jobs) as pool:
        for index, seed, scores in pool.imap_unordered(_work, work, chunksize=len(rows)):
            for name, score in scores.items():
                results.setdefault((index, name), {})[seed] = score
            step()
    return results


def paired(
    first: dict[int, Score], second: dict[int, Score], seed: int = 0, draws: int = 2000
) -> tuple[float, float, float]:
    """Recall of the first less that of the second, and the bootstrap's 95 % over scenes."""
    seeds = sorted(first)
    counts = np.array(
        [[first[s].found, first[s].hidden, second[s].found, second[s].hidden] for s in seeds], float
    )
    rng = np.random.default_rng(seed)
    drawn = counts[rng.integers(0, len(seeds), (draws, len(seeds)))].sum(axis=1)
    each = drawn[:, 0] / np.maximum(drawn[:, 1], 1) - drawn[:, 2] / np.maximum(drawn[:, 3], 1)
    total = counts.sum(axis=0)
    mean = total[0] / max(total[1], 1) - total[2] / max(total[3], 1)
    low, high = np.percentile(each, [2.5, 97.5])
    return float(mean), float(low), float(high)


FIELDS = (
    "sweep", "at", "selector", "alignment", "recall", "recall_relevant", "precision", "error_m",
    "harm", "bytes_s", "payload_s", "header_s", "signature_s", "request_s", "gospa_m",
    "gospa_alone_m", "hidden",
)  # fmt: skip


def table(rows: Sequence[Condition], results: Results) -> list[dict[str, object]]:
    """One line a condition and alignment; before those of a sweep one of the egos alone."""
    lines: list[dict[str, object]] = []
    swept: set[str] = set()
    for (index, alignment), scores in sorted(results.items()):
        row, total = rows[index], sum(scores.values(), Score())
        kinds = {
            f"{k}_s": total.bytes[k] / max(total.agent_s, 1e-9)
            for k in ("payload", "header", "signature", "request")
        }
        frames = max(total.frames, 1)
        if row.sweep not in swept:
            swept.add(row.sweep)
            recall, relevant = total.alone
            lines.append(
                {
                    **dict.fromkeys(FIELDS, 0.0), "sweep": row.sweep, "at": "", "selector": "none",
                    "alignment": "", "recall": recall, "recall_relevant": relevant,
                    "gospa_m": total.gospa_alone / frames,
                    "gospa_alone_m": total.gospa_alone / frames, "hidden": total.hidden,
                }
            )  # fmt: skip
        lines.append(
            {
                "sweep": row.sweep, "at": row.at, "selector": row.selector, "alignment": alignment,
                "recall": total.recall, "recall_relevant": total.recall_wanted,
                "precision": total.precision, "error_m": total.error, "harm": total.harm,
                "bytes_s": total.bytes_s, **kinds, "gospa_m": total.gospa / frames,
                "gospa_alone_m": total.gospa_alone / frames, "hidden": total.hidden,
            }
        )  # fmt: skip
    return lines


def write_csv(lines: Sequence[dict[str, object]], path: Path) -> None:
    """All figures, for plots of one's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(lines)
