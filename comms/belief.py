"""What the receivers are believed to know of this station's objects.

Receivers predict what they were told, as ``comms.motion`` does, so an object need not be told again
while that prediction holds. For each object the belief is the probability that a receiver lacks an
estimate that is good enough: 1 at first; times the loss rate at each sending; growing as the object
departs from what was told, and with time. What another station has told as well is known, too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from comms.association import alike
from comms.motion import densities
from pipeline.box import FloatArray
from pipeline.objects import IS_VULNERABLE, Objects

TOLERABLE_M, TOLERABLE_VULNERABLE_M = 1.0, 0.7
"""An estimate that is farther off is not good enough."""
DEPARTED_SHARE = 0.7
"""Of the tolerable: sigma of a departure that receivers can bear."""
SURE_SHARE = 0.3
"""Of the deviation at which receivers drop a place: from there on it is worth telling again."""
MAX_LOSS = 0.95
FORGET_S = 10.0
"""An object that was not told of for so long begins anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What was last told of N objects, rows as in the objects of the moment.

    sent_ns: (N,) int64, 0: never. positions (N, 3), velocities (N, 3), yaws (N,): as told.
    missing: (N,) probability that a receiver lacks a good estimate when it uses what is told now.
    departed: (N,) m, how far the objects are from where the receivers believe them now.
    """

    sent_ns: npt.NDArray[np.int64]
    positions: FloatArray
    velocities: FloatArray
    yaws: FloatArray
    missing: FloatArray
    departed: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Memory:
    """As of ``Belief.told``: the states told (M, 7), position, velocity, yaw; their variances
    (M, 3) of place, both and velocity along the ground; densities of their drive; and the
    probability just after that receivers lack them."""

    ids: npt.NDArray[np.int32]
    sent_ns: npt.NDArray[np.int64]
    states: FloatArray
    variances: FloatArray
    drive: FloatArray
    lacking: FloatArray

    def selected(self, rows: npt.NDArray[np.generic]) -> "_Memory":
        return _Memory(*(getattr(self, name)[rows] for name in self.__slots__))

    def with_more(self, other: "_Memory") -> "_Memory":
        both = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return _Memory(*(np.concatenate(pair) for pair in both))


_NOTHING = _Memory(
    np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros((0, 7)), np.zeros((0, 3)), np.zeros(0),
    np.zeros(0),
)  # fmt: skip


class Belief:
    """Of one sender. ttl_s: after which receivers drop what they were told. max_sigma_m: what is
    less sure of its place they drop as well. Not thread-safe."""

    def __init__(self, ttl_s: float, max_sigma_m: float) -> None:
        self._ttl_s, self._max_sigma_m = ttl_s, max_sigma_m
        self.reset()

    def reset(self) -> None:
        """Forget what was told: the clock jumped."""
        self._memory = _NOTHING

    def of(self, objects: Objects, now_ns: int, ahead_s: float = 0.0) -> Told:
        """Of the objects as they are at ``now_ns``; what receivers lack, at the moment ``ahead_s``
        later, when they use what is told now."""
        n = len(objects)
        sent, states, missing = np.zeros(n, np.int64), np.zeros((n, 7)), np.ones(n)
        departed = np.zeros(n)
        _, mine, kept = np.intersect1d(
            objects.ids, self._memory.ids, assume_unique=True, return_indices=True
        )
        known = self._memory.selected(kept)
        sent[mine], states[mine] = known.sent_ns, known.states
        since = np.maximum(now_ns - known.sent_ns, 0) * 1e-9
        at = known.states[:, :3] + since[:, None] * known.states[:, 3:6]
        apart = objects.positions[mine] - at
        departed[mine] = np.linalg.norm(apart, axis=1)
        apart += ahead_s * (objects.velocities[mine] - known.states[:, 3:6])
        off, since = np.linalg.norm(apart, axis=1), since + ahead_s
        bearable = tolerable(objects)[mine]
        a, b, c = known.variances.T
        variance = a + 2 * since * b + since**2 * c + known.drive * since**3 / 3
        used = usable(variance, self._max_sigma_m)
        holds = np.exp(-0.5 * (off / (DEPARTED_SHARE * bearable)) ** 2)
        alive = np.clip(2 - 2 * since / self._ttl_s, 0, 1)
        missing[mine] = 1 - (1 - known.lacking) * used * holds * alive
        return Told(sent, states[:, :3], states[:, 3:6], states[:, 6], missing, departed)

    def told(self, objects: Objects, told: Told, rows: npt.NDArray[np.intp], loss: float) -> None:
        """Note that some of the objects were sent at their stamp; loss: share that gets lost."""
        now_ns, some = objects.stamp_ns, objects.selected(rows)
        states = np.column_stack([some.positions, some.velocities, some.yaws])
        new = _Memory(
            some.ids, np.full(len(rows), now_ns), states, _variances(some), densities(some),
            told.missing[rows] * min(loss, MAX_LOSS),
        )  # fmt: skip
        old = ~np.isin(self._memory.ids, some.ids)
        old &= (now_ns - self._memory.sent_ns) * 1e-9 <= FORGET_S
        self._memory = self._memory.selected(old).with_more(new)


def heard_of(objects: Objects, heard: Objects, max_sigma_m: float) -> FloatArray:
    """(N,) probability that what other stations told, ``heard`` as predicted to now, is a good
    estimate of each object: of the one that is nearest to it."""
    if not len(heard) or not len(objects):
        return np.zeros(len(objects))
    apart = np.linalg.norm(objects.positions[:, None] - heard.positions, axis=2)
    apart[~alike(objects.classes[:, None], heard.classes)] = np.inf
    bearable = tolerable(objects)[:, None]
    near = np.exp(-0.5 * (apart / (2 * DEPARTED_SHARE * bearable)) ** 2)
    near = np.where(apart == apart.min(axis=0), near, 0.0)  # one object, not all that stand by it
    return np.asarray((near * usable(_variances(heard)[:, 0], max_sigma_m)).max(axis=1))


def tolerable(objects: Objects) -> FloatArray:
    """(N,) m: an estimate that is farther off is not good enough."""
    return np.where(IS_VULNERABLE[objects.classes], TOLERABLE_VULNERABLE_M, TOLERABLE_M)


def good(variance: FloatArray, bearable: FloatArray) -> FloatArray:
    """Probability that a place of such a variance on both axes is off by less."""
    return np.asarray(1 - np.exp(-0.5 * bearable**2 / np.maximum(variance, 1e-6)))


def usable(variance: FloatArray, max_sigma_m: float) -> FloatArray:
    """0 to 1: whether receivers still take a place of such a variance on both axes, in time."""
    late = np.sqrt(variance) / max_sigma_m
    return np.asarray(np.clip((1 - late) / (1 - SURE_SHARE), 0, 1))


def _variances(objects: Objects) -> FloatArray:
    """(N, 3) on the ground, of a place, of place and velocity, and of a velocity."""
    P = objects.covariances
    return np.stack(
        [(P[:, i, j] + P[:, i + 1, j + 1]) / 2 for i, j in ((0, 0), (0, 3), (3, 3))], axis=1
    )
