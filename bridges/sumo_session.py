"""libsumo's one simulation or a SUMO that runs elsewhere, and what moves in it as a snapshot.

SUMO gives a vehicle's front bumper and degrees clockwise from north; a snapshot has the body's
middle and radians counter-clockwise from east.
"""

import os
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from bridges.actors import Snapshot
from pipeline.box import FloatArray
from pipeline.errors import InputError, first_line
from pipeline.objects import ObjectClass

_CLASSES = {
    "bus": ObjectClass.BUS,
    "coach": ObjectClass.BUS,
    "truck": ObjectClass.TRUCK,
    "trailer": ObjectClass.TRUCK,
    "bicycle": ObjectClass.CYCLIST,
    "motorcycle": ObjectClass.MOTORCYCLE,
    "moped": ObjectClass.MOTORCYCLE,
    "pedestrian": ObjectClass.PERSON,
}
QUIET = ("--no-step-log", "--no-warnings", "--duration-log.disable")
_JUMP = 4.0
"""m/s: a middle that differs more from what SUMO says has changed lanes or was put elsewhere."""
_ANSWER_S = 4.0
"""Longest wait for one answer of a SUMO that runs elsewhere."""
_POSITION, _ANGLE, _SPEED = 0x42, 0x43, 0x40
"""TraCI's numbers of what is asked of everybody in every step."""
_INVALID = -1e6
"""SUMO puts what is nowhere farther out than that."""


def load_sumo() -> tuple[ModuleType, Path]:
    """The module libsumo and the folder of SUMO's programs.

    Raises:
        InputError: they are not installed.
    """
    try:
        import libsumo
        import sumo
    except ImportError as error:
        raise InputError(
            f"SUMO is not installed ({first_line(error)}): pip install 'leadsight[sumo]'"
        ) from None
    os.environ.setdefault("SUMO_HOME", str(sumo.SUMO_HOME))
    return libsumo, Path(sumo.SUMO_HOME) / "bin"


