"""Node ``follower``: ``tracks`` → ``gimbal_aim`` and ``cmd_vel``: a UAV that follows a target.

Each answer of the tracker becomes a point on the ground by where the camera was *when its frame was
taken* (``gimbal``, ``camera_info``); where that point will be when the command is obeyed is
forecast, so what tracking takes and what the actuators take costs no accuracy in pointing.
"""

import sys
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist
from leadsight_msgs.msg import GimbalAim, TrackArray
from nav_msgs.msg import Odometry as OdometryMessage
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from bridges.follow import FollowConfig, Sight, follow
from bridges.simulator import Aim, Odometry
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.imu import CameraCalibration
from pipeline.tracks import TrackStatus
from prediction.ground_target import PREDICTOR, GroundTarget
from ros_nodes import messages, process, qos
from ros_nodes import simulator_messages as convert
from ros_nodes.object_messages import attitude_of
from ros_nodes.parameters import Live
from ros_nodes.stage import Stage

KEPT = 512
"""Poses of the camera that are kept for answers about past frames."""
APART_NS = 20_000_000
"""How far the camera's pose may be from a frame's stamp."""


@dataclass(frozen=True)
class FollowerConfig(Config):
    """Whom to follow, and what stands between a command and its effect."""

    target: int = option(-1, "Identity of the track to follow; -1: the first in the message.")
    actuator_ms: float = option(60.0, "From a command to what obeys it, ms.", low=0, high=2000)
    height_m: float = option(
        0.75, "Height of a box's middle above the ground, which lies at z = 0.", low=0, high=20
    )
    acceleration_sigma: float = option(
        0.5, "How much a target's speed changes, in its own sizes per s^1.5.", low=1e-3, high=1e3
    )
    silent_s: float = option(
        1.0,
        "Without an answer for as long, the UAV hovers and the gimbal rests.",
        low=0.05,
        high=60,
    )


class FollowerNode(Node):
    """A command for every odometry."""

    def __init__(self) -> None:
        super().__init__("follower")
        self._made = Live(self, "follower", FollowerConfig, _target)
        self._follow = Live(self, "follow", FollowConfig, lambda c: c)
        self._stage = Stage(self, self._reset)
        self._camera: CameraCalibration | None = None
        self._poses: deque[tuple[int, FloatArray]] = deque(maxlen=KEPT)
        self._aims = self.create_publisher(GimbalAim, "gimbal_aim", qos.results(1))
        self._speeds = self.create_publisher(Twist, "cmd_vel", qos.results(1))
        self.create_subscription(CameraInfo, "camera_info", self._see, qos.results(1))
        self.create_subscription(OdometryMessage, "gimbal", self._turned, qos.results())
        self.create_subscription(TrackArray, "tracks", self._learn, qos.results())
        self.create_subscription(OdometryMessage, "odometry", self._command, qos.results(1))

    def _see(self, message: CameraInfo) -> None:
        with self._stage.complaining():
            self._camera = messages.camera_of(message)

    def _turned(self, message: OdometryMessage) -> None:
        with self._stage.complaining():
            odometry = _odometry_of(message)
            self._poses.append((messages.stamp_of(message.header), odometry.pose))

    def _learn(self, message: TrackArray) -> None:
        """One answer about one frame."""
        with self._stage.complaining():
            tracks = messages.tracks_of(message)
            wanted = self._made.config.target
            rows = np.arange(len(tracks)) if wanted < 0 else np.flatnonzero(tracks.ids == wanted)
            if self._camera is None or not len(rows):
                return
            pose = self._pose_at(tracks.stamp_ns)
            row = rows[0]
            if pose is not None and tracks.status[row] != TrackStatus.LOST:
                status = TrackStatus(tracks.status[row])
                height_m = self._made.config.height_m
                self._made.made.take(
                    tracks.stamp_ns, tracks.boxes[row], status, pose, self._camera.matrix, height_m
                )

    def _pose_at(self, stamp_ns: int) -> FloatArray | None:
        near = min(self._poses, key=lambda p: abs(p[0] - stamp_ns), default=None)
        return None if near is None or abs(near[0] - stamp_ns) > APART_NS else near[1]

    def _command(self, message: OdometryMessage, info: Any) -> None:
        self._stage.handle(message.header, info, lambda _: self._commanded(message))

    def _commanded(self, message: OdometryMessage) -> bool:
        config, target, own = self._made.config, self._made.made, _odometry_of(message)
        newest_ns = target.newest_ns
        if newest_ns is None:
            return False
        now_ns = self._stage.clock.now_ns()
        if now_ns - newest_ns > config.silent_s * 1e9:
            self._rest(now_ns)
            self._stage.warn("no answer of the tracker: hovering")
            return True
        delay_s = config.actuator_ms * 1e-3
        point, velocity = target.at(now_ns + round(delay_s * 1e9))
        age_s = (now_ns - messages.stamp_of(message.header)) * 1e-9
        place = own.pose[:3, 3] + (age_s + delay_s) * (own.pose[:3, :3] @ own.velocity)
        speed, aim = follow(Sight(point - place, velocity), own, self._follow.config)
        self._speeds.publish(convert.twist_message(speed))
        self._aims.publish(convert.aim_message(aim, now_ns))
        return True

    def _rest(self, now_ns: int) -> None:
        """Hover, and hold the gimbal where it looks: what was told last would turn it on."""
        self._speeds.publish(Twist())
        if self._poses:
            x, y, z = self._poses[-1][1][:3, 0]
            aim = Aim(float(np.arctan2(y, x)), float(np.arctan2(z, np.hypot(x, y))))
            self._aims.publish(convert.aim_message(aim, now_ns))

    def _reset(self) -> None:
        self._poses.clear()
        self._made.made.reset()


def _target(config: FollowerConfig) -> GroundTarget:
    return GroundTarget(replace(PREDICTOR, acceleration_sigma=config.acceleration_sigma))


def _odometry_of(message: OdometryMessage) -> Odometry:
    """
    Raises:
        InputError: an orientation that is none, or a value that is not finite.
    """
    pose = np.eye(4)
    pose[:3, :3] = attitude_of(message)
    at, twist = message.pose.pose.position, message.twist.twist
    pose[:3, 3] = at.x, at.y, at.z
    velocity = np.array([twist.linear.x, twist.linear.y, twist.linear.z])
    rates = np.array([twist.angular.x, twist.angular.y, twist.angular.z])
    if not all(np.isfinite(values).all() for values in (pose, velocity, rates)):
        raise InputError("Odometry: a value is not finite; its sender is at fault")
    return Odometry(pose, velocity, rates)


def main() -> None:
    sys.exit(process.run(FollowerNode))


if __name__ == "__main__":
    main()
