"""Houses where a road network leaves room: rectangles over the cells that no road needs.

A network says nothing of houses. Cells of 4 m within 50 m of a road, and farther from its edge
than a setback, are filled row by row with rectangles of at most 40 m; some are left out as yards.
What comes out hides what houses hide; it is no map of the real ones.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from bridges.actors import Building
from bridges.footprints import rectangle
from pipeline.box import FloatArray
from pipeline.errors import InputError

CELL_M = 4.0
SETBACK_M = 2.5
FAR_M = 50.0
LONGEST = 10
SHORTEST = 2
"""Cells of a house's side."""
KEPT = 0.85
_MAX_CELLS = 4_000_000


def fill_blocks(
    roads: list[tuple[FloatArray, float]], rng: np.random.Generator
) -> tuple[Building, ...]:
    """Houses between roads; roads: polylines (K, 2) m and the half width of each.

    Raises:
        InputError: no road, or so large a network that it is no town.
    """
    if not roads:
        raise InputError("the network has no roads; give another")
    points = np.concatenate([p for p, _ in roads])
    low = points.min(axis=0) - FAR_M
    size = np.ceil((points.max(axis=0) + FAR_M - low) / CELL_M)
    if not size.prod() <= _MAX_CELLS:  # NaN is not, either
        raise InputError("the network is over some 8 km wide; give a part of it")
    needed = np.zeros(size.astype(int), bool)
    for line, half in roads:
        _mark(needed, (line - low) / CELL_M - 0.5, (half + SETBACK_M) / CELL_M + 0.7)
    free = ~needed & (distance_transform_edt(~needed) * CELL_M < FAR_M)
    made = []
    for first, last in _rectangles(free):
        inset = rng.uniform(0, 1.5, (2, 2))
        height = float(rng.uniform(6, 22))
        if rng.random() < KEPT:
            corners = low + first * CELL_M + inset[0], low + last * CELL_M - inset[1]
            made.append(Building(rectangle(*corners), height))
    return tuple(made)


def _mark(grid: npt.NDArray[np.bool_], line: FloatArray, reach: float) -> None:
    """Set the cells whose middle is within ``reach`` of a polyline, all in cells."""
    for a, b in pairwise(line):
        low = np.maximum(np.floor(np.minimum(a, b) - reach).astype(int), 0)
        high = np.minimum(np.ceil(np.maximum(a, b) + reach).astype(int) + 1, grid.shape)
        if (high <= low).any():
            continue
        x, y = np.ogrid[low[0] : high[0], low[1] : high[1]]
        d = b - a
        along = ((x - a[0]) * d[0] + (y - a[1]) * d[1]) / max(float(d @ d), 1e-12)
        along = np.clip(along, 0, 1)
        near = (x - a[0] - along * d[0]) ** 2 + (y - a[1] - along * d[1]) ** 2 <= reach**2
        grid[low[0] : high[0], low[1] : high[1]] |= near


def _rectangles(
    free: npt.NDArray[np.bool_],
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """First and past-the-last cell of disjoint rectangles of free cells, greedily."""
    left, found = free.copy(), []
    for i, j in np.argwhere(free).tolist():
        if not left[i, j]:
            continue
        window = left[i : i + LONGEST, j : j + LONGEST]
        runs = np.where(window.all(axis=1), window.shape[1], window.argmin(axis=1))
        wide = np.minimum.accumulate(runs)
        deep = np.arange(1, len(wide) + 1)
        fits = (wide >= SHORTEST) & (deep >= SHORTEST)
        if not fits.any():
            continue
        k = int((wide * deep * fits).argmax())
        left[i : i + k + 1, j : j + wide[k]] = False
        found.append((np.array([i, j]), np.array([i + k + 1, j + int(wide[k])])))
    return found
