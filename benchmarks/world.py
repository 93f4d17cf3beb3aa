"""Milliseconds a frame that the embedded world needs: ``python benchmarks/world.py``."""

import argparse
import time

import cv2
import numpy as np

from bridges.world import AerialWorld, WorldConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1, help="OpenCV's")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    print(f"{'world':24s} {'build s':>8s} {'p50 ms':>8s} {'p90 ms':>8s} {'truth ms':>9s}")
    for width, height, night in ((1280, 720, False), (1280, 720, True), (1920, 1080, False)):
        start = time.perf_counter()
        world = AerialWorld(WorldConfig(width=width, height=height, night=night))
        built = time.perf_counter() - start
        render = _times(world.render, args.frames)
        truth = _times(world.truth, args.frames)
        name = f"{width}x{height} {'night' if night else 'day'}"
        p50, p90 = np.percentile(render, (50, 90))
        print(f"{name:24s} {built:8.2f} {p50:8.2f} {p90:8.2f} {np.median(truth):9.2f}")


def _times(call, frames: int) -> list[float]:
    call(0)
    found = []
    for index in range(frames):
        start = time.perf_counter()
        call(index)
        found.append((time.perf_counter() - start) * 1e3)
    return found


if __name__ == "__main__":
    main()
