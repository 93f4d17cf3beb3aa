"""What cannot wait for the next decision in turn."""

import numpy as np
import numpy.typing as npt

from llm_edge.scene import Scene, TargetState

AHEAD_S, ASIDE = 5.0, 1.5
"""Seconds at the ego's speed, and corridors, within which somebody new is in the way."""
LEAST_MPS = 2.0


def urgent(before: Scene | None, now: Scene) -> str:
    """Why to decide at once, in a few words; empty where it can wait.

    before: the scene of the last decision; None: there is none.
    """
    if before is None:
        return "nothing decided yet"
    lost = TargetState.LOST
    if now.target_state is lost and before.target_state not in (lost, TargetState.NONE):
        return "target lost"
    new = ~np.isin(now.ids, before.ids) & now.told & _in_the_way(now)
    return "told of somebody in the way" if new.any() else ""


def _in_the_way(scene: Scene) -> npt.NDArray[np.bool_]:
    """(N,) ahead and near the corridor now, or in it by when the ego is there."""
    x, y = scene.positions.T
    speed = max(scene.speed_mps, LEAST_MPS)
    ahead = (x > 0) & (x < AHEAD_S * speed)
    there = y + scene.velocities[:, 1] * np.clip(x / speed, 0, AHEAD_S)
    width = ASIDE * scene.platform.corridor_m
    return np.asarray(ahead & ((np.minimum(np.abs(y), np.abs(there)) < width) | (y * there < 0)))
