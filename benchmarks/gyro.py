"""What a gyroscope adds to the camera's own motion, on the embedded world: simulated figures.

    python -m benchmarks.gyro [--frames 150] [--seeds 1 2] [--worlds pan night] [--calibrations]

A camera step is compared with the ground's true homography at 20 points of the picture, and a box
with the truth when it is carried for as long as a tracker with 170 to 200 ms would take: each
answer is the true box, five frames late at 30 Hz and two at 10 Hz. The gyroscope has 1000 samples a
second, noise and an unknown bias, and its samples arrive 2 ms late. ``--calibrations`` shows what a
wrong calibration does. The last lines are CPU time of the camera's step.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from bridges.world import AerialWorld, WorldConfig, WorldTruth
from evaluation.metrics import errors
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from perception.ego import EgoMotion, GyroReport
from perception.propagator import Propagator, PropagatorConfig, Pyramid
from pipeline.frame import Frame
from pipeline.imu import CameraCalibration, GyroCalibration, ImuSamples
from pipeline.motion import Step, moved_by
from pipeline.tracks import Tracks, TrackStatus
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate

PAN = {"wander_px": 220.0, "pace": 4.0}
WORLDS: dict[str, dict[str, Any]] = {
    "calm": {},
    "shake": {"shake_px": 12.0},
    "pan": PAN,
    "pan, shake": {**PAN, "shake_px": 12.0},
    "pan, shake, night": {**PAN, "shake_px": 12.0, "night": True},
    "pan, dropouts": PAN,
}
DROPOUTS = 0.5, 0.15
"""Every so many seconds nothing but noise is seen for so long, where the name says so."""
LATE = {30.0: 5, 10.0: 2}
DELAY_NS = 2_000_000
Calibration = tuple[CameraCalibration, GyroCalibration]


@dataclass(frozen=True)
class Flight:
    """Frames of one world, as developed, with their truth, and the gyroscope's samples."""

    world: AerialWorld
    frames: list[Frame]
    truth: list[WorldTruth]
    samples: ImuSamples


class Watched(Propagator):
    """Keeps its steps."""

    def __init__(self, config: PropagatorConfig) -> None:
        super().__init__(config)
        self.steps: dict[int, Step] = {}

    def step(self, frame: Frame, *given: Any, **named: Any) -> Step | None:
        found = super().step(frame, *given, **named)
        if found is not None:
            self.steps[frame.index] = found
        return found


def fly(kind: str, rate_hz: float, seed: int, count: int) -> Flight:
    config = WorldConfig(seed=seed, rate_hz=rate_hz, gyro_hz=1000.0, **WORLDS[kind])
    world = AerialWorld(config)
    isp = ClassicalIsp(IspConfig(black_level=(64.0,), white_balance="white_patch"))
    shots = [world.render(k) for k in range(count)]
    frames = [isp.process(shot.frame) for shot in shots]
    if "dropouts" in kind:
        every, long = DROPOUTS
        rng = np.random.default_rng(seed)
        for k, frame in enumerate(frames):
            if k / rate_hz % every >= every - long:
                noise = rng.normal(128, 60, frame.image.shape)
                frames[k] = replace(frame, image=np.clip(noise, 0, 255).astype(np.uint8))
    return Flight(
        world,
        frames,
        [WorldTruth(**{n: getattr(s, n) for n in WorldTruth.__dataclass_fields__}) for s in shots],
        world.gyro(-100_000_000, world.stamp_ns(count)),
    )


def calibrations(right: Calibration) -> Iterator[tuple[str, Calibration | None]]:
    """Right and wrong ones."""
    camera, gyro = right
    yield "no gyroscope", None
    yield "right", right
    longer = camera.matrix * [[1.1, 1, 1], [1, 1.1, 1], [1, 1, 1]]
    yield "focal length +10 %", (replace(camera, matrix=longer), gyro)
    axis = np.array([0.37, 0.74, -0.56])
    tilt = cv2.Rodrigues(axis / np.linalg.norm(axis) * np.radians(5))[0]
    yield "5° off", (camera, replace(gyro, camera_from_imu=tilt @ gyro.camera_from_imu))
    yield "10 ms off", (camera, replace(gyro, offset_ns=gyro.offset_ns + 10_000_000))
    turned = np.diag([-1.0, -1.0, 1.0])
    yield "upside down", (camera, replace(gyro, camera_from_imu=turned @ gyro.camera_from_imu))


@dataclass
class Score:
    """camera: px, NaN where the step was unknown. overlap, distance: of the carried box."""

    camera: list[float]
    overlap: list[float]
    distance: list[float]
    report: GyroReport

    def line(self) -> str:
        camera, known = np.array(self.camera), np.isfinite(self.camera)
        at = np.percentile(camera[known], [50, 90, 99]) if known.any() else np.full(3, np.nan)
        overlap = np.nan_to_num(self.overlap)
        return (
            f"{at[0]:.2f} | {at[1]:.2f} | {at[2]:.1f} | {1 - known.mean():.0%} | "
            f"{overlap.mean():.3f} | {(overlap < 0.5).mean():.1%} | "
            f"{np.nanmedian(self.distance):.2f} | {self.report.disagreement:.2f} "
            f"{self.report.use.name}"
        )


