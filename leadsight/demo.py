"""``leadsight demo``: the main job, on the embedded world, in about a minute.

1. Fly: RAW frames and truth of an aerial scene go into a bag. 2. Evaluate: the bag is tracked by a
tracker that is late, and what prediction wins back is scored. 3. Live: the same frames run through
the stack in real time, where the predictor's horizon is what the latency monitor measures.
"""

from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from bridges.world import AerialWorld, WorldConfig
from evaluation.bags import TRUTH_TOPIC, BagWriter, open_bag_sequence
from evaluation.clock import Latency
from evaluation.evaluate import Evaluation, SequenceResult, environment, evaluate
from evaluation.metrics import errors, score
from evaluation.online import TrackerSource
from evaluation.sequences import Sequence
from evaluation.video import AnnotatedVideo
from isp.classical import ClassicalIsp
from leadsight.evaluate import print_rows, write
from leadsight.live import Flight, fly
from leadsight.stack import CONFIGS
from perception.tracker import make_tracker
from pipeline import config
from pipeline.box import iou
from pipeline.frame import Frame
from pipeline.imu import calibration_yaml
from pipeline.tracks import Tracks

TRACKER = "csrt"
SETTINGS = [f"tracker.name={TRACKER}", "isp.black_level=[4]", "isp.white_balance=white_patch"]
"""The world's 8-bit sensor shows 4 counts in the dark; its road marks are white."""
PREDICTORS = ["two-rate", "kalman", "constant-velocity"]
SHOWN = "two-rate"
PREDICTOR_COST_NS = 200_000
RATE_HZ = 30.0


def run_demo(out: Path, seconds: float, latency_s: float, seed: int, console: Console) -> None:
    """Write ``run.mcap``, ``demo.mp4``, ``picture.jpg``, ``report.html`` and ``results.json``; and
    ``camchain-imucam.yaml``, how the bag's camera and IMU are calibrated."""
    world = AerialWorld(
        WorldConfig(
            seed=seed,
            width=800,
            height=448,
            altitude_m=32.0,
            encoding="bayer_rggb8",
            rate_hz=RATE_HZ,
        )
    )
    frames = _record(world, round(seconds * RATE_HZ), out / "run.mcap", console)
    calibration = calibration_yaml(*world.calibration)
    (out / "camchain-imucam.yaml").write_text(calibration, encoding="utf-8")
    sequence = open_bag_sequence(out / "run.mcap", target=world.target_id)
    latency = Latency.of_seconds(latency_s)
    evaluation = _evaluate(sequence, latency, seed, console)
    isp = ClassicalIsp(config.build(CONFIGS, assignments=SETTINGS)["isp"])
    write(evaluation, out, "leadsight demo", isp)
    _video(sequence, evaluation.results[0], latency, out / "demo.mp4", console)
    _live(frames, sequence, console)
    print_rows(evaluation.rows(), console)
    _summary(evaluation, latency, console)
    names = ", ".join(sorted(p.name for p in out.iterdir() if p.is_file()))
    console.print(f"wrote {names} to {out}/")


def _record(world: AerialWorld, count: int, path: Path, console: Console) -> list[Frame]:
    frames = []
    with BagWriter(path, overwrite=True) as bag:
        for k in track(range(count), "1/3 fly the embedded world", console=console):
            shot = world.render(k)
            bag.frame("image_raw", shot.frame)
            seen = np.isfinite(shot.boxes).all(axis=1)
            n = int(seen.sum())
            bag.tracks(
                TRUTH_TOPIC,
                Tracks(
                    shot.stamp_ns,
                    shot.stamp_ns,
                    k,
                    shot.frame.size,
                    shot.ids[seen],
                    shot.boxes[seen],
                    np.ones(n, np.float32),
                    np.zeros(n, np.uint8),
                    shot.labels[seen],
                ),
            )
            frames.append(shot.frame)
            bag.imu("imu", world.gyro(shot.stamp_ns, world.stamp_ns(k + 1)))
    return frames


