"""One simulated vehicle: its sensors, its topics, the controls it takes."""

import importlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist
from leadsight_msgs.msg import DriveControl, GimbalAim, ObjectArray, TrackArray, V2xMessage
from nav_msgs.msg import Odometry as OdometryMessage
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2
from std_msgs.msg import Float32

from bridges.drive import drive
from bridges.loop import Step
from bridges.simulator import (
    Aim,
    Control,
    Drive,
    Heard,
    Moment,
    Odometry,
    Reading,
    SeenBoxes,
    Sensor,
    SensorKind,
    Simulator,
    Velocity,
)
from bridges.vehicle_sensors import SensorsConfig, sensors_of
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from ros_nodes import qos
from ros_nodes import simulator_messages as convert

MOST_CONTROLS = 16
"""Controls that wait for the next tick; the oldest go."""


class Vehicle:
    """Publishes under ``prefix``, relative to the node's namespace.

    commanded: whether a control ever came from outside. odometry: the newest, and its moment.
    """

    def __init__(
        self, node: Node, simulator: Simulator, number: int, prefix: str, config: SensorsConfig,
        silent_s: float = 0.0,
    ) -> None:  # fmt: skip
        """silent_s: after so long without a command of motion it hovers or brakes; 0: never."""
        self._silent_s, self._moved_at = silent_s, float("inf")
        self.number = number
        self.commanded = False
        self.odometry: tuple[Moment, Odometry] | None = None
        self._node, self._prefix = node, prefix
        self._label = prefix.replace("/", "_")
        self._controls: deque[Control] = deque(maxlen=MOST_CONTROLS)
        self.picture_size = config.width, config.height
        row = simulator.moment.actors.row(number)
        self._flies = bool(simulator.moment.actors.classes[row] == ObjectClass.UAV)
        carried = sensors_of(config, simulator.abilities, number, self._flies, self._label)
        self.sensors = {s.name: s for s in carried}
        self._actors = node.create_publisher(ObjectArray, f"{prefix}truth_objects", qos.results())
        self._info = node.create_publisher(CameraInfo, f"{prefix}camera_info", qos.results(1))
        self._publishers = {
            name: node.create_publisher(*_TOPICS[name.removeprefix(self._label)](prefix))
            for name in self.sensors
        }
        self._speed = node.create_publisher(Float32, f"{prefix}speedometer", qos.results(1))
        for kind, topic, control in self._commands(self._flies):
            node.create_subscription(kind, prefix + topic, self._taker(control), qos.results(1))

    def _commands(self, flies: bool) -> list[tuple[Any, str, Callable[[Any], Control]]]:
        if flies:
            return [
                (Twist, "cmd_vel", convert.velocity_of),
                (GimbalAim, "gimbal_aim", convert.aim_of),
            ]
        # CARLA's ROS bridge has its own message under this name: where that is there, it is taken.
        try:
            kind = importlib.import_module("carla_msgs.msg").CarlaEgoVehicleControl
            pedals = (kind, "vehicle_control_cmd", convert.bridge_drive_of)
        except (ImportError, AttributeError):
            pedals = (DriveControl, "vehicle_control_cmd", convert.drive_of)
        return [(Twist, "cmd_vel", self._driven), pedals]

    def _driven(self, message: Twist) -> Control:
        wished = convert.velocity_of(message)
        speed = 0.0 if self.odometry is None else float(self.odometry[1].velocity[0])
        return drive(speed, float(wished.linear[0]), wished.yaw_rate)

    def _taker(self, control: Callable[[Any], Control]) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            try:
                given = control(message)
                self._controls.append(given)
                self.commanded = True
                if not isinstance(given, Aim):
                    self._moved_at = time.monotonic()
            except InputError as error:
                self._node.get_logger().error(f"{self._prefix}{error}", throttle_duration_sec=1.0)

        return take

    def taken(self) -> list[Control]:
        """What was commanded since the last call; to stop, where too long nothing was."""
        if self._silent_s and time.monotonic() - self._moved_at > self._silent_s:
            self._moved_at = float("inf")
            self._node.get_logger().warning(f"{self._prefix}cmd_vel is silent: stopping")
            self._controls.append(Velocity(np.zeros(3)) if self._flies else Drive(brake=1.0))
        return [self._controls.popleft() for _ in range(len(self._controls))]

    def seen(self, readings: Mapping[str, Reading]) -> SeenBoxes | None:
        """The truth of the picture, where there is one."""
        found = readings.get(f"{self._label}truth")
        return found.value if found is not None else None  # type: ignore[return-value]

    def show(self, step: Step, delay_ns: int) -> None:
        """Publish one tick. delay_ns: what is added to the simulation's time."""
        moment, readings = step.moment, step.readings
        for event in step.events:
            if event.sensor == f"{self._label}v2x" and isinstance(event.value, Heard):
                self._publishers[event.sensor].publish(convert.heard_message(event.value))
        stamp_ns = moment.stamp_ns + delay_ns
        if self._actors.get_subscription_count():
            self._actors.publish(convert.actors_message(moment, stamp_ns, self.number))
        for name, sensor in self.sensors.items():
            if name in readings:
                self._publish(sensor, readings[name], stamp_ns, delay_ns)
        found = readings.get(f"{self._label}odometry")
        if found is not None:
            self.odometry = moment, found.value  # type: ignore[assignment]
            forward = float(self.odometry[1].velocity[0])  # type: ignore[index]
            self._speed.publish(Float32(data=forward))

    def _publish(self, sensor: Sensor, reading: Reading, stamp_ns: int, delay_ns: int) -> None:
        value: Any = reading.value
        topic = sensor.name.removeprefix(self._label)
        frame_id = f"{self._prefix}{topic}"
        camera_id = f"{self._prefix}camera"
        publisher = self._publishers[sensor.name]
        if sensor.kind is SensorKind.CAMERA:
            self._info.publish(convert.info_message(sensor, stamp_ns, camera_id))
            publisher.publish(convert.picture_message(value, stamp_ns, camera_id))
        elif sensor.kind is SensorKind.BOXES:
            message = convert.truth_message(value, sensor, reading.frame, stamp_ns, camera_id)
            publisher.publish(message)
        elif sensor.kind is SensorKind.IMU:
            for sample in convert.imu_messages(value, delay_ns, frame_id):
                publisher.publish(sample)
        else:
            publisher.publish(_CONVERT[sensor.kind](value, stamp_ns, frame_id))


_CONVERT: dict[SensorKind, Callable[[Any, int, str], Any]] = {
    SensorKind.DEPTH: convert.depth_message,
    SensorKind.LIDAR: convert.points_message,
    SensorKind.GNSS: convert.fix_message,
    SensorKind.ODOMETRY: convert.odometry_message,
}


def _topic(kind: Any, name: str, profile: Callable[[], QoSProfile]) -> Callable[[str], Any]:
    return lambda prefix: (kind, prefix + name, profile())


_TOPICS = {
    "camera": _topic(Image, "image_raw", qos.images),
    "depth": _topic(Image, "depth", qos.images),
    "lidar": _topic(PointCloud2, "lidar", qos.images),
    "truth": _topic(TrackArray, "truth", qos.results),
    "v2x": _topic(V2xMessage, "v2x/heard", qos.results),
    "imu": _topic(Imu, "imu", qos.samples),
    "gnss": _topic(NavSatFix, "gnss", qos.results),
    "odometry": _topic(OdometryMessage, "odometry", qos.results),
    "gimbal": _topic(OdometryMessage, "gimbal", qos.results),
}
"""By a sensor's name without its vehicle's."""
