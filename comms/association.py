"""Which of two lists' objects are the same, under the error of both."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pipeline.box import FloatArray
from pipeline.objects import IS_VULNERABLE, ObjectClass, Objects

GATE = 16.0
"""Squared Mahalanobis distance over x, y and their velocities: 99.7 % of 4 degrees of freedom."""
FARTHEST_M = 8.0
HEIGHT_M = 4.0
SOLID = 0.5
"""Share of two bodies' sizes within which their middles cannot be."""
DOUBLE_M, DOUBLE_VULNERABLE_M = 2.5, 1.5
"""Two bodies that two stations tell of, each of one, are seldom nearer to each other."""
_FLOOR = 1e-4 * np.eye(4)
_BIG = 1e6

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """K pairs of two lists' objects that are alike and not far from each other: rows of both, the
    first list's rising, and (K, 2) m from theirs to ours."""

    ours: Rows
    theirs: Rows
    apart: FloatArray


def near(ours: Objects, theirs: Objects, reach_m: float) -> Near:
    """Those within ``reach_m`` along x and along y, at about the same height."""
    if len(ours) < len(theirs):
        i = np.arange(len(ours))
        j = _around(theirs.positions, ours.positions, reach_m)
    else:
        i = _around(ours.positions, theirs.positions, reach_m)
        j = np.arange(len(theirs))
    first, second = ours.positions.take(i, axis=0), theirs.positions.take(j, axis=0)
    close = np.abs(first[:, None, 0] - second[:, 0]) < reach_m
    close &= np.abs(first[:, None, 1] - second[:, 1]) < reach_m
    rows, columns = np.nonzero(close)
    i, j = i[rows], j[columns]
    apart = first.take(rows, axis=0) - second.take(columns, axis=0)
    same = (np.abs(apart[:, 2]) < HEIGHT_M) & alike(ours.classes[i], theirs.classes[j])
    return Near(i[same], j[same], apart[same, :2])


def _around(places: FloatArray, others: FloatArray, reach_m: float) -> Rows:
    """Rows of places in the box around others and ``reach_m`` about it."""
    if not len(others):
        return np.zeros(0, np.intp)
    reach_m += 1e-6  # rounding leaves nobody out
    inside = np.ones(len(places), np.bool_)
    for axis in (0, 1):
        at, to = places[:, axis], others[:, axis]
        inside &= (at > to.min() - reach_m) & (at < to.max() + reach_m)
    return np.flatnonzero(inside)


def pairs(
    ours: Objects, theirs: Objects, candidates: Near | None = None
) -> tuple[Rows, Rows, FloatArray]:
    """All pairs that may be the same object: rows of both, and squared Mahalanobis distances
    below ``GATE``. Both lists speak for one moment. candidates: those within ``FARTHEST_M`` or
    more, if they are known."""
    found = near(ours, theirs, FARTHEST_M) if candidates is None else candidates
    i, j, apart = found.ours, found.theirs, found.apart
    # The distance over x and y alone, and with the larger of their variances, is no larger.
    variance = _ground_variance(ours, i) + _ground_variance(theirs, j) + 1e-3
    close = (apart**2).sum(axis=1) < GATE * variance
    close &= (np.abs(apart) < FARTHEST_M).all(axis=1)
    i, j, apart = i[close], j[close], apart[close]
    rest = np.concatenate([apart, ours.velocities[i, :2] - theirs.velocities[j, :2]], axis=1)
    S = ours.covariances.take(i, axis=0) + theirs.covariances.take(j, axis=0)
    S = S.reshape(-1, 2, 3, 2, 3)[:, :, :2, :, :2].reshape(-1, 4, 4) + _FLOOR
    squared = (rest * np.linalg.solve(S, rest[..., None])[..., 0]).sum(axis=1)
    inside = squared < GATE
    return i[inside], j[inside], squared[inside]


def _ground_variance(objects: Objects, rows: Rows) -> FloatArray:
    """(K,) m², along x and y together."""
    return np.asarray(objects.covariances[rows, 0, 0] + objects.covariances[rows, 1, 1])


