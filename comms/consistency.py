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
from comms.registration import in_view, register
from comms.relevance import CERTAIN_M
from comms.request import Sight
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass, Objects, joined
from pipeline.pose import Pose

CORRELATED = 7.0
"""How many measurements in a row tell as much as one that is independent."""
WANDER: FloatArray = np.diag([0.05, 0.05, 0.002]) ** 2
"""By which a pose's error walks in a second, m and rad."""
EVIDENCE_S = 8.0
"""Time constant with which evidence fades."""
SURE_M, USUAL_M = 0.7, 30.0
"""Of a pose that puts objects at a usual distance this well, the nearest object is the same."""
MOST_REGISTRATIONS = 8
"""In one look."""
FIT_S, LEAST_FIT = 0.5, 0.5
"""Where less of what a peer places in our free view is there, over so long, its pose is off."""
DOUBT, MOST_DOUBT, LEAST_AMISS = 3.0, 30.0, 3
"""Factor on its claim each time, at most so much, where so many objects are not there."""
LEAST_TRUST = 0.5
"""Below it nothing of a station is fused."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """All that some peers told, at one moment and in our frame: the bias of each one's pose taken
    out, what is left of it, and of its clock's error, counted into the covariances.

    objects: N. plain: the same, without what is left of the pose's error. peer: (N,) index of each
    one's peer. jacobian: (N, 2, 3), how its place moves with its peer's x, y and yaw. sure: (P,)
    whose poses are known well enough to tell which object is whose.
    """

    objects: Objects
    plain: Objects
    peer: npt.NDArray[np.intp]
    jacobian: FloatArray
    sure: npt.NDArray[np.bool_]


def told_by(peers: Sequence[Peer], at_ns: int, align: Align, own: Pose | None = None) -> Told:
    """What peers told, brought to a moment. own: our pose, whose error counts as well."""
    if not peers:
        none = Objects.none(at_ns)
        return Told(none, none, np.zeros(0, np.intp), np.zeros((0, 2, 3)), np.zeros(0, np.bool_))
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
    v = objects.velocities * sigma_s[:, None]
    covariances[:, :3, :3] += v[:, :, None] * v[:, None, :]
    plain = objects.derived(positions=positions, covariances=covariances)
    covariances = covariances.copy()
    B = priors(peers, at_ns, own)
    covariances[:, :2, :2] += J @ B[index] @ J.transpose(0, 2, 1)
    sure = _place_variance(B) < SURE_M**2
    return Told(plain.derived(covariances=covariances), plain, index, J, sure)


def priors(peers: Sequence[Peer], now_ns: int, own: Pose | None) -> FloatArray:
    """(P, 3, 3) of what is left of each pose's error against ours: as estimated, never more than
    both claim, as far as that is believed."""
    claimed = np.array([p.doubt**2 * p.claimed for p in peers])
    if own is not None:
        claimed = claimed + own.covariance[np.ix_([0, 1, 3], [0, 1, 3])]
        places = [own.position if p.pose is None else p.pose.position for p in peers]
        away = np.array(places)[:, :2] - own.position[:2]
        turned = own.covariance[3, 3] * (away**2).sum(axis=1) / 2
        claimed[:, 0, 0] += turned
        claimed[:, 1, 1] += turned
    fresh = [p.bias_covariance is None for p in peers]
    known = np.array(
        [c if p.bias_covariance is None else p.bias_covariance
         for p, c in zip(peers, claimed, strict=True)]
    )  # fmt: skip
    dt = np.array([max(0.0, (now_ns - p.assessed_ns) * 1e-9) for p in peers])
    dt[fresh] = 0
    grown = known + WANDER * np.minimum(dt, 60.0)[:, None, None]
    more = np.trace(grown, axis1=1, axis2=2) > np.trace(claimed, axis1=1, axis2=2)
    grown[more] = claimed[more]
    return np.asarray(grown)


def assess(
    peers: Sequence[Peer], told: Told, ours: Objects, own: Pose, sight: Sight | None, now_ns: int
) -> None:
    """Learn from one more look at the same objects.

    told: at the moment of ``ours``, which is own perception with this vehicle itself among it.
    Where a peer's pose is too unsure to tell which of our objects is whose, all of its objects are
    registered at once, also to what surer peers told.
    """
    theirs = told.objects
    B = priors(peers, now_ns, own)
    sure = told.sure
    if sure.all():
        mine, other = mutual(ours, theirs, told.peer)
    else:
        rows = np.flatnonzero(sure[told.peer])
        mine, at = mutual(ours, theirs.selected(rows), told.peer[rows])
        other = rows[at]
    information: FloatArray = np.linalg.inv(B).astype(np.float64)
    pull = np.zeros((len(peers), 3))
    _gather(information, pull, told, other, ours.selected(mine))
    lies = contradicted(theirs, ours, other, sight)
    count = np.bincount(told.peer[other], minlength=len(peers))
    against = np.bincount(told.peer[lies], minlength=len(peers))
    unsure = np.flatnonzero(~sure)[:MOST_REGISTRATIONS]
    if len(unsure):
        honest = np.array([p.trust >= LEAST_TRUST for p in peers])
        anchors = joined([ours, told.plain.selected((sure & honest)[told.peer])])
    for k in unsure:
        rows = np.flatnonzero(told.peer == k)
        found = register(
            told.plain.selected(rows), told.jacobian[rows], anchors, B[k], sight, peers[k].station
        )
        if found is not None:
            near, back = found
            _gather(information, pull, told, rows[back], anchors.selected(near))
    after = np.linalg.inv(information)
    change = (after @ pull[..., None])[..., 0]
    fits, amiss = _fits(told, other, sight, len(peers))
    for k, peer in enumerate(peers):
        dt = max(0.0, (now_ns - peer.assessed_ns) * 1e-9) if peer.assessed_ns else 0.1
        fade, share = float(np.exp(-dt / EVIDENCE_S)), min(dt, 1.0)
        peer.agreed = AGREED + fade * (peer.agreed - AGREED) + share * float(count[k])
        forgiven = fade if count[k] else 1.0  # only what is found true makes good
        peer.disagreed = DISAGREED + forgiven * (peer.disagreed - DISAGREED)
        peer.disagreed += 2 * share * float(against[k])
        peer.bias, peer.bias_covariance = peer.bias + change[k], after[k]
        peer.assessed_ns = now_ns
        if sure[k] and np.isfinite(fits[k]):
            peer.fit += min(dt / FIT_S, 1.0) * (fits[k] - peer.fit)
            if peer.fit < LEAST_FIT:  # the bias is another one than was found: begin anew
                peer.bias, peer.bias_covariance, peer.fit = np.zeros(3), None, 1.0
                if amiss[k] >= LEAST_AMISS:
                    peer.doubt = min(DOUBT * peer.doubt, MOST_DOUBT)


def _gather(
    information: FloatArray,
    pull: FloatArray,
    told: Told,
    rows: npt.NDArray[np.intp],
    same: Objects,
) -> None:
    """Add what pairs tell, ``same`` as rows of ``told``, to each peer's (P, 3, 3) and (P, 3)."""
    of, theirs = told.peer[rows], told.plain
    H = told.jacobian[rows]
    rest = same.positions[:, :2] - theirs.positions[rows, :2]
    R = same.covariances[:, :2, :2] + theirs.covariances[rows, :2, :2] + 0.01 * np.eye(2)
    HW = H.transpose(0, 2, 1) @ np.linalg.inv(CORRELATED * R)
    np.add.at(information, of, HW @ H)
    np.add.at(pull, of, (HW @ rest[..., None])[..., 0])


