"""Microseconds a call of each predictor, beside filterpy's general filter.

    python -m benchmarks.predictor [--repeats 41]

``observe`` takes one more box of every target in, ``predict`` gives two moments of every target.
filterpy.kalman.KalmanFilter is the same 8-state model and handles one target a call, so its rows
are loops over the targets. All rows of a size are timed in turn within one run, round after round;
the figures are medians, the ratio is filterpy's time over ours for the same number of targets.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from filterpy.kalman import KalmanFilter

from prediction.make import make_predictor
from prediction.predictor import PREDICTORS, PredictorConfig

PERIOD_NS = 33_000_000


def ours(name: str, boxes: np.ndarray) -> tuple[Callable[[], object], Callable[[], object]]:
    """observe and predict of one of our predictors on (n, 4) boxes."""
    predictor = make_predictor(PredictorConfig(name=name))
    n = len(boxes)
    status = np.zeros(n, np.uint8)
    state = predictor.blank(n)
    now = np.zeros(n, np.int64)

    def observe() -> None:
        nonlocal state, now
        now = now + PERIOD_NS
        state = predictor.observe(state, now, boxes, status)

    for _ in range(5):
        observe()
    return observe, lambda: predictor.predict(state, now[0] + np.array([30, 120]) * 1_000_000)


def filterpys(boxes: np.ndarray) -> tuple[Callable[[], object], Callable[[], object]]:
    """The same model as one filterpy filter a target."""
    dt = PERIOD_NS * 1e-9
    F, H = np.eye(8) + np.diag(np.full(4, dt), 4), np.eye(4, 8)
    filters = []
    for box in boxes:
        kf = KalmanFilter(dim_x=8, dim_z=4)
        kf.x[:4, 0], kf.F, kf.H, kf.R, kf.Q = box, F, H, np.eye(4), np.eye(8) * 0.1
        filters.append(kf)

    def observe() -> None:
        for kf, box in zip(filters, boxes, strict=True):
            kf.predict()
            kf.update(box)

    def predict() -> None:
        for kf in filters:
            kf.get_prediction()
            kf.get_prediction()

    return observe, predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=41)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    print("| targets | predictor | observe µs | × filterpy | predict µs | × filterpy |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for n in (1, 10, 100):
        boxes = rng.uniform(50, 400, (n, 4))
        rows = {name: ours(name, boxes) for name in PREDICTORS}
        rows["filterpy"] = filterpys(boxes)
        spent: dict[tuple[str, int], list[float]] = {(r, i): [] for r in rows for i in (0, 1)}
        for _ in range(repeats):
            for name, calls in rows.items():
                for i, call in enumerate(calls):
                    start = time.perf_counter_ns()
                    call()
                    spent[name, i].append((time.perf_counter_ns() - start) * 1e-3)
        median = {key: statistics.median(values) for key, values in spent.items()}
        for name in rows:
            cells = [
                f"{median[name, i]:.0f} | {median['filterpy', i] / median[name, i]:.1f}"
                for i in (0, 1)
            ]
            print(f"| {n} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
