"""How far off a UAV's tracks are, once they are placed on the ground, and what that costs.

    python -m benchmarks.v2x_ground [--seeds 2] [--frames 60]

The embedded world's actors that are wholly in view, at 10 Hz; boxes exact or off by a share of
their sides (sigma, each edge's), the camera's pose exact. Beside it the plain way: the middle of a
box's lower edge, cast onto the ground. m: median and 95 % of the distance on the ground; NEES: mean
squared error over the covariance told, per degree of freedom, 1 where it is right; then, with the
metric filter and two seconds to settle, place, velocity and NEES again. ms: CPU time of a picture,
without the filter.
"""

import argparse
import os
import time
from dataclasses import dataclass, field

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from bridges import scene as town
from bridges.world import AerialWorld, WorldConfig
from comms.ground import OPTICAL, GroundConfig, GroundTracker, locate
from pipeline.box import FloatArray
from pipeline.objects import Objects
from pipeline.pose import Pose
from pipeline.tracks import Tracks

VIEWS = ((30, 47), (52, 47), (52, 75), (100, 47), (100, 70))
"""Altitude in m, and degrees by which the camera looks down."""
SHARES = (0.0, 0.05)
EVERY, SETTLED_S = 3, 2.0


@dataclass
class Found:
    """Errors so far, one list of arrays each."""

    plain: list[FloatArray] = field(default_factory=list)
    placed: list[FloatArray] = field(default_factory=list)
    nees: list[FloatArray] = field(default_factory=list)
    filtered: list[FloatArray] = field(default_factory=list)
    speed: list[FloatArray] = field(default_factory=list)
    nees_filtered: list[FloatArray] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)


def seen(world: AerialWorld, k: int, rng: np.random.Generator, share: float) -> Tracks:
    """Tracks of frame k."""
    truth = world.truth(k)
    rows = np.flatnonzero(truth.visibility > 0.99)
    boxes = truth.boxes[rows]
    boxes = boxes + rng.normal(size=boxes.shape) * share * np.tile(boxes[:, 2:], 2)
    n = len(rows)
    return Tracks(
        truth.stamp_ns, truth.stamp_ns, k, world.size, truth.ids[rows], boxes,
        np.full(n, 0.9, np.float32), np.zeros(n, np.uint8), truth.labels[rows],
    )  # fmt: skip


def states(world: AerialWorld, k: int, ids: FloatArray, near: FloatArray) -> FloatArray:
    """(N, 4) true x, y, and velocity of some actors, in the copy of the tile next to ``near``."""
    at_s, step = k * world.period_ns * 1e-9, 0.01
    now, later = world.scene.poses(at_s)[ids, :2], world.scene.poses(at_s + step)[ids, :2]
    velocity = (later - now) / step
    return np.hstack([now + town.TILE * np.round((near - now) / town.TILE), velocity])


def lower_edge(tracks: Tracks, world: AerialWorld, pose: FloatArray) -> FloatArray:
    """(N, 2) where the middle of each box's lower edge lies on the ground."""
    box = tracks.boxes
    pixels = np.stack([box[:, 0] + box[:, 2] / 2 - 0.5, box[:, 1] + box[:, 3] - 0.5], axis=1)
    rays = np.column_stack([pixels, np.ones(len(box))]) @ np.linalg.inv(world.camera_matrix).T
    rays = rays @ pose[:3, :3].T
    return np.asarray(pose[:2, 3] - pose[2, 3] * rays[:, :2] / rays[:, 2:])


def nees(errors: FloatArray, covariances: FloatArray) -> FloatArray:
    """(N,) per degree of freedom."""
    solved = np.linalg.solve(covariances, errors[..., None])[..., 0]
    return np.asarray((errors * solved).sum(axis=1) / 2)


def fly(world: AerialWorld, share: float, frames: int, found: Found) -> None:
    """One flight."""
    config = GroundConfig(
        labels=town.LABELS, ground_sigma_m=0.0, tilt_sigma_deg=0.0, box_share=share, max_range_m=400
    )
    camera, tracker = world.calibration[0], GroundTracker(config)
    rng = np.random.default_rng(world.config.seed)
    for k in range(0, EVERY * frames, EVERY):
        tracks, shot = seen(world, k, rng, share), world.truth(k).camera_pose
        rotation = shot[:3, :3] @ OPTICAL.T
        pose = Pose(tracks.stamp_ns, shot[:3, 3], float(np.arctan2(rotation[1, 0], rotation[0, 0])))
        start = time.thread_time()
        located = locate(tracks, camera, pose, rotation, config)
        found.ms.append((time.thread_time() - start) * 1e3)

        def off(objects: Objects, k: int = k) -> tuple[FloatArray, FloatArray]:
            there = states(world, k, objects.ids, objects.positions[:, :2])
            errors = np.hstack([objects.positions[:, :2], objects.velocities[:, :2]]) - there
            return errors[:, :2], errors[:, 2:]

        errors, _ = off(located.objects)
        plain = lower_edge(tracks, world, shot)
        plain = plain[np.isin(tracks.ids, located.objects.ids)]
        there = states(world, k, located.objects.ids, plain)[:, :2]
        found.plain.append(np.linalg.norm(plain - there, axis=1))
        found.placed.append(np.linalg.norm(errors, axis=1))
        covariances = located.objects.covariances[:, :2, :2] + located.lasting[:, :2, :2]
        found.nees.append(nees(errors, covariances))
        known = tracker.observe(tracks, camera, pose, rotation)
        if k * world.period_ns * 1e-9 >= SETTLED_S:
            known = known.selected(known.measured_ns == tracks.stamp_ns)
            errors, speeds = off(known)
            found.filtered.append(np.linalg.norm(errors, axis=1))
            found.speed.append(np.linalg.norm(speeds, axis=1))
            found.nees_filtered.append(nees(errors, known.covariances[:, :2, :2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    print(
        "| altitude m | down ° | box error | boxes | lower edge m | placed m | NEES "
        "| filtered m | NEES | velocity m/s | ms |"
    )
    print("| ---: | ---: | ---: | ---: | --- | --- | ---: | --- | ---: | --- | ---: |")
    for altitude, pitch in VIEWS:
        for share in SHARES:
            found = Found()
            for seed in range(options.seeds):
                world = AerialWorld(
                    WorldConfig(seed=seed, altitude_m=float(altitude), pitch_deg=float(pitch))
                )
                fly(world, share, options.frames, found)
            cells = [f"{altitude}", f"{pitch}", f"{share:.0%}", f"{sum(map(len, found.placed))}"]
            for name in ("plain", "placed", "nees", "filtered", "nees_filtered", "speed"):
                values = np.concatenate([*getattr(found, name), np.zeros(0)])
                if not len(values):
                    cells.append("")
                elif name.startswith("nees"):
                    cells.append(f"{values.mean():.2f}")
                else:
                    middle, high = np.percentile(values, (50, 95))
                    cells.append(f"{middle:.2f}, {high:.2f}")
            cells.append(f"{np.median(found.ms):.1f}")
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