def _fits(
    told: Told, matched: npt.NDArray[np.intp], sight: Sight | None, peers: int
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """(P,) share of each peer's objects in our free view that are ours as well, NaN of none; (P,)
    how many are not."""
    if sight is None:
        return np.full(peers, np.nan), np.zeros(peers, np.intp)
    inside = in_view(told.plain, sight)
    own = np.zeros(len(inside), np.bool_)
    own[matched] = True
    count = np.bincount(told.peer[inside], minlength=peers)
    with_own = np.bincount(told.peer[inside & own], minlength=peers)
    shares: FloatArray = np.full(peers, np.nan)
    np.divide(with_own, count, out=shares, where=count > 0)
    return shares, count - with_own


def _place_variance(B: FloatArray) -> FloatArray:
    """(P,) m² on an axis, of objects at a usual distance, by what is left of the pose's error."""
    return np.asarray((B[:, 0, 0] + B[:, 1, 1]) / 2 + USUAL_M**2 * B[:, 2, 2])


def contradicted(
    theirs: Objects, ours: Objects, matched: npt.NDArray[np.intp], sight: Sight | None
) -> npt.NDArray[np.bool_]:
    """(N,) theirs that stand well inside our free view, where we see nothing at all."""
    if sight is None:
        return np.zeros(len(theirs), np.bool_)
    spread = 2 * np.sqrt(theirs.covariances[:, 0, 0] + theirs.covariances[:, 1, 1])
    out = np.asarray(sight.margins(theirs.positions[:, :2]) > CERTAIN_M + spread)
    out &= theirs.classes != ObjectClass.UAV
    out[matched] = False
    rows = np.flatnonzero(out)
    if len(ours) and len(rows):
        apart = ours.positions[:, None, :2] - theirs.positions[rows, :2]
        out[rows] = np.linalg.norm(apart, axis=2).min(axis=0) > CERTAIN_M + spread[rows]
    return out
