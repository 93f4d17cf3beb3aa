"""CARLA behind the port: a town with traffic, UAVs of ours over it, vehicles and pedestrians.

A UAV is a craft of ours (bridges/fleet.py) whose cameras stand free in CARLA's world and are moved
with it before every tick. Written for 0.9.13 to 0.9.16 against CARLA's documentation, its Python
library and recordings of real servers.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from bridges import carla_frames
from bridges.actors import BODY
from bridges.attached import Attached
from bridges.carla_actors import class_of
from bridges.carla_cast import Cast
from bridges.carla_client import CarlaConfig, CarlaSession
from bridges.carla_geo import geo_frame_of
from bridges.carla_orders import carla_transform, order_of
from bridges.carla_sensors import CarlaSensors
from bridges.carla_traffic import add_traffic
from bridges.fleet import CONTROLS, SENSES, Fleet
from bridges.odometry import odometry_of
from bridges.simulator import (
    Abilities,
    Control,
    Drive,
    Fix,
    Moment,
    Place,
    Reading,
    Sensor,
    SensorKind,
    SimulatorError,
    Value,
    Walk,
    check_pose,
    refuse_control,
    refuse_sensor,
    refuse_spawn,
)
from bridges.view import seen_boxes
from bridges.visibility import Visibility
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

FAVORITES = (
    "vehicle.lincoln.mkz_2020", "vehicle.lincoln.mkz_2017", "vehicle.lincoln.mkz",
    "vehicle.tesla.model3",
)  # fmt: skip
"""Of CARLA's cars, which one is spawned."""
_CLEARANCE_M = 0.1
_LONGEST_NS = 1_000_000_000
"""That our craft fly in one tick, however far the clock that they follow went on."""


