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
from llm_edge.ort_session import Cache, Step, open_session
from pipeline.errors import InputError

FloatTensor = npt.NDArray[np.float32]
MAX_LANES = 16
_KEPT_STEPS = 64
"""Bindings beyond so many are made anew: tens of microseconds, beside a prefill of a millisecond"""


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
        self._length = 0
        self._steps: dict[tuple[int, bool], Step] = {}
        self._lane_cache: Cache | None = None
        self._lane_steps: dict[tuple[int, int, int], Step] = {}
        self._lane_lengths = np.zeros(0, np.int32)
        self._lane_logits: FloatTensor = np.zeros((0, self.vocabulary), np.float32)
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
        logits: FloatTensor = self._feed(tokens, False)[0]
        return logits

    def feed_all(self, tokens: Tokens) -> FloatTensor:
        """As ``Engine.feed_all``."""
        return self._feed(tokens, True)

    def rewind(self, length: int) -> None:
        """As ``Engine.rewind``."""
        if not 0 <= length <= self._length:
            raise InputError(f"rewind to {length}: the state holds {self._length} tokens")
        self._length = length

    def cancel(self) -> None:
        """As ``Engine.cancel``."""
        self._options.terminate = True

    def close(self) -> None:
        """As ``Engine.close``; any further call raises ``InputError``."""
        self._session = None
        self._steps, self._lane_steps = {}, {}
        self._cache, self._lane_cache = Cache(self.shape, 0), None
        self._length, self.context = 0, 0
        self._lane_lengths = np.zeros(0, np.int32)

    def _feed(self, tokens: Tokens, every: bool) -> FloatTensor:
        size = len(tokens)
        length = self._length + size
        if not 0 < size <= length <= self.context:
            raise self._misfit(size, self._length)
        self._check(tokens)
        step = self._steps.get((size, every))
        if step is None:
            step = self._step(size, every)
        step.tokens[0] = tokens
        step.seqlens[0] = length - 1
        step.total[0] = length
        self._run(step)
        self._length = length
        logits: FloatTensor = step.logits[0]
        return logits

    def _run(self, step: Step) -> None:
        try:
            step(self._options)
        except Exception as error:  # onnxruntime has no public base of its own
            if self._options.terminate:
                self._options.terminate = False
                raise CanceledError from None
            raise InputError(f"{self.path}: onnxruntime failed ({error})") from error

    def _step(self, size: int, every: bool) -> Step:
        if len(self._steps) >= _KEPT_STEPS:
            del self._steps[max(self._steps)]
        rows = np.arange(size) if every else np.array([size - 1])
        step = Step(self._session, self.shape, self._cache, slice(1), size, rows)
        self._steps[size, every] = step
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
        return InputError(
            f"{size} tokens after {length} are more than the context of {self.context}; rewind, "
            "or give a shorter scene or thought"
        )

    @property
    def lane_lengths(self) -> npt.NDArray[np.int32]:
        """(n,) tokens in each lane; empty before ``fork``."""
        return self._lane_lengths.copy()

    def fork(self, count: int) -> None:
        """Make ``count`` lanes, each with the state of now; earlier ones are gone.

        Raises:
            InputError: more than max_lanes.
        """
        if not 1 <= count <= self.max_lanes or self.context == 0:
            raise InputError(f"fork: {count} is not from 1 to {self.max_lanes} lanes")
        if self._lane_cache is None:
            self._lane_cache = Cache(self.shape, self.max_lanes)
        kept = self._cache.values[..., : self._length, :]
        self._lane_cache.values[:, :, :count, :, : self._length] = kept
        self._lane_lengths = np.full(count, self._length, np.int32)
        self._lane_logits = np.zeros((count, self.vocabulary), np.float32)

    def feed_lanes(
        self, tokens: Tokens, counts: npt.NDArray[np.integer[Any]] | None = None
    ) -> FloatTensor:
        """Read on in every lane; logits (n, V) after the last token of each.

        tokens: (n, K) int64. counts: (n,) how many of a lane's K are real, the first ones; all
        where left out. A lane with none stays as it is and keeps its row of logits.

        Raises:
            InputError: as ``feed``, or another number of lanes.
            CanceledError: the lanes are as before the call.
        """
        n = len(self._lane_lengths)
        if n and counts is None and tokens.shape == (n, 1):
            return self._feed_one_each(tokens)
        if n == 0 or tokens.ndim != 2 or len(tokens) != n:
            raise InputError(f"feed_lanes: give (n, K) tokens for the {n} lanes that fork made")
        size = tokens.shape[1]
        real = np.full(n, size) if counts is None else np.asarray(counts)
        if real.shape != (n,) or real.min() < 0 or real.max() > size or real.max() == 0:
            raise InputError(f"feed_lanes: counts are not {n} numbers up to {size}, one above 0")
        longest = int((self._lane_lengths + real + (real < size)).max())  # see _by_column
        if longest > self.context:
            raise self._misfit(size, longest - size)
        self._check(tokens)
        made = self._lane_logits.copy()
        if size <= n:
            self._by_column(tokens, real, made)
        else:
            self._by_lane(tokens, real, made)
        self._lane_lengths += real.astype(np.int32)
        self._lane_logits = made
        return made

    def _feed_one_each(self, tokens: Tokens) -> FloatTensor:
        longest = int(self._lane_lengths.max()) + 1
        if longest > self.context:
            raise self._misfit(1, longest - 1)
        self._check(tokens)
        step = self._lane_step(0, len(tokens), 1)
        step.tokens[:] = tokens
        step.seqlens[:] = self._lane_lengths
        step.total[0] = longest
        self._run(step)
        self._lane_lengths += 1
        self._lane_logits = step.logits[:, 0]
        return self._lane_logits

    def _by_column(self, tokens: Tokens, real: npt.NDArray[Any], made: FloatTensor) -> None:
        """One token of every lane a call; a lane that has no more writes past its end."""
        n, size = tokens.shape
        step = self._lane_step(0, n, 1)
        for j in range(size):
            step.tokens[:, 0] = tokens[:, j]
            np.minimum(real, j, out=step.seqlens, casting="unsafe")
            step.seqlens += self._lane_lengths
            step.total[0] = step.seqlens.max() + 1
            self._run(step)
            if real.min() > j:
                made[:] = step.logits[:, 0]
            else:
                made[real > j] = step.logits[real > j, 0]

    def _by_lane(self, tokens: Tokens, real: npt.NDArray[Any], made: FloatTensor) -> None:
        """All tokens of one lane a call: onnxruntime takes several of several lanes only from the
        start of a text."""
        for lane, count in enumerate(real.tolist()):
            if count == 0:
                continue
            step = self._lane_step(lane, lane + 1, count)
            step.tokens[0] = tokens[lane, :count]
            length = int(self._lane_lengths[lane]) + count
            step.seqlens[0], step.total[0] = length - 1, length
            self._run(step)
            made[lane] = step.logits[0, 0]

    def _lane_step(self, first: int, end: int, size: int) -> Step:
        step = self._lane_steps.get((first, end, size))
        if step is None:
            if len(self._lane_steps) >= _KEPT_STEPS:
                del self._lane_steps[max(self._lane_steps)]
            assert self._lane_cache is not None  # fork made it
            lanes = slice(first, end)
            rows = np.array([size - 1])
            step = Step(self._session, self.shape, self._lane_cache, lanes, size, rows)
            self._lane_steps[first, end, size] = step
        return step

    def rewind_lanes(self, lengths: npt.NDArray[np.integer[Any]]) -> None:
        """Forget all but the first tokens of each lane, (n,).

        Raises:
            InputError: there are not so many.
        """
        given = np.asarray(lengths)
        if (
            given.shape != self._lane_lengths.shape
            or ((given < 0) | (given > self._lane_lengths)).any()
        ):
            raise InputError("rewind_lanes: give a length up to the lane's own for each lane")
        self._lane_lengths = given.astype(np.int32)

    def join(self, lane: int) -> None:
        """Go on with one lane's state as the engine's own; the lanes stay.

        Raises:
            InputError: there is no such lane.
        """
        if not 0 <= lane < len(self._lane_lengths) or self._lane_cache is None:
            raise InputError(f"join: there is no lane {lane}")
        length = int(self._lane_lengths[lane])
        values = self._lane_cache.values[:, :, lane, :, :length]
        self._cache.values[:, :, 0, :, :length] = values
        self._length = length
