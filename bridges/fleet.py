"""UAVs of ours in any world that has none: crafts, their bodies in the moment, their senses."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bridges.actors import BODY, Snapshot, joined
from bridges.flight import Craft, CraftModel, quaternion
from bridges.odometry import odometry_at
from bridges.simulator import (
    Aim,
    Control,
    Fix,
    Inertial,
    Moment,
    Place,
    Sensor,
    SensorKind,
    Value,
    Velocity,
    check_pose,
)
from comms.geodesy import Origin
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

FIRST_ID = 1 << 24
"""Ids of crafts begin here, above those of every world's own actors."""
MOST = 64
SENSES = frozenset({SensorKind.IMU, SensorKind.GNSS, SensorKind.ODOMETRY})
"""What a fleet answers itself."""
CONTROLS: frozenset[type] = frozenset({Velocity, Aim, Place})
LONGEST_ROLE = 64


@dataclass(slots=True)
class _Member:
    """inertial: what was felt on body and gimbal in the last ``kept`` ticks."""

    role: str
    craft: Craft
    inertial: deque[tuple[Inertial, Inertial]] = field(default_factory=deque)
    kept: int = 1


class Fleet:
    """The crafts of one simulator. origin: where on earth the world's origin lies."""

    def __init__(self, origin: Origin | None = None, model: CraftModel | None = None) -> None:
        self._origin = origin or Origin(48.0, 11.0, 0.0)
        self._model = model
        self._members: dict[int, _Member] = {}

    def spawn(self, pose: FloatArray, role: str = "") -> int:
        """A craft, its gimbal ahead and half a radian down.

        Raises:
            InputError: the role is taken, or too many crafts.
        """
        check_pose(pose, "spawn: pose")
        roles = {m.role for m in self._members.values()}
        free = (f"uav{k}" for k in range(len(roles) + 1, 2 * len(roles) + 2))
        role = role or next(name for name in free if name not in roles)
        if len(role) > LONGEST_ROLE:
            raise InputError(f"role: give at most {LONGEST_ROLE} characters")
        if role in roles:
            raise InputError(f"role {role}: is taken already; give another one")
        if len(self._members) >= MOST:
            raise InputError(f"spawn: {MOST} crafts fly already, which is the most")
        number = FIRST_ID + len(self._members)
        self._members[number] = _Member(role, Craft(pose, self._model))
        return number

    @property
    def crafts(self) -> list[Craft]:
        """All of them, in the order of their ids."""
        return [m.craft for m in self._members.values()]

    def __contains__(self, actor_id: int) -> bool:
        return actor_id in self._members

    def craft(self, actor_id: int) -> Craft:
        """
        Raises:
            InputError: no craft of that id.
        """
        if actor_id not in self._members:
            raise InputError(f"actor {actor_id} is no UAV that was spawned here")
        return self._members[actor_id].craft

    def apply(self, actor_id: int, control: Control) -> None:
        """
        Raises:
            InputError: no such craft, or a control that crafts do not obey.
        """
        if not isinstance(control, Velocity | Aim | Place):
            raise InputError(f"a UAV obeys Velocity, Aim and Place, not {type(control).__name__}")
        self.craft(actor_id).obey(control)

    def step(self, step_ns: int, begin_ns: int) -> None:
        """Fly on from simulation time ``begin_ns``."""
        for member in self._members.values():
            member.inertial.append(member.craft.step(step_ns, begin_ns))
            while len(member.inertial) > member.kept:
                member.inertial.popleft()

    def joined(self, world: Moment) -> Moment:
        """The world's own actors and the crafts together."""
        ids = np.array([*self._members], np.int32)
        crafts = self.crafts
        n = len(crafts)
        poses = np.array([c.pose for c in crafts]).reshape(n, 4, 4)
        actors = Snapshot(
            world.stamp_ns, ids, np.full(n, ObjectClass.UAV, np.uint8), poses[:, :3, 3].copy(),
            np.array([c.velocity for c in crafts]).reshape(n, 3),
            np.array([c.yaw for c in crafts]).reshape(n),
            np.tile(BODY[ObjectClass.UAV], (n, 1)), np.ones(n, bool),
        )  # fmt: skip
        rates = np.array([c.rates for c in crafts]).reshape(n, 3)
        return merged(world, Moment(world.frame, actors, poses, rates))

    def pose(self, sensor: Sensor, moment: Moment) -> FloatArray | None:
        """(4, 4) sensor to world, whoever carries it; None: its carrier is gone.

        Raises:
            InputError: it hangs in a gimbal, on somebody without one.
        """
        row = np.flatnonzero(moment.actors.ids == sensor.parent)
        if not len(row):
            return None
        member = self._members.get(sensor.parent)
        return sensor_pose(sensor, moment.poses[row[0]], member.craft if member else None)

    def read(self, sensor: Sensor) -> Value | None:
        """What a sense of a craft says; None: of another kind, or no craft of ours.

        An IMU feels what the craft's middle does, whatever its mount's arm.
        """
        member = self._members.get(sensor.parent)
        if member is None or sensor.kind not in SENSES:
            return None
        craft = member.craft
        pose = sensor_pose(sensor, craft.pose, craft)
        if sensor.kind is SensorKind.GNSS:
            return fix(self._origin, pose[:3, 3])
        if sensor.kind is SensorKind.ODOMETRY:
            carrier = craft.gimbal_pose if sensor.on_gimbal else craft.pose
            rates = craft.gimbal_rates if sensor.on_gimbal else craft.rates
            return odometry_at(sensor.mount, carrier, craft.velocity, rates)
        if not member.inertial:
            return None
        member.kept = max(member.kept, sensor.every)
        ticks = [felt[sensor.on_gimbal] for felt in member.inertial][-sensor.every :]
        felt = together(ticks, sensor.rate_hz)
        turn = sensor.mount[:3, :3]
        return Inertial(
            felt.stamps_ns, felt.rates @ turn, felt.accelerations @ turn, quaternion(pose[:3, :3])
        )