def _evaluate(sequence: Sequence, latency: Latency, seed: int, console: Console) -> Evaluation:
    configs = config.build(CONFIGS, assignments=SETTINGS)
    source = TrackerSource(
        TRACKER, make_tracker(configs["tracker"]), ClassicalIsp(configs["isp"]), sequence
    )
    total = len(sequence) * 2
    with Progress(console=console) as bar:
        task = bar.add_task("2/3 evaluate", total=total)
        results = evaluate(
            [(sequence, source)],
            [latency],
            PREDICTORS,
            configs["predictor"],
            PREDICTOR_COST_NS,
            lambda n: bar.advance(task, n),
        )
        bar.update(task, completed=total)
    settings = {
        "latencies_s": [latency.median_ns * 1e-9],
        "seed": seed,
        "predictor_cost_ms": PREDICTOR_COST_NS * 1e-6,
        **environment(),
    }
    return Evaluation(results, settings)


def _video(
    sequence: Sequence, result: SequenceResult, latency: Latency, path: Path, console: Console
) -> None:
    assert sequence.frames is not None
    isp = ClassicalIsp(config.build(CONFIGS, assignments=SETTINGS)["isp"])
    stale, predicted = result.runs[latency.label, "none"], result.runs[latency.label, SHOWN]
    won = iou(predicted.boxes, sequence.truth) - iou(stale.boxes, sequence.truth)
    shown = int(np.argmax(np.nan_to_num(won)))
    with AnnotatedVideo(path, sequence.frames.read(0).size, RATE_HZ) as video:
        for k in track(range(len(sequence)), "    draw the video", console=console, transient=True):
            picture = video.write(
                isp.process(sequence.frames.read(k)).bgr(),
                truth=sequence.truth[k],
                stale=stale.boxes[k],
                predicted=predicted.boxes[k],
                age_ms=float(predicted.age_ns[k]) * 1e-6,
            )
            if k == shown:
                cv2.imwrite(str(path.with_name("picture.jpg")), picture)


def _live(frames: list[Frame], sequence: Sequence, console: Console) -> None:
    configs = config.build(CONFIGS, assignments=SETTINGS)
    with Progress(console=console) as bar:
        task = bar.add_task("3/3 live, in real time", total=len(frames))
        flight = fly(frames, sequence.truth[0], configs, lambda n: bar.advance(task, n))
    if flight.report is None:
        return
    table = Table(title="live on this machine: how old results are after each stage")
    for name in ("stage", "median", "p99", "rate", "frames dropped"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in flight.report.stages:
        table.add_row(
            stage.stage,
            f"{stage.median_ns * 1e-6:.1f} ms",
            f"{stage.p99_ns * 1e-6:.1f} ms",
            f"{stage.rate_hz:.1f} Hz",
            str(flight.counts[stage.stage].dropped),
        )
    console.print(table)
    for horizon in flight.report.horizons:
        stale, ahead = _live_score(flight, sequence, horizon.consumer)
        console.print(
            f"horizon measured for {horizon.consumer}: {horizon.ns * 1e-6:.1f} ms; "
            f"AUC when used: {stale:.3f} as tracked, {ahead:.3f} as forecast"
        )


def _live_score(flight: Flight, sequence: Sequence, consumer: str) -> tuple[float, float]:
    """AUC of the tracks and of the forecasts, each against the truth when it was used."""
    tracked = {t.stamp_ns: t.boxes[0] for t in flight.tracks}
    valid_at = np.array([f.valid_at_ns[f.of(consumer)] for f in flight.forecasts])
    moment = (valid_at - flight.start_ns + sequence.stamps_ns[0]).astype(np.float64)
    inside = moment <= sequence.stamps_ns[-1]
    truth = np.stack(
        [np.interp(moment, sequence.stamps_ns, column) for column in sequence.truth.T], axis=1
    )[inside]
    ahead = np.array([f.boxes[f.of(consumer), 0] for f in flight.forecasts])[inside]
    stale = np.array([tracked[f.stamp_ns] for f in flight.forecasts])[inside]
    return score(errors(stale, truth)).auc, score(errors(ahead, truth)).auc


def _summary(evaluation: Evaluation, latency: Latency, console: Console) -> None:
    rows = {row.predictor: row for row in evaluation.rows()}
    none, shown = rows["none"], rows[SHOWN]
    console.print(
        f"AUC offline {none.offline_auc:.3f}, none {none.auc:.3f} ({latency.label} late), "
        f"predicted {shown.auc:.3f}: gap recovered {shown.gap_auc:.0%}\n"
        "(a simulated scene: it shows that the software works, not how well)"
    )
