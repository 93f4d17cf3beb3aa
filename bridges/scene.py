"""What stands on the ground of the embedded world: a periodic town, drawn once from a seed.

Lengths in meters, x east, y north, z up. The town repeats every ``TILE`` meters in x and y, so the
camera never meets an edge. Traffic keeps right and every route turns right around one block: no
two routes cross, so no two vehicles ever meet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray

TILE = 240.0
TEXEL = 0.075
SUN = np.array([0.46, -0.38, 0.80])
"""Unit vector toward the sun (or the moon)."""
LABELS = ("car", "van", "truck", "bus", "person")

ORIGIN = (-70.0, -75.0)
"""Where the ground's picture starts, so that the target's block lies in its middle."""

_PIXELS = round(TILE / TEXEL)
_ROADS_X = (0.0, 100.0, 170.0, TILE)
_ROADS_Y = (0.0, 90.0, 165.0, TILE)
_ROAD_HALF = 3.9
_LANE = 1.9
_WALK = 2.2
_AMBIENT_AT_NIGHT = 0.34

Image = npt.NDArray[Any]
Color = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Route:
    """A closed path, traveled in ``lap_s`` seconds at a speed that falls before each bend.

    time: (M,) s, from 0 to ``lap_s``. xy: (M, 2) m. heading: (M,) rad, unwrapped.
    """

    lap_s: float
    time: FloatArray
    xy: FloatArray
    heading: FloatArray


@dataclass(frozen=True, eq=False)
class Actors:
    """Everything that moves or is parked: N actors, each of three convex parts.

    route: (N,) index of the route, −1 for parked. home: (N, 3) x, y, heading of what is parked.
    start_s, lap_s, base_s: (N,) head start, duration of a lap, and where the route's times begin
        in ``Scene.path``.
    parts: (N, 3, 8, 3) corners of each part, x forward, the four lower ones first.
    colors: (N, 3, 2, 3) BGR of each part's sides and top. samples: (N, S, 3) points inside.
    label: (N,) index into ``LABELS``.
    """

    route: npt.NDArray[np.int64]
    home: FloatArray
    start_s: FloatArray
    lap_s: FloatArray
    base_s: FloatArray
    parts: FloatArray
    colors: FloatArray
    samples: FloatArray
    label: npt.NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.route)


@dataclass(frozen=True, eq=False)
class Scene:
    """The town.

    texture: (M, M, 4) BGR (and nothing) of the lit ground, ``TEXEL`` meters a pixel from
        ``ORIGIN`` on. Four channels, because OpenCV warps them twice as fast as three.
    coarse: the same at half the resolution. light: (m, m) brightness of the ground, 1 by day.
    roofs: textures of ``TEXEL`` meters a pixel, from a building's lower corner on.
    blocks: (B, 2, 3) lower and upper corner of each building and bridge deck.
    block_roof: (B,) index into ``roofs``. block_color: (B, 3) BGR of the walls.
    windows: (B,) whether the walls have any.
    trees: (T, 4) x, y, height of the crown's center, its radius.
    crowns: pictures of trees, (64, 64, 4) BGR and alpha.
    path: times (P,) s and x, y, heading (P, 3) of all routes, one after the other.
    """

    texture: Image
    coarse: Image
    light: npt.NDArray[np.float32]
    roofs: tuple[Image, ...]
    blocks: FloatArray
    block_roof: npt.NDArray[np.int64]
    block_color: FloatArray
    windows: npt.NDArray[np.bool_]
    trees: FloatArray
    crowns: tuple[Image, ...]
    actors: Actors
    path: tuple[FloatArray, FloatArray]

    def poses(self, seconds: float) -> FloatArray:
        """Every actor's x, y and heading, (N, 3)."""
        actors = self.actors
        pose = actors.home.copy()
        moving = actors.route >= 0
        time, path = self.path
        at = np.mod(seconds + actors.start_s[moving], actors.lap_s[moving]) + actors.base_s[moving]
        for i in range(3):
            pose[moving, i] = np.interp(at, time, path[:, i])
        return pose

    def trail(self, actor: int, seconds: FloatArray) -> FloatArray:
        """Where one moving actor is at several times (K,): x, y (K, 2)."""
        actors = self.actors
        time, path = self.path
        at = np.mod(seconds + actors.start_s[actor], actors.lap_s[actor]) + actors.base_s[actor]
        return np.stack([np.interp(at, time, path[:, i]) for i in (0, 1)], -1)

    def light_at(self, xy: FloatArray) -> FloatArray:
        """Brightness of the ground (...) at positions (..., 2)."""
        n = len(self.light)
        cell = np.floor(np.mod(xy, TILE) * (n / TILE)).astype(int) % n
        return np.asarray(self.light[cell[..., 1], cell[..., 0]], np.float64)


