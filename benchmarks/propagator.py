"""What a step of the propagator and a late answer cost, on one thread.

    python -m benchmarks.propagator [--repeats 60]

The embedded world at 1280×720 (a simulated scene): median times in ms a frame, gray picture and
pyramid, camera motion and all targets included, and the share of one core that is at 30 Hz.
"""

import argparse
import statistics
import time

import cv2
import numpy as np

from bridges.world import AerialWorld, WorldConfig
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from perception.propagator import Propagator, PropagatorConfig
from pipeline.tracks import Tracks
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=60)
    repeats = parser.parse_args().repeats
    cv2.setNumThreads(1)
    world, isp = AerialWorld(WorldConfig()), ClassicalIsp(IspConfig())
    shots = [world.render(k) for k in range(repeats + 1)]
    frames = [isp.process(shot.frame) for shot in shots]
    seen = np.flatnonzero(np.isfinite(shots[0].boxes).all(axis=1))
    print(
        "| targets | step ms | frame with fusion and prediction ms | late answer ms | of a core |"
    )
    print("| ---: | ---: | ---: | ---: | ---: |")
    for n in (0, 1, 10):
        boxes = (
            shots[0].boxes[seen[:n]] if n <= len(seen) else np.resize(shots[0].boxes[seen], (n, 4))
        )
        steps, whole, late = [], [], []
        propagator = Propagator(PropagatorConfig())
        for frame in frames:
            start = time.perf_counter()
            propagator.step(frame, boxes)
            steps.append(time.perf_counter() - start)
        two_rate = TwoRate(FusionConfig(), PredictorConfig(), Propagator(PropagatorConfig()))
        ids = np.arange(n, dtype=np.int32)
        history = []
        for k, frame in enumerate(frames):
            start = time.perf_counter()
            tracks = two_rate.frame(frame)
            two_rate.forecast(frame.stamp_ns, frame.stamp_ns, {"control": 50_000_000})
            whole.append(time.perf_counter() - start)
            history.append(tracks.boxes if k else boxes)
            if k % 5 == 0:
                stamp = frames[max(k - 5, 0)].stamp_ns
                given = Tracks(
                    stamp, stamp, k, frame.size, ids, history[max(k - 5, 0)],
                    np.ones(n, np.float32), np.zeros(n, np.uint8), np.full(n, -1, np.int16),
                )  # fmt: skip
                start = time.perf_counter()
                two_rate.answer(given)
                late.append(time.perf_counter() - start)
        a, b, c = (1e3 * statistics.median(times[1:]) for times in (steps, whole, late))
        print(f"| {n} | {a:.2f} | {b:.2f} | {c:.2f} | {b * 30 / 1e3:.0%} |")


if __name__ == "__main__":
    main()
