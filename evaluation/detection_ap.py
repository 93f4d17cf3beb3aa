"""COCO's average precision with any weight on each picture, for the bootstrap over pictures.

COCO's own code matches detections with truth; the averages are formed here, for many weightings of
the pictures at once. With weights of 1 they are COCO's (a test holds that).
"""

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from evaluation.streaming_ap import Picture, require_coco
from pipeline.box import FloatArray

IOUS = 10
_MAX_DETECTIONS = 100
_RECALLS = 101
_CHUNK = 1 << 22  # elements at once


class _Class(NamedTuple):
    """Detections of one class, best first. picture: (d,) which one. right: (IOUS, d). truth: (n,)
    true boxes in each picture."""

    picture: npt.NDArray[np.intp]
    right: npt.NDArray[np.bool_]
    truth: FloatArray


class Matches:
    """Detections in some pictures, matched with the truth."""

    def __init__(self, pictures: list[Picture]) -> None:
        """Raises:
        InputError: COCO's code is not installed."""
        self.count = len(pictures)
        self._classes = _matched(pictures)

    def precision(self, weights: FloatArray | None = None) -> FloatArray:
        """AP over IoU 0.5 to 0.95 and all classes with truth, (b,).

        weights: (b, n) times that each picture counts; all once without.
        """
        weights = np.ones((1, self.count)) if weights is None else np.asarray(weights, np.float64)
        total = np.zeros(len(weights))
        classes = np.zeros(len(weights))
        for one in self._classes:
            size = max(1, IOUS * len(one.picture))
            step = max(1, _CHUNK // size)
            for start in range(0, len(weights), step):
                rows = slice(start, start + step)
                part, truth = weights[rows], weights[rows] @ one.truth
                known = truth > 0
                classes[rows] += known
                if len(one.picture):
                    total[rows] += np.where(known, _average(one, part, np.maximum(truth, 1)), 0)
        return np.asarray(total / np.maximum(classes, 1))


def _average(one: _Class, weights: FloatArray, truth: FloatArray) -> FloatArray:
    """(b,) of weights (b, n): the mean precision at COCO's 101 recalls, over the IoUs."""
    w = weights[:, None, one.picture].astype(np.float32)
    right = np.cumsum(w * one.right, axis=2)
    all_ = np.cumsum(w, axis=2)
    precision = right / np.maximum(all_, np.float32(1e-9))
    best = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    reached = np.floor(right / truth[:, None, None] * (_RECALLS - 1) + 1e-6) + 1
    steps = np.diff(reached, axis=2, prepend=0)
    return np.asarray((steps * best).sum(axis=2).mean(axis=1) / _RECALLS, np.float64)


def _matched(pictures: list[Picture]) -> list[_Class]:
    require_coco()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for k, p in enumerate(pictures):
        for box, label in zip(p.truth.tolist(), p.truth_labels.tolist(), strict=True):
            truth.append(
                {"id": len(truth) + 1, "image_id": k, "category_id": label, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
        for box, label, score in zip(
            p.boxes.tolist(), p.labels.tolist(), p.scores.tolist(), strict=True
        ):
            found.append({"image_id": k, "category_id": label, "bbox": box, "score": score})
    counts = {c: np.zeros(len(pictures)) for c in sorted({t["category_id"] for t in truth})}
    for t in truth:
        counts[t["category_id"]][t["image_id"]] += 1
    none = _Class(np.empty(0, np.intp), np.empty((IOUS, 0), bool), np.empty(0))
    if not found:
        return [none._replace(truth=n) for n in counts.values()]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": k} for k in range(len(pictures))],
            "annotations": truth,
            "categories": [{"id": c} for c in counts],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.params.maxDets = [_MAX_DETECTIONS]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
    parts: dict[int, list[tuple[int, FloatArray, npt.NDArray[np.bool_]]]] = {c: [] for c in counts}
    for entry in judge.evalImgs:
        if entry is not None and len(entry["dtScores"]):
            parts[entry["category_id"]].append(
                (entry["image_id"], np.array(entry["dtScores"]), entry["dtMatches"] > 0)
            )
    classes = []
    for c, count in counts.items():
        if not parts[c]:
            classes.append(none._replace(truth=count))
            continue
        scores = np.concatenate([s for _, s, _ in parts[c]])
        order = np.argsort(-scores, kind="mergesort")
        where = np.concatenate([np.full(len(s), k) for k, s, _ in parts[c]])
        right = np.concatenate([m for *_, m in parts[c]], axis=1)
        classes.append(_Class(where[order], right[:, order], count))
    return classes


class Interval(NamedTuple):
    """A difference of AP and its 95 % interval over pictures."""

    mean: float
    low: float
    high: float


def paired_difference(
    ours: list[Matches], theirs: list[Matches], resamples: int = 500, seed: int = 0
) -> Interval:
    """AP of ours less theirs, over the same pictures; lists hold the same runs with other seeds.

    Percentiles of the bootstrap over pictures (Efron 1979): each resample weighs both alike, so
    what pictures have in common falls out.
    """
    n = ours[0].count
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    weights = np.concatenate([np.ones((1, n)), draws])
    ap = [np.mean([m.precision(weights) for m in side], axis=0) for side in (ours, theirs)]
    difference = ap[0] - ap[1]
    low, high = np.percentile(difference[1:], [2.5, 97.5])
    return Interval(float(difference[0]), float(low), float(high))
