"""A connection to a CARLA server that puts back what it changed, however it ends.

Nothing is pinned: what the library and the server can do is asked of them. Everything that waits
for the server is bounded by ``CarlaConfig.timeout_s``; what the library raises when the server does
not answer (a plain RuntimeError) becomes one line.
"""

import contextlib
import importlib
import socket
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from bridges.simulator import SimulatorError
from pipeline.config import Config, option
from pipeline.errors import InputError, first_line

MODES = ("synchronous", "follow")
KNOWN = ((0, 9, 13), (0, 9, 16))
"""First and last version that this was written for."""
_PROBE_S = 2.0
_CLOSE_CALL_S = 1.0
_CLOSE_S = 4.5


@dataclass(frozen=True)
class CarlaConfig(Config):
    """How CARLA is used."""

    host: str = option("127.0.0.1", "Where the server runs.")
    port: int = option(2000, "Its RPC port.", low=1, high=65535)
    timeout_s: float = option(4.0, "Longest wait for an answer of it.", low=0.1, high=300)
    load_timeout_s: float = option(60.0, "Longest wait for a town to load.", low=1, high=600)
    town: str = option("", "Map to load, as Town03; empty: the one that is there.")
    role: str = option("", "Role name of a vehicle of another client to control; empty: none.")
    mode: str = option(
        "synchronous",
        "synchronous: ticks of ours move the world; follow: those of another client, or its own.",
        choices=MODES,
    )
    step_s: float = option(0.05, "Seconds a tick, where it is ours.", low=0.002, high=0.1)
    substep_s: float = option(0.01, "Longest step of the physics.", low=0.001, high=0.05)
    seed: int = option(0, "Of traffic and of spawned vehicles' looks.", low=0, high=2**31 - 1)
    vehicles: int = option(0, "Vehicles of the traffic manager.", low=0, high=500)
    walkers: int = option(0, "Pedestrians that walk about.", low=0, high=500)
    traffic_port: int = option(8000, "Of the traffic manager.", low=1, high=65535)
    settle_s: float = option(
        0.2,
        "Pause before the first tick of a new sensor: the library subscribes to it by and by.",
        low=0,
        high=5,
    )
    rendering: bool = option(True, "Off: no cameras, and far faster.")
    occlusion: str = option(
        "depth",
        "What hides an actor in boxes: depth: whatever a depth camera sees; bodies: others only.",
        choices=("depth", "bodies"),
    )
    gyro_signs: str = option(
        "axial",
        "Signs of the IMU's gyroscope; `leadsight carla-doctor` measures them.",
        choices=("axial", "rotator"),
    )
    other_ticker: str = option(
        "count",
        "Where another client ticks too: count: go on and count; end: end with one line.",
        choices=("count", "end"),
    )


