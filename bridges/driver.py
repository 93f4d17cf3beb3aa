"""A driver by rule: it stops before the place where a predicted object crosses its path.

Every object moves on with its velocity for four seconds; one whose velocity may as well be none
stands. Where it comes within the ego's width and
a margin of the path, the path is taken from then until it leaves. The ego would be there at the
same time if it went on at its cruising speed: then it drives only as fast as lets it stop before.
The margin grows with the object's covariance, up to 0.8 m. It is no careful driver: it slows down
for what it knows of, not for what a corner might hide.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.objects import Objects

HORIZON_S, TICK_S = 4.0, 0.1
COMFORT = 4.0
"""m/s² that it brakes with; a stronger brake makes up for what it learns late."""
MARGIN_M, MOST_MARGIN_M = 0.3, 0.8
STAND_OFF_M = 2.0
SURE = 0.35
"""Quality under which an object is not acted upon."""
SLACK_S = 0.6
"""Between one leaving a place and the other coming to it."""


@dataclass(frozen=True, slots=True, eq=False)
class EgoState:
    """position: (2,) m, of the middle. speed: m/s. size: (2,) m, length and width."""

    position: FloatArray
    speed: float
    size: FloatArray


def drive(objects: Objects, ego: EgoState, path: FloatArray, cruise_mps: float) -> float:
    """The speed to go at, m/s.

    objects: at the moment of ``ego``, without the ego. path: (K, 2) m, what it follows.
    """
    sure = objects.selected(objects.quality >= SURE)
    if not len(sure):
        return cruise_mps
    times = np.arange(0.0, HORIZON_S + TICK_S / 2, TICK_S)
    moves = _moves(sure)
    moved = sure.velocities[:, None, :2] * moves[:, None, None] * times[:, None]
    points = sure.positions[:, None, :2] + moved  # (N, T, 2)
    along, aside, turn = _on_path(points.reshape(-1, 2), path)
    along, aside, turn = (a.reshape(points.shape[:2]) for a in (along, aside, turn))
    here = float(_on_path(ego.position[None], path)[0][0])

    yaw = np.where(np.isnan(sure.yaws), 0.0, sure.yaws)[:, None] - turn
    length, width = np.maximum(sure.sizes[:, :2], 0.5).T[..., None]
    wide = (np.abs(length * np.sin(yaw)) + np.abs(width * np.cos(yaw))) / 2
    deep = (np.abs(length * np.cos(yaw)) + np.abs(width * np.sin(yaw))) / 2
    margin = np.minimum(MARGIN_M + _sigma(sure, times * moves[:, None]), MOST_MARGIN_M)
    taken = np.abs(aside) < wide + ego.size[1] / 2 + margin

    half = ego.size[0] / 2
    entry, leaving = along - deep - half, along + deep + half
    arrives = here + _reach(ego.speed, cruise_mps, times)
    slack = SLACK_S * max(ego.speed, 2.0)
    meets = taken & (arrives >= entry - slack) & (arrives <= leaving + slack)
    ahead = taken & (entry > here - 1.0)
    concerned = (meets & ahead).any(axis=1)
    if not concerned.any():
        return cruise_mps
    nearest = np.where(taken & ahead, entry, np.inf)[concerned].min()
    room = max(nearest - STAND_OFF_M - here, 0.0)
    return float(min(cruise_mps, np.sqrt(2 * COMFORT * room)))


def _reach(speed: float, cruise: float, times: FloatArray) -> FloatArray:
    """(T,) m driven, speeding up to ``cruise`` at 2 m/s²."""
    pace = np.minimum(speed + 2.0 * times, max(cruise, speed))
    steps = np.concatenate([[0.0], (pace[1:] + pace[:-1]) / 2 * np.diff(times)])
    return np.cumsum(steps)


def _moves(objects: Objects) -> npt.NDArray[np.bool_]:
    """(N,) who is surely under way: above 0.4 m/s and twice its standard deviation."""
    speed = np.hypot(objects.velocities[:, 0], objects.velocities[:, 1])
    variance = np.maximum(objects.covariances[:, 3, 3], objects.covariances[:, 4, 4])
    least: FloatArray = np.maximum(0.4, 2 * np.sqrt(np.maximum(variance, 0.0)))
    return speed > least


def _sigma(objects: Objects, t: FloatArray) -> FloatArray:
    """(N, T) m: standard deviation of a position, the larger of x and y, carried on by ``t``."""
    P = objects.covariances
    spread = [
        P[:, k, k, None] + 2 * t * P[:, k, k + 3, None] + t**2 * P[:, k + 3, k + 3, None]
        for k in (0, 1)
    ]
    sigma: FloatArray = np.sqrt(np.maximum(np.maximum(*spread), 0.0))
    return sigma


def _on_path(points: FloatArray, path: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Per point (M,): m along the path, m to its left, and the path's heading there in rad."""
    start, step = path[:-1], np.diff(path, axis=0)
    length = np.linalg.norm(step, axis=1)
    unit = step / length[:, None]
    rel = points[:, None] - start[None]
    ahead = np.clip((rel * unit).sum(-1), 0, length)
    apart = np.linalg.norm(rel - ahead[..., None] * unit, axis=2)
    piece, row = apart.argmin(axis=1), np.arange(len(points))
    before = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    aside = unit[piece, 0] * rel[row, piece, 1] - unit[piece, 1] * rel[row, piece, 0]
    heading = np.arctan2(unit[piece, 1], unit[piece, 0])
    return before[piece] + ahead[row, piece], aside, heading
