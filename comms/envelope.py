"""What every message carries around its payload: who, when, where, how sure, for how long.

All numbers are big-endian (`docs/v2x-wire.md` has the table). Positions travel in mm, the yaw in
65536ths of a turn, velocities in 1/80 m/s, the pose's covariance as four deviations and the
correlation of x and y (comms/uncertainty.py). A CRC-32 closes the message: damage is told from
forgery, which only a signature (comms/signing.py) rules out.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from comms import uncertainty
from comms.reasons import Reason, Rejected
from pipeline.errors import InputError
from pipeline.pose import MAP, Pose

VERSION = 1
MTU = 1400
"""Bytes of a datagram, signature included, that every usual link carries in one piece."""
_HEADER = struct.Struct(">BBBBBHHIIqIiiiHhhh4Bb")
_CRC = struct.Struct(">I")
HEADER_BYTES = _HEADER.size + _CRC.size
"""Of an envelope without its payload."""
VELOCITY_UNIT = 1 / 80
"""m/s; 16 bits reach past the fastest velocity that `Pose` and `Objects` allow."""
_TURN = 65536 / math.tau
_PAIRS = ((0, 1),)


class Layer(IntEnum):
    """What a message is about; a certificate says which of them its station may send."""

    AWARENESS = 0
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


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """A message.

    station: who sends, 1 to 2³²−1. sequence: counts the station's datagrams modulo 2³²; each
    piece has its own. capture_ns: the moment that the content speaks for. ttl_ms: after capture, 1
    to 65535. pose: of the sender at capture. piece, pieces: which of how many, from 0 and each
    usable alone. payload: in the encoding that layer and content name.

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
    piece: int
    pieces: int
    payload: bytes

    def __post_init__(self) -> None:
        for name, low, high in (
            ("station", 1, 2**32 - 1), ("sequence", 0, 2**32 - 1), ("capture_ns", 0, 2**63 - 1),
            ("ttl_ms", 1, 65535), ("pieces", 1, 255), ("piece", 0, self.pieces - 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"Envelope.{name} is {value}; give {low} to {high}")
        if len(self.payload) > MTU - HEADER_BYTES:
            raise InputError(
                f"Envelope.payload has {len(self.payload)} bytes; cut it into pieces of at most "
                f"{MTU - HEADER_BYTES}"
            )


def frame_hash(frame_id: str) -> int:
    """32 bits that stand for a frame's name."""
    return zlib.crc32(frame_id.encode())


def pack(envelope: Envelope) -> bytes:
    """``HEADER_BYTES`` and the payload.

    Raises:
        InputError: a position over 2147 km from the frame's origin.
    """
    pose = envelope.pose
    position = np.rint(1000 * pose.position).astype(int).tolist()
    if max(map(abs, position)) >= 2**31:
        raise InputError("Pose.position: over 2147 km from the frame's origin; use a nearer one")
    codes, correlations = uncertainty.encode(pose.covariance[None], _PAIRS)
    header = _HEADER.pack(
        VERSION,
        envelope.layer << 4 | envelope.content,
        envelope.clock,
        envelope.piece,
        envelope.pieces,
        envelope.ttl_ms,
        len(envelope.payload),
        envelope.station,
        envelope.sequence,
        envelope.capture_ns,
        frame_hash(pose.frame_id),
        *position,
        round(pose.yaw * _TURN) % 65536,
        *np.rint(pose.velocity / VELOCITY_UNIT).astype(int).tolist(),
        *codes[0].tolist(),
        correlations[0, 0],
    )
    body = header + envelope.payload
    return body + _CRC.pack(zlib.crc32(body))


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
        _, kind, clock, piece, pieces, ttl_ms, length, station, sequence, capture_ns, frame,
        x, y, z, yaw, vx, vy, vz, sx, sy, sz, syaw, rho,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    if len(data) < HEADER_BYTES + length:
        raise Rejected(Reason.TRUNCATED, f"{len(data)} bytes of {HEADER_BYTES + length}")
    if zlib.crc32(data[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise Rejected(Reason.CRC, "the checksum differs")
    if len(data) != HEADER_BYTES + length:
        raise Rejected(Reason.MALFORMED, f"{len(data)} bytes where {HEADER_BYTES + length} belong")
    if frame != frame_hash(frame_id):
        raise Rejected(Reason.FRAME, f"not {frame_id}: stations that share must share a frame")
    try:
        pose = Pose(
            capture_ns,
            np.array([x, y, z]) / 1000,
            yaw / _TURN,
            np.array([vx, vy, vz]) * VELOCITY_UNIT,
            uncertainty.decode(
                np.array([[sx, sy, sz, syaw]], np.uint8), np.array([[rho]], np.int8), _PAIRS
            )[0],
            frame_id,
        )
        return Envelope(
            station, sequence, capture_ns, ttl_ms, pose, ClockQuality(clock), Layer(kind >> 4),
            Content(kind & 15), piece, pieces, data[_HEADER.size : -_CRC.size],
        )  # fmt: skip
    except ValueError as error:  # of an enum, of the correlation, or an InputError
        raise Rejected(Reason.MALFORMED, str(error)) from None
