"""Traffic in CARLA: vehicles of its traffic manager, pedestrians that walk about."""

from typing import Any

import numpy as np

from bridges.carla_client import CarlaSession
from pipeline.errors import InputError

_RUNNING = 0.1
"""Share of pedestrians that run, and of places where they cross the road."""


def add_traffic(session: CarlaSession, synchronous: bool) -> None:
    """Spawn what the configuration asks for; fewer where the town has no more room, with a warning.

    Raises:
        InputError: the town has no place for any.
    """
    config = session.config
    rng = np.random.default_rng([config.seed, 0xCA])
    if config.vehicles:
        _vehicles(session, rng, synchronous)
    if config.walkers:
        _walkers(session, rng)


def _vehicles(session: CarlaSession, rng: np.random.Generator, synchronous: bool) -> None:
    config, command = session.config, session.api.command
    manager = session.call(
        f"making a traffic manager at port {config.traffic_port} (carla.traffic_port)",
        session.client.get_trafficmanager, config.traffic_port,
    )  # fmt: skip
    if synchronous:
        session.call("making a traffic manager", manager.set_synchronous_mode, True)
        session.manage(manager)
    if hasattr(manager, "set_random_device_seed"):
        session.call("seeding traffic", manager.set_random_device_seed, config.seed)
    places = session.call("asking for the map", session.world.get_map).get_spawn_points()
    if not places:
        raise InputError("carla.vehicles: this town has no place for any; give 0")
    names = [
        name
        for name in sorted(session.blueprints)
        if name.startswith("vehicle.") and session.blueprint(name).has_attribute("number_of_wheels")
    ]
    drive = command.SetAutopilot(command.FutureActor, True, config.traffic_port)
    orders = []
    for row in rng.permutation(len(places))[: config.vehicles]:
        blueprint = session.blueprint(str(rng.choice(names)), role_name="autopilot")
        orders.append(command.SpawnActor(blueprint, places[row]).then(drive))
    _spawn(session, orders, config.vehicles, "vehicles")


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
    ids = _spawn(session, orders, config.walkers, "walkers")
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


def _spawn(session: CarlaSession, orders: list[Any], wished: int, what: str) -> list[int | None]:
    """Ids in the order of the orders; None: there was no room."""
    answers = session.call("spawning", session.client.apply_batch_sync, orders, False)
    ids = [int(a.actor_id) for a in answers if not a.has_error()]
    for actor in session.call("asking who is there", session.world.get_actors, ids):
        session.own(actor)
    if len(ids) < wished:
        session.warnings.append(f"carla.{what}: there was room for {len(ids)} of {wished}")
    there = [None if a.has_error() else int(a.actor_id) for a in answers]
    return [i if i in session.ours else None for i in there]
