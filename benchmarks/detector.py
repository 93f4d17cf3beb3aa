"""What detecting costs, and making targets of detections, on one thread.

    python -m benchmarks.detector [MODEL LAYOUT] [--repeats 40]

Detectors: the file named, and those of ``$LEADSIGHT_DATA/models/detectors``, on 1280×720 pictures
of the embedded world. Targets: patches of ground, detected in every fifth frame, known five frames
later; ms of the first answer, with which all begin, and medians of matching alone, of a late
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
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from perception.detector import Detector, DetectorConfig
from perception.layouts import LAYOUTS
from perception.propagator import Propagator, PropagatorConfig
from pipeline.frame import Frame
from pipeline.motion import moved_by
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
    print("\n| targets | first answer ms | matching ms | late answer ms | every frame ms |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for n in (10, 30, 100):
        association = Timed()
        two_rate = TwoRate(
            FusionConfig(), PredictorConfig(), Propagator(PropagatorConfig()), association
        )
        places = ground(shots, frames[0].size, n)
        late, every = [], []
        for k, frame in enumerate(frames):
            every.append(timed(two_rate.frame, frame))
            if k >= LATE and k % LATE == 0:
                old, boxes = frames[k - LATE], places[k - LATE]
                n_seen = len(boxes)
                found = Detections(
                    old.stamp_ns, old.index, old.size, boxes,
                    np.full(n_seen, 0.9, np.float32), np.zeros(n_seen, np.int16),
                )  # fmt: skip
                late.append(timed(two_rate.answer, found))
        times = 1e3 * late[0], median(association.times), median(late), median(every[2 * LATE :])
        print(f"| {len(two_rate.ids)} | " + " | ".join(f"{t:.1f}" for t in times) + " |")


def ground(shots: list[WorldFrame], size: tuple[int, int], n: int) -> list[np.ndarray]:
    """(m, 4) of each frame: patches of ground of 40×30 pixels, n of them in the first one; those
    that have left the picture are gone."""
    width, height = size
    columns = int(np.ceil(np.sqrt(n * width / height)))
    rows = -(-n // columns)
    x, y = np.meshgrid(np.linspace(0.1, 0.9, columns), np.linspace(0.1, 0.9, rows))
    centers = np.stack([x.ravel() * width, y.ravel() * height], axis=1)[:n]
    found = []
    for k, shot in enumerate(shots):
        centers = moved_by(shot.homography, centers) if k else centers
        inside = ((centers > 0) & (centers < size)).all(axis=1)
        found.append(np.concatenate([centers - [20, 15], np.full((n, 2), [40.0, 30])], 1)[inside])
    return found


def timed(call: Callable[..., object], *given: Any) -> float:
    start = time.perf_counter()
    call(*given)
    return time.perf_counter() - start


def median(times: list[float]) -> float:
    """In ms, without the first."""
    return 1e3 * statistics.median(times[1:])


if __name__ == "__main__":
    main()
