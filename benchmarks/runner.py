"""What running the stages on threads costs above the work of the stages themselves.

    python -m benchmarks.runner [--frames 300] [--tracker mosse]

The whole stack (isp, tracker, predictor, latency monitor) takes 720p 12-bit RAW frames of the
embedded world at their pace. Overhead of a frame: from ``feed`` to the end of the last stage, less
the work of the three stages as their spans report it: three hand-overs from thread to thread, and
the monitor. Frames that a stage dropped have no such figure and are counted. The same pictures
through the same stages in one plain loop stand beside it.
"""

import argparse
import time
from dataclasses import replace

import cv2
import numpy as np

from bridges.world import AerialWorld, WorldConfig
from isp.classical import ClassicalIsp
from leadsight.stack import CONFIGS, Stack
from perception.target import TargetTracker
from pipeline.clock import WallClock
from pipeline.config import build
from pipeline.frame import Frame
from pipeline.span import Span
from prediction.forecaster import Forecaster

STAGES = ("isp", "tracker", "predictor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--tracker", default="mosse")
    parser.add_argument("--rate-hz", type=float, default=30.0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    world = AerialWorld(WorldConfig(width=1280, height=720))
    shot = list(world.frames(30))
    frames = [shot[i].frame for i in (*range(30), *range(28, 0, -1))]  # to and fro
    box = shot[0].boxes[0]
    assignments = [f"tracker.name={args.tracker}", "isp.black_level=[64]"]
    configs = build(CONFIGS, assignments=assignments)
    clock = WallClock()
    pace_ns = round(1e9 / args.rate_hz)

    fed_ns: dict[int, int] = {}
    spans: dict[int, dict[str, Span]] = {}
    stack = Stack(
        configs, clock, on_span=lambda s: spans.setdefault(s.stamp_ns, {}).update({s.stage: s})
    )
    stack.tracker.select(box)
    stack.start()
    next_ns = clock.now_ns()
    for i in range(args.frames):
        next_ns += pace_ns
        time.sleep(max(0, next_ns - clock.now_ns()) / 1e9)
        stamp_ns = clock.now_ns()
        fed_ns[stamp_ns] = stamp_ns
        stack.feed(replace(frames[i % len(frames)], stamp_ns=stamp_ns, index=i))
    stack.stop()

    whole = [s for s in sorted(spans) if len(spans[s]) == len(STAGES)][5:]
    work = np.array(
        [[spans[s][n].end_ns - spans[s][n].start_ns for n in STAGES] for s in whole], float
    )
    total = np.array([spans[s]["predictor"].end_ns - fed_ns[s] for s in whole], float)
    overhead = total - work.sum(axis=1)
    plain = loop(configs, frames, box, args.frames, pace_ns)

    print(f"{len(whole) + 5} of {args.frames} frames went through all stages\n")
    print("| 1280x720, 30 Hz | p50 µs | p90 µs |\n| --- | ---: | ---: |")
    rows = {f"work of {n}": work[:, i] for i, n in enumerate(STAGES)}
    rows |= {"sum of the stages": work.sum(axis=1), "feed to last result": total}
    rows |= {"overhead of threads and monitor": overhead, "the same in one plain loop": plain}
    for name, ns in rows.items():
        p50, p90 = np.percentile(ns, (50, 90)) / 1e3
        print(f"| {name} | {p50:.0f} | {p90:.0f} |")
    ratio = np.percentile(total / work.sum(axis=1), (50, 90))
    print(f"\nfeed to last result / sum of the stages: p50 {ratio[0]:.3f}, p90 {ratio[1]:.3f}")


def loop(configs, frames: list[Frame], box, count: int, pace_ns: int) -> np.ndarray:
    """Nanoseconds a frame of the stages called one after another, at the same pace."""
    clock = WallClock()
    isp, tracker = ClassicalIsp(configs["isp"]), TargetTracker(configs["tracker"], clock)
    forecaster = Forecaster(configs["predictor"])
    tracker.select(box)
    taken = []
    next_ns = clock.now_ns()
    for i in range(count):
        next_ns += pace_ns
        time.sleep(max(0, next_ns - clock.now_ns()) / 1e9)
        start_ns = clock.now_ns()
        frame = replace(frames[i % len(frames)], stamp_ns=start_ns, index=i)
        tracks = tracker.process(isp.process(frame))
        forecaster.observe(tracks)
        forecaster.forecast(start_ns, clock.now_ns(), {"control": 50_000_000})
        taken.append(clock.now_ns() - start_ns)
    return np.array(taken[5:], float)


if __name__ == "__main__":
    main()
