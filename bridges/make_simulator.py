"""From a world's name to its simulator. What a world needs is imported when it is asked for."""

from collections.abc import Callable
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from bridges.simulator import Simulator
from pipeline.config import Config
from pipeline.errors import InputError

_MODULES = {
    "embedded": ("bridges.world", "WorldConfig"),
    "mujoco": ("bridges.mujoco_simulator", "MujocoConfig"),
    "sumo": ("bridges.sumo", "SumoConfig"),
    "town": ("bridges.traffic", "TrafficConfig"),
    "recorder": ("bridges.recorder", "RecorderConfig"),
    "carla": ("bridges.carla_simulator", "CarlaConfig"),
}
"""Where the options of each world are."""
WORLDS = tuple(_MODULES)


def config_class(world: str) -> type[Config]:
    """The options of a world.

    Raises:
        InputError: no such world.
    """
    if world not in WORLDS:
        raise InputError(f"world {world!r:.40}: give one of {', '.join(WORLDS)}")
    module, name = _MODULES[world]
    found: type[Config] = getattr(import_module(module), name)
    return found


def stage_of(world: str) -> str:
    """Under which name a world's options stand; the embedded one's are ``world.*`` everywhere."""
    return "world" if world == "embedded" else world


def make_simulator(
    world: str, config: Config | None = None, seed: int = 0, source: str = ""
) -> Simulator:
    """A simulator of the world.

    config: of ``config_class(world)``. seed: of its traffic, in place of the config's own, where it
    has one; 0: that stays.
    source: sumo: a .sumocfg, or host:port of a SUMO that runs; recorder: the file; else nothing.

    Raises:
        InputError: no such world, a library that it needs is missing, or it refuses its input.
    """
    config = config or config_class(world)()
    if seed and "seed" in {f.name for f in fields(config)}:  # type: ignore[arg-type]
        config = replace(config, seed=seed)  # type: ignore[type-var]
    if source and world not in ("sumo", "recorder"):
        raise InputError(f"source {source:.80}: {world} takes none; leave it away")
    made: Simulator = _MAKERS[world](config, seed, source)
    return made


def _embedded(config: Any, seed: int, source: str) -> Simulator:
    from bridges.embedded import EmbeddedSimulator

    return EmbeddedSimulator(config)


def _town(config: Any, seed: int, source: str) -> Simulator:
    from bridges.traffic_simulator import town_simulator

    return town_simulator(config, seed)


def _sumo(config: Any, seed: int, source: str) -> Simulator:
    from bridges.traffic_simulator import sumo_simulator

    if source and not source.endswith(".sumocfg") and ":" in source:
        return sumo_simulator(config, seed, server=source)
    return sumo_simulator(config, seed, Path(source) if source else None)


def _mujoco(config: Any, seed: int, source: str) -> Simulator:
    from bridges.mujoco_simulator import MujocoSimulator

    return MujocoSimulator(config)


def _recorder(config: Any, seed: int, source: str) -> Simulator:
    if not source:
        raise InputError("recorder: give the recording, a CARLA recorder's .log file")
    from bridges.recorder import RecorderSimulator

    return RecorderSimulator(Path(source), config)


def _carla(config: Any, seed: int, source: str) -> Simulator:
    from bridges.carla_simulator import CarlaSimulator

    return CarlaSimulator(config)


_MAKERS: dict[str, Callable[[Any, int, str], Simulator]] = {
    "embedded": _embedded,
    "mujoco": _mujoco,
    "sumo": _sumo,
    "town": _town,
    "recorder": _recorder,
    "carla": _carla,
}
