"""By how much an unsure pose is off, from objects that two stations see: all pairs at once.

Where a pose may be off by more than objects stand apart, the nearest object is often another one.
So pairs of candidate pairs propose a bias each, and the one under which most objects fall onto each
other is taken, if it stands out from every other (RANSAC; Fischler & Bolles 1981).
"""

import numpy as np
import numpy.typing as npt

from comms.association import FARTHEST_M, alike
from comms.request import Sight
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass, Objects

HYPOTHESES = 256
MAX_CANDIDATES = 400
MAX_SPEED_APART = 1.5
"""m/s, of one object as two stations see it; a turned pose turns velocities little."""
INSIDE = 9.0
"""Squared Mahalanobis distance of a pair that falls together."""
LEAST_INLIERS = 3
STANDS_OUT = 1.0
"""Score by which the best must beat every other that puts the objects elsewhere."""
ELSEWHERE_M = 1.0
FLOOR_M = 0.15
LEAST_SHARE = 0.6
"""Of theirs in our free view, at least so many must be ours as well."""
SIGHT_MARGIN_M = 1.0


def register(
    theirs: Objects,
    jacobian: FloatArray,
    ours: Objects,
    prior: FloatArray,
    sight: Sight | None,
    seed: int,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None:
    """Rows of ours and of theirs that are the same objects; None where that is not clear.

    theirs: M, placed by a pose whose error over x, y and yaw is of ``prior`` (3, 3). jacobian:
    (M, 2, 3) of their places. sight: our free view, in which theirs must be ours as well. seed: of
    the proposals.
    """
    i, j = _candidates(theirs, jacobian, ours, prior)
    if len(i) < LEAST_INLIERS:
        return None
    rest = ours.positions[i, :2] - theirs.positions[j, :2]
    H = jacobian[j]
    variance = (_mean_variance(ours)[i] + _mean_variance(theirs)[j]) + FLOOR_M**2
    rng = np.random.default_rng([seed, len(i)])
    first, second = rng.integers(0, len(i), (2, HYPOTHESES))
    information = np.linalg.inv(prior) + np.zeros((HYPOTHESES, 3, 3))
    pull = np.zeros((HYPOTHESES, 3))
    for k in (first, second):
        HW = H[k].transpose(0, 2, 1) / variance[k, None, None]
        information += HW @ H[k]
        pull += (HW @ rest[k, :, None])[..., 0]
    bias = np.linalg.solve(information, pull[..., None])[..., 0]

    left = rest - np.einsum("kab,hb->hka", H, bias)
    gain = np.maximum(1 - (left**2).sum(axis=2) / variance / INSIDE, 0)  # (hypotheses, pairs)
    best = np.zeros((len(theirs), HYPOTHESES))
    np.maximum.at(best, j, gain.T)
    unlikely = np.einsum("ha,ab,hb->h", bias, np.linalg.inv(prior), bias)
    score = best.sum(axis=0) - 0.25 * unlikely
    winner = int(np.argmax(score))
    places = np.einsum("kab,hb->hka", H, bias - bias[winner])
    other = np.abs(places).max(axis=(1, 2)) > ELSEWHERE_M
    if (best[:, winner] > 0).sum() < LEAST_INLIERS:
        return None
    if other.any() and score[winner] - score[other].max() < STANDS_OUT:
        return None
    mine, other = _one_to_one(i, j, gain[winner])
    if sight is not None:
        moved = theirs.positions.copy()
        moved[:, :2] += (jacobian @ bias[winner, :, None])[..., 0]
        inside = in_view(theirs.derived(positions=moved), sight)
        if inside[other].sum() < LEAST_SHARE * inside.sum():
            return None
    return mine, other


def in_view(objects: Objects, sight: Sight) -> npt.NDArray[np.bool_]:
    """(N,) what should be seen by us as well: in our free view, and not in the air."""
    inside = sight.margins(objects.positions[:, :2]) > SIGHT_MARGIN_M
    return np.asarray(inside & (objects.classes != np.uint8(ObjectClass.UAV)))


def _candidates(
    theirs: Objects, jacobian: FloatArray, ours: Objects, prior: FloatArray
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    apart = ours.positions[:, None, :2] - theirs.positions[:, :2]
    reach = 9 * np.trace(jacobian @ prior @ jacobian.transpose(0, 2, 1), axis1=1, axis2=2) + 1
    near = (apart**2).sum(axis=2) < np.minimum(reach, FARTHEST_M**2)
    slower = ours.velocities[:, None, :2] - theirs.velocities[:, :2]
    near &= np.abs(slower).max(axis=2) < MAX_SPEED_APART
    near &= alike(ours.classes[:, None], theirs.classes)
    i, j = np.nonzero(near)
    return i[:MAX_CANDIDATES], j[:MAX_CANDIDATES]


def _one_to_one(
    i: npt.NDArray[np.intp], j: npt.NDArray[np.intp], gain: FloatArray
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The best pair of each that is also the best of the other."""
    order = np.argsort(-gain, kind="stable")
    order = order[gain[order] > 0]
    of_j = np.zeros(len(order), np.bool_)
    of_j[np.unique(j[order], return_index=True)[1]] = True
    of_i = np.zeros(len(order), np.bool_)
    of_i[np.unique(i[order], return_index=True)[1]] = True
    both = order[of_i & of_j]
    return i[both], j[both]


def _mean_variance(objects: Objects) -> FloatArray:
    return np.asarray((objects.covariances[:, 0, 0] + objects.covariances[:, 1, 1]) / 2)
