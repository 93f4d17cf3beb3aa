"""Own perception and what others told, as one list of objects at one moment.

Own objects always stay. What another station tells either is one of those in the list already, and
refines it by covariance intersection (Julier & Uhlmann 1997; Niehsen 2002 for the weight), which
holds however correlated the errors are, or is new, and comes in with its station's trust. So
nobody can erase an object, and none is put where our own view is free.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from comms.association import match, overlapping
from comms.consistency import LEAST_TRUST, bias_jacobian, contradicted, prior
from comms.motion import horizontal, moved
from comms.peers import Peer
from comms.request import Sight
from pipeline.box import FloatArray
from pipeline.objects import Objects, joined
from pipeline.pose import Pose

OWN = 0
"""This station, among sources."""
ECHO_M = 1.5
"""Beyond half its length, what is so near is this vehicle itself."""

Align = Callable[[Objects, npt.NDArray[np.int64], int], Objects]
"""States, the (N,) moments they speak for, the moment to bring them to."""


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """What is known at ``objects.stamp_ns``.

    objects: N; ``stations`` says who measured it best, 0 for this one. sources: stations of all
    that contributed; those of object n stand at ``sources[ends[n - 1]:ends[n]]``.
    """

    objects: Objects
    sources: npt.NDArray[np.uint32]
    ends: npt.NDArray[np.uint32]

    @classmethod
    def alone(cls, own: Objects) -> "Fused":
        """Nothing but own perception."""
        n = len(own)
        return cls(own, np.zeros(n, np.uint32), np.arange(1, n + 1, dtype=np.uint32))


def predict(objects: Objects, stamps_ns: npt.NDArray[np.int64], to_ns: int) -> Objects:
    """Each over its own true delay."""
    return moved(objects, (to_ns - stamps_ns) * 1e-9, to_ns)


def predict_floored(objects: Objects, stamps_ns: npt.NDArray[np.int64], to_ns: int) -> Objects:
    """Over whole steps of 100 ms, as Select2Drive does."""
    return moved(objects, (to_ns - stamps_ns) // 100_000_000 * 0.1, to_ns)


def keep_stale(objects: Objects, stamps_ns: npt.NDArray[np.int64], to_ns: int) -> Objects:
    """As they were told."""
    return replace(objects, stamp_ns=to_ns)


ALIGN: dict[str, Align] = {
    "predict": predict, "floored": predict_floored, "stale": keep_stale,
}  # fmt: skip


def told_by(peer: Peer, at_ns: int, align: Align) -> Objects:
    """A peer's objects at a moment, in our frame: its pose's bias taken out, what is left of it,
    and its clock's error, counted into the covariances."""
    objects = align(peer.objects, peer.stamps_ns, at_ns)
    if not len(objects):
        return objects
    J = bias_jacobian(objects.positions[:, :2], peer.origins)
    positions, covariances = objects.positions.copy(), objects.covariances.copy()
    positions[:, :2] += J @ peer.bias
    covariances[:, :2, :2] += J @ prior(peer, at_ns) @ J.transpose(0, 2, 1)
    v = objects.velocities
    covariances[:, :3, :3] += v[:, :, None] * v[:, None, :] * peer.clock.sigma_s**2
    return replace(objects, positions=positions, covariances=covariances)


def fuse(
    own: Objects,
    peers: Sequence[Peer],
    pose: Pose | None,
    sight: Sight | None,
    align: Align = predict,
    *,
    length_m: float = 4.5,
    range_m: float = 150.0,
    max_sigma_m: float = 2.5,
) -> Fused:
    """Everything at ``own.stamp_ns``.

    own: own perception then. pose, sight: own; without a pose nothing is cut by range, and the own
    echo is not known. max_sigma_m: what is less sure of its place than that is left out.
    """
    at_ns = own.stamp_ns
    fused = own
    sources: list[list[int]] = [[OWN] for _ in range(len(own))]
    for peer in sorted(peers, key=lambda p: (-p.trust, p.station)):
        if peer.trust < LEAST_TRUST or not len(peer.objects):
            continue
        theirs = told_by(peer, at_ns, align)
        use = horizontal(theirs.covariances) <= max_sigma_m
        if pose is not None:
            away = np.linalg.norm(theirs.positions - _place(pose, at_ns), axis=1)
            use &= (away <= range_m) & (away > length_m / 2 + ECHO_M)
        theirs = theirs.selected(use)
        mine, other, _ = match(fused, theirs)
        new = np.ones(len(theirs), np.bool_)
        new[other] = False
        new &= ~overlapping(fused, theirs)
        new &= ~contradicted(theirs, own, other, sight)
        fused = _refined(fused, mine, theirs.selected(other), peer.trust)
        for row in mine.tolist():
            sources[row].append(peer.station)
        added = theirs.selected(new)
        if len(added):
            added = replace(added, quality=added.quality * peer.trust, ready_ns=fused.ready_ns)
            fused = joined([fused, added])
            sources += [[peer.station] for _ in range(len(added))]
    counts = np.array([len(s) for s in sources], np.int64)
    flat = np.array([s for each in sources for s in each], np.uint32)
    return Fused(fused, flat, np.cumsum(counts).astype(np.uint32))


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
    """Some of the fused by what a peer tells of the same objects."""
    if not len(rows):
        return fused
    ours = fused.selected(rows)
    state, covariance = intersected(
        np.hstack([ours.positions, ours.velocities]), ours.covariances,
        np.hstack([theirs.positions, theirs.velocities]), theirs.covariances / trust,
    )  # fmt: skip
    better = np.trace(theirs.covariances[:, :3, :3], axis1=1, axis2=2) < np.trace(
        ours.covariances[:, :3, :3], axis1=1, axis2=2
    )
    arrays = {
        name: getattr(fused, name).copy()
        for name in (
            "positions", "velocities", "covariances", "quality", "measured_ns", "yaws", "sizes",
            "stations", "ids",
        )
    }  # fmt: skip
    arrays["positions"][rows], arrays["velocities"][rows] = state[:, :3], state[:, 3:]
    arrays["covariances"][rows] = covariance
    arrays["quality"][rows] = 1 - (1 - ours.quality) * (1 - trust * theirs.quality)
    arrays["measured_ns"][rows] = np.maximum(ours.measured_ns, theirs.measured_ns)
    unknown = np.isnan(ours.yaws)
    arrays["yaws"][rows[unknown]] = theirs.yaws[unknown]
    arrays["sizes"][rows] = np.where(ours.sizes > 0, ours.sizes, theirs.sizes)
    take = better & (ours.stations != OWN)
    arrays["stations"][rows[take]] = theirs.stations[take]
    arrays["ids"][rows[take]] = theirs.ids[take]
    return replace(fused, **arrays)


def _place(pose: Pose, at_ns: int) -> FloatArray:
    return np.asarray(pose.position + (at_ns - pose.stamp_ns) * 1e-9 * pose.velocity)


def _inverse(P: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(P + 1e-9 * np.eye(P.shape[-1])))
