"""Node ``isp``: ``image_raw`` (Bayer RAW, or a picture, which passes) → ``image`` (rgb8).

``image`` is the whole picture for the stages that follow, the tracker's. ``~/human`` and
``~/detector`` are the same moment for others: with ``isp.mode`` task_aware each as it is seen best,
the detector's on a small grid; with classical the same picture. ``~/exposure`` is advice for the
camera's driver, which may say on ``~/camera_state`` what the camera does now; ``tracks`` say how
fast the target moves.

A sensor of 10 to 14 bits comes as ``bayer_<order>16``, the only name that ``sensor_msgs`` has for
it: set ``isp.bits`` to its bits. ``isp.justified`` says where they lie, or finds out by itself.
"""

import sys
from typing import Any

from leadsight_msgs.msg import Exposure, TrackArray
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image

from isp.config import IspConfig
from isp.exposure import ExposureAdvisor, ExposureConfig
from isp.make import Isp, make_isp
from isp.task_aware import TaskAwareIsp
from pipeline.frame import Frame
from ros_nodes import messages, process, qos
from ros_nodes.image_topics import OutgoingImage, ReceivedImage, subscribe
from ros_nodes.parameters import Live
from ros_nodes.stage import Stage

OUTPUTS = {"detector": "~/detector", "tracker": "image", "human": "~/human"}
"""In the order of publishing: the small view takes least time and waits for none."""


class IspNode(Node):
    """Develops each frame for those who subscribe."""

    def __init__(self) -> None:
        super().__init__("isp")
        self._stage = Stage(self, self._reset)
        self._started = False
        self._told = ""
        self._isp = Live(self, "isp", IspConfig, self._make)
        self._options = Live(self, "exposure", ExposureConfig, lambda config: config)
        self._advisor = ExposureAdvisor()
        self._started = True
        overrides = QoSOverridingOptions.with_default_policies()
        self._images = {
            consumer: self.create_publisher(
                Image, topic, qos.images(), qos_overriding_options=overrides
            )
            for consumer, topic in OUTPUTS.items()
        }
        self._exposure = self.create_publisher(Exposure, "~/exposure", qos.results())
        self.create_subscription(TrackArray, "tracks", self._see, qos.results())
        self.create_subscription(Exposure, "~/camera_state", self._tell, qos.results())
        self._outgoing = {consumer: OutgoingImage() for consumer in OUTPUTS}
        subscribe(self, "image_raw", self._receive, self._stage, overrides)

    def _make(self, config: IspConfig) -> Isp:
        """A set that cannot be is refused; at the start the node goes on without it."""
        isp = make_isp(config, complain=None if self._started else self._stage.warn)
        if config.ignored:
            self._stage.warn(config.ignored)
        return isp

    def _reset(self) -> None:
        self._isp.made.reset()
        self._advisor.reset()

    def _receive(self, message: ReceivedImage, info: Any) -> None:
        self._stage.handle(message.header, info, lambda index: self._develop(message, index))

    def _develop(self, message: ReceivedImage, index: int) -> bool:
        wanted = tuple(c for c, to in self._images.items() if to.get_subscription_count())
        isp = self._isp.made
        advised = isinstance(isp, TaskAwareIsp) and self._exposure.get_subscription_count()
        if not wanted and not advised:
            return False
        frame = messages.frame_of(message, index)
        made = frame.encoding.startswith("bayer")  # others pass as they are
        rooms = {c: self._outgoing[c].room(*frame.size) for c in wanted if made and c != "detector"}
        for consumer, picture in isp.views(frame, wanted, rooms):
            self._images[consumer].publish(self._outgoing[consumer].message(picture))
        if isp.found != self._told:
            self._told = isp.found
            if isp.found:
                self.get_logger().info(isp.found)
        if isinstance(isp, TaskAwareIsp) and isp.chosen is not None:
            if isp.chosen.problem:
                self._stage.warn(isp.chosen.problem)
            if advised:
                self._advise(frame, isp)
        return bool(wanted)

    def _advise(self, frame: Frame, isp: TaskAwareIsp) -> None:
        self._advisor.config = self._options.config
        advice = self._advisor.advise(frame.stamp_ns, frame.size[0], isp.chosen)
        if advice is not None:
            self._exposure.publish(messages.exposure_message(advice, frame.frame_id))

    def _see(self, message: TrackArray) -> None:
        with self._stage.complaining():
            self._advisor.see(messages.tracks_of(message))

    def _tell(self, message: Exposure) -> None:
        """What the camera does now; where that cannot be, advice is relative."""
        camera = None
        with self._stage.complaining():
            camera = messages.camera_state_of(message)
        self._advisor.camera = camera


def main() -> None:
    sys.exit(process.run(IspNode))


if __name__ == "__main__":
    main()
