"""What a town's ground is paved with and what is painted on it, for whoever draws it.

Surfaces lie on each other in layers, the highest on top; markings lie on all of them.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bridges.footprints import area, rectangle
from bridges.streets import FIRST_SLOT, HALF, LANE, SIDEWALK, SLOT, STRIP, WALL, Streets
from pipeline.box import FloatArray

ASPHALT, CYCLE, WALK, YARD = "asphalt", "cycle", "walk", "yard"
LAYERS = {ASPHALT: 1, CYCLE: 2, WALK: 3, YARD: 4}
_KERB = 2 * STRIP - 1.1
"""m from a street's middle to its kerb."""
_CYCLE_INNER, _CYCLE_OUTER = STRIP - 0.75, STRIP + 0.75
_LINE = 0.15
_DASH = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """A surface along a polyline (K, 2) m, ``width`` m wide."""

    surface: str
    line: FloatArray
    width: float


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """A surface inside a simple counter-clockwise polygon (K, 2) m."""

    surface: str
    outline: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Marking:
    """White paint along a polyline (K, 2) m. dash: m of line and of gap, 0: without gaps."""

    line: FloatArray
    width: float = _LINE
    dash: float = 0.0


@dataclass(frozen=True, slots=True)
class Roads:
    """Everything on a town's ground."""

    strips: tuple[Strip, ...] = ()
    areas: tuple[Area, ...] = ()
    markings: tuple[Marking, ...] = ()


def street_roads(streets: Streets) -> Roads:
    """Of the kinematic town."""
    far = streets.blocks * streets.pitch
    strips, areas, markings = [], [], []
    for k in range(streets.blocks + 1):
        at = k * streets.pitch
        ends = np.array([[-_KERB, at], [far + _KERB, at]])
        strips += [Strip(ASPHALT, line, 2 * _KERB) for line in (ends, ends[:, ::-1])]
    for side in (-SIDEWALK, far + SIDEWALK):  # round the town
        ends = np.array([[-WALL, side], [far + WALL, side]])
        strips += [Strip(WALK, line, WALL - _KERB) for line in (ends, ends[:, ::-1])]
    for i in range(streets.blocks):
        for j in range(streets.blocks):
            low = np.array([i, j]) * streets.pitch
            high = low + streets.pitch
            areas.append(Area(WALK, rectangle(low + _KERB, high - _KERB)))
            areas.append(Area(YARD, rectangle(low + WALL, high - WALL)))
    for origin, ahead in zip(streets.origins, streets.directions, strict=True):
        right = np.array([ahead[1], -ahead[0]])
        middle = origin - right * LANE  # of the street, where the lane begins
        strip, painted = _one_side(middle, ahead, right, streets.length)
        strips.append(strip)
        markings += painted
    return Roads(tuple(strips), tuple(areas), tuple(markings))


