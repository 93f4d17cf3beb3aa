"""Own perception and what others told, as one list of objects at one moment.

Own objects always stay. What another station tells either is one of those in the list already, and
refines it by covariance intersection (Julier & Uhlmann 1997; Niehsen 2002 for the weight), which
holds however correlated the errors are, or is new, and comes in with its station's trust. So
nobody can erase an object, and none is put where our own view is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from comms.association import HEIGHT_M, alike, ambiguous, match, overlapping
from comms.consistency import LEAST_TRUST, Told, contradicted
from comms.motion import driven, horizontal
from comms.peers import Peer
from comms.registration import in_view
from comms.request import Sight
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass, Objects, joined
from pipeline.pose import Pose

OWN = 0
"""This station, among sources."""
ECHO_M = 1.0
"""What is told of like this vehicle and so near to its body is this vehicle itself."""
UNSURE_SHARE = 0.5
"""Of the quality of what is told by a station whose pose nothing has confirmed yet."""
UNSURE_SIGMA_SHARE = 0.75
"""Of ``max_sigma_m``, for what such a station tells: all of it is off by as much, and alike."""
PULL = 4.0
"""Squared deviations, by our own estimate, over which nobody moves what we see ourselves."""

SURER = 0.25
"""Share of our variance below which another station's state is worth the mixing."""
SOON_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """What is known at ``objects.stamp_ns``.

    objects: N; ``stations`` says who measured it best, 0 for this one. sources: stations of all
    that contributed; those of object n stand at ``sources[ends[n - 1]:ends[n]]``. unsure: how many
    objects were left out since their places were not sure enough.
    """

    objects: Objects
    sources: npt.NDArray[np.uint32]
    ends: npt.NDArray[np.uint32]
    unsure: int = 0

    @classmethod
    def alone(cls, own: Objects) -> "Fused":
        """Nothing but own perception."""
        n = len(own)
        return cls(own, np.zeros(n, np.uint32), np.arange(1, n + 1, dtype=np.uint32))


def fuse(
    own: Objects,
    peers: Sequence[Peer],
    told: Told,
    pose: Pose,
    sight: Sight | None,
    *,
    size: tuple[float, float] = (4.5, 1.8),
    kind: int = ObjectClass.CAR,
    range_m: float = 150.0,
    max_sigma_m: float = 1.6,
    min_quality: float = 0.7,
) -> Fused:
    """Everything at ``own.stamp_ns``.

    own: own perception then. told: what the peers told, of that moment. pose, sight: own.
    size, kind: of this vehicle, length and width in m and its class. max_sigma_m: what is less sure
    of its place than that is left out, or than a share of it where the peer's pose is unsure, as is
    what exists with less than min_quality, is farther than range_m, is this vehicle itself, or is
    in our own free view without being seen by us.
    """
    theirs = told.objects
    here = pose.position + (own.stamp_ns - pose.stamp_ns) * 1e-9 * pose.velocity
    away = np.linalg.norm(theirs.positions - here, axis=1)
    use = (away <= range_m) & ~_echoes(theirs, here, pose.yaw, size, kind)
    use &= theirs.quality >= min_quality
    limit = np.where(told.sure[told.peer], 1.0, UNSURE_SIGMA_SHARE) * max_sigma_m
    sure = horizontal(theirs.covariances) <= limit
    unsure = int((use & ~sure).sum())
    use &= sure
    use &= ~contradicted(theirs, own, np.zeros(0, np.intp), sight)
    seen = np.zeros(len(theirs), np.bool_) if sight is None else in_view(theirs, sight)
    trust = np.array([p.trust for p in peers])
    usable = np.flatnonzero(use)
    of_peer = np.searchsorted(told.peer[usable], np.arange(len(peers) + 1))
    fused, sources = own, [[OWN] for _ in range(len(own))]
    for k in np.argsort(-trust, kind="stable"):
        rows = usable[of_peer[k] : of_peer[k + 1]]
        if trust[k] < LEAST_TRUST or not len(rows):
            continue
        station = peers[k].station
        part = theirs.selected(rows)
        mine, other = match(fused, part)
        new = np.ones(len(part), np.bool_)
        new[other] = False
        if new.any():
            new &= ~overlapping(fused, part)
            free = np.ones(len(fused), np.bool_)
            free[mine] = False
            doubles = new & ambiguous(fused, part, free)
            unsure += int(doubles.sum())
            new &= ~doubles
        new &= ~seen[rows]
        if len(mine):
            fused = _refined(fused, mine, part.selected(other), trust[k])
            for row in mine.tolist():
                sources[row].append(station)
        if new.any():
            added = part.selected(new)
            share = trust[k] * (1.0 if told.sure[k] else UNSURE_SHARE)
            added = added.derived(quality=added.quality * share, ready_ns=fused.ready_ns)
            fused = joined([fused, added])
            sources += [[station] for _ in range(len(added))]
    counts = np.array([len(s) for s in sources], np.int64)
    flat = np.array([s for each in sources for s in each], np.uint32)
    return Fused(fused, flat, np.cumsum(counts).astype(np.uint32), unsure)


