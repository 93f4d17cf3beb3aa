"""Traffic as V2X scenes need it: who is where, how fast, how large, and between which houses.

What every world answers is ``TrafficWorld``: the kinematic town (bridges/traffic.py) and SUMO
(bridges/sumo.py) do. Frames: x east, y north, z up, meters; yaw from x, counter-clockwise. All of
it is simulated, and the ground is flat.
"""

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bridges.footprints import area
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

MAX_CORNERS = 256
MAX_PLAN_S = 20.0
BODY: dict[int, tuple[float, float, float]] = {
    ObjectClass.PERSON: (0.5, 0.6, 1.72),
    ObjectClass.CYCLIST: (1.8, 0.65, 1.75),
    ObjectClass.CAR: (4.5, 1.8, 1.5),
    ObjectClass.TRUCK: (8.5, 2.45, 3.5),
    ObjectClass.BUS: (12.0, 2.55, 3.2),
    ObjectClass.UAV: (0.9, 0.9, 0.3),
}
"""m, length, width and height of actors that SUMO does not give."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """N actors at ``stamp_ns``, exactly as they are.

    ids: (N,) int32 > 0, the same actor's in every snapshot, in rising order. classes: (N,) uint8,
    ``ObjectClass``. positions: (N, 3) m, of the body's center. velocities: (N, 3) m/s.
    yaws: (N,) rad. sizes: (N, 3) m: length, width, height. equipped: (N,) bool, who takes part
    in V2X.
    """

    stamp_ns: int
    ids: npt.NDArray[np.int32]
    classes: npt.NDArray[np.uint8]
    positions: FloatArray
    velocities: FloatArray
    yaws: FloatArray
    sizes: FloatArray
    equipped: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, actor_id: int) -> int:
        """Where an actor stands in the arrays.

        Raises:
            InputError: no such actor now.
        """
        found = np.flatnonzero(self.ids == actor_id)
        if not len(found):
            raise InputError(f"actor {actor_id} is not in the scene now; ask for one of its ids")
        return int(found[0])

    def selected(self, rows: npt.NDArray[np.generic]) -> "Snapshot":
        """Some of them; rows: (N,) bool, or indices."""
        return Snapshot(
            self.stamp_ns, self.ids[rows], self.classes[rows], self.positions[rows],
            self.velocities[rows], self.yaws[rows], self.sizes[rows], self.equipped[rows],
        )  # fmt: skip


def joined(parts: list[Snapshot]) -> Snapshot:
    """Actors of one moment in one snapshot, in rising order of their ids, which must differ."""
    arrays = [np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Snapshot)[1:]]
    whole = Snapshot(parts[0].stamp_ns, *arrays)
    return whole.selected(np.argsort(whole.ids, kind="stable"))


@dataclass(frozen=True, slots=True, eq=False)
class Building:
    """A house: walls straight up from a simple polygon.

    footprint: (K, 2) m, counter-clockwise, not closed, need not be convex. height: m.

    Raises:
        InputError: under 3 or over 256 corners, a value that is not finite, no area, or clockwise.
    """

    footprint: FloatArray
    height: float

    def __post_init__(self) -> None:
        shape = self.footprint.shape
        if len(shape) != 2 or shape[1] != 2 or not 3 <= shape[0] <= MAX_CORNERS:
            raise InputError(f"Building.footprint: shape {shape}; give (3 to {MAX_CORNERS}, 2)")
        if not (np.isfinite(self.footprint).all() and 0 < self.height < np.inf):
            raise InputError("Building: a corner or the height is not finite, or no height")
        if area(self.footprint) <= 0:
            raise InputError("Building.footprint has no area or runs clockwise: turn it round")


class TrafficWorld(Protocol):
    """A seeded world that moves in fixed steps; time begins at 0."""

    buildings: tuple[Building, ...]
    step_s: float

    def snapshot(self) -> Snapshot:
        """The actors now."""
        ...

    def step(self) -> Snapshot:
        """``step_s`` on; the actors then."""
        ...

    def plan(self, actor_id: int, horizon_s: float) -> tuple[FloatArray, FloatArray]:
        """Where an actor means to be: seconds from now (K,), the first 0, and points (K, 2) m.

        Raises:
            InputError: no such actor, or a horizon that is not in 0 to 20 s.
        """
        ...

    def close(self) -> None:
        """Give back what the world holds; it is not stepped again."""
        ...


def checked_horizon(horizon_s: float) -> float:
    """A plan's horizon.

    Raises:
        InputError: not in 0 to 20 s.
    """
    if not 0 <= horizon_s <= MAX_PLAN_S:
        raise InputError(f"horizon_s {horizon_s:g} is out of range, allowed is 0 to {MAX_PLAN_S:g}")
    return horizon_s
