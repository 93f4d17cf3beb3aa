"""What follows from each maneuver: the ego and everybody near, simulated five seconds on.

Ten maneuvers: straight on faster, as now, slower or to a stop, and one corridor to the left or the
right at the first three speeds. Every object is let go on in sixteen ways (where it is and how
fast, as far as that is not known; going on, braking, speeding up), and who drives behind brakes
for the ego. A maneuver is blocked by an object that it meets in more than a tenth of these futures.
The best maneuver is the one nearest to what the mission wants among those that nobody blocks.

This teaches the shipped decoder, and is the measure that it is held to. Times are seconds, lengths
along the way seconds at the speed limit, across it corridors (``llm_edge/coding.py``).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, qmc

from llm_edge import coding
from llm_edge.coding import Coded, Ints
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
SAMPLES = 16
BLOCKED = 2
"""More of the sixteen futures than this must meet."""
MARGIN, MARGIN_S = 0.1, 0.05
REACTION_S = 0.5
STAND_OFF_S = 1.0
"""Distance that is kept to a followed target."""
LATEST = 5
"""Seconds until the wish meets something are told rounded up, 1 to 5."""

_DRAWS: FloatArray = norm.ppf(qmc.Sobol(4, seed=7).random(SAMPLES) * 0.98 + 0.01)
_BRAKES = np.arange(SAMPLES) % 5 == 4  # 3 of 16
_SPEEDS_UP = np.arange(SAMPLES) % 8 == 1  # 2 of 16
_REACTS = ~IS_VULNERABLE & ~np.isin(list(ObjectClass), [ObjectClass.OBSTACLE, ObjectClass.UNKNOWN])


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Of B scenes.

    wish: (B,) maneuver that the mission wants. blocks: (B, 8, 10) who blocks which. hits: (B, 8,
    10) in how many of the futures they meet. first: (B, 8, 10) seconds until the one that is needed
    for a block, infinite for never. meets: (B, 8) seconds until the wish meets it, 1 to 5, 0 for
    never. best: (B,) maneuver. no_way: (B,) whether all are blocked. speeds: (B, 4) of the levels,
    sixteenths.
    """

    wish: Ints
    blocks: Bools
    hits: Ints
    first: FloatArray
    meets: Ints
    best: Ints
    no_way: Bools
    speeds: Ints


def look_ahead(scenes: Coded) -> Outcome:
    """Simulate every maneuver of every scene."""
    speeds = _speeds(scenes)
    first, hits = _meetings(scenes, speeds)
    blocks = np.isfinite(first)
    wish = _wish(scenes, speeds)
    at = np.take_along_axis(first, wish[:, None, None], axis=2)[..., 0]
    by_wish = np.take_along_axis(blocks, wish[:, None, None], axis=2)[..., 0]
    meets = np.where(by_wish, np.clip(np.ceil(at), 1, LATEST), 0).astype(np.int64)
    best, no_way = choose(wish, clear_of(scenes, blocks))
    return Outcome(wish, blocks, hits, first, meets, best, no_way, speeds)


def clear_of(scenes: Coded, blocks: Bools) -> Bools:
    """(B, 10) what nobody blocks and no side that is shut."""
    shut = np.stack([np.zeros_like(scenes.left), 1 - scenes.left, 1 - scenes.right], axis=1)
    return np.asarray(~blocks.any(axis=1) & (shut[:, SIDE_OF] == 0))


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


def _speeds(scenes: Coded) -> Ints:
    v, cruise = scenes.speed, scenes.cruise
    up = np.where(v < cruise, np.minimum(v + UP, cruise), v)
    return np.stack([up, v, np.maximum(v - DOWN, 0), np.zeros_like(v)], axis=1)


