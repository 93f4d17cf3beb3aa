"""Sparse cells of a bird's-eye view: a bitmap and packed 8- or 4-bit values under zstd.

The grid is the fixed frame's own: cell (i, j) spans x from i·cell_m to (i+1)·cell_m and y likewise,
so grids of stations with one cell size lie on each other. A message is a rectangle of cells: which
of them follow, as bits in row order, then each one's channels, each channel scaled by its largest
value in the message. Every message can be used without the others.
"""

import math
import struct
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import zstandard

from comms.envelope import Envelope
from comms.reasons import Reason, Rejected
from pipeline.box import FloatArray
from pipeline.errors import InputError

MAX_SIDE = 512
"""Cells, of the rectangle in a message."""
MAX_CHANNELS = 64
MAX_CELLS = 4096
"""In a message."""
_HEAD = struct.Struct(">BBHHHHii")
_LEVEL = 3
_LEVELS = {8: 127, 4: 7}
"""Bits of a value → steps to each side of zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """K cells as they are at ``stamp_ns``.

    cell_m: side of a cell, m, whole centimeters. cells: (K, 2) int32, column i (east) and row j
    (north), each pair once. values: (K, C) float32.

    Raises:
        InputError: shapes that do not fit together, or a value that is not finite.
    """

    stamp_ns: int
    cell_m: float
    cells: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.cells)
        if self.cells.shape != (n, 2) or self.values.ndim != 2 or len(self.values) != n:
            raise InputError(
                f"Features: cells {self.cells.shape} and values {self.values.shape}; give (K, 2) "
                "and (K, C)"
            )
        if not 1 <= self.values.shape[1] <= MAX_CHANNELS:
            raise InputError(f"Features: {self.values.shape[1]} channels; 1 to {MAX_CHANNELS}")
        centimeters = 100 * self.cell_m
        if not 1 <= centimeters <= 65535 or abs(centimeters - round(centimeters)) > 1e-6:
            raise InputError(f"Features.cell_m is {self.cell_m}; give whole cm up to 655 m")
        if not np.isfinite(self.values).all():
            raise InputError("Features.values: a value is not finite")

    def __len__(self) -> int:
        return len(self.cells)

    def selected(self, rows: npt.NDArray[np.generic]) -> "Features":
        """Some of them; rows: (K,) bool, or indices in any order."""
        return replace(self, cells=self.cells[rows], values=self.values[rows])

    def centers(self) -> FloatArray:
        """(K, 2) m."""
        return (self.cells.astype(np.float64) + 0.5) * self.cell_m

    def along(self, line: FloatArray, width_m: float) -> npt.NDArray[np.bool_]:
        """(K,) whether a cell's center is within half of ``width_m`` of the polyline (P, 2) m."""
        points = self.centers()[:, None]
        start, way = line[:-1], np.diff(line, axis=0)
        length = np.maximum((way**2).sum(axis=1), 1e-12)
        share = np.clip(((points - start) * way).sum(axis=2) / length, 0, 1)
        apart = np.linalg.norm(points - start - share[..., None] * way, axis=2)
        near: npt.NDArray[np.bool_] = apart.min(axis=1, initial=np.inf) <= width_m / 2
        return near