def build(seed: int, vehicles: int, people: int, occlusions: bool, night: bool) -> Scene:
    """Draw the town; the target is actor 0, on the route around the largest block."""
    rng = np.random.default_rng((seed, 1))
    rects = [(x0, y0, x1, y1) for y0, y1 in pairwise(_ROADS_Y) for x0, x1 in pairwise(_ROADS_X)]
    uses = [
        "town",
        *rng.permutation(["town", "town", "park", "park", "field", "field", "lot", "lot"]),
    ]
    routes = [_loop(rect, _LANE, 6.0, rng.uniform(11.0, 15.0), rng) for rect in rects]
    walks = [_loop(rect, _ROAD_HALF + _WALK / 2, 2.5, 1.4, rng) for rect in rects]
    walks += [_reversed(_loop(rects[0], _ROAD_HALF + _WALK * 0.75, 2.5, 1.2, rng))]

    canvas = _Canvas(rng)
    blocks: list[tuple[float, ...]] = []
    trees: list[tuple[float, ...]] = []
    parked: list[tuple[float, float, float]] = []
    for rect, use in zip(rects, uses, strict=True):
        _plan_block(canvas, rng, rect, str(use), blocks, trees, parked)
    _draw_roads(canvas, rng)
    if occlusions:
        _overhang(rects[0], blocks, trees)
    actors = _populate(rng, vehicles, people, parked, routes, walks)
    laps = _bases([*routes, *walks])
    path = (
        np.concatenate([r.time + at for r, at in zip((*routes, *walks), laps, strict=True)]),
        np.concatenate([np.column_stack([r.xy, r.heading]) for r in (*routes, *walks)]),
    )

    lows_highs = np.array([b[:6] for b in blocks]).reshape(-1, 2, 3)
    tree_array = np.array(trees).reshape(-1, 4)
    light = canvas.finish(rng, lows_highs, tree_array, night)
    roofs = tuple(_roof(rng, kind) for kind in range(4))
    crowns = tuple(_crown(rng) for _ in range(8))
    start = [-round(at / TEXEL) for at in reversed(ORIGIN)]
    texture = np.roll(cv2.cvtColor(canvas.color, cv2.COLOR_BGR2BGRA), start, (0, 1))
    return Scene(
        texture,
        cv2.resize(texture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        light,
        roofs,
        lows_highs,
        np.array([int(b[6]) for b in blocks]),
        np.array([b[7:10] for b in blocks], np.float64),
        np.array([bool(b[10]) for b in blocks]),
        tree_array,
        crowns,
        actors,
        path,
    )


def _loop(
    rect: tuple[float, ...], inset: float, radius: float, top_speed: float, rng: np.random.Generator
) -> Route:
    """Clockwise around a block; speed limited by 3 m/s² sideways and 2.5 m/s² along the path."""
    x0, y0, x1, y1 = rect[0] + inset, rect[1] + inset, rect[2] - inset, rect[3] - inset
    corners = [(x0, y0, -90), (x0, y1, 180), (x1, y1, 90), (x1, y0, 0)]
    points = []
    for x, y, start in corners:
        cx, cy = np.clip(x, x0 + radius, x1 - radius), np.clip(y, y0 + radius, y1 - radius)
        angle = np.radians(start - np.linspace(0, 90, 24))
        points.append(np.stack([cx + radius * np.cos(angle), cy + radius * np.sin(angle)], -1))
    corner_path = np.concatenate([*points, points[0][:1]])
    # An even arc length, then the heading low-passed: steering takes time.
    length = np.r_[0, np.cumsum(np.hypot(*np.diff(corner_path, axis=0).T))]
    n = round(length[-1] / 0.25)
    s = np.linspace(0, length[-1], n + 1)
    xy = np.stack([np.interp(s, length, corner_path[:, i]) for i in (0, 1)], -1)
    step = np.diff(xy, axis=0)
    turn = np.angle(np.exp(1j * np.diff(np.arctan2(step[:, 1], step[:, 0]), append=np.nan)))
    turn[-1] = 0.0
    kernel = np.hanning(25) / np.hanning(25).sum()
    turn = np.convolve(np.pad(turn, 12, mode="wrap"), kernel, "valid")
    heading = np.r_[0.0, np.cumsum(turn)]
    heading += np.arctan2(step[0, 1], step[0, 0]) - heading[0]
    ds = s[1]
    wave = rng.uniform(0, 2 * np.pi, 2)
    limit = top_speed * (
        1
        + 0.18 * np.sin(6 * np.pi * s[:-1] / s[-1] + wave[0])
        + 0.08 * np.sin(14 * np.pi * s[:-1] / s[-1] + wave[1])
    )
    limit = np.minimum(limit, np.sqrt(3.0 / np.maximum(np.abs(turn) / ds, 1e-3)))
    speed = limit.copy()
    for _ in range(2):
        for i in range(n):
            speed[i] = min(speed[i], np.sqrt(speed[i - 1] ** 2 + 2 * 2.5 * ds))
        for i in range(n - 1, -1, -1):
            speed[i] = min(speed[i], np.sqrt(speed[(i + 1) % n] ** 2 + 2 * 2.5 * ds))
    time = np.r_[0.0, np.cumsum(ds / speed)]
    return Route(float(time[-1]), time, xy, heading)


def _bases(routes: list[Route]) -> FloatArray:
    """Where each route's times begin when all stand one after the other, a second apart."""
    return np.asarray(np.cumsum([0.0] + [route.lap_s + 1.0 for route in routes])[:-1])


def _reversed(route: Route) -> Route:
    time = route.lap_s - route.time[::-1]
    return Route(route.lap_s, time, route.xy[::-1].copy(), route.heading[::-1] + np.pi)


def _noise(rng: np.random.Generator, cells: int) -> npt.NDArray[np.float32]:
    """Smooth periodic noise, standard deviation 1, ``cells`` cells across the tile."""
    small = rng.standard_normal((cells, cells)).astype(np.float32)
    if cells == _PIXELS:
        return small
    pad = 2
    wrapped = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_WRAP)
    scale = cells / _PIXELS
    # Pixel centers of the fine picture, in the padded coarse one.
    shift = pad + 0.5 * scale - 0.5
    warp = np.array([[scale, 0, shift], [0, scale, shift]])
    fine = cv2.warpAffine(
        wrapped, warp, (_PIXELS, _PIXELS), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return np.asarray(fine / fine.std(), np.float32)


class _Canvas:
    """The ground's picture and how rough each place is, both in texels."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.color: Image = np.empty((_PIXELS, _PIXELS, 3), np.uint8)
        self.color[:] = (62, 104, 92)
        self.rough: Image = np.full((_PIXELS, _PIXELS), 200, np.uint8)

    def polygon(self, xy: FloatArray, color: Color, rough: int | None = None) -> None:
        """Fill a convex polygon (M, 2) in meters, wrapped around the tile's edges."""
        low, high = xy.min(0), xy.max(0)
        for dx in (-TILE, 0.0, TILE):
            for dy in (-TILE, 0.0, TILE):
                moved = np.array([dx, dy])
                if (low + moved >= TILE).any() or (high + moved <= 0).any():
                    continue
                points = np.round(((xy + moved) / TEXEL - 0.5) * 16).astype(np.int32)
                cv2.fillConvexPoly(self.color, points, color, cv2.LINE_AA, 4)
                if rough is not None:
                    cv2.fillConvexPoly(self.rough, points, (rough,), cv2.LINE_8, 4)

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, color: Color, rough: int | None = None
    ) -> None:
        self.polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), color, rough)

    def disc(
        self, x: float, y: float, radius: float, color: Color, rough: int | None = None
    ) -> None:
        angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        ring = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], -1)
        self.polygon(ring, color, rough)

    def finish(
        self, rng: np.random.Generator, blocks: FloatArray, trees: FloatArray, night: bool
    ) -> npt.NDArray[np.float32]:
        """Texture, shadows and light, in place; returns the light on a coarse grid."""
        relief = 0.55 * _noise(rng, _PIXELS) + 0.7 * _noise(rng, 900) + 0.5 * _noise(rng, 240)
        gain = 1 + relief * (self.rough.astype(np.float32) * (0.13 / 255))
        gain += 0.07 * _noise(rng, 40) + 0.05 * _noise(rng, 12)

        shade = _Canvas.__new__(_Canvas)
        shade.color = np.full((_PIXELS, _PIXELS), 255, np.uint8)
        shade.rough = self.rough
        for low, high in blocks:
            base = np.array(
                [[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]]
            )
            near, far = (base - SUN[:2] / SUN[2] * z for z in (low[2], high[2]))
            hull = cv2.convexHull(np.concatenate([near, far]).astype(np.float32))[:, 0]
            shade.polygon(hull.astype(np.float64), (110, 0, 0))
        for x, y, z, radius in trees:
            for _ in range(7):
                dx, dy = rng.normal(0, 0.4 * radius, 2)
                px, py = np.array([x + dx, y + dy]) - SUN[:2] / SUN[2] * z
                shade.disc(px, py, radius * rng.uniform(0.35, 0.65), (105, 0, 0))
        soft = cv2.GaussianBlur(shade.color, (0, 0), 2.0, borderType=cv2.BORDER_REFLECT)
        gain *= soft.astype(np.float32) / 255

        cells = 240
        light = np.ones((cells, cells), np.float32)
        tint = np.ones(3, np.float32)
        if night:
            light = _lamps(cells)
            gain *= cv2.resize(light, (_PIXELS, _PIXELS), interpolation=cv2.INTER_LINEAR)
            tint = np.array([1.0, 0.93, 0.95], np.float32)
        np.clip(gain, 0.05, 1.9, out=gain)
        for c in range(3):
            plane = self.color[..., c] * (gain * tint[c])
            self.color[..., c] = np.minimum(plane, 255, out=plane)
        return light


