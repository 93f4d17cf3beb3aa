"""One port to every simulator: the embedded world, MuJoCo, SUMO, CARLA, recorded CARLA runs.

A ``Simulator`` is ticked by one owner of the clock (or followed, where another client ticks it),
says where everybody is, carries sensors, and obeys controls. ``bridges/loop.py`` drives one.

Frames of reference: the world x east, y north, z up, meters; bodies x forward, y left, z up;
cameras' pictures x right, y down, along the mount's x axis. Poses are (4, 4) float64, body to
world or mount to body. Times are simulation time in nanoseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bridges.actors import Snapshot
from bridges.sensor import ENCODINGS as RAW_ENCODINGS
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.objects import MAX_METERS, MAX_SPEED, ObjectClass

ENCODINGS = ("rgb8", *RAW_ENCODINGS)
MAX_NAME = 64
MAX_EVERY = 1000
MAX_RATE = 50.0
"""rad/s"""


class SimulatorError(InputError):
    """The simulator can no longer be used: it ended, broke off, or does not answer."""


class SimulatorOverError(SimulatorError):
    """What it plays has come to its end, as it should."""


class SensorKind(str, Enum):
    """What a sensor gives, as the value of its readings."""

    def __str__(self) -> str:
        return self.value

    CAMERA = "camera"
    """``Frame``"""
    DEPTH = "depth"
    """``Depth``"""
    BOXES = "boxes"
    """``SeenBoxes``: the truth of a camera's picture"""
    LIDAR = "lidar"
    """``Points``"""
    IMU = "imu"
    """``Inertial``"""
    GNSS = "gnss"
    """``Fix``"""
    ODOMETRY = "odometry"
    """``Odometry``"""
    V2X = "v2x"
    """``Heard``"""


