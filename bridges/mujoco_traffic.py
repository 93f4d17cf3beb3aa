"""Who moves in the MuJoCo world, and its options."""

from dataclasses import dataclass

import numpy as np

from bridges.actors import Building, Snapshot, TrafficWorld
from bridges.mujoco_gl import BACKENDS
from bridges.roads import street_roads
from bridges.streets import houses, make_streets
from bridges.sumo import SumoConfig, SumoTraffic
from bridges.traffic import KinematicTraffic, TrafficConfig
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError

_PITCH_M = 90.0


@dataclass(frozen=True)
class MujocoConfig(Config):
    """The MuJoCo world's options."""

    seed: int = option(0, "Of town and traffic.", low=0, high=(1 << 31) - 1)
    rate_hz: float = option(25.0, "Ticks a second of simulation time.", low=10, high=100)
    traffic: str = option(
        "kinematic",
        "Who moves: kinematic needs nothing more, sumo needs the sumo extra, none: nobody.",
        choices=("kinematic", "sumo", "none"),
    )
    blocks: int = option(4, "Blocks along each side of the town.", low=2, high=8)
    vehicles: int = option(60, "Vehicles that drive.", low=1, high=400)
    people: int = option(24, "People on foot.", low=0, high=200)
    cyclists: int = option(8, "Cyclists; with SUMO, a share of the vehicles.", low=0, high=64)
    parked: int = option(90, "Parked vehicles; kinematic only.", low=0, high=400)
    trees: int = option(160, "Trees, at most.", low=0, high=2000)
    samples: int = option(
        0, "Samples to a pixel against jagged edges; 4 take three times as long.", low=0, high=8
    )
    gl: str = option("auto", "Library that draws without a display.", choices=BACKENDS)


class EmptyTown:
    """The kinematic town with nobody in it; ``TrafficWorld``."""

    def __init__(self, blocks: int, step_s: float, seed: int) -> None:
        streets = make_streets(blocks, _PITCH_M)
        self.step_s = step_s
        self.buildings: tuple[Building, ...] = houses(streets, np.random.default_rng(seed))
        self.roads = street_roads(streets)
        self._stamp_ns = 0

    def snapshot(self) -> Snapshot:
        none = np.zeros((0, 3))
        return Snapshot(
            self._stamp_ns, np.zeros(0, np.int32), np.zeros(0, np.uint8), none, none, np.zeros(0),
            none, np.zeros(0, bool),
        )  # fmt: skip

    def step(self) -> Snapshot:
        self._stamp_ns += round(self.step_s * 1e9)
        return self.snapshot()

    def plan(self, actor_id: int, horizon_s: float) -> tuple[FloatArray, FloatArray]:
        raise InputError(f"actor {actor_id} is not in the scene now: nobody is")

    def close(self) -> None:
        pass


def make_traffic(config: MujocoConfig) -> TrafficWorld:
    """The traffic that was asked for; it steps as often as the world ticks.

    Raises:
        InputError: SUMO is missing or busy, or more vehicles than the streets hold.
    """
    step_s = 1 / config.rate_hz
    if config.traffic == "none":
        return EmptyTown(config.blocks, step_s, config.seed)
    if config.traffic == "sumo":
        return SumoTraffic(
            SumoConfig(
                step_s=step_s, uavs=0, grid=config.blocks + 1, spacing_m=_PITCH_M,
                vehicles=config.vehicles, people=config.people,
                bicycles=min(0.3, config.cyclists / config.vehicles),
            ),
            config.seed,
        )  # fmt: skip
    return KinematicTraffic(
        TrafficConfig(
            step_s=step_s, blocks=config.blocks, pitch_m=_PITCH_M, vehicles=config.vehicles,
            people=config.people, cyclists=config.cyclists, parked=config.parked, uavs=0,
        ),
        config.seed,
    )  # fmt: skip
