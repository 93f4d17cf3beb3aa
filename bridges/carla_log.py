"""Reads what CARLA's recorder wrote: every frame's actors, as the server had them.

A file is little endian: u16 version (1), a text ``CARLA_RECORDER``, i64 date, the map's name, then
packets of u8 kind, u32 size and content. A text is a u16 length and its bytes. Each frame is the
packets from ``FRAME_START`` to ``FRAME_END``; most hold a u16 count and as many records. Lengths
are in cm, angles in degrees, velocities in m/s, angular velocities in degrees/s about the world's
axes. Read off recordings of real servers; kinds that are not known are left out.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import MAX_METERS

MAGIC = b"CARLA_RECORDER"
VERSION = 1
MAX_PACKET = 1 << 24
"""Bytes; 65535 positions take 1.8 MB."""
MAX_ADDED = 1 << 20
"""Bytes of the actors that come in one frame; a camera with all its attributes takes 2 kB."""
MAX_PACKETS = 64
"""In a frame; the recorder writes each of some twenty kinds once."""
MAX_TEXT = 1024
MAX_ATTRIBUTES = 256
MAX_SECONDS = 1e7


class Packet(IntEnum):
    """Kinds that are read; vehicles' lights and doors, physics, weather and the like are not."""

    FRAME_START = 0
    FRAME_END = 1
    ADDED = 2
    REMOVED = 3
    PARENTS = 4
    COLLISIONS = 5
    POSITIONS = 6
    LIGHTS = 7
    VEHICLES = 8
    WALKERS = 9
    KINEMATICS = 12
    BOXES = 13
    PLATFORM_TIME = 14


class Type(IntEnum):
    """What an added actor is."""

    OTHER = 0
    VEHICLE = 1
    WALKER = 2
    TRAFFIC_LIGHT = 3


def _record(**columns: str) -> np.dtype[np.void]:
    return np.dtype([(name, kind) for name, kind in columns.items()])


RECORDS: dict[int, np.dtype[np.void]] = {
    Packet.REMOVED: _record(id="<u4"),
    Packet.PARENTS: _record(id="<u4", parent="<u4"),
    Packet.COLLISIONS: _record(id="<u4", first="<u4", second="<u4", hero_1="u1", hero_2="u1"),
    Packet.POSITIONS: np.dtype([("id", "<u4"), ("place", "<f4", 3), ("angles", "<f4", 3)]),
    Packet.LIGHTS: _record(id="<u4", frozen="u1", elapsed="<f4", state="u1"),
    Packet.VEHICLES: _record(
        id="<u4", steer="<f4", throttle="<f4", brake="<f4", hand_brake="u1", gear="<i4"
    ),
    Packet.WALKERS: _record(id="<u4", speed="<f4"),
    Packet.KINEMATICS: np.dtype([("id", "<u4"), ("velocity", "<f4", 3), ("rates", "<f4", 3)]),
    Packet.BOXES: np.dtype([("id", "<u4"), ("center", "<f4", 3), ("extent", "<f4", 3)]),
}
"""Records of the packets that are a count and records. Angles are roll, pitch, yaw; an extent is
half a side; collisions were not seen in a recording yet."""


class BrokenLogError(InputError):
    """The file ends, or breaks off into nonsense, after frames that were whole."""


@dataclass(frozen=True, slots=True)
class Added:
    """An actor that came: its id, type (``Type``), blueprint, attributes."""

    actor_id: int
    type: int
    blueprint: str
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class LogFrame:
    """One frame, in CARLA's own frame of reference (``bridges/carla_frames.py``).

    number: the recorder's. seconds: since it began. added, removed: who came and went.
    parents: (M, 2) child and parent. ids: (N,), locations: (N, 3) m, rotators: (N, 3) pitch, yaw,
    roll in degrees. moving: (K,) ids, velocities: (K, 3) m/s, rates: (K, 3) degrees/s.
    box_ids: (B,), centers: (B, 3) m in the body, sizes: (B, 3) m; boxes that the server did not
    know (it writes NaN for sensors) are left out. lights: records of traffic lights.
    vehicles, walkers: records of how they are driven. collisions: records. platform_s: the
    server's own clock, NaN: not said.
    """

    number: int
    seconds: float
    added: tuple[Added, ...] = ()
    removed: tuple[int, ...] = ()
    parents: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros((0, 2), np.uint32))
    ids: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    locations: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    rotators: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    moving: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    velocities: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    rates: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    box_ids: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    centers: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    sizes: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    lights: npt.NDArray[np.void] = field(default_factory=lambda: _no(Packet.LIGHTS))
    vehicles: npt.NDArray[np.void] = field(default_factory=lambda: _no(Packet.VEHICLES))
    walkers: npt.NDArray[np.void] = field(default_factory=lambda: _no(Packet.WALKERS))
    collisions: npt.NDArray[np.void] = field(default_factory=lambda: _no(Packet.COLLISIONS))
    platform_s: float = float("nan")


