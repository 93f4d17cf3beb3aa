"""Every simulator that the contract is held to, made small; skipped by name where it cannot run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from bridges.embedded import EmbeddedSimulator
from bridges.recorder import RecorderSimulator
from bridges.scene import Scene
from bridges.simulator import Simulator, pose_of
from bridges.world import AerialWorld, WorldConfig
from evaluation.data import find_data
from pipeline.objects import ObjectClass
from tests.bridges import carla_logs


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


CASES: dict[str, Case] = {
    "embedded": Case(_embedded),
    "recorder": Case(_recorder),
    "recorder_genuine": Case(_recorder_genuine, spawn_at=(75.0, -133.0, 40.0)),
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
