"""A seeded town that needs numpy only: vehicles, cyclists, people, parked vehicles and UAVs.

Vehicles follow each other by the Intelligent Driver Model (Treiber, Hennecke & Helbing 2000,
Phys. Rev. E 62)::

    dv/dt = a [1 − (v/v0)⁴ − (s*/s)²],   s* = s0 + v T + v Δv / (2 √(a b))

A crossing belongs to the vehicles of one approach at a time; who is nearest comes next. People
walk round the blocks and cross the street between parked vehicles, where drivers stop for them;
cyclists ride round the blocks on their strip; UAVs circle. Simplifications: no lane is changed, a
body turns on the spot as its path does, cyclists and people pass through each other.

The future is computed before it is asked for and kept, so a plan is exactly what will happen.
"""

from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bridges.actors import BODY, Building, Snapshot, TrafficWorld, checked_horizon
from bridges.roads import street_roads
from bridges.streets import (
    CURVATURE,
    FIRST_SLOT,
    HALF,
    SIDES,
    SIDEWALK,
    SLOT,
    STRIP,
    TURN_LENGTH,
    IntArray,
    houses,
    make_streets,
    parking,
    right_of,
)
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

__all__ = ["Building", "KinematicTraffic", "Snapshot", "TrafficConfig", "TrafficWorld"]

GAP_M, HEADWAY_S, ACCELERATION, BRAKING, HARDEST = 2.0, 1.2, 1.8, 2.5, 6.0
LATERAL = 2.5
"""m/s² in a turn."""
STOP_M = 5.0
"""From a stop line to the crossing: room for the front of a bus that turns in."""
WARM_UP_S = 20.0
WALK, WAIT, CROSS = 0, 1, 2
_FAR = 1e6


@dataclass(frozen=True)
class TrafficConfig(Config):
    """The kinematic town's options."""

    step_s: float = option(0.1, "Seconds a step.", low=0.01, high=0.1)
    blocks: int = option(4, "Blocks along each side of the town.", low=2, high=8)
    pitch_m: float = option(90.0, "Meters from crossing to crossing.", low=70, high=200)
    vehicles: int = option(36, "Cars, trucks and buses that drive.", low=1, high=400)
    cyclists: int = option(8, "Cyclists.", low=0, high=64)
    people: int = option(16, "People on foot.", low=0, high=200)
    parked: int = option(40, "Parked vehicles.", low=0, high=400)
    uavs: int = option(1, "UAVs, equipped.", low=0, high=8)
    equipped: float = option(0.3, "Share of driving vehicles with V2X.", low=0, high=1)
    trucks: float = option(0.12, "Share of trucks among driving vehicles.", low=0, high=0.5)
    buses: float = option(0.06, "Share of buses among driving vehicles.", low=0, high=0.5)
    speed_mps: float = option(12.0, "What drivers wish, on average.", low=3, high=20)


@dataclass(frozen=True, eq=False)
class _Vehicles:
    """V that drive: ``s`` m along ``lane``, then through ``turn``, of the body's center; speed m/s.

    claim: (V,) the crossing that is theirs, -1: none; approach: the lane that they came or come
    to it by.
    """

    lane: IntArray
    turn: IntArray
    s: FloatArray
    speed: FloatArray
    claim: IntArray
    approach: IntArray


@dataclass(frozen=True, eq=False)
class _People:
    """side, x: along the edge of block (i, j) = ``block``; sign: +1 walks counter-clockwise.
    done: m of the street crossed. due: seconds until they wish to cross. waited: seconds."""

    block: IntArray
    side: IntArray
    x: FloatArray
    sign: FloatArray
    mode: IntArray
    done: FloatArray
    due: FloatArray
    waited: FloatArray


