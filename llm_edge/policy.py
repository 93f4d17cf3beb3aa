"""The rule policy: ready at once, and the judge of whatever a language model decides.

It lets everybody go on at constant velocity, looks when the ego would meet somebody, and then
slows down, evades or stops. Times are seconds, lengths along the way seconds at the speed limit,
across it corridors, as in ``llm_edge/coding.py``, but not rounded and for every object.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_edge.coding import BLIND, Measures, measures_of
from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source, check
from llm_edge.kinematics import STAND_OFF_S, driven, smooth
from llm_edge.scene import LinkState, Mission, Scene, TargetState
from pipeline.box import FloatArray
from pipeline.errors import InputError

HORIZON_S, TICK_S = 4.0, 0.2
SOON_S, NOW_S = 3.0, 1.5
"""A meeting before this makes the policy slow down, or evade and stop."""
MARGIN, MARGIN_S = 0.15, 0.05
REFUSED_S = 2.0
"""A decision that meets somebody sooner is refused where the policy's own would not."""
_TIMES = np.arange(0.0, HORIZON_S + TICK_S / 2, TICK_S)
_SIDES = {Direction.NONE: 0.0, Direction.LEFT: 1.0, Direction.RIGHT: -1.0}
OF_MISSION = {Action.FOLLOW: Mission.FOLLOW, Action.SEARCH: Mission.FOLLOW,
              Action.HOLD: Mission.HOLD}  # fmt: skip
