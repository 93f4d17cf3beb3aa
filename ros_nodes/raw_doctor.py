"""Node ``raw_doctor``: looks at one picture of ``image_raw``, says what its RAW is, and ends.

The same as ``leadsight raw-doctor`` on a file; the encoding, step and byte order are the message's.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from sensor_msgs.msg import Image

from leadsight.cli import console
from leadsight.raw_doctor import report
from leadsight.raw_source import source_of
from pipeline.config import Config, option
from pipeline.errors import InputError
from ros_nodes import messages, process, qos
from ros_nodes.parameters import Live
from ros_nodes.stage import STEADY


@dataclass(frozen=True)
class RawDoctorConfig(Config):
    """Where the result goes, and how long a picture is waited for."""

    out: str = option("raw-doctor.png", "Path of the picture with the four candidates.")
    bits: int = option(0, "Significant bits of a pixel; 0 finds them.", low=0, high=16)
    wait_s: float = option(10.0, "Longest wait for a picture.", low=0.1, high=3600)


class RawDoctorNode(Node):
    """Takes the first picture that comes and ends the process."""

    def __init__(self) -> None:
        super().__init__("raw_doctor")
        names = [*RawDoctorConfig.__dataclass_fields__]
        self._options = Live(self, "raw_doctor", RawDoctorConfig, lambda c: c, names).config
        self._done = False
        self._topic = self.resolve_topic_name("image_raw")
        self.create_subscription(Image, "image_raw", self._receive, qos.images())
        self.create_timer(self._options.wait_s, self._give_up, clock=STEADY)

    def _receive(self, message: Image) -> None:
        if self._done:
            return
        self._done = True
        try:
            source = source_of(messages.frame_of(message, 0), self._topic, self._options.bits)
            report(source, Path(self._options.out), console)
            process.finish()
        except InputError as error:
            self._refuse(str(error))

    def _give_up(self) -> None:
        if not self._done:
            self._done = True
            kinds = self.get_topic_names_and_types()
            pictures = [name for name, kind in kinds if "sensor_msgs/msg/Image" in kind]
            there = ", ".join(p for p in pictures if self.count_publishers(p)) or "none"
            self._refuse(
                f"{self._topic}: no picture came in {self._options.wait_s:g} s; topics with "
                f"pictures: {there}"
            )

    def _refuse(self, text: str) -> None:
        print(f"{self.get_name()}: {' '.join(text.split())}", file=sys.stderr)
        process.finish(2)


def main() -> None:
    sys.exit(process.run(RawDoctorNode))


if __name__ == "__main__":
    main()
