"""Any traffic behind the port, with UAVs of ours over it: the kinematic town, SUMO.

There are no pictures; a virtual camera's boxes come from geometry, houses and bodies in its way
included (bridges/view.py).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bridges.actors import Snapshot, TrafficWorld
from bridges.attached import Attached
from bridges.fleet import CONTROLS, SENSES, Fleet, fix, sensor_pose, upright
from bridges.odometry import odometry_of
from bridges.simulator import (
    Abilities,
    Control,
    Moment,
    Reading,
    Sensor,
    SensorKind,
    SimulatorError,
    Value,
    refuse_control,
    refuse_spawn,
)
from bridges.sumo import SumoConfig, SumoTraffic
from bridges.traffic import KinematicTraffic, TrafficConfig
from bridges.view import seen_boxes
from bridges.visibility import Visibility
from comms.geodesy import Origin
from pipeline.errors import InputError
from pipeline.objects import ObjectClass


class TrafficSimulator:
    """A ``TrafficWorld`` that ticks in its own steps, with UAVs that can be spawned over it.

    Every actor carries odometry, GNSS and boxes; UAVs an IMU as well.
    """

    abilities = Abilities(
        owns_clock=True,
        sensors=frozenset({SensorKind.BOXES}) | SENSES,
        spawns=frozenset({ObjectClass.UAV}),
        controls=CONTROLS,
    )

    def __init__(self, name: str, world: TrafficWorld, origin: Origin | None = None) -> None:
        """The world is closed with the simulator. origin: where on earth its origin lies."""
        self.name = name
        self._world = world
        self.step_ns = round(world.step_s * 1e9)
        self._origin = origin or Origin(48.0, 11.0, 0.0)
        self._fleet = Fleet(self._origin)
        self._visibility = Visibility(world.buildings)
        self._attached = Attached()
        self._frame = 0
        self._closed = False
        self._traffic = upright(0, world.snapshot())
        self.moment = self._moment()

    def tick(self) -> Moment:
        self._check()
        try:
            now = self._world.step()
        except InputError as error:
            raise SimulatorError(str(error)) from None
        self._frame += 1
        before, self._traffic = self._traffic, upright(self._frame, now)
        self._traffic.rates[:] = _rates(before.actors, now)
        self._fleet.step(self.step_ns, self.moment.stamp_ns)
        self.moment = self._moment()
        self._attached.read(self._frame, self.moment.stamp_ns, self._value)
        return self.moment

    def spawn(self, kind: ObjectClass, pose: np.ndarray, role: str = "") -> int:
        self._check()
        refuse_spawn(self, kind)
        number = self._fleet.spawn(pose, role)
        self.moment = self._moment()
        return number

    def listen(self, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        self._check()
        self.moment.actors.row(sensor.parent)
        if sensor.parent not in self._fleet:
            if sensor.kind is SensorKind.IMU:
                raise InputError(f"{sensor.name}: only UAVs that were spawned carry an IMU here")
            sensor_pose(sensor, np.eye(4), None)
        self._attached.add(self, sensor, receive)

    def apply(self, actor_id: int, control: Control) -> None:
        self._check()
        refuse_control(self, control)
        self._fleet.apply(actor_id, control)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._attached.clear()
            self._world.close()

    def _check(self) -> None:
        if self._closed:
            raise SimulatorError(f"{self.name} is closed; make a new one")

    def _moment(self) -> Moment:
        return self._fleet.moment(self._frame, self._traffic, self._traffic.stamp_ns)

    def _value(self, sensor: Sensor) -> Value | None:
        flown = self._fleet.read(sensor)
        if flown is not None:
            return flown
        found = np.flatnonzero(self.moment.actors.ids == sensor.parent)
        if not len(found):
            return None
        body = self.moment.poses[found[0]]
        craft = self._fleet.craft(sensor.parent) if sensor.parent in self._fleet else None
        pose = sensor_pose(sensor, body, craft)
        if sensor.kind is SensorKind.BOXES:
            return seen_boxes(self.moment, pose, sensor, self._visibility)
        if sensor.kind is SensorKind.GNSS:
            return fix(self._origin, pose[:3, 3])
        if sensor.kind is SensorKind.ODOMETRY:
            return odometry_of(sensor, self.moment)
        return None


def _rates(before: Snapshot, now: Snapshot) -> np.ndarray:
    """(N, 3) rad/s over the last step; 0 of who was not there before."""
    rates = np.zeros((len(now), 3))
    _, old, new = np.intersect1d(before.ids, now.ids, assume_unique=True, return_indices=True)
    turned = (now.yaws[new] - before.yaws[old] + np.pi) % (2 * np.pi) - np.pi
    rates[new, 2] = turned / ((now.stamp_ns - before.stamp_ns) * 1e-9)
    return rates


def town_simulator(config: TrafficConfig | None = None, seed: int = 0) -> TrafficSimulator:
    """The kinematic town; its own UAVs are left out.

    Raises:
        InputError: more vehicles than the streets hold.
    """
    config = replace(config or TrafficConfig(), uavs=0)
    return TrafficSimulator("the kinematic town", KinematicTraffic(config, seed))


def sumo_simulator(
    config: SumoConfig | None = None,
    seed: int = 0,
    scenario: Path | None = None,
    server: str = "",
) -> TrafficSimulator:
    """SUMO in this process, or by TraCI where a server, host:port, is given.

    Raises:
        InputError: SUMO is missing, busy, or refuses the scenario; or no SUMO answers.
    """
    config = replace(config or SumoConfig(), uavs=0)
    return TrafficSimulator("SUMO", SumoTraffic(config, seed, scenario, server))
