"""Node ``v2x``: ``objects`` or ``tracks``, ``odometry``, ``plan`` and the others' messages →
``v2x/objects``."""

import sys
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from leadsight_msgs.msg import LatencyReport, ObjectArray, TrackArray
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from sensor_msgs.msg import LaserScan
from std_msgs.msg import Header

from comms.config import V2xConfig
from comms.fusion import Fused
from comms.link import Link
from comms.make_link import make_link
from comms.make_station import make_station
from comms.motion import predicted
from comms.request import Plan, Sight
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.objects import Objects
from pipeline.pose import Pose
from ros_nodes import messages, object_messages, process, qos
from ros_nodes.parameters import Live
from ros_nodes.stage import STEADY, Stage
from ros_nodes.v2x_diagnostics import diagnostics_of
from ros_nodes.v2x_ground import GroundInput
from ros_nodes.v2x_link import RosLink

POLL_S = 0.01
MAX_EACH = 64
"""Messages that are looked at in one go: others must not keep this vehicle from its own."""
POSES = 64
FAR_NS = 1_000_000_000
"""Odometry from further away in time says nothing of where the vehicle was."""
ATTITUDE_NS = 100_000_000
"""Nor of how it was turned, from further away than this."""
SCAN_NS = 200_000_000
"""A scan from further away in time says nothing of the view."""
SILENT_NS = 500_000_000
"""Own perception that is silent for so long is taken to see nothing."""
REPORT_SILENT_NS = 2_000_000_000


@dataclass(frozen=True)
class V2xNodeConfig(Config):
    """What own perception is, and for when the fused objects speak."""

    tracks: str = option(
        "auto",
        "When tracks, placed on the ground, are own perception: while no objects come, or whenever "
        "they come, or never.",
        choices=("auto", "always", "never"),
    )

    consumer: str = option("control", "Whose moment of use it is, among latency.consumers.")
    ahead_ms: float = option(
        50.0, "From now to that moment, while no latency report tells.", low=0, high=10_000
    )


