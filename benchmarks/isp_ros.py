"""The isp node between a camera's process and a consumer's, over DDS: frames lost and time added.

    python -m benchmarks.isp_ros [--seconds 20] [--width 1920] [--height 1080]

``sim_camera`` sends ``bayer_rggb16`` at 30 Hz, drawn before; this process subscribes as the stack's
own nodes do (``ros_nodes/image_topics.py``). One row has no node between them, the others have the
isp node in each mode, with the whole picture, the detector's view or both asked for; with both, a
row measures either. Age is from just before ``publish`` in the camera's process to the callback
here; added is its difference to the row without a node, which carries RAW; work is the span that
the node reports, of all that is asked for.
``latency`` is what the latency monitor's node says of the stage ``isp``. The load of the machine at
each row is its last column: other work on the cores shows in every figure.
"""

import argparse
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.ros_transport import nodes

WARM_UP_S = 2.0
START_S = 90.0
PRERENDERED = 20
LEVELS = ["isp.bits:=12", "isp.black_level:=[64.0]"]
TASK_AWARE = [*LEVELS, "isp.mode:=task_aware"]
ROWS: dict[str, tuple[list[str], list[str]]] = {
    "no node": ([], ["image_raw"]),
    "classical": (LEVELS, ["image"]),
    "task_aware": (TASK_AWARE, ["image"]),
    "detector's view": (TASK_AWARE, ["isp/detector"]),
    "task_aware, detector's too": (TASK_AWARE, ["image", "isp/detector"]),
    "detector's view, image too": (TASK_AWARE, ["isp/detector", "image"]),
}
"""The node's parameters and the topics that are subscribed, the measured one first."""


@dataclass(frozen=True)
class Row:
    """sent: by the camera in the time measured. dropped: that the isp's process never took. lost:
    between the isp and here. age_ms, work_ms: p50, p99. heard: of the monitor, about the isp."""

    sent: int
    received: int
    dropped: int
    lost: int
    age_ms: tuple[float, float]
    work_ms: tuple[float, float]
    heard: str
    load: float


class Watch:
    """Counts what comes."""

    def __init__(self, node: Any, topics: list[str]) -> None:
        from leadsight_msgs.msg import LatencyReport, Span

        from ros_nodes import image_topics, qos
        from ros_nodes.stage import Stage

        self.ages: list[float] = []
        self.numbers: list[int] = []
        self.spans: list[Any] = []
        self.report: Any = None
        stage = Stage(node, lambda: None)
        image_topics.subscribe(node, topics[0], self._image, stage)
        for topic in topics[1:]:
            image_topics.subscribe(node, topic, lambda m, i: None, stage)
        node.create_subscription(Span, "isp/span", self.spans.append, qos.results(100))
        node.create_subscription(LatencyReport, "latency", self._latency, qos.results(1))

    def _image(self, message: Any, info: Any) -> None:
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.ages.append((time.time_ns() - stamp_ns) * 1e-6)
        self.numbers.append(int(info["publication_sequence_number"]))

    def _latency(self, message: Any) -> None:
        self.report = message

    def forget(self) -> None:
        """Measure from here."""
        for taken in (self.ages, self.numbers, self.spans):
            taken.clear()

    def heard(self) -> str:
        """What the latency monitor knows of the stage isp."""
        if self.report is None or "isp" not in self.report.stages:
            return "not heard"
        at = list(self.report.stages).index("isp")
        if self.report.status[at] != self.report.ESTIMATED:
            return "no estimate"
        return f"{self.report.median_ns[at] * 1e-6:.1f} / {self.report.p99_ns[at] * 1e-6:.1f} ms"


def measure(name: str, seconds: float, width: int, height: int) -> Row:
    """One row of the table.

    Raises:
        RuntimeError: no frame comes.
    """
    import rclpy

    parameters, topics = ROWS[name]
    watch_node = rclpy.create_node("isp_ros")
    watch = Watch(watch_node, topics)

    def spin_until(done: Callable[[], bool], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not done() and time.monotonic() < end:
            rclpy.spin_once(watch_node, timeout_sec=0.05)

    camera = [
        "sim_camera",
        f"world.width:={width}",
        f"world.height:={height}",
        f"sim_camera.prerendered:={PRERENDERED}",
    ]
    between = [["isp", *parameters], ["latency_monitor"]] if parameters else []
    with nodes(*between, camera):
        spin_until(lambda: len(watch.ages) > 5, START_S)
        if not watch.ages:
            raise RuntimeError("no frame came: see the nodes' own messages")
        spin_until(lambda: False, WARM_UP_S)
        watch.forget()
        spin_until(lambda: False, seconds)
        numbers, spans, ages = list(watch.numbers), list(watch.spans), list(watch.ages)
        heard, load = watch.heard(), os.getloadavg()[0]
    watch_node.destroy_node()
    lost = int(np.diff(numbers).sum()) + 1 - len(numbers)
    dropped = sum(m.dropped for m in spans)
    work = [(m.end_ns - m.start_ns) * 1e-6 for m in spans] or [0.0]
    return Row(
        len(numbers) + lost + dropped, len(numbers), dropped, lost,
        _quantiles(ages), _quantiles(work), heard if parameters else "", load,
    )  # fmt: skip


def _quantiles(values: list[float]) -> tuple[float, float]:
    p50, p99 = np.percentile(values, (50, 99)).tolist()
    return p50, p99


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=tuple(ROWS))
    options = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randrange(1, 100)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    import rclpy

    from ros_nodes import process

    process.keep_memory()
    process.use_profile()
    rclpy.init()
    print(
        f"{options.width}x{options.height} bayer_rggb16, 30 Hz, {os.cpu_count()} cores; ms p50/p99"
    )
    print("| between | sent | received | dropped | lost | age | added | work | latency | load |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    direct: tuple[float, float] | None = None
    for name in options.rows:
        row = measure(name, options.seconds, options.width, options.height)
        direct = row.age_ms if name == "no node" else direct
        added = "–"
        if direct is not None and name != "no node":
            added = " / ".join(f"{a - b:.1f}" for a, b in zip(row.age_ms, direct, strict=True))
        age, work = (f"{a:.1f} / {b:.1f}" for a, b in (row.age_ms, row.work_ms))
        print(
            f"| {name} | {row.sent} | {row.received} | {row.dropped} | {row.lost} | {age} | "
            f"{added} | {work if row.heard else '–'} | {row.heard or '–'} | {row.load:.1f} |",
            flush=True,
        )
    rclpy.shutdown()


if __name__ == "__main__":
    main()
