"""Keeps what perception, others and the operator told last, and makes the present scene of it."""

from dataclasses import dataclass

import numpy as np

from llm_edge.order import Order
from llm_edge.scene import LinkState, Mission, Platform, TargetState
from llm_edge.scene_build import Built, Reach, Surroundings, build
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.objects import Objects
from pipeline.pose import Pose
from pipeline.tracks import Forecasts, ForecastStatus

SILENT_NS = 2_000_000_000
"""A latency report or a forecast older than this says nothing of now."""
GUESS_S = 2.0
"""A target that is lost is taken to have gone on for so long."""
POOR_NS = 500_000_000
"""Others heard of so late, or later, are heard badly."""
_STATES = {ForecastStatus.LOST: TargetState.LOST, ForecastStatus.STALE: TargetState.UNCERTAIN}


@dataclass(frozen=True)
class SourceConfig(Config):
    """What the vehicle can do, and what belongs into a scene."""

    limit_mps: float = option(10.0, "The most that it may drive or fly.", low=0.5, high=400)
    brake_mps2: float = option(4.0, "How hard it brakes.", low=0.05, high=100)
    shift_s: float = option(2.0, "In which it moves aside by a corridor.", low=0.1, high=60)
    corridor_m: float = option(3.0, "Width of its corridor: a lane.", low=0.2, high=100)
    length_m: float = option(0.8, "Its own length.", low=0.01, high=100)
    width_m: float = option(0.8, "Its own width.", low=0.01, high=100)
    range_m: float = option(120.0, "Objects within it, along and aside.", low=5, high=1000)
    clearance_m: float = option(5.0, "Above or below it nobody is in the way.", low=0.1, high=1e4)
    least_quality: float = option(0.2, "Objects less likely are left out.", low=0, high=1)
    silent_ms: float = option(1000.0, "Objects or a pose older than this are none: no decision.",
                              low=50, high=10_000)  # fmt: skip
    ahead_ms: float = option(20.0, "From a decision to the act, while no latency report tells.",
                             low=0, high=10_000)  # fmt: skip

    @property
    def platform(self) -> Platform:
        """What the vehicle can do."""
        size = self.length_m, self.width_m
        return Platform(self.limit_mps, self.brake_mps2, self.shift_s, self.corridor_m, size)

    @property
    def reach(self) -> Reach:
        """What belongs into a scene."""
        return Reach(self.range_m, self.clearance_m, self.least_quality)


class SceneSource:
    """Set ``pose``, ``path``, (K, 2) m or None, and ``order`` as they come."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._platform, self._reach = config.platform, config.reach
        self.order = Order(Mission.HOLD)  # nobody moves before it is told to
        self.reset()

    def reset(self) -> None:
        """Forget everything but the order: time jumped."""
        self.pose: Pose | None = None
        self.path: FloatArray | None = None
        self._objects: Objects | None = None
        self._seen_ns = 0
        self._forecasts: tuple[Forecasts, int] | None = None
        self._horizon: tuple[int, int] | None = None
        self._last: tuple[tuple[int, int], int, FloatArray, FloatArray] | None = None

    def see(self, objects: Objects, now_ns: int) -> None:
        """All objects as they will be at their stamp."""
        self._objects, self._seen_ns = objects, now_ns
        if self.order.target is None:
            return
        station, identity = self.order.target
        found = np.flatnonzero((objects.stations == station) & (objects.ids == identity))
        if len(found):
            k = found[0]
            place, velocity = objects.positions[k, :2].copy(), objects.velocities[k, :2].copy()
            self._last = self.order.target, objects.stamp_ns, place, velocity

    def expect(self, forecasts: Forecasts, consumer: str) -> None:
        """Of the tracks that the objects were made of; consumer: whose forecast counts.

        Raises:
            InputError: there is none for that consumer.
        """
        self._forecasts = forecasts, forecasts.of(consumer)

    def adjust(self, horizon_ns: int | None, now_ns: int) -> None:
        """How long after the acquisition of what it rests on a decision is acted on."""
        self._horizon = None if horizon_ns is None else (horizon_ns, now_ns)

    def built(self, now_ns: int, within_ns: int) -> Built:
        """The scene of the moment at which a decision that is asked for now will be used.

        within_ns: until the decision is there.

        Raises:
            InputError: no objects or no pose of late.
        """
        silent_ns = self._config.silent_ms * 1e6
        if self._objects is None or now_ns - self._seen_ns > silent_ns:
            raise InputError("no objects: does the v2x node run? Without them nothing is decided")
        if self.pose is None or abs(now_ns - self.pose.stamp_ns) > silent_ns:
            raise InputError("no odometry: without it nothing is decided")
        at_ns = now_ns + within_ns + round(self._config.ahead_ms * 1e6)
        if self._horizon is not None and now_ns - self._horizon[1] < SILENT_NS:
            newest = max(self._objects.measured_ns, default=self.pose.stamp_ns)
            at_ns = max(now_ns, int(newest) + self._horizon[0])
        around = Surroundings(
            self._target_state(now_ns), self._last_seen(at_ns), link_of(self._objects)
        )
        return build(self._objects, self.pose, self.path, self.order, self._platform, at_ns,
                     around, self._reach)  # fmt: skip

    def _target_state(self, now_ns: int) -> TargetState | None:
        """What the tracker says of an own target; None where it says nothing special."""
        if self._forecasts is None or self.order.target is None or self.order.target[0] != 0:
            return None
        forecasts, row = self._forecasts
        found = np.flatnonzero(forecasts.ids == self.order.target[1])
        if not len(found) or now_ns - forecasts.ready_ns > SILENT_NS:
            return None
        return _STATES.get(ForecastStatus(forecasts.status[row, found[0]]))

    def _last_seen(self, at_ns: int) -> FloatArray | None:
        if self._last is None or self._last[0] != self.order.target:
            return None
        _, stamp_ns, place, velocity = self._last
        return place + velocity * float(np.clip((at_ns - stamp_ns) * 1e-9, 0.0, GUESS_S))


def link_of(objects: Objects) -> LinkState:
    """How well others are heard, by how fresh what they tell is; LOST where they tell nothing."""
    told = objects.stations != 0
    if not told.any():
        return LinkState.LOST
    age_ns = objects.stamp_ns - int(np.median(objects.measured_ns[told]))
    return LinkState.POOR if age_ns >= POOR_NS else LinkState.GOOD