class V2xNode(Node):
    """Sends and fuses with each message of own perception, and without any at its own rate."""

    def __init__(self) -> None:
        super().__init__("v2x")
        config = Live(self, "v2x", V2xConfig, lambda c: c, [*V2xConfig.__dataclass_fields__]).config
        self._options = Live(self, "v2x_node", V2xNodeConfig, lambda c: c)
        self._frame_id = config.frame_id
        self._verified = bool(config.trust)
        self._link: Link = (
            RosLink(self, self._listen) if config.link == "ros" else make_link(config.link)
        )
        self._station = make_station(config, self._link.copies)
        self._stage = Stage(self, self._reset)
        self._ground = GroundInput(self, self._stage.complain)
        self._flooded = 0
        self._reset()
        self._objects = self.create_publisher(ObjectArray, "v2x/objects", qos.results())
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.results())
        self.create_subscription(ObjectArray, "objects", self._receive, qos.results(1))
        self.create_subscription(TrackArray, "tracks", self._follow, qos.results(1))
        self.create_subscription(Odometry, "odometry", self._move, qos.samples())
        self.create_subscription(Path, "plan", self._intend, qos.results(1))
        self.create_subscription(LaserScan, "scan", self._look, qos.samples())
        self.create_subscription(LatencyReport, "latency", self._adjust, qos.results(1))
        self.create_timer(POLL_S, self._listen, clock=STEADY)
        self.create_timer(1 / config.rate_hz, self._tick, clock=STEADY)
        self.create_timer(1.0, self._diagnose, clock=STEADY)

    def destroy_node(self) -> None:
        self._link.close()
        super().destroy_node()

    def _reset(self) -> None:
        self._station.reset()
        self._ground.reset()
        self._poses: deque[Pose] = deque(maxlen=POSES)
        self._attitudes: deque[FloatArray] = deque(maxlen=POSES)
        self._plan: Plan | None = None
        self._sight: tuple[int, Sight | None] = 0, None
        self._horizon_ns: int | None = None
        self._reported_ns = self._seen_ns = self._heard_ns = -(10**18)
        self._told_ns = self._placed_ns = -(10**18)

    def _receive(self, message: ObjectArray, info: Any) -> None:
        late = _overtaken(message.header, self._placed_ns)
        if self._options.config.tracks != "always" and not late:
            self._stage.handle(message.header, info, lambda _: self._see(message))

    def _see(self, message: ObjectArray) -> bool:
        own = object_messages.objects_of(message, self._frame_id)
        self._seen_ns = self._heard_ns = self._stage.clock.now_ns()
        self._told_ns = own.stamp_ns
        pose = self._pose_at(own.stamp_ns)
        if pose is not None:
            self._exchange(own, pose)
            return True
        self._stage.warn("no odometry at the time of objects: nothing is shared")
        at_ns = self._moment(own.stamp_ns, self._seen_ns)
        self._publish(Fused.alone(predicted(own, at_ns)))
        return True

    def _follow(self, message: TrackArray, info: Any) -> None:
        wanted = self._options.config.tracks
        told = self._stage.clock.now_ns() - self._heard_ns <= SILENT_NS
        if _overtaken(message.header, self._told_ns):
            return
        if wanted == "always" or (wanted == "auto" and not told):
            self._stage.handle(message.header, info, lambda _: self._place(message))

    def _place(self, message: TrackArray) -> bool:
        stamp_ns = messages.stamp_of(message.header)
        pose = self._pose_at(stamp_ns)
        late_ns = 0 if pose is None else stamp_ns - pose.stamp_ns
        if pose is None or abs(late_ns) > ATTITUDE_NS:
            self._stage.warn("no odometry at the time of tracks: they cannot be placed")
            return False
        rotation = self._attitudes[self._poses.index(pose)]
        there = pose.position + late_ns * 1e-9 * pose.velocity
        pose = replace(pose, stamp_ns=stamp_ns, position=there)
        own = self._ground.objects_of(message, pose, rotation)
        self._seen_ns, self._placed_ns = self._stage.clock.now_ns(), stamp_ns
        self._exchange(own, pose)
        return True

    def _exchange(self, own: Objects, pose: Pose) -> None:
        now_ns = self._stage.clock.now_ns()
        plan = self._plan
        if plan is not None and plan.stamp_ns + plan.times_s[-1] * 1e9 <= now_ns:
            plan = None  # it is over
        stamp_ns, sight = self._sight
        if abs(stamp_ns - own.stamp_ns) > SCAN_NS:
            sight = None
        try:
            self._station.see(own, pose, plan, sight)
            for data in self._station.outgoing(now_ns):
                self._link.send(data)
            now_ns = self._stage.clock.now_ns()
            fused = self._station.fused(self._moment(own.stamp_ns, now_ns), now_ns)
        except Exception:  # whatever others do, own perception goes on
            self._publish(Fused.alone(predicted(own, self._moment(own.stamp_ns, now_ns))))
            raise
        self._publish(fused)

    def _publish(self, fused: Fused) -> None:
        self._objects.publish(object_messages.objects_message(fused, self._frame_id))

    def _moment(self, stamp_ns: int, now_ns: int) -> int:
        """When the consumer acts on what is published now."""
        told = STEADY.now().nanoseconds - self._reported_ns < REPORT_SILENT_NS
        if told and self._horizon_ns is not None:
            return max(now_ns, stamp_ns + self._horizon_ns)
        return now_ns + round(self._options.config.ahead_ms * 1e6)

    def _tick(self) -> None:
        """A vehicle that perceives nothing still tells of itself, and hears the others."""
        now_ns = self._stage.clock.now_ns()
        if self._poses and now_ns - self._seen_ns > SILENT_NS:
            pose = self._poses[-1]
            if abs(now_ns - pose.stamp_ns) < FAR_NS:
                self._exchange(Objects.none(pose.stamp_ns), pose)

    def _pose_at(self, stamp_ns: int) -> Pose | None:
        nearest = min(self._poses, key=lambda p: abs(p.stamp_ns - stamp_ns), default=None)
        if nearest is None or abs(nearest.stamp_ns - stamp_ns) > FAR_NS:
            return None
        return nearest

    def _listen(self) -> None:
        now_ns = self._stage.clock.now_ns()
        taken = self._link.receive()
        self._flooded += max(0, len(taken) - MAX_EACH)
        for data in taken[-MAX_EACH:]:
            self._station.incoming(data, now_ns)

    def _move(self, message: Odometry) -> None:
        with self._stage.complaining():
            pose = object_messages.pose_of(message, self._frame_id)
            self._remember(pose, object_messages.attitude_of(message))

    def _remember(self, pose: Pose, attitude: FloatArray) -> None:
        if self._poses and pose.stamp_ns <= self._poses[-1].stamp_ns:
            if self._poses[-1].stamp_ns - pose.stamp_ns < FAR_NS:
                return
            self._poses.clear()
            self._attitudes.clear()
        self._poses.append(pose)
        self._attitudes.append(attitude)

    def _look(self, message: LaserScan) -> None:
        if not self._poses:
            return
        with self._stage.complaining():
            sight = object_messages.sight_of(message, self._poses[-1])
            self._sight = messages.stamp_of(message.header), sight

    def _intend(self, message: Path) -> None:
        speed = float(np.linalg.norm(self._poses[-1].velocity)) if self._poses else 0.0
        now_ns = self._stage.clock.now_ns()
        with self._stage.complaining():
            self._plan = object_messages.plan_of(message, self._frame_id, speed, now_ns)

    def _adjust(self, message: LatencyReport) -> None:
        with self._stage.complaining():
            report = messages.report_of(message)
            wanted = self._options.config.consumer
            self._horizon_ns = next((h.ns for h in report.horizons if h.consumer == wanted), None)
            self._reported_ns = STEADY.now().nanoseconds

    def _diagnose(self) -> None:
        if self._link.problem:
            self._stage.warn(self._link.problem)
        status = diagnostics_of(
            f"{self.get_fully_qualified_name()}/exchange",
            self._station.report(),
            self._link.counts,
            self._flooded,
            self._verified,
            self._ground.left_out,
        )
        head = messages.header(self._stage.clock.now_ns())
        self._diagnostics.publish(DiagnosticArray(header=head, status=[status]))


def _overtaken(head: Header, newest_ns: int) -> bool:
    """Whether what the other source of own perception told is newer: no jump of time."""
    return bool(0 < newest_ns - (head.stamp.sec * 10**9 + head.stamp.nanosec) < FAR_NS)


def main() -> None:
    sys.exit(process.run(V2xNode))


if __name__ == "__main__":
    main()
