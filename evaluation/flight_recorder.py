"""Simulated flights as rosbag2 files: pictures and their truth, as every evaluation reads them.

Topics: ``image_raw``, ``camera_info``, ``truth`` (TrackArray, the followed target first),
``truth_objects`` (ObjectArray, in the world), ``odometry`` (of the craft), ``gimbal`` (odometry of
the camera's mount), ``imu`` (on that mount).
"""

from typing import Any

import numpy as np

from bridges.actors import Snapshot
from bridges.flight import quaternion
from bridges.loop import Step
from bridges.simulator import Abilities, Inertial, Odometry, SeenBoxes, Sensor, SensorKind
from bridges.view import OPTICAL
from evaluation.bags import IMU, OBJECTS, TRUTH_TOPIC, BagWriter
from evaluation.pursuit_eyes import BOXES, CAMERA
from pipeline.box import FloatArray
from pipeline.frame import Frame
from pipeline.imu import CameraCalibration, GyroCalibration, calibration_yaml
from pipeline.pose import MAP
from pipeline.tracks import Tracks

ODOMETRY = "nav_msgs/msg/Odometry"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
IMAGE_TOPIC, INFO_TOPIC, OBJECTS_TOPIC = "image_raw", "camera_info", "truth_objects"
BODY, GIMBAL, FELT = "odometry", "gimbal", "imu"