def together(parts: Sequence[Inertial], rate_hz: float) -> Inertial:
    """Samples of several readings as one; where ``rate_hz`` (0: any) is less than there are, each
    is the mean over its own period. At least one part."""
    stamps = np.concatenate([p.stamps_ns for p in parts])
    felt = np.hstack(
        [
            np.concatenate([p.rates for p in parts]),
            np.concatenate([p.accelerations for p in parts]),
        ]
    )
    n = len(stamps)
    period_s = (stamps[-1] - stamps[0]) * 1e-9 / max(n - 1, 1)
    count = max(1, round(rate_hz * n * period_s)) if rate_hz else n
    if count < n:
        first = np.arange(count) * n // count
        sizes = np.diff([*first, n])
        felt = np.add.reduceat(felt, first) / sizes[:, None]
        since = np.add.reduceat(stamps - stamps[0], first)
        stamps = stamps[0] + np.round(since / sizes).astype(np.int64)
    return Inertial(stamps, felt[:, :3], felt[:, 3:], parts[-1].orientation)


def fix(origin: Origin, position: FloatArray) -> Fix:
    """Where on earth a position (3,) in the world is."""
    return Fix(*(float(v) for v in origin.to_wgs84(position)))


def sensor_pose(sensor: Sensor, body: FloatArray, craft: Craft | None) -> FloatArray:
    """(4, 4) sensor to world.

    Raises:
        InputError: a sensor that hangs in a gimbal, on somebody without one.
    """
    if not sensor.on_gimbal:
        return body @ sensor.mount
    if craft is None:
        raise InputError(f"{sensor.name}: actor {sensor.parent} has no gimbal")
    return craft.gimbal_pose @ sensor.mount


def merged(*parts: Moment) -> Moment:
    """Actors of one moment together, in rising order of their ids, which must differ."""
    order = np.argsort(np.concatenate([p.actors.ids for p in parts]), kind="stable")
    return Moment(
        parts[0].frame,
        joined([p.actors for p in parts]),
        np.concatenate([p.poses for p in parts])[order],
        np.concatenate([p.rates for p in parts])[order],
    )


def upright(frame: int, actors: Snapshot, before: Snapshot | None = None) -> Moment:
    """A moment of actors that stand level on the ground, turned by their yaws only.

    before: the last one, of which their rates of turn follow; those of newcomers are 0.
    """
    n = len(actors)
    poses = np.tile(np.eye(4), (n, 1, 1))
    c, s = np.cos(actors.yaws), np.sin(actors.yaws)
    poses[:, 0, 0], poses[:, 0, 1] = c, -s
    poses[:, 1, 0], poses[:, 1, 1] = s, c
    poses[:, :3, 3] = actors.positions
    rates = np.full((n, 3), np.nan)
    if before is not None:
        rates[:] = 0.0
        _, old, new = np.intersect1d(
            before.ids, actors.ids, assume_unique=True, return_indices=True
        )
        turned = (actors.yaws[new] - before.yaws[old] + np.pi) % (2 * np.pi) - np.pi
        rates[new, 2] = turned / ((actors.stamp_ns - before.stamp_ns) * 1e-9)
    return Moment(frame, actors, poses, rates)
