"""Who is where in a MuJoCo model of a town, and a place in it for every body that moves.

Places are for a class, a size (to 5 cm) and a shape; who leaves gives its place to the next of its
kind. Where no place is left the model is built anew with more of them, and ``version`` rises.
"""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

from bridges.actors import Building, Snapshot
from bridges.bodies import paint_of, shape_of, shapes_of
from bridges.mujoco_gl import load_mujoco
from bridges.mujoco_model import HIDDEN, PER_BODY, Kind, build, shade_positions
from bridges.roads import Roads
from bridges.simulator import Moment
from bridges.town import town_meshes
from pipeline.box import FloatArray
from pipeline.errors import InputError

MOST_BODIES = 4000
_STEP_M = 0.05


class MujocoScene:
    """The model of a town and who is in it.

    model, data: MuJoCo's, from the first ``put`` on; others after ``version`` has risen.
    """

    def __init__(
        self, buildings: tuple[Building, ...], roads: Roads, trees: int, seed: int
    ) -> None:
        self._mujoco: Any = load_mujoco()
        rng = np.random.default_rng([seed, 0x3A])
        self._still = town_meshes(buildings, roads, trees, rng)
        self._places: Counter[Kind] = Counter()
        self._ids = np.zeros(0, np.int32)
        self._slots: dict[int, int] = {}
        self.version = 0

    @property
    def bodies(self) -> int:
        """How many may be there at once."""
        return len(self._kinds)

    def body_id(self, actor_id: int) -> int:
        """MuJoCo's number of an actor's body; -1: it is not there."""
        slot = self._slots.get(actor_id)
        return -1 if slot is None else self._first_body + slot

    def geoms_of(self, actor_id: int) -> npt.NDArray[np.int64]:
        """MuJoCo's numbers of an actor's geoms."""
        slot = self._slots.get(actor_id)
        if slot is None:
            return np.zeros(0, np.int64)
        first = self._first_geom + slot * PER_BODY
        return np.arange(first, first + PER_BODY)

    def owners(self) -> npt.NDArray[np.int32]:
        """(G,) the actor that each geom belongs to; 0: nobody's."""
        owners = np.zeros(self.model.ngeom, np.int32)
        for actor_id, slot in self._slots.items():
            first = self._first_geom + slot * PER_BODY
            owners[first : first + PER_BODY] = actor_id
        return owners

    def put(self, moment: Moment) -> None:
        """Move every body to where its actor is.

        Raises:
            InputError: more bodies than a model may have.
        """
        if not self.version or not np.array_equal(moment.actors.ids, self._ids):
            self._assign(moment)
        rows = self._rows
        self.data.mocap_pos[rows] = moment.poses[:, :3, 3]
        self.data.mocap_quat[rows] = quaternions(moment.poses[:, :3, :3])
        shades = rows + self.bodies
        self.data.mocap_pos[shades] = shade_positions(moment.poses[:, :3, 3])
        self.data.mocap_quat[shades, 0] = np.cos(moment.actors.yaws / 2)
        self.data.mocap_quat[shades, 3] = np.sin(moment.actors.yaws / 2)
        self._mujoco.mj_kinematics(self.model, self.data)

    def _assign(self, moment: Moment) -> None:
        actors = moment.actors
        ids, kinds = actors.ids.tolist(), _kinds(actors)
        there = set(ids)
        for actor_id in [i for i in self._slots if i not in there]:
            self._free[self._kinds[self._slots[actor_id]]].append(self._slots[actor_id])
            slot = self._slots.pop(actor_id)
            self.data.mocap_pos[[slot, slot + self.bodies]] = HIDDEN
        new = [(i, k) for i, k in zip(ids, kinds, strict=True) if i not in self._slots]
        wanted = Counter(k for _, k in new)
        if not self.version or any(n > len(self._free[k]) for k, n in wanted.items()):
            self._grow(Counter(kinds))
            new = list(zip(ids, kinds, strict=True))
        for actor_id, kind in new:
            slot = self._slots[actor_id] = self._free[kind].pop()
            geom = self._first_geom + slot * PER_BODY
            self.model.geom_rgba[geom] = paint_of(kind[0], actor_id)
        self._ids = actors.ids.copy()
        self._rows = np.array([self._slots[i] for i in ids], np.int64)

    def _grow(self, wanted: Counter[Kind]) -> None:
        """Places for those. Where it happens again, some more of each, so it is seldom."""
        places = self._places.copy()
        if self.version:
            for kept in places:
                places[kept] = max(places[kept], int(np.ceil(1.5 * wanted[kept])))
        for (kind, size, shape), count in wanted.items():
            before = places[kind, size, shape]
            if count <= before:
                continue
            places[kind, size, shape] = max(count, 2 * before)
            # Where new ones come, the next may have another shape.
            for other in range(shapes_of(kind) if self.version else 0):
                places[kind, size, other] = max(places[kind, size, other], 1)
        if places.total() > MOST_BODIES:
            places = wanted
        if places.total() > MOST_BODIES:
            raise InputError(
                f"{places.total()} bodies move here, a scene holds {MOST_BODIES}: "
                "take fewer vehicles or people"
            )
        self._places = places
        self._build()
        self.version += 1

    def _build(self) -> None:
        kinds = [k for k, count in self._places.items() for _ in range(count)]
        self.model = build(self._still, kinds)
        self.data = self._mujoco.MjData(self.model)
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)
        self._kinds = kinds
        self._free: defaultdict[Kind, list[int]] = defaultdict(list)
        for n in reversed(range(len(kinds))):
            self._free[kinds[n]].append(n)
        self._slots = {}
        self._rows = np.zeros(0, np.int64)
        self._first_body: int = self.model.nbody - 2 * len(kinds)
        self._first_geom: int = self.model.ngeom - (PER_BODY + 1) * len(kinds)


def _kinds(actors: Snapshot) -> list[Kind]:
    """Of each actor; sizes are rounded."""
    rounded = np.round(np.clip(np.round(actors.sizes / _STEP_M), 1, 2000) * _STEP_M, 2)
    return [
        (kind, (size[0], size[1], size[2]), shape_of(kind, actor_id))
        for kind, size, actor_id in zip(
            actors.classes.tolist(), rounded.tolist(), actors.ids.tolist(), strict=True
        )
    ]


def quaternions(turns: FloatArray) -> FloatArray:
    """(N, 4) w x y z, as MuJoCo has them, of rotations (N, 3, 3) that do not lie on a side."""
    r = turns
    w = 1 + r[:, 0, 0] + r[:, 1, 1] + r[:, 2, 2]
    z = 1 - r[:, 0, 0] - r[:, 1, 1] + r[:, 2, 2]
    a, b, c = r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]
    d, e = r[:, 0, 2] + r[:, 2, 0], r[:, 2, 1] + r[:, 1, 2]
    # Then w or z is well above 0.
    by_w, by_z = np.stack([w, a, b, c], axis=1), np.stack([c, d, e, z], axis=1)
    found = np.where((w >= z)[:, None], by_w, by_z)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return found
