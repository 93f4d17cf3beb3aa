"""Objects in 36 bytes each, covariance included: our own form, one numpy record an object.

Positions are relative to the sender's, in a unit that the payload's first byte names (cm · 2^n, the
finest in which all fit); velocities in 1/80 m/s, yaws in 1/32767 of half a turn, sizes on a
logarithmic scale of 2.8 % a step, deviations and five correlations as comms/uncertainty.py packs
them. What rounding does to a state is counted into its covariance.
"""

import numpy as np

from comms import uncertainty
from comms.envelope import VELOCITY_UNIT, Envelope
from comms.reasons import Reason, Rejected
from pipeline.errors import InputError
from pipeline.objects import Objects
from pipeline.pose import Pose

RECORD = np.dtype(
    [
        ("id", ">i4"), ("measured", ">i2"), ("position", ">i2", 3), ("velocity", ">i2", 3),
        ("yaw", ">i2"), ("size", "u1", 3), ("class", "u1"), ("quality", "u1"),
        ("sigma", "u1", 6), ("correlation", "i1", 5),
    ]
)  # fmt: skip
OBJECT_BYTES = RECORD.itemsize
HEAD_BYTES = 1
_PAIRS = ((0, 1), (3, 4), (0, 3), (1, 4), (2, 5))
"""Correlations that travel: x with y, their velocities, each axis with its velocity."""
_UNIT = 0.01
_MAX_EXPONENT = 15
_YAW_UNKNOWN = -32768
_YAW_UNIT = np.pi / 32767
_SMALLEST, _LARGEST = 0.1, 100.0
_SIZE_STEP = np.log(_LARGEST / _SMALLEST) / 254


def encode(objects: Objects, pose: Pose, capture_ns: int) -> bytes:
    """``HEAD_BYTES`` and ``OBJECT_BYTES`` an object. The states speak for ``capture_ns``.

    A time of measurement over 32 s from capture, a size over 100 m and a covariance beyond its
    scale saturate.

    Raises:
        InputError: an object over 10,000 km away.
    """
    offset = objects.positions - np.rint(1000 * pose.position) / 1000
    farthest = float(np.abs(offset).max(initial=0.0))
    exponent = max(0, int(np.ceil(np.log2(max(farthest, _UNIT) / (32767 * _UNIT)))))
    if exponent > _MAX_EXPONENT:
        raise InputError(f"Objects.positions: {farthest:.0f} m from the sender; over 10,000 km")
    unit = _UNIT * 2**exponent
    covariances = objects.covariances.copy()
    for axis, rounded in enumerate([unit] * 3 + [VELOCITY_UNIT] * 3):
        covariances[:, axis, axis] += rounded**2 / 12

    records = np.zeros(len(objects), RECORD)
    records["id"] = objects.ids
    records["measured"] = np.clip((objects.measured_ns - capture_ns) // 1_000_000, -32768, 32767)
    records["position"] = np.clip(np.rint(offset / unit), -32767, 32767)
    records["velocity"] = np.rint(objects.velocities / VELOCITY_UNIT)
    known = np.isfinite(objects.yaws)
    yaws = np.where(known, np.remainder(objects.yaws + np.pi, 2 * np.pi) - np.pi, 0)
    records["yaw"] = np.where(known, np.rint(yaws / _YAW_UNIT), _YAW_UNKNOWN)
    steps = np.log(np.clip(np.abs(objects.sizes), _SMALLEST, _LARGEST) / _SMALLEST) / _SIZE_STEP
    records["size"] = np.where(objects.sizes > 0, 1 + np.rint(steps), 0)
    records["class"] = objects.classes
    records["quality"] = np.floor(255 * objects.quality + 1e-9)
    records["sigma"], records["correlation"] = uncertainty.encode(covariances, _PAIRS)
    return bytes([exponent]) + records.tobytes()


def decode(payload: bytes, envelope: Envelope) -> Objects:
    """The objects of what ``encode`` made, measured by the envelope's station.

    Raises:
        Rejected: MALFORMED.
    """
    count, rest = divmod(len(payload) - HEAD_BYTES, OBJECT_BYTES)
    if count < 0 or rest or payload[0] > _MAX_EXPONENT:
        raise Rejected(Reason.MALFORMED, f"{len(payload)} bytes are no list of objects")
    records = np.frombuffer(payload, RECORD, count, HEAD_BYTES)
    yaws = records["yaw"] * _YAW_UNIT
    yaws[records["yaw"] == _YAW_UNKNOWN] = np.nan
    sizes = _SMALLEST * np.exp(_SIZE_STEP * (records["size"] - 1.0))
    sizes[records["size"] == 0] = 0
    try:
        return Objects(
            stamp_ns=envelope.capture_ns,
            ready_ns=envelope.capture_ns,
            ids=records["id"].astype(np.int32),
            stations=np.full(count, envelope.station, np.uint32),
            positions=records["position"] * (_UNIT * 2 ** payload[0]) + envelope.pose.position,
            velocities=records["velocity"] * VELOCITY_UNIT,
            yaws=yaws,
            sizes=sizes,
            covariances=uncertainty.decode(records["sigma"], records["correlation"], _PAIRS),
            classes=records["class"].copy(),
            quality=records["quality"] / 255,
            measured_ns=envelope.capture_ns + 1_000_000 * records["measured"].astype(np.int64),
        )
    except ValueError as error:  # InputError is one
        raise Rejected(Reason.MALFORMED, str(error)) from None
