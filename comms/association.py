"""Which of two lists' objects are the same, under the error of both."""

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
_PLANE = np.array([0, 1, 3, 4])
_FLOOR = 1e-4 * np.eye(4)
_BIG = 1e6
_UNKNOWN = np.uint8(ObjectClass.UNKNOWN)

Rows = npt.NDArray[np.intp]


def pairs(ours: Objects, theirs: Objects) -> tuple[Rows, Rows, FloatArray]:
    """All pairs that may be the same object: rows of both, and squared Mahalanobis distances
    below ``GATE``. Both lists speak for one moment."""
    i, j = _within(ours, theirs, FARTHEST_M)
    near = alike(ours.classes[i], theirs.classes[j])
    i, j = i[near], j[near]
    apart = ours.positions[i, :2] - theirs.positions[j, :2]
    rest = np.concatenate([apart, ours.velocities[i, :2] - theirs.velocities[j, :2]], axis=1)
    S = (ours.covariances[i] + theirs.covariances[j])[:, _PLANE[:, None], _PLANE] + _FLOOR
    squared = (rest * np.linalg.solve(S, rest[..., None])[..., 0]).sum(axis=1)
    inside = squared < GATE
    return i[inside], j[inside], squared[inside]


def match(ours: Objects, theirs: Objects) -> tuple[Rows, Rows]:
    """Rows of both that are the same object: the assignment of most pairs, and of them the one of
    least total distance."""
    i, j, squared = pairs(ours, theirs)
    if (np.diff(i) > 0).all() and len(set(j.tolist())) == len(j):
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


def overlapping(ours: Objects, theirs: Objects) -> npt.NDArray[np.bool_]:
    """(M,) of theirs, those that stand inside one of ours that is alike, where no other can be."""
    out = np.zeros(len(theirs), np.bool_)
    if not len(ours) or not len(theirs):
        return out
    reach = SOLID * (ours.sizes[:, :2].max() + theirs.sizes[:, :2].max())
    i, j = _within(ours, theirs, float(reach))
    apart = theirs.positions[j, :2] - ours.positions[i, :2]
    same = alike(ours.classes[i], theirs.classes[j])
    i, j, apart = i[same], j[same], apart[same]
    room = SOLID * (ours.sizes[i, :2] + theirs.sizes[j, :2]) / 2
    known = np.isfinite(ours.yaws[i])
    room[~known] = room[~known].min(axis=1, keepdims=True)
    yaw = np.where(known, ours.yaws[i], 0.0)
    along = np.abs(np.cos(yaw) * apart[:, 0] + np.sin(yaw) * apart[:, 1])
    across = np.abs(np.cos(yaw) * apart[:, 1] - np.sin(yaw) * apart[:, 0])
    out[j[(along < room[:, 0]) & (across < room[:, 1])]] = True
    return out


def ambiguous(ours: Objects, theirs: Objects, free: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(M,) of theirs, those so near to one of ours that both are rather one, placed badly.

    free: (N,) of ours, what none of theirs was matched to.
    """
    out = np.zeros(len(theirs), np.bool_)
    i, j = _within(ours, theirs, DOUBLE_M + FARTHEST_M)
    i, j = i[free[i]], j[free[i]]
    apart = np.linalg.norm(theirs.positions[j, :2] - ours.positions[i, :2], axis=1)
    spread = np.sqrt(theirs.covariances[j, 0, 0] + theirs.covariances[j, 1, 1])
    reach = np.where(IS_VULNERABLE[theirs.classes[j]], DOUBLE_VULNERABLE_M, DOUBLE_M) + spread
    out[j[(apart < reach) & alike(ours.classes[i], theirs.classes[j])]] = True
    return out


def _within(ours: Objects, theirs: Objects, reach_m: float) -> tuple[Rows, Rows]:
    """Rows of both that are that near along x and along y, and at about the same height."""
    near = np.abs(ours.positions[:, :1] - theirs.positions[:, 0]) < reach_m
    i, j = np.nonzero(near)
    apart = np.abs(ours.positions[i, 1:] - theirs.positions[j, 1:])
    inside = (apart < [reach_m, HEIGHT_M]).all(axis=1)
    return i[inside], j[inside]


def alike(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """A person is no truck; whoever does not know the class may mean anything."""
    same = IS_VULNERABLE[first] == IS_VULNERABLE[second]
    return np.asarray(same | (first == _UNKNOWN) | (second == _UNKNOWN))
