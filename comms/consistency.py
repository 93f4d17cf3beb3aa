"""How far another station may be believed: its pose's error, and whether it tells the truth.

Objects that both see tell by how much the station's pose is off: with origin o of the station, an
object at p of theirs and p′ of ours, p′ − p = b + β·(p − o)⊥ + noise. The offset b and the turn β
are a Kalman filter's state; what the station claims of its pose is the prior. Errors of filtered
states last, so each pair counts for less than one measurement.

What a station tells of a place that is in our own free view, and where nothing is, counts against
it; what we see as well counts for it.
"""

import numpy as np

from comms.association import match
from comms.peers import AGREED, DISAGREED, Peer
from comms.relevance import CERTAIN_M
from comms.request import Sight
from pipeline.box import FloatArray
from pipeline.objects import Objects

CORRELATED = 4.0
"""How many measurements in a row tell as much as one that is independent."""
FLOOR_M, FLOOR_RAD = 0.15, 0.005
"""No claim of a pose is believed to be better."""
WANDER_M, WANDER_RAD = 0.05, 0.002
"""By which a pose's error walks in a second."""
EVIDENCE_S = 8.0
"""Time constant with which evidence fades."""
LEAST_TRUST = 0.5
"""Below it nothing of a station is fused."""


def bias_jacobian(positions: FloatArray, origins: FloatArray) -> FloatArray:
    """(N, 2, 3): how places (N, 2) about origins (N, 2) move with x, y and yaw."""
    out = np.zeros((len(positions), 2, 3))
    out[:, 0, 0] = out[:, 1, 1] = 1
    away = positions - origins
    out[:, 0, 2], out[:, 1, 2] = -away[:, 1], away[:, 0]
    return out


def prior(peer: Peer, now_ns: int) -> FloatArray:
    """(3, 3) of the bias as of now, starting from what the station claims of its pose."""
    claimed = np.zeros((3, 3))
    if peer.pose is not None:
        claimed = peer.pose.covariance[np.ix_([0, 1, 3], [0, 1, 3])].copy()
    claimed[[0, 1, 2], [0, 1, 2]] += [FLOOR_M**2, FLOOR_M**2, FLOOR_RAD**2]
    if peer.bias_covariance is None:
        return claimed
    dt = max(0.0, (now_ns - peer.assessed_ns) * 1e-9)
    grown = peer.bias_covariance + np.diag([WANDER_M**2, WANDER_M**2, WANDER_RAD**2]) * dt
    # It never gets less sure than its claim.
    return grown if np.trace(grown) < np.trace(claimed) else claimed


def assess(peer: Peer, theirs: Objects, origins: FloatArray, ours: Objects, sight: Sight | None,
           now_ns: int) -> None:  # fmt: skip
    """Learn from one more look at the same objects.

    theirs: the peer's, at the moment of ``ours`` and corrected by the bias as known so far, whose
    covariances count it in. origins: (N, 2) of the station for each. ours: own perception, and this
    vehicle itself among it.
    """
    dt = (now_ns - peer.assessed_ns) * 1e-9 if peer.assessed_ns else 0.0
    B = prior(peer, now_ns)
    peer.assessed_ns, peer.bias_covariance = now_ns, B
    if dt < 0:
        return
    fade = np.exp(-dt / EVIDENCE_S)
    peer.agreed = AGREED + fade * (peer.agreed - AGREED)
    peer.disagreed = DISAGREED + fade * (peer.disagreed - DISAGREED)
    mine, other, _ = match(ours, theirs)
    share = min(dt, 1.0)
    peer.agreed += share * len(mine)
    peer.disagreed += 2 * share * float(contradicted(theirs, ours, other, sight).sum())
    if not len(mine):
        return
    H = bias_jacobian(theirs.positions[other, :2], origins[other])
    rest = ours.positions[mine, :2] - theirs.positions[other, :2]
    own_part = H @ B @ H.transpose(0, 2, 1)
    R = ours.covariances[mine, :2, :2] + theirs.covariances[other, :2, :2] - own_part
    R = CORRELATED * (R + 0.01 * np.eye(2))
    weight = np.linalg.inv(_positive(R))
    information = np.linalg.inv(B) + (H.transpose(0, 2, 1) @ weight @ H).sum(axis=0)
    pull = (H.transpose(0, 2, 1) @ weight @ rest[..., None]).sum(axis=0)[:, 0]
    peer.bias_covariance = np.linalg.inv(information)
    peer.bias = peer.bias + peer.bias_covariance @ pull


def contradicted(
    theirs: Objects, ours: Objects, matched: FloatArray, sight: Sight | None
) -> FloatArray:
    """(N,) bool: theirs that stand well inside our free view, where we see nothing at all."""
    out = np.zeros(len(theirs), np.bool_)
    if sight is None or not len(theirs):
        return out
    spread = 2 * np.sqrt(theirs.covariances[:, 0, 0] + theirs.covariances[:, 1, 1])
    inside = sight.margins(theirs.positions[:, :2]) > CERTAIN_M + spread
    inside &= theirs.positions[:, 2] < 5.0
    inside[matched] = False
    if len(ours) and inside.any():
        apart = ours.positions[:, None, :2] - theirs.positions[:, :2]
        nothing = np.linalg.norm(apart, axis=2).min(axis=0) > CERTAIN_M + spread
        inside &= nothing
    return inside


def _positive(R: FloatArray) -> FloatArray:
    """(N, 2, 2) with no deviation under 10 cm."""
    values, vectors = np.linalg.eigh(R)
    return np.asarray(vectors * np.maximum(values, 0.01)[:, None] @ vectors.transpose(0, 2, 1))
