"""Scenes to learn from and to be examined in, drawn at random, thousands at a time.

Kinds to learn from: highway traffic, streets with parked and oncoming vehicles, crossings, a UAV
that follows a target, a corner behind which somebody may be, a vehicle that holds its place. Kinds
that are kept for the examination: vehicles that merge, a queue, a swarm. All are made in the units
of ``llm_edge/coding.py``; no scene is drawn from the embedded world or from highway-env.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from llm_edge import coding
from llm_edge.coding import Measures
from llm_edge.scene import LinkState, Mission, Platform, Scene, TargetState
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass

_TINY_M = 0.01
WIDTH = 12
"""Objects drawn a scene, of which the coding keeps the most relevant."""
_VEHICLES = [ObjectClass.CAR, ObjectClass.TRUCK, ObjectClass.BUS, ObjectClass.MOTORCYCLE]
_WALKING = [ObjectClass.PERSON, ObjectClass.CYCLIST, ObjectClass.ANIMAL, ObjectClass.PERSON]
_FLYING = [ObjectClass.UAV, ObjectClass.UAV, ObjectClass.UNKNOWN, ObjectClass.ANIMAL]

BODIES = np.array(
    [[0.15, 0.5], [0.35, 0.8], [0.35, 1.0], [0.65, 1.2], [1.1, 1.4], [0.65, 2.1], [1.1, 3.5],
     [2.0, 1.4], [0.35, 6.0]]
)  # fmt: skip
"""Lengths, seconds, and widths, corridors, of an object and the ego together: people, small and
large vehicles, the same across the way, a bus at low speed, a wall."""

Fields = dict[str, Any]


def draw(rng: np.random.Generator, count: int, kinds: tuple[str, ...]) -> Measures:
    """``count`` scenes, of kinds in turn.

    kinds: of ``KINDS`` or ``HELD_OUT``.
    """
    parts = [_plausible(rng, _DRAW[kind](rng, count // len(kinds) + (k < count % len(kinds))))
             for k, kind in enumerate(kinds)]  # fmt: skip
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    order = rng.permutation(count)
    return Measures(**{name: values[order] for name, values in joined.items()})


def _plausible(rng: np.random.Generator, fields: Fields) -> Fields:
    """Nobody stands in the ego, and most of those in its way came there with room to brake."""
    v, stop = fields["speed"][:, None], fields["stop_s"][:, None]
    gap, along = fields["gap_s"], fields["along"]
    in_way = np.abs(fields["side"]) < fields["width"] / 2 + 0.1
    factor = rng.uniform(0.4, 1.2, gap.shape)
    difference = np.sign(v) * v**2 - np.sign(along) * along**2
    ahead = np.maximum(0.15, factor * stop / 2 * np.maximum(difference, 0.0))
    behind = np.maximum(0.3, factor * stop / 2 * np.maximum(-difference, 0.0))
    moved = np.where(gap > 0, np.maximum(gap, ahead), np.minimum(gap, -behind))
    fields["gap_s"] = np.where(in_way & (fields["kind"] != coding.BLIND), moved, gap)
    return fields


def _ego(rng: np.random.Generator, n: int, **given: Any) -> Fields:
    """What concerns the ego; a UAV or robot on a mission where nothing else is given."""
    mission = rng.choice(4, n, p=[0.6, 0.0, 0.3, 0.1])
    cruise = np.where(mission == Mission.SURVEY, rng.uniform(0.3, 0.6, n), rng.uniform(0.5, 1, n))
    made = {
        "stop_s": rng.choice(coding.STOP_S, n),
        "shift_s": rng.choice(coding.SHIFT_S, n),
        "mission": mission,
        "cruise": cruise,
        "state": np.zeros(n, np.int64),
        "link": rng.choice(3, n, p=[0.7, 0.2, 0.1]),
        "left": rng.random(n) < 0.75,
        "right": rng.random(n) < 0.75,
        "speed": np.clip(cruise + rng.choice([0.0, 1.0], n) * rng.normal(-0.15, 0.2, n), 0, 1),
        "target": np.full(n, -1),
    }
    made.update(given)
    made["speed"] = np.where(made["mission"] == Mission.HOLD, rng.choice([0, 0, 0.1], n),
                             made["speed"])  # fmt: skip
    return {k: np.asarray(v, float if np.asarray(v).dtype.kind == "f" else np.int64)
            for k, v in made.items()}  # fmt: skip


def _others(rng: np.random.Generator, n: int, least: int, most: int) -> Fields:
    """Room for objects: all standing cars at the ego, well seen, some told by others."""
    shape = (n, WIDTH)
    number = rng.integers(least, most + 1, n)
    return {
        "present": np.arange(WIDTH) < number[:, None],
        "kind": np.full(shape, int(ObjectClass.CAR)),
        "told": (rng.random(shape) < 0.15).astype(np.int64),
        "gap_s": np.zeros(shape), "side": np.zeros(shape),
        "along": np.zeros(shape), "drift": np.zeros(shape),
        "spread": rng.choice(coding.SPREAD, shape, p=[0.5, 0.35, 0.15]),
        "length_s": np.full(shape, 0.3), "width": np.full(shape, 1.0),
    }  # fmt: skip


def _sized(rng: np.random.Generator, o: Fields, rows: Any, sizes: list[int]) -> None:
    chosen = rng.choice(sizes, o["kind"].shape)
    for name, column in (("length_s", 0), ("width", 1)):
        drawn = BODIES[chosen, column] * rng.uniform(0.8, 1.1, chosen.shape)
        o[name] = np.where(rows, drawn, o[name])


def _spaced(rng: np.random.Generator, shape: tuple[int, int], reach: float) -> FloatArray:
    """Gaps, more of them near."""
    near = rng.uniform(0.05, 1.0, shape) ** 1.7 * reach
    return np.where(rng.random(shape) < 0.3, -0.6 * near, near)


def _highway(rng: np.random.Generator, n: int) -> Fields:
    lanes = rng.integers(2, 6, n)
    lane = (rng.random(n) * lanes).astype(int)  # 0 is the leftmost
    ego = _ego(
        rng, n, stop_s=rng.choice(coding.STOP_S[3:], n), shift_s=rng.choice(coding.SHIFT_S[1:], n),
        mission=np.zeros(n, int), cruise=rng.uniform(0.75, 1, n), left=lane > 0,
        right=lane < lanes - 1, speed=np.clip(rng.normal(0.72, 0.13, n), 0.15, 1),
    )  # fmt: skip
    o = _others(rng, n, 3, WIDTH)
    shape = o["kind"].shape
    theirs = (rng.random(shape) * lanes[:, None]).astype(int)
    theirs = np.where(rng.random(shape) < 0.4, lane[:, None], theirs)
    o["side"] = lane[:, None] - theirs + rng.normal(0, 0.05, shape)
    o["kind"] = rng.choice(_VEHICLES, shape, p=[0.75, 0.15, 0.05, 0.05])
    _sized(rng, o, True, [2, 2, 2, 3])
    o["gap_s"] = _spaced(rng, shape, 4.0)
    flow = np.clip(ego["speed"] + rng.normal(-0.03, 0.1, n), 0.1, 1)
    o["along"] = np.clip(flow[:, None] + rng.normal(0, 0.07, shape), 0, 1.1)
    changing = rng.random(shape) < 0.1
    o["drift"] = np.where(changing, rng.choice([-0.35, 0.35], shape), 0.0)
    return {**ego, **o}


def _street(rng: np.random.Generator, n: int) -> Fields:
    ego = _ego(rng, n, left=rng.random(n) < 0.8, right=rng.random(n) < 0.3)
    o = _others(rng, n, 1, 6)
    shape = o["kind"].shape
    what = rng.choice(4, shape, p=[0.3, 0.25, 0.25, 0.2])  # leads, comes, stands, walks
    o["gap_s"] = np.select([what == 0, what == 1], [_spaced(rng, shape, 3.0),
                           rng.uniform(0.5, 8.0, shape)], rng.uniform(0.1, 4.0, shape))  # fmt: skip
    side = rng.normal(0, 0.08, shape)
    o["side"] = np.select(
        [what == 0, what == 1, what == 2],
        [side, 1 + 2 * side, rng.choice([-1.0, -0.75, -0.5, 0.0, 1.0], shape) + side],
        rng.choice([-1.0, 1.0], shape) * rng.uniform(0.6, 2.0, shape),
    )
    pace = np.clip(ego["speed"][:, None] + rng.normal(-0.1, 0.15, shape), 0, 1)
    o["along"] = np.select([what == 0, what == 1, what == 2], [pace, -pace, 0.0],
                           rng.normal(0, 0.08, shape))  # fmt: skip
    o["drift"] = np.where(what == 3, rng.choice([0, 0, 1], shape) * -np.sign(o["side"])
                          * rng.uniform(0.1, 0.6, shape), 0.0)  # fmt: skip
    o["kind"] = np.where(what == 3, rng.choice(_WALKING, shape), rng.choice(_VEHICLES, shape))
    standing = np.where(rng.random(shape) < 0.3, int(ObjectClass.OBSTACLE), o["kind"])
    o["kind"] = np.where(what == 2, standing, o["kind"])
    _sized(rng, o, True, [2, 3, 3, 4, 5, 7])
    _sized(rng, o, what == 3, [0, 1])
    _sized(rng, o, (what == 2) & (rng.random(shape) < 0.1), [8])
    return {**ego, **o}


def _crossers(rng: np.random.Generator, ego: Fields, o: Fields, rows: Any) -> None:
    """Objects that come to the way from a side, many of them when the ego is there."""
    shape = o["kind"].shape
    walks = rng.random(shape) < 0.55
    drift = np.where(walks, rng.uniform(0.25, 1.0, shape), rng.uniform(0.7, 3.0, shape))
    sign = rng.choice([-1.0, 1.0], shape)
    gap = rng.uniform(0.2, 4.0, shape)
    meets = gap / np.maximum(ego["speed"], 0.2)[:, None] + rng.normal(0, 1.0, shape)
    side = np.clip(drift * np.clip(meets, 0.1, 6.0), 0.0, 8.0)
    drift = np.where(rng.random(shape) < 0.12, 0.0, drift)  # waits
    for name, values in (
        ("gap_s", gap), ("side", sign * side), ("drift", -sign * drift),
        ("along", rng.normal(0, 0.06, shape) * (rng.random(shape) < 0.5)),
        ("kind", np.where(walks, rng.choice(_WALKING, shape), rng.choice(_VEHICLES, shape))),
    ):  # fmt: skip
        o[name] = np.where(rows, values, o[name])
    _sized(rng, o, rows & walks, [0, 1])
    _sized(rng, o, rows & ~walks, [3, 5, 5, 6])


def _crossing(rng: np.random.Generator, n: int) -> Fields:
    ego = _ego(rng, n)
    o = _others(rng, n, 1, 5)
    _crossers(rng, ego, o, True)
    ahead = rng.random(o["kind"].shape) < 0.2
    o["side"] = np.where(ahead, rng.normal(0, 0.1, ahead.shape), o["side"])
    o["drift"] = np.where(ahead, 0.0, o["drift"])
    o["along"] = np.where(ahead, rng.uniform(0, 1, ahead.shape) * ego["speed"][:, None], o["along"])
    return {**ego, **o}


def _following(rng: np.random.Generator, n: int) -> Fields:
    state = rng.choice(6, n, p=[0.0, 0.6, 0.15, 0.08, 0.09, 0.08])
    ego = _ego(
        rng, n, mission=np.full(n, int(Mission.FOLLOW)), state=state,
        stop_s=rng.choice(coding.STOP_S[:4], n), speed=rng.uniform(0, 1, n),
        left=rng.random(n) < 0.9, right=rng.random(n) < 0.9,
    )  # fmt: skip
    o = _others(rng, n, 1, 7)
    shape = o["kind"].shape
    crosses, flying = rng.random(shape) < 0.5, rng.random(shape) < 0.6
    _crossers(rng, ego, o, crosses)
    o["present"] &= crosses | flying
    flying &= ~crosses
    o["gap_s"] = np.where(flying, _spaced(rng, shape, 4), o["gap_s"])
    o["side"] = np.where(flying, rng.normal(0, 1.5, shape), o["side"])
    o["along"] = np.where(flying, rng.normal(0.3, 0.4, shape), o["along"])
    o["drift"] = np.where(flying, rng.normal(0, 0.5, shape), o["drift"])
    o["kind"] = np.where(flying, rng.choice(_FLYING, shape), o["kind"])
    _sized(rng, o, flying, [0, 1, 2])
    o["gap_s"][:, 0] = rng.uniform(0.05, 4.0, n)
    o["side"][:, 0] = rng.normal(0, 0.6, n)
    o["along"][:, 0] = np.clip(ego["speed"] + rng.normal(0, 0.25, n), -0.2, 1)
    o["drift"][:, 0] = rng.normal(0, 0.25, n)
    ego["target"] = np.where(state < 3, 0, -1)
    o["present"][:, 0] = state < 3
    return {**ego, **o}


def _corner(rng: np.random.Generator, n: int) -> Fields:
    fields = _crossing(rng, n)
    shape = fields["kind"].shape
    fields["link"] = rng.choice(3, n, p=[0.45, 0.35, 0.2])
    fields["told"] = (rng.random(shape) < 0.5).astype(np.int64)
    blind = rng.random(shape) < 0.35
    fields["kind"] = np.where(blind, coding.BLIND, fields["kind"])
    edge = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 3.0, shape)
    fields["side"] = np.where(blind, edge, fields["side"])
    fields["gap_s"] = np.where(blind, rng.uniform(0.1, 4.0, shape), fields["gap_s"])
    for name in ("along", "drift", "told"):
        fields[name] = np.where(blind, 0, fields[name])
    fields["spread"] = np.where(blind, coding.SPREAD[0], fields["spread"])
    fields["length_s"] = np.where(blind, BODIES[0, 0], fields["length_s"])
    fields["width"] = np.where(blind, BODIES[0, 1], fields["width"])
    return fields


def _holding(rng: np.random.Generator, n: int) -> Fields:
    ego = _ego(rng, n, mission=np.full(n, int(Mission.HOLD)))
    o = _others(rng, n, 0, 6)
    shape = o["kind"].shape
    o["gap_s"] = _spaced(rng, shape, 5.0)
    o["side"] = rng.normal(0, 1.5, shape)
    comes = -np.sign(o["gap_s"]) * rng.uniform(0, 1, shape)
    o["along"] = np.where(rng.random(shape) < 0.7, comes, 0.0)
    o["drift"] = np.where(rng.random(shape) < 0.5, -o["side"] * rng.uniform(0, 0.6, shape), 0.0)
    o["kind"] = rng.choice([*_VEHICLES, *_WALKING, *_FLYING], shape)
    _sized(rng, o, True, [0, 1, 2, 3])
    return {**ego, **o}


def _merge(rng: np.random.Generator, n: int) -> Fields:
    """Vehicles drift into the ego's lane from one side, a slow one leads, one side is shut."""
    fields = _highway(rng, n)
    shape = fields["kind"].shape
    side = rng.choice([-1.0, 1.0], n)[:, None]
    merging = np.arange(WIDTH) < 3
    fields["gap_s"] = np.where(merging, rng.uniform(-0.8, 1.5, shape), fields["gap_s"])
    fields["side"] = np.where(merging, side, fields["side"])
    fields["drift"] = np.where(merging, -side * rng.uniform(0, 0.45, shape), fields["drift"])
    slow = rng.uniform(0.4, 0.8, shape) * fields["speed"][:, None]
    leads = np.arange(WIDTH) == 3
    fields["along"] = np.where(leads, slow, fields["along"])
    fields["side"] = np.where(leads, 0.0, fields["side"])
    fields["gap_s"] = np.where(leads, rng.uniform(0.3, 2.5, shape), fields["gap_s"])
    fields["left"], fields["right"] = (side[:, 0] < 0).astype(int), (side[:, 0] > 0).astype(int)
    return fields