def _lamps(cells: int) -> npt.NDArray[np.float32]:
    """Street lamps every 30 m along the roads."""
    axis = (np.arange(cells) + 0.5) * (TILE / cells)

    def near(at: float) -> FloatArray:
        return np.asarray(np.abs(np.mod(axis - at + TILE / 2, TILE) - TILE / 2))

    light = np.full((cells, cells), _AMBIENT_AT_NIGHT)
    spots = [(x + 5, y) for x in _ROADS_X[:-1] for y in np.arange(10, TILE, 30)]
    spots += [(x, y + 5) for y in _ROADS_Y[:-1] for x in np.arange(20, TILE, 30)]
    for x, y in spots:
        light += 0.55 * np.exp(-(near(y)[:, None] ** 2 + near(x)[None] ** 2) / (2 * 6.0**2))
    return np.asarray(np.minimum(light, 1.0), np.float32)


def _plan_block(
    canvas: _Canvas,
    rng: np.random.Generator,
    rect: tuple[float, ...],
    use: str,
    blocks: list[tuple[float, ...]],
    trees: list[tuple[float, ...]],
    parked: list[tuple[float, float, float]],
) -> None:
    margin = _ROAD_HALF + _WALK
    x0, y0, x1, y1 = rect[0] + margin, rect[1] + margin, rect[2] - margin, rect[3] - margin

    def tree(x: float, y: float, radius: float) -> None:
        trees.append((x, y, radius * 1.25 + 1.5, radius))

    if use == "field":
        hue = rng.choice(3)
        soil, crop = [
            ((70, 98, 122), (62, 118, 104)),
            ((82, 128, 142), (104, 156, 170)),
            ((52, 82, 70), (58, 112, 92)),
        ][hue]
        canvas.rect(x0 + 2, y0 + 2, x1 - 2, y1 - 2, soil, 230)
        along = bool(rng.integers(2))
        pitch = rng.uniform(0.9, 1.6)
        for at in np.arange((x0 if along else y0) + 3, (x1 if along else y1) - 3, pitch):
            if along:
                canvas.rect(at, y0 + 3, at + 0.55 * pitch, y1 - 3, crop, 255)
            else:
                canvas.rect(x0 + 3, at, x1 - 3, at + 0.55 * pitch, crop, 255)
        for _ in range(7):
            tree(rng.uniform(x0, x1), y0 + 1 if rng.integers(2) else y1 - 1, rng.uniform(1.4, 2.4))
    elif use == "lot":
        canvas.rect(x0 + 1, y0 + 1, x1 - 1, y1 - 1, (96, 98, 99), 70)
        for row in np.arange(y0 + 6, y1 - 6, 16.0):
            canvas.rect(x0 + 4, row - 0.06, x1 - 4, row + 0.06, (205, 208, 208), 60)
            for x in np.arange(x0 + 4, x1 - 4, 2.6):
                canvas.rect(x - 0.06, row - 5, x + 0.06, row + 5, (205, 208, 208), 60)
                for side in (-1, 1):
                    if x + 2.6 < x1 - 4 and rng.random() < 0.3:
                        parked.append((x + 1.3, row + 2.5 * side, side * np.pi / 2))
        for _ in range(5):
            tree(rng.uniform(x0 + 3, x1 - 3), y1 - 3, rng.uniform(1.6, 2.4))
    elif use == "park":
        middle = (y0 + y1) / 2
        path = np.linspace(x0, x1, 40)
        bend = middle + 9 * np.sin(path / 11)
        for a, b, c, d in zip(path, bend, path[1:], bend[1:], strict=False):
            canvas.polygon(
                np.array([[a, b - 1.2], [c, d - 1.2], [c, d + 1.2], [a, b + 1.2]]),
                (128, 162, 176),
                140,
            )
        pond = (rng.uniform(x0 + 14, x1 - 14), middle - 20)
        canvas.disc(pond[0], pond[1], 8.0, (110, 138, 140), 150)
        canvas.disc(pond[0], pond[1], 7.2, (104, 86, 58), 25)
        for _ in range(15):
            x, y = rng.uniform(x0 + 3, x1 - 3), rng.uniform(y0 + 3, y1 - 3)
            if np.hypot(x - pond[0], y - pond[1]) > 10:
                tree(x, y, rng.uniform(1.8, 3.4))
    else:
        columns, rows = max(2, round((x1 - x0) / 26)), max(2, round((y1 - y0) / 30))
        lot_w, lot_h = (x1 - x0) / columns, (y1 - y0) / rows
        walls = [
            (150, 172, 186),
            (170, 182, 190),
            (120, 140, 168),
            (186, 190, 192),
            (118, 128, 138),
        ]
        for i in range(columns):
            for j in range(rows):
                cx, cy = x0 + (i + 0.5) * lot_w, y0 + (j + 0.5) * lot_h
                w, h = rng.uniform(9, lot_w - 9), rng.uniform(9, lot_h - 11)
                cx, cy = cx + rng.uniform(-1.5, 1.5), cy + rng.uniform(-1.5, 1.5)
                front = y0 if j == 0 else y1
                canvas.rect(
                    cx - w / 2 - 2.5,
                    cy - h / 2 - 2.5,
                    cx + w / 2 + 2.5,
                    cy + h / 2 + 2.5,
                    (134, 146, 150),
                    110,
                )
                if j in (0, rows - 1):
                    canvas.rect(
                        cx - 1.6, min(cy, front), cx + 1.6, max(cy, front), (118, 122, 124), 80
                    )
                height = rng.uniform(4.0, 9.0)
                wall = walls[rng.integers(len(walls))]
                blocks.append(
                    (
                        cx - w / 2,
                        cy - h / 2,
                        0,
                        cx + w / 2,
                        cy + h / 2,
                        height,
                        float(rng.integers(4)),
                        *wall,
                        1,
                    )
                )
                for sx in (-1, 1):
                    if rng.random() < 0.75:
                        tree(
                            cx + sx * (lot_w / 2 - 2.2),
                            cy + rng.uniform(-0.4, 0.4) * lot_h,
                            rng.uniform(1.5, 2.8),
                        )


