"""What follows from each maneuver: the ego and everybody near, simulated five seconds on.

Ten maneuvers: straight on faster, as now, slower or to a stop, and one corridor to the left or the
right at the first three speeds. Every object may go on or brake, its outline grows with
what is not known of its place and pace, and who drives behind brakes for the ego. A maneuver is
blocked by an object that it meets in either of these futures. The best maneuver is the one nearest
to what the mission wants among those that nobody blocks.

This teaches the shipped decoder, and is the measure that it is held to. Times are seconds, lengths
along the way seconds at the speed limit, across it corridors (``llm_edge/coding.py``).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_edge import coding
from llm_edge.coding import Coded, Ints
from llm_edge.kinematics import STAND_OFF_S, driven, smooth
from llm_edge.scene import LinkState, Mission
from pipeline.box import FloatArray
from pipeline.objects import IS_VULNERABLE, ObjectClass

Bools = npt.NDArray[np.bool_]

LEVELS = ("up", "keep", "down", "stop")
SIDES = ("straight", "left", "right")
MANEUVERS: tuple[tuple[int, int], ...] = tuple(
    (side, level) for side in range(3) for level in range(4) if side == 0 or level < 3
)
"""(side, level) of each; the first four are straight on."""
SIDE_OF = np.array([m[0] for m in MANEUVERS])
LEVEL_OF = np.array([m[1] for m in MANEUVERS])
UP, DOWN = 3, 4
"""Sixteenths of the limit, up and down from the speed of now."""
HORIZON_S, TICK_S = 5.0, 0.25
TIMES = np.arange(TICK_S, HORIZON_S + TICK_S / 2, TICK_S)
FUTURES = ("goes on", "brakes")
SURE = 0.4
"""Standard deviations by which an outline grows."""
MARGIN, MARGIN_S = 0.1, 0.05
BRAKING = 0.4
"""Of the ego's own brake, how hard others do without a reason."""
REACTION_S = 0.5
LATEST = 5
"""Seconds until the wish meets something are told rounded up, 1 to 5."""

