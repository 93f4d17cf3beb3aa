"""A UAV follows a vehicle by what it sees late: stale, by forecasts, and by the truth.

    python -m benchmarks.follow_target [--world embedded] [--eyes truth] [--seeds 20] [-o DIR]

What the arms are: evaluation/follow_target.py. A quadrotor circles the vehicle at 8 m/s, 30 m
away and 40 m up, its camera of 12° in a gimbal. Latency is simulated: base 40 ms and what is added;
actuators take 60 ms. Same controller, gains, noise and seeds for all arms. ``--eyes tracker`` runs
our ISP and tracker on the pictures; ``truth`` takes the true boxes with noise, and is fast. With -o
a report page with plots, all outcomes as CSV, and with --video one flight of two arms side by side.
"""

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, replace
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from bridges.follow import FollowConfig
from bridges.make_simulator import WORLDS, config_class, stage_of
from bridges.world import WorldConfig
from evaluation.data import find_data
from evaluation.evaluate import environment
from evaluation.follow_study import (
    EYES,
    FOLLOW,
    PURSUIT,
    Case,
    Study,
    cases,
    flight_of,
    markdown,
    report,
    write_report,
)
from evaluation.follow_target import ARMS, Outcome, PursuitConfig
from evaluation.follow_video import write_comparison
from isp.config import IspConfig
from perception.tracker import TrackerConfig
from pipeline import config
from pipeline.config import Config
from pipeline.errors import InputError
from prediction.ground_target import PREDICTOR
from prediction.predictor import PredictorConfig

Task = tuple[Study, Sequence[Case]]


def _flown(task: Task) -> list[tuple[Case, Outcome]]:
    study, some = task
    return [(case, flight_of(study, case).fly()) for case in some]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="embedded", choices=WORLDS)
    parser.add_argument("--eyes", default="truth", choices=EYES)
    parser.add_argument("--tracker", default="", help="nanotrack-v3 where its files are, else kcf")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--seconds", type=float, default=PURSUIT.seconds)
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 100, 200, 300, 400])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="pursuit., follow., predictor.,"
                        " tracker., isp. or of the world, as on the command line")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, help="folder of report, CSV and video")
    parser.add_argument("--video", type=float, help="ms added in a video of stale and forecast")
    args = parser.parse_args()
    try:
        _run(args)
    except InputError as error:
        parser.error(str(error))


def _run(args: argparse.Namespace) -> None:
    study = _study(args)
    seeds = range(args.first, args.first + args.seeds)
    tasks = [(study, cases(args.arms, args.latency, seed)) for seed in seeds]
    begin = time.monotonic()
    results: list[tuple[Case, Outcome]] = []
    with get_context("spawn").Pool(args.jobs) as pool:
        done = pool.imap(_flown, tasks)
        for some in track(done, description="flights", total=len(tasks)):
            results += some
    print(markdown(results))
    print(f"\n{len(results)} flights in {time.monotonic() - begin:.0f} s")
    if args.out is None:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "outcomes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "added_ms", "seed", "error_deg", "in_view", "lost_after_s"])
        writer.writerows((*astuple(c), o.error_deg, o.in_view, o.lost_after_s) for c, o in results)
    video = ""
    if args.video is not None:
        video = "follow.mp4"
        larger = replace(study, pursuit=replace(study.pursuit, width=640, height=480))
        write_comparison(args.out / video, larger, args.video, args.first, ("stale", "forecast"))
    settings: dict[str, object] = {
        "world": study.world, "eyes": study.eyes, "seeds": f"{seeds.start} to {seeds.stop - 1}",
        "fov_deg": study.pursuit.fov_deg, "seconds": study.pursuit.seconds,
        "base_ms": study.pursuit.base_ms, "actuator_ms": study.pursuit.actuator_ms,
        "orbit_mps": study.follow.orbit_mps, "distance_m": study.follow.distance_m,
        "altitude_m": study.follow.altitude_m, "gain": study.follow.gain,
        "predictor": study.predictor.name, **environment(),
    }  # fmt: skip
    command = "python -m benchmarks.follow_target " + " ".join(sys.argv[1:])
    write_report(args.out / "report.html", report(results, study, command, settings, video))


def _study(args: argparse.Namespace) -> Study:
    """The study that the arguments name; --set goes on top of this benchmark's own settings."""
    world = stage_of(args.world)
    stages: dict[str, type[Config]] = {
        "pursuit": PursuitConfig, "follow": FollowConfig, "predictor": PredictorConfig,
        "tracker": TrackerConfig, "isp": IspConfig, world: config_class(args.world),
    }  # fmt: skip
    own = [
        f"pursuit.fov_deg={PURSUIT.fov_deg}",
        f"pursuit.seconds={args.seconds}",
        f"follow.orbit_mps={FOLLOW.orbit_mps}",
        f"predictor.acceleration_sigma={PREDICTOR.acceleration_sigma}",
    ]
    if stages[world] is WorldConfig:
        own.append("world.occlusions=false")
    models = find_data("models")
    name = args.tracker or ("nanotrack-v3" if models is not None else "kcf")
    own.append(f"tracker.name={name}")
    if models is not None:
        own.append(f"tracker.models={models}")
    built = config.build(stages, assignments=[*own, *args.set])
    return Study(
        args.world, built[world], args.eyes, built["pursuit"], built["follow"],
        built["predictor"], built["tracker"], built["isp"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
