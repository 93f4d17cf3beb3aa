"""Node ``sim_camera``: the embedded world's RAW frames on ``image_raw``, its truth on ``truth``,
and when asked its gyroscope on ``imu`` and its lens on ``camera_info``.

``sensor_msgs`` names Bayer RAW of 8 and 16 bits only, so 10 to 14 bits go as ``bayer_<order>16``,
right-justified; the ISP is told with ``isp.bits``.
"""

import re
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from leadsight_msgs.msg import TrackArray
from leadsight_msgs.srv import Select
from rclpy.node import Node
from sensor_msgs.msg import Image

from bridges.world import AerialWorld, WorldConfig, WorldFrame
from pipeline.clock import RosClock
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.tracks import Tracks
from ros_nodes import messages, process, qos
from ros_nodes.imu import WorldImu
from ros_nodes.parameters import Live

SELECT_AGAIN_NS = 500_000_000


@dataclass(frozen=True)
class SimCameraConfig(Config):
    """How the embedded world is shown."""

    prerendered: int = option(
        0,
        "Frames drawn before the first is shown, then played forth and back, for measurements "
        "that the drawing must not disturb; 0 draws as it goes.",
        low=0,
        high=600,
    )
    select_service: str = option(
        "", "Service to be told where the target is, for example tracker/select; empty for none."
    )
    imu: bool = option(False, "Publish imu and camera_info.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.imu and self.prerendered:
            raise InputError("imu: frames played forth and back have none; set prerendered to 0")


class SimCameraNode(Node):
    """A camera with an exact beat. Where drawing takes longer than a beat, beats are left out."""

    def __init__(self) -> None:
        super().__init__("sim_camera")
        self._now = RosClock(self.get_clock())
        self._world = Live(
            self, "world", WorldConfig, AerialWorld, [*WorldConfig.__dataclass_fields__]
        ).made
        config = Live(
            self,
            "sim_camera",
            SimCameraConfig,
            lambda config: config,
            [*SimCameraConfig.__dataclass_fields__],
        ).config
        self._images = self.create_publisher(Image, "image_raw", qos.images())
        self._truth = self.create_publisher(TrackArray, "truth", qos.results())
        self._imu = WorldImu(self, self._world) if config.imu else None
        self._select = (
            self.create_client(Select, config.select_service) if config.select_service else None
        )
        self._select_at_ns = 0
        self._stopped = threading.Event()
        self._loop = [self._drawn(k) for k in range(config.prerendered)]
        self._thread = threading.Thread(target=self._show, name="sim_camera", daemon=True)
        self._thread.start()

    def destroy_node(self) -> None:
        self._stopped.set()
        self._thread.join()
        super().destroy_node()

    def _show(self) -> None:
        period_ns = self._world.period_ns
        begin_ns = time.monotonic_ns() + period_ns
        beat = 0
        while not self._stopped.is_set():
            truth, image = self._frame(beat)
            wait_ns = begin_ns + beat * period_ns - time.monotonic_ns()
            if wait_ns > 0:
                time.sleep(wait_ns * 1e-9)
            image.header = messages.header(self._now.now_ns(), truth.frame.frame_id)
            if self._imu is not None:
                self._imu.show(truth.stamp_ns, image.header)
            self._images.publish(image)
            self._tell(truth, image.header)
            beat = max(beat + 1, -(-(time.monotonic_ns() - begin_ns) // period_ns))

    def _frame(self, beat: int) -> tuple[WorldFrame, Image]:
        if not self._loop:
            return self._drawn(beat)
        last = len(self._loop) - 1
        return self._loop[last - abs(last - beat % max(2 * last, 1))]

    def _drawn(self, index: int) -> tuple[WorldFrame, Image]:
        truth = self._world.render(index)
        image = messages.image_of(truth.frame)
        image.encoding = re.sub(r"(10|12|14)$", "16", image.encoding)
        return truth, image

    def _tell(self, truth: WorldFrame, head: Any) -> None:
        """Publish what is where, and point the tracker at the target until it has been taken."""
        if self._truth.get_subscription_count():
            seen = np.flatnonzero(np.isfinite(truth.boxes).all(axis=1))
            stamp_ns = messages.stamp_of(head)
            tracks = Tracks(
                stamp_ns,
                stamp_ns,
                truth.index,
                self._world.size,
                truth.ids[seen],
                truth.boxes[seen],
                np.ones(len(seen), np.float32),
                np.zeros(len(seen), np.uint8),
                truth.labels[seen],
            )
            self._truth.publish(messages.tracks_message(tracks, head.frame_id))
        box = truth.boxes[truth.ids == self._world.target_id][0]
        client = self._select
        if client is None or time.monotonic_ns() < self._select_at_ns:
            return
        self._select_at_ns = time.monotonic_ns() + SELECT_AGAIN_NS
        if np.isfinite(box).all() and client.service_is_ready():
            request = Select.Request(box=box, stamp_ns=0, detection_id=-1)
            client.call_async(request).add_done_callback(self._selected)

    def _selected(self, future: Any) -> None:
        if future.result().success:
            self._select = None


def main() -> None:
    sys.exit(process.run(SimCameraNode))


if __name__ == "__main__":
    main()
