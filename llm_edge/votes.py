"""Several thoughts side by side, and the answer that most of them give."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_edge import words
from llm_edge.coding import Coded
from llm_edge.engine import Tokens, softmax
from llm_edge.grammar import AnswerGrammar, ThoughtGrammar
from llm_edge.ort_engine import OrtEngine
from llm_edge.words import FIELDS, IDS

_DONE = IDS[words.DONE]


@dataclass(frozen=True, slots=True)
class Vote:
    """values: ids of the six that most lanes gave, the first one's where none has more. complete:
    whether every thought came to its end. thought_tokens: of the first. calls: of the engine."""

    values: Tokens
    complete: bool
    thought_tokens: int
    calls: int


def vote(
    engine: OrtEngine,
    coded: Coded,
    logits: npt.NDArray[np.float32],
    count: int,
    going: Callable[[int], bool],
    warmth: float,
    random: np.random.Generator,
) -> Vote:
    """Think and answer in ``count`` lanes from the engine's state on.

    logits: (V,) after that state. going: whether to think on after so many calls. warmth:
    temperature of the lanes after the first, which takes the likeliest word.
    """
    engine.fork(count)
    lanes = [_Lane(coded) for _ in range(count)]
    rows = np.repeat(logits[None], count, axis=0)
    calls = 0
    while going(calls):
        for k, lane in enumerate(lanes):
            if not lane.complete:
                lane.choose(rows[k], warmth if k else 0.0, random)
        if all(lane.complete for lane in lanes):
            break
        rows = engine.feed_lanes(*_padded([[] if v.complete else v.taken() for v in lanes]))
        calls += 1
    grammar = AnswerGrammar(coded)
    values = np.zeros((count, len(FIELDS)), np.int64)
    waiting = [[*lane.taken(), _DONE] for lane in lanes]
    for k, field in enumerate(FIELDS):
        rows = engine.feed_lanes(*_padded([[*tokens, IDS[field]] for tokens in waiting]))
        calls += 1
        for row in range(count):
            allowed = grammar.allowed(field, int(values[row, 0]))
            values[row, k] = allowed[int(rows[row, allowed].argmax())]
        waiting = [[int(v)] for v in values[:, k]]
    same = (values[:, None] == values[None]).all(axis=2).sum(axis=1)
    complete = all(lane.complete for lane in lanes)
    return Vote(values[int(same.argmax())], complete, lanes[0].words, calls)


class _Lane:
    """One thought as it grows; what was chosen waits for the call that reads it."""

    def __init__(self, coded: Coded) -> None:
        self._grammar = ThoughtGrammar(coded)
        self._waiting: list[int] = []
        self.complete = False
        self.words = 0

    def choose(
        self,
        logits: npt.NDArray[np.float32],
        warmth: float,
        random: np.random.Generator,
    ) -> None:
        """Take the likeliest of what is allowed, or draw one, and what is forced after it."""
        low, high = self._grammar.allowed()
        if warmth:
            chances = softmax(logits[low:high] / warmth)
            token = low + int(random.choice(high - low, p=chances))
        else:
            token = low + int(logits[low:high].argmax())
        self._take(token)
        while not self.complete and (span := self._grammar.allowed())[1] - span[0] == 1:
            self._take(span[0])

    def _take(self, token: int) -> None:
        self.complete = self._grammar.take(token)
        if not self.complete:  # what closes it is read with the answer
            self._waiting.append(token)
            self.words += 1

    def taken(self) -> list[int]:
        """What has to be read; it is then."""
        waiting, self._waiting = self._waiting, []
        return waiting


def _padded(rows: list[list[int]]) -> tuple[Tokens, npt.NDArray[np.int64]]:
    """(n, K) tokens, the shorter ones with 0 behind, and how many are real."""
    counts = np.array([len(row) for row in rows])
    made = np.zeros((len(rows), max(1, counts.max())), np.int64)
    for row, tokens in zip(made, rows, strict=True):
        row[: len(tokens)] = tokens
    return made, counts