def _overhang(
    rect: tuple[float, ...], blocks: list[tuple[float, ...]], trees: list[tuple[float, ...]]
) -> None:
    """Trees over the target's lane and a footbridge across its road."""
    x0, y0, x1, y1 = rect
    trees.append((x0 + _ROAD_HALF + 0.6, y0 + 52.0, 5.4, 3.6))
    trees.append((x0 + 66.0, y1 - _ROAD_HALF - 0.4, 5.4, 3.6))
    trees.append((x0 + 34.0, y0 + _ROAD_HALF + 0.4, 5.4, 3.6))
    # Short pieces: each is drawn in front of or behind what passes, by its own distance.
    for at in np.arange(-7.5, 7.4, 2.5):
        blocks.append((x1 + at, y0 + 38, 5.2, x1 + at + 2.5, y0 + 42.5, 6.0, 2, 128, 132, 134, 0))
    for at in (-7.2, 6.6):
        blocks.append((x1 + at, y0 + 39.6, 0, x1 + at + 0.6, y0 + 40.9, 5.2, 2, 120, 124, 126, 0))


def _draw_roads(canvas: _Canvas, rng: np.random.Generator) -> None:
    white, asphalt, walk = (204, 207, 208), (84, 85, 86), (150, 156, 158)
    lines: list[tuple[tuple[float, ...], Callable[..., None]]] = []

    def vertical(x: float) -> Callable[..., None]:
        def draw(a: float, b: float, c: float, d: float, color: Color, rough: int) -> None:
            canvas.rect(x + c, a, x + d, b, color, rough)

        return draw

    def horizontal(y: float) -> Callable[..., None]:
        def draw(a: float, b: float, c: float, d: float, color: Color, rough: int) -> None:
            canvas.rect(a, y + c, b, y + d, color, rough)

        return draw

    lines += [(_ROADS_Y, vertical(x)) for x in _ROADS_X[:-1]]
    lines += [(_ROADS_X, horizontal(y)) for y in _ROADS_Y[:-1]]
    edge = _ROAD_HALF + _WALK
    for _, draw in lines:
        draw(0, TILE, -edge, edge, walk, 90)
        for at in np.arange(0, TILE, 1.5):
            draw(at, at + 0.06, -edge, edge, (122, 127, 129), 60)
        draw(0, TILE, -_ROAD_HALF - 0.15, _ROAD_HALF + 0.15, (132, 136, 137), 60)
    for _, draw in lines:
        draw(0, TILE, -_ROAD_HALF, _ROAD_HALF, asphalt, 62)
    for _, draw in lines:
        for lane in (-_LANE, _LANE):
            for wheel in (-0.75, 0.75):
                draw(0, TILE, lane + wheel - 0.25, lane + wheel + 0.25, (79, 80, 81), 55)
        for _ in range(14):
            at, side, tone = rng.uniform(0, TILE), rng.uniform(-3.5, 1.5), rng.uniform(66, 98)
            draw(
                at,
                at + rng.uniform(1, 7),
                side,
                side + rng.uniform(0.6, 1.9),
                (tone, tone, tone + 1),
                70,
            )
    for crossings, draw in lines:
        for a, b in pairwise(crossings):
            start, end = a + edge + 3.5, b - edge - 3.5
            for at in np.arange(start, end - 2, 6.0):
                draw(at, at + 3.0, -0.07, 0.07, white, 60)
            for side in (-1, 1):
                inner, outer = sorted((side * (_ROAD_HALF - 0.3), side * (_ROAD_HALF - 0.18)))
                draw(a + edge, b - edge, inner, outer, white, 60)
            for at in (a + edge - 0.6, b - edge - 2.2):
                for across in np.arange(-_ROAD_HALF + 0.3, _ROAD_HALF - 0.6, 1.0):
                    draw(at, at + 2.8, across, across + 0.5, white, 60)
            draw(start - 0.5, start - 0.1, 0.1, _ROAD_HALF - 0.3, white, 60)
    for _ in range(90):
        road = rng.choice(_ROADS_X[:-1])
        at = rng.uniform(0, TILE)
        spot = (
            (road + rng.uniform(-3, 3), at)
            if rng.integers(2)
            else (at, rng.choice(_ROADS_Y[:-1]) + rng.uniform(-3, 3))
        )
        tone = rng.uniform(48, 72)
        canvas.disc(spot[0], spot[1], rng.uniform(0.2, 0.42), (tone, tone, tone), 40)


