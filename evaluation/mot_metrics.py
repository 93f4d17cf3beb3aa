"""Measures of many targets with identities: CLEAR MOT, IDF1 and HOTA.

Written from their papers (Bernardin & Stiefelhagen 2008; Ristani et al. 2016; Luiten et al., IJCV
2020) and held to TrackEval, the benchmarks' own code, in tests/evaluation/test_mot_metrics.py.
TrackEval itself is no dependency: it would install a second OpenCV over the first.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pipeline.box import FloatArray, iou

ALPHAS = np.arange(1, 20) * 0.05
"""Overlaps at which HOTA is taken."""
MATCH_IOU = 0.5
"""Overlap from which a box is a target's, for CLEAR MOT and IDF1."""
EPS = np.finfo(float).eps
IdArray = npt.NDArray[np.int64]


class Scene(NamedTuple):
    """One frame. truth: (T,) identities; found: (N,) identities; overlap: (T, N)."""

    truth: IdArray
    found: IdArray
    overlap: FloatArray


def scene(
    truth: IdArray,
    truth_boxes: FloatArray,
    ignored: npt.NDArray[np.bool_],
    found: IdArray,
    boxes: FloatArray,
) -> tuple[Scene, npt.NDArray[np.bool_]]:
    """A frame without what does not count, and which of the found boxes do.

    A found box that is no target's, and of which half lies in an ignored region, does not.
    """
    overlap = iou(truth_boxes[~ignored][:, None], boxes[None])
    match = linear_sum_assignment(-np.where(overlap >= MATCH_IOU, overlap, 0))
    own = np.zeros(len(found), bool)
    own[match[1]] = overlap[match] >= MATCH_IOU
    counts = own | ~(covered(boxes, truth_boxes[ignored]) >= 0.5)
    return Scene(truth[~ignored], found[counts], overlap[:, counts]), counts


def covered(boxes: FloatArray, regions: FloatArray) -> FloatArray:
    """(N,) the largest share of each box, (N, 4), that one of the regions covers."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(
        boxes[:, None, :2] + boxes[:, None, 2:], regions[None, :, :2] + regions[None, :, 2:]
    )
    inside = np.prod(np.maximum(high - low, 0), axis=-1)
    return np.asarray((inside / np.prod(boxes[:, None, 2:], axis=-1)).max(axis=1, initial=0.0))


@dataclass(frozen=True, eq=False)
class Counts:
    """What happened; sequences add up.

    truth, found: boxes. hits: matched ones, of CLEAR MOT. switches: a target's identity is another
    one than when it was matched last. id_hits: boxes under the one identity that suits each target
    best. matched: (19,), boxes at each of ALPHAS; alike: (19,), their sum of |A ∩ B| / |A ∪ B|, of
    the boxes A of the true identity and B of the found one.
    """

    truth: int
    found: int
    hits: int
    switches: int
    id_hits: int
    matched: FloatArray
    alike: FloatArray

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def mota(self) -> float:
        """1 − (misses + false alarms + switches) / true boxes."""
        wrong = self.truth + self.found - 2 * self.hits + self.switches
        return 1 - wrong / max(self.truth, 1)

    @property
    def idf1(self) -> float:
        """Share of boxes, true and found, under the right identity."""
        return 2 * self.id_hits / max(self.truth + self.found, 1)

    @property
    def detection(self) -> FloatArray:
        """DetA at each of ALPHAS."""
        return np.asarray(self.matched / np.maximum(self.truth + self.found - self.matched, 1))

    @property
    def association(self) -> FloatArray:
        """AssA at each of ALPHAS."""
        return np.asarray(self.alike / np.maximum(self.matched, 1))

    @property
    def hota(self) -> float:
        """Mean over ALPHAS of √(DetA · AssA)."""
        return float(np.sqrt(self.detection * self.association).mean())


def count(scenes: list[Scene]) -> Counts:
    """What happened in one sequence."""
    truth_ids = np.unique(np.concatenate([s.truth for s in scenes]))
    found_ids = np.unique(np.concatenate([s.found for s in scenes]))
    rows = [
        (np.searchsorted(truth_ids, s.truth), np.searchsorted(found_ids, s.found)) for s in scenes
    ]
    shape = (len(truth_ids), len(found_ids))
    truth, found = np.zeros((shape[0], 1)), np.zeros((1, shape[1]))
    near, likely = np.zeros(shape), np.zeros(shape)
    for (i, j), s in zip(rows, scenes, strict=True):
        truth[i] += 1
        found[:, j] += 1
        block = np.ix_(i, j)
        near[block] += s.overlap >= MATCH_IOU - EPS
        total = s.overlap.sum(axis=0) + s.overlap.sum(axis=1, keepdims=True) - s.overlap
        likely[block] += np.divide(s.overlap, total, out=np.zeros_like(total), where=total > EPS)
    id_hits = int(near[linear_sum_assignment(-near)].sum())
    hits, switches = _clear(scenes, rows, shape[0])
    aligned = likely / np.maximum(truth + found - likely, EPS)
    together = np.zeros((len(ALPHAS), *shape))
    for (i, j), s in zip(rows, scenes, strict=True):
        a, b = linear_sum_assignment(-aligned[np.ix_(i, j)] * s.overlap)
        overlap = s.overlap[a, b]
        for k, alpha in enumerate(ALPHAS):
            good = overlap >= alpha - EPS
            together[k, i[a[good]], j[b[good]]] += 1
    share = together / np.maximum(truth + found - together, 1)
    return Counts(
        int(truth.sum()),
        int(found.sum()),
        hits,
        switches,
        id_hits,
        together.sum(axis=(1, 2)),
        (together * share).sum(axis=(1, 2)),
    )


def _clear(scenes: list[Scene], rows: list[tuple[IdArray, IdArray]], n: int) -> tuple[int, int]:
    """Matched boxes and switches; a match of the frame before is kept where it may be."""
    ever = np.full(n, -1)
    last = np.full(n, -1)
    hits = switches = 0
    for (i, j), s in zip(rows, scenes, strict=True):
        near = s.overlap >= MATCH_IOU - EPS
        kept = (last[i][:, None] == j) & near
        a, b = linear_sum_assignment(-np.where(near, s.overlap + 1000.0 * kept, 0.0))
        good = near[a, b]
        i, j = i[a[good]], j[b[good]]
        hits += len(i)
        switches += int(((ever[i] >= 0) & (ever[i] != j)).sum())
        ever[i] = j
        last = np.full(n, -1)
        last[i] = j
    return hits, switches