def carried(flight: Flight, calibration: Calibration | None) -> Score:
    """Two-rate tracking with true answers that come late."""
    watched = Watched(PropagatorConfig())
    if calibration is not None:
        watched.ego = EgoMotion(calibration[1], calibration[0])
    two = TwoRate(FusionConfig(), PredictorConfig(), watched)
    size, target = flight.world.size, flight.world.target_id
    late = LATE[flight.world.config.rate_hz]
    points = np.stack(np.meshgrid([0.1, 0.3, 0.5, 0.7, 0.9], [0.1, 0.37, 0.63, 0.9]), -1)
    points = points.reshape(-1, 2) * size
    score = Score([], [], [], watched.ego.report())
    fed = 0
    for k, (frame, truth) in enumerate(zip(flight.frames, flight.truth, strict=True)):
        arrived = int(np.searchsorted(flight.samples.stamps_ns, frame.stamp_ns - DELAY_NS))
        batch = slice(fed, arrived)
        fed = arrived
        watched.ego.feed(ImuSamples(flight.samples.stamps_ns[batch], flight.samples.rates[batch]))
        tracks = two.frame(frame)
        old = flight.truth[max(k - late, 0)]
        if np.isfinite(old.boxes[target]).all():
            stamp = old.stamp_ns
            two.answer(
                Tracks.single(stamp, stamp, k, size, old.boxes[target], 1, TrackStatus.TRACKED)
            )
        if k < 2 * late:
            continue
        step = watched.steps.get(k)
        if step is not None:
            first = next(t for t in flight.truth if t.stamp_ns > step.previous_ns)
            there = points
            for passed in flight.truth[first.index : k + 1]:
                there = moved_by(passed.homography, there)
            inside = ((there > 0) & (there < size)).all(axis=1)
            apart = moved_by(step.camera, points[inside]) - there[inside]
            known = np.isfinite(step.camera_sigma) and inside.any()
            score.camera.append(float(np.sqrt((apart**2).sum(1).mean())) if known else np.nan)
        if np.isfinite(truth.boxes[target]).all() and len(tracks):
            found = errors(tracks.boxes, truth.boxes[target][None])
            score.overlap.append(float(found.overlap[0]))
            score.distance.append(float(found.distance[0]))
    score.report = watched.ego.report()
    return score


def joined(scores: list[Score]) -> Score:
    lists = ([v for s in scores for v in getattr(s, n)] for n in ("camera", "overlap", "distance"))
    worst = max((s.report for s in scores), key=lambda r: r.disagreement)
    return Score(*lists, worst)


def cost(flight: Flight) -> None:
    """What the camera's step takes, which is a part of what the propagator's takes."""
    pyramids = [Pyramid(frame) for frame in flight.frames]
    stamps, rates = flight.samples.stamps_ns, flight.samples.rates
    camera, gyro = flight.world.calibration
    spent: dict[str, list[float]] = {"without": [], "with": []}
    egos = {"without": EgoMotion(None, None), "with": EgoMotion(gyro, camera)}
    for before, after in pairwise(pyramids):
        fresh = (stamps > before.stamp_ns) & (stamps <= after.stamp_ns)
        batch = ImuSamples(stamps[fresh], rates[fresh])
        scale = before.scale * 2.0 ** (len(before.levels) - 1)
        for name, ego in egos.items():
            start = time.thread_time()
            ego.feed(batch)
            ego.between(
                before.levels[-1],
                after.levels[-1],
                scale,
                np.empty((0, 4)),
                before.stamp_ns,
                after.stamp_ns,
                after.size,
            )
            spent[name].append(time.thread_time() - start)
    for name, times in spent.items():
        print(f"camera step {name} gyroscope: {1e3 * np.median(times):.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--calibrations", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(
        "| rate | world | calibration | camera step: median error px | p90 | p99 | unknown | "
        "carried box: IoU | below 0.5 | median error px | disagreement, use |"
    )
    print("| --- | --- | --- " + "| ---: " * 7 + "| --- |")
    for rate_hz in LATE:
        for kind in options.worlds:
            found: dict[str, list[Score]] = {}
            for seed in options.seeds:
                flight = fly(kind, rate_hz, seed, options.frames)
                for name, calibration in calibrations(flight.world.calibration):
                    if options.calibrations or name in ("no gyroscope", "right"):
                        found.setdefault(name, []).append(carried(flight, calibration))
            for name, scores in found.items():
                print(f"| {rate_hz:g} Hz | {kind} | {name} | {joined(scores).line()} |", flush=True)
    cost(fly(options.worlds[0], 30.0, 0, min(options.frames, 90)))


if __name__ == "__main__":
    main()
