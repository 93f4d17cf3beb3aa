"""Objects in about 14 bytes each, covariance included: our own form, in bits.

Every field is a whole number in a fixed unit: places 5 cm from the sender's, velocities 0.1 m/s,
yaws 255ths of a turn, sizes by how far they are from the usual one of the class in steps of 5.6 %,
the time since it was measured in 10 ms. The head says how many bits each field takes, as many as
the largest of the message needs. A covariance is turned into its own axes in the plane, where that
of a filter is one position and one velocity an axis; then it travels as that angle, six deviations
in steps of 10 % and three correlations. What rounding does to a state is counted into it.
"""

from dataclasses import dataclass

import numpy as np

from comms.bits import Ints, Reader, Writer, widths_of
from comms.envelope import Envelope
from comms.reasons import Reason, Rejected
from comms.statures import SIZE_STEPS, TYPICAL, sizes_of, steps_of
from comms.uncertainty import correlation_matrix, excess, normalized, rounded_correlations
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import MAX_METERS, MAX_SPEED, ObjectClass, Objects
from pipeline.pose import Pose

HEAD_BYTES, OBJECT_BYTES = 16, 14
"""About: what a payload of few objects of a filter takes."""
MAX_COUNT = 255
PLACE_UNIT, HEIGHT_UNIT, VELOCITY_UNIT = 0.05, 0.1, 0.1
"""m and m/s."""
_MAX_PLACE = 2**28
_AGE_UNIT_NS = 10_000_000
_MAX_AGE = 4095
_YAWS = 255
"""Codes of a turn, and the one that says unknown."""
_AXES = 32
"""Directions of an axis, in half a turn."""
_AXIS_UNIT: float = np.pi / _AXES
_QUALITY = 1 - np.append(2.0 ** (-np.arange(31) / 4), 0)
"""Codes get closer where it is more certain that an object exists."""
_SIGMAS = np.append(0.01 * 1.1 ** np.arange(127), 3162.0)
"""m, m/s; the last one says: nobody knows."""
_RHO_UNITS = 15
_FARTHEST = 63
"""Codes that the deviations along and across may be apart."""
_PAIRS = ((0, 3), (1, 4), (2, 5))
"""Correlations that travel: each axis with its velocity."""


@dataclass(frozen=True, slots=True)
class _Field:
    """bits: of its width in the head; 0: it always has ``width``."""

    bits: int
    signed: bool = False
    width: int = 0


_FIELDS = {
    "id": _Field(6), "age": _Field(4), "x": _Field(5, True), "y": _Field(5, True),
    "z": _Field(5), "vx": _Field(4, True), "vy": _Field(4, True), "vz": _Field(4, True),
    "yaw": _Field(0, width=8), "class": _Field(0, width=4), "quality": _Field(0, width=5),
    "length": _Field(4), "width": _Field(4), "height": _Field(4), "axis": _Field(3),
    "place": _Field(3), "across": _Field(3, True), "speed": _Field(3),
    "speed across": _Field(3, True), "up": _Field(3), "climb": _Field(3), "rho": _Field(3, True),
    "rho across": _Field(3, True), "rho up": _Field(3, True),
}  # fmt: skip
"""Of an object, in this order. Deviations are codes: along the longer axis less the smallest of the
message; across it less those along it. So are the correlations of the other axes."""
_FIXED = np.array([f.width for f in _FIELDS.values()])
_IS_SIGNED = [f.signed for f in _FIELDS.values()]
_SIGNED = np.array(_IS_SIGNED)
_LEAST = ("place", "speed", "up", "climb")
"""Whose smallest code stands in the head."""
_LEAST_BITS = 7
_WIDTH_BITS = [field.bits for field in _FIELDS.values()]
_AT = {name: k for k, name in enumerate(_FIELDS)}
_ID, _AGE, _YAW, _CLASS, _EXISTS, _AXIS = (
    _AT[name] for name in ("id", "age", "yaw", "class", "quality", "axis")
)
_PLACE, _VELOCITY = slice(_AT["x"], _AT["z"] + 1), slice(_AT["vx"], _AT["vz"] + 1)
_SIZES = slice(_AT["length"], _AT["height"] + 1)
_LIFTED = [_AT[name] for name in ("z", *_LEAST)]
_DEVIATIONS = [_AT[name] for name in ("place", "across", "up", "speed", "speed across", "climb")]
_CORRELATIONS = slice(_AT["rho"], _AT["rho up"] + 1)
_NONE = Objects.none(0)
_PLACE_UNITS = np.array([PLACE_UNIT, PLACE_UNIT, HEIGHT_UNIT])


