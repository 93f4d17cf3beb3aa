"""What frozen detectors find in RAW through the task-aware ISP and through every classical one.

    python -m benchmarks.isp_quality [--models A.onnx B.onnx C.onnx] [--published P.onnx ...]
        [--sensor small-12] [--jobs 2] [--out out/isp-quality]

128 labeled pictures (COCO val2017 of ``$LEADSIGHT_DATA``) × day, dusk, night, deep night ×
YOLOX-nano, FastestDet, NanoDet × 3 seeds of noise, and of training where --models names as many,
RAW SIMULATED. The shipped model
was trained with YOLOX-nano and FastestDet; NanoDet it never saw. ``--sensor compact-12`` is the
sensor that training left out. About half an hour on two cores; writes a report page too. The table
holds AP × 100: the best classical ISP of the level, the task-aware one with the standard deviation
over seeds, its gain with the 95 % interval over pictures, and the published operators of TA-ISP.
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from evaluation.data import find_data
from evaluation.isp_quality import Column, Study, Trained
from isp.sensor import LEVELS, PROFILES
from leadsight import evaluate_isp
from perception.detector import DetectorConfig

DETECTORS = {"yolox_nano_416": "yolox", "fastestdet_352": "fastestdet", "nanodet_m_320": "nanodet"}
OURS, THEIRS = "task-aware", "published operators"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=[""], help="one a seed; shipped if none")
    parser.add_argument("--published", nargs="+", default=[], help="one a seed")
    parser.add_argument("--sensor", default="small-12", choices=PROFILES)
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=LEVELS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=128, help="pictures")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/isp-quality"))
    args = parser.parse_args()
    data = find_data("data", "isp")
    models = find_data("models", "detectors")
    if data is None or models is None:
        raise SystemExit("set LEADSIGHT_DATA to the folder that holds data/isp and models")
    trained = [Trained(OURS, tuple(args.models))]
    if args.published:
        trained.append(Trained(THEIRS, tuple(args.published), published=True))
    study = Study(
        data / "labelled" / "images" / "val2017",
        data / "labelled" / "object_detection" / "labels" / "val2017",
        tuple(
            DetectorConfig(model=str(models / f"{name}.onnx"), layout=layout, min_score=0.01)
            for name, layout in DETECTORS.items()
        ),
        tuple(trained),
        tuple(args.levels),
        args.seeds,
        args.sensor,
        args.limit,
    )
    console = Console()
    result = evaluate_isp.run(study, args.jobs, console)
    print(
        f"\nAP × 100, {args.limit} pictures, SIMULATED RAW of {args.sensor}, {args.seeds} seeds\n"
    )
    header = ["detector, clean", "light", "best classical", "", OURS, "gain", "95 %", THEIRS]
    print("| " + " | ".join(header) + " |")
    print("| --- | --- | ---: | --- | ---: | ---: | --- | ---: |")
    for c in result.columns:
        print("| " + " | ".join(cells(c, result.clean[c.detector])) + " |")
    raw = sorted((data / "dng").glob("*.dng"))
    command = f"python -m benchmarks.isp_quality {shlex.join(sys.argv[1:])}"
    evaluate_isp.write(result, study, args.out, raw, command)
    print(f"\nwrote {args.out / 'report.html'}")
    for name, steady in result.steady.items():
        print(f"{name}: {steady.sentence()}")


def cells(c: Column, clean: float) -> list[str]:
    gain, spread = c.gains[OURS], c.spread[OURS]
    return [
        f"{c.detector}, {100 * clean:.1f}",
        c.level,
        f"{100 * c.ap[c.best]:.1f}",
        c.best,
        f"{100 * c.ap[OURS]:.1f}" + (f" ± {100 * spread:.1f}" if spread == spread else ""),
        f"{100 * gain.mean:+.1f}",
        f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}",
        f"{100 * c.ap[THEIRS]:.1f}" if THEIRS in c.ap else "–",
    ]


if __name__ == "__main__":
    main()
