"""Records of whole numbers in as few bits as the largest value of each field needs."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

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

    def take_long(self) -> int:
        """A number that ``put_long`` wrote."""
        return self.take(self.take(6), True)

    def records(self, count: int, widths: Sequence[int], signed: Sequence[bool]) -> Ints:
        """(N, F): the rest, of so many records in (F,) bits of at most 62."""
        weights = np.concatenate([_NO_BITS, *map(_weights, widths, signed)])
        if not count * len(weights) <= self._left < count * len(weights) + 8:
            raise Rejected(Reason.MALFORMED, f"{self._left} bits for {count} of {len(weights)}")
        values = np.zeros((count, len(widths)), np.int64)
        used = [k for k, width in enumerate(widths) if width]
        if count and used:
            bits = np.unpackbits(np.frombuffer(self._data, np.uint8))
            start = len(bits) - self._left
            rows = bits[start : start + count * len(weights)].reshape(count, -1)
            starts = [0, *accumulate(widths[k] for k in used[:-1])]
            values[:, used] = np.add.reduceat(rows * weights, starts, axis=1)
        return values


_NO_BITS = np.zeros(0, np.int64)


@lru_cache(64)
def _shifts(width: int) -> Ints:
    """Of each bit of a field, the first one first."""
    return np.arange(width - 1, -1, -1)


@lru_cache(128)
def _weights(width: int, signed: bool) -> Ints:
    """What each bit of a field stands for."""
    weights = np.left_shift(1, _shifts(width))
    weights[:1] *= -1 if signed else 1
    return weights
