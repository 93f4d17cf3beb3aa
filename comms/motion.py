"""Objects carried to another moment, in metric space and continuous time.

Position and velocity move at constant velocity, driven by white acceleration of density q::

    A ← A + Δt(B + Bᵀ) + Δt²C + qΔt³/3    B ← B + ΔtC + qΔt²/2    C ← C + qΔt

for the blocks A (position), B (position, velocity) and C (velocity) of the covariance: the usual
nearly-constant-velocity filter (Bar-Shalom, Li & Kirubarajan 2001, ch. 6.2), written out for all
objects at once. filterpy's general filter gives the same numbers (tests/comms/test_motion.py).
"""

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.objects import ObjectClass, Objects, joined

_DENSITY = {
    ObjectClass.UNKNOWN: 2.0, ObjectClass.PERSON: 0.7, ObjectClass.CYCLIST: 1.5,
    ObjectClass.MOTORCYCLE: 2.5, ObjectClass.CAR: 2.0, ObjectClass.TRUCK: 1.0,
    ObjectClass.BUS: 1.0, ObjectClass.ANIMAL: 1.0, ObjectClass.UAV: 3.0, ObjectClass.OBSTACLE: 0.05,
}  # fmt: skip
DENSITY: FloatArray = np.array([_DENSITY[c] for c in ObjectClass])
"""m²/s³, of a moving object of each class."""
STANDING_SHARE = 0.03
MOVING_SPEED = 2.0
"""m/s: slower than this an object is driven less, down to the share above."""
START_SPEED: FloatArray = np.array(
    [
        {ObjectClass.PERSON: 1.5, ObjectClass.ANIMAL: 2.0, ObjectClass.OBSTACLE: 0.1}.get(c, 8.0)
        for c in ObjectClass
    ]
)
"""m/s: sigma of a first velocity that nobody measured."""


def densities(objects: Objects) -> FloatArray:
    """(N,) of the driving acceleration: by class and by whether it moves at all."""
    return driven(objects.classes, objects.velocities)


def driven(classes: npt.NDArray[np.uint8], velocities: FloatArray) -> FloatArray:
    """``densities`` of (N,) classes and (N, 3) velocities."""
    speed = np.hypot(velocities[:, 0], velocities[:, 1])
    moving = np.clip(speed / MOVING_SPEED, STANDING_SHARE, 1)
    return np.asarray(DENSITY[classes] * moving)


def moved_covariances(covariances: FloatArray, dt: FloatArray, density: FloatArray) -> FloatArray:
    """(N, 6, 6) after dt, (N,) s, of either sign: not knowing grows both ways."""
    columns = covariances.reshape(-1, 36).T.copy().reshape(6, 6, -1)  # whole columns are faster
    a, b, c = columns[:3, :3], columns[:3, 3:], columns[3:, 3:]
    q = density * np.abs(dt)
    a += dt * (b + b.transpose(1, 0, 2))
    a += dt * dt * c
    b += dt * c
    for k in range(3):
        a[k, k] += q * dt * dt / 3
        b[k, k] += q * dt / 2
        c[k, k] += q
    columns[3:, :3] = b.transpose(1, 0, 2)
    return columns.reshape(36, -1).T.copy().reshape(-1, 6, 6)


def predicted(objects: Objects, to_ns: int | npt.NDArray[np.int64]) -> Objects:
    """All objects as they will be, or were, at ``to_ns``: one moment or (N,), of which the first
    becomes the stamp."""
    dt = (np.broadcast_to(to_ns, len(objects)) - objects.stamp_ns) * 1e-9
    stamp_ns = int(np.ravel(to_ns)[0]) if np.size(to_ns) else objects.stamp_ns
    return moved(objects, np.asarray(dt, np.float64), stamp_ns)


def moved(objects: Objects, dt: FloatArray, stamp_ns: int) -> Objects:
    """Each object on by its own dt, (N,) s."""
    return objects.derived(
        stamp_ns=stamp_ns,
        positions=objects.positions + dt[:, None] * objects.velocities,
        covariances=moved_covariances(objects.covariances, dt, densities(objects)),
    )


