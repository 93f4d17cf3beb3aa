"""Textures of the town, made from noise: asphalt, paving, grass, facades, roofs, leaves.

Each tiles without a seam; (H, W, 3) uint8 rgb. A tile's size on the ground is its ``TILE_M``.
"""

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from bridges.bodies import PALETTE
from bridges.roads import ASPHALT, CYCLE, WALK, YARD

Picture = npt.NDArray[np.uint8]
TILE_M = {"ground": 36.0, ASPHALT: 16.0, CYCLE: 8.0, WALK: 4.0, YARD: 12.0, "roof": 8.0}
FACADES, ROOFS = 8, 4
BAY_M = (3.4, 3.2)
"""Width and height of what one tile of a facade shows: one window."""
_SIZE = 256


def _noise(rng: np.random.Generator, size: int, cells: int) -> npt.NDArray[np.float32]:
    """(size, size) smooth noise of ``cells`` to the tile, mean 0, deviation 1, without a seam."""
    grid = rng.standard_normal((cells, cells)).astype(np.float32)
    wide = np.tile(grid, (3, 3))
    fine = cv2.resize(wide, (3 * size, 3 * size), interpolation=cv2.INTER_CUBIC)
    middle = fine[size : 2 * size, size : 2 * size]
    even = (middle - middle.mean()) / max(float(middle.std()), 1e-6)
    return np.asarray(even, np.float32)


def _colored(
    rng: np.random.Generator, rgb: tuple[float, ...], scales: dict[int, float], size: int = _SIZE
) -> npt.NDArray[np.float32]:
    """(size, size, 3) a color with noise; scales: cells to the tile → deviation."""
    light = sum(depth * _noise(rng, size, cells) for cells, depth in scales.items())
    made: npt.NDArray[np.float32] = np.asarray(rgb, np.float32) + np.asarray(light)[..., None]
    return made


def _clip(picture: npt.NDArray[np.float32]) -> Picture:
    return np.clip(picture, 0, 255).astype(np.uint8)


@cache
def textures() -> dict[str, Picture]:
    """All of them by name; ``facade0`` …, ``roof0`` …, and those of ``TILE_M``."""
    rng = np.random.default_rng(0x70)
    made = {
        "ground": _grass(rng, (98, 122, 64), 512),
        YARD: _grass(rng, (112, 126, 82), 512),
        ASPHALT: _asphalt(rng),
        CYCLE: _clip(_colored(rng, (126, 74, 62), {128: 7, 32: 4})),
        WALK: _paving(rng),
        "paint": _clip(_colored(rng, (226, 226, 220), {64: 8, 16: 8}, 128)),
        "bark": _clip(_colored(rng, (84, 66, 48), {32: 12, 8: 8}, 64)),
        "leaves": _leaves(rng),
        "palette": np.tile(
            np.repeat(np.array([*PALETTE.values()], np.uint8), 8, axis=0), (8, 1, 1)
        ),
    }
    for k in range(FACADES):
        made[f"facade{k}"] = _facade(rng, k)
    for k in range(ROOFS):
        made[f"roof{k}"] = _roof(rng, k)
    return made


def _grass(rng: np.random.Generator, rgb: tuple[float, ...], size: int) -> Picture:
    made = _colored(rng, rgb, {size // 2: 11, size // 8: 9, 24: 7, 9: 5}, size)
    bare = np.clip(_noise(rng, size, 9) - 1.7, 0, 1)[..., None]
    return _clip(made * (1 - bare) + np.array((132, 118, 92), np.float32) * bare)


def _asphalt(rng: np.random.Generator) -> Picture:
    size = 512
    made = _colored(rng, (102, 102, 106), {256: 7, 128: 5, 16: 4, 4: 4}, size)
    for _ in range(14):  # patches of mended road, and cracks
        x, y = rng.integers(0, size - 90, 2)
        w, h = rng.integers(14, 80, 2)
        made[y : y + h, x : x + w] += rng.uniform(-16, 10)
    for _ in range(10):
        way = np.cumsum(rng.normal(0, 7, (24, 2)), axis=0) + rng.uniform(60, size - 60, 2)
        cv2.polylines(made, [way.astype(np.int32)], False, (74.0, 74.0, 76.0), 1, cv2.LINE_AA)
    for _ in range(8):
        at = tuple(int(v) for v in rng.integers(20, size - 20, 2))
        cv2.circle(made, at, int(rng.integers(3, 9)), (82.0, 82.0, 84.0), -1, cv2.LINE_AA)
    return _clip(made)


def _paving(rng: np.random.Generator) -> Picture:
    made = _colored(rng, (158, 154, 146), {128: 7, 16: 4})
    slabs = 8
    step = _SIZE // slabs
    shade = rng.normal(0, 9, (slabs, slabs)).astype(np.float32)
    made += np.kron(shade, np.ones((step, step), np.float32))[..., None]
    made[::step] -= 34
    made[:, ::step] -= 34
    return _clip(made)


def _leaves(rng: np.random.Generator) -> Picture:
    made = _colored(rng, (66, 92, 40), {64: 20, 24: 16, 6: 10}, 128)
    return _clip(made)


def _facade(rng: np.random.Generator, k: int) -> Picture:
    """One bay: a window in a wall of brick, plaster or glass."""
    size = 128
    walls = (
        (164, 96, 74), (206, 192, 164), (186, 180, 174), (148, 110, 84),
        (218, 206, 190), (122, 132, 142), (196, 168, 128), (172, 140, 134),
    )  # fmt: skip
    made = _colored(rng, walls[k % len(walls)], {64: 6, 8: 3}, size)
    if k in (0, 3):  # brick
        made[::8] -= 16
        for row in range(16):
            made[row * 8 : row * 8 + 8, (row % 2) * 8 :: 16] -= 12
    glass = (58, 74, 92) if k != 5 else (70, 104, 124)
    wide, tall = ((26, 102), (30, 108)) if k != 5 else ((4, 124), (14, 122))
    if k % 3 == 1:
        wide, tall = (36, 92), (26, 112)
    cv2.rectangle(made, (wide[0] - 4, tall[0] - 4), (wide[1] + 4, tall[1] + 4), (228, 226, 220), -1)
    cv2.rectangle(made, (wide[0], tall[0]), (wide[1], tall[1]), glass, -1)
    sheen = np.linspace(30, -14, tall[1] - tall[0], dtype=np.float32)[:, None, None]
    made[tall[0] : tall[1], wide[0] : wide[1]] += sheen
    middle = (wide[0] + wide[1]) // 2
    cv2.line(made, (middle, tall[0]), (middle, tall[1]), (216, 214, 208), 4)
    if k % 2:
        third = (2 * tall[0] + tall[1]) // 3
        cv2.line(made, (wide[0], third), (wide[1], third), (216, 214, 208), 3)
    made[tall[1] + 4 : tall[1] + 9, max(wide[0] - 8, 0) : wide[1] + 8] -= 40  # sill
    made[:3] -= 22
    return _clip(made)


def _roof(rng: np.random.Generator, k: int) -> Picture:
    rgb = ((136, 132, 126), (150, 92, 72), (112, 114, 120), (172, 168, 158))[k % 4]
    made = _colored(rng, rgb, {128: 9, 32: 5, 8: 5, 3: 6})
    if k == 1:
        made[::8] -= 22
        made[:, ::16] -= 10
    else:
        made[:: _SIZE // 2] -= 24
        made[:, :: _SIZE // 2] -= 24
    return _clip(made)