def _roof(rng: np.random.Generator, kind: int) -> Image:
    n = 320
    base = np.array(
        [(72, 88, 148), (122, 126, 130), (146, 150, 152), (92, 96, 104)][kind], np.float32
    )
    grain = rng.standard_normal((n, n)).astype(np.float32)
    tone = (
        1
        + 0.06 * grain
        + 0.07 * cv2.resize(rng.standard_normal((20, 20)).astype(np.float32), (n, n))
    )
    row = np.arange(n)
    if kind == 0:
        tone *= (0.86 + 0.14 * ((row % 5) > 1))[:, None] * (0.95 + 0.05 * ((row % 4) > 0))[None]
    elif kind == 3:
        tone *= (0.82 + 0.18 * ((row % 8) > 1))[None]
    else:
        tone *= (0.92 + 0.08 * ((row % 64) > 1))[None] * (0.92 + 0.08 * ((row % 64) > 1))[:, None]
        for _ in range(7):
            x, y, w, h = *rng.integers(10, n - 40, 2), *rng.integers(8, 22, 2)
            tone[y : y + h + 6, x + 4 : x + w + 6] *= 0.62
            tone[y : y + h, x : x + w] = 1.25
    return cv2.cvtColor(
        np.clip(base * tone[..., None], 0, 255).astype(np.uint8), cv2.COLOR_BGR2BGRA
    )