def _queue(rng: np.random.Generator, n: int) -> Fields:
    """Standing and creeping vehicles in every lane, people between them."""
    fields = _street(rng, n)
    shape = fields["kind"].shape
    queued = rng.random(shape) < 0.6
    place = rng.choice([-1.0, 0.0, 0.0, 1.0], shape)
    for name, values in (
        ("gap_s", rng.uniform(0.2, 3.5, shape)), ("side", place), ("drift", np.zeros(shape)),
        ("along", rng.choice([0.0, 0.0, 0.06, 0.12], shape)),
        ("kind", rng.choice(_VEHICLES, shape)),
    ):  # fmt: skip
        fields[name] = np.where(queued, values, fields[name])
    _sized(rng, fields, queued, [2, 3])
    fields["left"] = fields["right"] = (rng.random(n) < 0.7).astype(int)
    return fields


def _swarm(rng: np.random.Generator, n: int) -> Fields:
    """UAVs every way at once around one that goes, surveys or holds."""
    ego = _ego(rng, n, stop_s=rng.choice(coding.STOP_S[:3], n),
               shift_s=rng.choice(coding.SHIFT_S[:2], n))  # fmt: skip
    o = _others(rng, n, 3, WIDTH)
    shape = o["kind"].shape
    o["gap_s"] = _spaced(rng, shape, 6.0)
    o["side"] = rng.normal(0, 2.0, shape)
    o["along"] = rng.uniform(-1, 1, shape)
    o["drift"] = rng.normal(0, 0.7, shape)
    o["kind"] = rng.choice(_FLYING, shape)
    _sized(rng, o, True, [0, 1])
    return {**ego, **o}