FIRST_ODDS = 0.6
"""That a first detection's object exists, before its own quality."""
INDEPENDENT = 0.5
"""Share by which a further detection's error is its own."""
MISSED = 0.6
"""On an object's odds, of a look that misses it."""


class MetricFilter:
    """Own detections, told apart by their ids, as objects with velocities. Not thread-safe.

    The quality of a detection is the probability that it is real; that of an object gathers them:
    its odds, few at first, are multiplied by each detection's, which are not quite independent, and
    fall with each look that misses it. max_age_s: an object that was not measured for longer
    is forgotten.
    """

    def __init__(self, max_age_s: float = 1.0) -> None:
        self._max_age_s = max_age_s
        self.reset()

    def reset(self) -> None:
        """Forget everything: the clock jumped."""
        self._objects = Objects.none(0)

    def observe(self, detections: Objects) -> Objects:
        """Take in the detections of one moment; all objects known then.

        detections: position parts of the covariances are the measurement's, velocities are not
        used. Ones that come before what is known already are out of order and change nothing.
        """
        stamp_ns = detections.stamp_ns
        if len(self._objects) and stamp_ns < self._objects.stamp_ns:
            return self._objects
        known = predicted(self._objects, stamp_ns)
        fresh = (stamp_ns - known.measured_ns) * 1e-9 <= self._max_age_s
        known = known.selected(fresh)
        if not len(detections) or stamp_ns > self._objects.stamp_ns:
            known = known.derived(quality=_probability(_odds(known.quality) * MISSED))
        _, mine, theirs = np.intersect1d(
            known.ids, detections.ids, assume_unique=True, return_indices=True
        )
        new = np.setdiff1d(np.arange(len(detections)), theirs)
        updated = _updated(known, mine, detections.selected(theirs))
        begun = _begun(detections.selected(new))
        self._objects = joined([updated.derived(stamp_ns=stamp_ns), begun])
        return self._objects


def _updated(known: Objects, rows: npt.NDArray[np.intp], seen: Objects) -> Objects:
    """A Kalman update of some of the known by their own detections."""
    P = known.covariances[rows]
    gain = P[:, :, :3] @ np.linalg.inv(P[:, :3, :3] + seen.covariances[:, :3, :3])
    change = (gain @ (seen.positions - known.positions[rows])[..., None])[..., 0]
    after = P - gain @ P[:, :3, :]
    odds = _odds(known.quality[rows]) / MISSED * _odds(seen.quality) ** INDEPENDENT
    changes = {
        "positions": known.positions[rows] + change[:, :3],
        "velocities": known.velocities[rows] + change[:, 3:],
        "covariances": (after + after.transpose(0, 2, 1)) / 2,
        "quality": _probability(odds),
        **{name: getattr(seen, name) for name in ("measured_ns", "yaws", "sizes", "classes")},
    }
    return known.changed(rows, changes)


def _begun(seen: Objects) -> Objects:
    """First detections: standing still, with a velocity that nobody knows."""
    covariances = np.zeros_like(seen.covariances)
    covariances[:, :3, :3] = seen.covariances[:, :3, :3]
    unknown = START_SPEED[seen.classes] ** 2
    unknown = unknown[:, None] * np.array([1.0, 1.0, 0.01])
    covariances[:, 3:, 3:] = unknown[:, :, None] * np.eye(3)
    quality = _probability(FIRST_ODDS * _odds(seen.quality) ** INDEPENDENT)
    still = np.zeros_like(seen.velocities)
    return seen.derived(quality=quality, velocities=still, covariances=covariances)


def _odds(probability: FloatArray) -> FloatArray:
    p = np.clip(probability, 0.02, 0.98)
    return np.asarray(p / (1 - p))


def _probability(odds: FloatArray) -> FloatArray:
    return np.asarray(odds / (1 + odds))


def horizontal(covariances: FloatArray) -> FloatArray:
    """(N,) m, the larger sigma of the place on the ground."""
    a, b, c = covariances[:, 0, 0], covariances[:, 0, 1], covariances[:, 1, 1]
    return np.asarray(np.sqrt((a + c) / 2 + np.sqrt(((a - c) / 2) ** 2 + b * b)))
