"""White balance: gains from a thumbnail of the mosaic, smoothed over time."""

import numpy as np
import numpy.typing as npt

from isp.smoothing import Smoother

FloatArray = npt.NDArray[np.float64]

_SATURATED = 0.95
_MIN_BLOCKS = 16
_BRIGHTEST = 0.03  # of the blocks, taken for the white patch


def gray_world(light: FloatArray, max_gain: float) -> FloatArray | None:
    """Gains that make the scene's mean gray (Buchsbaum 1980).

    light: (3, N) linear R, G, B in [0, 1] of blocks all over the picture; blocks with a saturated
    color are left out. Returns (3,), the least gain 1; None where too little is left to tell.
    """
    return _gains(_usable(light), max_gain)


def white_patch(light: FloatArray, max_gain: float) -> FloatArray | None:
    """Gains that make the brightest unsaturated blocks white (Land and McCann 1971).

    Takes and returns what ``gray_world`` does.
    """
    usable = _usable(light)
    blocks = usable.shape[1]
    if blocks < _MIN_BLOCKS:
        return None
    count = max(_MIN_BLOCKS, int(_BRIGHTEST * blocks))
    brightest = np.argpartition(usable.sum(axis=0), blocks - count)[-count:]
    return _gains(usable[:, brightest], max_gain)


def _usable(light: FloatArray) -> FloatArray:
    usable: FloatArray = light[:, light.max(axis=0) < _SATURATED]
    return usable


def _gains(light: FloatArray, max_gain: float) -> FloatArray | None:
    if light.shape[1] < _MIN_BLOCKS:
        return None
    mean = light.mean(axis=1)
    if (mean <= 0).any():
        return None
    gains: FloatArray = mean.max() / mean
    return np.minimum(gains, max_gain)


class GainSmoother:
    """Gains (3,) that follow what is measured, smoothly in their logarithm; 1 before any is."""

    def __init__(self, time_constant_ns: float) -> None:
        self._smoother = Smoother(time_constant_ns)

    def update(self, stamp_ns: int, measured: FloatArray | None) -> FloatArray:
        """The gains to use now; None as the measurement keeps the last ones."""
        log = self._smoother.update(stamp_ns, None if measured is None else np.log(measured))
        return np.ones(3) if log is None else np.exp(log)

    def reset(self) -> None:
        """Forget; the next measurement is taken as it is."""
        self._smoother.reset()
