"""What a radio link does to datagrams: losses, delays, rates. Pure functions of time.

Every random draw is a hash of the seed, the link and the 10 ms slot of its moment, so one seed
gives the same fortune to whatever is sent: methods that send differently meet the same link.
"""

import csv
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from statistics import NormalDist
from typing import Protocol

import numpy as np

from pipeline.box import FloatArray
from pipeline.errors import InputError

SLOT_NS = 10_000_000
BLOCK_SLOTS = 4096
"""Slots after which a Gilbert-Elliott chain is drawn anew, so that any moment can be asked."""
MAX_ROWS = 1_000_000
MAX_FILE_BYTES = 64 << 20
TRACE_COLUMNS = ("t_s", "delay_ms", "rate_kbit_s", "lost")
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Moment:
    """One datagram on its way to one receiver.

    at_ns: when its transmission begins, on the clock of the run. nth: how many of this sender's
    began before it in the same 10 ms. distance_m: between the two; NaN: not known.
    """

    seed: int
    sender: int
    receiver: int
    at_ns: int
    nth: int = 0
    distance_m: float = math.nan

    def draw(self, purpose: bytes) -> float:
        """Uniform in (0, 1), of its own for each purpose of at most 16 bytes."""
        return uniform(
            purpose, self.seed, self.sender, self.receiver, self.at_ns // SLOT_NS, self.nth
        )


def uniform(purpose: bytes, *numbers: int) -> float:
    """A number in (0, 1) that looks random and is the same for the same arguments."""
    key = struct.pack(f"<{len(numbers)}q", *(_wrapped(n) for n in numbers))
    drawn = int.from_bytes(blake2b(key, digest_size=8, person=purpose).digest(), "little")
    return ((drawn >> 12) + 0.5) / (1 << 52)


