"""Traffic in CARLA: vehicles of its traffic manager, pedestrians that walk about."""

import sys
from typing import Any

import numpy as np

from bridges.carla_client import CarlaSession
from bridges.carla_vehicles import spawn_all, spawn_vehicles, vehicles_apart
from pipeline.errors import InputError

_RUNNING = 0.1
"""Share of pedestrians."""


def add_traffic(session: CarlaSession, synchronous: bool) -> None:
    """Spawn what the configuration asks for; fewer where the town has no more room, with a warning.

    Raises:
        InputError: the town has no place for any.
    """
    config = session.config
    rng = np.random.default_rng([config.seed, 0xCB])
    if config.vehicles:
        real = session.api is sys.modules.get("carla")
        (vehicles_apart if real else spawn_vehicles)(session, synchronous)
    if config.walkers:
        _walkers(session, rng)


def _walkers(session: CarlaSession, rng: np.random.Generator) -> None:
    config, api, world = session.config, session.api, session.world
    if hasattr(world, "set_pedestrians_seed"):
        session.call("seeding pedestrians", world.set_pedestrians_seed, config.seed)
    names = [n for n in sorted(session.blueprints) if n.startswith("walker.pedestrian.")]
    if not names:
        raise InputError("carla.walkers: this server has no pedestrians; give 0")
    orders, speeds = [], []
    for _ in range(config.walkers):
        place = session.call("asking for a place", world.get_random_location_from_navigation)
        if place is None:
            continue
        blueprint = session.blueprint(str(rng.choice(names)), is_invincible=False)
        speeds.append(_speed(blueprint, bool(rng.random() < _RUNNING)))
        orders.append(api.command.SpawnActor(blueprint, api.Transform(place)))
    ids = spawn_all(session, orders, config.walkers, "walkers")
    wits = session.blueprint("controller.ai.walker")
    for walker, speed in zip(ids, speeds, strict=True):
        if walker is None:
            continue
        body = session.ours[walker]
        guide = session.spawn(wits, api.Transform(), body)
        place = session.call("asking for a place", world.get_random_location_from_navigation)
        if guide is not None and place is not None:
            session.call("sending a pedestrian off", guide.start)
            session.call("sending a pedestrian off", guide.go_to_location, place)
            session.call("sending a pedestrian off", guide.set_max_speed, speed)


def _speed(blueprint: Any, runs: bool) -> float:
    if not blueprint.has_attribute("speed"):
        return 1.4
    speeds = list(blueprint.get_attribute("speed").recommended_values)
    return float(speeds[min(2 if runs else 1, len(speeds) - 1)]) if speeds else 1.4
