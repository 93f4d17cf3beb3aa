"""Streaming average precision: what was there in time, as detections (Li et al., ECCV 2020).

At each frame the boxes that a user had by its stamp are matched with that frame's truth; the rest
is COCO's AP, by COCO's own code (the ``mot`` extra).
"""

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.tracks import MAX_TARGETS


class Picture(NamedTuple):
    """One frame's true boxes (T, 4) and what a user had, (N, 4). labels: (T,) and (N,), the same
    numbers for both. scores: (N,)."""

    truth: FloatArray
    truth_labels: npt.NDArray[np.int16]
    boxes: FloatArray
    labels: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]


class Precision(NamedTuple):
    """COCO's averages over the truth's classes: AP over IoU 0.5 to 0.95, and at 0.5; NaN where
    there is no truth."""

    ap: float
    ap50: float


def require_coco() -> None:
    """Raises:
    InputError: COCO's code is not installed."""
    try:
        import pycocotools.cocoeval  # noqa: F401
    except ImportError:
        raise InputError("streaming AP needs pycocotools; pip install '.[mot]'") from None


def average_precision(pictures: list[Picture], agnostic: bool = False) -> Precision:
    """AP over all pictures; agnostic: a box is right whatever its class.

    Raises:
        InputError: COCO's code is not installed.
    """
    require_coco()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entries(k: int, boxes: FloatArray, labels: npt.NDArray[np.int16]) -> list[dict[str, Any]]:
        return [
            {"image_id": k, "category_id": 0 if agnostic else label, "bbox": box}
            for box, label in zip(boxes.tolist(), labels.tolist(), strict=True)
        ]

    truth = [e for k, p in enumerate(pictures) for e in entries(k, p.truth, p.truth_labels)]
    for number, entry in enumerate(truth, 1):
        entry.update(id=number, iscrowd=0, area=entry["bbox"][2] * entry["bbox"][3])
    found = [e for k, p in enumerate(pictures) for e in entries(k, p.boxes, p.labels)]
    scores = [score for p in pictures for score in p.scores.tolist()]
    for entry, score in zip(found, scores, strict=True):
        entry["score"] = score
    if not truth or not found:
        return Precision(*(2 * [0.0 if truth else np.nan]))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": k} for k in range(len(pictures))],
            "annotations": truth,
            "categories": [{"id": c} for c in sorted({t["category_id"] for t in truth})],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.params.maxDets = [MAX_TARGETS]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]  # IoU, recall, class; −1 where a class has no truth
    return Precision(*(float(p[p > -1].mean()) for p in (precision, precision[0])))
