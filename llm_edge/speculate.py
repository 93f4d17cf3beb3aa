"""Drafts copied from what was read before, checked several at once: the same tokens in fewer calls.

A draft is what followed the last words when they stood in the text before (prompt lookup). How many
tokens to draft is chosen by measured goodput (SmartSpec, Liu et al., arXiv 2406.14066, 2024): those
expected to be accepted, by the time that so large a call takes. None is a choice, too.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from llm_edge.cost import CostModel
from llm_edge.engine import Engine

Choose = Callable[[Sequence[int], npt.NDArray[np.float32]], int]
"""The next token from those made so far and the logits after them; the same for the same."""
_LOOKUP = 3


def lookup(text: str, most: int, longest: int = _LOOKUP) -> str:
    """Up to ``most`` tokens that followed the newest earlier occurrence of the text's end, of
    ``longest`` tokens or else of fewer; empty if there is none.

    Tokens are written as characters (``chr``), since nothing searches faster than ``str.rfind``:
    beside a call of 0.1 ms a loop over the text would cost what the draft gains.
    """
    size = len(text)
    for length in range(min(longest, size - 1), 0, -1):
        at = text.rfind(text[size - length :], 0, size - 1)
        if at >= 0:
            return text[at + length : at + length + most]
    return ""


class Drafter:
    """How many tokens to draft: by how many were right lately and by what a call costs.

    Drafts are looked up and held against what came even while none is computed, which costs next
    to nothing. So it begins without, and no call is spent on finding out.
    """

    def __init__(self, most: int = 4, weight: float = 0.05) -> None:
        """most: tokens a draft, 1 or more. weight: of the newest draft."""
        self.most = most
        self._weight = weight
        self._right = [0.0] * most

    def size(self, costs: CostModel, held: int) -> int:
        """The draft's length of the best goodput after ``held`` tokens, 0 for none."""
        best, chosen, expected = 1 / costs.step(1, held), 0, 1.0
        for k, right in enumerate(self._right, 1):
            expected += right
            goodput = expected / costs.step(k + 1, held)
            if goodput > best:
                best, chosen = goodput, k
        return chosen

    def observe(self, draft: str, truth: str) -> None:
        """What a draft said, and what came, as characters."""
        for k in range(min(self.most, len(truth))):
            right = float(draft[: k + 1] == truth[: k + 1])
            self._right[k] += self._weight * (right - self._right[k])


def generate(
    engine: Engine,
    text: Sequence[int],
    logits: npt.NDArray[np.float32],
    choose: Choose,
    stop: Callable[[Sequence[int]], bool],
    draft: int = 0,
    drafter: Drafter | None = None,
) -> list[int]:
    """Tokens one after another until ``stop``; all of them but the last are in the engine's state.

    With drafts the tokens are those without, as far as logits do not depend on how tokens are
    grouped into calls: in float32 to rounding; in 8 bits, where the tokens of a call share a scale,
    but for near ties.

    text: what the state holds. logits: after it. stop: given the tokens so far, asked after each.
    draft: tokens to draft in each step, by ``Drafter.size``. drafter: is told how drafts fare.

    Raises:
        InputError: the context is full.
        CanceledError: the state holds the text and some of the tokens.
    """
    whole = "".join(map(chr, text)) if draft or drafter else ""
    made = [choose((), logits)]
    guess, since = "", len(whole)
    while not stop(made):
        if draft or drafter:
            whole += chr(made[-1])
        if drafter and len(whole) - since >= drafter.most:
            if guess:
                drafter.observe(guess, whole[since:])
            guess, since = lookup(whole, drafter.most), len(whole)
        held = engine.length
        tokens = (
            list(map(ord, lookup(whole, min(draft, engine.context - held - 1)))) if draft else []
        )
        if not tokens:
            made.append(choose(made, engine.feed(np.array(made[-1:], np.int64))))
            continue
        after = engine.feed_all(np.array([made[-1], *tokens], np.int64))
        accepted = 0
        for row in after:
            made.append(choose(made, row))
            if accepted == len(tokens) or made[-1] != tokens[accepted] or stop(made):
                break
            whole += chr(made[-1])
            accepted += 1
        engine.rewind(held + 1 + accepted)
    return made
