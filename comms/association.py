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
_PLANE = np.array([0, 1, 3, 4])
_FLOOR = 1e-4 * np.eye(4)
_BIG = 1e6

Rows = npt.NDArray[np.intp]


def pairs(ours: Objects, theirs: Objects) -> tuple[Rows, Rows, FloatArray]:
    """All pairs that may be the same object: rows of both, and squared Mahalanobis distances
    below ``GATE``. Both lists speak for one moment."""
    apart = ours.positions[:, None] - theirs.positions
    near = (np.abs(apart) < [FARTHEST_M, FARTHEST_M, HEIGHT_M]).all(axis=2)
    near &= alike(ours.classes[:, None], theirs.classes)
    i, j = np.nonzero(near)
    rest = np.concatenate(
        [apart[i, j, :2], ours.velocities[i, :2] - theirs.velocities[j, :2]], axis=1
    )
    S = (ours.covariances[i] + theirs.covariances[j])[:, _PLANE[:, None], _PLANE] + _FLOOR
    squared = (rest * np.linalg.solve(S, rest[..., None])[..., 0]).sum(axis=1)
    inside = squared < GATE
    return i[inside], j[inside], squared[inside]


def match(ours: Objects, theirs: Objects) -> tuple[Rows, Rows]:
    """Rows of both that are the same object: the assignment of most pairs, and of them the one of
    least total distance."""
    i, j, squared = pairs(ours, theirs)
    if len(i) < 2:
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
    """(M,) of theirs, those that stand inside one of ours, where no second object can be."""
    apart = theirs.positions[:, :2] - ours.positions[:, None, :2]
    room = SOLID * (ours.sizes[:, None, :2] + theirs.sizes[:, :2]) / 2
    known = np.isfinite(ours.yaws)
    room[~known] = room[~known].min(axis=2, keepdims=True)
    yaw = np.where(known, ours.yaws, 0.0)[:, None]
    along = np.abs(np.cos(yaw) * apart[..., 0] + np.sin(yaw) * apart[..., 1])
    across = np.abs(np.cos(yaw) * apart[..., 1] - np.sin(yaw) * apart[..., 0])
    inside = (along < room[..., 0]) & (across < room[..., 1])
    inside &= np.abs(ours.positions[:, None, 2] - theirs.positions[:, 2]) < HEIGHT_M
    return np.asarray(inside.any(axis=0))


def alike(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """A person is no truck; whoever does not know the class may mean anything."""
    same = IS_VULNERABLE[first] == IS_VULNERABLE[second]
    return np.asarray(same | (first == ObjectClass.UNKNOWN) | (second == ObjectClass.UNKNOWN))
