"""An ego that drives up to a crossing by what it knows, with V2X and without: what comes of it.

Every mode meets the same encounters (bridges/crossing.py) with the same driver
(bridges/driver.py), detections, pose errors and fortunes of the link; only what the ego is told,
and what it makes of it, differs. Own perception is always there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bridges.actors import Snapshot
from bridges.crossing import TTC_HORIZON_S, Crossing, CrossingConfig
from bridges.driver import EgoState, drive
from bridges.truth import true_objects
from bridges.visibility import Visibility
from comms.channel import ChannelConfig
from comms.config import V2xConfig
from evaluation.v2x_fleet import Fleet, Run
from evaluation.v2x_scenes import PLAN_S, Eye
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass, Objects

EVERY = 2
"""Steps of the scene to one of perception, messages and control."""
HARD_BRAKE, HARD_S = 5.5, 0.5
"""m/s² and s: braking harder and longer than that is an emergency; comfort is 4."""

NONE, ORACLE = "none", "oracle"
MODES = {
    "ours": V2xConfig(),
    "stale": V2xConfig(alignment="stale"),
    "etsi": V2xConfig(selector="etsi", content="cpm"),
    "etsi-stale": V2xConfig(selector="etsi", content="cpm", alignment="stale"),
    "send-all": V2xConfig(selector="send_all"),
}
"""What stations do; ``none`` and ``oracle`` have none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One encounter. ttc_s: the least time to collision, 0 in a collision. delay_s: against driving
    through freely; NaN: did not get through. brakes: emergency brakings. least_mps: the slowest
    speed. bytes_s: sent by each agent in a second, the signature and header included."""

    mode: str
    seed: int
    kind: str
    collision: bool
    ttc_s: float
    delay_s: float
    brakes: int
    least_mps: float
    bytes_s: float


ROW = np.dtype(
    [("seed", int), ("collision", bool), ("ttc_s", float), ("delay_s", float), ("brakes", int),
     ("bytes_s", float)]
)  # fmt: skip
Rows = npt.NDArray[np.void]
"""(seeds,) of ``ROW``: one mode's outcomes."""


@dataclass(frozen=True)
class Loop:
    """channel, pose_m, pose_deg, budget_bytes_s: of all modes with messages alike."""

    crossing: CrossingConfig = field(default_factory=CrossingConfig)
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    pose_m: float = 0.2
    pose_deg: float = 0.2
    budget_bytes_s: float = 20_000.0


class _Oracle:
    """Everybody, exactly and at once."""

    bytes_s = 0.0

    def __init__(self, scene: Crossing) -> None:
        self._ego = scene.ego_id

    def know(self, snapshot: Snapshot) -> Objects:
        """All but the ego."""
        return true_objects(snapshot.selected(snapshot.ids != self._ego))


class _Alone:
    """What the ego sees itself."""

    bytes_s = 0.0

    def __init__(self, scene: Crossing, seed: int) -> None:
        self._scene = scene
        self._eye = Eye(scene.ego_id, seed, Visibility(scene.buildings))

    def know(self, snapshot: Snapshot) -> Objects:
        """Its filter's objects."""
        way = self._scene.plan(self._scene.ego_id, PLAN_S)
        return self._eye.look(snapshot, way).own


class _Told:
    """What the ego sees, fused with what the other equipped ones tell."""

    def __init__(self, scene: Crossing, seed: int, run: Run) -> None:
        self._scene = scene
        s = scene.snapshot()
        agents = s.ids[s.equipped].tolist()
        visibility = Visibility(scene.buildings)
        self._eyes = {a: Eye(a, seed, visibility) for a in agents}
        self._fleet = Fleet(run, seed, agents)
        self._agent_s, self._stamp_ns = 0.0, s.stamp_ns

    def know(self, snapshot: Snapshot) -> Objects:
        """The ego's fused objects, about where it truly is: who steers by what it sees does not
        notice its pose's error; it moves only what others say."""
        scene, now_ns = self._scene, snapshot.stamp_ns
        present = set(snapshot.ids.tolist())
        views = {
            agent: eye.look(snapshot, scene.plan(agent, PLAN_S))
            for agent, eye in self._eyes.items()
            if agent in present
        }
        self._fleet.step(views, now_ns)
        self._agent_s += len(views) * (now_ns - self._stamp_ns) * 1e-9
        self._stamp_ns = now_ns
        ego = scene.ego_id
        fused = self._fleet.stations[ego].fused(now_ns, now_ns).objects
        return self._fleet.errors[ego].true_objects(fused, views[ego].pose)

    @property
    def bytes_s(self) -> float:
        """Sent by each agent."""
        return self._fleet.sent_bytes.total() / max(self._agent_s, 1e-9)


