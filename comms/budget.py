"""Bytes that may be sent: a token bucket that nothing passes, and what a byte is worth."""

import numpy as np
import numpy.typing as npt

from comms.selectors import Choice
from pipeline.box import FloatArray

BURST_S = 1.0
"""Budget that may be saved up, or as much as one message of ``FEW`` objects takes."""
FEW = 4
"""Objects for which a message is worth its header, while the budget is short."""
AROUND_SHARE = 0.4
"""Of the budget, at most, for what stands around objects: fewer messages tell more."""
AROUND_BURST = 1.5
"""Messages for whose surroundings may be saved up."""
LEAST_PRICE, MOST_PRICE = 2e-5, 0.02
"""Utility that a byte must bring. It rises while less than half of what may be saved up is left and
falls while more is, so that what is sent is worth as much at any time."""
IDLE = 0.95
"""Share of what may be saved up, from which on bytes are idle."""
PACE = 8.0
"""1/s, how fast."""

Rows = npt.NDArray[np.intp]


class Budget:
    """bytes_s: what comes in a second. around: bytes of a message of objects without these, one:
    of an object, both about. reserved_share: of each message, for whom a choice reserves it."""

    def __init__(self, bytes_s: float, around: int, one: int, reserved_share: float) -> None:
        self.bytes_s, self._around = bytes_s, around
        self.most = max(BURST_S * bytes_s, around + FEW * one)
        self._one, self._share = one, reserved_share
        self.reset()

    def reset(self) -> None:
        """Begin empty: the clock jumped, or a new run begins."""
        self.left, self._price, self._spare = 0.0, 1e-3, 0.0
        self._filled_ns: int | None = None

    def fill(self, now_ns: int) -> None:
        """What has come in since."""
        since = 0.0 if self._filled_ns is None else max(0, now_ns - self._filled_ns) * 1e-9
        self._filled_ns = now_ns
        self.left = min(self.left + since * self.bytes_s, self.most)
        paid = since * AROUND_SHARE * self.bytes_s
        self._spare = min(self._spare + paid, AROUND_BURST * self._around)
        change = float(np.exp(PACE * min(since, 1.0) * (0.5 - self.left / self.most)))
        self._price = float(np.clip(self._price * change, LEAST_PRICE, MOST_PRICE))

    def spend(self, count: int) -> None:
        """Bytes that went out."""
        self.left -= count

    def choose(self, choice: Choice, extra: int, each: int, around: int) -> Rows:
        """Rows that go out now: about what is left holds beside ``extra`` bytes, ``each`` of them
        to a message of ``around`` bytes without them, from the highest priority down, with a share
        that those for whom it is reserved use before others do."""
        wanted = np.flatnonzero(choice.priority > 0)
        room = self._room(len(wanted), extra, each, around)
        if self._spare < around or room < min(len(wanted), FEW):
            return wanted[:0]
        order = wanted[np.argsort(-choice.priority[wanted], kind="stable")]
        first = order[choice.reserved[order]][: int(np.ceil(self._share * room))]
        if choice.weighed:
            order = self._worth(order, choice.priority, around)
            if not len(order) and self.left < IDLE * self.most:
                return order  # what is reserved waits for company, but not while bytes are idle
        rest = order[~np.isin(order, first)]
        chosen = np.concatenate([first, rest])[:room]
        self._spare -= around * -(-len(chosen) // max(each, 1))
        return chosen

    def _room(self, wanted: int, extra: int, each: int, around: int) -> int:
        """Objects that what is left holds: in whole messages, then in a part of one."""
        room, left = 0, self.left - extra
        while room < wanted:
            more = min(max(each, 1), wanted - room, int((left - around) // self._one))
            if more <= 0:
                break
            room, left = room + more, left - around - more * self._one
        return room

    def _worth(self, order: Rows, utility: FloatArray, around: int) -> Rows:
        """Of rows in falling order of utility, those worth their bytes; none where together they
        are not worth what stands around them."""
        gains = utility[order] - self._price * self._one
        worth = gains > 0
        together = gains[worth].sum() > self._price * around
        return np.asarray(order[worth & together])
