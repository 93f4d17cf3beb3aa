"""Decisions in a closed loop: a policy drives through trouble on what it perceives and is told.

The vehicle decides five times a second on a scene of the moment at which the answer will be used,
which is ``delay_ms`` later; until then it does what was decided before. It keeps its platform's
limits: brakes as hard as it can, speeds up half as hard, moves aside by one corridor in its time.
"""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from evaluation.decision_senses import TICK_S, Senses, nanoseconds
from evaluation.decision_world import CRUISE, TARGET, World, world_of
from evaluation.policies import Policy
from evaluation.v2x_closed_loop import mean_interval, wilson
from llm_edge.decision import Decision, Direction, Source
from llm_edge.order import Order
from llm_edge.scene import Mission, Scene
from llm_edge.scene_build import Surroundings, build
from pipeline.box import FloatArray
from pipeline.pose import Pose

EVERY_S, LIMIT_S = 0.2, 30.0
NEAR_M = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. near: came within half a meter of somebody, without a collision. kept: share of the
    time in which the target was in view and near; elsewhere of the way that was covered. mean_mps:
    until the end, which is a collision, the way's end, or 30 s. seconds: until then. by_model:
    share of decisions that a model made, not the rule policy in its place nor any other rule."""

    policy: str
    kind: str
    seed: int
    collision: bool
    near: bool
    kept: float
    mean_mps: float
    seconds: float
    by_model: float = 0.0


class _Ego:
    """The vehicle. y: where it is, way_y: the middle of the corridor that it is bound for."""

    def __init__(self, world: World) -> None:
        self._platform = world.platform
        self.x = self.y = self.way_y = 0.0
        self.speed = self._aim = CRUISE * world.platform.limit_mps
        self._shift: tuple[float, float] = 0.0, np.inf
        """From y, and seconds since it began."""

    @property
    def place(self) -> FloatArray:
        return np.array([self.x, self.y])

    def obey(self, decision: Decision) -> None:
        self._aim = min(decision.speed_mps, self._platform.limit_mps)
        side = {Direction.LEFT: 1, Direction.RIGHT: -1}.get(decision.direction, 0)
        bound = self.way_y + side * self._platform.corridor_m
        if side and abs(bound) < 1.5 * self._platform.corridor_m:
            self.way_y, self._shift = bound, (self.y, 0.0)

    def is_open(self, side: int) -> bool:
        bound = self.way_y + side * self._platform.corridor_m
        return abs(bound) < 1.5 * self._platform.corridor_m

    def advance(self, dt: float) -> None:
        p = self._platform
        rate = p.brake_mps2 if self._aim < self.speed else p.brake_mps2 / 2
        after = self.speed + float(np.clip(self._aim - self.speed, -rate * dt, rate * dt))
        self.x += (self.speed + after) / 2 * dt
        self.speed = after
        start, since = self._shift
        share = min((since + dt) / p.shift_s, 1.0)
        self.y = start + (self.way_y - start) * share**2 * (3 - 2 * share)
        self._shift = start, since + dt


def _scene(world: World, ego: _Ego, senses: Senses, t: float, delay_s: float) -> Scene:
    p, order = world.platform, world.mission
    state, last = senses.target(t)
    follows = order is Mission.FOLLOW
    known = world.blind[world.blind[:, 0] > ego.x]
    blind = (known - [ego.x + ego.speed * delay_s, ego.way_y]).reshape(-1, 2)
    # It sees itself in the corridor that it is bound for, which is where it will be.
    pose = Pose(
        nanoseconds(t), np.array([ego.x, ego.way_y, 0.0]), 0.0, np.array([ego.speed, 0.0, 0.0])
    )
    return build(
        senses.objects(t), pose, None,
        Order(order, CRUISE * p.limit_mps, (0, TARGET) if follows else None, ego.is_open(1),
              ego.is_open(-1)),
        p, nanoseconds(t + delay_s), Surroundings(state, last, world.link, blind),
    ).scene  # fmt: skip


def run(
    name: str, policy: Policy, kind: str, seed: int, delay_ms: float = 0.0, hears: bool = True
) -> Outcome:
    """One run of a kind. name: of the policy, for the record. hears: others.

    Raises:
        InputError: no such kind.
    """
    world = world_of(kind, seed)
    if not hears:
        world = replace(world, loss=1.0)
    ego, senses = _Ego(world), Senses(world, seed)
    length, width = world.platform.size_m
    delay_s, coming = delay_ms * 1e-3, deque[tuple[float, Decision]]()
    t, near, collision, kept = 0.0, False, False, 0
    sources: list[Source] = []
    for k in range(round(LIMIT_S / TICK_S)):
        senses.watch(t, ego.place)
        if k % round(EVERY_S / TICK_S) == 0:
            scene = _scene(world, ego, senses, t, delay_s)
            coming.append((t + delay_s, policy(scene)))
            sources.append(coming[-1][1].source)
        now, end = t, t + TICK_S
        while coming and coming[0][0] < end:
            at, decision = coming.popleft()
            ego.advance(at - now)
            ego.obey(decision)
            now = at
        ego.advance(end - now)
        world.advance(t, TICK_S, ego.place, ego.speed)
        t = end
        gaps = np.abs(world.places - ego.place) - (world.sizes + [length, width]) / 2
        clearance = float(gaps.max(axis=1).min(initial=np.inf))
        moves = ego.speed > 0.5
        collision, near = clearance < 0, near or (clearance < NEAR_M and moves)
        if world.mission is Mission.FOLLOW:
            ahead = world.places[TARGET, 0] - ego.x
            kept += senses.in_view and 0 < ahead < 2.5 * world.platform.limit_mps
        if collision or ego.x >= world.length_m:
            break
    follows = world.mission is Mission.FOLLOW
    share = kept * TICK_S / LIMIT_S if follows else min(ego.x / world.length_m, 1.0)
    by_model = 1 - sources.count(Source.POLICY) / len(sources)
    return Outcome(
        name, kind, seed, collision, near and not collision, share, ego.x / t, t, by_model
    )


def summary(outcomes: list[Outcome]) -> list[str]:
    """Lines of a table in Markdown: each kind and policy, in the order of the outcomes."""
    lines = [
        "| kind | policy | collisions, Wilson | near misses | kept or covered | m/s | s "
        "| by model % |",
        "| --- | --- | --- | ---: | --- | --- | --- | ---: |",
    ]
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for o in outcomes:
        groups.setdefault((o.kind, o.policy), []).append(o)
    for (kind, policy), rows in groups.items():
        hits, n = sum(o.collision for o in rows), len(rows)
        low, high = wilson(hits, n)
        columns = [
            _shown([getattr(o, name) for o in rows], digits)
            for name, digits in (("kept", 2), ("mean_mps", 1), ("seconds", 1))
        ]
        lines.append(
            f"| {kind} | {policy} | {hits} of {n} ({low:.2f} to {high:.2f}) "
            f"| {sum(o.near for o in rows)} | {' | '.join(columns)} "
            f"| {100 * np.mean([o.by_model for o in rows]):.1f} |"
        )
    return lines


def _shown(values: list[float], digits: int) -> str:
    mean, low, high = mean_interval(np.array(values))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
