"""A recording of CARLA's, played behind the port: real traffic of a server, without the server.

Its vehicles and pedestrians go on as they did, at a fixed step between the recorder's irregular
frames. UAVs of ours may fly over them; nobody else is moved by them. Houses are not known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridges import carla_frames
from bridges.actors import BODY, Snapshot
from bridges.carla_actors import class_of
from bridges.carla_log import BrokenLogError, CarlaLog, LogFrame
from bridges.fleet import CONTROLS, FIRST_ID, SENSES, sensor_pose
from bridges.flight import rotation_vector
from bridges.odometry import odometry_of
from bridges.own_simulator import OwnSimulator
from bridges.simulator import (
    Abilities,
    Moment,
    Reading,
    Sensor,
    SensorKind,
    SimulatorError,
    SimulatorOverError,
    Value,
)
from bridges.view import seen_boxes
from bridges.visibility import Visibility
from comms.geodesy import Origin
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

_JUMP_M = 2.0
"""Who is as far off after one frame, and could not have driven it, was put there."""
_FASTEST = 60.0
"""m/s, of those whose speed was not recorded."""


@dataclass(frozen=True)
class RecorderConfig(Config):
    """How a recording is played."""

    step_s: float = option(0.05, "Seconds a step.", low=0.001, high=1)
    loop: bool = option(False, "Begin again at its end, instead of ending with one line.")
    latitude: float = option(49.0, "Of the map's origin, degrees.", low=-89, high=89)
    longitude: float = option(8.0, "Of the map's origin, degrees.", low=-180, high=180)


@dataclass(frozen=True, slots=True, eq=False)
class _Body:
    """kind: ``ObjectClass``. center: (3,) and size: (3,) m, ours, in the body. hero: it is the
    recording's own vehicle."""

    kind: ObjectClass
    center: FloatArray
    size: FloatArray
    hero: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """A recorded frame in our frame: rows of ids (N,), origins and velocities (N, 3), turns
    (N, 3, 3), rates (N, 3) of the world's axes."""

    seconds: float
    row: dict[int, int]
    places: FloatArray
    turns: FloatArray
    velocities: FloatArray
    rates: FloatArray


@dataclass(slots=True)
class _Cast:
    """Who there is, from frame to frame."""

    bodies: dict[int, _Body] = field(default_factory=dict)

    def take(self, frame: LogFrame) -> _State:
        """Who comes, and where everybody is; who goes stays known until ``forget``."""
        for actor in frame.added:
            kind = class_of(actor.blueprint, actor.attributes)
            if kind is None or not 0 < actor.actor_id < FIRST_ID:
                continue
            size = np.array(BODY.get(kind, BODY[ObjectClass.CAR]))
            hero = actor.attributes.get("role_name") == "hero"
            self.bodies[actor.actor_id] = _Body(kind, np.array([0, 0, size[2] / 2]), size, hero)
        for actor_id, center, size in zip(
            frame.box_ids.tolist(), carla_frames.flipped(frame.centers), frame.sizes, strict=True
        ):
            if actor_id in self.bodies:
                body = self.bodies[actor_id]
                self.bodies[actor_id] = _Body(body.kind, center, size, body.hero)
        rows = [k for k, i in enumerate(frame.ids.tolist()) if i in self.bodies]
        rows.sort(key=lambda k: int(frame.ids[k]))
        ids = frame.ids[rows].tolist()
        moving = {i: k for k, i in enumerate(frame.moving.tolist())}
        velocities = np.full((len(ids), 3), np.nan)
        rates = np.full((len(ids), 3), np.nan)
        for k, i in enumerate(ids):
            if i in moving:
                velocities[k], rates[k] = frame.velocities[moving[i]], frame.rates[moving[i]]
        return _State(
            frame.seconds, {i: k for k, i in enumerate(ids)},
            carla_frames.flipped(frame.locations[rows]),
            carla_frames.rotations(frame.rotators[rows]), carla_frames.flipped(velocities),
            carla_frames.turn_rates(rates, carla_frames.AXIAL, degrees=True),
        )  # fmt: skip

    def forget(self, gone: tuple[int, ...]) -> None:
        for actor_id in gone:
            self.bodies.pop(actor_id, None)


