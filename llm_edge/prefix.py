"""What an engine has read already is not read again."""

import numpy as np
import numpy.typing as npt

from llm_edge.engine import Engine, Tokens

STEP = 32


def shared(a: Tokens, b: Tokens) -> int:
    """How many tokens two sequences have in common from their beginning."""
    k = min(len(a), len(b))
    differ = np.flatnonzero(a[:k] != b[:k])
    return int(differ[0]) if len(differ) else k


class LivePrefix:
    """An engine and the tokens in its state.

    A prompt's static part first, then what changes slowly, then what changes always: then
    ``resume`` reads the last part only. Called while nothing is asked, with the first two, it is
    sleep-time prefill.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.tokens: Tokens = np.zeros(0, np.int64)

    def resume(self, tokens: Tokens, *, step: int = STEP) -> npt.NDArray[np.float32]:
        """Bring the state to exactly these tokens; logits (V,) of what follows.

        tokens: (K,) int64, K ≥ 1. step: what was read before a cancel stays read, in whole steps.

        Raises:
            InputError: a token outside the vocabulary, or more than the context holds.
            CanceledError: what was read by then stays.
        """
        keep = min(shared(self.tokens, tokens), len(tokens) - 1)
        self.rewind(keep)
        for start in range(keep, len(tokens), step):
            logits = self.feed(tokens[start : start + step])
        return logits

    def feed(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """Read on; see ``Engine.feed``."""
        logits = self.engine.feed(tokens)
        self.tokens = np.concatenate([self.tokens, tokens])
        return logits

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        self.engine.rewind(length)
        self.tokens = self.tokens[:length]
