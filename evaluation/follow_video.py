"""Two flights after the same target side by side, each with what stale and forecasts say of it."""

from collections.abc import Generator
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bridges.simulator import Sensor
from bridges.view import project
from evaluation.follow_study import Case, Study, flight_of
from evaluation.follow_target import Flight, Tick
from evaluation.pursuit_eyes import CAMERA, true_box
from evaluation.video import PREDICTED, STALE, TRUTH, AnnotatedVideo, draw_box, draw_legend
from isp.make import make_isp
from pipeline.box import FloatArray
from pipeline.frame import Frame

Picture = npt.NDArray[np.uint8]


def write_comparison(
    path: Path, study: Study, added_ms: float, seed: int, arms: tuple[str, str]
) -> int:
    """A video of two flights of one seed, from shortly before the hand-over; pictures written.

    Raises:
        InputError: a world without pictures, or a file that cannot be written.
    """
    flights = [flight_of(study, Case(arm, added_ms, seed), pictures=True) for arm in arms]
    pairs = [_pictures(f, study, arm, added_ms) for f, arm in zip(flights, arms, strict=True)]
    size = (2 * study.pursuit.width, study.pursuit.height)
    written = 0
    try:
        with AnnotatedVideo(path, size, 1e9 / flights[0].step_ns) as video:
            last: list[Picture | None] = [None, None]
            for _ in count():
                news = [next(p, None) for p in pairs]
                if all(n is None for n in news):
                    break
                last = [n if n is not None else old for n, old in zip(news, last, strict=True)]
                if all(p is not None for p in last):
                    video.write(np.hstack([p for p in last if p is not None]))
                    written += 1
    finally:
        for pair in pairs:
            pair.close()
        for flight in flights:
            flight.close()
    return written


def _pictures(
    flight: Flight, study: Study, arm: str, added_ms: float
) -> Generator[Picture, None, None]:
    isp, gone_s = make_isp(study.isp), float("nan")
    for tick in flight.ticks():
        frame = tick.step.readings[CAMERA].value if CAMERA in tick.step.readings else None
        if np.isnan(tick.at_s) or not isinstance(frame, Frame):
            continue
        gone_s = float("nan") if tick.visible else float(np.fmin(gone_s, tick.at_s))
        picture = isp.process(frame).bgr().copy()
        draw_tick(picture, flight, tick)
        lost = tick.at_s - gone_s >= study.pursuit.lost_s
        note = f"{arm} flies, +{added_ms:.0f} ms, {tick.error_deg:.1f} deg off"
        draw_legend(
            picture,
            [("truth", TRUTH), ("stale", STALE), ("forecast", PREDICTED)],
            note + (": LOST" if lost else ""),
        )
        yield picture
        if lost:
            return


def draw_tick(picture: Picture, flight: Flight, tick: Tick) -> None:
    """The true box, where stale and forecast take it to be, and the camera's axis, onto a BGR
    picture."""
    camera = flight.camera
    found = true_box(tick.step, flight.target_id)
    size = found[0][2:] if found is not None else np.full(2, camera.width / 8)
    if found is not None:
        draw_box(picture, found[0], TRUTH)
    marks = flight.marks(tick)
    if marks is not None:
        for point, color in zip(marks[:2], (STALE, PREDICTED), strict=True):
            box = _box_at(point, tick.pose, camera, size)
            if box is not None:
                draw_box(picture, box, color)
    middle = (camera.width // 2, camera.height // 2)
    cv2.drawMarker(picture, middle, (240, 240, 240), cv2.MARKER_CROSS, 14, 1, cv2.LINE_AA)


def _box_at(
    point: FloatArray, pose: FloatArray, camera: Sensor, size: FloatArray
) -> FloatArray | None:
    pixel, depth = project(point, pose, camera)
    return np.array([*(pixel + 0.5 - size / 2), *size]) if depth > 1 else None
