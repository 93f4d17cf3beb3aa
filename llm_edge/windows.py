"""When each object is in which corridor, and when the ego would be beside it, at each speed.

Arithmetic of which a small decoder makes mistakes and numpy makes none, so the scene tells it in
words beside the numbers that it follows from. An object is met where it is in the corridor while
the ego is beside it; whether it goes on as it does, and what follows from all of them together, is
left to the reader. Times in seconds from now, up to the look-ahead's horizon.
"""

import numpy as np
import numpy.typing as npt

from llm_edge import coding
from llm_edge.coding import Coded, Ints
from llm_edge.lookahead import (
    HORIZON_S,
    TICK_S,
    TIMES,
    ego_along,
    followed,
    outline,
    reacting,
    speeds_of,
    states,
    swept,
    traveled,
)
from pipeline.box import FloatArray

EDGES = np.array([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5])
SPANS: tuple[tuple[int, int], ...] = tuple(
    (i, j) for i in range(len(EDGES)) for j in range(i + 1, len(EDGES))
)
"""Windows from one edge to another; a window's index is its place here plus one, 0 is never."""
ROLES = ("in_straight", "in_left", "in_right", "at_up", "at_keep", "at_down", "at_stop")
_INDEX = np.zeros((len(EDGES), len(EDGES)), np.int64)
for _k, _span in enumerate(SPANS):
    _INDEX[_span] = _k + 1


def windows_of(scenes: Coded) -> Ints:
    """(B, 8, 7): in the three corridors, then beside the ego going up, keep, down and stop."""
    along, pace = (way[:, None] for way in ego_along(scenes, speeds_of(scenes)))
    x, y, vx, vy = (v[..., None, None] for v in states(scenes))
    gone = traveled(scenes)
    reach_x, reach_y = (r[..., None] for r in outline(scenes))
    aside = y + vy * gone  # (B, 8, T, 2)
    within = [swept(y - c, aside - c, reach_y).any(axis=-1) for c in (0.0, 1.0, -1.0)]
    ways = np.repeat((x + vx * gone)[:, :, None], 4, axis=2)
    behind = reacting(scenes)
    if behind.any():
        rows = np.nonzero(behind)
        brake = (1 / coding.STOP_S[scenes.stop[rows[0]]])[:, None, None]
        ego, speed = (np.broadcast_to(v, ways.shape[:-1])[rows] for v in (along, pace))
        near = np.ones(ways[rows].shape, np.bool_)
        ways[rows] = followed(ways[rows], brake, ego, speed, near)
    apart = ways - along[..., None]
    beside = swept(x[:, :, None], apart, reach_x[:, :, None]).any(axis=-1)
    hit = np.concatenate([np.stack(within, axis=2), beside], axis=2)  # (B, 8, 7, T)
    ever = hit.any(axis=-1)
    first = np.where(ever, TIMES[hit.argmax(axis=-1)] - TICK_S, np.inf)
    last = TIMES[len(TIMES) - 1 - hit[..., ::-1].argmax(axis=-1)]
    return _index(first, last)


def _index(start: FloatArray, end: FloatArray) -> Ints:
    """The smallest window that holds start to end; 0 where that is over or not within the
    horizon."""
    never: npt.NDArray[np.bool_] = ~(start < HORIZON_S) | (end <= 0)
    i = np.searchsorted(EDGES, np.clip(np.where(never, 0.0, start), 0, None), side="right") - 1
    j = np.searchsorted(EDGES, np.clip(np.where(never, 0.0, end), 0, HORIZON_S), side="left")
    i = np.minimum(i, len(EDGES) - 2)
    return np.where(never, 0, _INDEX[i, np.maximum(j, i + 1)])
