"""Recordings without truth: what the same detector says offline stands in for it.

Every frame is detected, without latency, and the detections become targets. So one's own footage
and detector tell what latency costs and what is won back. They do not tell how good the detector
is: what it never finds, nobody misses.
"""

from pathlib import Path

import numpy as np

from evaluation.bags import open_bag_frames
from evaluation.mot import Detect, MotConfigs
from evaluation.mot_sequences import MotSequence
from evaluation.online import Progress
from evaluation.sequences import open_frames
from evaluation.sources import is_bag
from isp.make import make_isp
from pipeline.errors import InputError
from pipeline.tracks import TrackStatus
from prediction.association import Association
from prediction.forecaster import Forecaster


def with_own_truth(
    path: Path,
    detect: Detect,
    configs: MotConfigs,
    fps: float | None = None,
    topic: str | None = None,
    progress: Progress = lambda n: None,
) -> MotSequence:
    """A folder of pictures, a video or a bag, with the detector's own targets as its truth.

    A target is true in each frame in which it is detected, as the box of that detection. Where it
    is expected and not detected, and what is detected and no target, is ignored.

    Raises:
        InputError: pictures that cannot be read, or the detector finds nothing twice.
    """
    if is_bag(path):
        _, frames, stamps = open_bag_frames(path, topic)
    else:
        frames, stamps = open_frames(path, fps)
    forecaster = Forecaster(configs.predictor, Association(configs.association))
    isp = make_isp(configs.isp, configs.detector_grid)
    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    for k in range(len(stamps)):
        found = detect(k, isp.process(frames.read(k)))
        tracks = forecaster.observe(found)
        assert tracks is not None, "stamps rise"
        own = (found.boxes[:, None] == tracks.boxes).all(axis=-1).any(axis=1)
        n = len(tracks) + int((~own).sum())
        lost = tracks.status == TrackStatus.LOST
        columns[0].append(np.full(n, k))
        columns[1].append(np.concatenate([tracks.ids, np.full((~own).sum(), -1)]))
        columns[2].append(np.concatenate([tracks.boxes, found.boxes[~own]]))
        columns[3].append(np.concatenate([tracks.labels, found.labels[~own]]))
        columns[4].append(np.concatenate([lost, np.ones((~own).sum(), bool)]))
        progress(1)
    frame, ids, boxes, labels, ignored = (np.concatenate(c) for c in columns)
    if ignored.all():
        raise InputError(
            f"{path}: the detector finds no target twice, so there is no truth to hold anything "
            "to; lower association.sure_score, or give another detector"
        )
    return MotSequence(path.stem, stamps, frame, ids, boxes, labels, ignored, frames)
