"""Records of whole numbers in as few bits as the largest value of each field needs."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from comms.reasons import Reason, Rejected

Ints = npt.NDArray[np.int64]


def widths_of(values: Ints, signed: npt.NDArray[np.bool_]) -> Ints:
    """(F,) bits that fields of (N, F) values need, as two's complement where they are signed; none
    where all are 0."""
    high = values.max(axis=0, initial=0)
    high = np.where(signed, np.maximum(high, ~values.min(axis=0, initial=0)), high)
    widths = np.frexp(high.astype(np.float64))[1].astype(np.int64)
    return np.asarray(widths + (signed & values.any(axis=0)))


class Writer:
    """The head of a message, number by number, and its records."""

    def __init__(self) -> None:
        self._bits = 0
        self._count = 0

    def put(self, value: int, width: int) -> None:
        """A number of the head, as two's complement where it is below 0; in no bits, nothing."""
        assert not width or -(1 << width) <= 2 * value < 2 << width, f"{value} in {width} bits"
        self._bits = self._bits << width | value & ((1 << width) - 1)
        self._count += width

    def put_long(self, value: int) -> None:
        """A number of the head of up to 62 bits, whose width goes along in 6."""
        width = max(value, ~value).bit_length() + 1
        self.put(width, 6)
        self.put(value, width)

    def done(self, values: Ints, widths: Ints) -> bytes:
        """All of it, with (N, F) records in (F,) bits; the last byte is filled up with zeros."""
        head = (self._bits << -self._count % 8).to_bytes((self._count + 7) // 8, "big")
        bits = np.unpackbits(np.frombuffer(head, np.uint8))[: self._count]
        shifts = np.concatenate([_NO_BITS, *(_shifts(w) for w in widths.tolist())])
        records = np.repeat(values, widths, axis=1) >> shifts & 1
        return np.packbits(np.append(bits, records.astype(np.uint8).ravel())).tobytes()


class Reader:
    """What a ``Writer`` made.

    Raises:
        Rejected: MALFORMED, by any method: fewer or more bits than are asked for.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, width: int, signed: bool = False) -> int:
        """A number of the head."""
        self._left -= width
        if self._left < 0:
            raise Rejected(Reason.MALFORMED, "it ends within its head")
        value = self._value >> self._left & ((1 << width) - 1)
        return value - (1 << width) if signed and width and value >> (width - 1) else value

    def take_all(self, widths: Sequence[int]) -> list[int]:
        """Numbers of the head that are not below 0, of so many bits each."""
        left = sum(widths)
        value = self.take(left)
        out = []
        for width in widths:
            left -= width
            out.append(value >> left & ((1 << width) - 1))
        return out

    def take_long(self) -> int:
        """A number that ``put_long`` wrote."""
        return self.take(self.take(6), True)

    def records(self, count: int, widths: Sequence[int], signed: Sequence[bool]) -> Ints:
        """(N, F): the rest, of so many records in (F,) bits of at most 62."""
        size = sum(widths)
        if not count * size <= self._left < count * size + 8:
            raise Rejected(Reason.MALFORMED, f"{self._left} bits for {count} of {size}")
        bits = np.unpackbits(np.frombuffer(self._data, np.uint8))
        start = len(bits) - self._left
        rows = bits[start : start + count * size].reshape(count, size)
        return (rows @ _weights(tuple(widths), tuple(signed))).astype(np.int64, copy=False)


_NO_BITS = np.zeros(0, np.int64)
_FLOAT_BITS = 52


@lru_cache(64)
def _shifts(width: int) -> Ints:
    """Of each bit of a field, the first one first."""
    return np.arange(width - 1, -1, -1)


@lru_cache(64)
def _weights(widths: tuple[int, ...], signed: tuple[bool, ...]) -> npt.NDArray[np.number]:
    """(bits, F) of a record, what each bit adds to each field: as floats, which multiply faster,
    where they hold every value."""
    weights = np.zeros((sum(widths), len(widths)), np.int64)
    start = 0
    for k, (width, is_signed) in enumerate(zip(widths, signed, strict=True)):
        weights[start : start + width, k] = np.left_shift(1, _shifts(width))
        if width and is_signed:
            weights[start, k] *= -1
        start += width
    return weights.astype(np.float64) if max(widths, default=0) <= _FLOAT_BITS else weights