@dataclass(frozen=True, slots=True, eq=False)
class Sensor:
    """A sensor that is wished for.

    name: of the sensor, unique in the simulator. parent: the actor that carries it.
    mount: (4, 4) sensor to body, x along the view of a camera. on_gimbal: it hangs in the parent's
    gimbal, and ``mount`` is to that. every: it reads on every n-th tick.
    width, height, fov_deg: of cameras, depth and boxes; the field of view is horizontal.
    encoding: of cameras, rgb8 or bayer_<order><bits>. rate_hz: of an IMU's samples, as far as the
    simulator has as many; 0: all that it has.
    range_m, channels, points: of a LiDAR; points are those of a whole turn.

    Raises:
        InputError: a value out of range.
    """

    kind: SensorKind
    name: str
    parent: int
    mount: FloatArray = field(default_factory=lambda: np.eye(4))
    on_gimbal: bool = False
    every: int = 1
    width: int = 640
    height: int = 480
    fov_deg: float = 70.0
    encoding: str = "rgb8"
    rate_hz: float = 0.0
    range_m: float = 100.0
    channels: int = 16
    points: int = 16 * 900

    def __post_init__(self) -> None:
        clean = self.name.replace("_", "").isalnum() and self.name.isascii()
        if not (clean and len(self.name) <= MAX_NAME):
            raise InputError(
                f"sensor {self.name[:MAX_NAME]!r}: give a name of at most {MAX_NAME} letters, "
                "digits and _"
            )
        check_pose(self.mount, f"{self.name}: mount")
        for what, value, low, high in (
            ("every", self.every, 1, MAX_EVERY), ("width", self.width, 16, 4096),
            ("height", self.height, 16, 4096), ("fov_deg", self.fov_deg, 1, 170),
            ("rate_hz", self.rate_hz, 0, 10_000), ("range_m", self.range_m, 1, 1000),
            ("channels", self.channels, 1, 256), ("points", self.points, 1, 1 << 20),
        ):  # fmt: skip
            if not low <= value <= high:
                raise InputError(
                    f"{self.name}: {what} {value} is out of range, allowed is {low} to {high}"
                )
        if self.encoding not in ENCODINGS:
            raise InputError(
                f"{self.name}: encoding {self.encoding!r:.40}: give one of {', '.join(ENCODINGS)}"
            )
        if self.width % 2 or self.height % 2:
            raise InputError(f"{self.name}: {self.width}x{self.height} is odd, give even numbers")

    @property
    def matrix(self) -> FloatArray:
        """(3, 3) of the pinhole camera; pixel (0, 0) is the center of the first one."""
        focal = self.width / (2 * np.tan(np.radians(self.fov_deg) / 2))
        return np.array(
            [[focal, 0, (self.width - 1) / 2], [0, focal, (self.height - 1) / 2], [0, 0, 1.0]]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Depth:
    """meters: (H, W) float32 along the view, inf where nothing is."""

    meters: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SeenBoxes:
    """The truth of a picture, N actors of which something is in view.

    ids: (N,) int32, of the moment's actors. classes: (N,) uint8, ``ObjectClass``.
    boxes: (N, 4) x y w h in pixels, clipped to the picture. visibility: (N,) 0 to 1, the share that
    is in the picture and not hidden; NaN: not known.
    """

    ids: npt.NDArray[np.int32]
    classes: npt.NDArray[np.uint8]
    boxes: FloatArray
    visibility: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """xyz: (N, 3) float32, m in the sensor's frame. intensity: (N,) float32, 0 to 1."""

    xyz: npt.NDArray[np.float32]
    intensity: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Inertial:
    """n samples since the last reading, in the sensor's frame.

    stamps_ns: (n,) int64. rates: (n, 3) rad/s. accelerations: (n, 3) m/s², of what an accelerometer
    says: at rest, 9.81 upward. orientation: (4,) quaternion x y z w, body to world, at the end.
    """

    stamps_ns: npt.NDArray[np.int64]
    rates: FloatArray
    accelerations: FloatArray
    orientation: FloatArray


@dataclass(frozen=True, slots=True)
class Fix:
    """Degrees, and meters above the ellipsoid."""

    latitude: float
    longitude: float
    altitude: float


@dataclass(frozen=True, slots=True, eq=False)
class Odometry:
    """pose: (4, 4) sensor to world. velocity: (3,) m/s and rates: (3,) rad/s, in the sensor's own
    axes, as nav_msgs/Odometry has them."""

    pose: FloatArray
    velocity: FloatArray
    rates: FloatArray


@dataclass(frozen=True, slots=True)
class Heard:
    """A radio message: what was sent, as it came, and how strong it was."""

    payload: bytes
    power_dbm: float


Value = Frame | Depth | SeenBoxes | Points | Inertial | Fix | Odometry | Heard


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a sensor said of tick ``frame``."""

    sensor: str
    frame: int
    stamp_ns: int
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """Where everybody is after tick ``frame``.

    actors: N of them, ``stamp_ns`` is the simulation's time. poses: (N, 4, 4) body to world, of the
    body's center. rates: (N, 3) rad/s in body axes; NaN: not known.
    """

    frame: int
    actors: Snapshot
    poses: FloatArray
    rates: FloatArray

    @property
    def stamp_ns(self) -> int:
        return self.actors.stamp_ns

    def pose(self, actor_id: int) -> FloatArray:
        """(4, 4) of an actor.

        Raises:
            InputError: no such actor now.
        """
        pose: FloatArray = self.poses[self.actors.row(actor_id)]
        return pose


@dataclass(frozen=True, slots=True, eq=False)
class Velocity:
    """Of a UAV: (3,) m/s forward, left and up in its heading's frame, and how fast it turns,
    counter-clockwise, rad/s."""

    linear: FloatArray
    yaw_rate: float = 0.0

    def __post_init__(self) -> None:
        _check("Velocity.linear", self.linear, MAX_SPEED, (3,))
        _check("Velocity.yaw_rate", self.yaw_rate, MAX_RATE)


@dataclass(frozen=True, slots=True)
class Aim:
    """Of a gimbal that holds its direction in the world: azimuth from x, counter-clockwise, and
    elevation above the horizon, rad; and how fast that direction turns, rad/s."""

    azimuth: float
    elevation: float
    azimuth_rate: float = 0.0
    elevation_rate: float = 0.0

    def __post_init__(self) -> None:
        _check("Aim.azimuth", self.azimuth, 4 * np.pi)
        _check("Aim.elevation", self.elevation, np.pi / 2)
        _check("Aim.azimuth_rate", self.azimuth_rate, MAX_RATE)
        _check("Aim.elevation_rate", self.elevation_rate, MAX_RATE)


@dataclass(frozen=True, slots=True)
class Drive:
    """Of a vehicle: throttle and brake 0 to 1, steer -1 to 1, positive to the left."""

    throttle: float = 0.0
    steer: float = 0.0
    brake: float = 0.0
    reverse: bool = False
    hand_brake: bool = False

    def __post_init__(self) -> None:
        for name, low in (("throttle", 0.0), ("steer", -1.0), ("brake", 0.0)):
            if not low <= getattr(self, name) <= 1:
                raise InputError(f"Drive.{name} {getattr(self, name)}: allowed is {low:g} to 1")


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Of a pedestrian: (3,) m/s in the world."""

    velocity: FloatArray

    def __post_init__(self) -> None:
        _check("Walk.velocity", self.velocity, MAX_SPEED, (3,))


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Put an actor somewhere at once: (4, 4) body to world. A free camera flies like this."""

    pose: FloatArray

    def __post_init__(self) -> None:
        check_pose(self.pose, "Place.pose")


Control = Velocity | Aim | Drive | Walk | Place


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a simulator can do; asking for anything else is an InputError that says so.

    owns_clock: ticks of ours move it; False: it is followed. spawns: what may be spawned.
    controls: types of controls that its spawned actors obey.
    """

    owns_clock: bool
    sensors: frozenset[SensorKind]
    spawns: frozenset[ObjectClass]
    controls: frozenset[type]


class Simulator(Protocol):
    """The port. One thread ticks, spawns, applies and closes; receivers may be called on others.

    Every method may raise ``SimulatorError``; after it only ``close`` may be called. ``close`` may
    be called at any time and more than once, never raises, destroys what was spawned and restores
    what was changed.
    """

    name: str
    step_ns: int
    abilities: Abilities

    @property
    def moment(self) -> Moment:
        """The newest."""
        ...

    def tick(self) -> Moment:
        """Go one step on, or follow the next of whoever ticks. Readings of this tick may be
        received before it returns or later."""
        ...

    def spawn(self, kind: ObjectClass, pose: FloatArray, role: str = "") -> int:
        """Put an actor there and answer its id; from the next tick on it is in the moment.

        Raises:
            InputError: cannot be spawned here, no room, or the role is taken.
        """
        ...

    def listen(self, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        """Attach a sensor; every reading is handed to ``receive``, on any thread.

        Raises:
            InputError: of a kind that it does not have, no such parent, or a name that is taken.
        """
        ...

    def apply(self, actor_id: int, control: Control) -> None:
        """Obeyed from the next tick on, until another one of its type comes.

        Raises:
            InputError: no such actor, or a control that it does not obey.
        """
        ...

    def close(self) -> None:
        """End it."""
        ...


def check_pose(pose: FloatArray, name: str) -> None:
    """
    Raises:
        InputError: no (4, 4) rigid transform of finite numbers.
    """
    if pose.shape != (4, 4) or not (np.abs(pose) <= MAX_METERS).all():
        raise InputError(f"{name}: give a (4, 4) transform of finite numbers")
    turn = pose[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-6 or np.linalg.det(turn) < 0:
        raise InputError(f"{name}: its upper left 3x3 is no rotation")
    if (pose[3] != (0, 0, 0, 1)).any():
        raise InputError(f"{name}: its last row must be 0 0 0 1")


def pose_of(position: FloatArray, yaw: float = 0.0, pitch: float = 0.0) -> FloatArray:
    """(4, 4) with yaw about z, then pitch about the new y: positive looks down."""
    c, s, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    pose = np.eye(4)
    pose[:3, :3] = [[c * cp, -s, c * sp], [s * cp, c, s * sp], [-sp, 0, cp]]
    pose[:3, 3] = position
    return pose


def refuse_sensor(simulator: Simulator, sensor: Sensor, names: set[str]) -> None:
    """What every simulator checks of a sensor before it attaches it.

    Raises:
        InputError: of a kind that the simulator lacks, or a name that is taken.
    """
    if sensor.kind not in simulator.abilities.sensors:
        have = ", ".join(sorted(simulator.abilities.sensors)) or "no sensor"
        raise InputError(
            f"{sensor.name}: {simulator.name} has no {sensor.kind} sensor; it has {have}"
        )
    if sensor.name in names:
        raise InputError(f"{sensor.name}: is the name of another sensor already; give another name")


def refuse_control(simulator: Simulator, control: Control) -> None:
    """
    Raises:
        InputError: a control that nobody obeys in this simulator.
    """
    if type(control) not in simulator.abilities.controls:
        obeyed = ", ".join(sorted(t.__name__ for t in simulator.abilities.controls)) or "none"
        raise InputError(
            f"{simulator.name} obeys no {type(control).__name__}; controls that it obeys: {obeyed}"
        )


def refuse_spawn(simulator: Simulator, kind: ObjectClass) -> None:
    """
    Raises:
        InputError: what cannot be spawned in this simulator.
    """
    if kind not in simulator.abilities.spawns:
        can = ", ".join(sorted(k.name for k in simulator.abilities.spawns)) or "nothing"
        raise InputError(f"{simulator.name} cannot spawn a {kind.name}; it can spawn: {can}")


def _check(name: str, value: FloatArray | float, most: float, shape: tuple[int, ...] = ()) -> None:
    if np.shape(value) != shape or not (np.abs(value) <= most).all():
        raise InputError(f"{name}: give {shape or 'one'} finite number(s) of at most {most:g}")
