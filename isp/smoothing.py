"""Exponential smoothing over time."""

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Smoother:
    """Follows an array; after one time constant 1 − 1/e of a step, whatever the frame rate.

    A stamp that lies before the last one starts anew.
    """

    def __init__(self, time_constant_ns: float) -> None:
        """time_constant_ns: 0 is at once."""
        self._time_constant_ns = time_constant_ns
        self._value: FloatArray | None = None
        self._stamp_ns = 0

    def update(self, stamp_ns: int, measured: FloatArray | None) -> FloatArray | None:
        """The value to use now; None as the measurement keeps the last one, if there is one."""
        if self._value is not None and stamp_ns < self._stamp_ns:
            self._value = None
        if measured is not None:
            if self._value is None or self._time_constant_ns <= 0:
                self._value = measured
            else:
                elapsed = (stamp_ns - self._stamp_ns) / self._time_constant_ns
                self._value = self._value + (measured - self._value) * -math.expm1(-elapsed)
            self._stamp_ns = stamp_ns
        return self._value

    def reset(self) -> None:
        """Forget; the next measurement is taken as it is."""
        self._value = None
