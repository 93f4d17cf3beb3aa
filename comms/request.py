"""What a receiver asks for: the corridor that it will drive or fly, and what it sees itself.

Tens of bytes instead of a raster: a polyline with times and a width, and one byte a sector for how
far the view is free. Places are decimeters from the pose in the message's envelope.
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
    """The payload: 3 bytes, 5 for each point that is ahead or the last, 1 for each sector.

    pose: of the message's envelope, as is capture_ns.
    """
    late_s = (capture_ns - plan.stamp_ns) * 1e-9
    ahead = plan.times_s >= late_s
    ahead[-1] = True
    times, points = plan.times_s[ahead] - late_s, plan.points[ahead]
    offsets = np.clip((points - pose.position[:2]) / _DM, -32768, 32767).round().astype("<i2")
    ranges = np.zeros(0) if sight is None else np.floor(np.clip(sight.free_m, 0, 255))
    head = _HEAD.pack(round(plan.width_m / _DM), len(times), len(ranges))
    leads = np.clip(times / _DM, 0, 255).round().astype(np.uint8)
    return head + leads.tobytes() + offsets.tobytes() + ranges.astype(np.uint8).tobytes()


def decode(data: bytes, envelope: Envelope) -> Request:
    """The request in a payload.

    Raises:
        Rejected: a payload that is no request.
    """
    if len(data) < _HEAD.size:
        raise Rejected(Reason.TRUNCATED, f"a request of {len(data)} bytes")
    width, count, sectors = _HEAD.unpack_from(data)
    if len(data) != _HEAD.size + 5 * count + sectors or sectors > MAX_SECTORS:
        raise Rejected(Reason.TRUNCATED, f"a request of {len(data)} bytes, {count} points")
    times = np.frombuffer(data, np.uint8, count, _HEAD.size).astype(np.float64) * _DM
    offsets = np.frombuffer(data, "<i2", 2 * count, _HEAD.size + count).reshape(count, 2)
    free = np.frombuffer(data, np.uint8, sectors, _HEAD.size + 5 * count).astype(np.float64)
    here = envelope.pose.position[:2]
    try:
        plan = Plan(envelope.capture_ns, times, here + offsets * _DM, width * _DM)
        sight = Sight(here, free) if sectors else None
    except InputError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from None
    return Request(envelope.station, plan, sight)
