"""What every message carries around its payload: who, what, when, where, how sure, for how long.

All numbers are big-endian (`docs/v2x-wire.md` has the table). Times travel in 10 µs, positions in
cm, the yaw in 65536ths of a turn, velocities in 1/80 m/s, the pose's covariance as four deviations
and the correlation of x and y (comms/uncertainty.py). With its class and size that is the sender
as an object, so a message without a payload tells of it as well. A CRC-32 closes the message:
damage is told from forgery, which only a signature (comms/signing.py) rules out.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from comms import uncertainty
from comms.reasons import Reason, Rejected
from comms.statures import sizes_of, steps_of
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from pipeline.pose import MAP, Pose

VERSION = 2
MTU = 1400
"""Bytes of a datagram, signature included, that every usual link carries in one piece."""
_HEADER = struct.Struct(">BHBIIHIH9sHhhh4Bb4B")
_CRC = struct.Struct(">I")
HEADER_BYTES = _HEADER.size + _CRC.size
"""Of an envelope without its payload."""
VELOCITY_UNIT = 1 / 80
"""m/s; 16 bits reach past the fastest velocity that `Pose` and `Objects` allow."""
TIME_UNIT_NS = 10_000
_MAX_TIME = 2**48
_TTL_UNIT_MS = 100
MAX_TTL_MS = 12_700
_POSITION_UNIT = 0.01
_MAX_POSITION = 2**23
_TURN = 65536 / math.tau
_PAIRS = ((0, 1),)
_SIZES = [0.0, *sizes_of(np.arange(255)).tolist()]
"""m, of a byte of a body's size."""


class Layer(IntEnum):
    """What a message is about; a certificate says which of them its station may send."""

    OBJECTS = 1
    FEATURES = 2
    REQUEST = 3


class Content(IntEnum):
    """How a payload of objects is encoded."""

    COMPACT = 0
    CPM = 1


class ClockQuality(IntEnum):
    """What disciplines the sender's clock."""

    UNKNOWN = 0
    FREE = 1
    NTP = 2
    PTP = 3
    GNSS = 4

    @property
    def sigma_s(self) -> float:
        """Standard deviation of the clock's error in s, to be counted with the content's age."""
        return (0.1, 0.05, 5e-3, 1e-4, 1e-6)[self]


@dataclass(frozen=True, slots=True)
class Body:
    """What a sender is, and its size in m; 0: unknown."""

    kind: ObjectClass
    length_m: float
    width_m: float
    height_m: float


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """A message.

    station: who sends, 1 to 2³²−1. sequence: counts the station's datagrams modulo 2³².
    capture_ns: the moment that the content speaks for, up to the year 2059; it travels in 10 µs.
    ttl_ms: after capture, 1 to ``MAX_TTL_MS``; it travels in 100 ms, rounded up. pose: of the
    sender at capture. body: its class and size. payload: in the encoding that layer and content
    name.

    Raises:
        InputError: a field out of range, or a payload over what fits into one datagram.
    """

    station: int
    sequence: int
    capture_ns: int
    ttl_ms: int
    pose: Pose
    clock: ClockQuality
    layer: Layer
    content: Content
    body: Body
    payload: bytes

    def __post_init__(self) -> None:
        for name, low, high in (
            ("station", 1, 2**32 - 1), ("sequence", 0, 2**32 - 1), ("ttl_ms", 1, MAX_TTL_MS),
            ("capture_ns", 0, TIME_UNIT_NS * (_MAX_TIME - 1)),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"Envelope.{name} is {value}; give {low} to {high}")
        if len(self.payload) > MTU - HEADER_BYTES:
            raise InputError(
                f"Envelope.payload has {len(self.payload)} bytes; cut it into parts of at most "
                f"{MTU - HEADER_BYTES}"
            )

    @property
    def asks(self) -> bool:
        """Whether it holds a request: alone, or ahead of objects with its length in a byte."""
        return self.layer == Layer.REQUEST or (
            self.layer == Layer.OBJECTS and self.payload[:1] > b"\0"
        )


def frame_hash(frame_id: str) -> int:
    """16 bits that stand for a frame's name."""
    return zlib.crc32(frame_id.encode()) & 0xFFFF