def _crown(rng: np.random.Generator) -> Image:
    """A tree's crown from the side and above: leaf clusters, lit at the top left."""
    n = 64
    picture = np.zeros((n, n, 4), np.uint8)
    hue = np.array([rng.uniform(34, 52), rng.uniform(84, 112), rng.uniform(60, 92)])
    for k in range(260):
        depth = k / 260
        radius = np.sqrt(rng.uniform(0, 1)) * (28 - 4 * depth)
        angle = rng.uniform(0, 2 * np.pi)
        x, y = radius * np.cos(angle), radius * np.sin(angle) * 0.94
        lit = 0.62 + 0.42 * depth * (0.75 - 0.5 * (0.6 * x + 0.8 * y) / 28) + rng.normal(0, 0.07)
        color = np.clip(hue * max(lit, 0.25), 0, 255)
        center = (round((31.5 + x) * 4), round((31.5 + y) * 4))
        cv2.circle(
            picture, center, round(rng.uniform(1.2, 3.4) * 4), (*color, 255), -1, cv2.LINE_8, 2
        )
    return picture


def _frustum(
    x: tuple[float, float],
    w: float,
    z: tuple[float, float],
    top_x: tuple[float, float],
    top_w: float,
) -> FloatArray:
    def ring(
        xs: tuple[float, float], width: float, height: float
    ) -> list[tuple[float, float, float]]:
        y = width / 2
        return [(xs[0], -y, height), (xs[1], -y, height), (xs[1], y, height), (xs[0], y, height)]

    return np.array(ring(x, w, z[0]) + ring(top_x, top_w, z[1]))


