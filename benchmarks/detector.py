"""What detecting costs, and making targets of detections, on one thread.

    python -m benchmarks.detector [MODEL LAYOUT] [--repeats 40]

Detectors: the file named, and those of ``$LEADSIGHT_DATA/models/detectors``, on 1280×720 pictures
of the embedded world. Targets: every fifth frame's detections (where truly something is, repeated
to the number wanted) arrive five frames late; median ms of matching alone, of the whole late
answer, and of every frame.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bridges.world import AerialWorld, WorldConfig, WorldFrame
from evaluation.data import find_data
from isp.classical import ClassicalIsp, IspConfig
from perception.detector import Detector, DetectorConfig
from perception.layouts import LAYOUTS
from perception.propagator import Propagator, PropagatorConfig
from pipeline.frame import Frame
from pipeline.tracks import Detections, Tracks
from prediction.association import Association, AssociationConfig
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate

KNOWN = {"yolox_nano_416": "yolox", "nanodet_m_320": "nanodet", "fastestdet_352": "fastestdet"}
LATE = 5


class Timed(Association):
    """Notes what matching takes."""

    def __init__(self) -> None:
        super().__init__(AssociationConfig())
        self.times: list[float] = []

    def tracks(self, *given: Any) -> Tracks | None:
        start = time.perf_counter()
        found = super().tracks(*given)
        self.times.append(time.perf_counter() - start)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("layout", nargs="?", choices=LAYOUTS)
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    world, isp = AerialWorld(WorldConfig(vehicles=30, people=20)), ClassicalIsp(IspConfig())
    shots = [world.render(k) for k in range(args.repeats + 1)]
    frames = [isp.process(shot.frame) for shot in shots]
    models = [(args.model, args.layout)] if args.model and args.layout else []
    for name, layout in KNOWN.items():
        if (path := find_data("models", "detectors", f"{name}.onnx")) is not None:
            models.append((path, layout))
    detect(models, frames)
    follow(shots, frames)


def detect(models: list[tuple[Path, str]], frames: list[Frame]) -> None:
    print("| detector | input | ms a picture | of that the network |\n| --- | ---: | ---: | ---: |")
    for path, layout in models:
        detector = Detector(DetectorConfig(model=str(path), layout=layout))
        whole = [timed(detector.detect, frame) for frame in frames]
        network = [timed(detector._network, detector._blob) for _ in frames]
        width, height = detector.input_size
        print(f"| {path.stem} | {width}×{height} | {median(whole):.1f} | {median(network):.1f} |")


def follow(shots: list[WorldFrame], frames: list[Frame]) -> None:
    print("\n| targets | matching ms | late answer ms | every frame ms |")
    print("| ---: | ---: | ---: | ---: |")
    for n in (10, 100):
        association = Timed()
        two_rate = TwoRate(
            FusionConfig(), PredictorConfig(), Propagator(PropagatorConfig()), association
        )
        late, every = [], []
        for k, frame in enumerate(frames):
            every.append(timed(two_rate.frame, frame))
            if k % LATE == 0:
                old = max(k - LATE, 0)
                late.append(timed(two_rate.answer, found(shots[old], frames[old], n)))
        times = median(association.times), median(late), median(every)
        print(f"| {len(two_rate.ids)} | {times[0]:.2f} | {times[1]:.1f} | {times[2]:.1f} |")


def found(shot: WorldFrame, frame: Frame, n: int) -> Detections:
    """n boxes, over and over those that are in the frame, each time 40 pixels further."""
    seen = shot.boxes[np.isfinite(shot.boxes).all(axis=1)]
    boxes = np.resize(seen, (n, 4))
    boxes[:, 0] = (boxes[:, 0] + 40 * (np.arange(n) // len(seen))) % (frame.size[0] - 20)
    boxes[:, 2] = np.minimum(boxes[:, 2], frame.size[0] - boxes[:, 0])
    return Detections(
        frame.stamp_ns, frame.index, frame.size, boxes,
        np.full(n, 0.9, np.float32), np.zeros(n, np.int16),
    )  # fmt: skip


def timed(call: Callable[..., object], *given: Any) -> float:
    start = time.perf_counter()
    call(*given)
    return time.perf_counter() - start


def median(times: list[float]) -> float:
    """In ms, without the first."""
    return 1e3 * statistics.median(times[1:])


if __name__ == "__main__":
    main()