_REACTS = ~IS_VULNERABLE & ~np.isin(list(ObjectClass), [ObjectClass.OBSTACLE, ObjectClass.UNKNOWN])


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Of B scenes.

    wish: (B,) maneuver that the mission wants. first: (B, 8, 10) seconds until it meets the object,
    infinite for never. blocks: (B, 8, 10) whether it does. meets: (B, 8) the same for the wish,
    rounded up, 1 to 5, 0 for never. best: (B,) maneuver. no_way: (B,) whether all are blocked.
    speeds: (B, 4) of the levels, sixteenths.
    """

    wish: Ints
    blocks: Bools
    first: FloatArray
    meets: Ints
    best: Ints
    no_way: Bools
    speeds: Ints


def look_ahead(scenes: Coded) -> Outcome:
    """Simulate every maneuver of every scene."""
    speeds = speeds_of(scenes)
    first = _meetings(scenes, speeds)
    blocks = np.isfinite(first)
    wish = wish_of(scenes, speeds)
    at = np.take_along_axis(first, wish[:, None, None], axis=2)[..., 0]
    by_wish = np.take_along_axis(blocks, wish[:, None, None], axis=2)[..., 0]
    meets = np.where(by_wish, np.clip(np.ceil(at), 1, LATEST), 0).astype(np.int64)
    best, no_way = choose(wish, clear_of(scenes, blocks))
    return Outcome(wish, blocks, first, meets, best, no_way, speeds)


def clear_of(scenes: Coded, blocks: Bools) -> Bools:
    """(B, 10) what nobody blocks and no side that is shut."""
    return np.asarray(~blocks.any(axis=1) & ~shut_of(scenes))


def shut_of(scenes: Coded) -> Bools:
    """(B, 10) maneuvers to a side that is shut."""
    sides = np.stack([np.ones_like(scenes.left), scenes.left, scenes.right], axis=1)
    return np.asarray(sides[:, SIDE_OF] == 0)


def choose(wish: Ints, clear: Bools) -> tuple[Ints, Bools]:
    """The clear maneuver nearest to the wish, a stop where there is none; and whether there is."""
    ranked = PREFERENCE[wish]  # (B, 10) maneuvers, best first
    usable = np.take_along_axis(clear, ranked, axis=1)
    no_way: Bools = np.asarray(~usable.any(axis=1))
    first = usable.argmax(axis=1)
    best = np.take_along_axis(ranked, first[:, None], axis=1)[:, 0]
    return np.where(no_way, MANEUVERS.index((0, 3)), best), no_way


def _preference() -> Ints:
    """(10, 10): for each wish, all maneuvers in order: speed first, then the least swerve; slower
    before faster than wished."""
    rows = []
    for side, level in MANEUVERS:
        levels = [*range(level, 4), *range(level - 1, -1, -1)]
        sides = [side, *(s for s in (0, 1, 2) if s != side)]
        rows.append([MANEUVERS.index((s, v)) for v in levels for s in sides if s == 0 or v < 3])
    return np.array(rows)


PREFERENCE = _preference()


def speeds_of(scenes: Coded) -> Ints:
    """(B, 4) of the levels, sixteenths."""
    v, cruise = scenes.speed, scenes.cruise
    up = np.where(v < cruise, np.minimum(v + UP, cruise), v)
    return np.stack([up, v, np.maximum(v - DOWN, 0), np.zeros_like(v)], axis=1)


def ego_ways(scenes: Coded, speeds: Ints) -> tuple[FloatArray, ...]:
    """(B, 10, T) each: distance along; sideways, as the platform is said to move and in half the
    time, for the way there is swept between both; and speed."""
    along, speed = (way[:, LEVEL_OF] for way in ego_along(scenes, speeds))
    share = TIMES / coding.SHIFT_S[scenes.shift][:, None]
    sides = np.array([0.0, 1.0, -1.0])[SIDE_OF][:, None]
    aside, soon = (sides * smooth(f * share)[:, None] for f in (1.0, 2.0))
    return along, aside, soon, speed


def ego_along(scenes: Coded, speeds: Ints) -> tuple[FloatArray, FloatArray]:
    """(B, 4, T) each: distance along and speed at each of the levels."""
    stop = coding.STOP_S[scenes.stop][:, None, None]
    now = (scenes.speed / coding.RUNGS)[:, None, None]
    aim = (speeds / coding.RUNGS)[..., None]
    rate = np.where(aim < now, 1.0 / stop, 0.5 / stop)
    change = np.minimum(np.abs(aim - now), rate * TIMES)
    return driven(now, aim, stop, TIMES), now + np.sign(aim - now) * change


def reacting(scenes: Coded) -> Bools:
    """(B, 8) who comes from behind and brakes for the ego."""
    kinds = np.minimum(scenes.kind, len(ObjectClass) - 1)
    return np.asarray(_REACTS[kinds] & (coding.GAP_S[scenes.gap] < 0))


def wish_of(scenes: Coded, speeds: Ints) -> Ints:
    """(B,) the maneuver that the mission wants. speeds: (B, 4) of the levels."""
    straight = [MANEUVERS.index((0, level)) for level in range(4)]
    v, cruise = scenes.speed, scenes.cruise
    going = np.where(v < cruise, straight[0], np.where(v > cruise, straight[2], straight[1]))
    lost = scenes.state >= 3
    calm = np.where(2 * v < cruise, 0, np.where(3 * v > 2 * cruise, 2, 1))
    searching = np.array(
        [[MANEUVERS.index((s, level)) for level in range(3)] for s in (1, 0, 2)]
    )  # left, ahead, right
    search = searching[np.clip(scenes.state - 3, 0, 2), calm]
    shut = ((scenes.state == 3) & (scenes.left == 0)) | ((scenes.state == 5) & (scenes.right == 0))
    search = np.where(shut, calm, search)
    followed = scenes.followed
    following = np.where(followed, _follow(scenes, speeds), going) if followed.any() else going
    wish = np.where(scenes.mission == Mission.FOLLOW, np.where(lost, search, following), going)
    return np.where(scenes.mission == Mission.HOLD, straight[3], wish)


def _follow(scenes: Coded, speeds: Ints) -> Ints:
    """The maneuver that ends nearest to the stand-off behind the target, three seconds on."""
    at = int(np.searchsorted(TIMES, 3.0 - 1e-9))
    along, aside, *_ = ego_ways(scenes, speeds)
    gap = coding.GAP_S[scenes.gap[:, 0]] + 3.0 * coding.ALONG[scenes.along[:, 0]] / coding.RUNGS
    side = coding.SIDE[scenes.side[:, 0]] + 3.0 * coding.DRIFT[scenes.drift[:, 0]]
    miss = np.abs(gap[:, None] - along[..., at] - STAND_OFF_S)
    miss += 0.6 * np.abs(side[:, None] - aside[..., at]) + 0.1 * (SIDE_OF > 0)
    miss = miss + 100.0 * shut_of(scenes)
    return np.asarray(miss.argmin(axis=1))


def _meetings(scenes: Coded, speeds: Ints) -> FloatArray:
    """``first`` of the outcome."""
    ego = ego_ways(scenes, speeds)
    first = np.full((*scenes.kind.shape, len(MANEUVERS)), np.inf)
    for kind, simulate in ((False, _collisions), (True, _blind)):
        rows = np.nonzero(scenes.taken & ((scenes.kind == coding.BLIND) == kind))
        if len(rows[0]):
            first[rows] = simulate(scenes, rows, *(e[rows[0]] for e in ego))
    return first


def _collisions(
    scenes: Coded,
    rows: tuple[Ints, ...],
    along: FloatArray,
    aside: FloatArray,
    soon: FloatArray,
    speed: FloatArray,
) -> FloatArray:
    """(P, 10): seconds until P objects, at ``rows`` of the scenes' arrays, meet each maneuver in
    the first of their futures."""
    x, y, vx, vy = (v[rows][:, None, None] for v in states(scenes))
    gone = traveled(scenes)[rows][:, None]  # (P, 1, T, 2)
    reach_x, reach_y = (r[rows][:, None, :, None] for r in outline(scenes))
    low, high = np.minimum(aside, soon)[..., None], np.maximum(aside, soon)[..., None]
    ways = np.broadcast_to(x[..., None] + vx[..., None] * gone, (*along.shape, len(FUTURES)))
    here = (x[..., None] - np.zeros_like(ways[..., :1, :]), y[..., None])
    y = y[..., None] + vy[..., None] * gone
    behind = reacting(scenes)[rows]
    if behind.any():
        some = np.flatnonzero(behind)
        ways = ways.copy()
        brake = 1 / coding.STOP_S[scenes.stop[rows[0][some]]]
        near = np.abs(y[some] - aside[some][..., None]) < reach_y[some]
        ways[some] = followed(ways[some], brake[:, None, None], along[some], speed[some], near)
    hit = swept(here[0], ways - along[..., None], reach_x)
    hit &= swept(here[1], y - high, reach_y, y - low)
    met = hit.any(axis=-1)
    return np.where(met.any(axis=-1), TIMES[met.argmax(axis=-1)], np.inf)


def followed(
    ways: FloatArray, brake: FloatArray, along: FloatArray, speed: FloatArray, near: Bools
) -> FloatArray:
    """(…, T, 2): ways of who comes from behind, who brakes for the ego once it is in front of them.

    ways: (…, T, 2) without that. brake: (…, 1) of the ego. along, speed: (…, T) of the ego.
    near: (…, T, 2) whether they are in one corridor.
    """
    made = np.empty(ways.shape, ways.dtype)
    made[..., 0, :] = x = ways[..., 0, :]
    steps = np.diff(ways, axis=-2)
    pace = np.full(x.shape, np.inf, ways.dtype)  # what they keep to for the ego
    least = 0.9 * brake * TICK_S
    for k in range(1, len(TIMES)):
        step = np.minimum(steps[..., k - 1, :], pace * TICK_S)
        if TIMES[k] > REACTION_S:
            v, own = step / TICK_S, speed[..., k, None]
            close = near[..., k, :] & (x < along[..., k - 1, None]) & (v > own)
            pace = np.where(close, np.maximum(v - least, own), pace)
            step = np.minimum(step, pace * TICK_S)
        made[..., k, :] = x = x + step
    return made


def swept(
    start: FloatArray, least: FloatArray, reach: FloatArray, most: FloatArray | None = None
) -> Bools:
    """Whether what lies apart from the ego by ``least`` to ``most``, (…, T, 2), comes within reach
    of it from one time to the next; nobody is passed through, however fast.

    start: (…, 1, 2) how far apart it is now. most: ``least`` where left out.
    """
    most = least if most is None else most
    start = np.broadcast_to(start, least[..., :1, :].shape)
    from_least = np.concatenate([start, least[..., :-1, :]], axis=-2)
    from_most = np.concatenate([start, most[..., :-1, :]], axis=-2)
    return np.asarray(
        (np.minimum(least, from_least) < reach) & (np.maximum(most, from_most) > -reach)
    )


def states(scenes: Coded) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(B, 8) each: middle along and aside, speed along and aside."""
    gap = coding.GAP_S[scenes.gap]
    x = gap + np.sign(gap) * coding.LONG_S[scenes.long] / 2
    along = coding.ALONG[scenes.along] / coding.RUNGS
    return x, coding.SIDE[scenes.side], along, coding.DRIFT[scenes.drift]


