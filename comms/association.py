"""Which of two lists' objects are the same, under the error of both."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pipeline.box import FloatArray
from pipeline.objects import VULNERABLE, Objects

GATE = 16.0
"""Squared Mahalanobis distance over x, y and their velocities: 99.7 % of 4 degrees of freedom."""
FARTHEST_M = 8.0
HEIGHT_M = 4.0
_PLANE = np.array([0, 1, 3, 4])
_BIG = 1e6

Rows = npt.NDArray[np.intp]


def match(ours: Objects, theirs: Objects) -> tuple[Rows, Rows, FloatArray]:
    """Rows of both lists that are the same object, and (M,) their squared distances.

    Both speak for one moment. The assignment of least total distance among the pairs within
    ``GATE`` that are of kinds which may be taken for each other.
    """
    none = np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    if not len(ours) or not len(theirs):
        return none
    apart = ours.positions[:, None] - theirs.positions
    near = (np.abs(apart[..., :2]) < FARTHEST_M).all(axis=2) & (np.abs(apart[..., 2]) < HEIGHT_M)
    near &= _alike(ours.classes[:, None], theirs.classes)
    i, j = np.nonzero(near)
    if not len(i):
        return none
    rest = np.concatenate(
        [apart[i, j, :2], ours.velocities[i, :2] - theirs.velocities[j, :2]], axis=1
    )
    S = (ours.covariances[i] + theirs.covariances[j])[:, _PLANE[:, None], _PLANE]
    S = S + 1e-4 * np.eye(4)
    squared = (rest * np.linalg.solve(S, rest[..., None])[..., 0]).sum(axis=1)
    inside = squared < GATE
    if not inside.any():
        return none
    cost = np.full(near.shape, _BIG)
    cost[i[inside], j[inside]] = squared[inside]
    rows, columns = np.unique(i[inside]), np.unique(j[inside])
    r, c = linear_sum_assignment(cost[np.ix_(rows, columns)])
    r, c = rows[r], columns[c]
    found = cost[r, c] < _BIG
    return r[found], c[found], cost[r[found], c[found]]


def _alike(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """A person is no lorry; whoever does not know the class may mean anything."""
    soft_first, soft_second = np.isin(first, VULNERABLE), np.isin(second, VULNERABLE)
    return (soft_first == soft_second) | (first == 0) | (second == 0)


def overlapping(ours: Objects, theirs: Objects) -> npt.NDArray[np.bool_]:
    """(M,) of theirs, those that stand inside one of ours, where no second object can be."""
    if not len(ours) or not len(theirs):
        return np.zeros(len(theirs), np.bool_)
    apart = np.linalg.norm(ours.positions[:, None] - theirs.positions, axis=2)
    room = (ours.sizes[:, None, 1] + theirs.sizes[:, 1]) / 2
    return np.asarray((apart < 0.8 * room).any(axis=0))