def _size_table() -> FloatArray:
    """(classes, 3, codes) m; code 0 is an unknown size."""
    far = np.arange(2 * SIZE_STEPS + 1)
    steps = steps_of(TYPICAL)[:, :, None] + np.where(far % 2, -(far + 1) // 2, far // 2)
    return np.concatenate([np.zeros((*steps.shape[:2], 1)), sizes_of(steps)], axis=2)


_SIZE_TABLE = _size_table()


def encode(objects: Objects, pose: Pose, capture_ns: int) -> bytes:
    """The payload, objects in the order of their ids. The states speak for ``capture_ns``.

    What was measured over 41 s before saturates, as do a size over 100 m and a deviation over
    3162.

    Raises:
        InputError: an object over 10,000 km away, or over ``MAX_COUNT`` of them.
    """
    if len(objects) > MAX_COUNT:
        raise InputError(f"{len(objects)} objects; cut them into messages of {MAX_COUNT}")
    objects = objects.selected(np.argsort(objects.ids, kind="stable"))
    places = np.rint((objects.positions - np.rint(100 * pose.position) / 100) / _PLACE_UNITS)
    if np.abs(places).max(initial=0) >= _MAX_PLACE:
        raise InputError("Objects.positions: over 10,000 km from the sender")
    x, y, z = places.astype(np.int64).T
    vx, vy, vz = np.rint(objects.velocities / VELOCITY_UNIT).astype(np.int64).T
    known = np.isfinite(objects.yaws)
    yaws = np.rint(np.where(known, objects.yaws, 0) * (_YAWS / (2 * np.pi))).astype(np.int64)
    sizes = _size_codes(objects)
    ids = objects.ids.astype(np.int64)
    lowest = int(z.min(initial=2**31)) if len(z) else 0
    values: dict[str, Ints] = {
        "id": np.diff(ids, prepend=ids[:1]),
        "age": np.clip(-((objects.measured_ns - capture_ns) // _AGE_UNIT_NS), 0, _MAX_AGE),
        "x": x, "y": y, "z": z - lowest, "vx": vx, "vy": vy, "vz": vz,
        "yaw": np.where(known, yaws % _YAWS, _YAWS), "class": objects.classes.astype(np.int64),
        "quality": np.searchsorted(_QUALITY, objects.quality + 1e-9, "right") - 1,
        "length": sizes[:, 0], "width": sizes[:, 1], "height": sizes[:, 2],
        **_uncertainty(objects),
    }  # fmt: skip
    out = Writer()
    out.put(len(objects), 8)
    if not len(objects):
        return out.done(np.zeros((0, 0), np.int64), np.zeros(0, np.int64))
    out.put_long(int(ids[0]))
    out.put_long(lowest)
    for name in _LEAST:
        least = int(values[name].min())
        values[name] = values[name] - least
        out.put(least, _LEAST_BITS)
    records = np.stack([values[name] for name in _FIELDS], axis=1)
    widths = np.where(_FIXED > 0, _FIXED, widths_of(records, _SIGNED))
    for width, field in zip(widths.tolist(), _FIELDS.values(), strict=True):
        out.put(width, field.bits)
    return out.done(records, widths)


def decode(payload: bytes, envelope: Envelope) -> Objects:
    """The objects of what ``encode`` made, measured by the envelope's station.

    Raises:
        Rejected: MALFORMED.
    """
    got = Reader(payload)
    count = got.take(8)
    if not count:
        got.records(0, [], [])
        return _NONE.derived(stamp_ns=envelope.capture_ns, ready_ns=envelope.capture_ns)
    first, lowest = got.take_long(), got.take_long()
    least = got.take_all([_LEAST_BITS] * len(_LEAST))
    sent = got.take_all(_WIDTH_BITS)
    widths = [width or field.width for width, field in zip(sent, _FIELDS.values(), strict=True)]
    v = got.records(count, widths, _IS_SIGNED)
    classes, codes = v[:, _CLASS], v[:, _SIZES]
    if classes.max() >= len(ObjectClass) or codes.max() >= _SIZE_TABLE.shape[2]:
        raise Rejected(Reason.MALFORMED, "a class or size that there is not")
    ids = first + np.cumsum(v[:, _ID])
    if v[:, _ID].max() >= 2**32 or not -(2**31) <= ids[0] <= ids[-1] < 2**31:
        raise Rejected(Reason.MALFORMED, "an id of over 32 bits")
    lifts = np.zeros(len(_FIELDS), np.int64)
    lifts[_LIFTED] = [lowest, *least]
    v += lifts
    yaws = v[:, _YAW] * (2 * np.pi / _YAWS)
    yaws[v[:, _YAW] == _YAWS] = np.nan
    places, velocities = v[:, _PLACE] * _PLACE_UNITS, v[:, _VELOCITY] * VELOCITY_UNIT
    if max(places.max(), -places.min()) > MAX_METERS - 1e5:
        raise Rejected(Reason.MALFORMED, "a place beyond any")
    if max(velocities.max(), -velocities.min()) > MAX_SPEED:
        raise Rejected(Reason.MALFORMED, "an absurd velocity")
    return _NONE.derived(
        stamp_ns=envelope.capture_ns,
        ready_ns=envelope.capture_ns,
        ids=ids.astype(np.int32),
        stations=np.full(count, envelope.station, np.uint32),
        positions=envelope.pose.position + places,
        velocities=velocities,
        yaws=yaws,
        sizes=_SIZE_TABLE[classes[:, None], [0, 1, 2], codes],
        covariances=_covariances(v),
        classes=classes.astype(np.uint8),
        quality=_QUALITY[v[:, _EXISTS]],
        measured_ns=envelope.capture_ns - _AGE_UNIT_NS * v[:, _AGE],
    )


def _size_codes(objects: Objects) -> Ints:
    """(N, 3): 0 of an unknown one, else 1 and more by how far it is from the usual one."""
    off = steps_of(np.abs(objects.sizes)) - steps_of(TYPICAL[objects.classes])
    return np.where(objects.sizes > 0, 1 + np.where(off < 0, -2 * off - 1, 2 * off), 0)


def _uncertainty(objects: Objects) -> dict[str, Ints]:
    """The fields of the covariances, what rounding adds included."""
    covariances = objects.covariances.copy()
    units = (PLACE_UNIT, PLACE_UNIT, HEIGHT_UNIT, *[VELOCITY_UNIT] * 3)
    for axis, unit in enumerate(units):
        covariances[:, axis, axis] += unit**2 / 12
    axes: Ints = np.rint(_axis(covariances) / _AXIS_UNIT).astype(np.int64) % _AXES
    turned = _turned(covariances, np.asarray(-_AXIS_UNIT * axes))
    sigma, normal = normalized(turned)
    rho = rounded_correlations(normal, _PAIRS, _RHO_UNITS)
    codes = np.searchsorted(_SIGMAS, sigma * (1 - 1e-9))
    for one, other in ((0, 1), (3, 4)):  # told as differences, which have seven bits
        codes[:, one] = np.maximum(codes[:, one], codes[:, other] - _FARTHEST)
        codes[:, other] = np.maximum(codes[:, other], codes[:, one] - _FARTHEST)
    matrix = correlation_matrix(rho / _RHO_UNITS, _PAIRS, 6)
    for _ in range(len(_SIGMAS)):
        factor = excess(normal, sigma, _SIGMAS[codes], matrix)
        low = (factor > 1 + 1e-9) & (codes < len(_SIGMAS) - 1).all(axis=1)
        if not low.any():
            break
        codes[low] += 1
    place, across, up, speed, speed_across, climb = codes.T
    even = (place == across) & (speed == speed_across) & (rho[:, 0] == rho[:, 1])
    return {
        "axis": np.where(even, 0, axes), "place": place, "across": across - place, "speed": speed,
        "speed across": speed_across - speed, "up": up, "climb": climb, "rho": rho[:, 0],
        "rho across": rho[:, 1] - rho[:, 0], "rho up": rho[:, 2] - rho[:, 0],
    }  # fmt: skip


def _covariances(v: Ints) -> FloatArray:
    """(N, 6, 6) of the fields.

    Raises:
        Rejected: MALFORMED: of deviations or correlations that there are not.
    """
    codes = v[:, _DEVIATIONS]
    codes[:, 1] += codes[:, 0]
    codes[:, 4] += codes[:, 3]
    rho = v[:, _CORRELATIONS]
    rho[:, 1:] += rho[:, :1]
    if codes.min() < 0 or codes.max() >= len(_SIGMAS) or np.abs(rho).max() >= _RHO_UNITS:
        raise Rejected(Reason.MALFORMED, "a covariance that there is not")
    sigma = _SIGMAS[codes]
    covariances = np.zeros((len(v), 36))
    covariances[:, ::7] = sigma * sigma
    covariances[:, 3:18:7] = rho * (sigma[:, :3] * sigma[:, 3:] / _RHO_UNITS)
    covariances[:, 18::7] = covariances[:, 3:18:7]
    square = covariances.reshape(-1, 6, 6)
    return _turned(square, np.asarray(_AXIS_UNIT * v[:, _AXIS]))


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
    if not angles.any():
        return covariances
    turn = np.zeros((len(angles), 6, 6))
    turn[:, 2, 2] = turn[:, 5, 5] = 1
    cos, sin = np.cos(angles), np.sin(angles)
    for x, y in ((0, 1), (3, 4)):
        turn[:, x, x] = turn[:, y, y] = cos
        turn[:, y, x] = sin
        turn[:, x, y] = -sin
    return turn @ covariances @ turn.swapaxes(1, 2)