class RecorderSimulator(OwnSimulator):
    """A recording behind the port; ids are the recorder's own.

    warning: where the file breaks off, what was said of it when its end was reached; else empty.
    """

    abilities = Abilities(
        owns_clock=True,
        sensors=frozenset({SensorKind.BOXES}) | SENSES,
        spawns=frozenset({ObjectClass.UAV}),
        controls=CONTROLS,
    )

    def __init__(self, path: Path, config: RecorderConfig | None = None) -> None:
        """
        Raises:
            InputError: no recording, or not one whole frame in it.
        """
        self._config = config = config or RecorderConfig()
        super().__init__(Origin(config.latitude, config.longitude))
        self.name = f"the recording {Path(path).name}"
        self.step_ns = round(config.step_s * 1e9)
        self.warning = ""
        self._path = Path(path)
        self._nobody_hides = Visibility(())
        self._offset_s = 0.0
        self._ended = ""
        self._log = CarlaLog(self._path)
        try:
            self._rewind()
            self.town = self._log.town
            self._begin()
        except BaseException:
            self._log.close()
            raise

    def listen(self, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        self._check()
        uav = sensor.parent in self._fleet
        if not uav and (sensor.on_gimbal or sensor.kind in (SensorKind.IMU, SensorKind.GNSS)):
            self.moment.actors.row(sensor.parent)
            raise InputError(
                f"{sensor.name}: recorded actors carry no gimbal, IMU or GNSS; spawn a UAV"
            )
        super().listen(sensor, receive)

    def close(self) -> None:
        super().close()
        self._log.close()

    def _advance(self) -> None:
        following_s = (self._frame + 1) * self._config.step_s
        if self._reach(following_s - self._offset_s):
            return
        if not self._config.loop:
            over = SimulatorError if self._ended else SimulatorOverError
            raise over(
                f"{self.name}: is over after {self._frames} frames, {self._after.seconds:.2f} s"
                f"{self._ended}; play another one, or this one again with recorder.loop: true"
            )
        self._offset_s = following_s
        self._rewind()

    def _rewind(self) -> None:
        self._cast = _Cast()
        self._stream: Iterator[LogFrame] = self._log.frames()
        self._gone: tuple[int, ...] = ()
        self._frames = 0
        first = self._next()
        if first is None:
            raise InputError(f"{self._path}: holds no whole frame{self._ended}; record it anew")
        self._before: _State = first
        self._after: _State = first

    def _next(self) -> _State | None:
        """The next recorded frame; None: there is none."""
        self._cast.forget(self._gone)
        self._gone = ()
        try:
            frame = next(self._stream, None)
        except BrokenLogError as error:
            self.warning = str(error)
            self._ended = f" ({self.warning})"
            return None
        if frame is None:
            return None
        self._frames += 1
        state = self._cast.take(frame)
        self._gone = frame.removed
        return state

    def _reach(self, seconds: float) -> bool:
        """Read on until ``seconds`` lies between two frames; False: the recording is over."""
        while self._after.seconds < seconds - 1e-9:
            following = self._next()
            if following is None:
                return False
            self._before, self._after = self._after, following
        return True

    def _world(self) -> Moment:
        stamp_ns = self._frame * self.step_ns
        seconds = self._frame * self._config.step_s - self._offset_s
        a, b = self._before, self._after
        span = b.seconds - a.seconds
        share = float(np.clip((seconds - a.seconds) / span, 0, 1)) if span > 0 else 1.0
        known = self._cast.bodies
        ids = sorted(i for i in (b.row if share >= 1 else a.row) if i in known)
        n = len(ids)
        poses, rates = np.tile(np.eye(4), (n, 1, 1)), np.zeros((n, 3))
        velocities, sizes = np.zeros((n, 3)), np.zeros((n, 3))
        for k, actor_id in enumerate(ids):
            place, turn, velocity, rate = _between(a, b, actor_id, share)
            arm = turn @ known[actor_id].center
            poses[k, :3, :3], poses[k, :3, 3] = turn, place + arm
            velocities[k] = velocity + np.cross(rate, arm)
            rates[k], sizes[k] = turn.T @ rate, known[actor_id].size
        actors = Snapshot(
            stamp_ns, np.array(ids, np.int32), np.array([known[i].kind for i in ids], np.uint8),
            poses[:, :3, 3].copy(), velocities, np.arctan2(poses[:, 1, 0], poses[:, 0, 0]), sizes,
            np.array([known[i].hero for i in ids], bool),
        )  # fmt: skip
        return Moment(self._frame, actors, poses, rates)

    def _value(self, sensor: Sensor) -> Value | None:
        own = self._fleet.read(sensor)
        if own is not None:
            return own
        if sensor.parent not in self.moment.actors.ids:
            return None
        if sensor.kind is SensorKind.ODOMETRY:
            return odometry_of(sensor, self.moment)
        if sensor.kind is not SensorKind.BOXES:
            return None
        body = self.moment.pose(sensor.parent)
        pose = sensor_pose(sensor, body, self._craft(sensor.parent))
        return seen_boxes(self.moment, pose, sensor, self._nobody_hides)


def _between(
    a: _State, b: _State, actor_id: int, share: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Place, turn, velocity and rates of turn of an actor, ``share`` of the way from a to b."""
    span = b.seconds - a.seconds
    if actor_id not in a.row or actor_id not in b.row or a is b:
        state = a if actor_id in a.row else b
        k = state.row[actor_id]
        return (
            state.places[k], state.turns[k],
            _bounded(state.velocities[k]), _bounded(state.rates[k]),
        )  # fmt: skip
    i, j = a.row[actor_id], b.row[actor_id]
    change = b.places[j] - a.places[i]
    first, second = (
        np.where(np.isfinite(v), v, change / span) for v in (a.velocities[i], b.velocities[j])
    )
    far = float(np.linalg.norm(change))
    fastest = max(float(np.linalg.norm(first)), float(np.linalg.norm(second)), 1.0)
    said = bool(np.isfinite(a.velocities[i]).all())
    if far > _JUMP_M and far > (3 * fastest if said else _FASTEST) * span:
        return a.places[i], a.turns[i], _bounded(a.velocities[i]), _bounded(a.rates[i])
    turned = rotation_vector(a.turns[i].T @ b.turns[j])
    turn = a.turns[i] @ _rotation(share * turned)
    steady = a.turns[i] @ turned / span
    rates = [np.where(np.isfinite(r), r, steady) for r in (a.rates[i], b.rates[j])]
    return (
        a.places[i] + share * change, turn, first + share * (second - first),
        rates[0] + share * (rates[1] - rates[0]),
    )  # fmt: skip


def _bounded(values: FloatArray) -> FloatArray:
    return np.nan_to_num(values, nan=0.0)


def _rotation(vector: FloatArray) -> npt.NDArray[np.float64]:
    """(3, 3) of a rotation vector (3,) in rad (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn: FloatArray = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turn
