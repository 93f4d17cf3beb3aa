"""Whether an ISP's picture for the tracker serves tracking: AUC on clips made RAW (simulated).

    python -m benchmarks.isp_tracking [--models FOLDER] [--frames 130] [--seeds 1]

Every picture of a clip goes through a sensor's forward model (``isp/sensor.py``), one Bayer pixel
each, then through each ISP; NanoTrack v3 follows the target offline. Clips and models are those of
``$LEADSIGHT_DATA``. The row `clean` tracks the clip itself.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from evaluation.data import find_data
from evaluation.online import TrackerSource, offline
from evaluation.sequences import Frames, Sequence
from evaluation.sources import open_any
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.make import Isp, make_isp
from isp.sensor import LEVELS, PROFILES, bayer, linear_light
from perception.tracker import TrackerConfig, make_tracker
from pipeline.frame import Frame

PROFILE = PROFILES["small-12"]
CLEAN = "clean"
ISPS: dict[str, dict[str, object]] = {
    "classical: gray world, sRGB": {},
    "classical: fixed balance, sRGB": {
        "white_balance": "fixed", "wb_gains": (PROFILE.balance[0], 1.0, PROFILE.balance[1])
    },
    "task-aware, tracker's view": {"mode": "task_aware"},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, help="folder that holds nanotrackv3/")
    parser.add_argument("--frames", type=int, default=130, help="of each clip at most")
    parser.add_argument("--seeds", type=int, default=1, help="runs with other noise")
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=LEVELS)
    parser.add_argument(
        "--model", default="", help="of the task-aware ISP; the shipped one if none"
    )
    args = parser.parse_args()
    cv2.setNumThreads(1)
    frames, truth = (
        find_data("data", "tracking", part, "UAV123_10fps") for part in ("frames", "gt")
    )
    models = args.models or find_data("models")
    if models is None or truth is None or frames is None:
        raise SystemExit("give --models, and set LEADSIGHT_DATA to the folder with the clips")
    paths = sorted(frames.glob("*.mp4"))
    config = TrackerConfig(name="nanotrack-v3", models=str(models))
    scores: dict[tuple[str, str], list[float]] = {}
    work = [(p, level, seed) for p in paths for level in args.levels for seed in range(args.seeds)]
    for path, level, seed in track(work, "clips"):
        boxes = next(f for f in (truth / f"{path.stem}{e}.txt" for e in ("", "_1")) if f.exists())
        clip = shortened(open_any(path, boxes, 10.0, None), args.frames)
        for name in (CLEAN, *ISPS):
            if name == CLEAN:
                isp: Isp = ClassicalIsp()
                seen = clip
            else:
                isp = make_isp(config_of(name, args.model))
                seen = raw(clip, level, seed)
            source = TrackerSource(config.name, make_tracker(config), isp, seen)
            auc = offline(seen, source, lambda n: None)[0].auc
            scores.setdefault((name, level), []).append(auc)
    print(f"\nAUC of {config.name}, mean of {len(paths)} clips, SIMULATED RAW ({PROFILE.name})\n")
    print("| ISP | " + " | ".join(args.levels) + " |")
    print("| --- |" + " ---: |" * len(args.levels))
    for name in (CLEAN, *ISPS):
        cells = (f"{np.mean(scores[name, level]):.3f}" for level in args.levels)
        print(f"| {name} | " + " | ".join(cells) + " |")


def config_of(name: str, model: str) -> IspConfig:
    options = ISPS[name] | {"black_level": (float(PROFILE.black),)}
    config = IspConfig(**options)  # type: ignore[arg-type]
    return replace(config, model=model) if config.mode == "task_aware" else config


def shortened(clip: Sequence, frames: int) -> Sequence:
    n = min(frames, len(clip))
    return replace(clip, stamps_ns=clip.stamps_ns[:n], truth=clip.truth[:n])


def raw(clip: Sequence, level: str, seed: int) -> Sequence:
    """The same clip as a sensor records it."""

    def frames() -> Iterator[Frame]:
        assert clip.frames is not None
        for k in range(len(clip)):
            frame = clip.frames.read(k)
            rgb = np.asarray(cv2.cvtColor(frame.bgr(), cv2.COLOR_BGR2RGB), np.uint8)
            height, width = (n // 2 * 2 for n in rgb.shape[:2])
            light = linear_light(rgb[:height, :width], PROFILE)
            mosaic = bayer(light, PROFILE, *LEVELS[level], np.random.default_rng([seed, k]))
            yield Frame(mosaic, frame.stamp_ns, f"bayer_rggb{PROFILE.bits}", k)

    return replace(clip, frames=Frames(clip.name, frames))


if __name__ == "__main__":
    main()