def pack(envelope: Envelope) -> bytes:
    """``HEADER_BYTES`` and the payload.

    Raises:
        InputError: a position over 83 km from the frame's origin.
    """
    pose, body = envelope.pose, envelope.body
    position = np.rint(pose.position / _POSITION_UNIT).astype(int).tolist()
    if max(map(abs, position)) >= _MAX_POSITION:
        raise InputError("Pose.position: over 83 km from the frame's origin; use a nearer one")
    codes, correlations = uncertainty.encode(pose.covariance[None], _PAIRS)
    kind = envelope.layer << 14 | envelope.clock << 11 | len(envelope.payload)
    time = (envelope.capture_ns + TIME_UNIT_NS // 2) // TIME_UNIT_NS
    sizes = np.array([body.length_m, body.width_m, body.height_m])
    header = _HEADER.pack(
        VERSION,
        kind,
        envelope.content << 7 | -(-envelope.ttl_ms // _TTL_UNIT_MS),
        envelope.station,
        envelope.sequence,
        time >> 32,
        time & 0xFFFFFFFF,
        frame_hash(pose.frame_id),
        b"".join(p.to_bytes(3, "big", signed=True) for p in position),
        round(pose.yaw * _TURN) % 65536,
        *np.rint(pose.velocity / VELOCITY_UNIT).astype(int).tolist(),
        *codes[0].tolist(),
        correlations[0, 0],
        body.kind,
        *np.where(sizes > 0, 1 + steps_of(sizes), 0).tolist(),
    )
    packed = header + envelope.payload
    return packed + _CRC.pack(zlib.crc32(packed))


def unpack(data: bytes, frame_id: str = MAP) -> Envelope:
    """The message of what ``pack`` made.

    Raises:
        Rejected: OVERSIZE, TRUNCATED, VERSION, CRC, MALFORMED or FRAME.
    """
    if len(data) > MTU:
        raise Rejected(Reason.OVERSIZE, f"{len(data)} bytes; {MTU} is the most")
    if data and data[0] != VERSION:
        raise Rejected(Reason.VERSION, f"{data[0]}; this station speaks {VERSION}")
    if len(data) < HEADER_BYTES:
        raise Rejected(Reason.TRUNCATED, f"{len(data)} bytes; a header has {HEADER_BYTES}")
    (
        _, kind, rest, station, sequence, high, low, frame, place, yaw, vx, vy, vz, sx, sy, sz,
        syaw, rho, body, *sizes,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    length = kind & 0x7FF
    if len(data) < HEADER_BYTES + length:
        raise Rejected(Reason.TRUNCATED, f"{len(data)} bytes of {HEADER_BYTES + length}")
    if zlib.crc32(data[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise Rejected(Reason.CRC, "the checksum differs")
    if len(data) != HEADER_BYTES + length:
        raise Rejected(Reason.MALFORMED, f"{len(data)} bytes where {HEADER_BYTES + length} belong")
    if frame != frame_hash(frame_id):
        raise Rejected(Reason.FRAME, f"not {frame_id}: stations that share must share a frame")
    position = [int.from_bytes(place[k : k + 3], "big", signed=True) for k in (0, 3, 6)]
    capture_ns = TIME_UNIT_NS * (high << 32 | low)
    try:
        pose = Pose(
            capture_ns,
            np.array(position) * _POSITION_UNIT,
            yaw / _TURN,
            np.array([vx, vy, vz]) * VELOCITY_UNIT,
            uncertainty.decode_pose((sx, sy, sz, syaw), rho),
            frame_id,
        )
        return Envelope(
            station, sequence, capture_ns, _TTL_UNIT_MS * (rest & 0x7F), pose,
            ClockQuality(kind >> 11 & 7), Layer(kind >> 14), Content(rest >> 7),
            Body(ObjectClass(body), *(_SIZES[size] for size in sizes)),
            data[_HEADER.size : -_CRC.size],
        )  # fmt: skip
    except ValueError as error:  # of an enum, of the correlation, or an InputError
        raise Rejected(Reason.MALFORMED, str(error)) from None
