"""How much an object matters to a request: near the corridor, when it will be driven or flown."""

import numpy as np

from comms.request import Plan, Sight
from pipeline.box import FloatArray
from pipeline.objects import Objects

REACH_M = 6.0
"""Sigma of what still matters beside the corridor."""
SLACK_S = 2.0
"""Sigma of the time by which an object and the receiver may miss each other and still matter."""
CERTAIN_M = 3.0
"""So far inside its free view, the receiver sees an object itself."""


def relevance(objects: Objects, plan: Plan, now_ns: int) -> FloatArray:
    """(N,) in 0 to 1: how near each object, as it moves, comes to the corridor and when.

    The place of an object at every time of the plan is held against the plan's place at every
    time; being there at another time counts less, the farther apart.
    """
    times = plan.times_s - (now_ns - plan.stamp_ns) * 1e-9
    ahead = times >= 0
    if not ahead.any() or not len(objects):
        return np.zeros(len(objects))
    times, path = times[ahead], plan.points[ahead]
    moved = objects.positions[:, None, :2] + times[:, None] * objects.velocities[:, None, :2]
    apart = np.linalg.norm(moved[:, :, None] - path, axis=3)  # (N, times, places)
    half = plan.width_m / 2 + np.minimum(objects.sizes[:, 0], 20.0) / 2
    beyond = np.maximum(apart - half[:, None, None], 0) / REACH_M
    miss = (times[:, None] - times) / SLACK_S
    return np.asarray(np.exp(-0.5 * (beyond**2 + miss**2)).max(axis=(1, 2)))


def unseen(objects: Objects, sight: Sight | None) -> FloatArray:
    """(N,) in 0 to 1: how likely it is that the receiver does not see each object itself."""
    if sight is None:
        return np.ones(len(objects))
    inside = sight.margins(objects.positions[:, :2])
    return np.asarray(1 - np.clip(inside / CERTAIN_M, 0, 1))
