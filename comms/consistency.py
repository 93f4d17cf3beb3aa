"""How far other stations may be believed: their poses' errors, and whether they tell the truth.

Objects that both see tell by how much a station's pose is off: with origin o of the station, an
object at p of theirs and p′ of ours, p′ − p = b + β·(p − o)⊥ + noise. The offset b and the turn β
are a Kalman filter's state; what the station claims of its pose is the prior. Errors of filtered
states last, so each pair counts for less than one measurement.

What a station tells of a place that is in our own free view, and where nothing is, counts against
it; what we see as well counts for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from comms.alignment import Align
from comms.association import mutual
from comms.peers import AGREED, DISAGREED, Peer
from comms.relevance import CERTAIN_M
from comms.request import Sight
from pipeline.box import FloatArray
from pipeline.objects import Objects, joined

CORRELATED = 4.0
"""How many measurements in a row tell as much as one that is independent."""
WANDER: FloatArray = np.diag([0.05, 0.05, 0.002]) ** 2
"""By which a pose's error walks in a second, m and rad."""
EVIDENCE_S = 8.0
"""Time constant with which evidence fades."""
GROUND_M = 5.0
"""What is higher is not expected in the view along the ground."""
LEAST_TRUST = 0.5
"""Below it nothing of a station is fused."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """All that some peers told, at one moment and in our frame: the bias of each one's pose taken
    out, what is left of it, and of its clock's error, counted into the covariances.

    objects: N. peer: (N,) index of each one's peer. jacobian: (N, 2, 3), how its place moves with
    its peer's x, y and yaw.
    """

    objects: Objects
    peer: npt.NDArray[np.intp]
    jacobian: FloatArray


def told_by(peers: Sequence[Peer], at_ns: int, align: Align) -> Told:
    """What peers told, brought to a moment."""
    if not peers:
        return Told(Objects.none(at_ns), np.zeros(0, np.intp), np.zeros((0, 2, 3)))
    index = np.repeat(np.arange(len(peers)), [len(p.objects) for p in peers])
    stamps = np.concatenate([p.stamps_ns for p in peers])
    objects = align(joined([p.objects for p in peers]), stamps, at_ns)
    away = objects.positions[:, :2] - np.concatenate([p.origins for p in peers])
    J = np.zeros((len(objects), 2, 3))
    J[:, 0, 0] = J[:, 1, 1] = 1
    J[:, 0, 2], J[:, 1, 2] = -away[:, 1], away[:, 0]
    bias = np.array([p.bias for p in peers])[index]
    sigma_s = np.array([p.clock.sigma_s for p in peers])[index]
    positions, covariances = objects.positions.copy(), objects.covariances.copy()
    positions[:, :2] += (J @ bias[..., None])[..., 0]
    covariances[:, :2, :2] += J @ priors(peers, at_ns)[index] @ J.transpose(0, 2, 1)
    v = objects.velocities * sigma_s[:, None]
    covariances[:, :3, :3] += v[:, :, None] * v[:, None, :]
    return Told(objects.derived(positions=positions, covariances=covariances), index, J)


def priors(peers: Sequence[Peer], now_ns: int) -> FloatArray:
    """(P, 3, 3) of what is left of each pose's error: as estimated, never more than claimed."""
    claimed = np.array([p.claimed for p in peers])
    known = np.array([p.claimed if p.bias_covariance is None else p.bias_covariance for p in peers])
    dt = np.array([max(0.0, (now_ns - p.assessed_ns) * 1e-9) for p in peers])
    grown = known + WANDER * np.minimum(dt, 60.0)[:, None, None]
    more = np.trace(grown, axis1=1, axis2=2) > np.trace(claimed, axis1=1, axis2=2)
    grown[more] = claimed[more]
    return grown


def assess(
    peers: Sequence[Peer], told: Told, ours: Objects, sight: Sight | None, now_ns: int
) -> None:
    """Learn from one more look at the same objects.

    told: at the moment of ``ours``, which is own perception with this vehicle itself among it.
    """
    theirs = told.objects
    mine, other = mutual(ours, theirs, told.peer)
    count = np.bincount(told.peer[other], minlength=len(peers))
    lies = contradicted(theirs, ours, other, sight)
    against = np.bincount(told.peer[lies], minlength=len(peers))
    B = priors(peers, now_ns)
    H = told.jacobian[other]
    rest = ours.positions[mine, :2] - theirs.positions[other, :2]
    known = H @ B[told.peer[other]] @ H.transpose(0, 2, 1)
    R = ours.covariances[mine, :2, :2] + theirs.covariances[other, :2, :2] - known
    weight = np.linalg.inv(CORRELATED * _positive(R))
    HW = H.transpose(0, 2, 1) @ weight
    information, pull = np.linalg.inv(B), np.zeros((len(peers), 3))
    np.add.at(information, told.peer[other], HW @ H)
    np.add.at(pull, told.peer[other], (HW @ rest[..., None])[..., 0])
    after = np.linalg.inv(information)
    change = (after @ pull[..., None])[..., 0]
    for k, peer in enumerate(peers):
        dt = max(0.0, (now_ns - peer.assessed_ns) * 1e-9) if peer.assessed_ns else 0.1
        fade, share = float(np.exp(-dt / EVIDENCE_S)), min(dt, 1.0)
        peer.agreed = AGREED + fade * (peer.agreed - AGREED) + share * float(count[k])
        peer.disagreed = (
            DISAGREED + fade * (peer.disagreed - DISAGREED) + 2 * share * float(against[k])
        )
        peer.bias, peer.bias_covariance = peer.bias + change[k], after[k]
        peer.assessed_ns = now_ns


def contradicted(
    theirs: Objects, ours: Objects, matched: npt.NDArray[np.intp], sight: Sight | None
) -> npt.NDArray[np.bool_]:
    """(N,) theirs that stand well inside our free view, where we see nothing at all."""
    out = np.zeros(len(theirs), np.bool_)
    if sight is None:
        return out
    spread = 2 * np.sqrt(theirs.covariances[:, 0, 0] + theirs.covariances[:, 1, 1])
    out = sight.margins(theirs.positions[:, :2]) > CERTAIN_M + spread
    out &= theirs.positions[:, 2] < GROUND_M
    out[matched] = False
    rows = np.flatnonzero(out)
    if len(ours) and len(rows):
        apart = ours.positions[:, None, :2] - theirs.positions[rows, :2]
        out[rows] = np.linalg.norm(apart, axis=2).min(axis=0) > CERTAIN_M + spread[rows]
    return out


def _positive(R: FloatArray) -> FloatArray:
    """(N, 2, 2) with no deviation under 10 cm."""
    values, vectors = np.linalg.eigh(R)
    scaled = vectors * np.maximum(values, 0.01)[:, None]
    return np.asarray(scaled @ vectors.transpose(0, 2, 1))