class SumoSession:
    """The one simulation of this process, and its folder for whatever SUMO writes."""

    _open = False

    def __init__(self) -> None:
        """
        Raises:
            InputError: SUMO is not installed, or another world is still open.
        """
        self.api, self.programs = load_sumo()
        if SumoSession._open:
            raise InputError("SUMO runs one simulation a process: close the other world first")
        SumoSession._open = self._mine = True
        self._folder = tempfile.TemporaryDirectory(prefix="leadsight-sumo-")
        self.folder = Path(self._folder.name)

    def run(self, program: str, *arguments: str) -> None:
        """One of SUMO's programs, to its end.

        Raises:
            InputError: it fails.
        """
        try:
            done = subprocess.run(
                [str(self.programs / program), *arguments],
                cwd=self.folder, capture_output=True, text=True, timeout=300,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(
                f"SUMO's program {program} does not run ({first_line(error)}): "
                "pip install --force-reinstall 'leadsight[sumo]'"
            ) from None
        if done.returncode:
            said = done.stderr.strip() or "it stops without a word: is the network whole?"
            raise InputError(f"{program} refuses this: {said.splitlines()[0]:.200}")

    def start(self, step_s: float, seed: int, *arguments: str) -> None:
        """Begin the simulation.

        Raises:
            InputError: SUMO refuses its input; it says why on its standard error.
        """
        try:
            self.api.start(
                ["sumo", *arguments, "--step-length", str(step_s), "--seed", str(seed), *QUIET]
            )
        except self.api.TraCIException as error:
            raise InputError(f"SUMO cannot run this ({first_line(error)})") from None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Round whatever asks or steps the simulation.

        Raises:
            InputError: SUMO gives up, for example over a route file that goes wrong later on.
        """
        try:
            yield
        except (self.api.TraCIException, self.api.FatalTraCIError) as error:
            raise InputError(f"SUMO stopped ({first_line(error)})") from None

    def step(self) -> None:
        """One step of the simulation.

        Raises:
            InputError: SUMO gives up.
        """
        with self.asking():
            self.api.simulationStep()

    def close(self) -> None:
        """End the simulation; a second time it does nothing."""
        if self._mine:
            SumoSession._open = self._mine = False
            with suppress(self.api.TraCIException, self.api.FatalTraCIError):
                self.api.close()
            self._folder.cleanup()


class SumoServer:
    """A SUMO that somebody started with ``--remote-port``, by TraCI. Its first client steps it.

    What it simulates is its own matter; it ends when the last client leaves, as SUMO does.
    """

    def __init__(self, address: str) -> None:
        """address: host:port.

        Raises:
            InputError: TraCI is not installed, no such address, or no SUMO answers there.
        """
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
            raise InputError(f"server {address!r:.80}: give host:port, as localhost:8813")
        try:
            import traci
        except ImportError as error:
            raise InputError(
                f"SUMO is not installed ({first_line(error)}): pip install 'leadsight[sumo]'"
            ) from None
        self._address, self._traci = address, traci
        default = socket.getdefaulttimeout()
        # TraCI has no time-outs of its own; probing the port first would be a client that leaves.
        socket.setdefaulttimeout(_ANSWER_S)
        try:
            self.api = traci.connect(int(port), numRetries=0, host=host)
            self.api.getVersion()
        except (OSError, traci.TraCIException, traci.FatalTraCIError, struct.error) as error:
            raise InputError(
                f"no SUMO answers at {address} ({first_line(error)}); start it there: sumo -c "
                f"FILE.sumocfg --remote-port {port}"
            ) from None
        finally:
            socket.setdefaulttimeout(default)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Round whatever asks or steps the simulation.

        Raises:
            InputError: it refuses something, ended, or does not answer within 4 s.
        """
        try:
            yield
        except (
            self._traci.TraCIException, self._traci.FatalTraCIError, OSError, struct.error,
        ) as error:  # fmt: skip
            raise InputError(
                f"SUMO at {self._address} stopped or does not answer ({first_line(error)}); "
                "start it again"
            ) from None

    def close(self) -> None:
        """Leave; a second time it does nothing."""
        with suppress(InputError), self.asking():
            self.api.close()


class SumoActors:
    """Vehicles and people of a simulation. They get numbers in order of appearance."""

    def __init__(
        self,
        api: Any,
        step_s: float,
        first_id: int,
        equipped: Callable[[int, str], bool],
        subscribes: bool = False,
    ) -> None:
        """equipped: whether the vehicle of that number and SUMO's name takes part in V2X.
        subscribes: SUMO sends along with each step what else would be asked one by one."""
        self._api, self._step_s, self._first_id, self._equipped = api, step_s, first_id, equipped
        self._subscribes = subscribes
        self.names: dict[int, str] = {}
        self.ids: dict[str, int] = {}
        self._bodies: dict[str, tuple[int, bool, tuple[float, float, float]]] = {}
        self._before = np.zeros(0, np.int32), np.zeros((0, 2))

    def read(self, stamp_ns: int) -> Snapshot:
        """Who is there now."""
        rows = []
        for domain in (self._api.vehicle, self._api.person):
            for name, x, y, degrees, speed in self._states(domain):
                if x > _INVALID:
                    kind, equipped, size = self._body(name, domain)
                    yaw = np.radians(90.0 - degrees)
                    rows.append((self.ids[name], kind, equipped, x, y, yaw, speed, *size))
        rows.sort()
        table = np.array(rows, float).reshape(-1, 10)
        ids, kinds, sizes = table[:, 0].astype(np.int32), table[:, 1].astype(np.uint8), table[:, 7:]
        yaws = (table[:, 5] + np.pi) % (2 * np.pi) - np.pi
        heading = np.stack([np.cos(yaws), np.sin(yaws)], axis=1)
        half = np.where(kinds == ObjectClass.PERSON, 0.0, sizes[:, 0] / 2)
        middles = table[:, 3:5] - half[:, None] * heading
        velocity = self._velocities(ids, middles, heading * table[:, 6:7])
        return Snapshot(
            stamp_ns, ids, kinds, np.column_stack([middles, sizes[:, 2] / 2]),
            np.column_stack([velocity, np.zeros(len(ids))]), yaws, sizes, table[:, 2] > 0,
        )  # fmt: skip

    def _states(self, domain: Any) -> Iterator[tuple[str, float, float, float, float]]:
        """Name, x, y, degrees and speed of each in a domain."""
        names = domain.getIDList()
        if not self._subscribes:
            for name in names:
                yield (
                    name, *domain.getPosition(name)[:2], domain.getAngle(name),
                    domain.getSpeed(name),
                )  # fmt: skip
            return
        said = domain.getAllSubscriptionResults()
        newcomers = [name for name in names if name not in said]
        for name in newcomers:
            domain.subscribe(name, (_POSITION, _ANGLE, _SPEED))
        if newcomers:
            said = domain.getAllSubscriptionResults()
        for name in names:
            values = said[name]
            yield name, *values[_POSITION][:2], values[_ANGLE], values[_SPEED]

    def _velocities(
        self, ids: npt.NDArray[np.int32], middles: FloatArray, said: FloatArray
    ) -> FloatArray:
        """(N, 2) of the middles over the last step; what SUMO says of the front of who jumped."""
        old = self._before
        if len(old[0]):
            row = np.minimum(np.searchsorted(old[0], ids), len(old[0]) - 1)
            moved = (middles - old[1][row]) / self._step_s
            steady = (old[0][row] == ids) & (np.abs(moved - said).max(axis=1) < _JUMP)
            said = np.where(steady[:, None], moved, said)
        self._before = ids, middles
        return said

    def _body(self, name: str, domain: Any) -> tuple[int, bool, tuple[float, float, float]]:
        """Class, equipment and size of an actor, asked for once."""
        if name not in self._bodies:
            number = self.ids[name] = self._first_id + len(self.ids)
            self.names[number] = name
            size = (domain.getLength(name), domain.getWidth(name), domain.getHeight(name))
            kind, equipped = ObjectClass.PERSON, False
            if domain is self._api.vehicle:
                kind = _CLASSES.get(domain.getVehicleClass(name), ObjectClass.CAR)
                equipped = self._equipped(number, name)
            self._bodies[name] = int(kind), equipped, size
        return self._bodies[name]
