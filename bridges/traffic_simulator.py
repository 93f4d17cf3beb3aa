"""Any traffic behind the port, with UAVs of ours over it: the kinematic town, SUMO.

There are no pictures; a virtual camera's boxes come from geometry, houses and bodies in its way
included (bridges/view.py).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bridges.actors import TrafficWorld
from bridges.fleet import CONTROLS, SENSES, fix, upright
from bridges.odometry import odometry_of
from bridges.own_simulator import OwnSimulator
from bridges.simulator import (
    Abilities,
    Moment,
    Reading,
    Sensor,
    SensorKind,
    Value,
)
from bridges.sumo import SumoConfig, SumoTraffic
from bridges.traffic import KinematicTraffic, TrafficConfig
from bridges.view import seen_boxes
from bridges.visibility import Visibility
from comms.geodesy import Origin
from pipeline.errors import InputError
from pipeline.objects import ObjectClass


class TrafficSimulator(OwnSimulator):
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
        self._origin = origin or Origin(48.0, 11.0, 0.0)
        super().__init__(self._origin)
        self.name = name
        self._traffic = world
        self.step_ns = round(world.step_s * 1e9)
        self._visibility = Visibility(world.buildings)
        self._own = upright(0, world.snapshot())
        self._begin()

    def listen(self, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        self._check()
        self.moment.actors.row(sensor.parent)
        if sensor.parent not in self._fleet:
            if sensor.kind is SensorKind.IMU:
                raise InputError(f"{sensor.name}: only UAVs that were spawned carry an IMU here")
            self._fleet.pose(sensor, self.moment)
        super().listen(sensor, receive)

    def close(self) -> None:
        if not self._closed:
            super().close()
            self._traffic.close()

    def _advance(self) -> None:
        self._own = upright(self._frame + 1, self._traffic.step(), self._own.actors)

    def _world(self) -> Moment:
        return self._own

    def _value(self, sensor: Sensor) -> Value | None:
        flown = self._fleet.read(sensor)
        if flown is not None:
            return flown
        pose = self._fleet.pose(sensor, self.moment)
        if pose is None:
            return None
        if sensor.kind is SensorKind.BOXES:
            return seen_boxes(self.moment, pose, sensor, self._visibility)
        if sensor.kind is SensorKind.GNSS:
            return fix(self._origin, pose[:3, 3])
        if sensor.kind is SensorKind.ODOMETRY:
            return odometry_of(sensor, self.moment)
        return None


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