def _no(kind: Packet) -> npt.NDArray[np.void]:
    return np.zeros(0, RECORDS[kind])


class CarlaLog:
    """A recording, read frame by frame; use it as a context, or close it.

    town: the map's name. date: seconds since 1970. bytes_read: so far, over and over included.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: no recording, or of another version.
        """
        self._path = Path(path)
        if self._path.exists() and not self._path.is_file():  # a pipe would be waited for
            raise InputError(f"{self._path}: is no file; give a file of CARLA's recorder")
        try:
            self._file: BinaryIO = self._path.open("rb")
        except OSError as error:
            raise InputError(
                f"{self._path}: {error.strerror}; give a file of CARLA's recorder"
            ) from None
        self.bytes_read = 0
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self.town, self.date = self._header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "CarlaLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is read any more."""
        self._file.close()

    def frames(self) -> Iterator[LogFrame]:
        """From the first on; memory holds one at a time.

        Raises:
            BrokenLogError: after the last whole frame, where the file breaks off or lies.
        """
        self._file.seek(self._begin)
        whole, last = 0, -1.0
        while True:
            try:
                frame = self._frame()
                if frame is not None and not last < frame.seconds <= MAX_SECONDS:
                    raise self._error(f"time {frame.seconds:g} s follows {last:g} s")
            except InputError as error:
                raise BrokenLogError(
                    f"{error}; the {whole} frames before it are whole: record it anew, or play "
                    "those"
                ) from None
            if frame is None:
                return
            whole, last = whole + 1, frame.seconds
            yield frame

    def _header(self) -> tuple[str, int]:
        head = self._file.read(4 + len(MAGIC))
        if len(head) < 4 + len(MAGIC) or head[4:] != MAGIC:
            raise InputError(f"{self._path}: is no recording of CARLA; give a file of its recorder")
        (version,) = struct.unpack_from("<H", head)
        if version != VERSION:
            raise InputError(
                f"{self._path}: is of version {version} of the recorder's format; {VERSION} is read"
            )
        date, length = struct.unpack("<qH", self._take(10))
        if length > MAX_TEXT:
            raise self._error(f"a map's name of {length} bytes")
        town = self._take(length).decode("utf-8", "replace")
        self._begin = self._file.tell()
        return town, date

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise self._error("the file ends there")
        self.bytes_read += size
        return data

    def _error(self, what: str, at: int | None = None) -> InputError:
        return InputError(f"{self._path}: byte {self._file.tell() if at is None else at}: {what}")

    def _packet(self) -> tuple[int, bytes] | None:
        """Kind and content; of kinds that are not read, no content. None: the file's end."""
        head = self._file.read(5)
        if not head:
            return None
        if len(head) < 5:
            raise self._error("the file ends there")
        kind, size = struct.unpack("<BI", head)
        if size > self._size - self._file.tell():
            raise self._error(f"a packet of {size} bytes is longer than the file")
        if kind not in Packet.__members__.values():
            self._file.seek(size, os.SEEK_CUR)
            return kind, b""
        most = MAX_ADDED if kind == Packet.ADDED else MAX_PACKET
        if size > most:
            raise self._error(f"a packet of {size} bytes; at most {most} are read")
        return kind, self._take(size)

    def _frame(self) -> LogFrame | None:
        found: dict[str, object] = {}
        begun = False
        kinds: set[int] = set()
        for _ in range(MAX_PACKETS):
            at = self._file.tell()
            packet = self._packet()
            if packet is None:
                if begun:
                    raise self._error("the file ends within a frame")
                return None
            kind, data = packet
            if kind == Packet.FRAME_START:
                if begun:
                    raise self._error("a frame begins within a frame", at)
                begun = True
                number, _, seconds = self._unpack("<Qdd", data, at)
                found.update(number=number, seconds=seconds)
            elif kind == Packet.FRAME_END:
                if not begun:
                    raise self._error("a frame ends that did not begin", at)
                return LogFrame(**found)  # type: ignore[arg-type]
            elif not begun:
                raise self._error(f"a packet of kind {kind} stands before any frame", at)
            elif kind in kinds:
                raise self._error(f"a packet of kind {kind} stands twice in a frame", at)
            else:
                if kind in Packet.__members__.values():
                    kinds.add(kind)
                found.update(self._content(kind, data, at))
        raise self._error(f"a frame of more than {MAX_PACKETS} packets")

    def _unpack(self, form: str, data: bytes, at: int) -> tuple[float, ...]:
        if len(data) != struct.calcsize(form):
            raise self._error(f"{len(data)} bytes where {struct.calcsize(form)} are due", at)
        return struct.unpack(form, data)

    def _content(self, kind: int, data: bytes, at: int) -> dict[str, object]:
        if kind == Packet.ADDED:
            return {"added": tuple(self._added(data, at))}
        if kind == Packet.PLATFORM_TIME:
            return {"platform_s": self._unpack("<d", data, at)[0]}
        if kind not in RECORDS:
            return {}
        rows = self._rows(kind, data, at)
        if kind == Packet.REMOVED:
            return {"removed": tuple(rows["id"].tolist())}
        if kind == Packet.PARENTS:
            return {"parents": np.stack([rows["id"], rows["parent"]], axis=1)}
        if kind == Packet.POSITIONS:
            places = self._finite(rows["place"], rows["id"], at) / 100.0
            angles = self._finite(rows["angles"], rows["id"], at)
            return {"ids": rows["id"], "locations": places, "rotators": angles[:, (1, 2, 0)]}
        if kind == Packet.KINEMATICS:
            velocities = self._finite(rows["velocity"], rows["id"], at)
            rates = self._finite(rows["rates"], rows["id"], at)
            return {"moving": rows["id"], "velocities": velocities, "rates": rates}
        if kind == Packet.BOXES:
            with np.errstate(invalid="ignore"):
                centers, extents = (rows[c].astype(np.float64) for c in ("center", "extent"))
            known = (np.abs(centers) < MAX_METERS).all(axis=1)
            known &= ((extents > 0) & (extents < MAX_METERS)).all(axis=1)
            boxes = rows["id"][known], centers[known] / 100.0, extents[known] / 50.0
            return dict(zip(("box_ids", "centers", "sizes"), boxes, strict=True))
        return {Packet(kind).name.lower(): rows}

    def _rows(self, kind: int, data: bytes, at: int) -> npt.NDArray[np.void]:
        record = RECORDS[kind]
        count = struct.unpack_from("<H", data)[0] if len(data) >= 2 else -1
        if len(data) != 2 + count * record.itemsize:
            raise self._error(
                f"{len(data)} bytes of {Packet(kind).name.lower()} that say to be {count}", at
            )
        rows: npt.NDArray[np.void] = np.frombuffer(data, record, offset=2)
        if len(np.unique(rows["id"])) != count and kind not in (Packet.COLLISIONS, Packet.REMOVED):
            raise self._error(f"an actor stands twice in {Packet(kind).name.lower()}", at)
        return rows

    def _finite(
        self, values: npt.NDArray[np.float32], ids: npt.NDArray[np.uint32], at: int
    ) -> FloatArray:
        wrong = ~(np.abs(values) <= MAX_METERS).all(axis=1)
        if wrong.any():
            raise self._error(f"actor {ids[wrong.argmax()]} has no finite place or speed", at)
        return values.astype(np.float64)

    def _added(self, data: bytes, at: int) -> Iterator[Added]:
        place = 0

        def take(form: str) -> tuple[int, ...]:
            nonlocal place
            if place + struct.calcsize(form) > len(data):
                raise self._error("the actors that came are cut off", at)
            found = struct.unpack_from(form, data, place)
            place += struct.calcsize(form)
            return found

        def text() -> str:
            nonlocal place
            (length,) = take("<H")
            if length > MAX_TEXT or place + length > len(data):
                raise self._error(f"a text of {length} bytes", at)
            place += length
            return data[place - length : place].decode("utf-8", "replace")

        for _ in range(take("<H")[0]):
            actor_id, kind = take("<IB")
            take("<6f")  # where; its position says it again
            take("<I")
            blueprint = text()
            (count,) = take("<H")
            if count > MAX_ATTRIBUTES:
                raise self._error(f"an actor of {count} attributes", at)
            attributes = {}
            for _ in range(count):
                take("<B")
                name = text()
                attributes[name] = text()
            yield Added(actor_id, kind, blueprint, attributes)
        if place != len(data):
            raise self._error("bytes follow the actors that came", at)
