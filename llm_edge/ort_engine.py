"""The shipped decoder under onnxruntime: one thread, no spinning, keys and values in place.

A call of one token takes some 0.1 ms, so nothing here may cost microseconds: bindings and arrays
are made once for each number of tokens and written in place. Forgetting is setting the length;
what lies beyond it is never read and is overwritten.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llm_edge.engine import CanceledError, Tokens
from llm_edge.ort_lanes import Lanes
from llm_edge.ort_session import Cache, Step, open_session, too_long
from pipeline.errors import InputError, first_line

FloatTensor = npt.NDArray[np.float32]
MAX_LANES = 16
_KEPT_STEPS = 512
"""Bindings beyond so many are made anew, which takes a tenth of a millisecond."""


class OrtEngine:
    """``Engine``, and with ``fork`` several states that go on side by side.

    words: what each token says. vocabulary, context: as ``Engine``.
    """

    def __init__(self, path: Path, max_lanes: int = 8) -> None:
        """max_lanes: how many states ``fork`` may make; their memory is taken with the first.

        Raises:
            InputError: no such file, a truncated or foreign one, words that do not fit it, too
                little memory.
        """
        if not 0 <= max_lanes <= MAX_LANES:
            raise InputError(f"OrtEngine: max_lanes is not from 0 to {MAX_LANES}")
        import onnxruntime

        self._session, self.shape, self.words = open_session(Path(path), max_lanes + 1)
        self.path = Path(path)
        self.vocabulary, self.context = self.shape.vocab, self.shape.context
        self.max_lanes = max_lanes
        self._options: Any = onnxruntime.RunOptions()
        self._options.log_severity_level = 4
        self._cache = Cache(self.shape, 1)
        self._logits = np.zeros((1, self.context, self.vocabulary), np.float32)
        self._length = 0
        self._steps: dict[tuple[int, int], Step] = {}
        self._lanes = Lanes(self._session, self.shape, max_lanes, self._run)
        logits = self.feed(np.zeros(1, np.int64))
        self.rewind(0)
        if not np.isfinite(logits).all():
            raise InputError(f"{path}: gives logits that are not finite; train or export it anew")

    @property
    def length(self) -> int:
        """Tokens in the state."""
        return self._length

    def feed(self, tokens: Tokens) -> FloatTensor:
        """As ``Engine.feed``."""
        logits: FloatTensor = self.feed_last(tokens, 1)[0]
        return logits

    def feed_all(self, tokens: Tokens) -> FloatTensor:
        """As ``Engine.feed_all``."""
        return self.feed_last(tokens, len(tokens))

    def feed_last(self, tokens: Tokens, count: int) -> FloatTensor:
        """The same with the logits (count, V) after each of the last ``count`` of them."""
        size = len(tokens)
        length = self._length + size
        if not 0 < size <= length <= self.context:
            raise self._misfit(size, self._length)
        self._check(tokens)
        step = self._steps.get((size, count))
        if step is None:
            step = self._step(size, count)
        step.tokens[0] = tokens
        step.seqlens[0] = length - 1
        step.total[0] = length
        self._run(step)
        self._length = length
        logits: FloatTensor = step.logits[0]
        return logits

    def rewind(self, length: int) -> None:
        """As ``Engine.rewind``."""
        if not 0 <= length <= self._length:
            raise InputError(f"rewind to {length}: the state holds {self._length} tokens")
        self._length = length

    def cancel(self) -> None:
        """As ``Engine.cancel``."""
        self._options.terminate = True

    def clear(self) -> None:
        """Forget a ``cancel`` that came when nothing ran."""
        self._options.terminate = False

    def close(self) -> None:
        """As ``Engine.close``; any further call raises ``InputError``."""
        self._session, self._steps = None, {}
        self._cache = Cache(self.shape, 0)
        self._lanes = Lanes(None, self.shape, 0, self._run)
        self._length, self.context = 0, 0

    def _run(self, step: Step) -> None:
        try:
            step(self._options)
        except Exception as error:  # onnxruntime has no public base of its own
            if self._options.terminate:
                self._options.terminate = False
                raise CanceledError from None
            raise InputError(f"{self.path}: onnxruntime failed ({first_line(error)})") from error

    def _step(self, size: int, count: int) -> Step:
        if len(self._steps) >= _KEPT_STEPS:
            del self._steps[max(self._steps)]
        rows = np.arange(size - count, size)
        logits = self._logits[:, :count]
        step = Step(self._session, self.shape, self._cache, slice(1), size, rows, logits)
        self._steps[size, count] = step
        return step

    def _check(self, tokens: Tokens) -> None:
        values = tokens.ravel().tolist()  # for a few, faster than numpy
        if min(values) < 0 or max(values) >= self.vocabulary:
            raise InputError(f"a token is not within the vocabulary of {self.vocabulary}")

    def _misfit(self, size: int, length: int) -> InputError:
        if self.context == 0:
            return InputError(f"{self.path}: the engine is closed")
        if size == 0:
            return InputError("feed: give at least one token")
        return too_long(size, length, self.context)

    @property
    def lane_lengths(self) -> npt.NDArray[np.int32]:
        """(n,) tokens in each lane; empty before ``fork``."""
        return self._lanes.lengths.copy()

    def fork(self, count: int) -> None:
        """Make ``count`` lanes, each with the state of now; earlier ones are gone.

        Raises:
            InputError: more than max_lanes.
        """
        if not 1 <= count <= self.max_lanes or self.context == 0:
            raise InputError(f"fork: {count} is not from 1 to {self.max_lanes} lanes")
        self._lanes.fork(count, self._cache, self._length)

    def feed_lanes(
        self, tokens: Tokens, counts: npt.NDArray[np.integer[Any]] | None = None
    ) -> FloatTensor:
        """Read on in every lane; logits (n, V) after the last token of each. Valid until the next
        call.

        tokens: (n, K) int64. counts: (n,) how many of a lane's K are real, the first ones; all
        where left out. A lane with none stays as it is and keeps its row of logits.

        Raises:
            InputError: as ``feed``, or another number of lanes.
            CanceledError: the lanes are as before the call.
        """
        self._lanes.check(tokens, counts)
        self._check(tokens)
        if counts is None and tokens.shape[1] == 1:
            return self._lanes.feed_one_each(tokens)
        real = np.full(len(tokens), tokens.shape[1]) if counts is None else np.asarray(counts)
        return self._lanes.feed(tokens, real)

    def rewind_lanes(self, lengths: npt.NDArray[np.integer[Any]]) -> None:
        """Forget all but the first tokens of each lane, (n,).

        Raises:
            InputError: there are not so many.
        """
        self._lanes.rewind(np.asarray(lengths))

    def join(self, lane: int) -> None:
        """Go on with one lane's state as the engine's own; the lanes stay.

        Raises:
            InputError: there is no such lane.
        """
        self._length = self._lanes.join(lane, self._cache)