_SIZES = {
    "car": (4.4, 1.82, 1.45),
    "van": (5.3, 2.0, 2.15),
    "truck": (8.2, 2.4, 3.2),
    "bus": (11.2, 2.5, 3.1),
}
_PAINTS = (
    (40, 36, 178), (214, 216, 218), (48, 46, 44), (168, 96, 34), (164, 166, 168),
    (52, 176, 214), (70, 112, 44), (232, 233, 233), (92, 62, 46), (66, 84, 104),
)  # fmt: skip
_SHIRTS = (
    (50, 50, 190),
    (190, 120, 60),
    (230, 230, 230),
    (60, 170, 210),
    (60, 60, 60),
    (130, 70, 130),
)


def _vehicle(kind: str, paint: Color) -> tuple[FloatArray, FloatArray]:
    """Parts (3, 8, 3) and colors (3, 2, 3): what is under the body, the body, the cabin."""
    length, width, height = _SIZES[kind]
    a, b = -length / 2, length / 2
    tire, glass = (30, 30, 31), (66, 58, 50)
    under = _frustum(
        (a + 0.15, b - 0.15), width - 0.1, (0.0, 0.4), (a + 0.1, b - 0.1), width - 0.05
    )
    if kind == "car":
        body = _frustum((a, b), width, (0.3, 0.88), (a + 0.12, b - 0.2), width - 0.12)
        cabin = _frustum(
            (a + 0.35, b - 1.25), width - 0.14, (0.88, height), (a + 0.95, b - 2.1), width - 0.5
        )
        colors = [(tire, tire), (paint, paint), (glass, paint)]
    elif kind == "truck":
        gray = (196, 200, 202)
        body = _frustum((a, b - 2.3), width, (0.5, height), (a, b - 2.3), width)
        cabin = _frustum(
            (b - 2.1, b), width - 0.1, (0.4, height - 0.7), (b - 2.1, b - 0.35), width - 0.3
        )
        colors = [(tire, tire), (gray, gray), (paint, paint)]
    else:
        split = 0.55 * height
        body = _frustum((a, b), width, (0.3, split), (a + 0.03, b - 0.05), width)
        cabin = _frustum(
            (a + 0.03, b - 0.05),
            width,
            (split, height),
            (a + 0.15, b - (0.9 if kind == "van" else 0.2)),
            width - 0.3,
        )
        colors = [(tire, tire), (paint, paint), (glass, paint)]
    return np.stack([under, body, cabin]), np.array(colors, np.float64)


