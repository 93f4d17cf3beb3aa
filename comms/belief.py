"""What the receivers are believed to know of this station's objects.

Receivers predict what they were told, as ``comms.motion`` does, so an object need not be told again
while that prediction holds. For each object the belief is the probability that a receiver lacks an
estimate that is good enough: 1 at first; times the loss rate at each sending; growing as the object
departs from what was told, and with time. What another station has told as well is known, too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from comms.motion import horizontal
from pipeline.box import FloatArray
from pipeline.objects import IS_VULNERABLE, Objects

TOLERABLE_M = 0.5
"""Sigma of a departure that is still good enough."""
MAX_LOSS = 0.95
FORGET_S = 10.0
"""An object that was not seen for so long begins anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What was last told of N objects, rows as in ``objects`` of the moment.

    sent_ns: (N,) int64, 0: never. positions, velocities, yaws: as told, at ``sent_ns``.
    lacking: (N,) probability, just after that sending. missing: (N,) the same, now.
    departed: (N,) m, how far the objects are from where the receivers believe them.
    """

    sent_ns: npt.NDArray[np.int64]
    positions: FloatArray
    velocities: FloatArray
    yaws: FloatArray
    missing: FloatArray
    departed: FloatArray


class Belief:
    """Of one sender. Not thread-safe."""

    def __init__(self, refresh_s: float) -> None:
        self._refresh_s = refresh_s
        self.reset()

    def reset(self) -> None:
        """Forget what was told: the clock jumped."""
        self._ids = np.zeros(0, np.int32)
        self._sent_ns = np.zeros(0, np.int64)
        self._states = np.zeros((0, 7))  # position, velocity, yaw
        self._lacking = np.zeros(0)

    def of(self, objects: Objects, now_ns: int) -> Told:
        """Of the objects as they are now."""
        n = len(objects)
        sent, states, lacking = np.zeros(n, np.int64), np.zeros((n, 7)), np.ones(n)
        _, mine, kept = np.intersect1d(
            objects.ids, self._ids, assume_unique=True, return_indices=True
        )
        sent[mine], states[mine], lacking[mine] = (
            self._sent_ns[kept], self._states[kept], self._lacking[kept],
        )  # fmt: skip
        since = np.where(sent > 0, (now_ns - sent) * 1e-9, 0)
        off = objects.positions - states[:, :3] - since[:, None] * states[:, 3:6]
        departed = np.where(sent > 0, np.linalg.norm(off, axis=1), 0)
        # Half of what is new within a refresh period, and nearly all after two.
        period = np.where(IS_VULNERABLE[objects.classes], 0.5, 1.0) * self._refresh_s
        old = np.exp(-0.7 * (since / period) ** 2)
        holds = np.exp(-0.5 * (departed / TOLERABLE_M) ** 2)
        missing = 1 - (1 - lacking) * old * holds
        return Told(sent, states[:, :3], states[:, 3:6], states[:, 6], missing, departed)

    def told(self, objects: Objects, told: Told, rows: npt.NDArray[np.intp], loss: float) -> None:
        """Note that some of the objects were sent at their stamp; loss: share that gets lost."""
        now_ns = objects.stamp_ns
        states = np.concatenate(
            [objects.positions[rows], objects.velocities[rows], objects.yaws[rows, None]], axis=1
        )
        lacking = told.missing[rows] * min(loss, MAX_LOSS)
        keep = ~np.isin(self._ids, objects.ids[rows])
        keep &= (now_ns - self._sent_ns) * 1e-9 <= FORGET_S
        self._ids = np.concatenate([self._ids[keep], objects.ids[rows]])
        self._sent_ns = np.concatenate([self._sent_ns[keep], np.full(len(rows), now_ns)])
        self._states = np.concatenate([self._states[keep], states])
        self._lacking = np.concatenate([self._lacking[keep], lacking])


def covered(objects: Objects, heard: Objects, now_ns: int) -> FloatArray:
    """(N,) in 0 to 1: how well what other stations told, ``heard`` as predicted to now, stands in
    for each object: near it, and not old."""
    if not len(heard) or not len(objects):
        return np.zeros(len(objects))
    apart = np.linalg.norm(objects.positions[:, None] - heard.positions, axis=2)
    sigma = np.maximum(horizontal(heard.covariances), TOLERABLE_M)
    near = np.exp(-0.5 * (apart / (2 * sigma)) ** 2) * (sigma < 2 * TOLERABLE_M + 1.0)
    return np.asarray(near.max(axis=1))
