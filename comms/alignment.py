"""Ways to bring what was told late to the moment of fusion."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from comms.motion import moved
from pipeline.objects import Objects

Align = Callable[[Objects, npt.NDArray[np.int64], int], Objects]
"""States, the (N,) moments they speak for, the moment to bring them to."""


def predict(objects: Objects, stamps_ns: npt.NDArray[np.int64], to_ns: int) -> Objects:
    """Each over its own true delay."""
    return moved(objects, np.asarray((to_ns - stamps_ns) * 1e-9, np.float64), to_ns)


def predict_floored(objects: Objects, stamps_ns: npt.NDArray[np.int64], to_ns: int) -> Objects:
    """Over whole steps of 100 ms, as Select2Drive does."""
    steps = (to_ns - stamps_ns) // 100_000_000
    return moved(objects, np.asarray(steps * 0.1, np.float64), to_ns)


def keep_stale(objects: Objects, stamps_ns: npt.NDArray[np.int64], to_ns: int) -> Objects:
    """As they were told."""
    return objects.derived(stamp_ns=to_ns)


ALIGN: dict[str, Align] = {
    "predict": predict, "floored": predict_floored, "stale": keep_stale,
}  # fmt: skip