class KinematicTraffic:
    """The town; ``TrafficWorld``. Same configuration and seed, same history."""

    def __init__(self, config: TrafficConfig | None = None, seed: int = 0) -> None:
        """
        Raises:
            InputError: more vehicles than the streets hold.
        """
        self._config = config = config or TrafficConfig()
        self.step_s = config.step_s
        self._rng = rng = np.random.default_rng([seed, 0x7AF1C])
        self._streets = make_streets(config.blocks, config.pitch_m)
        self.buildings = houses(self._streets, rng)
        self.roads = street_roads(self._streets)
        self._stamp_ns = -round(WARM_UP_S / self.step_s) * self._step_ns
        self._bodies(rng)
        self._vehicles = self._first_vehicles(rng)
        self._people = self._first_people(rng)
        self._rides = self._first_rides(rng)
        self._orbits = rng.uniform((0, 25, 8, 40), (2 * np.pi, 70, 13, 60), (config.uavs, 4))
        self._middles = rng.uniform(0.25, 0.75, (config.uavs, 2)) * config.blocks * config.pitch_m
        while self._stamp_ns < 0:
            self._advance()
        self._ahead: deque[Snapshot] = deque([self._now()])

    @property
    def _step_ns(self) -> int:
        return round(self.step_s * 1e9)

    def snapshot(self) -> Snapshot:
        return self._ahead[0]

    def step(self) -> Snapshot:
        self._look(1)
        self._ahead.popleft()
        return self._ahead[0]

    def plan(self, actor_id: int, horizon_s: float) -> tuple[FloatArray, FloatArray]:
        row = self.snapshot().row(actor_id)
        steps = round(checked_horizon(horizon_s) / self.step_s)
        self._look(steps)
        points = np.array([self._ahead[k].positions[row, :2] for k in range(steps + 1)])
        times_s = np.arange(steps + 1, dtype=np.float64) * self.step_s
        return times_s, points

    def close(self) -> None:
        self._ahead.clear()

    def _look(self, steps: int) -> None:
        while len(self._ahead) <= steps:
            self._advance()
            self._ahead.append(self._now())

    # Who there is.

    def _bodies(self, rng: np.random.Generator) -> None:
        """Classes, sizes, wishes and equipment of everyone, in the order of the snapshot."""
        c = self._config
        kinds = rng.choice(
            [ObjectClass.TRUCK, ObjectClass.BUS, ObjectClass.CAR],
            c.vehicles,
            p=[c.trucks, c.buses, 1 - c.trucks - c.buses],
        )
        middles, yaws = parking(self._streets)
        if c.parked > len(middles):
            raise InputError(f"parked: {c.parked}; this town has {len(middles)} places")
        places = np.sort(rng.choice(len(middles), c.parked, replace=False))
        vans = rng.random(c.parked) < 0.2
        parked = np.where(vans, ObjectClass.TRUCK, ObjectClass.CAR)
        counts = (c.vehicles, c.cyclists, c.people, c.parked, c.uavs)
        self._classes = np.concatenate(
            [
                kinds,
                np.full(c.cyclists, ObjectClass.CYCLIST),
                np.full(c.people, ObjectClass.PERSON),
                parked,
                np.full(c.uavs, ObjectClass.UAV),
            ]
        ).astype(np.uint8)
        self._sizes = np.array([BODY[k] for k in self._classes.tolist()])
        self._sizes *= rng.uniform(0.94, 1.06, self._sizes.shape)
        edges = np.cumsum([0, *counts])
        self._parts = [slice(a, b) for a, b in pairwise(edges.tolist())]
        self._sizes[self._parts[3]][vans] = (5.9, 2.1, 2.7)
        self._parked = (middles[places], yaws[places])
        self._wish = rng.normal(c.speed_mps, 0.1 * c.speed_mps, c.vehicles)
        self._wish *= np.where(kinds == ObjectClass.CAR, 1.0, 0.8)
        self._wish = np.maximum(self._wish, 2.0)
        self._stroll = rng.uniform(1.1, 1.7, c.people)
        self._equipped = np.zeros(edges[-1], bool)
        chosen = rng.permutation(c.vehicles)[: round(c.equipped * c.vehicles)]
        self._equipped[chosen] = True
        self._equipped[self._parts[4]] = True
        self._ids = np.arange(1, edges[-1] + 1, dtype=np.int32)

    def _first_vehicles(self, rng: np.random.Generator) -> _Vehicles:
        """Spread over the lanes with room between them."""
        count, lanes = self._config.vehicles, len(self._streets.ends)
        room = 16.0
        places = int((self._streets.length - 14) // room)
        if count > places * lanes // 2:
            raise InputError(
                f"vehicles: {count} do not fit; this town takes {places * lanes // 2} of them"
            )
        chosen = rng.choice(places * lanes, count, replace=False)
        lane = chosen // places
        s = 7 + room * ((chosen % places).astype(np.float64) + 0.5)
        none = np.full(count, -1)
        turn = self._next_turn(lane, rng)
        return _Vehicles(lane, turn, s, np.zeros(count), none, none.copy())

    def _first_people(self, rng: np.random.Generator) -> _People:
        n, blocks = self._config.people, self._config.blocks
        return _People(
            rng.integers(0, blocks, (n, 2)), rng.integers(0, 4, n),
            rng.uniform(0, self._walk_side, n), rng.choice([-1.0, 1.0], n),
            np.zeros(n, int), np.zeros(n), rng.exponential(15, n), np.zeros(n),
        )  # fmt: skip

    def _first_rides(self, rng: np.random.Generator) -> tuple[IntArray, FloatArray, FloatArray]:
        """Block (C, 2), m round it (C,) and speed (C,); one speed a block, so none overtakes."""
        n, blocks = self._config.cyclists, self._config.blocks
        block = rng.permutation(blocks**2)[np.arange(n) % blocks**2]
        speed = rng.uniform(3.0, 6.0, blocks**2)[block]
        return np.stack([block // blocks, block % blocks], axis=1), rng.uniform(0, 1e3, n), speed

    @property
    def _walk_side(self) -> float:
        return self._config.pitch_m - 2 * SIDEWALK

    def _next_turn(self, lane: IntArray, rng: np.random.Generator) -> IntArray:
        """Straight, left or right at random, of what the crossing offers."""
        weights = np.array([0.5, 0.25, 0.25]) * (self._streets.turns[lane] >= 0)
        edges = np.cumsum(weights, axis=1)
        drawn = rng.random(len(lane))[:, None] * edges[:, -1:]
        turn: IntArray = (drawn >= edges[:, :2]).sum(axis=1)
        return turn

    # How it goes on.

    def _advance(self) -> None:
        bodies = self._vehicle_bodies()
        self._vehicles = self._drive(*bodies)
        self._people = self._walk(*bodies)
        self._stamp_ns += self._step_ns

    def _vehicle_bodies(self) -> tuple[FloatArray, FloatArray]:
        v = self._vehicles
        return self._streets.place(v.lane, v.turn, v.s)

    def _drive(self, points: FloatArray, headings: FloatArray) -> _Vehicles:
        v, dt = self._vehicles, self.step_s
        length = self._sizes[self._parts[0], 0]
        reach = self._streets.length + TURN_LENGTH[v.turn]
        following = self._streets.turns[v.lane, v.turn]

        gap, other, room, first = self._leaders(length, reach, following)
        v = self._claims(length, room, first)
        to_line = self._streets.length - STOP_M - v.s - length / 2
        held = (v.claim >= 0) & (v.approach == v.lane)
        stop = np.where(held, _FAR, np.maximum(to_line, 0.1))
        person = self._person_ahead(points, headings, length)
        tail = self._tail_in_crossing(length)
        wish = np.minimum(self._wish, self._turn_speed(v))

        change = _idm(v.speed, wish, gap, other)
        for obstacle in (stop, person, tail):
            change = np.minimum(change, _idm(v.speed, wish, obstacle, np.zeros_like(obstacle)))
        change = np.clip(change, -HARDEST, ACCELERATION)
        speed = np.maximum(v.speed + change * dt, 0.0)
        s = v.s + (v.speed + speed) / 2 * dt

        over = s >= reach
        lane = np.where(over, following, v.lane)
        s = np.where(over, s - reach, s)
        turn = v.turn.copy()
        turn[over] = self._next_turn(lane[over], self._rng)
        left = (v.claim >= 0) & (lane != v.approach) & (s > length / 2)
        return _Vehicles(
            lane, turn, s, speed, np.where(left, -1, v.claim), np.where(left, -1, v.approach)
        )

    def _leaders(
        self, length: FloatArray, reach: FloatArray, following: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.bool_]]:
        """Gap to and speed of who is ahead, room on the following lane, who leads its lane."""
        v = self._vehicles
        order = np.lexsort((v.s, v.lane))
        lane = v.lane[order]
        same = np.append(lane[1:] == lane[:-1], False)
        ahead = np.where(same, np.roll(order, -1), -1)
        last = np.full(len(self._streets.ends), -1)
        last[lane[::-1]] = order[::-1]  # the hindmost of each lane comes last and stays

        leader = np.empty(len(order), int)
        leader[order] = ahead
        first = leader < 0
        beyond = last[following]
        room = np.where(beyond >= 0, v.s[beyond] - length[beyond] / 2, _FAR)
        leader = np.where(first, beyond, leader)
        distance = v.s[leader] - v.s + np.where(first, reach, 0.0)
        gap = np.where(leader >= 0, distance - (length[leader] + length) / 2, _FAR)
        return np.maximum(gap, 0.1), v.speed[leader], room, first

    def _tail_in_crossing(self, length: FloatArray) -> FloatArray:
        """(V,) free meters to the tail of who left a vehicle's lane but not yet the crossing."""
        v = self._vehicles
        out = (v.claim >= 0) & (v.approach != v.lane)
        tails = np.full(len(self._streets.ends), _FAR)
        beyond = self._streets.length + TURN_LENGTH.min()
        np.minimum.at(tails, v.approach[out], beyond + v.s[out] - length[out] / 2)
        return np.maximum(tails[v.lane] - v.s - length / 2, 0.1)

    def _claims(
        self, length: FloatArray, room: FloatArray, first: npt.NDArray[np.bool_]
    ) -> _Vehicles:
        """Give free crossings to who is nearest, held ones to who follows and keeps none waiting.

        Who leads its lane apart from those that hold the crossing already may claim it.
        """
        v = self._vehicles
        crossing = self._streets.ends[v.lane]
        to_line = self._streets.length - STOP_M - v.s - length / 2
        lead = np.full(len(self._streets.ends), -_FAR)
        unclaimed = ~((v.claim >= 0) & (v.approach == v.lane)) & (v.s <= self._streets.length)
        np.maximum.at(lead, v.lane[unclaimed], v.s[unclaimed])
        wants = unclaimed & (v.claim < 0) & (v.s == lead[v.lane])
        wants &= (to_line < 10 + v.speed**2 / 4) & (room > length + GAP_M + 2)
        rows = np.flatnonzero(wants)
        if not len(rows):
            return v
        holder = np.full(self._streets.crossings, -1)
        has = v.claim >= 0
        holder[v.claim[has]] = v.approach[has]
        rows = rows[np.lexsort((rows, to_line[rows]))]
        waiting = np.bincount(crossing[rows], minlength=len(holder))
        claim, approach = v.claim.copy(), v.approach.copy()
        for row in rows.tolist():
            at = int(crossing[row])
            follows = holder[at] == v.lane[row] and waiting[at] == 1
            if holder[at] < 0 or follows:
                holder[at] = claim[row] = at
                holder[at] = approach[row] = v.lane[row]
        return replace(v, claim=claim, approach=approach)

    def _turn_speed(self, v: _Vehicles) -> FloatArray:
        """m/s that lets a vehicle slow down to what its turn allows."""
        curvature = np.abs(CURVATURE[v.turn])
        fit = np.sqrt(LATERAL / np.maximum(curvature, 1e-3))
        before = np.maximum(self._streets.length - v.s, 0.0)
        allowed: FloatArray = np.sqrt(fit**2 + 2 * 1.5 * before)
        return allowed

    def _person_ahead(
        self, points: FloatArray, headings: FloatArray, length: FloatArray
    ) -> FloatArray:
        """(V,) free meters to the nearest person in or about to enter a vehicle's way."""
        crossing = self._people.mode == CROSS
        if not crossing.any():
            return np.full(len(points), _FAR)
        where, heading, _ = self._person_bodies()
        rel = where[crossing][None] - points[:, None]
        ahead = (rel * headings[:, None]).sum(-1)
        aside = (rel * right_of(headings)[:, None]).sum(-1)
        onward = (heading[crossing][None] * right_of(headings)[:, None]).sum(-1)
        away = aside * onward > 0
        near = (np.abs(aside) < 1.7) | (~away & (np.abs(aside) < 5.0))
        free = ahead - length[:, None] / 2 - 1.0
        nearest: FloatArray = np.where(near & (free > -0.5), free, _FAR).min(axis=1)
        return np.maximum(nearest, 0.1)

    def _person_bodies(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Points (P, 2), unit headings (P, 2) and speeds (P,)."""
        p = self._people
        middle = (p.block + 0.5) * self._config.pitch_m
        along, out = SIDES[p.side], right_of(SIDES[p.side])
        half = self._walk_side / 2
        point = middle + along * (p.x - half)[:, None] + out * (half + p.done)[:, None]
        heading = np.where((p.mode == WALK)[:, None], along * p.sign[:, None], out)
        return point, heading, np.where(p.mode == WAIT, 0.0, self._stroll)

    def _walk(self, vehicles: FloatArray, headings: FloatArray) -> _People:
        p, dt, side = self._people, self.step_s, self._walk_side
        if not len(p.x):
            return p
        moved = self._stroll * dt
        mode, due = p.mode.copy(), p.due - dt

        x = np.where(p.mode == WALK, p.x + p.sign * moved, p.x)
        slot = (x - (FIRST_SLOT - SIDEWALK)) / SLOT
        before = (p.x - (FIRST_SLOT - SIDEWALK)) / SLOT
        inner = (np.minimum(slot, before) > -0.5) & (
            np.maximum(slot, before) < (side - 2 * (FIRST_SLOT - SIDEWALK)) // SLOT + 0.5
        )
        passed = np.floor(slot) != np.floor(before)
        beyond = p.block + right_of(SIDES[p.side]).astype(int)
        there = ((beyond >= 0) & (beyond < self._config.blocks)).all(axis=1)
        begin = (p.mode == WALK) & (due < 0) & inner & passed & there
        mode[begin] = WAIT

        waited = np.where(p.mode == WAIT, p.waited + dt, 0.0)
        clear = self._street_is_clear(vehicles, headings, waited)
        mode[(p.mode == WAIT) & clear] = CROSS
        done = np.where(p.mode == CROSS, p.done + moved, 0.0)
        over = done >= 2 * SIDEWALK
        mode[over] = WALK
        due[over] = self._rng.exponential(25, over.sum())
        sign = p.sign.copy()
        sign[over] = self._rng.choice([-1.0, 1.0], over.sum())

        past = np.where(x >= side, 1, np.where(x < 0, -1, 0))
        return _People(
            np.where(over[:, None], beyond, p.block),
            np.where(over, p.side + 2, p.side + past) % 4,
            np.where(over, side - x, x - past * side),
            sign, mode, np.where(over, 0.0, done), due, waited,
        )  # fmt: skip

    def _street_is_clear(
        self, vehicles: FloatArray, headings: FloatArray, waited: FloatArray
    ) -> npt.NDArray[np.bool_]:
        """(P,): nobody comes for five seconds, or, after a wait, everybody could stop."""
        p = self._people
        kerb, _, _ = self._person_bodies()
        middle = kerb + right_of(SIDES[p.side]) * SIDEWALK
        rel = middle[:, None] - vehicles[None]
        ahead = (rel * headings[None]).sum(-1)
        aside = np.abs((rel * right_of(headings)[None]).sum(-1))
        speed = self._vehicles.speed
        far = np.where((waited < 6)[:, None], 5 * speed + 8, speed**2 / 4 + speed + 6)
        comes: npt.NDArray[np.bool_] = ((aside < 5) & (ahead > -8) & (ahead < far)).any(axis=1)
        return ~comes

    # What it looks like.

    def _now(self) -> Snapshot:
        seconds = self._stamp_ns * 1e-9
        n = len(self._ids)
        points, headings, speeds = np.zeros((n, 2)), np.zeros((n, 2)), np.zeros(n)
        cars, bikes, people, parked, uavs = self._parts
        points[cars], headings[cars] = self._vehicle_bodies()
        speeds[cars] = self._vehicles.speed
        block, offset, pace = self._rides
        points[bikes], headings[bikes] = self._ride(block, offset + pace * seconds)
        speeds[bikes] = pace
        points[people], headings[people], speeds[people] = self._person_bodies()
        points[parked], yaw = self._parked
        headings[parked] = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        start, radius, speed, altitude = self._orbits.T
        angle = start + speed / radius * seconds
        around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points[uavs] = self._middles + radius[:, None] * around
        headings[uavs], speeds[uavs] = -right_of(around), speed

        height = self._sizes[:, 2] / 2
        height[uavs] = altitude
        velocity = headings * speeds[:, None]
        return Snapshot(
            self._stamp_ns, self._ids, self._classes, np.column_stack([points, height]),
            np.column_stack([velocity, np.zeros(n)]), np.arctan2(headings[:, 1], headings[:, 0]),
            self._sizes, self._equipped,
        )  # fmt: skip

    def _ride(self, block: IntArray, distance: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Clockwise round a block, on the cycle strip: four sides and four quarter circles."""
        radius = HALF - STRIP
        side = self._config.pitch_m - 2 * HALF
        quarter = side + np.pi / 2 * radius
        k, along = np.divmod(distance, quarter)
        forward = SIDES[-k.astype(int) % 4]
        out = -right_of(forward)  # away from the block, to the left
        straight = np.minimum(along, side)
        angle = (along - straight) / radius
        middle = (block + 0.5) * self._config.pitch_m
        point = middle + forward * (straight - side / 2 + radius * np.sin(angle))[:, None]
        point = point + out * (side / 2 + radius * np.cos(angle))[:, None]
        heading = forward * np.cos(angle)[:, None] - out * np.sin(angle)[:, None]
        return point, heading


def _idm(speed: FloatArray, wish: FloatArray, gap: FloatArray, other: FloatArray) -> FloatArray:
    """m/s² of the Intelligent Driver Model; braking above the wish is held to be comfortable."""
    toward = speed * (speed - other) / (2 * np.sqrt(ACCELERATION * BRAKING))
    wanted = GAP_M + np.maximum(speed * HEADWAY_S + toward, 0.0)
    free = np.maximum(1 - (speed / wish) ** 4, -BRAKING / ACCELERATION)
    change: FloatArray = ACCELERATION * (free - (wanted / gap) ** 2)
    return change
