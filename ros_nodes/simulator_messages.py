"""A simulator's readings as messages, and messages as its controls."""

import array
import re
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist
from leadsight_msgs import msg as own
from nav_msgs.msg import Odometry as OdometryMessage
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2, PointField

from bridges.flight import quaternion
from bridges.simulator import (
    Aim,
    Depth,
    Drive,
    Fix,
    Heard,
    Inertial,
    Moment,
    Odometry,
    Points,
    SeenBoxes,
    Sensor,
    Velocity,
)
from bridges.truth import true_objects
from comms.fusion import Fused
from pipeline.frame import Frame
from pipeline.imu import CameraCalibration
from pipeline.pose import MAP
from pipeline.tracks import Tracks
from ros_nodes import messages
from ros_nodes.object_messages import objects_message

_FLOATS = ("x", "y", "z", "intensity")


def picture_message(frame: Frame, stamp_ns: int, frame_id: str) -> Image:
    """sensor_msgs/Image; RAW of 10 to 14 bits goes as 16, right-justified."""
    message = messages.image_of(frame)
    message.header = messages.header(stamp_ns, frame_id)
    message.encoding = re.sub(r"(10|12|14)$", "16", message.encoding)
    return message


def info_message(sensor: Sensor, stamp_ns: int, frame_id: str) -> CameraInfo:
    """sensor_msgs/CameraInfo of a pinhole camera."""
    camera = CameraCalibration((sensor.width, sensor.height), sensor.matrix, np.empty(0))
    return messages.camera_message(camera, stamp_ns, frame_id)


def depth_message(depth: Depth, stamp_ns: int, frame_id: str) -> Image:
    """sensor_msgs/Image 32FC1, meters (REP-118)."""
    height, width = depth.meters.shape
    meters = np.ascontiguousarray(depth.meters, np.float32)
    return Image(
        header=messages.header(stamp_ns, frame_id), height=height, width=width,
        encoding="32FC1", is_bigendian=0, step=4 * width, data=messages.packed("B", meters),
    )  # fmt: skip


def points_message(points: Points, stamp_ns: int, frame_id: str) -> PointCloud2:
    """sensor_msgs/PointCloud2 of x, y, z, intensity."""
    rows = np.column_stack([points.xyz, points.intensity]).astype(np.float32)
    fields = [
        PointField(name=name, offset=4 * k, datatype=PointField.FLOAT32, count=1)
        for k, name in enumerate(_FLOATS)
    ]
    return PointCloud2(
        header=messages.header(stamp_ns, frame_id), height=1, width=len(rows), fields=fields,
        is_bigendian=False, point_step=16, row_step=16 * len(rows), is_dense=True,
        data=messages.packed("B", rows),
    )  # fmt: skip


def imu_messages(inertial: Inertial, delay_ns: int, frame_id: str) -> list[Imu]:
    """One sensor_msgs/Imu a sample; delay_ns is added to each stamp. The orientation is known at
    the last one only."""
    found = []
    last = len(inertial.stamps_ns) - 1
    for k, stamp_ns in enumerate(inertial.stamps_ns.tolist()):
        message = messages.imu_message(
            stamp_ns + delay_ns, inertial.rates[k].tolist(), 0.0, frame_id
        )
        message.linear_acceleration_covariance[0] = 0.0
        force = message.linear_acceleration
        force.x, force.y, force.z = inertial.accelerations[k].tolist()
        if k == last:
            message.orientation_covariance[0] = 0.0
            q = message.orientation
            q.x, q.y, q.z, q.w = inertial.orientation.tolist()
        found.append(message)
    return found


def fix_message(fix: Fix, stamp_ns: int, frame_id: str) -> NavSatFix:
    """sensor_msgs/NavSatFix."""
    message = NavSatFix(
        header=messages.header(stamp_ns, frame_id), latitude=fix.latitude,
        longitude=fix.longitude, altitude=fix.altitude,
    )  # fmt: skip
    message.status.service = 1
    return message


def odometry_message(odometry: Odometry, stamp_ns: int, child: str) -> OdometryMessage:
    """nav_msgs/Odometry in the frame ``map``, exact."""
    message = OdometryMessage(header=messages.header(stamp_ns, MAP), child_frame_id=child)
    at, q = message.pose.pose.position, message.pose.pose.orientation
    at.x, at.y, at.z = odometry.pose[:3, 3].tolist()
    q.x, q.y, q.z, q.w = quaternion(odometry.pose[:3, :3]).tolist()
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    linear.x, linear.y, linear.z = odometry.velocity.tolist()
    angular.x, angular.y, angular.z = np.nan_to_num(odometry.rates).tolist()
    return message


def truth_message(
    boxes: SeenBoxes, sensor: Sensor, frame: int, stamp_ns: int, frame_id: str
) -> own.TrackArray:
    """leadsight_msgs/TrackArray of what is in view; labels are ``ObjectClass``."""
    n = len(boxes.ids)
    tracks = Tracks(
        stamp_ns, stamp_ns, frame, (sensor.width, sensor.height), boxes.ids, boxes.boxes,
        np.ones(n, np.float32), np.zeros(n, np.uint8), boxes.classes.astype(np.int16),
    )  # fmt: skip
    return messages.tracks_message(tracks, frame_id)


def actors_message(moment: Moment, stamp_ns: int, but: int) -> own.ObjectArray:
    """leadsight_msgs/ObjectArray of everybody but one, exactly."""
    others = moment.actors.selected(moment.actors.ids != but)
    message = objects_message(Fused.alone(true_objects(others)), MAP)
    message.header = messages.header(stamp_ns, MAP)
    message.ready_ns = stamp_ns
    message.measured_ns = messages.packed("q", np.full(len(others), stamp_ns, np.int64))
    return message


def heard_message(heard: Heard) -> own.V2xMessage:
    """leadsight_msgs/V2xMessage: what was sent, as it came."""
    return own.V2xMessage(data=array.array("B", heard.payload))


def velocity_of(message: Twist) -> Velocity:
    """
    Raises:
        InputError: a value that is not finite, or absurd.
    """
    linear = message.linear
    return Velocity(np.array([linear.x, linear.y, linear.z]), float(message.angular.z))


def drive_of(message: own.DriveControl) -> Drive:
    """
    Raises:
        InputError: a value out of range.
    """
    return Drive(
        message.throttle, message.steer, message.brake, message.reverse, message.hand_brake
    )


def bridge_drive_of(message: Any) -> Drive:
    """Of carla_msgs/CarlaEgoVehicleControl, whose steer is positive to the right.

    Raises:
        InputError: a value out of range.
    """
    return Drive(
        message.throttle, -message.steer, message.brake, message.reverse, message.hand_brake
    )


def aim_of(message: own.GimbalAim) -> Aim:
    """
    Raises:
        InputError: a value that is not finite, or absurd.
    """
    return Aim(message.azimuth, message.elevation, message.azimuth_rate, message.elevation_rate)


def aim_message(aim: Aim, stamp_ns: int) -> own.GimbalAim:
    """leadsight_msgs/GimbalAim."""
    return own.GimbalAim(
        header=messages.header(stamp_ns, MAP), azimuth=aim.azimuth, elevation=aim.elevation,
        azimuth_rate=aim.azimuth_rate, elevation_rate=aim.elevation_rate,
    )  # fmt: skip


def twist_message(velocity: Velocity) -> Twist:
    """geometry_msgs/Twist."""
    message = Twist()
    message.linear.x, message.linear.y, message.linear.z = velocity.linear.tolist()
    message.angular.z = velocity.yaw_rate
    return message
