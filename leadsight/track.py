"""``leadsight track``: follow one target through a recording."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from evaluation.bags import open_bag_frames
from evaluation.clock import Latency, Schedule, simulate
from evaluation.sequences import Frames, check_rising, open_frames
from evaluation.sources import is_bag
from evaluation.video import AnnotatedVideo
from isp.make import make_isp
from perception.tracker import make_tracker
from pipeline.box import as_box
from pipeline.errors import InputError
from pipeline.tracks import ForecastStatus, TrackStatus
from prediction.make import make_predictor


def parse_box(text: str) -> np.ndarray:
    """``x,y,w,h`` of the command line.

    Raises:
        InputError: another shape, or no proper box.
    """
    try:
        return as_box([float(part) for part in text.split(",")])
    except ValueError as error:
        detail = f" ({error})" if isinstance(error, InputError) else ""
        raise InputError(
            f"--box {text}: write x,y,w,h in pixels, for example 10,20,64,48{detail}"
        ) from None


def open_source(source: Path, fps: float | None, topic: str | None) -> tuple[Frames, np.ndarray]:
    """Frames and their stamps, (n,) ns, rising, of any recording.

    Raises:
        InputError: nothing that can be read, or time that jumps back.
    """
    if not is_bag(source):
        return open_frames(source, fps)
    _, frames, stamps = open_bag_frames(source, topic)
    check_rising(str(source), stamps)
    return frames, stamps


def run_track(
    source: Path,
    box: str,
    out: Path,
    configs: dict[str, Any],
    latency_s: float,
    fps: float | None,
    topic: str | None,
    console: Console,
) -> None:
    """Write ``track.mp4`` and ``tracks.jsonl``.

    With a latency the tracker sees only the frames that the online clock lets it, and each line
    holds both the newest answer that a user would have and its forecast for that frame's moment.

    Raises:
        InputError: a box, recording or model that cannot be used.
    """
    frames, stamps = open_source(source, fps, topic)
    first = frames.read(0)
    target = as_box(parse_box(box), first.size)
    schedule = _schedule(stamps, latency_s)
    tracker, isp = make_tracker(configs["tracker"]), make_isp(configs["isp"])
    predictor = make_predictor(configs["predictor"])
    state = predictor.blank(1)
    out.mkdir(parents=True, exist_ok=True)
    seen = dict(zip(schedule.frames.tolist(), schedule.ready_ns.tolist(), strict=True))
    pending: list[tuple[int, int, Any]] = []
    answer, answered_ns = None, int(stamps[0])
    with (
        AnnotatedVideo(out / "track.mp4", first.size, _rate(stamps)) as video,
        (out / "tracks.jsonl").open("w", encoding="utf-8") as lines,
    ):
        for k in track(range(len(stamps)), "track", console=console, transient=True):
            now_ns = int(stamps[k])
            picture = isp.process(frames.read(k))
            if k in seen:
                found = tracker.start(picture, target) if k == 0 else tracker.update(picture)
                pending.append((seen[k], now_ns, found))
            while pending and pending[0][0] <= now_ns:
                _, answered_ns, answer = pending.pop(0)
                state = predictor.observe(
                    state,
                    np.array([answered_ns]),
                    answer.box[None],
                    np.array([answer.status], np.uint8),
                )
            assert answer is not None  # the first frame's answer is there at once
            boxes, variances, status = predictor.predict(state, np.array([now_ns]))
            age_ms = (now_ns - answered_ns) * 1e-6
            line = {
                "frame": k,
                "stamp_ns": now_ns,
                "age_ms": round(age_ms, 3),
                "answer": _rounded(answer.box),
                "score": round(float(answer.score), 4),
                "status": TrackStatus(answer.status).name.lower(),
                "forecast": _rounded(boxes[0, 0]),
                "sigma_px": _rounded(np.sqrt(variances[0, 0])),
                "forecast_status": ForecastStatus(int(status[0, 0])).name.lower(),
            }
            lines.write(json.dumps(line) + "\n")
            video.write(picture.bgr(), stale=answer.box, predicted=boxes[0, 0], age_ms=age_ms)
    console.print(f"wrote {out / 'track.mp4'} and {out / 'tracks.jsonl'} ({len(stamps)} frames)")


def _schedule(stamps: np.ndarray, latency_s: float) -> Schedule:
    if latency_s == 0:
        return Schedule(np.arange(len(stamps)), stamps)
    return simulate(stamps, Latency.of_seconds(latency_s))


def _rate(stamps: np.ndarray) -> float:
    return 1e9 / float(np.median(np.diff(stamps))) if len(stamps) > 1 else 30.0


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 2) for v in values]
