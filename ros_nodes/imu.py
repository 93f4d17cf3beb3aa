"""Beside images: a gyroscope's samples, and the camera's word on its lens, in and out.

A thousand messages a second through the executor would take 40 % of a core, nearly all of it for
waking up a thousand times. So the executor does not wait for them: they stay in the middleware's
queue until an image comes, or the next beat.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Imu
from std_msgs.msg import Header

from bridges.world import AerialWorld
from leadsight.stack import Stack
from perception.ego import GyroReport
from pipeline.errors import InputError
from ros_nodes import messages, qos
from ros_nodes.stage import STEADY

BEAT_S = 0.02


class _NotWaitedFor(CallbackGroup):
    """Subscriptions that the executor leaves alone."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


class ImuInput:
    """``imu`` and ``camera_info`` to the stack; ``poll`` takes what has come."""

    def __init__(self, node: Node, stack: Stack, complain: Callable[[str], None]) -> None:
        self._stack = stack
        self._complain = complain
        self._told: tuple[object, ...] = ()
        group = _NotWaitedFor()
        self._imu = node.create_subscription(
            Imu, "imu", lambda message: None, qos.samples(), callback_group=group
        )
        self._info = node.create_subscription(
            CameraInfo, "camera_info", lambda message: None, qos.images(), callback_group=group
        )
        node.create_timer(BEAT_S, self.poll, clock=STEADY)

    def poll(self) -> None:
        """Hand on what has come since the last time."""
        samples = list(_taken(self._imu))
        if samples:
            self._stack.feed_imu(messages.imu_samples(samples))
        for info in _taken(self._info):
            told = (info.width, info.height, info.distortion_model, *info.d, *info.k)
            if told != self._told:
                self._told = told
                try:
                    camera = messages.camera_of(info)
                except InputError as error:
                    self._complain(str(error))
                else:
                    if camera is not None:
                        self._stack.tell_camera(camera)


def _taken(subscription: Subscription) -> Iterator[Any]:
    while True:
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is None:
            return
        yield taken[0]


class WorldImu:
    """The embedded world's gyroscope on ``imu``, its camera's lens on ``camera_info``."""

    def __init__(self, node: Node, world: AerialWorld) -> None:
        self._world = world
        self._imu = node.create_publisher(Imu, "imu", qos.samples())
        self._info = node.create_publisher(CameraInfo, "camera_info", qos.results(1))
        self._shown: tuple[int, int] | None = None

    def show(self, world_ns: int, head: Header) -> None:
        """Before the frame of the world's time ``world_ns`` is shown under a header, publish what
        the gyroscope said since the last one, on the same clock."""
        camera, gyro = self._world.calibration
        stamp_ns = messages.stamp_of(head)
        self._info.publish(messages.camera_message(camera, stamp_ns, head.frame_id))
        last, self._shown = self._shown, (world_ns, stamp_ns)
        if last is None or stamp_ns <= last[1]:
            return
        samples = self._world.gyro(last[0], world_ns)
        # A frame is shown a little early or late: what was turned meanwhile is the same.
        pace = (stamp_ns - last[1]) / (world_ns - last[0])
        stamps = last[1] + ((samples.stamps_ns - last[0]) * pace).astype(np.int64)
        sigma = gyro.noise * self._world.config.gyro_hz**0.5
        for at_ns, rates in zip(stamps.tolist(), (samples.rates / pace).tolist(), strict=True):
            self._imu.publish(messages.imu_message(at_ns, rates, sigma, "imu"))


def gyro_diagnostics(report: GyroReport, namespace: str) -> DiagnosticStatus:
    """A line of /diagnostics."""
    counts = report.counts
    values = {
        "disagreement": f"{report.disagreement:.3f}",
        "bias_rad_s": " ".join(f"{v:.5f}" for v in report.bias),
        "used": counts.used,
        "late": counts.late,
        "repeated": counts.repeated,
        "impossible": counts.impossible,
        "other_clock": counts.other_clock,
    }
    return DiagnosticStatus(
        level=DiagnosticStatus.OK if report.fine else DiagnosticStatus.WARN,
        name=f"{namespace.rstrip('/')}/gyroscope",
        message=str(report),
        hardware_id="leadsight",
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
