"""Who decides, by name: what turns a scene into a decision, for closed loops to compare."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from evaluation.decisions import by_look_ahead
from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source
from llm_edge.fast import shipped
from llm_edge.make_reasoner import STAGES, make_reasoner
from llm_edge.policy import Policy as RulePolicy
from llm_edge.scene import Mission, Scene
from pipeline.clock import WallClock
from pipeline.errors import InputError

Policy = Callable[[Scene], Decision]

VALID_NS = 1_000_000_000
TTC_S, GAP_S, REAR_S = 4.0, 1.0, 2.0
"""The TTC rule's: ahead, time to collision and headway; time to collision of who comes from behind
on the other lane."""


def decision(
    scene: Scene,
    action: Action,
    speed_mps: float,
    direction: Direction = Direction.NONE,
    reason: Reason = Reason.CLEAR,
    target: int | None = None,
) -> Decision:
    """A decision of a plain rule, the speed held within 0 to the limit."""
    speed = min(max(speed_mps, 0.0), scene.platform.limit_mps)
    risk = Risk.NONE if reason is Reason.CLEAR else Risk.MEDIUM
    until_ns = scene.at_ns + VALID_NS
    return Decision(action, target, direction, speed, risk, reason, until_ns, Source.POLICY)


def idle(scene: Scene) -> Decision:
    """Goes on as it goes: what the traffic alone makes of it."""
    return decision(scene, Action.PROCEED, scene.speed_mps)


def cruise(scene: Scene) -> Decision:
    """Does what the mission asks and looks at nothing."""
    hold = scene.mission is Mission.HOLD
    return decision(scene, Action.HOLD if hold else Action.PROCEED, scene.cruise_mps * (not hold))


def brake(scene: Scene) -> Decision:
    """Slows down from the first moment on: who meets somebody even so had little choice."""
    return decision(scene, Action.SLOW, 0.0)


def ttc_rule(scene: Scene) -> Decision:
    """Twenty lines: change corridors for who is met within 4 s or 1 s of headway, else brake."""
    own, width = scene.speed_mps, scene.platform.corridor_m
    x, y = scene.positions.T
    vx = scene.velocities[:, 0]
    gap = np.maximum(np.abs(x) - (scene.sizes[:, 0] + scene.platform.size_m[0]) / 2, 0.1)

    def free(side: int) -> tuple[bool, float, int | None]:
        """Whether a corridor can be gone along, the time to who is met in it, and who that is."""
        here = np.abs(y - side * width) < (scene.sizes[:, 1] + width) / 2
        front, rear = here & (x >= 0), here & (x < 0)
        closing = np.where(front, own - vx, vx - own)
        time = np.where(here & (closing > 0.1), gap / np.maximum(closing, 0.1), np.inf)
        braking = np.maximum(closing, 0.0) ** 2 / (2 * scene.platform.brake_mps2)
        near = front & ((time < TTC_S) | (gap - braking < GAP_S * own))
        beside = rear & ((time < REAR_S) | (gap < 0.3 * own))
        first = int(np.argmin(np.where(front, gap, np.inf))) if front.any() else None
        blocked = near.any() or (side != 0 and beside.any())
        return not blocked, float(np.where(front, time, np.inf).min(initial=np.inf)), first

    clear, _, who = free(0)
    if clear or who is None:
        return decision(scene, Action.PROCEED, scene.cruise_mps)
    target = int(scene.ids[who])
    for side, open_, name in (
        (1, scene.open_left, Direction.LEFT), (-1, scene.open_right, Direction.RIGHT),
    ):  # fmt: skip
        if open_ and free(side)[0]:
            return decision(scene, Action.EVADE, own, name, Reason.AHEAD, target)
    return decision(scene, Action.SLOW, float(vx[who]) - 2.0, reason=Reason.AHEAD, target=target)


def rule(scene: Scene) -> Decision:
    """The stack's own rule policy."""
    return RulePolicy(scene).decide(scene.at_ns + VALID_NS)


def looked_ahead(scene: Scene) -> Decision:
    """What the shipped decoder is taught, computed."""
    return by_look_ahead(scene, Source.POLICY)


class Reasoned:
    """The shipped reasoner, each time with so many milliseconds of real time."""

    def __init__(self, deadline_ms: float) -> None:
        self._clock = WallClock()
        self._reasoner = make_reasoner({name: cls() for name, cls in STAGES.items()}, self._clock)
        self._within_ns = round(deadline_ms * 1e6)

    def __call__(self, scene: Scene) -> Decision:
        return self._reasoner.decide(scene, self._clock.now_ns() + self._within_ns).decision


DEADLINES_MS = {f"reasoner-{ms}ms": float(ms) for ms in (5, 10, 33, 100)}
"""By the name of the policy."""
POLICIES: dict[str, Callable[[], Policy]] = {
    "idle": lambda: idle,
    "cruise": lambda: cruise,
    "brake": lambda: brake,
    "ttc": lambda: ttc_rule,
    "policy": lambda: rule,
    "lookahead": lambda: looked_ahead,
    **{name: partial(Reasoned, ms) for name, ms in DEADLINES_MS.items()},
}
"""Name to what makes one: a process calls it once."""


def here(names: Iterable[str]) -> list[str]:
    """Those of some policies that can be made: the reasoner needs its model."""
    try:
        shipped()
    except InputError:
        return [n for n in names if n not in DEADLINES_MS]
    return list(names)


def make(name: str) -> Policy:
    """
    Raises:
        InputError: no policy of that name.
    """
    if name not in POLICIES:
        raise InputError(f"policy {name[:40]!r} is none of {', '.join(POLICIES)}")
    return POLICIES[name]()
