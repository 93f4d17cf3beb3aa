"""Sensors that CARLA's server reads itself: they speak on threads of its library.

A sensor on one of our UAVs stands free in the world and is moved before every tick; on any other
actor it is attached.
"""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from bridges import carla_frames
from bridges.carla_cast import stamp_of
from bridges.carla_client import CarlaConfig, CarlaSession
from bridges.carla_orders import carla_transform
from bridges.depth_visibility import DepthVisibility
from bridges.fleet import sensor_pose, together
from bridges.flight import Craft, quaternion
from bridges.sensor import BayerSensor
from bridges.simulator import (
    MAX_EVERY,
    Depth,
    Heard,
    Inertial,
    Moment,
    Points,
    Reading,
    Sensor,
    SensorKind,
    Value,
)
from bridges.view import seen_boxes
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.frame import Frame

BLUEPRINTS = {
    SensorKind.CAMERA: ("sensor.camera.rgb",),
    SensorKind.DEPTH: ("sensor.camera.depth",),
    SensorKind.LIDAR: ("sensor.lidar.ray_cast",),
    SensorKind.IMU: ("sensor.other.imu",),
    SensorKind.V2X: ("sensor.other.v2x_custom", "sensor.other.v2x"),
}
"""What a kind may be made of; the first that the server has."""
MAX_PAYLOAD = 1 << 16
_MOST_WAITING = 16

Receive = Callable[[Reading], None]


@dataclass(slots=True)
class _Placed:
    """A sensor of the server. parent: our UAV's id, if it is moved; 0: it is attached."""

    sensor: Sensor
    actor: Any
    parent: int


class _Matched:
    """Boxes need the moment and the depth of one tick, which come on two threads."""

    def __init__(self, sensor: Sensor, receive: Receive) -> None:
        self._sensor, self._receive = sensor, receive
        self._lock = threading.Lock()
        self._moments: dict[int, tuple[Moment, FloatArray]] = {}
        self._depths: dict[int, Any] = {}

    def see(self, moment: Moment, pose: FloatArray) -> None:
        self._put(moment.frame, self._moments, (moment, pose))

    def depth(self, reading: Reading) -> None:
        assert isinstance(reading.value, Depth)
        self._put(reading.frame, self._depths, reading.value.meters)

    def _put(self, frame: int, where: dict[int, Any], value: Any) -> None:
        with self._lock:
            where[frame] = value
            for waiting in (self._moments, self._depths):
                for old in sorted(waiting)[:-_MOST_WAITING]:
                    del waiting[old]
            if not (frame in self._moments and frame in self._depths):
                return
            (moment, pose), meters = self._moments.pop(frame), self._depths.pop(frame)
        boxes = seen_boxes(moment, pose, self._sensor, DepthVisibility(meters, pose, self._sensor))
        self._receive(Reading(self._sensor.name, frame, moment.stamp_ns, boxes))


