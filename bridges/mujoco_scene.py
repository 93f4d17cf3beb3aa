"""A town as a MuJoCo model, and a place in it for every body that moves.

The still parts are one mesh for each texture. Bodies are mocap bodies of two meshes each, made for
their class and size (to 5 cm); who leaves gives its place to the next of its kind. Where no place
is left the model is compiled anew with more of them, and ``version`` rises.
"""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

from bridges.actors import Building, Snapshot
from bridges.bodies import body, paint_of, shape_of, shapes_of
from bridges.meshes import Mesh
from bridges.mujoco_gl import load_mujoco
from bridges.roads import Roads
from bridges.simulator import Moment
from bridges.surfaces import textures
from bridges.town import SHADE, SUN, town_meshes
from pipeline.box import FloatArray
from pipeline.errors import InputError

Kind = tuple[int, tuple[float, float, float], int]
"""Class, size, and which of several shapes."""
NEAR_M, FAR_M = 0.15, 1500.0
STILL, MOVING, SHADES = 0, 1, 2
"""Groups of geoms."""
MOST_BODIES = 4000
_STEP_M = 0.05
_HIDDEN = np.array([0.0, 0.0, -200.0])
_PER_BODY = 2


class MujocoScene:
    """The model of a town and who is in it.

    model, data: MuJoCo's, from the first ``put`` on; others after ``version`` has risen.
    """

    def __init__(
        self, buildings: tuple[Building, ...], roads: Roads, trees: int, shadows: bool, seed: int
    ) -> None:
        self._mujoco: Any = load_mujoco()
        self._shadows = shadows
        rng = np.random.default_rng([seed, 0x3A])
        self._still = town_meshes(buildings, roads, trees, rng)
        self._places: Counter[Kind] = Counter()
        self._ids = np.zeros(0, np.int32)
        self._slots: dict[int, int] = {}
        self.version = 0

    @property
    def bodies(self) -> int:
        """How many may be there at once."""
        return len(self._free_kinds)

    def body_id(self, actor_id: int) -> int:
        """MuJoCo's number of an actor's body; -1: it is not there."""
        slot = self._slots.get(actor_id)
        return -1 if slot is None else self._first_body + slot

    def geoms_of(self, actor_id: int) -> npt.NDArray[np.int64]:
        """MuJoCo's numbers of an actor's geoms."""
        slot = self._slots.get(actor_id)
        if slot is None:
            return np.zeros(0, np.int64)
        first = self._first_geom + slot * _PER_BODY
        return np.arange(first, first + _PER_BODY)

    def owners(self) -> npt.NDArray[np.int32]:
        """(G,) the actor that each geom belongs to; 0: nobody's."""
        owners = np.zeros(self.model.ngeom, np.int32)
        for actor_id, slot in self._slots.items():
            first = self._first_geom + slot * _PER_BODY
            owners[first : first + _PER_BODY] = actor_id
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
        self._mujoco.mj_kinematics(self.model, self.data)

    def _assign(self, moment: Moment) -> None:
        actors = moment.actors
        ids, kinds = actors.ids.tolist(), _kinds(actors)
        there = set(ids)
        for actor_id in [i for i in self._slots if i not in there]:
            self._free[self._free_kinds[self._slots[actor_id]]].append(self._slots[actor_id])
            self.data.mocap_pos[self._slots.pop(actor_id)] = _HIDDEN
        new = [(i, k) for i, k in zip(ids, kinds, strict=True) if i not in self._slots]
        wanted = Counter(k for _, k in new)
        if not self.version or any(n > len(self._free[k]) for k, n in wanted.items()):
            self._grow(Counter(kinds))
            new = list(zip(ids, kinds, strict=True))
        for actor_id, kind in new:
            slot = self._slots[actor_id] = self._free[kind].pop()
            geom = self._first_geom + slot * _PER_BODY
            self.model.geom_rgba[geom] = paint_of(kind[0], actor_id)
        self._ids = actors.ids.copy()
        self._rows = np.array([self._slots[i] for i in ids], np.int64)

    def _grow(self, wanted: Counter[Kind]) -> None:
        """Places for those; twice as many as before where more are needed, so it is seldom."""
        places = self._places.copy()
        for (kind, size, shape), count in wanted.items():
            before = places[kind, size, shape]
            if count > before:
                places[kind, size, shape] = max(count, 2 * before)
            for other in range(shapes_of(kind)):  # whoever comes next may look like that
                places[kind, size, other] = max(places[kind, size, other], 1)
        if places.total() > MOST_BODIES:
            places = wanted
        if places.total() > MOST_BODIES:
            raise InputError(
                f"{places.total()} bodies move here, a scene holds {MOST_BODIES}: "
                "take fewer vehicles or people"
            )
        self._places = places
        self._compile()
        self.version += 1

    # The model.

    def _compile(self) -> None:
        mj = self._mujoco
        spec = mj.MjSpec()
        spec.stat.extent, spec.stat.center = 1.0, np.zeros(3)
        spec.visual.map.znear, spec.visual.map.zfar = NEAR_M, FAR_M
        spec.visual.map.fogstart, spec.visual.map.fogend = 150.0, 1400.0
        spec.visual.rgba.fog = (0.72, 0.79, 0.87, 1.0)
        spec.visual.quality.shadowsize = 4096 if self._shadows else 0
        spec.visual.headlight.active = 0
        spec.worldbody.add_light(
            type=mj.mjtLightType.mjLIGHT_DIRECTIONAL, dir=SUN, pos=-150 * SUN,
            castshadow=self._shadows, diffuse=[0.72, 0.70, 0.66], ambient=[0.42, 0.44, 0.48],
            specular=[0.1] * 3,
        )  # fmt: skip
        self._materials(spec)
        # What lies on top is drawn first: what is hidden then costs no texture.
        for name, mesh in reversed(self._still.items()):
            _add_mesh(mj, spec, name, mesh)
            group = SHADES if name == SHADE else STILL
            _add_geom(mj, spec.worldbody, name, name, group)
        kinds = [k for k, count in self._places.items() for _ in range(count)]
        for k in self._places:
            for part, mesh in zip(("paint", "trim"), body(*k), strict=True):
                _add_mesh(mj, spec, _name(k, part), mesh)
        for n, kind in enumerate(kinds):
            holder = spec.worldbody.add_body(name=f"slot{n}", mocap=True, pos=_HIDDEN)
            _add_geom(mj, holder, _name(kind, "paint"), "body", MOVING)
            _add_geom(mj, holder, _name(kind, "trim"), "palette", MOVING)
        self.model = spec.compile()
        self.data = mj.MjData(self.model)
        mj.mj_kinematics(self.model, self.data)
        mj.mj_camlight(self.model, self.data)
        self._free_kinds = kinds
        self._free: defaultdict[Kind, list[int]] = defaultdict(list)
        for n in reversed(range(len(kinds))):
            self._free[kinds[n]].append(n)
        self._slots = {}
        self._rows = np.zeros(0, np.int64)
        self._first_body: int = self.model.nbody - len(kinds)
        self._first_geom: int = self.model.ngeom - _PER_BODY * len(kinds)

    def _materials(self, spec: Any) -> None:
        mj = self._mujoco
        sky = {"builtin": mj.mjtBuiltin.mjBUILTIN_GRADIENT, "width": 64, "height": 384}
        spec.add_texture(
            name="sky", type=mj.mjtTexture.mjTEXTURE_SKYBOX, rgb1=[0.42, 0.60, 0.86],
            rgb2=[0.80, 0.86, 0.91], **sky,
        )  # fmt: skip
        for name, picture in textures().items():
            made = spec.add_texture(
                name=name, type=mj.mjtTexture.mjTEXTURE_2D, nchannel=3,
                width=picture.shape[1], height=picture.shape[0],
            )  # fmt: skip
            made.data = picture.tobytes()
            material = spec.add_material(name=name, specular=0.0, shininess=0.0, reflectance=0.0)
            material.textures[int(mj.mjtTextureRole.mjTEXROLE_RGB)] = name
        spec.add_material(name=SHADE, rgba=[0.03, 0.04, 0.08, 0.45], specular=0.0, shininess=0.0)
        spec.add_material(name="body", specular=0.5, shininess=0.6)


