"""How much of what latency costs comes back, truly online, on real aerial clips.

    python -m benchmarks.latency_recovery --models MODELS [--trackers nanotrack-v3 csrt] [--jobs 2]
    python -m benchmarks.latency_recovery --models MODELS --ablation

Every clip under data/tracking/frames of $LEADSIGHT_DATA at its own frame rate: UAVDT at 30 Hz,
UAV123 at 10 Hz, where the next frame is 100 ms away. The tracker sees the frames that its latency
lets it see. "worst" is the clip where a row falls furthest short of ``kalman``, in AUC. A run that
is stopped goes on where it was: rows are kept in --out. ``--ablation`` leaves away one part of
two-rate at a time.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from evaluation.clock import Latency
from evaluation.data import find_data
from evaluation.evaluate import SequenceResult
from evaluation.metrics import gap_recovered
from evaluation.rows import RowFile
from evaluation.scale import Conditions, Recording, evaluate_unit, in_processes, unit_key
from isp.classical import IspConfig
from perception.propagator import PropagatorConfig
from perception.tracker import TrackerConfig
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig

LATENCIES_S = (0.047, 0.070, 0.100, 0.170)
METHODS = ("none", "constant-velocity", "kalman", "imm", "two-rate")
SETS = {"30 Hz": "UAVDT", "10 Hz": "UAV123_10fps"}
OTHER_NAMES = {"group2": "group2_1"}
WHOLE = "two-rate"
ABLATIONS = {
    WHOLE: (FusionConfig(), PropagatorConfig()),
    "no camera motion": (FusionConfig(camera_apart=False), PropagatorConfig(camera=False)),
    "camera not apart": (FusionConfig(camera_apart=False), PropagatorConfig()),
    "no fallback": (FusionConfig(), PropagatorConfig(fallback=False)),
    "no guided search": (FusionConfig(guided=False), PropagatorConfig()),
}


def recordings(trackers: list[str]) -> dict[str, list[Recording]]:
    """Each set's clips with their truth, for each tracker.

    Raises:
        SystemExit: no clips found.
    """
    found: dict[str, list[Recording]] = {}
    for title, name in SETS.items():
        frames, truth = (find_data("data", "tracking", part, name) for part in ("frames", "gt"))
        if frames is None or truth is None:
            raise SystemExit(f"no clips of {name}; set LEADSIGHT_DATA to the folder of data/")
        for clip in sorted(frames.iterdir()):
            stem = OTHER_NAMES.get(clip.stem, clip.stem)
            boxes = next(
                p for p in (truth / f"{stem}.txt", truth / f"{stem}_gt.txt") if p.is_file()
            )
            found.setdefault(title, []).extend(Recording(t, clip, boxes) for t in trackers)
    return found


def evaluated(
    conditions: Conditions, units: list[Recording], rows: Path, jobs: int
) -> list[SequenceResult]:
    """The results of all units; those that ``rows`` holds are not made again."""
    file = RowFile(rows, conditions.settings(), resume=True)
    left = [unit for unit in units if unit_key(unit) not in file]
    for unit, outcome in in_processes(partial(evaluate_unit, conditions), left, jobs):
        if not isinstance(outcome, str):
            raise SystemExit(str(outcome))
        file.append(unit_key(unit), outcome)
        print(f"  {unit.tracker} on {unit.path.name}", flush=True)  # type: ignore[union-attr]
    return file.results((unit_key(unit), None) for unit in units)


def lines(results: list[SequenceResult], latency: str, method: str, against: str = "kalman") -> str:
    """One row of the table."""

    def mean(of: list[float]) -> float:
        return float(np.mean(of))

    runs = [r.runs[latency, method] for r in results]
    none = mean([r.runs[latency, "none"].la0.auc for r in results])
    offline, auc = mean([r.offline.auc for r in results]), mean([r.la0.auc for r in runs])
    gap = gap_recovered(auc, none, offline)
    worst = [
        (r.runs[latency, method].la0.auc - r.runs[latency, against].la0.auc, r.sequence.name)
        for r in results
    ]
    return (
        f"{offline:.3f} | {auc:.3f} | {mean([r.la0.dp for r in runs]):.3f} | "
        f"{mean([float(r.auc.mean()) for r in runs]):.3f} | {gap:.0%} | "
        f"{min(worst)[0]:+.3f} {min(worst)[1]}"
    )


def blocks(
    results: dict[str, list[SequenceResult]], trackers: list[str]
) -> Iterator[tuple[str, str, str, list[SequenceResult]]]:
    for title, found in results.items():
        for tracker in trackers:
            mine = [r for r in found if r.tracker == tracker]
            for latency in dict.fromkeys(label for label, _ in mine[0].runs):
                yield title, tracker, latency, mine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=find_data("models"))
    parser.add_argument("--trackers", nargs="+", default=["nanotrack-v3"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/latency_recovery"))
    options = parser.parse_args()
    units = recordings(options.trackers)
    conditions = Conditions(
        tuple(Latency.of_seconds(s) for s in LATENCIES_S),
        METHODS,
        PredictorConfig(),
        200_000,
        TrackerConfig(models=str(options.models or "")),
        IspConfig(),
    )
    head = "offline | AUC | DP | σ AUC | gap | worst against kalman\n"
    rule = "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    if not options.ablation:
        found = {
            title: evaluated(conditions, mine, options.out / f"{SETS[title]}.jsonl", options.jobs)
            for title, mine in units.items()
        }
        print(f"| clips | tracker | latency | method | {head}{rule}")
        for title, tracker, latency, mine in blocks(found, options.trackers):
            for method in METHODS:
                row = lines(mine, latency, method)
                print(f"| {title} | {tracker} | {latency} | {method} | {row} |")
        return
    print(f"| clips | tracker | latency | parts | {head}{rule}")
    for name, (fusion, propagator) in ABLATIONS.items():
        changed = replace(
            conditions,
            latencies=tuple(Latency.of_seconds(s) for s in (0.047, 0.170)),
            predictors=("kalman", WHOLE),
            fusion=fusion,
            propagator=propagator,
        )
        file = name.replace(" ", "_")
        found = {
            title: evaluated(
                changed, mine, options.out / f"{SETS[title]}_{file}.jsonl", options.jobs
            )
            for title, mine in units.items()
        }
        for title, tracker, latency, mine in blocks(found, options.trackers):
            print(f"| {title} | {tracker} | {latency} | {name} | {lines(mine, latency, WHOLE)} |")


if __name__ == "__main__":
    main()
