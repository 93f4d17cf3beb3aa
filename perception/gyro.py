"""How far the camera turned between two moments, from a gyroscope's samples.

Rates are joined by straight lines, turned into rotations by the midpoint rule and multiplied on
SO(3). The variance holds the gyroscope's noise, what may have happened between two samples, and
the time at either end that no sample covers.
"""

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.imu import GyroCalibration, ImuSamples

MAX_RATE_RAD_S = 35.0
"""2000 °/s, the widest range of the usual sensors; more is a broken sample."""
KEPT_NS = 3 * 10**9
MAX_SAMPLES = 16_384
MAX_BATCHES = 4096
MAX_CLOCK_NS = 2 * 10**9
"""How far fresh samples may be from the frame's moment; beyond they are of another clock."""
MAX_GAP_NS = 60_000_000
MAX_HELD_NS = 20_000_000
"""Between two samples, and at either end of an interval, beyond which it is not covered."""
ACCELERATION = 60.0
"""Angular acceleration in rad/s² that is reckoned with where there is no sample."""


class GyroStatus(IntEnum):
    """How much of an interval the samples cover."""

    COVERED = 0
    PARTLY = 1
    """The rate of the nearest sample was held for some milliseconds at an end."""
    UNCOVERED = 2


class Turn(NamedTuple):
    """Of the IMU between two moments. matrix: (3, 3), a fixed direction in the IMU's axes at the
    first moment → at the second one. variance: of each component of its rotation vector, rad².
    Where UNCOVERED they are the identity and infinite."""

    matrix: FloatArray
    variance: float
    status: GyroStatus


@dataclass(slots=True)
class GyroCounts:
    """Samples that were used, the late ones of them that were sorted in; and samples that were not:
    repeated, impossible, of another clock."""

    used: int = 0
    late: int = 0
    repeated: int = 0
    impossible: int = 0
    other_clock: int = 0


class Gyro:
    """The last seconds of a gyroscope. ``feed`` may be called from any thread, all else from one.

    Times asked for are the frames', from which the samples' differ by the calibrated offset.
    """

    def __init__(self, calibration: GyroCalibration) -> None:
        self._noise = calibration.noise
        self._offset_ns = calibration.offset_ns
        self._inbox: deque[ImuSamples] = deque(maxlen=MAX_BATCHES)
        self.counts = GyroCounts()
        self.foreign = False
        """Whether the last samples that came were of another clock."""

        self.reset()

    def reset(self) -> None:
        """Forget the samples that were taken: time jumped."""
        self._stamps: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._rates: FloatArray = np.empty((0, 3))

    def feed(self, samples: ImuSamples) -> None:
        """Leave samples for the next ``take``; never waits."""
        self._inbox.append(samples)

    def take(self, now_ns: int) -> None:
        """Sort in what came since the last time; ``now_ns`` is the newest frame's stamp."""
        batches = [self._inbox.popleft() for _ in range(len(self._inbox))]
        if not batches:
            return
        stamps = np.concatenate([b.stamps_ns for b in batches]) - self._offset_ns
        rates = np.concatenate([b.rates for b in batches])
        possible = np.asarray(np.abs(rates).max(axis=1) <= MAX_RATE_RAD_S)  # not where NaN
        self.counts.impossible += int((~possible).sum())
        stamps, rates = stamps[possible], rates[possible]
        # Frames may pause while samples go on, so only the newest must be near the frame.
        near = stamps < now_ns + MAX_CLOCK_NS
        near &= bool((near & (stamps > now_ns - MAX_CLOCK_NS)).any())
        if len(stamps):
            self.foreign = not near.any()
        self.counts.other_clock += int((~near).sum())
        self._insert(stamps[near], rates[near], now_ns)

    def _insert(self, stamps: npt.NDArray[np.int64], rates: FloatArray, now_ns: int) -> None:
        came = np.concatenate([self._stamps[-1:], stamps])
        self.counts.late += int((came < np.maximum.accumulate(came)).sum())
        self.counts.used += len(stamps)
        stamps = np.concatenate([self._stamps, stamps])
        rates = np.concatenate([self._rates, rates])
        if (np.diff(stamps) <= 0).any():
            order = np.argsort(stamps, kind="stable")
            first = np.diff(stamps[order], prepend=stamps[order[0]] - 1) > 0
            repeated = int((~first).sum())
            self.counts.repeated += repeated
            self.counts.used -= repeated
            stamps, rates = stamps[order][first], rates[order][first]
        begin = max(int(np.searchsorted(stamps, now_ns - KEPT_NS)), len(stamps) - MAX_SAMPLES)
        self._stamps, self._rates = stamps[begin:], rates[begin:]

    def turn(self, start_ns: int, end_ns: int, bias: FloatArray) -> Turn:
        """The rotation from one moment to a later one; bias: (3,), taken off the rates."""
        low = max(int(np.searchsorted(self._stamps, start_ns, side="right")) - 1, 0)
        high = int(np.searchsorted(self._stamps, end_ns)) + 1
        stamps, rates = self._stamps[low:high], self._rates[low:high]
        if not len(stamps):
            return _uncovered()
        held_ns = max(int(stamps[0]) - start_ns, end_ns - int(stamps[-1]), 0)
        gaps = np.diff(stamps) * 1e-9
        if held_ns > MAX_HELD_NS or gaps.max(initial=0) > MAX_GAP_NS * 1e-9:
            return _uncovered()
        # Both ends of the interval become samples, interpolated, or held beyond the last one.
        at = (stamps - start_ns) * 1e-9
        last = (end_ns - start_ns) * 1e-9
        inside = (at > 0) & (at < last)
        ends = np.stack([np.interp([0.0, last], at, column) for column in rates.T], axis=1)
        seconds = np.concatenate([[0.0], at[inside], [last]])
        rate = np.concatenate([ends[:1], rates[inside], ends[1:]]) - bias
        turns = rotations((rate[1:] + rate[:-1]) * (np.diff(seconds) / 2)[:, None])
        variance = self._noise**2 * last
        # A rate that bends by the acceleration within a gap: the triangle above the straight line.
        variance += (ACCELERATION / 8) ** 2 * float((gaps**4).sum())
        variance += 2 * (ACCELERATION / 2 * (held_ns * 1e-9) ** 2) ** 2
        status = GyroStatus.PARTLY if held_ns else GyroStatus.COVERED
        return Turn(product(turns).T, variance, status)


def _uncovered() -> Turn:
    return Turn(np.eye(3), float("inf"), GyroStatus.UNCOVERED)


def rotations(vectors: FloatArray) -> FloatArray:
    """(n, 3, 3) of n rotation vectors (n, 3), in radians (Rodrigues' formula)."""
    angle = np.sqrt((vectors**2).sum(axis=1))[:, None, None]
    cross = np.zeros((len(vectors), 3, 3))
    cross[:, [2, 0, 1], [1, 2, 0]] = vectors
    cross[:, [1, 2, 0], [2, 0, 1]] = -vectors
    a = np.sinc(angle / np.pi)
    b = np.sinc(angle / (2 * np.pi)) ** 2 / 2
    return np.asarray(np.eye(3) + a * cross + b * (cross @ cross))


def product(matrices: FloatArray) -> FloatArray:
    """The product of (n, 3, 3) in order, by halves."""
    while len(matrices) > 1:
        if len(matrices) % 2:
            matrices = np.concatenate([matrices, np.eye(3)[None]])
        matrices = matrices[0::2] @ matrices[1::2]
    return np.asarray(matrices[0])
