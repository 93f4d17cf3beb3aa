"""Writing JSON with a guide: what is forced is read in one go with what was chosen before it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from llm_edge.engine import Tokens
from llm_edge.json_guide import Guide
from llm_edge.prefix import LivePrefix
from pipeline.errors import InputError

MAX_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Written:
    """tokens: the answer's. forwards: of the engine, the prompt's included. first_chosen: how many
    tokens of the answer stood before the first one that the model chose."""

    tokens: Tokens
    forwards: int
    first_chosen: int


def write(
    prefix: LivePrefix,
    guide: Guide,
    prompt: Tokens,
    most: int = MAX_TOKENS,
    on_read: Callable[[], None] | None = None,
) -> Written:
    """The answer that the engine likes best, token by token, after ``prompt`` (K,).

    on_read: called when the prompt has been read.

    Raises:
        InputError: over ``most`` tokens, or more than the context holds.
        CanceledError: see ``Engine``.
    """
    made = guide.forced()
    first_chosen = len(made)
    logits = prefix.resume(np.concatenate([prompt, made]))
    forwards = 1
    if on_read is not None:
        on_read()
    while not guide.done:
        token = int(np.argmax(guide.mask(logits)))
        guide.take(token)
        pending = np.concatenate([[token], guide.forced()]).astype(np.int64)
        made = np.concatenate([made, pending])
        if len(made) > most:
            raise InputError(f"answer: over {most} tokens")
        if not guide.done:
            logits = prefix.feed(pending)
            forwards += 1
    return Written(made, forwards, first_chosen)