def encode(features: Features, bits: int, room_bytes: int) -> list[bytes]:
    """Payloads of at most ``room_bytes`` each, the first cells in the first ones.

    bits: 8 or 4 a value. A value is off by half a step of its channel's largest one.

    Raises:
        InputError: no cell fits into ``room_bytes``, or the cells spread over more than
            ``MAX_SIDE``.
    """
    if bits not in _LEVELS:
        raise InputError(f"{bits} bits a value; give 8 or 4")
    if len(features) and (np.ptp(features.cells.astype(np.int64), axis=0) >= MAX_SIDE).any():
        raise InputError(f"Features: over {MAX_SIDE} cells from side to side; ask for a part")
    payloads: list[bytes] = []
    start = 0
    channels = features.values.shape[1]
    fixed = _HEAD.size + 2 * channels
    count = max(1, (room_bytes - fixed) * 8 // (bits * channels))
    while start < len(features):
        count = min(count, len(features) - start, MAX_CELLS)
        payload = _payload(features, slice(start, start + count), bits)
        if len(payload) <= room_bytes:
            payloads.append(payload)
            start += count
            count = max(count, int(0.95 * count * (room_bytes - fixed) / (len(payload) - fixed)))
        elif count == 1:
            raise InputError(f"Features: a cell takes {len(payload)} bytes, not {room_bytes}")
        else:
            fits = int(0.95 * count * (room_bytes - fixed) / (len(payload) - fixed))
            count = min(count - 1, max(1, fits))
    return payloads


def _payload(features: Features, part: slice, bits: int) -> bytes:
    cells, values = features.cells[part].astype(np.int64), features.values[part]
    low = cells.min(axis=0)
    width, height = (cells.max(axis=0) - low + 1).tolist()
    at = (cells[:, 1] - low[1]) * width + cells[:, 0] - low[0]
    order = np.argsort(at)
    bitmap = np.zeros(width * height, np.uint8)
    bitmap[at] = 1
    largest = np.abs(values).max(axis=0).clip(1e-6, 65000)
    scale = largest.astype(np.float16)
    scale = np.where(scale < largest, np.nextafter(scale, np.float16(np.inf)), scale).astype(">f2")
    levels = _LEVELS[bits]
    steps = np.rint(np.clip(values[order] / scale.astype(np.float32), -1, 1) * levels)
    quantized = steps.astype(np.int8).T.ravel()  # channel by channel packs better
    if bits == 4:
        nibbles = (quantized.view(np.uint8) & 15).reshape(-1)
        nibbles = np.append(nibbles, np.zeros(len(nibbles) % 2, np.uint8))
        packed = (nibbles[::2] << 4 | nibbles[1::2]).tobytes()
    else:
        packed = quantized.tobytes()
    sides = (width, height, *low.tolist())
    centimeters = round(100 * features.cell_m)
    head = _HEAD.pack(bits, values.shape[1], centimeters, len(cells), *sides)
    raw = np.packbits(bitmap).tobytes() + packed
    return b"".join([head, scale.tobytes(), zstandard.ZstdCompressor(_LEVEL).compress(raw)])


def decode(payload: bytes, envelope: Envelope) -> Features:
    """The cells of one payload of ``encode``.

    Raises:
        Rejected: MALFORMED.
    """
    try:
        return _decode(payload, envelope.capture_ns)
    except (InputError, struct.error, zstandard.ZstdError) as error:
        raise Rejected(Reason.MALFORMED, str(error)) from None


def _decode(payload: bytes, stamp_ns: int) -> Features:
    bits, channels, cell_cm, count, width, height, i, j = _HEAD.unpack_from(payload)
    if not (
        bits in _LEVELS
        and 1 <= channels <= MAX_CHANNELS
        and 1 <= width <= MAX_SIDE
        and 1 <= height <= MAX_SIDE
        and 1 <= count <= min(MAX_CELLS, width * height)
        and max(i + width, j + height) < 2**31
    ):
        raise InputError("an impossible rectangle of cells")
    end = _HEAD.size + 2 * channels
    scale = np.frombuffer(payload[_HEAD.size : end].ljust(2 * channels, b"\xff"), ">f2")
    if not (np.isfinite(scale).all() and (scale >= 0).all()):
        raise InputError("an impossible scale of a channel")
    mapped = math.ceil(width * height / 8)
    size = mapped + math.ceil(count * channels * bits / 8)
    # What a frame says of itself is what the decompressor would set aside, whatever it is told.
    if zstandard.frame_content_size(payload[end:]) != size:
        raise InputError("compressed content of another size than its cells")
    raw = np.frombuffer(
        zstandard.ZstdDecompressor().decompress(payload[end:], max_output_size=size), np.uint8
    )
    at = np.flatnonzero(np.unpackbits(raw[:mapped], count=width * height))
    if len(raw) != size or len(at) != count:
        raise InputError("another number of cells than its bitmap has")
    packed = raw[mapped:]
    if bits == 4:
        packed = np.stack([packed >> 4, packed & 15], axis=1).ravel()[: count * channels]
        quantized = (packed.view(np.int8) << 4) >> 4
    else:
        quantized = packed.view(np.int8)
    values = quantized.reshape(channels, count).T * (scale.astype(np.float32) / _LEVELS[bits])
    cells = np.stack([i + at % width, j + at // width], axis=1).astype(np.int32)
    return Features(stamp_ns, cell_cm / 100, cells, values.astype(np.float32))