def _ego(scenes: Coded, speeds: Ints) -> tuple[FloatArray, ...]:
    """(B, 10, T) each: distance along; sideways, as the platform is said to move and in half the
    time, for the way there is swept between both; and speed."""
    stop = coding.STOP_S[scenes.stop][:, None, None]
    now = (scenes.speed / coding.RUNGS)[:, None, None]
    aim = (speeds[:, LEVEL_OF] / coding.RUNGS)[..., None]
    rate = np.where(aim < now, 1.0 / stop, 0.5 / stop)
    change = np.minimum(np.abs(aim - now), rate * TIMES)
    speed = now + np.sign(aim - now) * change
    until = np.abs(aim - now) / rate
    ramp = np.minimum(TIMES, until)
    along = now * ramp + np.sign(aim - now) * rate * ramp**2 / 2 + aim * (TIMES - ramp)
    share = TIMES / coding.SHIFT_S[scenes.shift][:, None]
    sides = np.array([0.0, 1.0, -1.0])[SIDE_OF][:, None]
    aside, soon = (sides * _smooth(f * share)[:, None] for f in (1.0, 2.0))
    return tuple(np.broadcast_to(v, along.shape) for v in (along, aside, soon, speed))


def _smooth(share: FloatArray) -> FloatArray:
    """From 0 to 1, at rest at both ends."""
    share = np.clip(share, 0.0, 1.0)
    return share**2 * (3 - 2 * share)


def _wish(scenes: Coded, speeds: Ints) -> Ints:
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
    following = np.where(scenes.followed, _follow(scenes, speeds), going)
    wish = np.where(scenes.mission == Mission.FOLLOW, np.where(lost, search, following), going)
    return np.where(scenes.mission == Mission.HOLD, straight[3], wish)


def _follow(scenes: Coded, speeds: Ints) -> Ints:
    """The maneuver that ends nearest to the stand-off behind the target, three seconds on."""
    at = int(np.searchsorted(TIMES, 3.0 - 1e-9))
    along, aside, *_ = _ego(scenes, speeds)
    gap = coding.GAP_S[scenes.gap[:, 0]] + 3.0 * coding.ALONG[scenes.along[:, 0]] / coding.RUNGS
    side = coding.SIDE[scenes.side[:, 0]] + 3.0 * coding.DRIFT[scenes.drift[:, 0]]
    miss = np.abs(gap[:, None] - along[..., at] - STAND_OFF_S)
    miss += 0.6 * np.abs(side[:, None] - aside[..., at]) + 0.1 * (SIDE_OF > 0)
    shut = np.stack([np.zeros_like(scenes.left), 1 - scenes.left, 1 - scenes.right], axis=1)
    miss = miss + 100.0 * shut[:, SIDE_OF]
    return np.asarray(miss.argmin(axis=1))


def _meetings(scenes: Coded, speeds: Ints) -> tuple[FloatArray, Ints]:
    """``first`` and ``hits`` of the outcome."""
    ego = _ego(scenes, speeds)
    first = np.full((*scenes.kind.shape, len(MANEUVERS)), np.inf)
    hits = np.zeros(first.shape, np.int64)
    for kind, simulate in ((False, _collisions), (True, _blind)):
        taken = np.arange(coding.SLOTS) < scenes.count[:, None]
        rows = np.nonzero(taken & ((scenes.kind == coding.BLIND) == kind))
        if len(rows[0]):
            when = simulate(scenes, rows, *(e[rows[0]] for e in ego))
            first[rows] = np.sort(when, axis=-1)[..., BLOCKED]
            hits[rows] = np.isfinite(when).sum(axis=-1)
    return first, hits


