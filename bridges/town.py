"""The still part of a town as meshes, one for each texture: ground, paint, houses, trees."""

from collections import defaultdict

import numpy as np

from bridges.actors import Building
from bridges.footprints import convex_parts
from bridges.meshes import Mesh, MeshBuilder, crown, dashes
from bridges.roads import ASPHALT, LAYERS, Roads
from bridges.surfaces import BAY_M, FACADES, ROOFS, TILE_M
from pipeline.box import FloatArray

LAYER_M = 0.012
"""Between two layers of the ground."""
MARGIN_M = 60.0
"""Of grass round the town."""
FAR_M = 1500.0
"""How far the plain round it goes, in cells: haze is computed at their corners."""
_CELL_M = 80.0
_RINGS = np.array([60.0, 180.0, 400.0, 800.0, FAR_M])
SUN = np.array([0.42, 0.3, -0.86])
"""(3,) the way of its light."""
SHADE = "shade"
_PAINT_LAYER = 2.5
_SHADE_LAYER = 6.0
_TREE_ROOM = 3.2
_TRIES = 4
_LUMPS = 12


def town_meshes(
    buildings: tuple[Building, ...], roads: Roads, trees: int, rng: np.random.Generator
) -> dict[str, Mesh]:
    """By texture; ``shade`` is what the sun leaves dark on the ground. trees: at most as many."""
    made: dict[str, MeshBuilder] = defaultdict(MeshBuilder)
    low, high = extent(buildings, roads)
    _plain(made["ground"], low, high)
    _pave(made, roads)
    for house in buildings:
        _house(made, house, rng)
    stems = _stems(buildings, roads, trees, low, high, rng)
    lumps = [crown(rng) for _ in range(_LUMPS)]
    for at in stems:
        _tree(made, at, lumps, rng)
    _shades(made[SHADE], buildings, stems)
    return {name: builder.build() for name, builder in made.items() if builder}


def extent(buildings: tuple[Building, ...], roads: Roads) -> tuple[FloatArray, FloatArray]:
    """Least and greatest corner (2,) of a town."""
    points = [np.zeros((1, 2)), *(b.footprint for b in buildings), *(s.line for s in roads.strips)]
    all_points = np.concatenate(points)
    return all_points.min(axis=0), all_points.max(axis=0)


def _plain(builder: MeshBuilder, low: FloatArray, high: FloatArray) -> None:
    cells = np.ceil((high - low) / _CELL_M).astype(int) + 1
    x, y = (
        np.concatenate([low[k] - _RINGS[::-1], np.linspace(low[k], high[k], n), high[k] + _RINGS])
        for k, n in enumerate(cells.tolist())
    )
    left, near = (a.ravel() for a in np.meshgrid(x[:-1], y[:-1]))
    right, far = (a.ravel() for a in np.meshgrid(x[1:], y[1:]))
    corners = np.stack(
        [np.stack(c, axis=-1) for c in ((left, near), (right, near), (right, far), (left, far))],
        axis=1,
    )
    builder.faces(
        np.concatenate([corners, np.zeros((len(corners), 4, 1))], axis=2),
        corners / TILE_M["ground"],
    )


def _pave(made: dict[str, MeshBuilder], roads: Roads) -> None:
    for surface, layer in LAYERS.items():
        z, tile = layer * LAYER_M, TILE_M[surface]
        strips = [s for s in roads.strips if s.surface == surface]
        _lay(made, surface, [(dashes(s.line, 0.0), s.width) for s in strips], z, tile)
        if surface == ASPHALT:
            for strip in strips:
                _round_bends(made[ASPHALT], strip.line, strip.width, z)
        for area in roads.areas:
            if area.surface == surface:
                made[surface].flat(area.outline, z, tile)
    paint = [(dashes(m.line, m.dash), m.width) for m in roads.markings]
    _lay(made, "paint", paint, _PAINT_LAYER * LAYER_M, 2.0)


def _lay(
    made: dict[str, MeshBuilder], surface: str, lines: list[tuple[list[FloatArray], float]],
    z: float, tile: float,
) -> None:  # fmt: skip
    """Straight pieces with the widths of their lines."""
    pieces = [piece for found, _ in lines for piece in found]
    widths = [width for found, width in lines for _ in found]
    if pieces:
        made[surface].strips(np.array(pieces), np.array(widths), z, tile)


def _round_bends(builder: MeshBuilder, line: FloatArray, width: float, z: float) -> None:
    angle = np.arange(8) * np.pi / 4
    ring = width / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for bend in line[1:-1]:
        builder.flat(bend + ring, z, TILE_M[ASPHALT])


