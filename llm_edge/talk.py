"""A thought and its answer as the decoder says them: by its logits, within the grammar, many words
a call where a draft of them is right."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llm_edge import words
from llm_edge.coding import Coded, Ints
from llm_edge.draft import Draft
from llm_edge.engine import Tokens
from llm_edge.grammar import AnswerGrammar, ThoughtGrammar
from llm_edge.words import FIELDS, IDS

_DONE = IDS[words.DONE]
_NAMES = [IDS[field] for field in FIELDS]


class Talk:
    """Of one scene.

    values: ids of the answer's, as far as they are said. thought_tokens: of the thought. complete:
    whether it came to its end. last: the newest word.
    """

    def __init__(self, scenes: Coded, when: Ints, thinks: bool, drafts: bool) -> None:
        """scenes: of one (B = 1). when: its windows. thinks: else it answers at once. drafts: else
        a draft holds but what is forced."""
        self._grammar, self._answer = ThoughtGrammar(scenes), AnswerGrammar(scenes)
        self._draft = Draft(scenes, when)
        self._tally = self._draft.begin()
        self._drafts = drafts
        self._closed = not thinks
        self._answers = self._named = False
        self._likely: list[int] | None = None
        self._misses = 0
        self.values: list[int] = []
        self.thought_tokens = 0
        self.complete = False
        self.last = -1

    @property
    def thinks(self) -> bool:
        """Whether the thought goes on."""
        return not (self._closed or self._answers)

    @property
    def over(self) -> bool:
        """Whether all is said."""
        return len(self.values) == len(FIELDS)

    def close(self) -> None:
        """No more thought."""
        self._closed, self._likely = True, None

    def draft(self) -> list[int]:
        """Words that probably follow, forced ones included; at most up to the last field's name."""
        if self._likely is None:
            self._likely = self._drafted()
        return self._likely

    def _drafted(self) -> list[int]:
        if not self._drafts or self._misses > 1:  # an answer beyond its draft goes value by value
            return self._forced()
        likely: list[int] = []
        tally = self._tally
        if not self._answers:
            likely, tally = self._draft.thought(tally, self._grammar)
            if self._closed:
                likely = [_DONE]
        values = self._draft.answer(tally, self.values)
        for k in range(len(self.values), len(FIELDS)):
            likely += [_NAMES[k], values[k]]
        return likely[1:-1] if self._named else likely[:-1]

    def _forced(self) -> list[int]:
        if self._named:
            return []
        if self._answers:
            return [_NAMES[len(self.values)]]
        if self._closed or self._grammar.next == "done":
            return [_DONE, _NAMES[0]]
        low, high = self._grammar.allowed()
        return [low] if high - low == 1 else []

    def hear(self, draft: Sequence[int], logits: npt.NDArray[np.float32]) -> int:
        """Say on until a word is not the draft's, or all is said; how many of the draft's were.

        logits: (len(draft) + 1, V), before each word of the draft and after the last.
        """
        self._likely = None
        for k, row in enumerate(logits):
            self._say(row)
            if self.over or k == len(draft) or self.last != draft[k]:
                self._misses += bool(self.values)
                return k
        raise AssertionError("a row of logits more than words")

    def _say(self, logits: npt.NDArray[np.float32]) -> None:
        field = FIELDS[len(self.values)]
        if self._named:
            allowed: Tokens = self._answer.allowed(field, self.values[0] if self.values else None)
            self.last = int(allowed[int(logits[allowed].argmax())])
            self.values.append(self.last)
            self._named = False
        elif self._answers:
            self.last, self._named = IDS[field], True
        elif self._closed or self._grammar.next == "done":
            self.last, self._answers = _DONE, True
            self.complete = self._grammar.next == "done"
        else:
            low, high = self._grammar.allowed()
            self.last = low if high - low == 1 else low + int(logits[low:high].argmax())
            self._tally.take(self._grammar.next, self.last)
            self._grammar.take(self.last)
            self.thought_tokens += 1
