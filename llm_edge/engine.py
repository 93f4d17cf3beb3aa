"""What every language model looks like to the rest: tokens in, logits out, and a way to stop it."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray

Tokens = npt.NDArray[np.int64]


class CanceledError(Exception):
    """The work was cut off by ``cancel``; the engine goes on from where it was before the call."""


class Engine(Protocol):
    """One model with one state, the tokens that it has read. One thread owns it.

    vocabulary: number of tokens. context: how many tokens a state may hold.
    """

    vocabulary: int
    context: int

    @property
    def length(self) -> int:
        """Tokens in the state."""

    def feed(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """Read on; logits (V,) of what follows the last one. Valid until the next call.

        tokens: (K,) int64, K ≥ 1.

        Raises:
            InputError: a token outside the vocabulary, or more than the context holds.
            CanceledError: the state is as before the call.
        """

    def feed_all(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """The same with the logits (K, V) after every one of them."""

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens.

        Raises:
            InputError: there are not so many.
        """

    def cancel(self) -> None:
        """From any thread: whatever runs now, or else the next call, raises ``CanceledError``."""

    def close(self) -> None:
        """Give the memory back."""


def softmax(logits: FloatArray | npt.NDArray[np.float32]) -> FloatArray:
    """Probabilities along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    made: FloatArray = shifted / shifted.sum(axis=-1, keepdims=True)
    return made
