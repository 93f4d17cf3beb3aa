"""Every simulator that the contract is held to, made small; skipped by name where it cannot run."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from bridges.carla_client import CarlaConfig
from bridges.carla_simulator import CarlaSimulator
from bridges.embedded import EmbeddedSimulator
from bridges.mujoco_simulator import MujocoSimulator
from bridges.mujoco_traffic import MujocoConfig
from bridges.recorder import RecorderSimulator
from bridges.scene import Scene
from bridges.simulator import Simulator, pose_of
from bridges.sumo import SumoConfig, SumoTraffic
from bridges.traffic import TrafficConfig
from bridges.traffic_simulator import sumo_simulator, town_simulator
from bridges.world import AerialWorld, WorldConfig
from evaluation.data import find_data
from pipeline.objects import ObjectClass
from tests.bridges import carla_logs
from tests.bridges.fake_carla import FakeCarla


@dataclass(frozen=True)
class Case:
    """make: of a seed. spawn_at: x, y, z m where there is room for what it can spawn.
    repeats: the same seed gives the same history."""

    make: Callable[[int], Simulator]
    spawn_at: tuple[float, float, float] = (0.0, 0.0, 40.0)
    repeats: bool = True


@cache
def _town(config: WorldConfig) -> Scene:
    return AerialWorld(config).scene


def _embedded(seed: int) -> Simulator:
    config = WorldConfig(seed=seed, width=320, height=240)
    return EmbeddedSimulator(config, _town(config))


def _kinematic(seed: int) -> Simulator:
    return town_simulator(TrafficConfig(blocks=2, vehicles=12, people=4, parked=6), seed)


def _sumo(seed: int) -> Simulator:
    pytest.importorskip("libsumo", reason="SUMO is not installed (the sumo extra)")
    return sumo_simulator(SumoConfig(grid=3, vehicles=12, people=3, warm_up_s=5.0), seed)


def _recorder(seed: int) -> Simulator:
    with TemporaryDirectory() as folder:  # a file stays readable while it is open
        path = Path(folder) / "synthetic.log"
        path.write_bytes(carla_logs.round_trip(12.0, seed))
        return RecorderSimulator(path)


def _recorder_genuine(seed: int) -> Simulator:
    path = find_data("data", "v2x", "carla_recorder", "DistanceBetweenVehicles.log")
    if path is None:
        pytest.skip("DistanceBetweenVehicles.log is not there: set LEADSIGHT_DATA")
    return RecorderSimulator(path)


def _mujoco(seed: int) -> Simulator:
    pytest.importorskip("mujoco", reason="MuJoCo is not installed (the sim extra)")
    config = MujocoConfig(
        seed=seed, rate_hz=12.5, blocks=2, vehicles=14, people=6, cyclists=2, parked=12, trees=9
    )
    return MujocoSimulator(config)


def _mujoco_sumo(seed: int) -> Simulator:
    pytest.importorskip("mujoco", reason="MuJoCo is not installed (the sim extra)")
    pytest.importorskip("libsumo", reason="SUMO is not installed (the sumo extra)")
    config = SumoConfig(
        grid=3, vehicles=14, people=6, warm_up_s=4.0, spacing_m=90.0, step_s=0.04, uavs=0
    )
    return MujocoSimulator(MujocoConfig(seed=seed, trees=9), SumoTraffic(config, seed))


def _carla_fake(seed: int) -> Simulator:
    fake = FakeCarla(v2x=True)
    return CarlaSimulator(CarlaConfig(port=fake.server.port, seed=seed, settle_s=0.0), fake)


def _carla_library(seed: int) -> Simulator:
    """The real library, against a server of ours that speaks its wire."""
    wire = real_library()()
    simulator = CarlaSimulator(CarlaConfig(port=wire.port, seed=seed))
    close = simulator.close

    def end() -> None:
        close()
        wire.close()

    simulator.close = end  # type: ignore[method-assign]
    return simulator


def real_library() -> Any:
    """``Wire``, where the library of CARLA that it speaks to is here."""
    pytest.importorskip("carla")
    pytest.importorskip("msgpack")
    from tests.bridges.wire_carla import LIBRARY, Wire

    here = metadata.version("carla")
    if here != LIBRARY:
        pytest.skip(f"carla {here} is here; the wire of {LIBRARY} is known")
    return Wire


def _carla(seed: int) -> Simulator:
    host = os.environ.get("CARLA_HOST")
    if not host:
        pytest.skip("no CARLA server: set CARLA_HOST (and CARLA_PORT)")
    pytest.importorskip("carla")
    port = int(os.environ.get("CARLA_PORT", "2000"))
    config = CarlaConfig(host=host, port=port, seed=seed, vehicles=10, timeout_s=20.0)
    return CarlaSimulator(config)


CASES: dict[str, Case] = {
    "embedded": Case(_embedded),
    "town": Case(_kinematic),
    "sumo": Case(_sumo),
    "recorder": Case(_recorder),
    "recorder_genuine": Case(_recorder_genuine, spawn_at=(75.0, -133.0, 40.0)),
    "mujoco": Case(_mujoco, (90.0, 90.0, 40.0)),
    "mujoco_sumo": Case(_mujoco_sumo, (90.0, 90.0, 40.0)),
    "carla_fake": Case(_carla_fake),
    "carla_library": Case(_carla_library),
    "carla": Case(_carla, repeats=False),
}


@contextmanager
def running(case: Case, seed: int = 0) -> Iterator[Simulator]:
    simulator = case.make(seed)
    try:
        yield simulator
    finally:
        simulator.close()


def carrier(case: Case, simulator: Simulator) -> int:
    """Somebody to carry sensors: a UAV where one can be spawned, else the first there is."""
    if ObjectClass.UAV in simulator.abilities.spawns:
        return simulator.spawn(ObjectClass.UAV, pose_of(np.array(case.spawn_at)), "carrier")
    return int(simulator.moment.actors.ids[0])
