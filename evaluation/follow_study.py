"""Flights after a target by arm, added latency and seed; their table, plots and report page."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridges.embedded import EmbeddedSimulator
from bridges.follow import FollowConfig
from bridges.make_simulator import make_simulator
from bridges.scene import Scene
from bridges.simulator import Simulator
from bridges.world import AerialWorld, WorldConfig
from evaluation.follow_target import (
    ARMS,
    Flight,
    Outcome,
    PursuitConfig,
    choose_target,
)
from evaluation.page import COLORS, escaped, figure_of, number, render_page, section, table
from evaluation.pursuit_eyes import Eyes, NoisyTruth, TrackerEyes
from isp.config import IspConfig
from perception.tracker import TrackerConfig
from pipeline.config import Config
from prediction.ground_target import PREDICTOR
from prediction.predictor import PredictorConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORACLE = ARMS[-1]
EYES = ("truth", "tracker")
SAID = {
    "stale": "newest answer as if it were now, by the camera's attitude at its stamp",
    "at-use": "newest box as if seen now, by the camera's attitude of now",
    "forecast": "forecast for the moment when the command is obeyed",
    "oracle": "the truth of that moment, at once",
}
FOLLOW = FollowConfig(orbit_mps=8.0)
PURSUIT = PursuitConfig(fov_deg=12.0)


@dataclass(frozen=True)
class Study:
    """What is alike in all flights. world_config: of the world; None: its defaults.
    eyes: truth, with noise, or tracker."""

    world: str = "embedded"
    world_config: Config | None = None
    eyes: str = "truth"
    pursuit: PursuitConfig = PURSUIT
    follow: FollowConfig = FOLLOW
    predictor: PredictorConfig = PREDICTOR
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    isp: IspConfig = field(default_factory=IspConfig)


@dataclass(frozen=True)
class Case:
    """One flight."""

    arm: str
    added_ms: float
    seed: int


def cases(arms: Sequence[str], latencies_ms: Sequence[float], seed: int) -> list[Case]:
    """Of one seed. The oracle is flown once: no latency of what is seen touches it."""
    return [
        Case(arm, ms, seed) for arm in arms for ms in (latencies_ms if arm != ORACLE else (0.0,))
    ]


def flight_of(study: Study, case: Case, pictures: bool = False) -> Flight:
    """A flight, ready to be flown.

    Raises:
        InputError: the world cannot be made, or nobody drives in it.
    """
    simulator = _simulator(study, case.seed)
    try:
        target = choose_target(simulator, case.seed)
        eyes: Eyes
        if study.eyes == "tracker":
            eyes = TrackerEyes(target, study.tracker, study.isp)
        else:
            p = study.pursuit
            eyes = NoisyTruth(target, case.seed, p.center_noise, p.size_noise)
    except BaseException:
        simulator.close()
        raise
    pursuit = replace(study.pursuit, added_ms=case.added_ms)
    return Flight(
        simulator, target, eyes, case.arm, pursuit, study.follow, study.predictor, pictures
    )


def _simulator(study: Study, seed: int) -> Simulator:
    if study.world != "embedded":
        return make_simulator(study.world, study.world_config, seed)
    config = study.world_config or WorldConfig(occlusions=False)
    assert isinstance(config, WorldConfig)
    config = replace(config, seed=seed)
    return EmbeddedSimulator(config, _town(config))


@lru_cache(2)
def _town(config: WorldConfig) -> Scene:
    return AerialWorld(config).scene


# What came of it.

Results = Sequence[tuple[Case, Outcome]]


def _cell(results: Results, arm: str, added_ms: float) -> list[Outcome]:
    ms = 0.0 if arm == ORACLE else added_ms
    return [o for c, o in results if c.arm == arm and c.added_ms == ms]


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = np.nanquantile(np.array(values), (0.25, 0.5, 0.75)).tolist()
    return low, middle, high


def _axes_of(results: Results) -> tuple[list[str], list[float]]:
    arms = [a for a in ARMS if any(c.arm == a for c, _ in results)]
    late = {c.added_ms for c, _ in results if c.arm != ORACLE}
    return arms, sorted(late or {0.0})


HEADER = (
    "arm", "added ms", "flights", "pointing error ° (quartiles)", "time in view % (quartiles)",
    "target lost",
)  # fmt: skip


def rows(results: Results) -> list[tuple[str, ...]]:
    """The table's cells: median and quartiles over the flights of each arm and latency."""
    arms, latencies = _axes_of(results)
    lines: list[tuple[str, ...]] = []
    for arm in arms:
        for ms in latencies if arm != ORACLE else latencies[:1]:
            cell = _cell(results, arm, ms)
            error = _quartiles([o.error_deg for o in cell])
            view = _quartiles([100 * o.in_view for o in cell])
            lines.append(
                (
                    arm,
                    f"{ms:.0f}" if arm != ORACLE else "any",
                    f"{len(cell)}",
                    _shown(error, ".2f"),
                    _shown(view, ".0f"),
                    f"{sum(o.lost for o in cell)} of {len(cell)}",
                )
            )
    return lines


