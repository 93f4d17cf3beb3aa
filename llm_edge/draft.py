"""What a thought and its answer will say, by arithmetic on the scene's windows: drafts that the
decoder checks, many words in one call.

Where an object's window in a corridor and its window beside the ego overlap, the maneuver is taken
to be blocked. That is right in nine of ten cases, and costs microseconds since the prompt tells
those windows anyway. What the decoder says goes: a draft only saves calls (speculative decoding,
Leviathan et al., ICML 2023, with no model for a draft).
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from llm_edge import coding
from llm_edge.coding import Coded, Ints
from llm_edge.grammar import ThoughtGrammar
from llm_edge.lookahead import (
    LATEST,
    LEVEL_OF,
    MANEUVERS,
    PREFERENCE,
    SIDE_OF,
    shut_of,
    speeds_of,
    wish_of,
)
from llm_edge.thought import answers_to
from llm_edge.windows import EDGES, SPANS
from llm_edge.words import DONE, FIELDS, FIRST, IDS

_EARLY = 0.6
"""Of the time to move aside, how long who is in the ego's own corridor counts; by measurement."""
_ALL = (1 << len(MANEUVERS)) - 1
_STARTS = np.array([np.inf, *(EDGES[i] for i, _ in SPANS)])
_ENDS = np.array([-np.inf, *(EDGES[j] for _, j in SPANS)])
_BOTH = np.maximum(_STARTS[:, None], _STARTS)
_MEET = np.where(np.minimum(_ENDS[:, None], _ENDS) > _BOTH, _BOTH, np.inf)
"""Seconds until two windows overlap, by their indices."""
_BIT = 1 << np.arange(len(MANEUVERS))[::-1]
_ASIDES = int((SIDE_OF > 0).sum())
_ASIDE = (1 << _ASIDES) - 1
_PREFERRED = [[(m, int(_BIT[m])) for m in row] for row in PREFERENCE.tolist()]
_STOP = MANEUVERS.index((0, 3))
_FIRSTS = np.array([FIRST["rung" if name == "speed" else name] for name in FIELDS])


@dataclass(slots=True)
class Tally:
    """What a thought has said so far.

    clear: a bit for each maneuver that nobody blocks, the first one highest. wish, best: maneuvers,
    −1 before they are said. slot: the one whose turn it is, from 0. threat: slot from 1 of who
    meets the wish first, 0 for nobody. seconds: until then.
    """

    clear: int
    wish: int = -1
    slot: int = 0
    threat: int = 0
    seconds: int = 0
    best: int = -1

    def take(self, kind: str, token: int) -> None:
        """Go on by a word. kind: as ``ThoughtGrammar.next`` before it."""
        if kind == "news":
            if token == IDS["same"]:
                self.slot += 1
            else:
                self.clear = (token - FIRST["straight"]) << _ASIDES | self.clear & _ASIDE
        elif kind == "aside":
            self.clear = self.clear & ~_ASIDE | token - FIRST["aside"]
        elif kind == "meets":
            self.slot += 1
            value = token - FIRST["meets"]
            self.threat, self.seconds = (
                ((value - 1) // LATEST + 1, (value - 1) % LATEST + 1) if value else (0, 0)
            )
        elif kind == "wish":
            self.wish = token - FIRST["wish"]
        elif kind == "best":
            self.best = token - FIRST["best"]


class Draft:
    """Of one scene.

    scenes: of one (B = 1). when: its windows, (1, 8, 7).
    """

    def __init__(self, scenes: Coded, when: Ints) -> None:
        rows = when[0]
        beside = rows[:, 3 + LEVEL_OF]
        meets = _MEET[rows[:, SIDE_OF], beside]
        ahead = _MEET[rows[:, :1], beside]
        soon = (SIDE_OF > 0) & (ahead < _EARLY * coding.SHIFT_S[scenes.shift[0]])
        meets = np.where(soon, np.minimum(ahead, meets), meets)
        meets[scenes.kind[0] == coding.BLIND] = np.inf  # they seldom block anything
        self._scenes = scenes
        self._count = int(scenes.count[0])
        self._blocked: list[int] = (np.isfinite(meets) @ _BIT).tolist()
        late = np.where(np.isfinite(meets), np.minimum(np.floor(meets) + 1, LATEST), 0)
        self._seconds: list[list[int]] = late.astype(np.int64).tolist()
        self._speeds = speeds_of(scenes)
        self._wish = int(wish_of(scenes, self._speeds)[0])
        self._open = _ALL & ~int(shut_of(scenes)[0] @ _BIT)

    def begin(self) -> Tally:
        """Before anything is said."""
        return Tally(clear=self._open)

    def thought(self, tally: Tally, grammar: ThoughtGrammar) -> tuple[list[int], Tally]:
        """The words from here to the thought's end, ``DONE``, and the tally then; what is given
        stays as it is."""
        likely, tally, grammar = [], copy(tally), copy(grammar)
        while (kind := grammar.next) != "done":
            token = self._word(tally, kind)
            tally.take(kind, token)
            grammar.take(token)
            likely.append(token)
        return [*likely, IDS[DONE]], tally

    def _word(self, tally: Tally, kind: str) -> int:
        """The likely one of a kind."""
        if kind == "wish":
            return FIRST["wish"] + self._wish
        if kind == "best":
            return FIRST["best"] + _best(tally.wish, tally.clear)
        if kind == "slot":
            return FIRST["slot"] + tally.slot
        left = tally.clear & ~self._blocked[tally.slot]
        seconds = self._seconds[tally.slot][tally.wish]
        new = seconds > 0 and (not tally.threat or seconds < tally.seconds)
        if kind == "news" and left == tally.clear and not new:
            return IDS["same"]
        if kind == "news":
            return FIRST["straight"] + (left >> _ASIDES)
        if kind == "aside":
            return FIRST["aside"] + (left & _ASIDE)
        who, when = (tally.slot + 1, seconds) if new else (tally.threat, tally.seconds)
        return FIRST["meets"] + ((who - 1) * LATEST + when if who else 0)

    def answer(self, tally: Tally, said: Sequence[int] = ()) -> list[int]:
        """The ids of the six values after a thought that said so much: of the best maneuver's
        answer, or of the likeliest other one that begins with what was ``said`` already."""
        wish = tally.wish if tally.wish >= 0 else self._wish
        best = tally.best if tally.best >= 0 else _best(wish, tally.clear)
        likely = [(best, tally.threat, tally.seconds)]
        if said:
            threats = [(tally.threat, tally.seconds)] if tally.threat else []
            threats += [(k + 1, self._seconds[k][wish] or LATEST) for k in range(self._count)]
            likely += [(m, *threat) for m, _ in _PREFERRED[wish] for threat in threats or [(0, 0)]]
        maneuvers, slots, seconds = np.array(likely).T
        no_way = np.full(len(likely), not tally.clear)
        wishes = np.full(len(likely), wish)
        made = answers_to(self._scenes, self._speeds, wishes, maneuvers, no_way, slots, seconds)
        ids = np.stack([getattr(made, name) for name in FIELDS], axis=1) + _FIRSTS
        fits = (ids[:, : len(said)] == said).all(axis=1) if said else [True]
        values: list[int] = ids[int(np.argmax(fits))].tolist()
        return [*said, *values[len(said) :]]


def _best(wish: int, clear: int) -> int:
    """The clear maneuver nearest to the wish, a stop where there is none."""
    return next((m for m, bit in _PREFERRED[wish] if clear & bit), _STOP)
