"""What a receiver asks for: the corridor that it will drive or fly, and what it sees itself.

Tens of bytes instead of a raster: of the polyline with times only the points that are not on the
way between others, and a width; and four bits a sector for how far the view is free. Places are
decimeters from the pose in the message's envelope.
"""

import struct
from dataclasses import dataclass

import numpy as np

from comms.envelope import Envelope
from comms.reasons import Reason, Rejected
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.pose import Pose

MAX_POINTS = 32
MAX_SECTORS = 72
MAX_LEAD_S = 25.5
MAX_WIDTH_M = 25.5
_HEAD = struct.Struct("<BBB")
_DM = 0.1
STRAIGHT_M = 0.5
"""A point so near to where its neighbors lead to at its time does not travel."""
SPACING_S = 1.0
"""Between points of a plan that arrived, at most."""
FREE_M = np.array([0, 2, 4, 6, 8, 10, 13, 16, 20, 25, 31, 39, 49, 62, 80, 120], np.float64)
"""m, what four bits say of a sector: the view is free so far at least."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Where a vehicle means to be.

    stamp_ns: from when the times count. times_s: (K,) float64, rising, at most 25.5.
    points: (K, 2) float64, m, x y in the fixed frame. width_m: of the corridor.

    Raises:
        InputError: no point or too many, times that do not rise, a value that is not finite.
    """

    stamp_ns: int
    times_s: FloatArray
    points: FloatArray
    width_m: float = 3.0

    def __post_init__(self) -> None:
        k = len(self.times_s)
        if not 0 < k <= MAX_POINTS or self.points.shape != (k, 2):
            raise InputError(f"Plan: give 1 to {MAX_POINTS} times and as many points (x, y)")
        if not (np.isfinite(self.points).all() and np.isfinite(self.times_s).all()):
            raise InputError("Plan: a time or point is not finite")
        if (
            self.times_s[0] < 0
            or self.times_s[-1] > MAX_LEAD_S
            or (np.diff(self.times_s) < 0).any()
        ):
            raise InputError(f"Plan.times_s must rise, from 0 to at most {MAX_LEAD_S}")
        if not 0 <= self.width_m <= MAX_WIDTH_M:
            raise InputError(f"Plan.width_m: {self.width_m:g} is out of range 0 to {MAX_WIDTH_M}")


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """How far a vehicle's view is free: what moves closer than that, it sees itself.

    free_m: (S,) float64 of equal sectors about ``center`` (2,), the first one beginning at x and
    going on counter-clockwise.
    """

    center: FloatArray
    free_m: FloatArray

    def __post_init__(self) -> None:
        if not 0 < len(self.free_m) <= MAX_SECTORS:
            raise InputError(f"Sight: give 1 to {MAX_SECTORS} sectors")
        if not (np.isfinite(self.free_m).all() and np.isfinite(self.center).all()):
            raise InputError("Sight: a range is not finite")
        if (self.free_m < 0).any():
            raise InputError("Sight: a range is below 0")

    def margins(self, points: FloatArray) -> FloatArray:
        """(N,) m by which points, (N, 2), lie inside of the free view; below 0 outside."""
        away = points - self.center
        share = np.arctan2(away[:, 1], away[:, 0]) / (2 * np.pi) % 1.0
        sector = np.minimum((share * len(self.free_m)).astype(np.intp), len(self.free_m) - 1)
        return np.asarray(self.free_m[sector] - np.hypot(away[:, 0], away[:, 1]))


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A plan, and what is seen already where that is known; from whom and of when."""

    station: int
    plan: Plan
    sight: Sight | None = None


def encode(plan: Plan, sight: Sight | None, pose: Pose, capture_ns: int) -> bytes:
    """The payload: 3 bytes, 5 for each point that is ahead or the last and not on the way between
    its neighbors, half a byte for each sector.

    pose: of the message's envelope, as is capture_ns.
    """
    late_s = (capture_ns - plan.stamp_ns) * 1e-9
    ahead = plan.times_s >= late_s
    ahead[-1] = True
    times, points = plan.times_s[ahead] - late_s, plan.points[ahead]
    rows = _corners(times, points)
    times, points = times[rows], points[rows]
    offsets = np.clip((points - pose.position[:2]) / _DM, -32768, 32767).round().astype("<i2")
    sectors = 0 if sight is None else len(sight.free_m)
    codes = np.zeros(sectors + sectors % 2, np.uint8)
    if sight is not None:
        codes[:sectors] = np.searchsorted(FREE_M, sight.free_m, "right") - 1
    head = _HEAD.pack(round(plan.width_m / _DM), len(times), sectors)
    leads = np.clip(times / _DM, 0, 255).round().astype(np.uint8)
    return head + leads.tobytes() + offsets.tobytes() + (codes[::2] << 4 | codes[1::2]).tobytes()


def _corners(times: FloatArray, points: FloatArray) -> list[int]:
    """Rows of a polyline in time without which it would be another one (Douglas, Peucker)."""
    kept, parts = {0, len(times) - 1}, [(0, len(times) - 1)]
    while parts:
        first, last = parts.pop()
        between = np.arange(first + 1, last)
        if not len(between):
            continue
        share = (times[between] - times[first]) / max(times[last] - times[first], 1e-9)
        way = points[first] + share[:, None] * (points[last] - points[first])
        off = np.linalg.norm(points[between] - way, axis=1)
        if off.max() > STRAIGHT_M:
            corner = int(between[off.argmax()])
            kept.add(corner)
            parts += [(first, corner), (corner, last)]
    return sorted(kept)


def decode(data: bytes, envelope: Envelope) -> Request:
    """The request in a payload.

    Raises:
        Rejected: a payload that is no request.
    """
    if len(data) < _HEAD.size:
        raise Rejected(Reason.TRUNCATED, f"a request of {len(data)} bytes")
    width, count, sectors = _HEAD.unpack_from(data)
    half = (sectors + 1) // 2
    if len(data) != _HEAD.size + 5 * count + half or sectors > MAX_SECTORS:
        raise Rejected(Reason.TRUNCATED, f"a request of {len(data)} bytes, {count} points")
    times = np.frombuffer(data, np.uint8, count, _HEAD.size).astype(np.float64) * _DM
    offsets = np.frombuffer(data, "<i2", 2 * count, _HEAD.size + count).reshape(count, 2)
    packed = np.frombuffer(data, np.uint8, half, _HEAD.size + 5 * count)
    codes = np.stack([packed >> 4, packed & 15], axis=1).ravel()[:sectors]
    here = envelope.pose.position[:2]
    try:
        plan = Plan(envelope.capture_ns, times, here + offsets * _DM, width * _DM)
        sight = Sight(here, FREE_M[codes]) if sectors else None
        return Request(envelope.station, _dense(plan), sight)
    except InputError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from None


def _dense(plan: Plan) -> Plan:
    """With points in between, the largest gaps first, until none is over ``SPACING_S`` or there are
    as many as there may be."""
    gaps = np.diff(plan.times_s)
    if not len(gaps):
        return plan
    parts = np.ones(len(gaps), np.int64)
    while parts.sum() + 1 < MAX_POINTS:
        widest = int((gaps / parts).argmax())
        if gaps[widest] / parts[widest] <= SPACING_S * (1 + 1e-6):
            break
        parts[widest] += 1
    part = np.repeat(np.arange(len(parts)), parts)
    share = (np.arange(len(part)) - np.repeat(np.cumsum(parts) - parts, parts)) / parts[part]
    share, part = np.append(share, 1.0), np.append(part, part[-1])
    times = plan.times_s[part] + share * np.diff(plan.times_s)[part]
    points = plan.points[part] + share[:, None] * np.diff(plan.points, axis=0)[part]
    return Plan(plan.stamp_ns, times, points, plan.width_m)
