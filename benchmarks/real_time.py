"""How old tracks are when they come out, and what carrying them costs, at camera rate.

    python -m benchmarks.real_time [--trackers csrt nanotrack-v3] [--models MODELS] [--seconds 20]

The embedded world (a simulated scene) at 1280×720 and 30 Hz. nodes: ``sim_camera`` and ``pipeline``
as two processes over DDS (needs rclpy); stack: the same stages without ROS. Age of a box: from its
frame's stamp until it left the stack, in ms and in frame periods. Carrying: processor time of the
thread that runs the propagator, fusion and prediction, as a share of one core; it can be told in
the stack only.
"""

import argparse
import importlib.util
import os
import random
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.ros_transport import nodes
from bridges.world import AerialWorld, WorldConfig
from evaluation.data import find_data
from leadsight.stack import CONFIGS, Stack
from pipeline.clock import WallClock
from pipeline.config import build
from pipeline.tracks import Forecasts, Tracks, TrackStatus

RATE_HZ = 30.0
WARM_UP_S = 3.0
SHOTS = 60
ISP = {"isp.bits": "12", "isp.black_level": "[64.0]"}
Published = list[tuple[float, float, bool]]
"""(seconds, age in ms, whether on the tracker's status it is not lost) of each message."""


def by_nodes(tracker: str, models: str, seconds: float) -> Published:
    """What the ``pipeline`` node published.

    Raises:
        RuntimeError: nothing came within a minute.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randrange(1, 100)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    import rclpy
    from leadsight_msgs.msg import TrackArray

    from ros_nodes import messages, qos

    rclpy.init()
    watch = rclpy.create_node("real_time")
    found: Published = []

    def on_tracks(message: TrackArray) -> None:
        age_ns = message.ready_ns - messages.stamp_of(message.header)
        found.append((time.monotonic(), age_ns * 1e-6, bool(message.status[0] != message.LOST)))

    watch.create_subscription(TrackArray, "tracks", on_tracks, qos.results(100))
    options = {**ISP, "tracker.name": tracker, "tracker.models": models}
    try:
        with nodes(
            ["pipeline", *(f"{name}:={value}" for name, value in options.items() if value)],
            [
                "sim_camera",
                f"sim_camera.prerendered:={SHOTS}",
                "sim_camera.select_service:=pipeline/select",
            ],
        ):
            limit = time.monotonic() + 60
            while not found and time.monotonic() < limit:
                rclpy.spin_once(watch, timeout_sec=0.05)
            if not found:
                raise RuntimeError("no tracks within 60 s: see the nodes' own messages")
            limit = time.monotonic() + WARM_UP_S + seconds
            while time.monotonic() < limit:
                rclpy.spin_once(watch, timeout_sec=0.05)
    finally:
        watch.destroy_node()
        rclpy.shutdown()
    return found


def by_stack(tracker: str, models: str, seconds: float) -> tuple[Published, float]:
    """What the stack gave out in this process, and the share of a core that carrying took."""
    cv2.setNumThreads(1)
    world = AerialWorld(WorldConfig())
    shots = list(world.frames(SHOTS))
    frames = [shots[k].frame for k in (*range(SHOTS), *range(SHOTS - 2, 0, -1))]
    assignments = [*(f"{k}={v}" for k, v in ISP.items()), f"tracker.name={tracker}"]
    if models:
        assignments.append(f"tracker.models={models}")
    found: Published = []
    spent: list[tuple[float, float]] = []

    def on_tracks(tracks: Tracks) -> None:
        age_ns = tracks.ready_ns - tracks.stamp_ns
        lost = tracks.status[0] == TrackStatus.LOST
        found.append((time.monotonic(), age_ns * 1e-6, not lost))

    def on_forecasts(_: Forecasts) -> None:
        spent.append((time.monotonic(), time.thread_time()))

    clock = WallClock()
    stack = Stack(build(CONFIGS, assignments=assignments), clock, None, on_tracks, on_forecasts)
    stack.tracker.select(shots[0].boxes[world.target_id])
    stack.start()
    next_ns = clock.now_ns()
    for k in range(round((WARM_UP_S + seconds) * RATE_HZ)):
        next_ns += round(1e9 / RATE_HZ)
        time.sleep(max(0, next_ns - clock.now_ns()) / 1e9)
        stack.feed(replace(frames[k % len(frames)], stamp_ns=next_ns, index=k))
    stack.stop()
    late = [row for row in spent if row[0] > spent[0][0] + WARM_UP_S]
    (begin, before), (end, after) = late[0], late[-1]
    return found, (after - before) / (end - begin)


def row(where: str, tracker: str, published: Published, share: float | None) -> str:
    at, age, found = np.array(published).T
    late = at > at[0] + WARM_UP_S
    rate = (late.sum() - 1) / (at[late][-1] - at[late][0])
    p50, p99 = np.percentile(age[late], (50, 99))
    carrying = "" if share is None else f"{share:.1%}"
    return (
        f"| {where} | {tracker} | {rate:.1f} | {found[late].mean():.0%} | {p50:.1f} | {p99:.1f} | "
        f"{p99 * RATE_HZ * 1e-3:.2f} | {carrying} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trackers", nargs="+", default=["csrt", "nanotrack-v3"])
    parser.add_argument("--models", type=Path, default=find_data("models"))
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    models = str(options.models or "")
    print(
        "| run | tracker | tracks a second | not lost | age p50 ms | p99 ms | periods | carrying |"
    )
    print("| --- | --- |" + " ---: |" * 6)
    for tracker in options.trackers:
        if importlib.util.find_spec("rclpy") is not None:
            print(
                row("nodes", tracker, by_nodes(tracker, models, options.seconds), None), flush=True
            )
        print(row("stack", tracker, *by_stack(tracker, models, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