def load_api() -> Any:
    """The ``carla`` module.

    Raises:
        InputError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module("carla")
    except ImportError as error:
        raise InputError(
            f"carla: {first_line(error)}; pip install 'leadsight[carla]' (Python 3.10 to 3.12)"
        ) from None


def probe(host: str, port: int, timeout_s: float = _PROBE_S) -> None:
    """Whether anybody listens there: the library itself only finds out after its time-out.

    Raises:
        SimulatorError: nobody does.
    """
    try:
        socket.create_connection((host, port), min(timeout_s, _PROBE_S)).close()
    except OSError as error:
        raise SimulatorError(
            f"CARLA at {host}:{port}: {first_line(error)}; start the server (CarlaUE4.sh "
            "-RenderOffScreen), or give carla.host and carla.port"
        ) from None


def is_time_out(error: BaseException) -> bool:
    """Whether the library gave up waiting; it has no class of its own for that."""
    return "time-out" in str(error) or "timeout" in str(error)


class CarlaSession:
    """One client of a server.

    api: the module. client, world: its objects. warnings: lines that a user should read.
    client_version, server_version: as they say.
    """

    def __init__(self, config: CarlaConfig, api: Any = None) -> None:
        """
        Raises:
            InputError: no library, no server, or no such town.
        """
        self.config = config
        self.api = load_api() if api is None else api
        self.warnings: list[str] = []
        probe(config.host, config.port, config.timeout_s)
        self.client = self.call("connecting", self.api.Client, config.host, config.port)
        self.call("connecting", self.client.set_timeout, config.timeout_s)
        self._check_versions()
        self.world = self.call("asking for the world", self.client.get_world)
        self.settings = self.call("asking for settings", self.world.get_settings)
        self._undo = _Undo(self, self.settings)
        self._finalizer = weakref.finalize(self, self._undo.run)
        if config.town:
            self._load(config.town)
        self.call("asking for blueprints", self._ask_blueprints)

    def call(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the library.

        Raises:
            SimulatorError: it does not answer, or refuses.
        """
        try:
            return function(*arguments)
        except RuntimeError as error:
            self.refuse(what, error)

    def refuse(self, what: str, error: RuntimeError) -> NoReturn:
        """What the library raised, as one line.

        Raises:
            SimulatorError: always.
        """
        where = f"CARLA at {self.config.host}:{self.config.port}"
        if is_time_out(error):
            raise SimulatorError(
                f"{where}: no answer within {self.config.timeout_s:g} s while {what}: it died, "
                "hangs, or is slow; start it again, or raise carla.timeout_s"
            ) from None
        raise SimulatorError(f"{where}: {what}: {first_line(error)}") from None

    def apply_settings(self, **values: Any) -> None:
        """Change settings of the world, those that this version has; ``close`` puts them back."""
        settings = self.call("asking for settings", self.world.get_settings)
        for name, value in values.items():
            if hasattr(settings, name):
                setattr(settings, name, value)
        self._undo.changed = True
        self.call("changing settings", self.world.apply_settings, settings)

    def blueprint(self, name: str, **attributes: object) -> Any:
        """A blueprint with attributes set, those that it has.

        Raises:
            InputError: the server has no such blueprint.
        """
        if name not in self.blueprints:
            raise InputError(f"CARLA {self.server_version} has no {name}")
        found = self._library.find(name)
        for key, value in attributes.items():
            if found.has_attribute(key):
                text = str(value).lower() if isinstance(value, bool) else str(value)
                found.set_attribute(key, text)
        return found

    def spawn(self, blueprint: Any, transform: Any, parent: Any = None) -> Any:
        """An actor, or None where there is no room; ``close`` destroys it."""
        place = (blueprint, transform) if parent is None else (blueprint, transform, parent)
        actor = self.call("spawning", self.world.try_spawn_actor, *place)
        if actor is not None:
            self.own(actor)
        return actor

    def own(self, actor: Any) -> None:
        """An actor that ``close`` shall destroy; sensors and walkers' wits are stopped first."""
        self._undo.actors[actor.id] = actor

    def manage(self, traffic_manager: Any) -> None:
        """A traffic manager that waits for ticks until ``close``."""
        self._undo.manager = traffic_manager

    def at_end(self, end: Callable[[], None]) -> None:
        """What ``close`` shall do first, server or not; it must be quick."""
        self._undo.ends.append(end)

    @property
    def ours(self) -> dict[int, Any]:
        """Actors that ``close`` will destroy."""
        return self._undo.actors

    def close(self) -> None:
        """Put settings back, destroy our actors; bounded, also where the server is dead."""
        self._finalizer()

    def _check_versions(self) -> None:
        self.server_version = str(
            self.call("asking for its version", self.client.get_server_version)
        )
        self.client_version = str(
            self.call("asking for its version", self.client.get_client_version)
        )
        if self.server_version != self.client_version:
            self.warnings.append(
                f"CARLA's library is {self.client_version}, the server {self.server_version}: most "
                "of it works across versions; where it does not, install the server's own"
            )
        for who, said in (("library", self.client_version), ("server", self.server_version)):
            version = version_of(said)
            if version is None or not KNOWN[0] <= version <= KNOWN[1]:
                self.warnings.append(
                    f"CARLA's {who} is {said}; this was written for 0.9.13 to 0.9.16"
                )

    def _load(self, town: str) -> None:
        here = self.call("asking for the map", lambda: self.world.get_map().name)
        if _short(here) == _short(town):
            return
        maps = self.call("asking for maps", self.client.get_available_maps)
        if _short(town) not in {_short(m) for m in maps}:
            known = ", ".join(sorted({_short(m) for m in maps}))
            raise InputError(f"carla.town {town:.60}: the server has no such map; it has {known}")
        self.call("loading", self.client.set_timeout, self.config.load_timeout_s)
        self.world = self.call(f"loading {_short(town)}", self.client.load_world, _short(town))
        self.call("loading", self.client.set_timeout, self.config.timeout_s)
        self._undo.world = self.world

    def _ask_blueprints(self) -> None:
        self._library = self.world.get_blueprint_library()
        self.blueprints = {str(b.id) for b in self._library}


def version_of(text: str) -> tuple[int, ...] | None:
    """0.9.15 of 0.9.15, 0.9.15-12-g1a2b3c and the like; None: it says no number."""
    parts = text.split("-")[0].split(".")
    return tuple(map(int, parts[:3])) if len(parts) >= 3 and all(map(str.isdigit, parts)) else None


def _short(name: str) -> str:
    return str(name).rsplit("/", 1)[-1]


class _Undo:
    """What is to be put back. Holds no session, so that it outlives one that is dropped."""

    def __init__(self, session: CarlaSession, settings: Any) -> None:
        self.client, self.world, self.settings = session.client, session.world, settings
        self.changed = False
        self.actors: dict[int, Any] = {}
        self.manager: Any = None
        self.ends: list[Callable[[], None]] = []
        self._destroy = session.api.command.DestroyActor
        self._address = session.config.host, session.config.port
        self._dead = False

    def run(self) -> None:
        """Never longer than a few seconds, whatever the library does."""
        thread = threading.Thread(target=self._run, daemon=True, name="carla close")
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending and starts no thread any more
            self._run()
            return
        thread.join(_CLOSE_S)

    def _run(self) -> None:
        for end in self.ends:
            with contextlib.suppress(Exception):
                end()
        try:
            probe(*self._address, _CLOSE_CALL_S)
        except SimulatorError:
            return  # nothing is left that could be put back
        self._try(self.client.set_timeout, _CLOSE_CALL_S)
        for actor in self.actors.values():
            if hasattr(actor, "stop"):
                self._try(actor.stop)
        if self.manager is not None:
            self._try(self.manager.set_synchronous_mode, False)
        if self.changed:
            self._try(self.world.apply_settings, self.settings)
        if self.actors:
            # Those that came last go first: sensors before who carries them.
            orders = [self._destroy(i) for i in reversed(self.actors)]
            self._try(self.client.apply_batch_sync, orders, False)
        self.actors.clear()

    def _try(self, function: Callable[..., Any], *arguments: Any) -> None:
        if self._dead:
            return
        try:
            function(*arguments)
        except Exception as error:
            self._dead = is_time_out(error)
