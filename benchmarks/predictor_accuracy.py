"""What each predictor wins back on stored tracker outputs, and how far off it is at camera rate.

    python -m benchmarks.predictor_accuracy [OUTPUTS] [--truth FOLDER] [--latency 0.047 0.07 0.17]
        [--row "residual, aerial, seed 0=residual:aerial0.onnx"] [--sequences N]

OUTPUTS: a folder of .npz as for ``leadsight evaluate --replay``; without it UAVDT's, which nothing
was trained or tuned on. Means over all trackers and sequences. "worst": the lowest difference to
the row of kalman on a sequence, in the mean over its trackers. Camera rate: the true box of every
frame goes in and 33 and 67 ms ahead are asked for, as a two-rate tracker asks.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from evaluation.clock import Latency
from evaluation.data import find_data
from evaluation.metrics import errors, gap_recovered, success_value
from evaluation.online import offline, online
from evaluation.replay import find_outputs, open_replay
from evaluation.sequences import Sequence
from pipeline.errors import InputError
from pipeline.resources import share_path
from pipeline.tracks import View
from prediction.make import make_predictor, make_visual
from prediction.predictor import PREDICTORS, VISUAL, PredictorConfig

AHEAD = (1, 2)


def shipped_rows() -> dict[str, PredictorConfig]:
    """One row a predictor that can be made without a model of one's own."""
    rows = {}
    for name in PREDICTORS:
        if name in ("pvt-motion", "residual"):
            try:
                share_path("models", f"{name}.onnx")
            except InputError:
                continue
        rows[name] = PredictorConfig(name=name)
    return rows


def camera_rate(sequence: Sequence, config: PredictorConfig) -> np.ndarray:
    """(len(AHEAD), 2): AUC, and mean distance of centers in box sides (at most 2)."""
    predictor = make_predictor(config)
    usable = np.isfinite(sequence.truth).all(axis=1) & (sequence.truth > 0).all(axis=1)
    n = len(sequence)
    found = np.full((len(AHEAD), n, 4), np.nan)
    state = predictor.blank(1)
    period = int(np.median(np.diff(sequence.stamps_ns)))
    for k in range(n):
        stamp = sequence.stamps_ns[k : k + 1]
        if not usable[k]:
            continue
        state = predictor.observe(state, stamp, sequence.truth[k : k + 1], np.zeros(1, np.uint8))
        boxes = predictor.predict(state, stamp + period * np.array(AHEAD)).boxes[0]
        for row, ahead in enumerate(AHEAD):
            if k + ahead < n:
                found[row, k + ahead] = boxes[row]
    result = []
    for boxes in found:
        scored = usable & np.isfinite(boxes).all(axis=1)
        error = errors(boxes[scored], sequence.truth[scored])
        sides = np.sqrt(sequence.truth[scored, 2] * sequence.truth[scored, 3])
        result.append(
            [success_value(error.overlap).mean(), np.minimum(error.distance / sides, 2).mean()]
        )
    return np.array(result)


def cost_us(config: PredictorConfig, view: View | None = None) -> float:
    """Median of one target's observe and predict together, in µs; with that of seeing a view, where
    the predictor takes one."""
    visual = make_visual(config) if config.name in VISUAL else None
    predictor = visual or make_predictor(config)
    state, spent = predictor.blank(1), []
    for k in range(300):
        stamp = k * 33_000_000
        box = np.array([[100.0 + 3 * k, 80, 40, 30]])
        start = time.perf_counter_ns()
        state = predictor.observe(state, np.array([stamp]), box, np.zeros(1, np.uint8))
        if visual is not None and view is not None:
            state = visual.see(state, 0, stamp, view)
        predictor.predict(state, np.array([stamp + 50_000_000]))
        spent.append(time.perf_counter_ns() - start)
    return float(np.median(spent)) * 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("outputs", nargs="?", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--latency", nargs="+", type=float, default=[0.047, 0.07, 0.17])
    parser.add_argument("--row", nargs="+", default=[], help="LABEL=PREDICTOR:MODEL.onnx")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=PREDICTORS,
        help="of the rows without a model, these",
    )
    parser.add_argument("--sequences", type=int, default=0, help="only the first so many")
    args = parser.parse_args()
    outputs = args.outputs or find_data("data", "tracking", "raw", "UAVDT")
    if outputs is None:
        parser.error("give OUTPUTS: UAVDT's are not found (LEADSIGHT_DATA)")
    rows = shipped_rows()
    if args.only:
        rows = {name: rows[name] for name in dict.fromkeys(["none", "kalman", *args.only])}
    for text in args.row:
        label, _, model = text.partition("=")
        name, _, path = model.partition(":")
        rows[label] = PredictorConfig(name=name, model=path)
    cases = open_replay(find_outputs([outputs]), args.truth)[: args.sequences or None]

    perfect, found, carried = [], [], []
    for sequence, source in track(cases, "replaying"):
        scores = offline(sequence, source, lambda _: None)
        perfect.append(np.mean([[s.auc, s.dp] for s in scores], axis=0))
        by_row = []
        for config in rows.values():
            runs = [
                online(sequence, source, Latency.of_seconds(s), config, 0) for s in args.latency
            ]
            by_row.append(
                [np.mean([[r.la0.auc, r.la0.dp] for r in lanes], axis=0) for lanes in runs]
            )
        found.append(by_row)
        carried.append([camera_rate(sequence, replace(c)) for c in rows.values()])
    score = np.array(found)  # (sequences, rows, latencies, AUC DP)
    best = np.mean(perfect, axis=0)
    names = list(rows)
    none, kalman = names.index("none"), names.index("kalman")
    print(f"{len(cases)} sequences, offline AUC {best[0]:.3f}, DP {best[1]:.3f}\n")
    head = " | ".join(f"{s * 1e3:.0f} ms AUC / DP | gap | worst" for s in args.latency)
    print(f"| predictor | {head} | µs |")
    print("| --- |" + " ---: |" * (3 * len(args.latency) + 1))
    mean = score.mean(axis=0)
    for r, name in enumerate(names):
        cells = []
        for i in range(len(args.latency)):
            auc, dp = mean[r, i]
            gap = gap_recovered(auc, mean[none, i, 0], best[0])
            worst = (score[:, r, i, 0] - score[:, kalman, i, 0]).min()
            cells.append(f"{auc:.4f} / {dp:.4f} | {gap:.0%} | {worst:+.3f}")
        print(f"| {name} | {' | '.join(cells)} | {cost_us(rows[name]):.0f} |")
    print(
        "\n| camera rate | " + " | ".join(f"+{33 * a} ms AUC | error, sides" for a in AHEAD) + " |"
    )
    print("| --- |" + " ---: |" * (2 * len(AHEAD)))
    for r, name in enumerate(names):
        values = np.mean([c[r] for c in carried], axis=0)
        print(f"| {name} | " + " | ".join(f"{a:.4f} | {e:.4f}" for a, e in values) + " |")


if __name__ == "__main__":
    main()