def _wrapped(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


class Loss(Protocol):
    """Whether a datagram is lost on its way."""

    def lost(self, moment: Moment) -> bool: ...


class Delay(Protocol):
    """Time from the end of transmission to arrival."""

    def delay_ns(self, moment: Moment) -> int: ...


@dataclass(frozen=True)
class IndependentLoss:
    """Each datagram with the same probability."""

    probability: float

    def lost(self, moment: Moment) -> bool:
        return moment.draw(b"loss") < self.probability


class GilbertElliott:
    """Two states that last for geometrically distributed times, each with a probability of loss
    (Gilbert 1960, Elliott 1963); every link has a chain of its own, in slots of 10 ms.

    good_ms, bad_ms: mean times in the states.
    """

    def __init__(self, good_ms: float, bad_ms: float, good_loss: float, bad_loss: float) -> None:
        self._leave = [min(SLOT_NS / 1e6 / ms, 1.0) for ms in (good_ms, bad_ms)]
        self._loss = (good_loss, bad_loss)
        self._known: dict[tuple[int, int, int], tuple[int, FloatArray]] = {}

    def lost(self, moment: Moment) -> bool:
        return moment.draw(b"burst") < self._loss[self.is_bad(moment)]

    def is_bad(self, moment: Moment) -> bool:
        """The state of the moment's link in the moment's slot."""
        block, slot = divmod(moment.at_ns // SLOT_NS, BLOCK_SLOTS)
        link = (moment.seed, moment.sender, moment.receiver)
        if link not in self._known or self._known[link][0] != block:
            self._known[link] = block, self._chain(*link, block)
        return bool(np.searchsorted(self._known[link][1], slot, "right") % 2)

    def _chain(self, *key: int) -> FloatArray:
        """Slots of a block at which the state changes; the first is 0 where it begins bad."""
        rng = np.random.Generator(np.random.Philox([_wrapped(n) % (1 << 63) for n in key]))
        good, bad = self._leave
        begins_bad = rng.random() < good / (good + bad)
        pairs = 64
        while True:  # more than are needed, mostly at once
            stays = np.stack([rng.geometric(good, pairs), rng.geometric(bad, pairs)], axis=1)
            if begins_bad:
                stays = stays[:, ::-1]
            changes = np.cumsum(stays.ravel()).astype(float)
            if changes[-1] >= BLOCK_SLOTS:
                return np.insert(changes, 0, 0.0) if begins_bad else changes
            pairs *= 4


class DistanceLoss:
    """Delivery by distance: straight between the table's entries, none beyond the last."""

    def __init__(self, distances_m: Sequence[float], delivery: Sequence[float]) -> None:
        if len(distances_m) != len(delivery) or (np.diff(distances_m) <= 0).any():
            raise InputError(
                "distance_m and distance_delivery: give as many of each, distances rising"
            )
        self._distances, self._delivery = np.array(distances_m), np.array(delivery)

    def lost(self, moment: Moment) -> bool:
        if math.isnan(moment.distance_m):
            raise InputError(
                f"stations {moment.sender} and {moment.receiver}: no distance between them is "
                "known; place every station where delivery depends on distance"
            )
        delivery = np.interp(moment.distance_m, self._distances, self._delivery, right=0.0)
        return bool(moment.draw(b"distance") >= delivery)


class Outages:
    """Nothing arrives of what begins in [from_s, to_s), seconds since epoch_ns."""

    def __init__(self, from_s: Sequence[float], to_s: Sequence[float], epoch_ns: int) -> None:
        if len(from_s) != len(to_s) or any(b <= a for a, b in zip(from_s, to_s, strict=False)):
            raise InputError("outage_from_s and outage_to_s: give as many of each, each to after")
        self._windows = [
            (epoch_ns + round(a * 1e9), epoch_ns + round(b * 1e9))
            for a, b in zip(from_s, to_s, strict=True)
        ]

    def lost(self, moment: Moment) -> bool:
        return any(a <= moment.at_ns < b for a, b in self._windows)


@dataclass(frozen=True)
class RandomDelay:
    """Log-normal with this median and this sigma of its logarithm; fixed where sigma is 0."""

    median_ms: float
    sigma: float = 0.0

    def delay_ns(self, moment: Moment) -> int:
        spread = math.exp(self.sigma * _NORMAL.inv_cdf(moment.draw(b"delay"))) if self.sigma else 1
        return round(self.median_ms * 1e6 * spread)


class Trace:
    """A recorded link. A row holds until the next; after the last one it begins again.

    times_s: (R,) rising from 0; the last row lasts as long as the one before. delays_ms,
    rates_kbit_s: (R,). lost: (R,) probability, or 0 and 1. A datagram is delayed and lost as the
    row says in which its transmission begins. most_kbit_s: a limit upon all rates.

    Raises:
        InputError: another shape, a value that cannot be, or a link that never moves a byte.
    """

    def __init__(
        self,
        times_s: FloatArray,
        delays_ms: FloatArray,
        rates_kbit_s: FloatArray,
        lost: FloatArray,
        epoch_ns: int = 0,
        most_kbit_s: float = math.inf,
    ) -> None:
        columns = (times_s, delays_ms, rates_kbit_s, lost)
        if not len(times_s) or any(c.shape != times_s.shape or c.ndim != 1 for c in columns):
            raise InputError("trace: give as many times, delays, rates and losses, at least one")
        if not all(np.isfinite(c).all() and (c >= 0).all() for c in columns):
            raise InputError("trace: a value is not finite or below 0")
        if times_s[0] != 0 or (np.diff(times_s) <= 0).any():
            raise InputError("trace: times must rise from 0")
        if delays_ms.max() > 60_000 or lost.max() > 1 or not rates_kbit_s.max() > 0:
            raise InputError(
                "trace: give delays of at most 60 s, losses of 0 to 1 and a rate above 0 somewhere"
            )
        last = times_s[-1] - times_s[-2] if len(times_s) > 1 else 1.0
        self._ends_ns = np.rint(np.append(times_s[1:], times_s[-1] + last) * 1e9).astype(np.int64)
        self._delays_ns = np.rint(delays_ms * 1e6).astype(np.int64)
        self._rates = np.minimum(rates_kbit_s, most_kbit_s) * 1.25e-7  # bytes a ns
        self._moved = np.append(0.0, np.cumsum(self._rates * np.diff(self._ends_ns, prepend=0)))
        self._lost, self._epoch_ns = lost, epoch_ns

    @classmethod
    def read(cls, path: Path, epoch_ns: int = 0, most_kbit_s: float = math.inf) -> "Trace":
        """A CSV file with the columns t_s, delay_ms, rate_kbit_s, lost in its first line.

        Raises:
            InputError: no such file, or one that holds something else.
        """
        wanted = ",".join(TRACE_COLUMNS)
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise InputError(f"{path}: over {MAX_FILE_BYTES} bytes is no trace of a link")
            with path.open(newline="", encoding="utf-8") as file:
                rows = csv.reader(file)
                if next(rows, None) != [*TRACE_COLUMNS]:
                    raise InputError(f"{path}: its first line must be {wanted}")
                values = []
                for row in rows:
                    values.append([float(text) for text in row])
                    if len(row) != len(TRACE_COLUMNS) or len(values) > MAX_ROWS:
                        raise ValueError
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); give a CSV file"
            ) from None
        except InputError:
            raise
        except (ValueError, csv.Error):
            line = f"line {rows.line_num}"
            raise InputError(f"{path}, {line}: give {wanted} as four numbers") from None
        times, delays, rates, lost = np.array(values, float).reshape(-1, 4).T
        try:
            return cls(times, delays, rates, lost, epoch_ns, most_kbit_s)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def lost(self, moment: Moment) -> bool:
        return bool(moment.draw(b"trace") < self._lost[self._row(moment.at_ns)])

    def delay_ns(self, moment: Moment) -> int:
        return int(self._delays_ns[self._row(moment.at_ns)])

    def end_ns(self, start_ns: int, count: int) -> int:
        """When ``count`` bytes are through that begin at ``start_ns``."""
        ends, moved = self._ends_ns, self._moved
        loop, at_ns = divmod(start_ns - self._epoch_ns, int(ends[-1]))
        goal = float(np.interp(at_ns, np.append(0, ends), moved)) + count
        loops, rest = divmod(goal, float(moved[-1]))
        row = min(int(np.searchsorted(moved[1:], rest, "left")), len(ends) - 1)
        begin = int(ends[row - 1]) if row else 0
        within = (rest - moved[row]) / self._rates[row] if self._rates[row] else 0.0
        return self._epoch_ns + (loop + int(loops)) * int(ends[-1]) + begin + round(within)

    def _row(self, at_ns: int) -> int:
        phase = (at_ns - self._epoch_ns) % int(self._ends_ns[-1])
        return int(np.searchsorted(self._ends_ns, phase, "right"))