_DRAW: dict[str, Callable[[np.random.Generator, int], Fields]] = {
    "highway": _highway, "street": _street, "crossing": _crossing, "following": _following,
    "corner": _corner, "holding": _holding, "merge": _merge, "queue": _queue, "swarm": _swarm,
}  # fmt: skip
KINDS = ("highway", "street", "crossing", "following", "corner", "holding")
HELD_OUT = ("merge", "queue", "swarm")
"""Never learned from."""

assert set(_DRAW) == {*KINDS, *HELD_OUT} and len(LinkState) == 3


def scenes_of(m: Measures, limit_mps: float = 10.0, corridor_m: float = 3.0) -> list[Scene]:
    """The drawn scenes in meters, for a vehicle of almost no size with that limit."""
    made = []
    for k in range(len(m.stop_s)):
        solid = m.present[k] & (m.kind[k] != coding.BLIND)
        blind = m.present[k] & (m.kind[k] == coding.BLIND)
        center = m.gap_s[k] + np.sign(m.gap_s[k]) * m.length_s[k] / 2
        positions = np.stack([center * limit_mps, m.side[k] * corridor_m], axis=1)
        velocities = np.stack([m.along[k] * limit_mps, m.drift[k] * corridor_m], axis=1)
        sizes = np.stack([m.length_s[k] * limit_mps, m.width[k] * corridor_m], axis=1) - _TINY_M
        ids = 10 + np.arange(len(solid), dtype=np.int32)
        state = int(m.state[k])
        made.append(
            Scene(
                at_ns=0, seen_ns=0,
                platform=Platform(limit_mps, limit_mps / m.stop_s[k], m.shift_s[k], corridor_m,
                                  (_TINY_M, _TINY_M)),
                mission=Mission(int(m.mission[k])), speed_mps=float(m.speed[k]) * limit_mps,
                cruise_mps=float(m.cruise[k]) * limit_mps,
                target=int(ids[m.target[k]]) if m.target[k] >= 0 else -1,
                target_state=TargetState(min(state, 3)),
                target_side=(0, 0, 0, 1, 0, -1)[state], link=LinkState(int(m.link[k])),
                open_left=bool(m.left[k]), open_right=bool(m.right[k]), ids=ids[solid],
                classes=m.kind[k][solid].astype(np.uint8), told=m.told[k][solid] > 0,
                positions=positions[solid], velocities=velocities[solid], sizes=sizes[solid],
                sigmas=m.spread[k][solid] * corridor_m, blind=positions[blind],
            )
        )  # fmt: skip
    return made
