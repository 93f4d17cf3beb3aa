"""Objects as an ETSI Collective Perception Message (TS 103 324 v2.1.1) in UPER.

Written and read by hand bit by bit, for speed and without a dependency; the tests hold it to what
asn1tools makes of ETSI's grammar (comms/cpm_grammar.py). A message has a management container, an
originating vehicle container (so that a station that sends it alone is understood) and one
container of perceived objects, each with id, time of measurement, position, velocity, angle about
z, correlations, dimensions, quality and class as far as they are known.

The standard's accuracies are half-widths of 95 %, on linear scales that end early: a velocity worse
than ±1.25 m/s is only "out of range". Such a one is read as ``RANGE_SIGMA``, and one beyond that is
left out and read as standing still ± ``MISSING_SIGMA``, so that no receiver is told more certainty
than there is. Ids travel modulo 65536. UAVs have no class there; they arrive as obstacles.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from comms.envelope import Envelope
from comms.geodesy import Origin
from comms.reasons import Reason, Rejected
from comms.uncertainty import (
    correlation_matrix,
    excess,
    normalized,
    rounded_correlations,
)
from comms.uper import Reader, Writer
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

MAX_OBJECTS = 255
HEAD_BYTES = 40
"""At most, of a message without its objects."""
OBJECT_BITS = 371
"""At most, an object."""
RANGE_SIGMA, MISSING_SIGMA = 5.0, 50.0
"""m/s: what a velocity's accuracy "out of range", and a missing velocity, are read as."""
FAR_SIGMA = 1000.0
"""m: what a position's accuracy "out of range" or "unavailable" is read as."""
UNKNOWN_QUALITY = 0.5
_PROTOCOL, _CPM = 2, 14
_VEHICLE, _PERCEIVED = 1, 5
_EPOCH_MS = 1_072_915_200_000
"""2004-01-01 in ms since 1970."""
_LEAP_MS = 5_000
"""Leap seconds since, which the standard's clock counts."""
_SIGMAS_95 = 1.96
_ELLIPSE_95 = 2.4478
"""Deviations, of a plane's 95 % ellipse."""
_MAX_METERS = 1310.7
_MAX_SPEED = 163.8
_PAIRS = ((0, 1), (0, 3), (0, 4), (1, 3), (1, 4), (3, 4))
"""x, y and their velocities: the lower triangle, column by column."""
_MIN_EIGENVALUE = 0.02
_NO_Z = 131_072 << 12 | 4096 - 1

_VEHICLES = {
    0: ObjectClass.UNKNOWN, 1: ObjectClass.PERSON, 2: ObjectClass.CYCLIST,
    3: ObjectClass.MOTORCYCLE, 4: ObjectClass.MOTORCYCLE, 5: ObjectClass.CAR, 6: ObjectClass.BUS,
    7: ObjectClass.TRUCK, 8: ObjectClass.TRUCK, 9: ObjectClass.TRUCK, 10: ObjectClass.TRUCK,
    11: ObjectClass.BUS, 12: ObjectClass.CYCLIST, 13: ObjectClass.ANIMAL, 14: ObjectClass.TRUCK,
}  # fmt: skip
"""TrafficParticipantType → class."""
_ROAD_USERS = (
    ObjectClass.PERSON, ObjectClass.CYCLIST, ObjectClass.MOTORCYCLE, ObjectClass.ANIMAL,
)  # fmt: skip
"""VruProfileAndSubprofile → class."""
_ON_FOOT = (2, 4)
"""Profiles of cyclists that are none: wheelchair and roller skates."""
_VEHICLE_CODES = {ObjectClass.CAR: 5, ObjectClass.BUS: 6, ObjectClass.TRUCK: 8}
_VRU_CODES = {
    ObjectClass.PERSON: (0, 1), ObjectClass.CYCLIST: (1, 1), ObjectClass.MOTORCYCLE: (2, 2),
    ObjectClass.ANIMAL: (3, 0),
}  # fmt: skip
"""Profile and subprofile."""
_OTHER_CODES = {ObjectClass.UNKNOWN: 0, ObjectClass.UAV: 1, ObjectClass.OBSTACLE: 1}
_ALTITUDE_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
"""m, of AltitudeConfidence."""


