"""Node ``isp``: ``image_raw`` (Bayer RAW, or a picture, which passes) → ``image`` (rgb8).

A sensor of 10 to 14 bits comes as ``bayer_<order>16``, the only name that ``sensor_msgs`` has for
it: set ``isp.bits`` to its bits. ``isp.justified`` says where they lie, or finds out by itself.
"""

import sys
from typing import Any

from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image

from isp.classical import ClassicalIsp
from isp.config import IspConfig
from ros_nodes import messages, process, qos
from ros_nodes.parameters import Live
from ros_nodes.stage import Stage


class IspNode(Node):
    """Develops each frame while somebody subscribes to the result."""

    def __init__(self) -> None:
        super().__init__("isp")
        self._isp = Live(self, "isp", IspConfig, ClassicalIsp)
        self._stage = Stage(self, lambda: self._isp.made.reset())
        overrides = QoSOverridingOptions.with_default_policies()
        self._images = self.create_publisher(
            Image, "image", qos.images(), qos_overriding_options=overrides
        )
        self.create_subscription(
            Image, "image_raw", self._receive, qos.images(), qos_overriding_options=overrides
        )

    def _receive(self, message: Image, info: Any) -> None:
        self._stage.handle(message.header, info, lambda index: self._develop(message, index))

    def _develop(self, message: Image, index: int) -> bool:
        if not self._images.get_subscription_count():
            return False
        frame = self._isp.made.process(messages.frame_of(message, index))
        self._images.publish(messages.image_of(frame))
        return True


def main() -> None:
    sys.exit(process.run(IspNode))


if __name__ == "__main__":
    main()