def _echoes(
    theirs: Objects, here: FloatArray, yaw: float, size: tuple[float, float], kind: int
) -> npt.NDArray[np.bool_]:
    """(N,) what is this vehicle itself: like it, and at its place."""
    apart = theirs.positions[:, :2] - here[:2]
    along = np.abs(np.cos(yaw) * apart[:, 0] + np.sin(yaw) * apart[:, 1])
    across = np.abs(np.cos(yaw) * apart[:, 1] - np.sin(yaw) * apart[:, 0])
    near = (along < size[0] / 2 + ECHO_M) & (across < size[1] / 2 + ECHO_M)
    near &= np.abs(theirs.positions[:, 2] - here[2]) < HEIGHT_M
    return np.asarray(near & alike(theirs.classes, np.array([kind], np.uint8)))


def intersected(
    first: FloatArray, P: FloatArray, second: FloatArray, Q: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Covariance intersection of M pairs: states (M, d) and covariances (M, d, d).

    The weight is the one of the traces of the place: ω = tr Q / (tr P + tr Q).
    """
    p = np.trace(P[:, :3, :3], axis1=1, axis2=2)
    q = np.trace(Q[:, :3, :3], axis1=1, axis2=2)
    omega = (q / np.maximum(p + q, 1e-12))[:, None, None]
    one, two = omega * _inverse(P), (1 - omega) * _inverse(Q)
    covariance = _inverse(one + two)
    state = covariance @ (one @ first[..., None] + two @ second[..., None])
    return state[..., 0], covariance


def _refined(fused: Objects, rows: npt.NDArray[np.intp], theirs: Objects, trust: float) -> Objects:
    """Some of the fused by what a peer tells of the same objects: their existence, and their states
    where the peer is clearly surer of them."""
    surer = _spread(theirs) < SURER * _spread(fused, rows)
    pull = ((theirs.positions - fused.positions[rows])[:, :2] ** 2).sum(axis=1)
    own = fused.covariances[rows]
    surer &= (fused.stations[rows] != OWN) | (pull < PULL * (own[:, 0, 0] + own[:, 1, 1]) / 2)
    yaws, sizes = fused.yaws[rows], fused.sizes[rows]
    changes = {
        "quality": 1 - (1 - fused.quality[rows]) * (1 - trust * theirs.quality),
        "measured_ns": np.maximum(
            fused.measured_ns[rows], np.minimum(theirs.measured_ns, fused.stamp_ns)
        ),
        "yaws": np.where(np.isnan(yaws), theirs.yaws, yaws),
        "sizes": np.where(sizes > 0, sizes, theirs.sizes),
    }
    fused = fused.changed(rows, changes)
    if not surer.any():
        return fused
    rows, theirs = rows[surer], theirs.selected(surer)
    ours = fused.selected(rows)
    state, covariance = intersected(
        np.hstack([ours.positions, ours.velocities]), ours.covariances,
        np.hstack([theirs.positions, theirs.velocities]), theirs.covariances / trust,
    )  # fmt: skip
    take = ours.stations != OWN
    changes = {
        "positions": state[:, :3], "velocities": state[:, 3:], "covariances": covariance,
        "stations": np.where(take, theirs.stations, ours.stations),
        "ids": np.where(take, theirs.ids, ours.ids),
    }  # fmt: skip
    return fused.changed(rows, changes)


def _spread(objects: Objects, rows: npt.NDArray[np.generic] | slice = slice(None)) -> FloatArray:
    """(N,) m², of the place on the ground in ``SOON_S``: it counts the velocity's, too."""
    P, t = objects.covariances[rows], SOON_S
    soon = P[:, 0, 0] + P[:, 1, 1] + t * t * (P[:, 3, 3] + P[:, 4, 4])
    soon += 2 * t * (P[:, 0, 3] + P[:, 1, 4])
    soon += 2 * driven(objects.classes[rows], objects.velocities[rows]) * t**3 / 3
    return np.asarray(soon)


def _inverse(P: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(P + 1e-9 * np.eye(P.shape[-1])))