def outline(scenes: Coded) -> tuple[FloatArray, FloatArray]:
    """(B, 8, T) each: from the ego's middle to theirs along and aside, below which they meet."""
    length, width = coding.LONG_S[scenes.long], coding.WIDE[scenes.wide]
    spread = coding.SPREAD[scenes.spread]
    vulnerable = IS_VULNERABLE[np.minimum(scenes.kind, len(ObjectClass) - 1)]
    moves = (coding.ALONG[scenes.along] != 0) | (coding.DRIFT[scenes.drift] != 0) | vulnerable
    wavers = np.where(moves, np.where(vulnerable, 0.12, 0.03) + 0.1 * spread, 0.0)
    hurries = np.where(moves, 0.02 + 0.04 * spread, 0.0)
    spare = np.minimum(MARGIN_S, np.abs(coding.GAP_S[scenes.gap]) / 2)
    along = length / 2 + spare + SURE * 0.2 * spread
    aside = width / 2 + MARGIN + SURE * spread
    return (
        along[..., None] + SURE * hurries[..., None] * TIMES,
        aside[..., None] + SURE * wavers[..., None] * TIMES,
    )


def traveled(scenes: Coded) -> FloatArray:
    """(B, 8, T, 2): seconds at its speed of now that an object has gone by each time, going on and
    braking."""
    _, _, vx, vy = states(scenes)
    until = np.maximum(np.hypot(vx, 0.3 * vy), 0.05) * coding.STOP_S[scenes.stop][:, None] / BRAKING
    factor = np.maximum(1 - TIMES / until[..., None], 0.0)
    braking = np.cumsum(factor, axis=-1) * TICK_S
    return np.stack([np.broadcast_to(TIMES, braking.shape), braking], axis=-1)


def _blind(
    scenes: Coded,
    rows: tuple[Ints, ...],
    along: FloatArray,
    aside: FloatArray,
    soon: FloatArray,
    speed: FloatArray,
) -> FloatArray:
    """(P, 10): when the ego is too fast to stop for somebody who steps out at a blind spot.

    Only while others are heard badly. The view opens a third of a second before the ego is there,
    and the earlier the further the edge is to the side.
    """
    edge = coding.GAP_S[scenes.gap[rows]][:, None, None]
    side = coding.SIDE[scenes.side[rows]][:, None, None]
    unheard = (scenes.link[rows[0]] != LinkState.GOOD)[:, None, None]
    stop = coding.STOP_S[scenes.stop[rows[0]]][:, None, None]
    apart, left = np.abs(side - aside), edge - along
    sees = 0.3 + 0.35 * apart
    needs = speed**2 * stop / 2 + 0.3 * speed
    risky = unheard & (left > 0) & (left < sees) & (needs > sees) & (apart < 2.0)
    return np.asarray(np.where(risky, TIMES, np.inf).min(axis=-1))
