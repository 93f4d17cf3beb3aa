"""How fast each simulator is: a UAV with a 640x480 camera over its traffic, as fast as it goes.

    python -m benchmarks.simulators [--simulators embedded,mujoco+kinematic,mujoco+sumo,sumo]
        [--vehicles 100] [--seconds 10] [--samples 0] [--gl auto]

Each runs with nothing, with the camera, and with the camera and the exact boxes of every picture.
``tick ms`` is wall time from one tick to the next, with everything that is due; ``cpu ms`` is what
all threads of the process took for it, which others on the machine do not change; ``fps`` is
pictures a second; ``real time`` is simulation time to wall time. ``sumo`` is its traffic alone.
What is not installed is named and left out.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from bridges.embedded import EmbeddedSimulator
from bridges.mujoco_simulator import MujocoSimulator
from bridges.mujoco_traffic import MujocoConfig
from bridges.simulator import Aim, Sensor, SensorKind, Simulator, Velocity, pose_of
from bridges.sumo import SumoConfig, SumoTraffic
from bridges.world import WorldConfig
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

NAMES = ("embedded", "mujoco+kinematic", "mujoco+sumo", "sumo")
SENSORS = {"nothing": (), "camera": ("camera",), "camera and boxes": ("camera", "boxes")}
_SETTLE = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulators", default=",".join(NAMES))
    parser.add_argument("--vehicles", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0, help="of wall time, a row")
    parser.add_argument("--samples", type=int, default=0, help="to a pixel, MuJoCo only")
    parser.add_argument("--gl", default="auto")
    args = parser.parse_args()
    print(f"640x480, {args.vehicles} vehicles, samples {args.samples}\n")
    print("| simulator | sensors | tick ms p50 | p90 | cpu ms | fps | real time |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in args.simulators.split(","):
        try:
            if name == "sumo":
                traffic_alone(args.vehicles, args.seconds)
                continue
            for sensors, kinds in SENSORS.items():
                with_sensors(name, sensors, kinds, makers(args)[name], args.seconds)
        except InputError as error:
            print(f"| {name} | left out: {error} | | | | | |")


def makers(args: argparse.Namespace) -> dict[str, Callable[[], Simulator]]:
    """By name. The embedded world's traffic is its own."""

    def mujoco(traffic: str) -> Callable[[], Simulator]:
        return lambda: MujocoSimulator(
            MujocoConfig(traffic=traffic, vehicles=args.vehicles, samples=args.samples, gl=args.gl)
        )

    return {
        "embedded": lambda: EmbeddedSimulator(WorldConfig(width=640, height=480)),
        "mujoco+kinematic": mujoco("kinematic"),
        "mujoco+sumo": mujoco("sumo"),
    }


def with_sensors(
    name: str, sensors: str, kinds: tuple[str, ...], make: Callable[[], Simulator], seconds: float
) -> None:
    """One row: a UAV flies along, its gimbal on a vehicle."""
    simulator = make()
    try:
        vehicles = np.isin(simulator.moment.actors.classes, (ObjectClass.CAR, ObjectClass.BUS))
        target = int(simulator.moment.actors.ids[np.flatnonzero(vehicles)[0]])
        start = simulator.moment.pose(target)[:3, 3] + (-25.0, -20.0, 42.0)
        craft = simulator.spawn(ObjectClass.UAV, pose_of(start), "camera")
        pictures = 0

        def count(_: object) -> None:
            nonlocal pictures
            pictures += 1

        for kind in kinds:
            sensor = Sensor(SensorKind(kind), kind, craft, on_gimbal=True)
            simulator.listen(sensor, count if kind == "camera" else lambda _: None)

        def step() -> None:
            way = simulator.moment.pose(target)[:3, 3] - simulator.moment.pose(craft)[:3, 3]
            across = float(np.hypot(way[0], way[1]))
            azimuth = float(np.arctan2(way[1], way[0]))
            simulator.apply(craft, Aim(azimuth, float(np.arctan2(way[2], across))))
            yaw = float(np.arctan2(*simulator.moment.pose(craft)[1::-1, 0]))
            turned = azimuth - yaw
            speed = min(12.0, 0.5 * max(0.0, across - 30.0))
            ahead = speed * np.array([np.cos(turned), np.sin(turned), 0.0])
            simulator.apply(craft, Velocity(ahead))
            simulator.tick()

        taken, cpu = timed(step, seconds)
        fps = f"{1e3 / np.mean(taken):.0f}" if pictures else ""
        row(name, sensors, taken, cpu, fps, simulator.step_ns * 1e-6)
    finally:
        simulator.close()


def traffic_alone(vehicles: int, seconds: float) -> None:
    """SUMO's steps of 40 ms, and reading where everybody is."""
    traffic = SumoTraffic(SumoConfig(step_s=0.04, vehicles=vehicles, spacing_m=90.0, uavs=0))
    try:
        row("sumo", "nothing", *timed(traffic.step, seconds), "", 40.0)
    finally:
        traffic.close()


def timed(step: Callable[[], object], seconds: float) -> tuple[list[float], float]:
    """Wall ms of each call, and CPU ms of one on average."""
    for _ in range(_SETTLE):
        step()
    taken, end, cpu = [], time.perf_counter() + seconds, time.process_time()
    while time.perf_counter() < end:
        begin = time.perf_counter()
        step()
        taken.append((time.perf_counter() - begin) * 1e3)
    return taken, (time.process_time() - cpu) * 1e3 / len(taken)


def row(name: str, sensors: str, taken: list[float], cpu: float, fps: str, step_ms: float) -> None:
    p50, p90 = np.percentile(taken, (50, 90))
    factor = step_ms / float(np.mean(taken))
    figures = f"{p50:.1f} | {p90:.1f} | {cpu:.1f} | {fps} | {factor:.1f}"
    print(f"| {name} | {sensors} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