class CarlaSimulator:
    """A CARLA server; ids are its own.

    counts: ``foreign_ticks`` of other clients while the clock is ours, ``missed`` ticks while we
    follow, ``unflown_ms`` that their clock went on beyond what our craft fly in one tick (1 s),
    ``refused`` orders, ``unreadable`` readings, ``nonsense`` actors.
    session: the connection, for what the port has no word for. warnings: lines that a user should
    read. role_id: of ``carla.role``, 0: none.
    """

    name = "CARLA"

    def __init__(self, config: CarlaConfig | None = None, api: Any = None) -> None:
        """api: the ``carla`` module; None: it is imported.

        Raises:
            InputError: no library, no server, no such town or role.
        """
        self.config = config = config or CarlaConfig()
        self.counts: Counter[str] = Counter()
        self._ours: dict[int, ObjectClass] = {}
        self._roles: set[str] = set()
        self._pending: list[Any] = []
        self._geo: carla_frames.GeoFrame | None = None
        self._broken = ""
        self._follows = config.mode == "follow"
        self._attached = Attached()
        self._fleet = Fleet()
        self.session = session = CarlaSession(config, api)
        self.warnings = session.warnings
        try:
            self.step_ns = self._start()
            self._cast = Cast(session, self.counts)
            self._sensors = CarlaSensors(session, self.step_ns, self.counts)
            self.abilities = self._abilities()
            if config.vehicles or config.walkers:
                add_traffic(session, not self._follows)
            self._frame = -1
            self._world: Moment
            self.moment = self._merged(self._advance())
            self.role_id = self._find_role(config.role) if config.role else 0
        except BaseException:
            session.close()
            raise

    def tick(self) -> Moment:
        self._check()
        try:
            if self._follows:
                self._follow()
            else:
                self._fleet.step(self.step_ns, self.moment.stamp_ns)
                self._send()
                self._sensors.settle()
                self.moment = self._merged(self._advance())
                self._read()
        except SimulatorError as error:
            self._broken = str(error)
            raise
        return self.moment

    def spawn(self, kind: ObjectClass, pose: FloatArray, role: str = "") -> int:
        self._check()
        refuse_spawn(self, kind)
        if role and role in self._taken_roles():
            raise InputError(f"role {role:.64}: is taken already; give another one")
        if kind is ObjectClass.UAV:
            number = self._fleet.spawn(pose, role)
            self.moment = self._merged(self._world)
        else:
            number = self._spawn_body(kind, pose, role)
        self._roles.add(role)
        return number

    def listen(self, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        self._check()
        refuse_sensor(self, sensor, set())
        uav = sensor.parent in self._fleet
        if not uav:
            self.moment.actors.row(sensor.parent)
            if sensor.on_gimbal:
                raise InputError(f"{sensor.name}: actor {sensor.parent} has no gimbal")
        self._attached.add(self, sensor, receive)
        if not self._served(sensor):
            return
        first = self._frame + 1
        try:
            if uav:
                craft = self._fleet.craft(sensor.parent)
                self._sensors.attach(sensor, receive, first, craft, None, np.eye(4))
                return
            offset = self._cast.bodies[sensor.parent].offset
            self._sensors.attach(sensor, receive, first, None, self._actor(sensor.parent), offset)
        except BaseException:
            self._attached.remove(sensor.name)
            raise

    def apply(self, actor_id: int, control: Control) -> None:
        self._check()
        refuse_control(self, control)
        if actor_id in self._fleet:
            self._fleet.apply(actor_id, control)
            return
        kind = self._ours.get(actor_id)
        if kind is None:
            raise InputError(f"actor {actor_id} was not spawned here; it obeys nobody")
        obeys = (Walk, Place) if kind is ObjectClass.PERSON else (Drive, Place)
        if not isinstance(control, obeys):
            names = " and ".join(c.__name__ for c in obeys)
            raise InputError(f"a {kind.name} obeys {names}, not {type(control).__name__}")
        if actor_id not in self._new:
            self.moment.actors.row(actor_id)
        body = self._cast.bodies.get(actor_id)
        center = np.zeros(3) if body is None else body.center
        self._pending.append(order_of(self.session.api, actor_id, control, center))

    def close(self) -> None:
        self._broken = self._broken or f"{self.name} is closed; make a new one"
        self._attached.clear()
        self._sensors.stop()
        self.session.close()

    def _check(self) -> None:
        if self._broken:
            raise SimulatorError(self._broken)

    def _start(self) -> int:
        """Take the clock, or find out how fast another one goes; nanoseconds a tick."""
        session, config = self.session, self.config
        self._new: set[int] = set()
        others = session.settings
        if self._follows:
            if not config.rendering:
                session.apply_settings(no_rendering_mode=True)
            fixed = getattr(others, "fixed_delta_seconds", None)
            return round((fixed or config.step_s) * 1e9)
        if others.synchronous_mode:
            session.warnings.append(
                "CARLA is in synchronous mode already: another client may own its clock; "
                "carla.mode: follow leaves it to that one"
            )
        substeps = int(np.ceil(config.step_s / config.substep_s - 1e-9))
        session.apply_settings(
            synchronous_mode=True, fixed_delta_seconds=config.step_s,
            no_rendering_mode=not config.rendering, substepping=True,
            max_substep_delta_time=max(config.substep_s, config.step_s / 16),
            max_substeps=int(np.clip(substeps, 1, 16)), deterministic_ragdolls=True,
        )  # fmt: skip
        return round(config.step_s * 1e9)

    def _abilities(self) -> Abilities:
        kinds = {class_of(name, {}) for name in self.session.blueprints} - {None}
        spawns = {kind for kind in (ObjectClass.CAR, ObjectClass.PERSON) if kind in kinds}
        controls: set[type] = {*CONTROLS}
        controls |= {Drive} if ObjectClass.CAR in spawns else set()
        controls |= {Walk} if ObjectClass.PERSON in spawns else set()
        return Abilities(
            owns_clock=not self._follows,
            sensors=self._sensors.kinds | SENSES | {SensorKind.BOXES},
            spawns=frozenset({ObjectClass.UAV, *spawns}),
            controls=frozenset(controls),
        )

    def _advance(self) -> Moment:
        """One tick, ours or another client's."""
        session, world = self.session, self.session.world
        if self._follows:
            snapshot = session.call(
                "waiting for another client to tick", world.wait_for_tick, self.config.timeout_s
            )
        else:
            frame = session.call("ticking", world.tick, self.config.timeout_s)
            snapshot = self._snapshot(int(frame))
        self._count(int(snapshot.frame))
        self._world = self._cast.moment(snapshot)
        self._new.clear()
        return self._world

    def _snapshot(self, frame: int) -> Any:
        """The snapshot of a tick; it comes by another way than the tick's answer."""
        end = time.monotonic() + self.config.timeout_s
        while True:
            snapshot = self.session.call("reading the world", self.session.world.get_snapshot)
            if snapshot.frame >= frame:
                return snapshot
            if time.monotonic() > end:
                raise SimulatorError(
                    f"CARLA ticked frame {frame} but shows frame {snapshot.frame}: it does not "
                    "stream; look whether port + 1 is blocked"
                )
            time.sleep(0.001)

    def _count(self, frame: int) -> None:
        last, self._frame = self._frame, frame
        jump = frame - last if last >= 0 else 1
        if jump <= 0:
            raise SimulatorError(
                f"CARLA went back to frame {frame}: another client loaded the world anew; start "
                "again"
            )
        if jump == 1:
            return
        if self._follows:
            self.counts["missed"] += jump - 1
            return
        self.counts["foreign_ticks"] += jump - 1
        if self.config.other_ticker == "end":
            raise SimulatorError(
                f"CARLA went on {jump} frames in one tick of ours: another client ticks it too; "
                "end that one, or use carla.mode: follow"
            )

    def _follow(self) -> None:
        """What another client ticked; our craft are then sent where they are at its next tick."""
        before_ns = self.moment.stamp_ns
        self.moment = self._merged(self._advance())
        self._read()
        passed_ns = max(self.moment.stamp_ns - before_ns, 1)
        flown_ns = min(passed_ns, _LONGEST_NS)
        self.counts["unflown_ms"] += (passed_ns - flown_ns) // 1_000_000
        self._fleet.step(flown_ns, self.moment.stamp_ns)
        self._send()

    def _merged(self, world: Moment) -> Moment:
        return self._fleet.joined(world)

    def _send(self) -> None:
        orders = self._pending + self._sensors.orders(self._fleet.craft)
        self._pending = []
        if orders:
            answers = self.session.call(
                "sending orders", self.session.client.apply_batch_sync, orders, False
            )
            self.counts["refused"] += sum(bool(a.has_error()) for a in answers)

    def _served(self, sensor: Sensor) -> bool:
        """Whether the server reads it."""
        if sensor.kind is SensorKind.BOXES:
            return self._sensors.sees_depth
        if sensor.kind is SensorKind.IMU and sensor.parent in self._fleet:
            return False
        return sensor.kind in self._sensors.kinds

    def _read(self) -> None:
        """Hand out what is not the server's to say."""
        frame = self.moment.frame
        self._attached.read(frame, self.moment.stamp_ns, self._value)
        self._sensors.see(self.moment, self._pose_of)

    def _pose_of(self, sensor: Sensor) -> FloatArray | None:
        return self._fleet.pose(sensor, self.moment)

    def _value(self, sensor: Sensor) -> Value | None:
        pose = self._pose_of(sensor)
        if pose is None or sensor.name in self._sensors:
            return None
        if sensor.kind is SensorKind.GNSS:
            return Fix(*(float(v) for v in self._geo_frame().to_wgs84(pose[:3, 3])))
        if sensor.kind is SensorKind.BOXES:
            return seen_boxes(self.moment, pose, sensor, Visibility(()))
        own = self._fleet.read(sensor)
        if own is None and sensor.kind is SensorKind.ODOMETRY:
            return odometry_of(sensor, self.moment)
        return own

    def places(self) -> FloatArray:
        """(N, 4, 4) where the town has room for a vehicle, of its center.

        Raises:
            SimulatorError: the server does not answer.
        """
        self._check()
        town = self.session.call("asking for the map", self.session.world.get_map)
        given = [(p.location, p.rotation) for p in town.get_spawn_points()]
        at = np.array([(a.x, a.y, a.z) for a, _ in given]).reshape(-1, 3)
        turned = np.array([(r.pitch, r.yaw, r.roll) for _, r in given]).reshape(-1, 3)
        found = carla_frames.poses(at, turned)
        found[:, 2, 3] += BODY[ObjectClass.CAR][2] / 2
        return found

    def _geo_frame(self) -> carla_frames.GeoFrame:
        """Where on earth the map lies. North is our y, also where a version has it upside down."""
        if self._geo is None:
            session = self.session
            town = session.call("asking for the map", session.world.get_map)
            self._geo, warning = geo_frame_of(session.api, town)
            session.warnings.extend([warning] if warning else [])
        return self._geo

    def _taken_roles(self) -> set[str]:
        actors = self.session.call("asking who is there", self.session.world.get_actors)
        named = {str(dict(a.attributes).get("role_name", "")) for a in actors}
        return (named | self._roles) - {""}

    def _find_role(self, role: str) -> int:
        bodies = self._cast.bodies
        for actor_id, body in bodies.items():
            if body.role == role:
                self._ours[actor_id] = body.kind
                return actor_id
        known = ", ".join(sorted({b.role for b in bodies.values()} - {""})) or "none"
        raise InputError(f"carla.role {role:.64}: nobody has it; roles that are there: {known}")

    def _actor(self, actor_id: int) -> Any:
        found = list(
            self.session.call("asking who is there", self.session.world.get_actors, [actor_id])
        )
        if not found:
            raise InputError(f"actor {actor_id} is not in the scene now; ask for one of its ids")
        return found[0]

    def _spawn_body(self, kind: ObjectClass, pose: FloatArray, role: str) -> int:
        check_pose(pose, "spawn: pose")
        session = self.session
        names = [n for n in sorted(session.blueprints) if class_of(n, {}) is kind]
        name = next((n for n in FAVORITES if n in names), names[self.config.seed % len(names)])
        blueprint = session.blueprint(name, role_name=role or "leadsight")
        placed = pose.copy()
        if kind is not ObjectClass.PERSON:  # its origin lies on the ground, below its center
            placed[:3, 3] -= pose[:3, 2] * (BODY[kind][2] / 2 - _CLEARANCE_M)
        actor = session.spawn(blueprint, carla_transform(session.api, placed))
        if actor is None:
            x, y, z = pose[:3, 3]
            raise InputError(
                f"spawn: no room for a {kind.name} at {x:.1f}, {y:.1f}, {z:.1f}; give another place"
            )
        self._cast.learn(actor)
        self._ours[actor.id] = kind
        self._new.add(actor.id)
        return int(actor.id)