class CarlaSensors:
    """The sensors of one session.

    counts: ``unreadable``, what a sensor said that was no reading; ``lost``, sensors that could not
    be moved.
    """

    def __init__(self, session: CarlaSession, step_ns: int, counts: Counter[str]) -> None:
        self._session, self._config, self._counts = session, session.config, counts
        self._step_s = step_ns * 1e-9
        self._placed: dict[str, _Placed] = {}
        self._matched: dict[str, _Matched] = {}
        self._open = True
        self._heard_from = 0.0
        have = session.blueprints
        self._names = {
            kind: next(n for n in names if n in have)
            for kind, names in BLUEPRINTS.items()
            if have.intersection(names)
        }
        if not self._config.rendering:
            for kind in (SensorKind.CAMERA, SensorKind.DEPTH):
                self._names.pop(kind, None)

    @property
    def kinds(self) -> frozenset[SensorKind]:
        """What the server reads here."""
        return frozenset(self._names)

    @property
    def sees_depth(self) -> bool:
        """Whether boxes are checked against what hides them."""
        return self._config.occlusion == "depth" and SensorKind.DEPTH in self._names

    def attach(
        self, sensor: Sensor, receive: Receive, first: int, craft: Craft | None, parent: Any,
        offset: FloatArray,
    ) -> None:  # fmt: skip
        """Make a sensor that reads from frame ``first`` on.

        craft: of our UAV that carries it; else parent: the actor, whose origin lies at ``offset``
        (4, 4) of its body's center.

        Raises:
            InputError: the server makes none.
        """
        if sensor.kind is SensorKind.BOXES:
            matched = _Matched(sensor, receive)
            self._matched[sensor.name] = matched
            receive, kind = matched.depth, SensorKind.DEPTH
        else:
            kind = sensor.kind
        blueprint = self._session.blueprint(self._names[kind], **self._attributes(sensor, kind))
        pose = offset @ sensor.mount if craft is None else sensor_pose(sensor, craft.pose, craft)
        actor = self._session.spawn(blueprint, self._transform(pose), parent)
        if actor is None:
            raise InputError(f"{sensor.name}: CARLA made no {self._names[kind]} there")
        self._placed[sensor.name] = _Placed(sensor, actor, sensor.parent if craft else 0)
        read = self._reader(sensor, kind, first)

        def hear(data: Any) -> None:
            frame = int(data.frame)
            due = kind is SensorKind.IMU or (frame - first) % sensor.every == 0
            if not (self._open and frame >= first and due):
                return
            try:
                for value in read(data):
                    receive(Reading(sensor.name, frame, stamp_of(data.timestamp), value))
            except Exception:  # of the library's own thread, where nobody else would see it
                self._counts["unreadable"] += 1

        self._session.call("listening", actor.listen, hear)
        self._heard_from = time.monotonic() + self._config.settle_s

    def settle(self) -> None:
        """Wait until the newest sensor is subscribed to: what it says before is lost."""
        time.sleep(max(0.0, self._heard_from - time.monotonic()))

    def orders(self, craft_of: Callable[[int], Craft]) -> list[Any]:
        """What moves the free ones to where their UAVs are."""
        order = self._session.api.command.ApplyTransform
        made = []
        for placed in self._placed.values():
            if placed.parent:
                craft = craft_of(placed.parent)
                pose = sensor_pose(placed.sensor, craft.pose, craft)
                made.append(order(placed.actor.id, self._transform(pose)))
        return made

    def see(self, moment: Moment, pose_of: Callable[[Sensor], FloatArray | None]) -> None:
        """Tell those that make boxes who was where."""
        for name, matched in self._matched.items():
            sensor = self._placed[name].sensor
            pose = pose_of(sensor)
            if pose is not None:
                matched.see(moment, pose)

    def __contains__(self, name: str) -> bool:
        return name in self._placed

    def stop(self) -> None:
        """Nobody is told anything any more."""
        self._open = False

    def _transform(self, pose: FloatArray) -> Any:
        return carla_transform(self._session.api, pose)

    def _attributes(self, sensor: Sensor, kind: SensorKind) -> dict[str, object]:
        if kind in (SensorKind.CAMERA, SensorKind.DEPTH):
            size = {"image_size_x": sensor.width, "image_size_y": sensor.height}
            return {**size, "fov": sensor.fov_deg, "sensor_tick": 0.0}
        if kind is SensorKind.LIDAR:
            return {  # a whole turn a tick
                "channels": sensor.channels,
                "range": sensor.range_m,
                "rotation_frequency": 1 / self._step_s,
                "points_per_second": round(sensor.points / self._step_s),
                "sensor_tick": 0.0,
            }
        return {"sensor_tick": 0.0}

    def _reader(self, sensor: Sensor, kind: SensorKind, first: int) -> Callable[[Any], list[Value]]:
        if kind is SensorKind.CAMERA:
            return _camera(sensor, self._config)
        if kind is SensorKind.DEPTH:
            return _depth
        if kind is SensorKind.LIDAR:
            return lambda data: [Points(*carla_frames.lidar_points(data.raw_data))]
        if kind is SensorKind.IMU:
            return _imu(sensor, self._config.gyro_signs, first)
        return heard


def _camera(sensor: Sensor, config: CarlaConfig) -> Callable[[Any], list[Value]]:
    size = sensor.width, sensor.height
    raw = None if sensor.encoding == "rgb8" else BayerSensor(sensor.encoding, size, config.seed)

    def read(data: Any) -> list[Value]:
        bgra = carla_frames.picture(data.raw_data, sensor.height, sensor.width)
        frame = int(data.frame)
        image = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGB) if raw is None else raw.expose(bgra, frame)
        stamp_ns = stamp_of(data.timestamp)
        return [Frame(image, stamp_ns, sensor.encoding, frame, sensor.name)]

    return read


def _depth(data: Any) -> list[Value]:
    bgra = carla_frames.picture(data.raw_data, int(data.height), int(data.width))
    return [Depth(carla_frames.depth_meters(bgra))]


def _imu(sensor: Sensor, signs: str, first: int) -> Callable[[Any], list[Value]]:
    """Reads on every tick, and speaks on every n-th from ``first`` on of all since."""
    felt: deque[Inertial] = deque(maxlen=MAX_EVERY)

    def read(data: Any) -> list[Value]:
        felt.append(inertial(data, signs))
        if (int(data.frame) - first) % sensor.every:
            return []
        said = together(felt, sensor.rate_hz)
        felt.clear()
        return [said]

    return read


def inertial(data: Any, signs: str) -> Inertial:
    """One sample of CARLA's IMU.

    Raises:
        InputError: a number that is not finite.
    """
    a, w, turn = data.accelerometer, data.gyroscope, data.transform.rotation
    accelerations = carla_frames.flipped(np.array([[a.x, a.y, a.z]]))
    rates = carla_frames.turn_rates(np.array([[w.x, w.y, w.z]]), signs)
    if not (np.isfinite(accelerations).all() and np.isfinite(rates).all()):
        raise InputError("IMU: a number is not finite")
    attitude = carla_frames.rotations(np.array([turn.pitch, turn.yaw, turn.roll]))
    stamps = np.array([stamp_of(data.timestamp)], np.int64)
    return Inertial(stamps, rates, accelerations, quaternion(attitude))


def heard(event: Any) -> list[Value]:
    """Messages of CARLA's V2X sensors: bytes of a custom one as they were sent, a CAM's fields as
    JSON."""
    found: list[Value] = []
    for message in event:
        said = message.get()
        for _ in range(2):  # what was sent lies in a header's dictionary, and that in one of power
            said = said.get("Message", said) if isinstance(said, dict) else said
        if isinstance(said, str):
            payload = said.encode("utf-8", "surrogateescape")
        else:
            payload = said if isinstance(said, bytes) else json.dumps(said, default=str).encode()
        power = float(message.power)
        if len(payload) <= MAX_PAYLOAD and np.isfinite(power):
            found.append(Heard(payload, power))
    return found
