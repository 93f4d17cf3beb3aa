"""Own perception and what others told, as one list of objects at one moment.

Own objects always stay. What another station tells either is one of those in the list already, and
refines it by covariance intersection (Julier & Uhlmann 1997; Niehsen 2002 for the weight), which
holds however correlated the errors are, or is new, and comes in with its station's trust. So
nobody can erase an object, and none is put where our own view is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from comms.association import HEIGHT_M, alike, ambiguous, match, near, overlapping, reach
from comms.consistency import LEAST_TRUST, Told, contradicted
from comms.merging import Merged, spread
from comms.motion import horizontal
from comms.peers import Peer
from comms.registration import in_view
from comms.request import Sight
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

ECHO_M = 1.0
"""What is told of like this vehicle and so near to its body is this vehicle itself."""
UNSURE_SHARE = 0.5
"""Of the quality of what is told by a station whose pose nothing has confirmed yet."""
UNSURE_SIGMA_SHARE = 0.75
"""Of ``max_sigma_m``, for what such a station tells: all of it is off by as much, and alike."""


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
    rows = np.flatnonzero(use & (trust >= LEAST_TRUST)[told.peer])
    if not len(rows):
        return replace(Fused.alone(own), unsure=unsure)
    bounds = np.searchsorted(told.peer[rows], np.arange(len(peers) + 1))
    usable, spreads, seen = theirs.selected(rows), spread(theirs)[rows], seen[rows]
    merged, reach_m = Merged(own, len(rows)), reach(own, usable)
    for k in np.argsort(-trust, kind="stable"):
        of_peer = slice(bounds[k], bounds[k + 1])
        part = usable.selected(of_peer)
        if not len(part):
            continue
        known = merged.objects
        candidates = near(known, part, reach_m)
        mine, other = match(known, part, candidates)
        new = np.ones(len(part), np.bool_)
        new[other] = False
        if new.any():
            new &= ~overlapping(known, part, candidates)
            free = np.ones(len(known), np.bool_)
            free[mine] = False
            doubles = new & ambiguous(part, free, candidates)
            unsure += int(doubles.sum())
            new &= ~doubles & ~seen[of_peer]
        station = peers[k].station
        if len(mine):
            merged.refine(mine, part, spreads[of_peer], other, station, trust[k])
        if new.any():
            share = trust[k] * (1.0 if told.sure[k] else UNSURE_SHARE)
            merged.add(part, spreads[of_peer], np.flatnonzero(new), station, share)
    counts = np.array([len(s) for s in merged.sources], np.int64)
    flat = np.array([s for each in merged.sources for s in each], np.uint32)
    return Fused(merged.objects, flat, np.cumsum(counts).astype(np.uint32), unsure)


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
