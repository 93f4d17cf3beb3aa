"""Objects in 35 bytes each, covariance included: our own form, one numpy record an object.

Positions are relative to the sender's, in a unit that the payload's first byte names (cm · 2^n, the
finest in which all fit); velocities in 1/80 m/s, yaws in 1/32767 of half a turn, sizes on a
logarithmic scale of 2.8 % a step. A covariance is turned into its own axes in the plane, where that
of a filter is one position and one velocity an axis; then it travels as that angle, six deviations
and three correlations (comms/uncertainty.py). What rounding does to a state is counted into it.
"""

import numpy as np

from comms import uncertainty
from comms.envelope import VELOCITY_UNIT, Envelope
from comms.reasons import Reason, Rejected
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import Objects
from pipeline.pose import Pose

RECORD = np.dtype(
    [
        ("id", ">i4"), ("measured", ">i2"), ("position", ">i2", 3), ("velocity", ">i2", 3),
        ("yaw", ">i2"), ("size", "u1", 3), ("class", "u1"), ("quality", "u1"),
        ("axis", "u1"), ("sigma", "u1", 6), ("correlation", "i1", 3),
    ]
)  # fmt: skip
OBJECT_BYTES = RECORD.itemsize
HEAD_BYTES = 1
_PAIRS = ((0, 3), (1, 4), (2, 5))
"""Correlations that travel: each axis with its velocity."""
_AXIS_UNIT = np.pi / 256
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
    records["axis"] = np.rint(_axis(covariances) / _AXIS_UNIT).astype(np.int64) % 256
    turned = _turned(covariances, -_AXIS_UNIT * records["axis"])
    records["sigma"], records["correlation"] = uncertainty.encode(turned, _PAIRS)
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
            covariances=_turned(
                uncertainty.decode(records["sigma"], records["correlation"], _PAIRS),
                _AXIS_UNIT * records["axis"],
            ),
            classes=records["class"].copy(),
            quality=records["quality"] / 255,
            measured_ns=envelope.capture_ns + 1_000_000 * records["measured"].astype(np.int64),
        )
    except ValueError as error:  # InputError is one
        raise Rejected(Reason.MALFORMED, str(error)) from None


def _axis(covariances: FloatArray) -> FloatArray:
    """(N,) rad, of the longest axis in the plane: of position and velocity, each by its size."""
    across = np.zeros(len(covariances))
    along = np.zeros(len(covariances))
    for x, y in ((0, 1), (3, 4)):
        size = covariances[:, x, x] + covariances[:, y, y]
        across += (covariances[:, x, y] + covariances[:, y, x]) / size
        along += (covariances[:, x, x] - covariances[:, y, y]) / size
    return np.arctan2(across, along) / 2


def _turned(covariances: FloatArray, angles: FloatArray) -> FloatArray:
    """(N, 6, 6) turned about z by (N,) rad."""
    turn = np.zeros((len(angles), 6, 6))
    turn[:, 2, 2] = turn[:, 5, 5] = 1
    cos, sin = np.cos(angles), np.sin(angles)
    for x, y in ((0, 1), (3, 4)):
        turn[:, x, x] = turn[:, y, y] = cos
        turn[:, y, x] = sin
        turn[:, x, y] = -sin
    return turn @ covariances @ turn.swapaxes(1, 2)