def _kinds(actors: Snapshot) -> list[Kind]:
    """Of each actor; sizes are rounded."""
    rounded = np.round(np.clip(np.round(actors.sizes / _STEP_M), 1, 2000) * _STEP_M, 2)
    return [
        (kind, (size[0], size[1], size[2]), shape_of(kind, actor_id))
        for kind, size, actor_id in zip(
            actors.classes.tolist(), rounded.tolist(), actors.ids.tolist(), strict=True
        )
    ]


def _name(kind: Kind, part: str) -> str:
    return f"{part}-{kind[0]}-{kind[2]}-" + "-".join(f"{v:g}" for v in kind[1])


def _add_mesh(mj: Any, spec: Any, name: str, mesh: Mesh) -> None:
    faces = mesh.faces.ravel()
    spec.add_mesh(
        name=name, uservert=mesh.vertices.ravel(), usernormal=mesh.normals.ravel(),
        usertexcoord=mesh.texture.ravel(), userface=faces, userfacetexcoord=faces,
        userfacenormal=faces, inertia=mj.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )  # fmt: skip


def _add_geom(mj: Any, holder: Any, mesh: str, material: str, group: int) -> None:
    holder.add_geom(
        type=mj.mjtGeom.mjGEOM_MESH, meshname=mesh, material=material, group=group,
        contype=0, conaffinity=0, mass=0,
    )  # fmt: skip


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
