"""A town as a MuJoCo model: what is drawn, and apart from it what rays meet.

The still parts are drawn as a mesh for each texture and square of the ground; rays meet one mesh
of all that stands, and a plane. Each body that moves is a mocap body of two meshes, and its shade
on the ground another.
"""

from typing import Any

import numpy as np

from bridges.bodies import body
from bridges.meshes import Mesh, MeshBuilder, merged, split
from bridges.mujoco_gl import load_mujoco
from bridges.surfaces import TILE_M, textures
from bridges.town import SHADE, SUN
from pipeline.box import FloatArray
from pipeline.errors import InputError, first_line

Kind = tuple[int, tuple[float, float, float], int]
"""Class, size, and which of several shapes."""
NEAR_M, FAR_M = 0.15, 1500.0
STILL, MOVING, SHADES, SOLID = 0, 1, 2, 3
"""Groups of geoms; ``SOLID`` is not drawn."""
CELL_M = 120.0
"""Side of the squares that large meshes are drawn in, so that those out of view are left out."""
_LARGE = 2000
PER_BODY = 2
HIDDEN = np.array([0.0, 0.0, -200.0])
SHADE_Z_M = 0.055
_HAZE_M = 150.0, 1400.0


def build(still: dict[str, Mesh], kinds: list[Kind]) -> Any:
    """The compiled model. Bodies and geoms of ``kinds`` are its last ones, in their order,
    then their shades.

    Raises:
        InputError: MuJoCo refuses it.
    """
    mj: Any = load_mujoco()
    spec = mj.MjSpec()
    spec.stat.extent, spec.stat.center = 1.0, np.zeros(3)
    spec.visual.map.znear, spec.visual.map.zfar = NEAR_M, FAR_M
    spec.visual.map.fogstart, spec.visual.map.fogend = _HAZE_M
    spec.visual.rgba.fog = (0.72, 0.79, 0.87, 1.0)
    spec.visual.quality.shadowsize = 0
    spec.visual.headlight.active = 0
    spec.worldbody.add_light(
        type=mj.mjtLightType.mjLIGHT_DIRECTIONAL, dir=SUN, pos=-150 * SUN, castshadow=False,
        diffuse=[0.72, 0.70, 0.66], ambient=[0.42, 0.44, 0.48], specular=[0.1] * 3,
    )  # fmt: skip
    _materials(mj, spec)
    # What lies on top is drawn first: what is hidden then costs no texture.
    for name, mesh in reversed(still.items()):
        parts = split(mesh, CELL_M) if len(mesh.vertices) > _LARGE else [mesh]
        for k, piece in enumerate(parts):
            _add_mesh(mj, spec, f"{name}-{k}", piece)
            _add_geom(mj, spec.worldbody, f"{name}-{k}", name, SHADES if name == SHADE else STILL)
    _solids(mj, spec, still)
    for kind in dict.fromkeys(kinds):
        for part, mesh in zip(
            ("paint", "trim", "shade"), (*body(*kind), _shade(kind)), strict=True
        ):
            _add_mesh(mj, spec, _name(kind, part), mesh)
    for n, kind in enumerate(kinds):
        holder = spec.worldbody.add_body(name=f"body{n}", mocap=True, pos=HIDDEN)
        _add_geom(mj, holder, _name(kind, "paint"), "body", MOVING)
        _add_geom(mj, holder, _name(kind, "trim"), "palette", MOVING)
    for n, kind in enumerate(kinds):
        holder = spec.worldbody.add_body(name=f"shade{n}", mocap=True, pos=HIDDEN)
        _add_geom(mj, holder, _name(kind, "shade"), SHADE, SHADES)
    try:
        return spec.compile()
    except ValueError as error:
        raise InputError(
            f"MuJoCo refuses this town ({first_line(error)}); give another network or seed"
        ) from None


def _solids(mj: Any, spec: Any, still: dict[str, Mesh]) -> None:
    flat = {*TILE_M, "paint", SHADE} - {"roof"}
    standing = [mesh for name, mesh in still.items() if name not in flat]
    spec.worldbody.add_geom(
        type=mj.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], group=SOLID, contype=0, conaffinity=0
    )
    if standing:
        _add_mesh(mj, spec, "solid", merged(standing))
        _add_geom(mj, spec.worldbody, "solid", "body", SOLID)


def _shade(kind: Kind) -> Mesh:
    """Of a body under the sun, its middle at 0."""
    length, width, _ = kind[1]
    builder = MeshBuilder()
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (length / 2, width / 2)
    builder.flat(corners * 1.04, 0.0, 1.0)
    return builder.build()


def _materials(mj: Any, spec: Any) -> None:
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


def shade_positions(positions: FloatArray) -> FloatArray:
    """(N, 3) where the sun throws the shade of bodies at ``positions`` (N, 3) on flat ground."""
    thrown: FloatArray = positions + SUN / -SUN[2] * positions[:, 2:]
    thrown[:, 2] = SHADE_Z_M
    return thrown


def _name(kind: Kind, part: str) -> str:
    return f"{part}-{kind[0]}-{kind[2]}-" + "-".join(f"{v:g}" for v in kind[1])


def _add_mesh(mj: Any, spec: Any, name: str, mesh: Mesh) -> None:
    faces = mesh.faces.ravel()
    # MuJoCo wants four vertices, where one triangle has three.
    vertices, normals, texture = (
        np.concatenate([a, np.repeat(a[:1], max(0, 4 - len(a)), axis=0)]).ravel()
        for a in (mesh.vertices, mesh.normals, mesh.texture)
    )
    spec.add_mesh(
        name=name, uservert=vertices, usernormal=normals, usertexcoord=texture, userface=faces,
        userfacetexcoord=faces, userfacenormal=faces,
        inertia=mj.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )  # fmt: skip


def _add_geom(mj: Any, holder: Any, mesh: str, material: str, group: int) -> None:
    holder.add_geom(
        type=mj.mjtGeom.mjGEOM_MESH, meshname=mesh, material=material, group=group,
        contype=0, conaffinity=0, mass=0,
    )  # fmt: skip