def encounter(mode: str, seed: int, loop: Loop) -> Outcome:
    """One encounter from its begin to a collision, the far side, or 40 s.

    Raises:
        InputError: SUMO is missing or busy.
    """
    config = loop.crossing
    scene = Crossing(seed, config)
    try:
        knowledge = _knowledge(mode, scene, seed, loop)
        speed, ttc_s, k, speeds = config.cruise_mps, TTC_HORIZON_S, 0, [config.cruise_mps]
        while True:
            if k % EVERY == 0:
                speed = _driven(knowledge.know(scene.snapshot()), scene, config.cruise_mps)
            moment = scene.step(speed)
            row = moment.snapshot.row(scene.ego_id)
            speeds.append(float(np.linalg.norm(moment.snapshot.velocities[row])))
            ttc_s, k = min(ttc_s, moment.ttc_s), k + 1
            if moment.over:
                break
        seconds = moment.snapshot.stamp_ns * 1e-9
        return Outcome(
            mode, seed, scene.kind, moment.collision, ttc_s,
            seconds - scene.free_s if moment.passed else float("nan"),
            hard_brakings(np.array(speeds), scene.step_s), min(speeds), knowledge.bytes_s,
        )  # fmt: skip
    finally:
        scene.close()


def _knowledge(mode: str, scene: Crossing, seed: int, loop: Loop) -> _Told | _Alone | _Oracle:
    if mode == NONE:
        return _Alone(scene, seed)
    if mode == ORACLE:
        return _Oracle(scene)
    config = replace(MODES[mode], budget_bytes_s=loop.budget_bytes_s)
    return _Told(scene, seed, Run(config, loop.channel, loop.pose_m, loop.pose_deg))


def _driven(objects: Objects, scene: Crossing, cruise_mps: float) -> float:
    s = scene.snapshot()
    row = s.row(scene.ego_id)
    state = EgoState(
        s.positions[row, :2], float(np.linalg.norm(s.velocities[row])), s.sizes[row, :2]
    )
    on_ground = objects.selected(objects.classes != ObjectClass.UAV)
    return drive(on_ground, state, scene.path, cruise_mps)


def hard_brakings(speeds: FloatArray, step_s: float) -> int:
    """How often (T,) speeds fall by more than ``HARD_BRAKE`` for at least ``HARD_S`` on end."""
    hard = -np.diff(speeds) / step_s > HARD_BRAKE
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hard.astype(np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    return int((lengths * step_s >= HARD_S - 1e-9).sum())


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    p = hits / of
    middle, half = p + z * z / (2 * of), z * np.sqrt(p * (1 - p) / of + (z / (2 * of)) ** 2)
    scale = 1 + z * z / of
    return max(float((middle - half) / scale), 0.0), min(float((middle + half) / scale), 1.0)


def mean_interval(values: FloatArray) -> tuple[float, float, float]:
    """Mean and its 95 % interval by bootstrap; NaN are left out. All NaN where nothing is left."""
    values = values[np.isfinite(values)]
    if not len(values):
        return (float("nan"),) * 3
    rng = np.random.default_rng(0)
    means = rng.choice(values, (4000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def by_mode(outcomes: Sequence[Outcome]) -> dict[str, Rows]:
    """Of each mode the same seeds, those that all have, in rising order."""
    modes = list(dict.fromkeys(o.mode for o in outcomes))
    found = {(o.mode, o.seed): o for o in outcomes}
    seeds = [s for s in sorted({o.seed for o in outcomes}) if all((m, s) in found for m in modes)]
    return {
        m: np.array([tuple(getattr(found[m, s], n) for n in ROW.names or ()) for s in seeds], ROW)
        for m in modes
    }


def summary(rows: dict[str, Rows]) -> list[str]:
    """Lines of a table in Markdown: each mode."""
    alone = rows.get(NONE)
    lines = [
        "| mode | collisions | share, Wilson | least TTC s | of those without a collision alone "
        "| delay s | emergency brakings | B/s/agent |",
        "| --- | ---: | --- | --- | --- | --- | ---: | ---: |",
    ]
    for mode, r in rows.items():
        hits, n = int(r["collision"].sum()), len(r)
        low, high = wilson(hits, n)
        easy = r["ttc_s"][~alone["collision"]] if alone is not None else np.zeros(0)
        sent = r["bytes_s"].mean()
        lines.append(
            f"| {mode} | {hits} of {n} | {hits / n:.3f} ({low:.3f} to {high:.3f}) "
            f"| {_shown(r['ttc_s'])} | {_shown(easy)} | {_shown(r['delay_s'])} "
            f"| {int((r['brakes'] > 0).sum())} | {sent:.0f} |"
        )
    return lines


def differences(rows: dict[str, Rows], to: str) -> list[str]:
    """Lines of a table in Markdown: each mode less another in the same encounters."""
    base = rows[to]
    lines = [
        f"| less `{to}` | collisions, share | least TTC s | delay s, where both got through |",
        "| --- | --- | --- | --- |",
    ]
    for mode, r in rows.items():
        if mode != to:
            hits = r["collision"].astype(float) - base["collision"]
            lines.append(
                f"| {mode} | {_shown(hits, 3)} | {_shown(r['ttc_s'] - base['ttc_s'])} "
                f"| {_shown(r['delay_s'] - base['delay_s'])} |"
            )
    return lines


def _shown(values: FloatArray, digits: int = 2) -> str:
    mean, low, high = mean_interval(values)
    if np.isnan(mean):
        return "–"
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
