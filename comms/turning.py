"""Velocities told so that a straight prediction lands where a turn would.

A receiver moves what it is told straight on over the delay. Of a motion that turns at rate ω, the
mean velocity over the delay τ is the present one turned by ωτ/2, along the chord, and shortened by
sin(ωτ/2) / (ωτ/2) (constant-turn model; Bar-Shalom, Li & Kirubarajan 2001, ch. 11).
"""

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.objects import Objects

MEMORY_S = 0.4
"""Time constant with which turn rates are averaged."""
SLOW = 1.5
"""m/s: what is slower has no heading."""
MOST = 1.5
"""rad/s."""
SURE = 2.0
"""Sigmas by which a rate must differ from none."""
LONGEST_S = 1.0
"""Of a delay that is made up for, and of a gap between two looks."""


class TurnRates:
    """How fast objects turn, from their velocities at successive moments. Not thread-safe."""

    def __init__(self) -> None:
        self._stamp_ns = 0
        self._ids: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._velocities: FloatArray = np.zeros((0, 2))
        self._rates: FloatArray = np.zeros(0)
        self._scatter: FloatArray = np.zeros(0)
        self._looks: FloatArray = np.zeros(0)

    def observe(self, objects: Objects) -> None:
        """Take in a look; one that is no later than the last changes nothing."""
        dt = (objects.stamp_ns - self._stamp_ns) * 1e-9
        if dt <= 0:
            return
        n = len(objects)
        now = objects.velocities[:, :2]
        rates, scatter, looks = np.zeros(n), np.full(n, MOST**2), np.zeros(n)
        _, mine, kept = np.intersect1d(objects.ids, self._ids, return_indices=True)
        if dt <= LONGEST_S and len(mine):
            then = self._velocities[kept]
            cross = then[:, 0] * now[mine, 1] - then[:, 1] * now[mine, 0]
            measured = np.arctan2(cross, (then * now[mine]).sum(axis=1)) / dt
            count = self._looks[kept] + 1
            share = np.maximum(dt / (MEMORY_S + dt), 1 / count)
            off = measured - self._rates[kept]
            fast = np.minimum(np.hypot(*then.T), np.hypot(*now[mine].T)) > SLOW
            rates[mine] = np.where(fast, self._rates[kept] + share * off, 0.0)
            spread = self._scatter[kept] + share * (off**2 - self._scatter[kept])
            scatter[mine] = np.where(fast, spread, MOST**2)
            looks[mine] = np.where(fast, count, 0)
        self._stamp_ns, self._ids, self._velocities = objects.stamp_ns, objects.ids, now
        self._rates, self._scatter, self._looks = rates, scatter, looks

    def of(self, ids: npt.NDArray[np.int32]) -> FloatArray:
        """(N,) rad/s, counter-clockwise; 0 where no turn is sure."""
        rates = np.zeros(len(ids))
        _, mine, kept = np.intersect1d(ids, self._ids, return_indices=True)
        sigma = np.sqrt(self._scatter[kept] / np.maximum(np.minimum(self._looks[kept], 4), 1))
        known = self._rates[kept]
        sure = (np.abs(known) > SURE * sigma) & (self._looks[kept] >= 3) & (np.abs(known) < MOST)
        rates[mine] = np.where(sure, known, 0.0)
        return rates


def along_chord(objects: Objects, rates: FloatArray, delay_s: float) -> Objects:
    """With the mean velocities over a delay; rates: (N,) rad/s."""
    turn = rates * min(max(delay_s, 0.0), LONGEST_S) / 2
    short = np.sinc(turn / np.pi)
    x, y = objects.velocities[:, 0], objects.velocities[:, 1]
    velocities = objects.velocities.copy()
    velocities[:, 0] = short * (np.cos(turn) * x - np.sin(turn) * y)
    velocities[:, 1] = short * (np.sin(turn) * x + np.cos(turn) * y)
    return objects.derived(velocities=velocities)
