"""A scene in the few numbers that the shipped decoder reads: small integers, batches at once.

Distances along the way are told in seconds at the platform's speed limit, speeds in sixteenths of
that limit, distances across in corridors. So one decoder serves a UAV at 8 m/s and a car at 32 m/s;
what the platform can do stands in two numbers, seconds to stop from the limit and seconds to move
aside by a corridor. Whatever the decoder is told, the look-ahead that teaches it is told the same.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llm_edge.scene import Mission, Scene, TargetState
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass

Ints = npt.NDArray[np.int64]

SLOTS = 8
"""Objects and blind spots that a coded scene holds; the first is the mission's target if it is
known."""
RUNGS = 16
"""Speeds are told in sixteenths of the limit."""
STOP_S = np.array([1.0, 1.5, 2.5, 4.0, 6.0, 10.0])
SHIFT_S = np.array([1.0, 2.0, 3.5, 6.0])
_NEAR = [0.06, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 1.8, 2.1, 2.5, 3.0, 3.5, 4.0]
GAP_S = np.array([*(-v for v in reversed(_NEAR)), 0.0, *_NEAR, 5.0, 6.5, 8.0])
"""From end to end along the way; 0 where both overlap."""
_OUT = [*np.arange(0.25, 2.6, 0.25), 3.0, 3.5, 4.0, 5.0, 6.0, 8.0]
SIDE = np.array([*(-v for v in reversed(_OUT)), 0.0, *_OUT])
"""Corridors, from middle to middle, to the left."""
_FAST = [0.1, 0.25, 0.45, 0.7, 1.0, 1.4, 2.0, 3.0]
DRIFT = np.array([*(-v for v in reversed(_FAST)), 0.0, *_FAST])
"""Corridors a second, to the left."""
ALONG = np.arange(-RUNGS, RUNGS + 5)
"""Speed over ground along the way, sixteenths."""
SPREAD = np.array([0.08, 0.25, 0.6])
"""Standard deviation of a position, corridors."""
LONG_S = np.array([0.15, 0.35, 0.65, 1.1, 2.0, 4.0])
"""Lengths of object and ego together, seconds, rounded up; the last is all beyond it as well."""
WIDE = np.array([0.5, 0.8, 1.0, 1.4, 2.1, 3.5, 6.0])
"""Widths of both together, corridors, rounded up; the last is all beyond it as well."""
BLIND = len(ObjectClass)
"""In place of a class: here the view ends."""
FAR_S, BEHIND_S, ASIDE = 9.0, 4.5, 9.0
"""What is further away cannot matter within the look-ahead."""

STATES = ("none", "tracked", "uncertain", "lost_left", "lost_ahead", "lost_right")


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """B scenes; each integer is an index into the list above that has its name.

    stop, shift, mission, cruise, state, link, left, right, speed: (B,); ``state`` into ``STATES``,
    ``cruise`` and ``speed`` in sixteenths, ``left`` and ``right`` 1 where open.
    count: (B,) how many of the slots are taken, from the first.
    kind: (B, 8) object class or ``BLIND``. told: (B, 8) 0 or 1.
    gap, side, along, drift, spread, long, wide: (B, 8).
    rows: (B, 8) which object of the scene it is; −1 for a blind spot.
    """

    stop: Ints
    shift: Ints
    mission: Ints
    cruise: Ints
    state: Ints
    link: Ints
    left: Ints
    right: Ints
    speed: Ints
    count: Ints
    kind: Ints
    told: Ints
    gap: Ints
    side: Ints
    along: Ints
    drift: Ints
    spread: Ints
    long: Ints
    wide: Ints
    rows: Ints

    def __len__(self) -> int:
        return len(self.stop)

    @property
    def taken(self) -> npt.NDArray[np.bool_]:
        """(B, 8) slots that hold something."""
        return np.asarray(np.arange(SLOTS) < self.count[:, None])

    @property
    def followed(self) -> npt.NDArray[np.bool_]:
        """(B,) whether the first slot is the mission's target."""
        known = (self.state == 1) | (self.state == 2)
        return np.asarray(known & (self.mission == Mission.FOLLOW) & (self.count > 0))


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """B scenes of N objects in the decoder's units before they are rounded.

    stop_s, shift_s, cruise, speed: (B,), speeds as shares of the limit. The other (B,) arrays as in
    ``Coded``. present: (B, N) bool. The other (B, N) arrays: gap_s from end to end, side, along (a
    share of the limit), drift, spread, length_s and width of object and ego together.
    """

    stop_s: FloatArray
    shift_s: FloatArray
    mission: Ints
    cruise: FloatArray
    state: Ints
    link: Ints
    left: Ints
    right: Ints
    speed: FloatArray
    present: npt.NDArray[np.bool_]
    kind: Ints
    told: Ints
    gap_s: FloatArray
    side: FloatArray
    along: FloatArray
    drift: FloatArray
    spread: FloatArray
    length_s: FloatArray
    width: FloatArray
    target: Ints
    """(B,) column of the mission's target, −1 where it is not among them."""