def _one_side(
    middle: FloatArray, ahead: FloatArray, right: FloatArray, length: float
) -> tuple[Strip, list[Marking]]:
    """A lane's cycle strip, and the paint on its half of the street."""

    def line(s: tuple[float, float], aside: tuple[float, float]) -> FloatArray:
        return np.array([middle + ahead * a + right * b for a, b in zip(s, aside, strict=True)])

    along = (0.0, length)
    painted = [
        Marking(line(along, (0.0, 0.0)), dash=_DASH),
        Marking(line(along, (_CYCLE_INNER,) * 2)),
        Marking(line(along, (_CYCLE_OUTER,) * 2), dash=1.0),
        Marking(line((length - 0.3,) * 2, (0.2, _CYCLE_INNER)), 0.4),
    ]
    first, slots = FIRST_SLOT - HALF, int((length + 2 * HALF - 38) // SLOT)
    painted += [
        Marking(line((first + SLOT * k,) * 2, (_CYCLE_OUTER, _KERB)), 0.1) for k in range(slots + 1)
    ]
    over = HALF - 9.0
    painted += zebra(line((length + over,) * 2, (0.3, _KERB - 0.3)), 2.4)
    painted += zebra(line((-over,) * 2, (0.3, _KERB - 0.3)), 2.4)
    return Strip(CYCLE, line(along, (STRIP, STRIP)), _CYCLE_OUTER - _CYCLE_INNER), painted


def zebra(line: FloatArray, width: float) -> list[Marking]:
    """Bars of half a meter across a polyline (K, 2) that people walk along."""
    painted = []
    for a, b in pairwise(line):
        length = float(np.linalg.norm(b - a))
        if length < 0.5:
            continue
        along = (b - a) / length
        across = np.array([-along[1], along[0]]) * width / 2
        for s in np.arange(0.25, length, 1.0):
            middle = a + along * s
            painted.append(Marking(np.array([middle - across, middle + across]), 0.5))
    return painted


def network_roads(api: Any) -> Roads:
    """Of the network that SUMO runs; ``api`` is libsumo or traci."""
    lane, strips, areas, markings = api.lane, [], [], []
    for name in api.junction.getIDList():
        if name.startswith(":"):  # inside another one, without an outline
            continue
        outline = _counter_clockwise(np.array(api.junction.getShape(name)).reshape(-1, 2))
        if outline is not None:
            areas.append(Area(ASPHALT, outline))
    by_edge: dict[str, list[str]] = {}
    for name in lane.getIDList():
        shape, width = np.array(lane.getShape(name)).reshape(-1, 2), lane.getWidth(name)
        if name.startswith(":"):
            kind = name.rpartition("_")[0].rpartition("_")[2][:1]
            outline = _counter_clockwise(shape) if kind == "w" else None
            if outline is not None:
                areas.append(Area(WALK, outline))
            elif kind == "c":
                markings += zebra(shape, width)
        elif len(shape) > 1:
            on_foot = tuple(lane.getAllowed(name)) == ("pedestrian",)
            strips.append(Strip(WALK if on_foot else ASPHALT, shape, width))
            if not on_foot:
                by_edge.setdefault(name.rpartition("_")[0], []).append(name)
    for lanes in by_edge.values():
        shapes = [np.array(lane.getShape(n)).reshape(-1, 2) for n in lanes]
        halves = [lane.getWidth(n) / 2 for n in lanes]
        last = len(lanes) - 1
        for k, (shape, half) in enumerate(zip(shapes, halves, strict=True)):
            alone = k == last and last == 0
            markings.append(Marking(beside(shape, half), dash=_DASH if k < last or alone else 0.0))
            if k == 0:
                markings.append(Marking(beside(shape, -half + _LINE)))
            end, before = shape[-1], shape[-2]
            across = (end - before) / max(float(np.linalg.norm(end - before)), 1e-9)
            aside = np.array([-across[1], across[0]]) * (half - 0.2)
            stop = end - across * 0.5
            markings.append(Marking(np.array([stop - aside, stop + aside]), 0.4))
    return Roads(tuple(strips), tuple(areas), tuple(markings))


def _counter_clockwise(outline: FloatArray) -> FloatArray | None:
    if len(outline) > 1 and (outline[0] == outline[-1]).all():
        outline = outline[:-1]
    if len(outline) < 3 or len(outline) > 256 or abs(area(outline)) < 1e-3:
        return None
    return outline if area(outline) > 0 else outline[::-1]


def beside(line: FloatArray, offset: float) -> FloatArray:
    """(K, 2) a polyline moved to its left by ``offset`` m, mitered at its bends."""
    way = np.diff(line, axis=0)
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    left = np.stack([-way[:, 1], way[:, 0]], axis=1)
    before, after = np.vstack([left[:1], left]), np.vstack([left, left[-1:]])
    middle = before + after
    middle /= np.maximum((middle * before).sum(axis=1, keepdims=True), 0.5)
    moved: FloatArray = line + offset * middle
    return moved