"""Actions that only one mission has."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """in_s: seconds until the ego meets somebody, infinite for never. row: who, −1 for nobody."""

    in_s: float
    row: int


class Policy:
    """The rule for one scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._m: Measures = measures_of(scene)
        m = self._m
        where = np.concatenate([scene.positions, scene.blind])
        self._center = where[:, 0] / scene.platform.limit_mps
        self._solid = m.kind[0] != BLIND
        self._speed = float(m.speed[0])
        self._met: dict[tuple[Direction, float], Meeting] = {}

    def meeting(self, direction: Direction, speed_mps: float) -> Meeting:
        """When the ego meets somebody if it goes ``speed_mps``, straight on or a corridor aside.

        Between two times everybody goes straight, so that nobody is passed through however fast.
        """
        known = self._met.get((direction, speed_mps))
        if known is None:
            known = self._met[direction, speed_mps] = self._meeting(direction, speed_mps)
        return known

    def _meeting(self, direction: Direction, speed_mps: float) -> Meeting:
        m, side = self._m, _SIDES[direction]
        until_s = self._counts_until(side)
        rows = np.flatnonzero(until_s)
        if not len(rows):
            return Meeting(np.inf, -1)
        along, aside = self._way(side, speed_mps / self._scene.platform.limit_mps)
        x = self._center[rows, None] + m.along[0, rows, None] * _TIMES - along
        y = m.side[0, rows, None] + m.drift[0, rows, None] * _TIMES - aside
        reach_x = m.length_s[0, rows, None] / 2 + MARGIN_S
        reach_y = m.width[0, rows, None] / 2 + MARGIN
        touch = (np.abs(x) < reach_x) & (np.abs(y) < reach_y)
        hit = _sweeps(x, reach_x) & _sweeps(y, reach_y)
        hit[touch[:, 0], 0] = touch[touch[:, 0], 1]  # who touches already may also go away
        when = np.where(hit & (_TIMES[1:] <= until_s[rows, None]), _TIMES[1:], np.inf).min(axis=1)
        first = int(when.argmin())
        met = bool(np.isfinite(when[first]))
        return Meeting(float(when[first]), int(rows[first]) if met else -1)

    def _counts_until(self, side: float) -> FloatArray:
        """(N,) seconds up to which a meeting is the ego's to avoid: none with blind spots and with
        who comes from behind, who brakes, but for who is beside or close behind where the ego
        moves to and has no time to."""
        m = self._m
        behind = (m.gap_s[0] < 0) & (np.abs(m.drift[0]) < 0.3)
        beside = m.side[0] * side > m.width[0] / 2 + MARGIN
        until_s = np.where(behind, np.where(beside, NOW_S, 0.0), HORIZON_S + TICK_S)
        return np.where(self._solid, until_s, 0.0)

    def _way(self, side: float, aim: float) -> tuple[FloatArray, FloatArray]:
        """(T,) along and aside."""
        along = driven(self._speed, aim, float(self._m.stop_s[0]), _TIMES)
        return along, side * smooth(_TIMES / float(self._m.shift_s[0]))

    def decide(self, valid_until_ns: int) -> Decision:
        """The rule's decision."""
        s = self._scene
        action, target, direction, speed, reason = self._wish()
        meeting = self.meeting(direction, speed)
        if meeting.in_s > SOON_S:
            return Decision(action, target, direction, speed, Risk.NONE if meeting.row < 0 else
                            Risk.LOW, reason, valid_until_ns, Source.POLICY)  # fmt: skip
        risk = Risk.MEDIUM if meeting.in_s > NOW_S else Risk.HIGH
        who = int(s.ids[meeting.row])
        reason = self._against(meeting.row)
        limit = s.platform.limit_mps
        slower = min(max(s.speed_mps - 0.25 * limit, 0.0), limit)
        for side, pace in self._ways_out(speed, slower):
            if self.meeting(side, pace).in_s > SOON_S:
                if side is not Direction.NONE:
                    action = Action.EVADE
                elif pace == 0:
                    action = Action.STOP
                else:
                    action = Action.SLOW if pace < s.speed_mps else Action.PROCEED
                return Decision(action, who, side, pace, risk, reason, valid_until_ns,
                                Source.POLICY)  # fmt: skip
        return Decision(Action.STOP, who, Direction.NONE, 0.0, Risk.HIGH, Reason.NO_WAY,
                        valid_until_ns, Source.POLICY)  # fmt: skip

    def _ways_out(self, wished: float, slower: float) -> list[tuple[Direction, float]]:
        """What is tried in turn: as fast as now, aside, slower, to a stop."""
        s = self._scene
        now = min(s.speed_mps, wished) if wished else 0.0  # the wish is within the limit
        sides = [Direction.LEFT] * s.open_left + [Direction.RIGHT] * s.open_right
        return [(Direction.NONE, now), *((d, now) for d in sides), (Direction.NONE, slower),
                *((d, slower) for d in sides), (Direction.NONE, 0.0)]  # fmt: skip

    def _wish(self) -> tuple[Action, int | None, Direction, float, Reason]:
        """What the mission wants with nobody in the way."""
        s, limit = self._scene, self._scene.platform.limit_mps
        cruise = min(s.cruise_mps, limit)
        if s.mission is Mission.HOLD:
            return Action.HOLD, None, Direction.NONE, 0.0, Reason.CLEAR
        if s.mission is not Mission.FOLLOW or s.target_state is TargetState.NONE:
            cruise = self._careful(cruise)
            action = Action.SLOW if cruise < s.speed_mps - 0.06 * limit else Action.PROCEED
            return action, None, Direction.NONE, cruise, Reason.CLEAR
        where = np.flatnonzero(s.ids == s.target)
        if s.target_state is TargetState.LOST or not len(where):
            sides = {1: (Direction.LEFT, s.open_left), -1: (Direction.RIGHT, s.open_right)}
            direction, is_open = sides.get(s.target_side, (Direction.NONE, True))
            direction = direction if is_open else Direction.NONE
            return Action.SEARCH, None, direction, cruise / 2, Reason.TARGET_LOST
        row = int(where[0])
        gap = float(self._m.gap_s[0, row]) - STAND_OFF_S
        speed = float(np.clip(self._m.along[0, row] + gap / 2, 0.0, 1.0)) * limit
        return Action.FOLLOW, s.target, Direction.NONE, speed, Reason.TARGET

    def _careful(self, cruise: float) -> float:
        """Half as fast towards a blind spot while others are heard badly."""
        m, near = self._m, ~self._solid & (self._m.gap_s[0] > 0) & (np.abs(self._m.side[0]) < 2)
        near &= m.gap_s[0] < 1.5
        return cruise / 2 if near.any() and self._scene.link is not LinkState.GOOD else cruise

    def _against(self, row: int) -> Reason:
        m = self._m
        if self._scene.told[row]:
            return Reason.OCCLUDED
        if abs(m.drift[0, row]) >= 0.25:
            return Reason.CROSSING
        return Reason.ONCOMING if m.along[0, row] <= -0.12 else Reason.AHEAD

    def _against_mission(self, decision: Decision, own: Decision) -> str:
        s, action = self._scene, decision.action
        for one, mission in OF_MISSION.items():
            if action is one and s.mission is not mission:
                return f"{action} is not for the mission {s.mission.name.lower()}"
        if action is Action.FOLLOW and decision.target != s.target:
            return "follow is not about the mission's target"
        moves = s.mission is Mission.HOLD and decision.speed_mps > 0
        if moves and own.risk is Risk.NONE and decision.target is None:
            return "it shall hold and nobody makes it move"
        return ""

    def refuses(self, decision: Decision, own: Decision) -> str:
        """Why a decision is not acted upon; empty where it may be.

        own: the policy's for the same scene.
        """
        try:
            check(decision, self._scene)
        except InputError as error:
            return str(error)
        if against := self._against_mission(decision, own):
            return against
        s, direction = self._scene, decision.direction
        sides = {Direction.LEFT: s.open_left, Direction.RIGHT: s.open_right}
        if not sides.get(direction, True):
            return f"no way to the {direction}"
        meeting = self.meeting(direction, decision.speed_mps)
        if meeting.in_s < REFUSED_S and self.meeting(own.direction, own.speed_mps).in_s > max(
            meeting.in_s, NOW_S
        ):
            return f"would meet {int(s.ids[meeting.row])} in {meeting.in_s:.1f} s"
        return ""


def _sweeps(places: FloatArray, reach: FloatArray) -> npt.NDArray[np.bool_]:
    """(N, T - 1) whether (N, T) places come nearer to 0 than ``reach``, (N, 1), from one to the
    next."""
    low = np.minimum(places[:, :-1], places[:, 1:])
    high = np.maximum(places[:, :-1], places[:, 1:])
    return np.asarray((low < reach) & (high > -reach))
