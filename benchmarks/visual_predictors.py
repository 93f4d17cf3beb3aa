"""Predictors that see, beside those that do not, truly online on the two clips of UAVDT.

    python -m benchmarks.visual_predictors --models MODELS --row LABEL=pvt-joint:FILE.onnx …

Rows of one label are seeds: their mean and half of their spread are printed. All rows rest on the
same answers of the tracker, on the frames that its latency lets it see; each prediction is charged
0.2 ms. µs: the median of observing, seeing and predicting once; net µs: of the network alone, under
onnxruntime with one thread.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.latency_recovery import clips
from benchmarks.predictor_accuracy import cost_us
from evaluation.clock import Latency
from evaluation.data import find_data
from evaluation.metrics import gap_recovered
from evaluation.online import TrackerSource, offline, online
from evaluation.scale import Recording
from evaluation.sources import open_any
from isp.classical import ClassicalIsp
from perception.tracker import SIAMESE, TrackerConfig, make_tracker
from prediction.predictor import PREDICTORS, VISUAL, PredictorConfig

COST_NS = 200_000


def network_us(config: PredictorConfig) -> float:
    """Median of one run of the file's graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(config.model, options, providers=["CPUExecutionProvider"])
    rng, spent = np.random.default_rng(0), []
    shapes = {
        i.name: [s if isinstance(s, int) else 1 for s in i.shape] for i in session.get_inputs()
    }
    given = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for _ in range(300):
        start = time.perf_counter_ns()
        session.run(None, given)
        spent.append(time.perf_counter_ns() - start)
    return float(np.median(spent)) * 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=find_data("models"))
    parser.add_argument("--tracker", default="nanotrack-v3", choices=SIAMESE)
    parser.add_argument("--latency", nargs="+", type=float, default=[0.047, 0.170])
    parser.add_argument("--row", nargs="+", default=[], help="LABEL=PREDICTOR:MODEL.onnx")
    args = parser.parse_args()
    rows = [(name, PredictorConfig(name=name)) for name in PREDICTORS]
    for text in args.row:
        label, _, model = text.partition("=")
        name, _, path = model.partition(":")
        if name not in (*PREDICTORS, *VISUAL):
            parser.error(f"--row {text}: give LABEL=PREDICTOR:MODEL.onnx")
        rows.append((label, PredictorConfig(name=name, model=path)))
    units = [u for u in clips([args.tracker])["30 Hz"] if isinstance(u, Recording)]
    tracker = make_tracker(TrackerConfig(name=args.tracker, models=str(args.models or "")))

    perfect, found, view = [], [], None
    for unit in units:
        sequence = open_any(unit.path, unit.truth)
        source = TrackerSource(args.tracker, tracker, ClassicalIsp(), sequence)
        source.keep_views = True
        (best,) = offline(sequence, source, lambda _: None)
        perfect.append([best.auc, best.dp])
        scores = []
        for _, config in rows:
            cost_ns = 0 if config.name == "none" else COST_NS
            runs = [
                online(sequence, source, Latency.of_seconds(s), config, cost_ns)[0]
                for s in args.latency
            ]
            scores.append([[run.la0.auc, run.la0.dp] for run in runs])
        found.append(scores)
        view = source.answers(np.arange(len(sequence)), lambda _: None).views[-1]
    assert view is not None
    score = np.array(found)  # (clips, rows, latencies, AUC DP)
    best_auc, best_dp = np.mean(perfect, axis=0)
    names = [unit.path.stem for unit in units]
    print(f"{', '.join(names)}; {args.tracker}, offline AUC {best_auc:.3f}, DP {best_dp:.3f}\n")
    head = " | ".join(
        f"{s * 1e3:.0f} ms AUC | DP | gap | {' | '.join(names)}" for s in args.latency
    )
    print(f"| predictor | {head} | µs | net µs |")
    print("| --- |" + " ---: |" * ((3 + len(names)) * len(args.latency) + 2))
    none = score[:, 0].mean(axis=0)
    for label in dict.fromkeys(label for label, _ in rows):
        mine = [r for r, (other, _) in enumerate(rows) if other == label]
        mean = score[:, mine].mean(axis=(0, 1))
        spread = np.ptp(score[:, mine].mean(axis=0), axis=0) / 2
        cells = []
        for i in range(len(args.latency)):
            auc, dp = (
                f"{mean[i, m]:.3f}" + (f" ± {spread[i, m]:.3f}" if len(mine) > 1 else "")
                for m in (0, 1)
            )
            gap = gap_recovered(mean[i, 0], none[i, 0], best_auc)
            each = " | ".join(f"{v:.3f}" for v in score[:, mine, i, 0].mean(axis=1))
            cells.append(f"{auc} | {dp} | {gap:.0%} | {each}")
        cost = np.median([cost_us(rows[r][1], view) for r in mine])
        config = rows[mine[0]][1]
        alone = f"{network_us(config):.0f}" if config.model else ""
        print(f"| {label} | {' | '.join(cells)} | {cost:.0f} | {alone} |")


if __name__ == "__main__":
    main()