def encode(
    objects: Objects, pose: Pose, capture_ns: int, station: int = 0, origin: Origin | None = None
) -> bytes:
    """The message of at most 255 objects whose states speak for ``capture_ns``.

    origin: of the local frame on the earth; without it the reference position is "unavailable",
    and only receivers that have the envelope can place the objects.

    Raises:
        InputError: more objects, or one over 1310 m from the sender along an axis.
    """
    if not 0 <= station < 2**32:
        raise InputError(f"station {station} takes more than 32 bits")
    if len(objects) > MAX_OBJECTS:
        raise InputError(f"Objects: {len(objects)} for one CPM; give at most {MAX_OBJECTS}")
    out = Writer()
    out.put(_PROTOCOL, 8)
    out.put(_CPM, 8)
    out.put(station, 32)
    out.put(0, 1 + 1 + 2)  # no extensions, neither segmentation nor rate
    out.put(max(0, capture_ns // 1_000_000 - _EPOCH_MS + _LEAP_MS) % 2**42, 42)
    _write_position(out, pose, origin)
    out.put(0, 1)
    out.put(2 - 1, 3)  # containers
    out.put(_VEHICLE - 1, 4)
    out.put_open(_vehicle(pose))
    out.put(_PERCEIVED - 1, 4)
    out.put_open(_perceived(objects, pose, capture_ns))
    return out.data()


def decode(payload: bytes, envelope: Envelope) -> Objects:
    """The objects in a message, measured by the envelope's station.

    Read is what ``encode`` writes and what else a perceived object may hold but map positions,
    groups and extensions; other containers are skipped.

    Raises:
        Rejected: MALFORMED.
    """
    reader = Reader(payload)
    if reader.take(8) != _PROTOCOL or reader.take(8) != _CPM:
        raise Rejected(Reason.MALFORMED, "no CPM of protocol version 2")
    if reader.take(32) not in (0, envelope.station):
        raise Rejected(Reason.MALFORMED, "the CPM is of another station than its envelope")
    _plain(reader.take(2))
    optional = reader.take(2)
    reader.take(42 + 31 + 32 + 36 + 24)
    reader.take(6 * (optional >> 1) + 20 * (optional & 1))
    _plain(reader.take(1))
    found: list[_Read] = []
    for _ in range(1 + reader.take(3)):
        kind, content = 1 + reader.take(4), reader.take_open()
        if kind == _PERCEIVED:
            found += _read_perceived(Reader(content))
    try:
        return _objects(found, envelope)
    except InputError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from None


def _write_position(out: Writer, pose: Pose, origin: Origin | None) -> None:
    axes, directions = np.linalg.eigh(pose.covariance[:2, :2])
    minor, major = _ELLIPSE_95 * np.sqrt(np.maximum(axes, 0))
    heading = math.degrees(math.atan2(directions[0, 1], directions[1, 1])) % 180
    latitude, longitude, height, height_code = 900_000_001, 1_800_000_001, 800_001, 15
    if origin:
        at = origin.to_wgs84(pose.position)
        latitude, longitude = round(at[0] * 1e7), round(at[1] * 1e7)
        height = int(np.clip(math.ceil(100 * at[2]), -100_000, 800_000))
        sigma = math.sqrt(pose.covariance[2, 2])
        height_code = sum(_SIGMAS_95 * sigma > step for step in _ALTITUDE_STEPS)
    out.put(latitude + 900_000_000, 31)
    out.put(longitude + 1_800_000_000, 32)
    for axis in (major, minor):
        out.put(int(np.clip(math.ceil(100 * axis), 1, 4094)), 12)
    out.put(round(10 * heading) % 3600, 12)
    out.put(height + 100_000, 20)
    out.put(height_code, 4)


def _vehicle(pose: Pose) -> Writer:
    out = Writer()
    out.put(0, 1 + 3)
    out.put(round(10 * (90 - math.degrees(pose.yaw))) % 3600, 12)
    sigma = math.degrees(math.sqrt(pose.covariance[3, 3]))
    out.put(int(np.clip(math.ceil(10 * _SIGMAS_95 * sigma), 1, 126)) - 1, 7)
    return out


@dataclass(frozen=True, slots=True)
class _Uncertainty:
    """accuracy: (N, 6) the standard's codes. rho: (N, 6) of the pairs, in 1/100. moving: (N,)
    whether the velocity is sent."""

    accuracy: npt.NDArray[np.int64]
    rho: npt.NDArray[np.int64]
    moving: npt.NDArray[np.bool_]


def _covered(objects: Objects) -> _Uncertainty:
    """Codes whose covariance bounds the true one."""
    sigma, normal = normalized(objects.covariances)
    wide = sigma.copy()
    # The height's correlation with its velocity does not travel; that is made good there alone.
    wide[:, [2, 5]] *= np.sqrt(1 + np.abs(normal[:, 2, 5]).clip(max=1))[:, None]
    rho = rounded_correlations(normal, _PAIRS, 100)
    moving: npt.NDArray[np.bool_] = np.all(np.abs(objects.velocities) <= _MAX_SPEED, axis=1)
    codes = np.zeros((len(objects), 6), np.int64)
    short = np.arange(len(objects))
    for attempt in range(8):
        moving[short] &= np.all(wide[short, 3:] <= RANGE_SIGMA, axis=1)
        rho[short[~moving[short]], 1:] = 0
        rounded = np.ceil(wide[short] * (100 * _SIGMAS_95) - 1e-9)
        codes[short] = np.clip(rounded, 1, [4095] * 3 + [126] * 3)
        sent = _sigmas(codes[short], moving[short])
        correlation = correlation_matrix(rho[short] / 100, _PAIRS, 6)
        factor = excess(normal[short], sigma[short], sent, correlation)
        over = factor > 1 + 1e-9
        short = short[over]
        if not len(short):
            break
        linear = rounded[over] == codes[short]
        wide[short] = np.where(linear, sent[over], wide[short]) * np.sqrt(factor[over, None])
        if attempt == 3:  # without correlations a greater deviation always covers more
            rho[short] = 0
    return _Uncertainty(codes, rho, moving)


def _sigmas(accuracy: npt.NDArray[np.int64], moving: npt.NDArray[np.bool_]) -> FloatArray:
    """(N, 6) deviations that the standard's codes are read as."""
    sigma = accuracy / (100 * _SIGMAS_95)
    sigma[:, :3][accuracy[:, :3] >= 4095] = FAR_SIGMA
    sigma[:, 3:][accuracy[:, 3:] >= 126] = RANGE_SIGMA
    sigma[~moving, 3:] = MISSING_SIGMA
    return sigma


def _perceived(objects: Objects, pose: Pose, capture_ns: int) -> Writer:
    offset = objects.positions - np.rint(1000 * pose.position) / 1000
    farthest = np.abs(offset).max(initial=0.0)
    if farthest > _MAX_METERS:
        raise InputError(
            f"Objects.positions: {farthest:.0f} m from the sender; a CPM reaches {_MAX_METERS:g} m"
        )
    codes = _covered(objects)
    known = np.isfinite(objects.yaws)
    degrees = np.degrees(np.where(known, objects.yaws, 0)) % 360
    turned = np.where(known, np.ceil(10 * degrees - 1e-6) % 3600, -1)
    speeds = np.clip(objects.velocities, -_MAX_SPEED, _MAX_SPEED)
    sizes = np.where(objects.sizes > 0, np.clip(np.ceil(10 * objects.sizes - 1e-6), 1, 255), 0)
    late = np.clip((objects.measured_ns - capture_ns) // 1_000_000, -2048, 2047)

    out = Writer()
    out.put(0, 1)
    out.put(len(objects), 8)
    out.put(0, 1)
    out.put(len(objects), 8)
    rows = zip(
        (objects.ids.astype(np.int64) % 65536).tolist(),
        (late + 2048).tolist(),
        np.ceil(100 * offset - 1e-6).astype(int).tolist(),
        np.ceil(100 * speeds - 1e-6).astype(int).tolist(),
        codes.accuracy.tolist(),
        codes.moving.tolist(),
        turned.astype(int).tolist(),
        codes.rho.tolist(),
        sizes.astype(int).tolist(),
        np.floor(15 * objects.quality + 1e-9).astype(int).tolist(),
        objects.classes.tolist(),
        strict=True,
    )
    for identity, delta, at, speed, accuracy, moving, angle, rho, size, quality, kind in rows:
        correlated = any(rho)
        flags = 0b10000000001010 | moving << 12 | (angle >= 0) << 10 | correlated << 8
        flags |= (size[2] > 0) << 7 | (size[1] > 0) << 6 | (size[0] > 0) << 5
        out.put(flags, 1 + 14)
        out.put(identity, 16)
        out.put(delta, 12)
        out.put(1, 1)
        for value, code in zip(at, accuracy, strict=False):
            out.put(value + 131_072 << 12 | code - 1, 18 + 12)
        if moving:
            out.put(0b11, 1 + 1)  # cartesian, with z
            for value, code in zip(speed, accuracy[3:], strict=True):
                out.put(value + 16_383 << 7 | code - 1, 15 + 7)
        if angle >= 0:
            out.put(angle << 7 | 127 - 1, 2 + 12 + 7)  # about z only, of unknown accuracy
        if correlated:
            _write_correlations(out, rho, moving)
        for value in reversed(size):
            if value:
                out.put(value - 1 << 5 | 32 - 1, 8 + 5)  # of unknown accuracy
        out.put(quality, 4)
        _write_class(out, kind)
    return out


def _write_correlations(out: Writer, rho: list[int], moving: bool) -> None:
    """One matrix over x, y and, where it is sent, the velocity in the plane."""
    rows = 4 if moving else 2
    out.put(0, 2)
    out.put(0b1101100000000 if moving else 0b1100000000000, 1 + 13)
    out.put(rows - 1 - 1, 1 + 4)
    cells = iter(rho)
    for column in range(rows - 1, 0, -1):
        out.put(column - 1, 1 + 4)
        for _ in range(column):
            out.put(next(cells) + 100, 8)


def _write_class(out: Writer, kind: int) -> None:
    out.put(0, 3)  # one
    if kind in _VEHICLE_CODES:
        out.put(0, 1 + 2)
        out.put(_VEHICLE_CODES[ObjectClass(kind)], 4)
    elif kind in _VRU_CODES:
        profile, sub = _VRU_CODES[ObjectClass(kind)]
        out.put(1, 1 + 2)
        out.put(profile, 1 + 2)
        out.put(sub, 4)
    else:
        out.put(3, 1 + 2)
        out.put(_OTHER_CODES[ObjectClass(kind)], 8)
    out.put(101 - 1, 7)  # of unknown confidence


@dataclass(slots=True)
class _Read:
    """An object as it was read: the standard's codes, velocities already in m/s."""

    identity: int = 0
    late_ms: int = 0
    position: tuple[int, int, int] = (0, 0, 0)
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    accuracy: tuple[int, ...] = (4096,) * 3
    speed_sigma: tuple[float, float, float] = (MISSING_SIGMA,) * 3
    yaw: float = math.nan
    correlations: tuple[tuple[int, int, int], ...] = ()
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quality: float = UNKNOWN_QUALITY
    kind: ObjectClass = ObjectClass.UNKNOWN


def _plain(extended: int) -> None:
    if extended:
        raise Rejected(Reason.MALFORMED, "an extension of the CPM that is not read here")


def _read_perceived(reader: Reader) -> list[_Read]:
    _plain(reader.take(1))
    reader.take(8)
    _plain(reader.take(1))
    return [_read_object(reader) for _ in range(reader.take(8))]


def _read_object(reader: Reader) -> _Read:
    flags = reader.take(1 + 14)
    _plain(flags >> 14)

    def has(field: int) -> int:
        return flags >> 13 - field & 1

    if not has(0) or has(13):
        raise Rejected(Reason.MALFORMED, "an object without an id, or on a map")
    head = reader.take(16 + 12 + 1)
    found = _Read(identity=head >> 13, late_ms=(head >> 1 & 0xFFF) - 2048)
    x, y = reader.take(18 + 12), reader.take(18 + 12)
    z = reader.take(18 + 12) if head & 1 else _NO_Z
    found.position = ((x >> 12) - 131_072, (y >> 12) - 131_072, (z >> 12) - 131_072)
    found.accuracy = (1 + (x & 0xFFF), 1 + (y & 0xFFF), 1 + (z & 0xFFF))
    polar = bool(has(1)) and _read_velocity(reader, found)
    if has(2):  # acceleration
        first = 8 + 7 + 12 + 7 if reader.take(1) == 0 else 2 * (9 + 7)
        reader.take(first + (9 + 7) * reader.take(1))
    if has(3):
        angle = reader.take(2 + 12 + 7)
        found.yaw = _angle(angle >> 7 & 0xFFF)
        reader.take(19 * (angle >> 20) + 19 * (angle >> 19 & 1))
    reader.take(12 * has(4))  # turning
    if has(5):
        found.correlations = _read_correlations(reader, polar)
    sizes = [_dimension(reader) if has(field) else 0.0 for field in (6, 7, 8)]
    found.size = (sizes[2], sizes[1], sizes[0])
    reader.take(11 * has(9))  # since when it is known
    if has(10):
        found.quality = reader.take(4) / 15
    if has(11):
        _plain(reader.take(1))
        reader.take(8 * (1 + reader.take(7)))  # sensors
    if has(12):
        found.kind = _read_class(reader)
    return found


def _read_velocity(reader: Reader, found: _Read) -> bool:
    """Whether it is polar."""
    head = reader.take(1 + 1)
    polar, has_z = head < 2, head & 1
    if polar:
        speed, accuracy = reader.take(14), 1 + reader.take(7)
        direction, spread = _angle(reader.take(12)), 1 + reader.take(7)
        known = speed < 16_382 and math.isfinite(direction) and spread < 126
        x, y = (0.01 * speed * f(direction) if known else 0.0 for f in (math.cos, math.sin))
        across = 0.01 * speed * math.radians(0.1 * spread) / _SIGMAS_95
        sigma = max(_speed_sigma(accuracy), across) if known else MISSING_SIGMA
        parts = [(x, sigma), (y, sigma)]
    else:
        parts = [_velocity_component(reader) for _ in range(2)]
    parts.append(_velocity_component(reader) if has_z else (0.0, MISSING_SIGMA))
    found.velocity = (parts[0][0], parts[1][0], parts[2][0])
    found.speed_sigma = (parts[0][1], parts[1][1], parts[2][1])
    return polar


def _velocity_component(reader: Reader) -> tuple[float, float]:
    """m/s, and its deviation."""
    both = reader.take(15 + 7)
    value, accuracy = (both >> 7) - 16_383, 1 + (both & 0x7F)
    if not -16_383 < value < 16_382:
        return 0.0, MISSING_SIGMA
    return 0.01 * (value - 0.5), _speed_sigma(accuracy)


def _speed_sigma(accuracy: int) -> float:
    return accuracy / (100 * _SIGMAS_95) if accuracy < 126 else RANGE_SIGMA


def _angle(code: int) -> float:
    """rad; NaN where it is unavailable."""
    if code >= 3600:
        return math.nan
    return math.remainder(math.radians(0.1 * (code - 0.5)), math.tau)


def _dimension(reader: Reader) -> float:
    """m; 0 where it is unavailable."""
    value = 1 + (reader.take(8 + 5) >> 5)
    return 0.0 if value == 256 else 0.1 * (value - 0.5)


def _read_correlations(reader: Reader, polar: bool) -> tuple[tuple[int, int, int], ...]:
    """(row, column, 1/100) among x, y, z and their velocities."""
    found = []
    for _ in range(1 + reader.take(2)):
        mask = reader.take(1 + 13)
        _plain(mask >> 13)
        parts = [k for k in range(13) if mask >> 12 - k & 1]
        if 1 + reader.take(1 + 4) != len(parts) - 1:
            raise Rejected(Reason.MALFORMED, "a matrix of another size than its components")
        for i, column in enumerate(parts[:-1]):
            rows = parts[i + 1 :]
            if 1 + reader.take(1 + 4) != len(rows):
                raise Rejected(Reason.MALFORMED, "a column of another length than its matrix's")
            cells = reader.take(8 * len(rows)).to_bytes(len(rows), "big")
            for row, cell in zip(rows, cells, strict=True):
                if cell > 201:
                    raise Rejected(Reason.MALFORMED, f"a correlation of {cell - 100} %")
                if row < (3 if polar else 6) and cell != 201:
                    found.append((row, column, cell - 100))
    return tuple(found)


def _read_class(reader: Reader) -> ObjectClass:
    """The likeliest one."""
    best, kind = -1, ObjectClass.UNKNOWN
    for _ in range(1 + reader.take(3)):
        choice = reader.take(1 + 2)
        _plain(choice >> 2)
        if choice == 0:
            candidate = _VEHICLES.get(reader.take(4), ObjectClass.UNKNOWN)
        elif choice == 1:
            profile, sub = divmod(reader.take(1 + 2 + 4), 16)
            _plain(profile >> 2)
            on_foot = profile == 1 and sub in _ON_FOOT
            candidate = ObjectClass.PERSON if on_foot else _ROAD_USERS[profile]
        elif choice == 3:
            candidate = ObjectClass.UNKNOWN if reader.take(8) == 0 else ObjectClass.OBSTACLE
        else:
            raise Rejected(Reason.MALFORMED, "a group of road users, which is not read here")
        confidence = (1 + reader.take(7)) % 101
        if confidence > best:
            best, kind = confidence, candidate
    return kind


def _objects(found: list[_Read], envelope: Envelope) -> Objects:
    n = len(found)
    positions = np.array([f.position for f in found], float).reshape(n, 3)
    return Objects(
        stamp_ns=envelope.capture_ns,
        ready_ns=envelope.capture_ns,
        ids=np.array([f.identity for f in found], np.int32),
        stations=np.full(n, envelope.station, np.uint32),
        positions=0.01 * (positions - 0.5) + envelope.pose.position,
        velocities=np.array([f.velocity for f in found], float).reshape(n, 3),
        yaws=np.array([f.yaw for f in found], float),
        sizes=np.array([f.size for f in found], float).reshape(n, 3),
        covariances=_covariances(found),
        classes=np.array([f.kind for f in found], np.uint8),
        quality=np.array([f.quality for f in found], float),
        measured_ns=envelope.capture_ns
        + 1_000_000 * np.array([f.late_ms for f in found], np.int64),
    )


def _covariances(found: list[_Read]) -> FloatArray:
    """(N, 6, 6); correlations that contradict each other are weakened until they do not."""
    n = len(found)
    sigma = np.empty((n, 6))
    matrix = np.tile(np.eye(6), (n, 1, 1))
    for k, f in enumerate(found):
        sigma[k, :3] = [FAR_SIGMA if a >= 4095 else a / (100 * _SIGMAS_95) for a in f.accuracy]
        sigma[k, 3:] = f.speed_sigma
        for row, column, value in f.correlations:
            matrix[k, row, column] = matrix[k, column, row] = value / 100
    lowest = np.linalg.eigvalsh(matrix)[:, :1, None]
    keep = np.minimum(1, (1 - _MIN_EIGENVALUE) / np.maximum(1 - lowest, 1e-9))
    matrix = np.eye(6) + keep * (matrix - np.eye(6))
    covariances: FloatArray = matrix * (sigma[:, :, None] * sigma[:, None, :])
    return covariances
