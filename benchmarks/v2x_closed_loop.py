"""An ego that drives by what it perceives up to crossings it cannot see into, on SUMO.

    python -m benchmarks.v2x_closed_loop [--seeds 50] [--modes none,oracle]

The same encounters for every mode (bridges/crossing.py), the same driver (bridges/driver.py), the
same detections. ``none``: what the ego sees itself. ``oracle``: everybody, exactly and at once.
Collisions; the least time to collision of those without one; the delay against driving through
freely, of those that got through. 95 % intervals by bootstrap over the encounters. Simulated
traffic and a simple driver: the differences between modes are what it shows.
"""

import argparse
from collections.abc import Callable

import numpy as np

from bridges.actors import Snapshot
from bridges.crossing import Crossing, CrossingConfig
from bridges.driver import EgoState, drive
from bridges.filtering import OwnFilter, anchored, true_objects, true_pose
from bridges.sight import OwnSight, SightConfig
from bridges.visibility import Visibility, observer_of
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

EVERY = 2
"""Steps of the scene to one of perception and control."""

Perceive = Callable[[Snapshot], tuple[Objects, Pose]]
"""What the ego knows at a moment, itself left out, and the pose that it believes to have then."""


def none(scene: Crossing, seed: int) -> Perceive:
    """The ego's own perception."""
    sight, own = OwnSight(SightConfig(), seed, scene.ego_id), OwnFilter()
    visibility = Visibility(scene.buildings)

    def perceive(snapshot: Snapshot) -> tuple[Objects, Pose]:
        shares = visibility.shares(observer_of(snapshot, scene.ego_id), snapshot)
        seen = sight.detect(snapshot, shares)
        return own.update(seen), seen.pose

    return perceive


def oracle(scene: Crossing, seed: int) -> Perceive:
    """Everybody, exactly."""
    return lambda snapshot: (
        true_objects(snapshot, scene.ego_id),
        true_pose(snapshot, scene.ego_id),
    )


MODES: dict[str, Callable[[Crossing, int], Perceive]] = {"none": none, "oracle": oracle}


def encounter(mode: str, seed: int, config: CrossingConfig) -> tuple[str, bool, float, float]:
    """Kind, collision, least time to collision in s, and delay in s (NaN: not through)."""
    scene = Crossing(seed, config)
    try:
        perceive, speed, least, k = MODES[mode](scene, seed), config.cruise_mps, np.inf, 0
        while True:
            if k % EVERY == 0:
                s = scene.snapshot()
                row = s.row(scene.ego_id)
                objects = anchored(*perceive(s), true_pose(s, scene.ego_id))
                on_ground = objects.selected(objects.classes != ObjectClass.UAV)
                state = EgoState(
                    s.positions[row, :2], float(np.linalg.norm(s.velocities[row])), s.sizes[row, :2]
                )
                speed = drive(on_ground, state, scene.path, config.cruise_mps)
            moment = scene.step(speed)
            least, k = min(least, moment.ttc_s), k + 1
            if moment.over:
                seconds = moment.snapshot.stamp_ns * 1e-9
                delay = seconds - scene.free_s if moment.passed else np.nan
                return scene.kind, moment.collision, float(least), delay
    finally:
        scene.close()


def interval(values: np.ndarray) -> str:
    """Mean and its 95 % interval by bootstrap."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--modes", default=",".join(MODES))
    args = parser.parse_args()
    modes = args.modes.split(",")
    if not set(modes) <= set(MODES):
        parser.error(f"--modes {args.modes}: known are {', '.join(MODES)}")
    config = CrossingConfig()
    print("| mode | collisions | share | least TTC s | delay s | not through |")
    print("| --- | ---: | --- | --- | --- | ---: |")
    for mode in modes:
        rows = [encounter(mode, seed, config) for seed in range(args.seeds)]
        hit = np.array([r[1] for r in rows], float)
        ttc, delay = np.array([r[2] for r in rows]), np.array([r[3] for r in rows])
        stuck = int((np.isnan(delay) & (hit == 0)).sum())
        print(
            f"| {mode} | {hit.sum():.0f} of {len(rows)} | {interval(hit)} "
            f"| {interval(ttc[hit == 0])} | {interval(delay)} | {stuck} |"
        )


if __name__ == "__main__":
    main()