def _collisions(
    scenes: Coded,
    rows: tuple[Ints, ...],
    along: FloatArray,
    aside: FloatArray,
    soon: FloatArray,
    speed: FloatArray,
) -> FloatArray:
    """(P, 10, K): seconds until P objects, at ``rows`` of the scenes' arrays, meet each maneuver in
    each future."""
    x, y, vx, vy = _futures(scenes, rows)  # (P, 1, K)
    brake = np.float32(1.0) / coding.STOP_S[scenes.stop[rows[0]]].astype(np.float32)[:, None, None]
    length, width = coding.SIZES[scenes.size[rows]].T
    spare = np.minimum(MARGIN_S, np.abs(coding.GAP_S[scenes.gap[rows]]) / 2)
    reach_x = (length / 2 + spare).astype(np.float32)[:, None, None]
    reach_y = (width / 2 + MARGIN).astype(np.float32)[:, None, None]
    low, high = np.minimum(aside, soon), np.maximum(aside, soon)
    reacts = (_REACTS[scenes.kind[rows]] & (coding.GAP_S[scenes.gap[rows]] < 0))[:, None, None]
    slowing = 0.4 * brake / np.maximum(np.hypot(vx, np.float32(0.3) * vy), np.float32(0.05))
    factor = np.ones_like(vx)
    shape = (len(brake), len(MANEUVERS), SAMPLES)
    x, vx = np.broadcast_to(x, shape).copy(), np.broadcast_to(vx, shape).copy()
    when = np.full(shape, np.inf, np.float32)
    tick = np.float32(TICK_S)
    for k, t in enumerate(TIMES):
        factor = np.where(_BRAKES, np.maximum(factor - slowing * tick, 0), factor)
        if t > REACTION_S and reacts.any():
            v_ego = speed[..., None, k]
            close = reacts & (x < along[..., None, k - 1]) & (vx > v_ego)
            close &= np.abs(y - aside[..., None, k]) < reach_y
            vx = np.where(close, np.maximum(vx - 0.9 * brake * tick, v_ego), vx)
        x += vx * factor * tick
        y = y + vy * factor * tick
        hit = np.abs(x - along[..., None, k]) < reach_x
        hit &= (y > low[..., None, k] - reach_y) & (y < high[..., None, k] + reach_y)
        when[hit & np.isinf(when)] = t
    return when.astype(np.float64)


def _futures(scenes: Coded, rows: tuple[Ints, ...]) -> tuple[FloatArray, ...]:
    """Where P objects may be now and how fast, each (P, 1, K) float32: middle along, middle aside,
    and the speeds."""
    gap = coding.GAP_S[scenes.gap[rows]]
    x = gap + np.sign(gap) * coding.SIZES[scenes.size[rows], 0] / 2
    y = coding.SIDE[scenes.side[rows]]
    vx = coding.ALONG[scenes.along[rows]] / coding.RUNGS
    vy = coding.DRIFT[scenes.drift[rows]]
    spread = coding.SPREAD[scenes.spread[rows]]
    vulnerable = IS_VULNERABLE[scenes.kind[rows]]
    standing = (vx == 0) & (vy == 0) & ~vulnerable
    sigma_vy = np.where(standing, 0.0, np.where(vulnerable, 0.12, 0.03) + 0.2 * spread)
    sigma_vx = np.where(standing, 0.0, 0.02 + 0.04 * spread)
    faster = np.where(_SPEEDS_UP, 1.15, 1.0)

    def sampled(mean: FloatArray, sigma: FloatArray, draw: int, factor: FloatArray) -> FloatArray:
        made = (mean[..., None] + sigma[..., None] * _DRAWS[:, draw]) * factor
        return made[:, None].astype(np.float32)

    one = np.ones(SAMPLES)
    return (
        sampled(x, 0.2 * spread, 0, one), sampled(y, spread, 1, one),
        sampled(vx, sigma_vx, 2, faster), sampled(vy, sigma_vy, 3, faster),
    )  # fmt: skip


def _blind(
    scenes: Coded,
    rows: tuple[Ints, ...],
    along: FloatArray,
    aside: FloatArray,
    soon: FloatArray,
    speed: FloatArray,
) -> FloatArray:
    """(P, 10, K): when the ego is too fast to stop for somebody who steps out at a blind spot.

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
    when = np.where(risky, TIMES, np.inf).min(axis=-1)
    return np.repeat(when[..., None], SAMPLES, axis=-1)
