"""A small flat world to decide in: one vehicle on a straight way of three corridors, others who
walk, ride and drive, houses that hide them.

x runs along the way, y to its left; the ego starts at 0 in the middle corridor. Nobody reacts to
the ego but drivers behind it, who brake. Five kinds of trouble, each drawn by a seed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from llm_edge.scene import LinkState, Mission, Platform
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

PLATFORMS = (
    Platform(limit_mps=14.0, brake_mps2=5.0, shift_s=2.0, corridor_m=3.2, size_m=(4.0, 1.8)),
    Platform(limit_mps=6.0, brake_mps2=3.0, shift_s=1.5, corridor_m=2.5, size_m=(1.0, 0.8)),
)
"""A car and a delivery robot; seeds take turns."""
CRUISE = 0.85
"""Of the limit."""
_SIZES = {
    ObjectClass.PERSON: (0.6, 0.6), ObjectClass.CYCLIST: (1.8, 0.7), ObjectClass.CAR: (4.4, 1.8),
    ObjectClass.OBSTACLE: (2.0, 1.6),
}  # fmt: skip
TARGET = 0
"""Row of the target, in worlds that have one."""


@dataclass
class World:
    """N others. kinds: ``ObjectClass``. places, speeds: (N, 2). begins_s: (N,) from when they move.
    yields: (N,) who brakes for the ego. equipped: (N,) of whom others tell. houses: (M, 4) x, y of
    the lower and upper corner. blind: (B, 2) where the view ends beside the way. turns: (at s, to
    y) of the target. hidden_s: (from, to) in which the target cannot be seen whatever the view.
    length_m: of the way, infinite where there is no end."""

    platform: Platform
    mission: Mission
    kinds: npt.NDArray[np.uint8]
    places: FloatArray
    speeds: FloatArray
    begins_s: FloatArray
    yields: npt.NDArray[np.bool_]
    equipped: npt.NDArray[np.bool_]
    length_m: float
    houses: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    blind: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    turns: tuple[tuple[float, float], ...] = ()
    hidden_s: tuple[float, float] = (np.inf, np.inf)
    link: LinkState = LinkState.GOOD
    loss: float = 0.1
    delay_s: float = 0.15

    @property
    def sizes(self) -> FloatArray:
        """(N, 2) extents along and across the way, of boxes that look where they go."""
        given = np.array([_SIZES[ObjectClass(k)] for k in self.kinds]).reshape(-1, 2)
        across = np.abs(self.speeds[:, 1]) > np.abs(self.speeds[:, 0])
        return np.where(across[:, None], given[:, ::-1], given)

    def velocities(self, t: float) -> FloatArray:
        """(N, 2) now."""
        return self.speeds * (t >= self.begins_s)[:, None]

    def advance(self, t: float, dt: float, ego: FloatArray, ego_mps: float) -> None:
        """Everybody but the ego, from ``t`` on; ego: (2,) its place."""
        for at, y in self.turns:
            if at <= t < at + 2.0:
                self.speeds[TARGET, 1] = (y - self.places[TARGET, 1]) / max(at + 2.0 - t, dt)
            elif t >= at + 2.0:
                self.speeds[TARGET, 1] = 0.0
        if self.yields.any():
            gap = ego[0] - self.places[:, 0] - self.platform.size_m[0]
            v = self.speeds[:, 0]
            beside = np.abs(self.places[:, 1] - ego[1]) < self.platform.corridor_m * 0.7
            brakes = self.yields & beside & (gap > -1) & (v > ego_mps)
            brakes &= gap < (v - ego_mps) ** 2 / 6 + v + 2
            self.speeds[:, 0] = np.where(brakes, np.maximum(v - 6 * dt, ego_mps), v)
        self.places = self.places + self.velocities(t) * dt

    def hides(self, eye: FloatArray) -> npt.NDArray[np.bool_]:
        """(N,) whom a house hides from (2,) eye."""
        if not len(self.houses):
            return np.zeros(len(self.places), np.bool_)
        ray = self.places - eye  # slab test of the way from the eye to each
        with np.errstate(divide="ignore", invalid="ignore"):
            low = (self.houses[:, None, :2] - eye) / ray
            high = (self.houses[:, None, 2:] - eye) / ray
        enter = np.nan_to_num(np.minimum(low, high), nan=-np.inf).max(axis=2)
        leave = np.nan_to_num(np.maximum(low, high), nan=np.inf).min(axis=2)
        return np.asarray(((enter <= leave) & (leave > 0) & (enter < 1)).any(axis=0))


def made(
    platform: Platform,
    mission: Mission,
    others: list[tuple[ObjectClass, float, float, float, float, float, bool, bool]],
    length_m: float,
) -> World:
    """others: kind, x, y, speed along, speed to the left, when it begins to move, whether it
    yields, whether others tell of it."""
    columns = list(zip(*others, strict=True)) if others else [()] * 8
    x, y, vx, vy = (np.array(c, np.float64) for c in columns[1:5])
    return World(
        platform, mission, np.array(columns[0], np.uint8), np.stack([x, y], axis=1),
        np.stack([vx, vy], axis=1), np.array(columns[5], np.float64),
        np.array(columns[6], np.bool_), np.array(columns[7], np.bool_), length_m,
    )  # fmt: skip


def _target_lost(rng: np.random.Generator, p: Platform) -> World:
    """The target changes corridors while something hides it, and may be out of view after that."""
    v, w = 0.6 * p.limit_mps, p.corridor_m
    at, side = rng.uniform(3, 6), rng.choice([-1.0, 1.0])
    others = [(ObjectClass.CYCLIST, 1.2 * p.limit_mps, 0.0, v, 0.0, 0.0, False, False)]
    if rng.random() < 0.5:  # somebody stands where one would search
        x = rng.uniform(9, 14) * v
        others.append((ObjectClass.OBSTACLE, x, side * w, 0.0, 0.0, 0.0, False, False))
    world = made(p, Mission.FOLLOW, others, np.inf)
    turns = ((at, side * w), (at + 8.0, 0.0))
    return replace(world, turns=turns, hidden_s=(at, at + rng.uniform(2.0, 3.5)))


def _crossing(rng: np.random.Generator, p: Platform) -> World:
    """Two to four who cross, timed to meet a vehicle that drives on."""
    others = []
    for k in range(rng.integers(2, 5)):
        kind, speed = [(ObjectClass.PERSON, 1.4), (ObjectClass.CYCLIST, 4.0),
                       (ObjectClass.CAR, 7.0)][rng.integers(3)]  # fmt: skip
        x, side = (4 + 5 * k + rng.uniform(-1, 1)) * CRUISE * p.limit_mps, rng.choice([-1.0, 1.0])
        apart = max(3.0 * speed, 2.5 * p.corridor_m)
        begin = x / (CRUISE * p.limit_mps) - apart / speed + rng.normal(0, 0.7)
        others.append((kind, x, side * apart, 0.0, -side * speed, begin, False, False))
    return made(p, Mission.GOTO, others, 24 * p.limit_mps)


def _obstacle(rng: np.random.Generator, p: Platform) -> World:
    """Things in the way, standing or slow, and traffic in the corridors beside and behind."""
    others = []
    for k in range(rng.integers(2, 4)):
        slow = rng.choice([0.0, 0.0, 0.3]) * p.limit_mps
        kind = ObjectClass.CYCLIST if slow else ObjectClass.OBSTACLE
        x = (5 + 7 * k + rng.uniform(-1, 1)) * 0.8 * p.limit_mps
        y = rng.choice([-1.0, 0.0, 0.0, 1.0]) * p.corridor_m if k else 0.0
        others.append((kind, x, y, slow, 0.0, 0.0, False, False))
    for side in (-1.0, 1.0):
        if rng.random() < 0.6:
            x, v = rng.uniform(-3, -0.8) * p.limit_mps, rng.uniform(0.9, 1.1) * p.limit_mps
            others.append((ObjectClass.CAR, x, side * p.corridor_m, v, 0.0, 0.0, True, False))
    return made(p, Mission.GOTO, others, 24 * p.limit_mps)


def _occluded(rng: np.random.Generator, p: Platform, told: bool = True) -> World:
    """Somebody steps out from behind a house when a vehicle that drives on gets there; at two more
    houses there is nobody."""
    houses, others, blind = [], [], []
    cruise, w = CRUISE * p.limit_mps, p.corridor_m
    stepping = rng.integers(3)
    for k in range(3):
        side, x = rng.choice([-1.0, 1.0]), (5 + 6 * k + rng.uniform(-1, 1)) * cruise
        near, far = side * 0.85 * w, side * (0.85 * w + 14)
        houses.append([x - 12, min(near, far), x, max(near, far)])
        blind.append([x, near])
        if k == stepping and rng.random() < (1.0 if told else 0.6):
            kind, speed = [(ObjectClass.PERSON, 1.6), (ObjectClass.CYCLIST, 3.5)][rng.integers(2)]
            apart = 0.85 * w + rng.uniform(4, 9)
            begin = (x + 1) / cruise - apart / speed + rng.normal(0, 0.4)
            others.append((kind, x + 1.0, side * apart, 0.0, -side * speed, begin, False, True))
    world = made(p, Mission.GOTO, others, 24 * p.limit_mps)
    return replace(world, houses=np.array(houses), blind=np.array(blind))


def _poor_link(rng: np.random.Generator, p: Platform) -> World:
    """The same houses, but hardly a message comes through, and late."""
    link = LinkState.POOR if rng.random() < 0.5 else LinkState.LOST
    loss = 0.85 if link is LinkState.POOR else 1.0
    return replace(_occluded(rng, p, told=False), link=link, loss=loss, delay_s=0.6)


KINDS: dict[str, Callable[[np.random.Generator, Platform], World]] = {
    "target-lost": _target_lost,
    "crossing": _crossing,
    "obstacle-ahead": _obstacle,
    "v2x-warning": _occluded,
    "poor-link": _poor_link,
}


def world_of(kind: str, seed: int) -> World:
    """The same world for the same seed.

    Raises:
        InputError: no such kind.
    """
    if kind not in KINDS:
        raise InputError(f"kind {kind[:40]!r} is none of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, list(KINDS).index(kind), 17])
    return KINDS[kind](rng, PLATFORMS[seed % len(PLATFORMS)])