def _shown(values: tuple[float, float, float], form: str) -> str:
    low, middle, high = (number(v, form) for v in values)
    return f"{middle} ({low} to {high})"


def markdown(results: Results) -> str:
    """The table in Markdown."""
    head = "| " + " | ".join(HEADER) + " |\n| --- | ---: | ---: | --- | --- | ---: |\n"
    return head + "\n".join("| " + " | ".join(row) + " |" for row in rows(results))


def report(
    results: Results, study: Study, command: str, settings: dict[str, object], video: str = ""
) -> str:
    """The report page. video: the name of a video beside it, if there is one."""
    parts = [
        section(
            "Following by what is known late",
            table(HEADER, ([escaped(cell) for cell in row] for row in rows(results))),
            "Median over the flights, quartiles in parentheses. Pointing error: RMS angle between "
            "the camera's axis and the target while it was not lost. Lost: out of the picture for "
            f"{study.pursuit.lost_s:g} s on end; the rest of that flight counts as out of view. "
            + " ".join(f"<b>{a}</b>: {escaped(SAID[a])}." for a in _axes_of(results)[0]),
        ),
        section(
            "Against added latency",
            figure_of(9.0, 3.2, lambda figure: _plot(figure, results)),
            "Lines: medians, and shares of flights; bands: quartiles. The simulated latency is on "
            f"top of {study.pursuit.base_ms:g} ms; actuators take {study.pursuit.actuator_ms:g} ms "
            "more. Figures of a simulated world: the differences between arms are what they show.",
        ),
    ]
    if video:
        parts.append(
            section("One flight", f"<p><a href='{escaped(video)}'>{escaped(video)}</a></p>",
                    "Left flown by the stale arm, right by forecasts; same seed, same latency.")
        )  # fmt: skip
    return render_page("Following a target late", "".join(parts), settings, command)


def _plot(figure: "Figure", results: Results) -> None:
    arms, latencies = _axes_of(results)
    axes: Any = figure.subplots(1, 3)
    for arm, color in zip(ARMS, COLORS, strict=False):
        if arm not in arms:
            continue
        cells = [_cell(results, arm, ms) for ms in latencies]
        errors = np.array([_quartiles([o.error_deg for o in c]) for c in cells])
        views = np.array([_quartiles([100 * o.in_view for o in c]) for c in cells])
        lost = [100 * np.mean([o.lost for o in c]) for c in cells]
        dashes = "--" if arm == ORACLE else "-"  # it often lies on another line
        style: dict[str, Any] = {"color": color, "ls": dashes, "marker": "o", "markersize": 3}
        for ax, values in ((axes[0], errors), (axes[1], views)):
            ax.plot(latencies, values[:, 1], label=arm, **style)
            ax.fill_between(latencies, values[:, 0], values[:, 2], color=color, alpha=0.15, lw=0)
        axes[2].plot(latencies, lost, **style)
    titles = ("RMS pointing error, °", "time in view, %", "target lost, % of flights")
    for ax, title in zip(axes, titles, strict=True):
        _finish(ax, title)
    axes[0].legend()


def _finish(ax: "Axes", title: str) -> None:
    ax.set_title(title)
    ax.set_xlabel("added latency, ms")
    ax.set_ylim(bottom=0)


def write_report(path: Path, text: str) -> None:
    """Write the page and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
