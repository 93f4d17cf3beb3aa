"""Recorded scenes for V2X: what every agent perceives at each moment, made once for all runs.

Perception is relative to where an agent truly stands; the error of its pose is laid on per run, so
that runs with other pose noise have the same detections.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bridges.actors import Snapshot, TrafficWorld
from bridges.sight import OwnSight, SightConfig
from bridges.truth import true_objects
from bridges.visibility import Visibility, observer_of
from comms.motion import MetricFilter
from comms.relevance import relevance
from comms.request import Plan, Sight
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

PERIOD_S = 0.1
PLAN_S = 6.0
PLAN_POINTS = 10


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One agent at one moment. own: filtered objects, in the true frame. truth: (N,) of own, whose
    they are; 0: nobody's. shares: (S,) how much it sees of each actor of the snapshot."""

    own: Objects
    truth: npt.NDArray[np.int32]
    pose: Pose
    plan: Plan | None
    sight: Sight
    shares: FloatArray


class Eye:
    """What one agent perceives and means to do, from moment to moment. Not thread-safe."""

    def __init__(
        self, agent: int, seed: int, visibility: Visibility, sight: SightConfig | None = None
    ) -> None:
        self._agent, self._visibility = agent, visibility
        self._config = sight or SightConfig()
        self._sight = OwnSight(self._config, seed, agent)
        self._filter = MetricFilter()
        self._truth: dict[int, int] = {}

    def look(self, snapshot: Snapshot, way: tuple[FloatArray, FloatArray]) -> View:
        """way: seconds from now and places, where the agent means to be.

        Raises:
            InputError: the agent is not in the scene now.
        """
        observer = observer_of(snapshot, self._agent, self._config.range_m)
        shares = self._visibility.shares(observer, snapshot)
        found = self._sight.detect(snapshot, shares)
        self._truth.update(zip(found.ids.tolist(), found.truth_ids.tolist(), strict=True))
        own = self._filter.observe(found.objects())
        truth = np.array([self._truth[i] for i in own.ids.tolist()], np.int32)
        free = self._visibility.free_space(observer, snapshot)
        return View(
            own, truth, found.pose, _plan(snapshot.stamp_ns, *way),
            Sight(found.pose.position[:2], free), shares,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """T moments of a world. agents: ids of those that take part. egos: those that are scored.
    views: of each moment, by agent; an agent that has left the scene is not in it. uses: the world
    when what is made of that moment is used."""

    seed: int
    snapshots: list[Snapshot]
    agents: list[int]
    egos: list[int]
    views: list[dict[int, View]]
    uses: list[Snapshot]


def record(
    world: TrafficWorld,
    seed: int,
    seconds: float,
    agents: int = 10,
    egos: int = 3,
    sight: SightConfig | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Scene:
    """Drive a world and look at it through the eyes of some of its equipped actors.

    agents: at most so many, the ones nearest to the first ego, so that they are in reach of each
    other. egos: of them, those nearest to it that drive. They look each ``PERIOD_S``, and what is
    made of it is used half a period later, where the world's step allows.
    """
    steps = max(1, round(PERIOD_S / world.step_s))
    snapshot = world.snapshot()
    chosen = _nearest(snapshot, agents)
    uav = {int(i) for i in snapshot.ids[snapshot.classes == ObjectClass.UAV]}
    scored = [a for a in chosen if a not in uav][:egos]
    visibility = Visibility(world.buildings)
    eyes = {a: Eye(a, seed, visibility, sight) for a in chosen}
    snapshots, views, uses = [], [], []
    for _ in range(round(seconds / PERIOD_S)):
        present = set(snapshot.ids.tolist())
        now = {
            a: eye.look(snapshot, world.plan(a, PLAN_S)) for a, eye in eyes.items() if a in present
        }
        snapshots.append(snapshot)
        views.append(now)
        for k in range(steps):
            if k == steps // 2:
                uses.append(snapshot)
            snapshot = world.step()
        progress()
    return Scene(seed, snapshots, chosen, scored, views, uses)


def _nearest(snapshot: Snapshot, agents: int) -> list[int]:
    equipped = np.flatnonzero(snapshot.equipped)
    driving = equipped[snapshot.classes[equipped] != ObjectClass.UAV]
    if not len(driving):
        return []
    # The first ego is one with many around it.
    apart = np.linalg.norm(snapshot.positions[driving][:, None] - snapshot.positions, axis=2)
    first = driving[np.argmax((apart < 60).sum(axis=1))]
    away = np.linalg.norm(snapshot.positions[equipped] - snapshot.positions[first], axis=1)
    return [int(i) for i in snapshot.ids[equipped[np.argsort(away)][:agents]]]


def _plan(stamp_ns: int, times: FloatArray, points: FloatArray) -> Plan:
    if len(times) > PLAN_POINTS:
        rows = np.linspace(0, len(times) - 1, PLAN_POINTS).round().astype(int)
        times, points = times[rows], points[rows]
    return Plan(stamp_ns, times, points)


@dataclass(frozen=True, slots=True, eq=False)
class PoseError:
    """By how much an agent believes to stand elsewhere: x, y in m and yaw in rad; and what it says
    of that, as sigmas."""

    x: float
    y: float
    yaw: float
    sigma_m: float
    sigma_rad: float

    @classmethod
    def drawn(cls, seed: int, agent: int, sigma_m: float, sigma_deg: float) -> "PoseError":
        """Constant over a run; one seed and agent draw the same numbers for any sigma."""
        x, y, yaw = np.random.default_rng([0x905E, seed, agent]).normal(size=3)
        rad = np.radians(sigma_deg)
        return cls(x * sigma_m, y * sigma_m, yaw * rad, sigma_m, rad)

    def to_believed(self, pose: Pose) -> tuple[FloatArray, FloatArray]:
        """Rotation (3, 3) and shift (3,) from the true frame to the one the agent believes in."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
        return R, pose.position + np.array([self.x, self.y, 0]) - R @ pose.position

    def pose(self, pose: Pose) -> Pose:
        R, shift = self.to_believed(pose)
        covariance = np.diag([self.sigma_m**2, self.sigma_m**2, 1e-4, self.sigma_rad**2])
        return replace(
            pose, position=R @ pose.position + shift, yaw=pose.yaw + self.yaw,
            velocity=R @ pose.velocity, covariance=covariance,
        )  # fmt: skip

    def objects(self, objects: Objects, pose: Pose) -> Objects:
        return _in_frame(objects, *self.to_believed(pose), self.yaw)

    def true_objects(self, objects: Objects, pose: Pose) -> Objects:
        """Back: what the agent believes, as it stands about where the agent truly is."""
        R, shift = self.to_believed(pose)
        return _in_frame(objects, R.T, -R.T @ shift, -self.yaw)

    def plan(self, plan: Plan, pose: Pose) -> Plan:
        R, shift = self.to_believed(pose)
        return replace(plan, points=plan.points @ R[:2, :2].T + shift[:2])

    def sight(self, sight: Sight, pose: Pose) -> Sight:
        """Sectors stay: a turn of a few degrees is less than one."""
        R, shift = self.to_believed(pose)
        return replace(sight, center=R[:2, :2] @ sight.center + shift[:2])


def _in_frame(objects: Objects, R: FloatArray, shift: FloatArray, turn: float) -> Objects:
    T = np.zeros((6, 6))
    T[:3, :3] = T[3:, 3:] = R
    return replace(
        objects, positions=objects.positions @ R.T + shift, velocities=objects.velocities @ R.T,
        yaws=objects.yaws + turn, covariances=T @ objects.covariances @ T.T,
    )  # fmt: skip


def relevant(snapshot: Snapshot, plan: Plan) -> FloatArray:
    """(N,) how near each actor comes to a plan as it truly moves now."""
    return relevance(true_objects(snapshot), plan, snapshot.stamp_ns)