def match(ours: Objects, theirs: Objects, candidates: Near) -> tuple[Rows, Rows]:
    """Rows of both that are the same object: the assignment of most pairs, and of them the one of
    least total distance. candidates: those within ``FARTHEST_M`` or more."""
    i, j, squared = pairs(ours, theirs, candidates)
    if len(set(i.tolist())) == len(set(j.tolist())) == len(i):
        return i, j
    rows, r = np.unique(i, return_inverse=True)
    columns, c = np.unique(j, return_inverse=True)
    cost = np.full((len(rows), len(columns)), _BIG)
    cost[r, c] = squared
    r, c = linear_sum_assignment(cost)
    found = cost[r, c] < _BIG
    return rows[r[found]], columns[c[found]]


def mutual(ours: Objects, theirs: Objects, groups: Rows) -> tuple[Rows, Rows]:
    """Rows of both that are each other's nearest, within each of their groups, (M,), alone: surer
    than ``match``, and all groups at once."""
    i, j, squared = pairs(ours, theirs)
    order = np.argsort(squared, kind="stable")
    i, j = i[order], j[order]
    _, first = np.unique(j, return_index=True)
    mine = np.zeros(len(i), np.bool_)
    mine[first] = True
    _, first = np.unique(groups[j] * max(len(ours), 1) + i, return_index=True)
    both = np.zeros(len(i), np.bool_)
    both[first] = True
    both &= mine
    return i[both], j[both]


def reach(ours: Objects, theirs: Objects) -> float:
    """m, within which candidates tell all of ``match``, ``overlapping`` and ``ambiguous``."""
    spread = _spread(theirs, np.arange(len(theirs))).max(initial=0)
    # Theirs may come to stand among ours, or give ours their sizes: both bodies may be the largest.
    most = [each.sizes[:, :2].max(axis=0, initial=0) for each in (ours, theirs)]
    return max(FARTHEST_M, DOUBLE_M + float(spread), SOLID * float(np.hypot(*np.maximum(*most))))


def overlapping(ours: Objects, theirs: Objects, candidates: Near) -> npt.NDArray[np.bool_]:
    """(M,) of theirs, those that stand inside one of ours that is alike, where no other can be.

    candidates: those within ``reach`` or more.
    """
    i, j, apart = candidates.ours, candidates.theirs, candidates.apart
    room = SOLID * (ours.sizes[i, :2] + theirs.sizes[j, :2]) / 2
    yaw = ours.yaws[i]
    known = np.isfinite(yaw)
    if not known.all():
        room[~known] = room[~known].min(axis=1, keepdims=True)
        yaw = np.where(known, yaw, 0.0)
    cos, sin = np.cos(yaw), np.sin(yaw)
    along = np.abs(cos * apart[:, 0] + sin * apart[:, 1])
    across = np.abs(cos * apart[:, 1] - sin * apart[:, 0])
    out = np.zeros(len(theirs), np.bool_)
    out[j[(along < room[:, 0]) & (across < room[:, 1])]] = True
    return out


def ambiguous(
    theirs: Objects, free: npt.NDArray[np.bool_], candidates: Near
) -> npt.NDArray[np.bool_]:
    """(M,) of theirs, those so near to one of ours that both are rather one, placed badly.

    free: (N,) of ours, what none of theirs was matched to. candidates: those within ``reach`` or
    more.
    """
    use = free[candidates.ours]
    j, apart = candidates.theirs[use], candidates.apart[use]
    vulnerable = IS_VULNERABLE[theirs.classes[j]]
    most = np.where(vulnerable, DOUBLE_VULNERABLE_M, DOUBLE_M) + _spread(theirs, j)
    out = np.zeros(len(theirs), np.bool_)
    out[j[np.linalg.norm(apart, axis=1) < most]] = True
    return out


def _spread(objects: Objects, rows: Rows) -> FloatArray:
    """(K,) m, of the place on the ground."""
    return np.sqrt(_ground_variance(objects, rows))


def alike(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """A person is no truck; whoever does not know the class may mean anything."""
    return np.asarray(_ALIKE[first, second])


def _alike_table() -> npt.NDArray[np.bool_]:
    same: npt.NDArray[np.bool_] = IS_VULNERABLE[:, None] == IS_VULNERABLE
    same[ObjectClass.UNKNOWN] = same[:, ObjectClass.UNKNOWN] = True
    return same


_ALIKE = _alike_table()