def _person(shirt: Color) -> tuple[FloatArray, FloatArray]:
    legs = _frustum((-0.16, 0.16), 0.34, (0.0, 0.85), (-0.14, 0.14), 0.38)
    torso = _frustum((-0.16, 0.16), 0.5, (0.85, 1.5), (-0.13, 0.13), 0.5)
    head = _frustum((-0.11, 0.11), 0.22, (1.5, 1.75), (-0.1, 0.1), 0.2)
    trousers, skin = (74, 58, 50), (120, 150, 198)
    colors = [(trousers, trousers), (shirt, shirt), (skin, (38, 40, 52))]
    return np.stack([legs, torso, head]), np.array(colors, np.float64)


def _populate(
    rng: np.random.Generator,
    vehicles: int,
    people: int,
    parked: list[tuple[float, float, float]],
    routes: list[Route],
    walks: list[Route],
) -> Actors:
    """The target, traffic (a third of it on the target's road), people, then parked cars."""
    loops = len(routes)
    on_route = [0 if i % 3 == 0 else 1 + i % (loops - 1) for i in range(vehicles)]
    share = {r: on_route.count(r) for r in set(on_route)}
    seen: dict[int, int] = {}
    rows: list[tuple[int, float, FloatArray, FloatArray, str]] = []
    for i, r in enumerate(on_route):
        slot = seen.get(r, 0)
        seen[r] = slot + 1
        kind = "car" if i == 0 else str(rng.choice(LABELS[:4], p=(0.6, 0.2, 0.13, 0.07)))
        paint = _PAINTS[0] if i == 0 else _PAINTS[rng.integers(len(_PAINTS))]
        lap = (slot + (0.0 if i == 0 else rng.uniform(-0.12, 0.12))) / share[r]
        rows.append((r, lap, *_vehicle(kind, paint), kind))
    for i in range(people):
        route = loops + (0, len(walks) - 1, 0, 1, len(walks) - 1, 3)[i % 6]
        rows.append(
            (route, rng.uniform(0, 1), *_person(_SHIRTS[rng.integers(len(_SHIRTS))]), "person")
        )
    moving = len(rows)
    for _ in parked:
        rows.append((-1, 0.0, *_vehicle("car", _PAINTS[rng.integers(len(_PAINTS))]), "car"))
    home = np.zeros((len(rows), 3))
    home[moving:] = np.array(parked).reshape(-1, 3)
    parts = np.stack([row[2] for row in rows])
    low, high = parts.min((1, 2)), parts.max((1, 2))
    grid = np.stack(np.meshgrid(np.linspace(0.08, 0.92, 6), (0.12, 0.5, 0.88), (0.2, 0.7)), -1)
    samples = low[:, None] + grid.reshape(1, -1, 3) * (high - low)[:, None]
    laps = np.array([r.lap_s for r in (*routes, *walks)])
    bases = _bases([*routes, *walks])
    way = np.array([row[0] for row in rows])
    start = np.array([row[1] for row in rows]) * laps[way]
    return Actors(
        way,
        home,
        start,
        laps[way],
        bases[way],
        parts,
        np.stack([row[3] for row in rows]),
        samples,
        np.array([LABELS.index(row[4]) for row in rows], np.int16),
    )
