"""``leadsight convert``: a sequence as a rosbag2 MCAP."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from evaluation.bags import TRUTH_TOPIC, BagWriter
from evaluation.sources import open_any
from pipeline.errors import InputError
from pipeline.tracks import Tracks, TrackStatus

IMAGE_TOPIC = "image"


def run_convert(
    source: Path,
    target: Path,
    truth: Path | None,
    fps: float | None,
    topic: str | None,
    overwrite: bool,
    compress: bool,
    console: Console,
) -> None:
    """Write pictures and truth with their stamps; absent truth is left out, not written as NaN.

    Raises:
        InputError: what ``open_any`` and ``BagWriter`` raise.
    """
    sequence = open_any(source, truth, fps, topic)
    if sequence.frames is None:
        raise InputError(f"{source}: has no pictures to write")
    with BagWriter(target, overwrite, compress) as bag:
        for k in track(range(len(sequence)), "convert", console=console, transient=True):
            frame = sequence.frames.read(k)
            bag.frame(IMAGE_TOPIC, frame)
            box = sequence.truth[k]
            if np.isfinite(box).all():
                bag.tracks(
                    TRUTH_TOPIC,
                    Tracks.single(
                        frame.stamp_ns, frame.stamp_ns, k, frame.size, box, 1, TrackStatus.TRACKED
                    ),
                )
    console.print(f"wrote {len(sequence)} frames to {target}")
