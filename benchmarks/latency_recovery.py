"""How much of what latency costs comes back: truly online on real aerial clips, and on replay.

    python -m benchmarks.latency_recovery --models MODELS [--parts online wall replay ablation]
        [--trackers nanotrack-v3 csrt] [--jobs 2] [--out out/latency_recovery]

online: every clip under data/tracking/frames of $LEADSIGHT_DATA at its own frame rate, UAVDT at
30 Hz, UAV123 at 10 Hz, where the next frame is 100 ms away; the tracker sees the frames that its
latency lets it see. wall: the same clips with the latency that csrt has on this machine when it
does nothing else. replay: the stored outputs of UAVDT, UAV123 and UAV20L, optimistic, as their
trackers saw every frame. ablation: two-rate with one part left away.

"of instant" is the gap won back as a share of what ``kalman`` wins back behind a tracker that takes
no time, 1 ms: the box that is used for a frame was made before it came, however fast the tracker
is, while the offline score is of boxes found in the frame itself. "worst" is the clip where a row
falls furthest short of ``kalman``, in AUC; ms, what a method costs for each answer, or with two
rates for each frame of 1280×720, and one prediction, on one thread.
Rows are kept in --out: a run that is stopped goes on where it was; after a change of the code, give
another --out. Each set's figures also go to a
report.html there, with a line of AUC against latency for each method and a strip of frames.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.predictor_accuracy import cost_us
from bridges.world import AerialWorld, WorldConfig
from evaluation.clock import Latency
from evaluation.data import find_data
from evaluation.evaluate import NONE, WALL, Evaluation, SequenceResult
from evaluation.metrics import gap_recovered
from evaluation.replay import find_outputs, find_stored
from evaluation.rows import RowFile
from evaluation.scale import (
    Conditions,
    Recording,
    Unit,
    evaluate_unit,
    in_processes,
    unit_frames,
    unit_key,
)
from evaluation.two_rate import TWO_RATE, is_two_rate
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from leadsight.evaluate import write
from perception.propagator import Propagator, PropagatorConfig
from perception.tracker import TrackerConfig
from pipeline.errors import InputError
from pipeline.tracks import Tracks, TrackStatus
from prediction.predictor import PREDICTORS, PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate

PARTS = ("online", "wall", "replay", "ablation")
INSTANT_S = 0.001
"""Of a tracker that takes no time: it sees every frame, and its answer is there for the next one.
Nothing that does not see a frame before it is used can be expected to do better."""
LATENCIES_S = (INSTANT_S, 0.047, 0.070, 0.100, 0.170)
PLOTTED_S = (*LATENCIES_S, 0.250, 0.400)
"""Of the tracker in the plot, the first of --trackers."""
LEARNED = f"{TWO_RATE}+residual"
METHODS = (*PREDICTORS, TWO_RATE, LEARNED)
CLIPS = {"UAVDT": "30 Hz", "UAV123_10fps": "10 Hz"}
REPLAYS = ("UAVDT", "UAV123", "UAV20L")
OTHER_NAMES = {"group2": "group2_1"}
ON_THE_CLOCK = "csrt"
BASE = "kalman"
ABLATIONS = {
    "two-rate": (TWO_RATE, FusionConfig(), PropagatorConfig()),
    "no camera motion": (
        TWO_RATE,
        FusionConfig(camera_apart=False),
        PropagatorConfig(camera=False),
    ),
    "camera not apart": (TWO_RATE, FusionConfig(camera_apart=False), PropagatorConfig()),
    "no fallback": (TWO_RATE, FusionConfig(), PropagatorConfig(fallback=False)),
    "no filter": (f"{TWO_RATE}+none", FusionConfig(), PropagatorConfig()),
    "no guided search": (TWO_RATE, FusionConfig(guided=False), PropagatorConfig()),
    "with the learned residual": (LEARNED, FusionConfig(), PropagatorConfig()),
}
Found = dict[str, list[SequenceResult]]
"""Results of each set."""


def clips(trackers: Sequence[str]) -> dict[str, list[Unit]]:
    """Each set's clips with their truth, for each tracker.

    Raises:
        SystemExit: no clips found.
    """
    found: dict[str, list[Unit]] = {}
    for name, title in CLIPS.items():
        frames, truth = (find_data("data", "tracking", part, name) for part in ("frames", "gt"))
        if frames is None or truth is None:
            raise SystemExit(f"no clips of {name}; set LEADSIGHT_DATA to the folder of data/")
        for tracker in trackers:
            for clip in sorted(frames.iterdir()):
                stem = OTHER_NAMES.get(clip.stem, clip.stem)
                files = (truth / f"{stem}.txt", truth / f"{stem}_gt.txt")
                boxes = next(path for path in files if path.is_file())
                found.setdefault(title, []).append(Recording(tracker, clip, boxes))
    return found


def stored() -> dict[str, list[Unit]]:
    """The sequences of each replay set that is there."""
    folders = {name: find_data("data", "tracking", "raw", name) for name in REPLAYS}
    return {
        f"{name} replay": list(find_stored(find_outputs([folder])))
        for name, folder in folders.items()
        if folder is not None
    }


def evaluated(conditions: Conditions, sets: dict[str, list[Unit]], out: Path, jobs: int) -> Found:
    """All results; what ``out`` holds of them is not made again."""
    found: Found = {}
    settings = conditions.settings()
    for title, units in sets.items():
        file = out / title.replace(" ", "_") / "rows.jsonl"
        try:
            rows = RowFile(file, settings, resume=True)
        except InputError:
            raise SystemExit(f"{file} holds rows of other settings; give another --out") from None
        left = [unit for unit in units if unit_key(unit) not in rows]
        work = in_processes(partial(evaluate_unit, conditions), left, jobs)
        console = Console(stderr=True)
        for unit, outcome in track(work, f"{out.name}, {title}", len(left), console=console):
            if not isinstance(outcome, str):
                raise SystemExit(str(outcome))
            rows.append(unit_key(unit), outcome)
        found[title] = rows.results((unit_key(u), unit_frames(u, conditions)) for u in units)
    return found


def frame_ms(predictor: str) -> float:
    """Median of a frame of one target and one prediction with two rates, in ms."""
    cv2.setNumThreads(1)
    isp, world = ClassicalIsp(IspConfig()), AerialWorld(WorldConfig())
    carrier = TwoRate(
        FusionConfig(), PredictorConfig(name=predictor), Propagator(PropagatorConfig())
    )
    spent = []
    for k in range(60):
        shot = world.render(k)
        frame = isp.process(shot.frame)
        start = time.perf_counter()
        carrier.frame(frame)
        carrier.predict(np.array([frame.stamp_ns + 50_000_000]))
        spent.append(time.perf_counter() - start)
        if k == 0:
            box = shot.boxes[int(np.flatnonzero(np.isfinite(shot.boxes).all(axis=1))[0])]
            at, status = frame.stamp_ns, TrackStatus.TRACKED
            carrier.answer(Tracks.single(at, at, 0, frame.size, box, 1.0, status))
    return 1e3 * statistics.median(spent[1:])


@cache
def method_ms(method: str) -> float:
    """What a method costs; measured when it is first asked for."""
    if is_two_rate(method):
        return frame_ms(method.partition("+")[2] or PredictorConfig().name)
    return cost_us(PredictorConfig(name=method)) * 1e-3


INSTANT = Latency.of_seconds(INSTANT_S).label
HEAD = ("offline AUC", "AUC", "DP", "σ AUC", "σ DP", "gap", "of instant", "worst against kalman")


def cells(results: list[SequenceResult], latency: str, method: str) -> list[str]:
    """The figures of one row, in the order of ``HEAD``."""
    names = dict.fromkeys(r.sequence.name for r in results)

    def mean(values: list[float]) -> float:
        return float(np.mean(values))

    def above(name: str) -> float:
        """A clip counts once, however many trackers there are of it."""
        mine = [r.runs for r in results if r.sequence.name == name]
        return mean([r[latency, method].la0.auc - r[latency, BASE].la0.auc for r in mine])

    runs = [r.runs[latency, method] for r in results]
    none = mean([r.runs[latency, NONE].la0.auc for r in results])
    offline, auc = mean([r.offline.auc for r in results]), mean([r.la0.auc for r in runs])
    worst = min((above(name), name) for name in names)
    gap = gap_recovered(auc, none, offline)
    reach = np.nan
    if (INSTANT, BASE) in results[0].runs:
        instant = mean([r.runs[INSTANT, BASE].la0.auc for r in results])
        reach = gap_recovered(auc, none, instant)
    return [
        f"{offline:.3f}",
        f"{auc:.3f}",
        f"{mean([r.la0.dp for r in runs]):.3f}",
        f"{mean([float(r.auc.mean()) for r in runs]):.3f}",
        f"{mean([float(r.dp.mean()) for r in runs]):.3f}",
        f"{gap:.0%}" if np.isfinite(gap) else "–",
        f"{reach:.0%}" if np.isfinite(reach) else "–",
        "" if method == BASE else f"{worst[0]:+.3f} {worst[1]}",
    ]


def blocks(found: Found) -> list[tuple[str, str, str, list[SequenceResult]]]:
    """(set, tracker, latency, results) of each block of rows; of a replay all trackers together."""
    return [
        (title, tracker, latency, mine)
        for title, results in found.items()
        for tracker, mine in by_tracker(title, results).items()
        for latency in dict.fromkeys(label for label, _ in mine[0].runs)
    ]


def by_tracker(title: str, results: list[SequenceResult]) -> Found:
    names = dict.fromkeys(r.tracker for r in results)
    if title.endswith("replay"):
        return {f"{len(names)} trackers": results}
    return {name: [r for r in results if r.tracker == name] for name in names}


def print_table(columns: Sequence[str], rows: list[list[str]]) -> None:
    print(f"\n| {' | '.join(columns)} |\n|{' --- |' * 4}{' ---: |' * (len(columns) - 4)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def print_methods(found: Found) -> None:
    rows = [
        [title, tracker, latency, method, *cells(mine, latency, method), f"{method_ms(method):.2f}"]
        for title, tracker, latency, mine in blocks(found)
        for method in dict.fromkeys(name for label, name in mine[0].runs if label == latency)
    ]
    print_table(("clips", "tracker", "latency", "method", *HEAD, "ms"), rows)


def report(found: Found, conditions: Conditions, out: Path) -> None:
    """A report.html of each set."""
    for title, results in found.items():
        folder = out / title.replace(" ", "_")
        evaluation = Evaluation(results, conditions.settings())
        write(
            evaluation, folder, "python -m benchmarks.latency_recovery", ClassicalIsp(IspConfig())
        )
        print(f"{title}: {folder / 'report.html'}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=find_data("models"))
    parser.add_argument("--trackers", nargs="+", default=["nanotrack-v3", "csrt"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("out/latency_recovery"))
    options = parser.parse_args()

    def conditions(latencies_s: Sequence[float], methods: Sequence[str]) -> Conditions:
        return Conditions(
            tuple(Latency.of_seconds(s) for s in latencies_s),
            tuple(methods),
            PredictorConfig(),
            200_000,
            TrackerConfig(models=str(options.models or "")),
            IspConfig(),
        )

    if "online" in options.parts:
        first, *others = options.trackers
        for trackers, latencies in (([first], PLOTTED_S), (others, LATENCIES_S)):
            if trackers:
                out = options.out / "_".join(trackers)
                chosen = conditions(latencies, METHODS)
                found = evaluated(chosen, clips(trackers), out, options.jobs)
                print_methods(found)
                report(found, chosen, out)
    if "wall" in options.parts:
        chosen = replace(conditions((), METHODS), latencies=(None,))
        out = options.out / WALL
        found = evaluated(chosen, clips([ON_THE_CLOCK]), out, jobs=1)
        print_methods(found)
    if "replay" in options.parts:
        chosen = conditions(LATENCIES_S, PREDICTORS)
        found = evaluated(chosen, stored(), options.out / "replay", options.jobs)
        print_methods(found)
    if "ablation" in options.parts:
        rows = []
        units = clips(options.trackers[:1])
        for name, (method, fusion, propagator) in ABLATIONS.items():
            chosen = replace(
                conditions((INSTANT_S, 0.047, 0.170), (BASE, method)),
                fusion=fusion,
                propagator=propagator,
            )
            out = options.out / "ablation" / name.replace(" ", "_")
            found = evaluated(chosen, units, out, options.jobs)
            rows += [
                [title, tracker, latency, name, *cells(mine, latency, method)]
                for title, tracker, latency, mine in blocks(found)
            ]
        print_table(("clips", "tracker", "latency", "parts", *HEAD), rows)


if __name__ == "__main__":
    main()
