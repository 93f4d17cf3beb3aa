"""The V2X link over a ROS topic: stations in namespaces of one DDS domain."""

import array
from collections.abc import Callable

from leadsight_msgs.msg import V2xMessage
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from comms.envelope import MTU
from comms.link import Inbox, LinkCount, check_size

TOPIC = "/v2x/air"
DEPTH = 100


def air() -> QoSProfile:
    """Best effort: a late datagram is worth less than the next one."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT
    )


class RosLink:
    """As ``comms.link.Link``; own datagrams come back. ``arrived`` is called on each arrival."""

    problem = ""
    copies = 1

    def __init__(self, node: Node, arrived: Callable[[], None]) -> None:
        self.counts = LinkCount()
        self._inbox = Inbox(self.counts)
        self._arrived = arrived
        self._publisher = node.create_publisher(V2xMessage, TOPIC, air())
        self._subscription = node.create_subscription(V2xMessage, TOPIC, self._take, air())

    def _take(self, message: V2xMessage) -> None:
        self._inbox.put(bytes(message.data[: MTU + 1]))
        self._arrived()

    def send(self, data: bytes) -> None:
        check_size(data)
        self._publisher.publish(V2xMessage(data=array.array("B", data)))
        self.counts.sent += 1
        self.counts.sent_bytes += len(data)

    def receive(self) -> list[bytes]:
        return self._inbox.take()

    def close(self) -> None:
        """The node takes its publisher and subscription with it."""
