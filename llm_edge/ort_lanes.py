"""States of one decoder side by side, each with a length of its own: votes that cost little."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from llm_edge.checkpoint import Shape
from llm_edge.engine import Tokens
from llm_edge.ort_session import Cache, FloatTensor, Step, too_long
from pipeline.errors import InputError

_KEPT_STEPS = 64


class Lanes:
    """lengths: (n,) int32, tokens in each lane; what lies beyond is never read.

    Memory is taken at the first ``fork``.
    """

    def __init__(self, session: Any, shape: Shape, most: int, run: Callable[[Step], None]) -> None:
        """run: makes a call, and turns what it raises into our own errors."""
        self._session, self._shape, self._most, self._run = session, shape, most, run
        self._cache: Cache | None = None
        self._steps: dict[tuple[int, int, int], Step] = {}
        self.lengths = np.zeros(0, np.int32)
        self._logits: FloatTensor = np.zeros((0, shape.vocab), np.float32)

    def fork(self, count: int, source: Cache, length: int) -> None:
        """So many lanes, each with the first tokens of ``source``."""
        if self._cache is None:
            self._cache = Cache(self._shape, self._most)
        self._cache.values[:, :, :count, :, :length] = source.values[..., :length, :]
        self.lengths = np.full(count, length, np.int32)
        self._logits = np.zeros((count, self._shape.vocab), np.float32)

    def check(self, tokens: Tokens, counts: npt.NDArray[np.integer[Any]] | None) -> None:
        """
        Raises:
            InputError: tokens or counts do not fit the lanes, or are too many.
        """
        n = len(self.lengths)
        if n == 0 or tokens.ndim != 2 or len(tokens) != n or tokens.shape[1] == 0:
            raise InputError(f"feed_lanes: give (n, K) tokens for the {n} lanes that fork made")
        size = tokens.shape[1]
        longest = int(self.lengths.max()) + size
        if counts is not None:
            real = np.asarray(counts)
            if real.shape != (n,) or real.min() < 0 or real.max() > size or real.max() == 0:
                raise InputError(f"feed_lanes: counts are not {n} numbers up to {size}, one over 0")
            longest = int((self.lengths + real + (real < size)).max())  # as feed writes
        if longest > self._shape.context:
            raise too_long(size, longest - size, self._shape.context)

    def feed_one_each(self, tokens: Tokens) -> FloatTensor:
        """(n, 1) tokens; logits (n, V)."""
        step = self._step(0, len(tokens), 1)
        step.tokens[:] = tokens
        step.seqlens[:] = self.lengths
        step.total[0] = int(self.lengths.max()) + 1
        self._run(step)
        self.lengths += 1
        self._logits = step.logits[:, 0]
        return self._logits

    def feed(self, tokens: Tokens, real: npt.NDArray[np.integer[Any]]) -> FloatTensor:
        """(n, K) tokens, the first ``real`` of each lane; logits (n, V).

        onnxruntime takes several tokens of several lanes only from the start of a text, so it is a
        call a token or a call a lane, whichever are fewer.
        """
        made = self._logits.copy()
        if tokens.shape[1] <= len(tokens):
            self._by_column(tokens, real, made)
        else:
            self._by_lane(tokens, real, made)
        self.lengths += real.astype(np.int32)
        self._logits = made
        return made

    def _by_column(
        self, tokens: Tokens, real: npt.NDArray[np.integer[Any]], made: FloatTensor
    ) -> None:
        """One token of every lane a call; a lane that has no more writes past its end."""
        step = self._step(0, len(tokens), 1)
        for j in range(tokens.shape[1]):
            step.tokens[:, 0] = tokens[:, j]
            np.minimum(real, j, out=step.seqlens, casting="unsafe")
            step.seqlens += self.lengths
            step.total[0] = step.seqlens.max() + 1
            self._run(step)
            reads = real > j
            made[reads] = step.logits[reads, 0]

    def _by_lane(
        self, tokens: Tokens, real: npt.NDArray[np.integer[Any]], made: FloatTensor
    ) -> None:
        """All tokens of one lane a call."""
        for lane, count in enumerate(real.tolist()):
            if count == 0:
                continue
            step = self._step(lane, lane + 1, count)
            step.tokens[0] = tokens[lane, :count]
            length = int(self.lengths[lane]) + count
            step.seqlens[0], step.total[0] = length - 1, length
            self._run(step)
            made[lane] = step.logits[0, 0]

    def _step(self, first: int, end: int, size: int) -> Step:
        step = self._steps.get((first, end, size))
        if step is None:
            if len(self._steps) >= _KEPT_STEPS:
                del self._steps[max(self._steps)]
            assert self._cache is not None  # fork made it
            rows = np.array([size - 1])
            step = Step(self._session, self._shape, self._cache, slice(first, end), size, rows)
            self._steps[first, end, size] = step
        return step

    def rewind(self, lengths: npt.NDArray[np.integer[Any]]) -> None:
        """
        Raises:
            InputError: not a length up to its own for each lane.
        """
        if lengths.shape != self.lengths.shape or ((lengths < 0) | (lengths > self.lengths)).any():
            raise InputError("rewind_lanes: give a length up to the lane's own for each lane")
        self.lengths = lengths.astype(np.int32)

    def join(self, lane: int, target: Cache) -> int:
        """Copy a lane's state to ``target``; its length.

        Raises:
            InputError: there is no such lane.
        """
        if not 0 <= lane < len(self.lengths) or self._cache is None:
            raise InputError(f"join: there is no lane {lane}")
        length = int(self.lengths[lane])
        target.values[:, :, 0, :, :length] = self._cache.values[:, :, lane, :, :length]
        return length