def measures_of(scene: Scene) -> Measures:
    """One scene in the decoder's units."""
    p = scene.platform
    n, m = len(scene), len(scene.blind)
    limit, corridor = p.limit_mps, p.corridor_m

    def with_blind(values: npt.ArrayLike, blind: npt.ArrayLike = 0.0) -> FloatArray:
        made = np.empty((1, n + m))
        made[0, :n], made[0, n:] = values, blind
        return made

    positions = np.concatenate([scene.positions, scene.blind])
    length = with_blind(scene.sizes[:, 0] + p.size_m[0], p.size_m[0])
    between = np.abs(positions[:, 0]) - length[0] / 2
    gap = np.where(between > 0, np.sign(positions[:, 0]) * between, 0.0)
    where = np.flatnonzero(scene.ids == scene.target)
    state = int(scene.target_state)
    if scene.target_state is TargetState.LOST:
        state = STATES.index(("lost_right", "lost_ahead", "lost_left")[scene.target_side + 1])
    elif scene.mission is not Mission.FOLLOW:
        state = 0
    elif state and not len(where):
        state = STATES.index("lost_ahead")
    elif len(where) and not state:
        state = int(TargetState.TRACKED)

    def one(value: float) -> FloatArray:
        return np.array([value], np.float64)

    def whole(value: int) -> Ints:
        return np.array([value], np.int64)

    return Measures(
        stop_s=one(limit / p.brake_mps2), shift_s=one(p.shift_s), mission=whole(scene.mission),
        cruise=one(min(scene.cruise_mps / limit, 1.0)), state=whole(state), link=whole(scene.link),
        left=whole(scene.open_left), right=whole(scene.open_right),
        speed=one(scene.speed_mps / limit),
        present=np.ones((1, n + m), np.bool_),
        kind=with_blind(scene.classes, BLIND).astype(np.int64),
        told=with_blind(scene.told).astype(np.int64),
        gap_s=gap[None] / limit, side=positions[None, :, 1] / corridor,
        along=with_blind(scene.velocities[:, 0]) / limit,
        drift=with_blind(scene.velocities[:, 1]) / corridor,
        spread=with_blind(scene.sigmas) / corridor, length_s=length / limit,
        width=with_blind(scene.sizes[:, 1] + p.size_m[1], p.size_m[1]) / corridor,
        target=whole(int(where[0]) if state in (1, 2) and len(where) else -1),
    )  # fmt: skip


def coded(m: Measures) -> Coded:
    """Rounded, the most relevant objects only, the mission's target first.

    Relevant is who comes nearest and soonest if all go on as they do. What is dropped first is
    what stays furthest away, then what is over the number of slots.
    """
    order, count = _order(m)
    n = m.present.shape[1]
    columns = np.minimum(order, max(n - 1, 0))  # what is beyond stands in slots that are not taken
    batch = np.arange(len(order))[:, None]

    def slots(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values[batch, columns] if n else np.zeros(order.shape, values.dtype)

    taken = np.arange(SLOTS) < count[:, None]
    kind = slots(m.kind)

    def index(bins: FloatArray, values: FloatArray) -> Ints:
        return np.where(taken, _nearest(bins, slots(values)), 0)

    def at_least(bins: FloatArray, values: FloatArray) -> Ints:
        """Index of the first that is not more than a tenth too small."""
        return np.minimum(np.searchsorted(bins * 1.1, values), len(bins) - 1)

    speed = np.clip(np.rint(m.speed * RUNGS), 0, RUNGS).astype(np.int64)
    return Coded(
        stop=at_least(STOP_S, m.stop_s),
        shift=at_least(SHIFT_S, m.shift_s),
        mission=m.mission, cruise=np.clip(np.rint(m.cruise * RUNGS), 0, RUNGS).astype(np.int64),
        state=m.state, link=m.link, left=m.left, right=m.right, speed=speed, count=count,
        kind=np.where(taken, kind, 0), told=np.where(taken, slots(m.told), 0),
        gap=index(GAP_S, m.gap_s), side=index(SIDE, m.side), along=index(ALONG / RUNGS, m.along),
        drift=index(DRIFT, m.drift), spread=index(SPREAD, m.spread),
        long=np.where(taken, at_least(LONG_S, slots(m.length_s)), 0),
        wide=np.where(taken, at_least(WIDE, slots(m.width)), 0),
        rows=np.where(taken & (kind != BLIND), order, -1),
    )  # fmt: skip


def coded_scene(scene: Scene) -> Coded:
    """One scene, B = 1."""
    return coded(measures_of(scene))


_TIMES = np.linspace(0.0, 5.0, 11)


def _order(m: Measures) -> tuple[Ints, Ints]:
    """Columns (B, 8) by relevance, and how many of them (B,) are any."""
    relative = m.along - m.speed[:, None]
    center = m.gap_s + np.sign(m.gap_s) * m.length_s / 2
    ahead = np.abs(center[..., None] + relative[..., None] * _TIMES) - m.length_s[..., None] / 2
    aside = np.abs(m.side[..., None] + m.drift[..., None] * _TIMES)
    nearness = np.maximum(ahead, 0.0) + 0.3 * aside + 0.12 * _TIMES
    key = nearness.min(axis=-1, initial=np.inf)
    out = (m.gap_s > FAR_S) | (m.gap_s < -BEHIND_S) | (np.abs(m.side) > ASIDE)
    columns = np.arange(key.shape[1])
    wanted = columns == m.target[:, None]
    key = np.where(wanted, -1.0, np.where(out, np.inf, key))
    key = np.where(m.present, key, np.inf)
    if key.shape[1] < SLOTS:
        free = np.full((len(key), SLOTS - key.shape[1]), np.inf)
        key = np.concatenate([key, free], axis=1)
    order = np.argsort(key, axis=1, kind="stable")[:, :SLOTS]
    count = np.isfinite(np.take_along_axis(key, order, axis=1)).sum(axis=1)
    return order, count


def _nearest(bins: FloatArray, values: FloatArray) -> Ints:
    """Index of the nearest of ascending ``bins``."""
    middles = (bins[1:] + bins[:-1]) / 2
    return np.searchsorted(middles, values)
