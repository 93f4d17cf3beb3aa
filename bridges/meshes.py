"""Triangle meshes of prisms, strips and tapered boxes: flat faces, each with its own corners."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bridges.footprints import convex_parts
from pipeline.box import FloatArray

Texel = tuple[float, float]
"""Where in a texture, 0 to 1, a face takes its one color."""


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """vertices, normals: (V, 3). texture: (V, 2). faces: (F, 3), counter-clockwise from outside."""

    vertices: FloatArray
    normals: FloatArray
    texture: FloatArray
    faces: npt.NDArray[np.int32]


@dataclass(slots=True)
class MeshBuilder:
    """Collects convex faces."""

    _polygons: dict[int, list[tuple[FloatArray, FloatArray]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._polygons)

    def face(self, corners: FloatArray, texture: FloatArray) -> None:
        """A flat convex polygon (K, 3), counter-clockwise from outside; texture (K, 2).

        One without area is left out.
        """
        self.faces(corners[None], texture[None])

    def faces(self, corners: FloatArray, texture: FloatArray) -> None:
        """P polygons at once: corners (P, K, 3), texture (P, K, 2)."""
        self._polygons.setdefault(corners.shape[1], []).append((corners, texture))

    def flat(self, outline: FloatArray, z: float, tile: float) -> None:
        """A simple polygon (K, 2) seen from above, its texture laid over the world."""
        for part in convex_parts(outline):
            self.face(np.column_stack([part, np.full(len(part), z)]), part / tile)

    def strips(self, pieces: FloatArray, widths: FloatArray, z: float, tile: float) -> None:
        """Straight pieces (P, 2, 2) from end to end, as wide as ``widths`` (P,), from above."""
        way = pieces[:, 1] - pieces[:, 0]
        length = np.linalg.norm(way, axis=1)
        kept = length > 1e-6
        ends, way = pieces[kept], way[kept] / length[kept, None]
        side = np.stack([-way[:, 1], way[:, 0]], axis=1) * widths[kept, None] / 2
        a, b = ends[:, 0], ends[:, 1]
        corners = np.stack([a - side, b - side, b + side, a + side], axis=1)
        level = np.full((*corners.shape[:2], 1), z)
        self.faces(np.concatenate([corners, level], axis=2), corners / tile)

    def walls(self, outline: FloatArray, low: float, high: float, bay: Texel) -> None:
        """Straight up from a counter-clockwise polygon (K, 2); whole bays (width, height in m)
        of the texture fit on each wall."""
        floors = max(1, round((high - low) / bay[1]))
        for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            bays = max(1, round(float(np.linalg.norm(b - a)) / bay[0]))
            corners = np.array([[*a, low], [*b, low], [*b, high], [*a, high]])
            texture = np.array([[0, 0], [bays, 0], [bays, floors], [0, floors]], float)
            self.face(corners, texture)

    def block(
        self, x: Sequence[float], y: Sequence[float], z: tuple[float, float],
        texel: Texel = (0.5, 0.5),
    ) -> None:  # fmt: skip
        """Six faces between a rectangle below and one above: x, y are (least, greatest) of both,
        or (least, greatest, least above, greatest above)."""
        x, y = (tuple(v) if len(v) == 4 else (*v, *v) for v in (x, y))
        low = np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]])
        high = np.array([[x[2], y[2]], [x[3], y[2]], [x[3], y[3]], [x[2], y[3]]])
        below = np.column_stack([low, np.full(4, z[0])])
        above = np.column_stack([high, np.full(4, z[1])])
        self.hull(below, above, texel)

    def wheel(
        self, middle: Sequence[float], radius: float, width: float, texel: Texel, axis: int = 1
    ) -> None:
        """An octagon prism round an axis (0: x, 1: y, 2: z)."""
        angle = (np.arange(8) + 0.5) * np.pi / 4
        ring = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) / np.cos(np.pi / 8)
        u, v = [k for k in range(3) if k != axis]
        below = np.zeros((8, 3))
        below[:, u], below[:, v] = ring.T
        above = below.copy()
        below[:, axis], above[:, axis] = -width / 2, width / 2
        if axis == 1:  # x, z turn the other way about y
            below, above = below[::-1], above[::-1]
        self.hull(below + middle, above + middle, texel)

    def hull(self, below: FloatArray, above: FloatArray, texel: Texel) -> None:
        """The faces between two rings (K, 3), counter-clockwise from above, and both ends."""
        texture = np.tile(texel, (len(below), 1))
        self.face(above, texture)
        self.face(below[::-1], texture)
        following = np.roll(np.arange(len(below)), -1)
        for i, j in enumerate(following.tolist()):
            self.face(np.array([below[i], below[j], above[j], above[i]]), texture[:4])

    def build(self) -> Mesh:
        """All faces."""
        vertices, normals, texture, faces, count = [], [], [], [], 0
        for k, found in self._polygons.items():
            corners = np.concatenate([c for c, _ in found])
            where = np.concatenate([t for _, t in found])
            spokes = corners[:, 1:] - corners[:, :1]
            normal = np.cross(spokes[:, :-1], spokes[:, 1:]).sum(axis=1)
            size = np.linalg.norm(normal, axis=1)
            kept = size > 1e-9
            n = int(kept.sum())
            vertices.append(corners[kept].reshape(-1, 3))
            texture.append(where[kept].reshape(-1, 2))
            normals.append(np.repeat(normal[kept] / size[kept, None], k, axis=0))
            fan = np.array([(0, i, i + 1) for i in range(1, k - 1)])
            first = count + k * np.arange(n)
            faces.append((first[:, None, None] + fan).reshape(-1, 3).astype(np.int32))
            count += k * n
        return Mesh(
            np.concatenate(vertices), np.concatenate(normals), np.concatenate(texture),
            np.concatenate(faces),
        )  # fmt: skip


def merged(meshes: list[Mesh]) -> Mesh:
    """All of them as one."""
    first = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]), np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.texture for m in meshes]),
        np.concatenate([m.faces + k for m, k in zip(meshes, first, strict=True)], dtype=np.int32),
    )  # fmt: skip


def split(mesh: Mesh, cell_m: float) -> list[Mesh]:
    """Its faces by the square of the ground that their middles are in."""
    cells = np.floor(mesh.vertices[mesh.faces, :2].mean(axis=1) / cell_m).astype(np.int64)
    _, where = np.unique(cells, axis=0, return_inverse=True)
    parts = []
    for k in range(int(where.max()) + 1):
        used, faces = np.unique(mesh.faces[where.ravel() == k], return_inverse=True)
        parts.append(
            Mesh(
                mesh.vertices[used], mesh.normals[used], mesh.texture[used],
                faces.reshape(-1, 3).astype(np.int32),
            )
        )  # fmt: skip
    return parts


def crown(
    rng: np.random.Generator, turns: int = 7, rings: int = 4
) -> tuple[FloatArray, FloatArray]:
    """A lump of leaves of radius 1: corners (F, 3, 3) and texture (F, 3, 2) of its faces."""
    angle = np.arange(turns) * 2 * np.pi / turns
    tilt = np.arange(rings + 1) * np.pi / rings
    points = np.stack(
        [
            np.sin(tilt)[:, None] * np.cos(angle), np.sin(tilt)[:, None] * np.sin(angle),
            np.cos(tilt)[:, None] * np.ones(turns),
        ], axis=-1,
    )  # fmt: skip
    dents = rng.uniform(0.8, 1.2, (rings + 1, turns, 1))
    dents[[0, -1]] = 1.0
    points = points * dents
    r, t = (v.ravel() for v in np.meshgrid(np.arange(rings), np.arange(turns), indexing="ij"))
    s = (t + 1) % turns
    square = [(r, t, t), (r + 1, t, t), (r + 1, s, t + 1), (r, s, t + 1)]
    corners = np.stack([points[a, b] for a, b, _ in square], axis=1)
    where = np.stack([np.stack([c, a], axis=-1) / 4.0 for a, _, c in square], axis=1)
    halves = [[0, 1, 2], [0, 2, 3]]
    return (
        np.concatenate([corners[:, k] for k in halves]),
        np.concatenate([where[:, k] for k in halves]),
    )


def dashes(line: FloatArray, dash: float) -> list[FloatArray]:
    """Pieces (2, 2) of a polyline, ``dash`` m of line and as much of gap; 0: all of it."""
    if dash <= 0:
        return [line[k : k + 2] for k in range(len(line) - 1)]
    pieces = []
    for a, b in pairwise(line):
        length = float(np.linalg.norm(b - a))
        for s in np.arange(dash / 2, length, 2 * dash):
            pieces.append(a + np.outer([s, min(s + dash, length)], (b - a) / max(length, 1e-9)))
    return pieces
