"""Node ``replay``: a rosbag2's topics at their own pace, with ``/clock``; the camera's on
``image_raw``, the IMU's on ``imu``, what a stack said when it was recorded under ``recorded/``."""

import importlib
import itertools
import sys
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path

from rclpy.node import Node
from rclpy.publisher import Publisher
from rosbags.interfaces import Connection
from rosgraph_msgs.msg import Clock

from evaluation.bags import COMPRESSED, IMAGE, IMU, Bag
from pipeline.config import Config, option
from pipeline.errors import InputError
from ros_nodes import messages, process, qos
from ros_nodes.parameters import Live

TICK_S = 0.005
PROGRESS_S = 2.0
LIVE_NAMES = {"image_raw", "image", "diagnostics", "rosout", "parameter_events", "transition_event"}
"""Last parts of the names of topics that a running stack publishes, beside its own messages'."""


@dataclass(frozen=True)
class ReplayConfig(Config):
    """What is played, and how."""

    bag: str = option("", "Path of a rosbag2: an .mcap or .db3 file, or its folder.")
    camera: str = option("", "Camera topic in the bag, where it holds several.")
    imu: str = option("", "IMU topic in the bag, where it holds several.")
    rate: float = option(1.0, "Speed; 1 is as recorded.", low=0.01, high=100)
    loop: bool = option(False, "Start again at the end; time jumps back.")
    wait_s: float = option(
        10.0, "Longest wait for somebody to subscribe to the camera.", low=0, high=3600
    )


class ReplayNode(Node):
    """Plays on a thread of its own and ends the process with the bag."""

    def __init__(self) -> None:
        super().__init__("replay")
        names = [field.name for field in fields(ReplayConfig)]
        self._options = Live(self, "replay", ReplayConfig, lambda config: config, names).config
        if not self._options.bag:
            raise InputError("parameter replay.bag is not set: give the path of a rosbag2")
        self._bag = Bag(Path(self._options.bag))
        self._camera = self._bag.camera(self._options.camera or None)
        self._imu = self._options.imu
        if self._imu or list(self._bag.topics().values()).count(IMU) == 1:
            self._imu = self._bag.imu(self._imu or None)
        self._publishers_of = {c.topic: self._publisher(c) for c in self._bag.reader.connections}
        self._clock_ticks = self.create_publisher(Clock, "/clock", qos.results(1))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._play, name="replay", daemon=True)
        self._thread.start()

    def destroy_node(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._bag.reader.close()
        super().destroy_node()

    def _publisher(self, connection: Connection) -> Publisher | None:
        """For a topic of the bag, in this node's namespace; None for an unknown type."""
        package, _, name = connection.msgtype.split("/")
        try:
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
        except (ImportError, AttributeError):
            self.get_logger().warning(
                f"{connection.topic} is left out: {connection.msgtype} is not installed"
            )
            return None
        picture = connection.msgtype in (IMAGE, COMPRESSED)
        topic = played_as(connection.topic, connection.msgtype, self._camera, self._imu)
        if topic == "clock":
            return None
        return self.create_publisher(kind, topic, qos.images() if picture else qos.results())

    def _play(self) -> None:
        try:
            self._await_subscriber()
            for lap in itertools.count():
                self._play_once(lap)
                if self._stopped.is_set() or not self._options.loop:
                    break
            process.finish()
        except Exception as error:
            self.get_logger().error(f"{self._bag.path}: {error}")
            process.finish(2)

    def _await_subscriber(self) -> None:
        camera = self._publishers_of[self._camera]
        until = time.monotonic() + self._options.wait_s
        while camera is not None and not camera.get_subscription_count():
            if time.monotonic() > until or self._stopped.wait(0.05):
                return
        self._stopped.wait(0.3)  # the others are about to be found, too

    def _play_once(self, lap: int) -> None:
        reader = self._bag.reader
        first_ns, length_ns = reader.start_time, max(reader.duration, 1)
        begin = time.monotonic()
        told = begin
        for connection, log_ns, data in reader.messages():
            if not self._wait_for(begin, log_ns - first_ns, first_ns):
                return
            publisher = self._publishers_of[connection.topic]
            if publisher is not None:
                publisher.publish(bytes(data))
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                percent = 100 * (log_ns - first_ns) // length_ns
                self.get_logger().info(f"{percent} % of {length_ns * 1e-9:.1f} s, lap {lap + 1}")

    def _wait_for(self, begin: float, offset_ns: int, first_ns: int) -> bool:
        """Tick ``/clock`` until a message's time; False when the node ends."""
        rate = self._options.rate
        while not self._stopped.is_set():
            passed_ns = round((time.monotonic() - begin) * 1e9 * rate)
            self._tick(first_ns + min(passed_ns, offset_ns))
            if passed_ns >= offset_ns:
                return True
            self._stopped.wait(min(TICK_S, (offset_ns - passed_ns) * 1e-9 / rate))
        return False

    def _tick(self, now_ns: int) -> None:
        self._clock_ticks.publish(Clock(clock=messages.header(now_ns).stamp))


def played_as(topic: str, kind: str, camera: str, imu: str = "") -> str:
    """A bag's topic in the node's namespace.

    What the stack of that day published must not meet what today's publishes: stages that
    subscribe to it would get both. The truth is nobody's to publish but the bag's.
    """
    if topic == camera:
        return "image_raw"
    if topic == imu:
        return "imu"
    name = topic.rpartition("/")[2]
    live = name in LIVE_NAMES or (kind.startswith("leadsight_msgs/") and name != "truth")
    return f"recorded/{topic.lstrip('/')}" if live else topic.lstrip("/")


def main() -> None:
    sys.exit(process.run(ReplayNode))


if __name__ == "__main__":
    main()
