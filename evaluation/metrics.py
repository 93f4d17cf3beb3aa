"""Success, precision and what latency costs of them: the e-LAE measures, in arrays.

AUC: mean over 21 IoU thresholds 0, 0.05 … 1 of the share of frames with IoU above the threshold.
DP: share of frames whose center lies at most 20 px off (centers as x + (w − 1)/2).
A frame whose truth is NaN or has a coordinate ≤ 0 counts as a failure and stays in the denominator.
Source: Li et al., "PVT++", ICCV 2023, and the e-LAE benchmark that it uses.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray, iou

IOU_THRESHOLDS = np.linspace(0, 1, 21)
CENTER_THRESHOLDS_PX = np.arange(51)
DP_PX = 20
MIN_GAP = 0.002
"""Below this a share of the gap would be a share of noise."""


@dataclass(frozen=True)
class Errors:
    """Per frame, (…,) float64: overlap, −1 where it failed; distance in px, inf where it failed."""

    overlap: FloatArray
    distance: FloatArray


@dataclass(frozen=True)
class Score:
    """auc, dp as above; success: (21,) over IoU_THRESHOLDS; precision: (51,) over px."""

    auc: float
    dp: float
    success: FloatArray
    precision: FloatArray


def errors(boxes: FloatArray, truth: FloatArray) -> Errors:
    """Overlap and center distance of boxes against truth, both (…, 4), broadcast."""
    boxes, truth = np.broadcast_arrays(boxes, truth)
    with np.errstate(invalid="ignore", over="ignore"):
        usable = (truth > 0).all(axis=-1) & np.isfinite(boxes).all(axis=-1)
        offset = (
            boxes[..., :2] + (boxes[..., 2:] - 1) / 2 - truth[..., :2] - (truth[..., 2:] - 1) / 2
        )
        distance = np.where(usable, np.hypot(offset[..., 0], offset[..., 1]), np.inf)
        overlap = iou(boxes, truth)
    usable &= np.isfinite(overlap)  # areas of hostile sizes overflow
    return Errors(np.where(usable, overlap, -1.0), distance)


def success_value(overlap: FloatArray) -> FloatArray:
    """Share of the IoU thresholds that each overlap is above; its mean over frames is the AUC."""
    return np.searchsorted(IOU_THRESHOLDS, overlap, side="left") / len(IOU_THRESHOLDS)


def score(found: Errors) -> Score:
    """AUC, DP and their curves over the frames of one run, (n,)."""
    return Score(
        float(success_value(found.overlap).mean()),
        float((found.distance <= DP_PX).mean()),
        (found.overlap[:, None] > IOU_THRESHOLDS).mean(axis=0),
        (found.distance[:, None] <= CENTER_THRESHOLDS_PX).mean(axis=0),
    )


def gap_recovered(predicted: float, none: float, offline: float) -> float:
    """(predicted − none) / (offline − none); NaN where latency costs less than ``MIN_GAP``."""
    gap = offline - none
    return (predicted - none) / gap if gap >= MIN_GAP else float("nan")


def mean_curve(curves: list[FloatArray]) -> npt.NDArray[np.float64]:
    """Mean over sequences: each counts alike, however long it is."""
    return np.asarray(np.mean(curves, axis=0), np.float64)
