"""Vehicles of CARLA's traffic manager, in a process of their own.

The manager's threads live in the client's process, and end it (``std::terminate``) as soon as the
server does not answer them. So it is a child that runs it; the one who ticks only meets it at its
port. ``python -m bridges.carla_vehicles`` is that child: it is told a configuration, says whom it
spawned, and goes on until its input ends.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import numpy as np

from bridges.carla_client import CarlaConfig, CarlaSession
from bridges.simulator import SimulatorError
from pipeline.errors import InputError, first_line

MAX_ANSWER = 1 << 16
_END_S = 1.5


def spawn_vehicles(session: CarlaSession, synchronous: bool) -> list[int]:
    """Vehicles that the traffic manager of this process drives; their ids.

    Raises:
        InputError: the town has no place for any.
    """
    config, command = session.config, session.api.command
    rng = np.random.default_rng([config.seed, 0xCA])
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
    return [i for i in spawn_all(session, orders, config.vehicles, "vehicles") if i is not None]


def spawn_all(session: CarlaSession, orders: list[Any], wished: int, what: str) -> list[int | None]:
    """Ids in the order of the orders; None: there was no room, which is a warning."""
    answers = session.call("spawning", session.client.apply_batch_sync, orders, False)
    ids = [int(a.actor_id) for a in answers if not a.has_error()]
    own(session, ids)
    if len(ids) < wished:
        session.warnings.append(f"carla.{what}: there was room for {len(ids)} of {wished}")
    there = [None if a.has_error() else int(a.actor_id) for a in answers]
    return [i if i in session.ours else None for i in there]


def own(session: CarlaSession, ids: list[int]) -> None:
    """Have them destroyed at the end."""
    for actor in session.call("asking who is there", session.world.get_actors, ids):
        session.own(actor)


def vehicles_apart(session: CarlaSession, synchronous: bool) -> None:
    """The same in a child.

    Raises:
        InputError: what the child says; or it says nothing in time.
    """
    told = json.dumps({"config": asdict(session.config), "synchronous": synchronous})
    child = subprocess.Popen(
        [sys.executable, "-m", "bridges.carla_vehicles", told],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    session.at_end(lambda: _end(child))
    answer = _answer(child, session.config.load_timeout_s)
    if "error" in answer:
        raise InputError(str(answer["error"]))
    session.warnings.extend(map(str, answer["warnings"]))
    own(session, [int(i) for i in answer["ids"]])
    # From here on ticks of ours are passed on to it.
    session.call(
        "meeting the traffic manager",
        session.client.get_trafficmanager,
        session.config.traffic_port,
    )


def _answer(child: "subprocess.Popen[bytes]", timeout_s: float) -> dict[str, Any]:
    assert child.stdout is not None
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        said = child.stdout.readline(MAX_ANSWER) if ready.select(timeout_s) else b""
    try:
        found = json.loads(said)
    except ValueError:
        raise SimulatorError(
            f"carla.vehicles: the traffic manager did not begin within {timeout_s:g} s; give "
            "another carla.traffic_port, or carla.vehicles: 0"
        ) from None
    return dict(found)


def _end(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError):
        if child.stdin is not None:
            child.stdin.close()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(_END_S)
    if child.stdout is not None:
        child.stdout.close()


def main(told: str) -> None:
    """The child."""
    given = json.loads(told)
    config = CarlaConfig(**{**given["config"], "town": ""})
    answer: dict[str, Any]
    session = None
    try:
        session = CarlaSession(config)
        begun = len(session.warnings)
        ids = spawn_vehicles(session, bool(given["synchronous"]))
        answer = {"ids": ids, "warnings": session.warnings[begun:]}
    except Exception as error:
        answer = {"error": first_line(error)}
    print(json.dumps(answer), flush=True)
    if "ids" in answer:
        sys.stdin.buffer.read()
    if session is not None:
        session.close()
    sys.stdout.flush()
    os._exit(0)  # the library's threads are not waited for


if __name__ == "__main__":
    main(sys.argv[1])
