"""The kinematic town's streets: a grid of crossings, lanes between them, and turns.

Traffic keeps right. A street's cross-section, in meters from its middle: a lane at 1.75, a cycle
strip at 4.25, parked vehicles at 6.2, the sidewalk at 9.5, houses from 11.5 on. A crossing is a
square of half side 11; a turn in it is a quarter of a circle.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridges.actors import Building
from bridges.footprints import rectangle
from pipeline.box import FloatArray

LANE, STRIP, PARKED, SIDEWALK, WALL = 1.75, 4.25, 6.2, 9.5, 11.5
HALF = 11.0
"""Half side of a crossing."""
SLOT = 6.5
"""Length of a parking place; people cross between two of them."""
FIRST_SLOT = HALF + 8.0
"""From the crossing's middle."""
SIDES = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
"""East, north, west, south."""

IntArray = npt.NDArray[np.int64]


def right_of(direction: FloatArray) -> FloatArray:
    """(..., 2) → the same turned clockwise."""
    return np.stack([direction[..., 1], -direction[..., 0]], axis=-1)


@dataclass(frozen=True, eq=False)
class Streets:
    """E directed lanes of a town of ``blocks`` × ``blocks`` blocks.

    origins: (E, 2) where a lane begins, behind a crossing. directions: (E, 2) unit. length: m of
    each. ends: (E,) the crossing it leads to. turns: (E, 3) the lane that follows straight on,
    left and right; -1: none.
    """

    blocks: int
    pitch: float
    origins: FloatArray
    directions: FloatArray
    ends: IntArray
    turns: IntArray

    @property
    def length(self) -> float:
        return self.pitch - 2 * HALF

    @property
    def crossings(self) -> int:
        return (self.blocks + 1) ** 2

    def place(self, lane: IntArray, turn: IntArray, s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points (N, 2) and unit headings (N, 2) at ``s`` m along a lane and the turn behind it."""
        forward, right = self.directions[lane], right_of(self.directions[lane])
        along = np.minimum(s, self.length)
        point = self.origins[lane] + forward * along[:, None]
        rest, curvature = s - along, CURVATURE[turn]
        angle = rest * curvature
        straight = turn == 0
        safe = np.where(straight, 1.0, curvature)
        ahead = np.where(straight, rest, np.sin(angle) / safe)
        aside = np.where(straight, 0.0, (1 - np.cos(angle)) / safe)
        point = point + forward * ahead[:, None] - right * aside[:, None]
        heading = forward * np.cos(angle)[:, None] - right * np.sin(angle)[:, None]
        return point, heading


CURVATURE = np.array([0.0, 1 / (HALF + LANE), -1 / (HALF - LANE)])
"""Straight, left, right; 1/m."""
TURN_LENGTH = np.array([2 * HALF, np.pi / 2 * (HALF + LANE), np.pi / 2 * (HALF - LANE)])


def make_streets(blocks: int, pitch: float) -> Streets:
    """A grid whose south-western crossing is at 0, 0."""
    side = blocks + 1
    found: dict[tuple[int, int, int], int] = {}
    for i in range(side):
        for j in range(side):
            for k, (dx, dy) in enumerate(SIDES.astype(int).tolist()):
                if 0 <= i + dx < side and 0 <= j + dy < side:
                    found[i, j, k] = len(found)
    keys = np.array(list(found))
    directions = SIDES[keys[:, 2]]
    ends = keys[:, :2] + directions.astype(int)
    turns = np.array(
        [
            [found.get((i, j, (k + change) % 4), -1) for change in (0, 1, 3)]
            for (i, j), k in zip(ends.tolist(), keys[:, 2].tolist(), strict=True)
        ]
    )
    origins = keys[:, :2] * pitch + directions * HALF + right_of(directions) * LANE
    return Streets(blocks, pitch, origins, directions, ends[:, 0] * side + ends[:, 1], turns)


def parking(streets: Streets) -> tuple[FloatArray, FloatArray]:
    """Middles (P, 2) and yaws (P,) of every parking place, on the right of each lane."""
    count = int((streets.length - 16) // SLOT)
    along = FIRST_SLOT - HALF + SLOT * (np.arange(count) + 0.5)
    forward = streets.directions[:, None]
    middles = streets.origins[:, None] + forward * along[:, None]
    middles = middles + right_of(forward) * (PARKED - LANE)
    yaws = np.arctan2(forward[..., 1], forward[..., 0]) + np.zeros((1, count))
    return middles.reshape(-1, 2), yaws.reshape(-1)


def houses(streets: Streets, rng: np.random.Generator) -> tuple[Building, ...]:
    """One to four houses a block, up to the corner, with alleys, yards and a few empty lots."""
    made = []
    half = streets.pitch / 2 - WALL
    for i in range(streets.blocks):
        for j in range(streets.blocks):
            middle = (np.array([i, j]) + 0.5) * streets.pitch
            cut = rng.uniform(-0.3, 0.3, 2) * half
            alley = rng.uniform(1.5, 4.0, 2)
            for west in (True, False):
                for south in (True, False):
                    if rng.random() < 0.2:
                        continue
                    first, last = np.array([west, south]), ~np.array([west, south])
                    low = np.where(first, -half, cut + alley)
                    high = np.where(last, half, cut - alley)
                    inset = rng.uniform(0, 3, 2) * (rng.random(2) < 0.5)
                    low, high = low + inset * first, high - inset * last
                    height = float(rng.uniform(6, 22))
                    made.append(Building(rectangle(middle + low, middle + high), height))
    return tuple(made)
