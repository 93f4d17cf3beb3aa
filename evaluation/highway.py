"""A world that nobody here wrote: highway-env under the protocol of DiLu (Wen et al., ICLR 2024).

One decision a second, 30 of them, among other drivers (IDM, MOBIL) that react; success is no
crash. The meta-actions are highway-env's own: a lane to the left or right, one step faster or
slower among nine speeds of 5 to 32 m/s. The world waits while somebody decides, as in DiLu.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from evaluation.policies import Policy
from llm_edge.decision import Decision, Direction, Source
from llm_edge.scene import Mission, Platform, Scene
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

DECISIONS = 30
SPEEDS = np.linspace(5.0, 32.0, 9)
"""m/s that the meta-actions reach, one a decision."""
CRUISE_MPS = 30.0
RANGE_M = 120.0
LANE_M = 4.0
PLATFORM = Platform(
    limit_mps=32.0,
    brake_mps2=3.4,  # one step of speed a decision: 3.375 m/s in a second, measured
    shift_s=1.5,  # 3.8 m of 4 are done by then, measured
    corridor_m=LANE_M,
    size_m=(5.0, 2.0),
)
SIGMA_M = 0.1
VEHICLES = 15
"""Others on the road. DiLu's ``vehicle_count`` limits what is observed to 15; its road keeps
highway-env's 50, six times as slow: give ``vehicles`` 50 for that."""


class Highway:
    """One drive.

    Raises:
        InputError: highway-env is not installed, or a number of lanes, density or vehicles that
            makes no road.
    """

    def __init__(self, lanes: int, density: float, seed: int, vehicles: int = VEHICLES) -> None:
        if not 1 <= lanes <= 16 or not 0.1 <= density <= 10 or not 0 <= vehicles <= 500:
            raise InputError(
                f"highway: {lanes} lanes, density {density:g}, {vehicles} vehicles; give 1 to 16, "
                "0.1 to 10 and up to 500"
            )
        try:
            import gymnasium
            import highway_env  # noqa: F401  # registers highway-v0
        except ImportError:
            raise InputError(
                "highway-env is not installed: pip install 'leadsight[highway]'"
            ) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._gym: Any = gymnasium.make("highway-v0", config=_config(lanes, density, vehicles))
        self._gym.reset(seed=seed)
        self._env = cast(Any, self._gym.unwrapped)
        self._others: list[Any] = self._env.road.vehicles[:]
        self._others.remove(self._ego)
        self._lanes = lanes
        self.over = False

    @property
    def _ego(self) -> Any:
        return self._env.vehicle

    @property
    def crashed(self) -> bool:
        """Whether the ego has met somebody."""
        return bool(self._ego.crashed)

    @property
    def speed_mps(self) -> float:
        """The ego's along the road."""
        return float(self._ego.speed * math.cos(self._ego.heading))

    def scene(self) -> Scene:
        """What is within ``RANGE_M``, now. x along the road from the ego's middle, y to the left of
        the lane that it is bound for (highway-env's own y grows to the right)."""
        ego, lane = self._ego, self._ego.target_lane_index[2]
        middle = np.array([ego.position[0], lane * LANE_M])
        where = np.array([v.position for v in self._others]).reshape(-1, 2) - middle
        near = np.flatnonzero(np.abs(where[:, 0]) <= RANGE_M)
        headings = np.array([self._others[k].heading for k in near])
        speeds = np.array([self._others[k].speed for k in near])
        now_ns = round(self._env.time * 1e9)
        return Scene(
            at_ns=now_ns,
            seen_ns=now_ns,
            platform=PLATFORM,
            mission=Mission.GOTO,
            speed_mps=max(self.speed_mps, 0.0),
            cruise_mps=CRUISE_MPS,
            open_left=bool(lane > 0),
            open_right=bool(lane < self._lanes - 1),
            ids=near.astype(np.int32),
            classes=np.full(len(near), ObjectClass.CAR, np.uint8),
            told=np.zeros(len(near), np.bool_),
            positions=where[near] * [1.0, -1.0],
            velocities=np.stack([speeds * np.cos(headings), -speeds * np.sin(headings)], axis=1),
            sizes=_extents(headings),
            sigmas=np.full(len(near), SIGMA_M),
        )

    def meta_action(self, decision: Decision) -> int:
        """Index into highway-env's LANE_LEFT, IDLE, LANE_RIGHT, FASTER, SLOWER.

        A way aside comes first, since only one thing can be done a second. A speed is the nearest
        of the nine.
        """
        if decision.direction is not Direction.NONE:
            return 0 if decision.direction is Direction.LEFT else 2
        wanted = int(np.abs(SPEEDS - decision.speed_mps).argmin())
        aimed = int(self._ego.speed_index)
        if wanted == aimed:
            return 1
        return 3 if wanted > aimed else 4

    def apply(self, decision: Decision) -> None:
        """One second on."""
        *_, terminated, truncated, _ = self._gym.step(self.meta_action(decision))
        self.over = bool(terminated or truncated)

    def close(self) -> None:
        """Give the environment back."""
        self._gym.close()


def _config(lanes: int, density: float, vehicles: int) -> dict[str, Any]:
    return {
        "observation": {
            "type": "Kinematics",
            "features": ["presence", "x", "y", "vx", "vy"],
            "absolute": True,
            "normalize": False,
            "vehicles_count": 15,
            "see_behind": True,
        },
        "action": {"type": "DiscreteMetaAction", "target_speeds": SPEEDS},
        "lanes_count": lanes,
        "vehicles_count": vehicles,
        "other_vehicles_type": "highway_env.vehicle.behavior.IDMVehicle",
        "duration": DECISIONS,
        "vehicles_density": density,
        "initial_lane_id": None,
        "ego_spacing": 4,
        "policy_frequency": 1,
    }


def _extents(headings: FloatArray) -> FloatArray:
    """(N, 2) m along and across the road of cars, 5 m by 2 m."""
    along, across = np.abs(np.cos(headings)), np.abs(np.sin(headings))
    length, width = PLATFORM.size_m
    return np.stack([length * along + width * across, length * across + width * along], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """One seed. decisions: how many it took, 30 where it did not crash. lanes: how often it went
    aside. took_ms: (decisions,) of each decision. by_model: share of the decisions that a model
    made, not the rule policy in its place nor any other rule."""

    seed: int
    crashed: bool
    decisions: int
    mean_mps: float
    lanes: int
    took_ms: npt.NDArray[np.float64]
    by_model: float = 0.0


def run(
    policy: Policy,
    lanes: int,
    density: float,
    seed: int,
    now_ns: Callable[[], int],
    vehicles: int = VEHICLES,
) -> Drive:
    """Drive once. now_ns: read before and after each decision.

    Raises:
        InputError: as ``Highway``.
    """
    world = Highway(lanes, density, seed, vehicles)
    speeds: list[float] = []
    took: list[float] = []
    aside = by_model = 0
    try:
        while not world.over:
            scene = world.scene()
            started = now_ns()
            decided = policy(scene)
            took.append((now_ns() - started) * 1e-6)
            aside += decided.direction is not Direction.NONE
            by_model += decided.source is not Source.POLICY
            world.apply(decided)
            speeds.append(world.speed_mps)
        return Drive(
            seed, world.crashed, len(took), float(np.mean(speeds)), aside, np.array(took),
            by_model / len(took),
        )  # fmt: skip
    finally:
        world.close()