class FlightWriter(BagWriter):
    """A bag of a flight: what simulators say, as the messages that ROS has for it."""

    def odometry(self, topic: str, stamp_ns: int, value: Odometry, child: str) -> None:
        """Write a pose in the map and velocities in the child's own axes."""
        x, y, z = value.pose[:3, 3].tolist()
        exact = np.zeros(36)
        pose = self._new(
            "geometry_msgs/msg/Pose",
            position=self._new("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=self._quaternion(quaternion(value.pose[:3, :3])),
        )
        twist = self._new(
            "geometry_msgs/msg/Twist",
            linear=self._vector(value.velocity),
            angular=self._vector(value.rates),
        )
        message = self._new(
            ODOMETRY,
            header=self._header(stamp_ns, MAP),
            child_frame_id=child,
            pose=self._new("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=exact),
            twist=self._new("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=exact),
        )
        self._write(topic, ODOMETRY, stamp_ns, message)

    def inertial(self, topic: str, value: Inertial, frame_id: str = "imu") -> None:
        """Write each sample of an IMU, logged at its own time; the orientation is that of the last
        one, which the others say is not known."""
        exact, unknown = np.zeros(9), np.zeros(9)
        unknown[0] = -1.0
        for k, stamp_ns in enumerate(value.stamps_ns.tolist()):
            last = k == len(value.stamps_ns) - 1
            turned = value.orientation if last else np.array([0.0, 0.0, 0.0, 1.0])
            message = self._new(
                IMU,
                header=self._header(stamp_ns, frame_id),
                orientation=self._quaternion(turned),
                orientation_covariance=exact if last else unknown,
                angular_velocity=self._vector(value.rates[k]),
                angular_velocity_covariance=exact,
                linear_acceleration=self._vector(value.accelerations[k]),
                linear_acceleration_covariance=exact,
            )
            self._write(topic, IMU, stamp_ns, message)

    def camera_info(self, topic: str, stamp_ns: int, camera: Sensor, frame_id: str) -> None:
        """Write the pinhole camera of the picture of that stamp."""
        k = camera.matrix
        region = self._new(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False,
        )  # fmt: skip
        message = self._new(
            CAMERA_INFO,
            header=self._header(stamp_ns, frame_id),
            height=camera.height,
            width=camera.width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=k.ravel(),
            r=np.eye(3).ravel(),
            p=np.hstack([k, np.zeros((3, 1))]).ravel(),
            binning_x=0,
            binning_y=0,
            roi=region,
        )
        self._write(topic, CAMERA_INFO, stamp_ns, message)

    def objects(self, topic: str, actors: Snapshot) -> None:
        """Write who is where as leadsight_msgs/ObjectArray, exactly."""
        n = len(actors)
        message = self._new(
            OBJECTS,
            header=self._header(actors.stamp_ns, MAP),
            ready_ns=actors.stamp_ns,
            stations=np.zeros(n, np.uint32),
            ids=actors.ids,
            positions=actors.positions.ravel(),
            velocities=actors.velocities.astype(np.float32).ravel(),
            yaws=actors.yaws.astype(np.float32),
            sizes=actors.sizes.astype(np.float32).ravel(),
            covariances=np.zeros(36 * n, np.float32),
            classes=actors.classes,
            quality=np.ones(n, np.float32),
            measured_ns=np.full(n, actors.stamp_ns, np.int64),
            sources=np.zeros(0, np.uint32),
            source_ends=np.zeros(0, np.uint32),
        )
        self._write(topic, OBJECTS, actors.stamp_ns, message)

    def _vector(self, values: FloatArray) -> Any:
        x, y, z = values.tolist()
        return self._new("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def _quaternion(self, values: FloatArray) -> Any:
        x, y, z, w = values.tolist()
        return self._new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def flight_sensors(abilities: Abilities, camera: Sensor) -> list[Sensor]:
    """What is recorded of a craft with this camera, as far as its simulator has it."""
    boxes = Sensor(
        SensorKind.BOXES, BOXES, camera.parent, camera.mount, camera.on_gimbal,
        width=camera.width, height=camera.height, fov_deg=camera.fov_deg,
    )  # fmt: skip
    wished = [
        camera,
        boxes,
        Sensor(SensorKind.IMU, FELT, camera.parent, camera.mount, camera.on_gimbal),
        Sensor(SensorKind.ODOMETRY, GIMBAL, camera.parent, camera.mount, camera.on_gimbal),
        Sensor(SensorKind.ODOMETRY, BODY, camera.parent),
    ]
    return [s for s in wished if s.kind in abilities.sensors]


def flight_calibration(camera: Sensor) -> str:
    """How the recorded camera and IMU sit on each other, as Kalibr's file."""
    return calibration_yaml(
        CameraCalibration((camera.width, camera.height), camera.matrix, np.zeros(0)),
        GyroCalibration(OPTICAL),
    )


class FlightRecorder:
    """Writes what a loop's sensors said, a step after the other.

    pictures: written so far. seen: of these, with the target in them.
    """

    def __init__(self, writer: FlightWriter, camera: Sensor, target_id: int) -> None:
        self._writer, self._camera, self._target_id = writer, camera, target_id
        self.pictures = self.seen = 0

    def write(self, step: Step) -> None:
        """One step. What is missing in it is missing in the bag."""
        writer, stamp_ns = self._writer, step.moment.stamp_ns
        index = step.moment.frame
        values = {name: reading.value for name, reading in step.readings.items()}
        frame = values.get(CAMERA)
        if isinstance(frame, Frame):
            writer.frame(IMAGE_TOPIC, frame)
            writer.camera_info(INFO_TOPIC, frame.stamp_ns, self._camera, frame.frame_id)
            stamp_ns, index = frame.stamp_ns, frame.index
            self.pictures += 1
        boxes = values.get(BOXES)
        if isinstance(boxes, SeenBoxes):
            truth = self._truth(boxes, stamp_ns, index)
            self.seen += self._target_id in truth.ids.tolist()
            writer.tracks(TRUTH_TOPIC, truth)
        for name, child in ((BODY, "uav"), (GIMBAL, "gimbal")):
            odometry = values.get(name)
            if isinstance(odometry, Odometry):
                writer.odometry(name, step.moment.stamp_ns, odometry, child)
        felt = values.get(FELT)
        if isinstance(felt, Inertial):
            writer.inertial(FELT, felt)
        writer.objects(OBJECTS_TOPIC, step.moment.actors)

    def _truth(self, boxes: SeenBoxes, stamp_ns: int, index: int) -> Tracks:
        order = np.argsort(boxes.ids != self._target_id, kind="stable")
        n = len(order)
        return Tracks(
            stamp_ns, stamp_ns, index, (self._camera.width, self._camera.height),
            boxes.ids[order], boxes.boxes[order], np.ones(n, np.float32), np.zeros(n, np.uint8),
            boxes.classes[order].astype(np.int16),
        )  # fmt: skip