def _house(made: dict[str, MeshBuilder], house: Building, rng: np.random.Generator) -> None:
    facade, roof = f"facade{rng.integers(FACADES)}", f"roof{rng.integers(ROOFS)}"
    made[facade].walls(house.footprint, 0.0, house.height, BAY_M)
    made[roof].flat(house.footprint, house.height, TILE_M["roof"])
    largest = max(convex_parts(house.footprint), key=lambda p: float(np.ptp(p, axis=0).prod()))
    for _ in range(int(rng.integers(1, 5))):  # what stands on roofs
        share = rng.dirichlet(np.full(len(largest), 2.0))
        at, size = share @ largest * 0.8 + largest.mean(axis=0) * 0.2, rng.uniform(0.4, 1.3, 2)
        x, y = ((float(at[k] - size[k]), float(at[k] + size[k])) for k in (0, 1))
        top = house.height + rng.uniform(0.5, 1.4)
        made["roof3"].block(x, y, (house.height, float(top)))


def _stems(
    buildings: tuple[Building, ...], roads: Roads, trees: int,
    low: FloatArray, high: FloatArray, rng: np.random.Generator,
) -> FloatArray:  # fmt: skip
    """(T, 2) where trees stand: off the roads, off the houses."""
    tried = rng.uniform(low - MARGIN_M / 2, high + MARGIN_M / 2, (trees * _TRIES, 2))
    free = np.ones(len(tried), bool)
    for strip in roads.strips:
        reach = strip.width / 2 + (_TREE_ROOM if strip.surface == ASPHALT else 0.6)
        for a, b in zip(strip.line[:-1], strip.line[1:], strict=True):
            free &= _away(tried, a, b) > reach
    for area in roads.areas:
        if area.surface == ASPHALT:
            free &= ((tried < area.outline.min(axis=0) - _TREE_ROOM)
                     | (tried > area.outline.max(axis=0) + _TREE_ROOM)).any(axis=1)  # fmt: skip
    for house in buildings:
        near = house.footprint.min(axis=0) - 1.5, house.footprint.max(axis=0) + 1.5
        free &= ((tried < near[0]) | (tried > near[1])).any(axis=1)
    return tried[free][:trees]


def _away(points: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """(N,) m from points (N, 2) to a line from a to b."""
    way = b - a
    along = np.clip((points - a) @ way / max(float(way @ way), 1e-9), 0, 1)
    away: FloatArray = np.linalg.norm(points - a - along[:, None] * way, axis=1)
    return away


def _tree(
    made: dict[str, MeshBuilder], at: FloatArray,
    lumps: list[tuple[FloatArray, FloatArray]], rng: np.random.Generator,
) -> None:  # fmt: skip
    height, radius = float(rng.uniform(4.0, 8.5)), float(rng.uniform(1.5, 2.8))
    stem = 0.12 + 0.02 * height
    x, y = (at[0] - stem, at[0] + stem), (at[1] - stem, at[1] + stem)
    made["bark"].block(x, y, (0.0, height - radius))
    for _ in range(2):
        corners, texture = lumps[rng.integers(len(lumps))]
        offset = rng.normal(0, 0.3 * radius, 3) * (1, 1, 0.5)
        middle = np.array([*at, height - radius]) + offset
        made["leaves"].faces(middle + 0.85 * radius * corners, texture + rng.uniform(0, 1, 2))


def _shades(builder: MeshBuilder, buildings: tuple[Building, ...], stems: FloatArray) -> None:
    """Shadows on flat ground. Each lies a little lower than the last, so that where two overlap
    the second is hidden and the ground does not get twice as dark."""
    outlines = []
    for house in buildings:
        thrown = SUN[:2] / -SUN[2] * house.height
        for part in convex_parts(house.footprint):
            outlines.append(_hull(np.concatenate([part, part + thrown])))
    angle = np.arange(8) * np.pi / 4
    ring = 1.8 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outlines += [at + ring + SUN[:2] / -SUN[2] * 4.0 for at in stems]
    for k, outline in enumerate(outlines):
        z = LAYER_M * (_SHADE_LAYER - k / max(len(outlines), 1))
        builder.flat(outline, z, 1.0)


def _hull(points: FloatArray) -> FloatArray:
    """(K, 2) the convex hull, counter-clockwise (Andrew 1979)."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]

    def half(run: FloatArray) -> list[FloatArray]:
        chain: list[FloatArray] = []
        for p in run:
            while len(chain) > 1:
                a, b = chain[-1] - chain[-2], p - chain[-1]
                if a[0] * b[1] - a[1] * b[0] > 0:
                    break
                chain.pop()
            chain.append(p)
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))
