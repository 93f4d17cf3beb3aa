"""How the ego moves when it is told to, for the rule policy and for the look-ahead."""

from typing import Any

import numpy as np

from pipeline.box import FloatArray

STAND_OFF_S = 1.0
"""Distance that is kept to a followed target, seconds at the speed limit."""


def driven(now: Any, aim: Any, stop_s: Any, times: FloatArray) -> FloatArray:
    """Distance along the way at each time: braking from the limit takes ``stop_s``, speeding up to
    it twice as long. Speeds are shares of the limit; arrays are broadcast."""
    rate = np.where(aim < now, 1.0, 0.5) / stop_s
    ramp = np.minimum(times, np.abs(aim - now) / rate)
    along = now * ramp + np.sign(aim - now) * rate * ramp**2 / 2 + aim * (times - ramp)
    return np.asarray(along)


def smooth(share: FloatArray) -> FloatArray:
    """Of a way aside: from 0 to 1, at rest at both ends."""
    share = np.clip(share, 0.0, 1.0)
    return share**2 * (3 - 2 * share)
