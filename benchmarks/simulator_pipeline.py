"""The whole pipeline behind a simulated camera, at the pace of real time.

    python -m benchmarks.simulator_pipeline [--traffic sumo] [--vehicles 100] [--seconds 20]
        [--tracker mosse] [--samples 0]

A UAV in the MuJoCo town hovers behind a vehicle and keeps its gimbal on the truth; its camera gives
640x480 12-bit RAW at 25 Hz to the stack (isp, tracker, predictor, latency monitor), which follows
that vehicle. Told: how fast simulation time went, how many of the pictures went through all stages,
how the tracks' boxes lie on the true ones of their own frames, and in how many of these the track's
middle is on the vehicle (a tracker that keeps the shape of its first box loses IoU as a vehicle
turns).
"""

import argparse
from dataclasses import replace

import numpy as np

from bridges.loop import LoopConfig, SimulationLoop
from bridges.mujoco_simulator import MujocoSimulator
from bridges.mujoco_traffic import MujocoConfig
from bridges.simulator import Aim, Sensor, SensorKind, Velocity, pose_of
from leadsight.stack import CONFIGS, Stack
from pipeline.box import iou
from pipeline.clock import WallClock
from pipeline.config import build
from pipeline.objects import ObjectClass
from pipeline.tracks import Forecasts, Tracks

_SETTLE = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traffic", default="sumo", choices=("kinematic", "sumo"))
    parser.add_argument("--vehicles", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--tracker", default="mosse")
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = MujocoConfig(
        traffic=args.traffic, vehicles=args.vehicles, samples=args.samples, seed=args.seed
    )
    simulator = MujocoSimulator(config)
    actors = simulator.moment.actors
    speeds = np.linalg.norm(actors.velocities, axis=1)
    target = int(actors.ids[np.argmax(np.where(actors.classes == ObjectClass.CAR, speeds, -1))])
    at = simulator.moment.pose(target)[:3, 3]
    craft = simulator.spawn(ObjectClass.UAV, pose_of(at + (-18.0, -6.0, 45.0)), "camera")
    sensors = [
        Sensor(SensorKind.CAMERA, "raw", craft, on_gimbal=True, encoding="bayer_rggb12"),
        Sensor(SensorKind.BOXES, "truth", craft, on_gimbal=True),
    ]
    follow(
        SimulationLoop(simulator, sensors, LoopConfig(real_time_factor=1.0)), target, craft, args
    )


def follow(loop: SimulationLoop, target: int, craft: int, args: argparse.Namespace) -> None:
    """Fly, feed the stack, print what came out."""
    clock = WallClock()
    tracked: dict[int, np.ndarray] = {}
    forecasts: list[int] = []

    def on_tracks(tracks: Tracks) -> None:
        if len(tracks.ids):
            tracked[tracks.frame_index] = tracks.boxes[0]

    def on_forecasts(found: Forecasts) -> None:
        forecasts.append(found.stamp_ns)

    names = [f"tracker.name={args.tracker}", "isp.black_level=[64]"]
    stack = Stack(build(CONFIGS, assignments=names), clock, None, on_tracks, on_forecasts)
    truth: dict[int, np.ndarray] = {}
    fed, selected, begin = 0, False, (0, 0)
    with loop:
        for k in range(_SETTLE + round(args.seconds * 1e9 / loop.simulator.step_ns)):
            aim(loop, target, craft)
            step = loop.step()
            boxes = step.readings["truth"].value
            row = np.flatnonzero(boxes.ids == target)
            if k < _SETTLE:
                continue
            if not selected:
                if not len(row):
                    raise SystemExit("a house hides the vehicle at the start: give another --seed")
                stack.tracker.select(boxes.boxes[row[0]])
                stack.start()
                selected, begin = True, (clock.now_ns(), step.moment.stamp_ns)
            if len(row) and boxes.visibility[row[0]] > 0.7:
                truth[step.moment.frame] = boxes.boxes[row[0]]
            stack.feed(replace(step.readings["raw"].value, stamp_ns=clock.now_ns()))
            fed += 1
        wall_s = (clock.now_ns() - begin[0]) * 1e-9
        simulated_s = (loop.simulator.moment.stamp_ns - begin[1]) * 1e-9
    stack.stop()
    both = sorted(tracked.keys() & truth.keys())
    found, true = (np.array([boxes[k] for k in both]).reshape(-1, 4) for boxes in (tracked, truth))
    away = np.abs(found[:, :2] + found[:, 2:] / 2 - true[:, :2] - true[:, 2:] / 2)
    on_it = (away <= true[:, 2:] / 2).all(axis=1)
    print(f"MuJoCo and {args.traffic}, {args.vehicles} vehicles, 640x480 RAW, {args.tracker}\n")
    print("| pictures a second | real time | forecasts a second | IoU median | on the vehicle |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {fed / wall_s:.1f} | {simulated_s / wall_s:.2f} | {len(forecasts) / wall_s:.1f} "
        f"| {np.median(iou(found, true)):.2f} | {on_it.mean():.2f} |"
    )


def aim(loop: SimulationLoop, target: int, craft: int) -> None:
    """Look at the vehicle, and stay within some 40 m of it."""
    moment = loop.simulator.moment
    way = moment.pose(target)[:3, 3] - moment.pose(craft)[:3, 3]
    across = float(np.hypot(way[0], way[1]))
    azimuth = float(np.arctan2(way[1], way[0]))
    loop.apply(craft, Aim(azimuth, float(np.arctan2(way[2], across))))
    heading = moment.pose(craft)[:2, 0]
    turned = azimuth - float(np.arctan2(heading[1], heading[0]))
    speed = float(np.clip(0.8 * (across - 22.0), 0.0, 14.0))
    loop.apply(craft, Velocity(speed * np.array([np.cos(turned), np.sin(turned), 0.0])))


if __name__ == "__main__":
    main()
