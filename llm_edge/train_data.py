"""What the decoder is trained on: scenes, thoughts and answers as token sequences."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_edge import coding, scenarios, words
from llm_edge.coding import Ints
from llm_edge.lookahead import HORIZON_S, look_ahead
from llm_edge.thought import answer_tokens, answers_of, thought_tokens

NO_THOUGHT, CUT = 0.15, 0.25
"""Shares of sequences without a thought, and with one cut at a random place."""


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """tokens: (B, T) int64, 0 after the end. start: (B,) where the thought begins; what is before
    is given, not learned. Of each slot for the teacher, (B, 8, …): blocks, 10 numbers, 1 where it
    blocks the maneuver; times, 10, when it meets it as a share of the horizon, 1 for never; meets,
    when the wish meets it, −1 for slots that are not taken.
    """

    tokens: Ints
    start: Ints
    blocks: npt.NDArray[np.float32]
    times: npt.NDArray[np.float32]
    meets: Ints


def sequences(seed: int, part: int, count: int, kinds: tuple[str, ...]) -> Sequences:
    """Part number ``part`` of an endless run, the same for the same numbers."""
    rng = np.random.default_rng([seed, part])
    scenes = coding.coded(scenarios.draw(rng, count, kinds))
    outcome = look_ahead(scenes)
    prompt = words.prompt_tokens(scenes)
    thought = thought_tokens(scenes, outcome)
    answer = answer_tokens(answers_of(scenes, outcome))
    length = (thought >= 0).sum(axis=1)
    drawn = rng.random(count)
    kept = np.where(drawn < NO_THOUGHT, 0, length)
    kept = np.where(drawn > 1 - CUT, (rng.random(count) * length).astype(int), kept)
    thought = np.where(np.cumsum(thought >= 0, axis=1) <= kept[:, None], thought, -1)
    done = np.full((count, 1), words.IDS[words.DONE])
    return Sequences(
        packed(np.concatenate([prompt, thought, done, answer], axis=1)),
        (prompt >= 0).sum(axis=1),
        outcome.blocks.astype(np.float32),
        np.minimum(outcome.first / HORIZON_S, 1).astype(np.float32),
        np.where(scenes.taken, outcome.meets, -1),
    )


def packed(tokens: Ints) -> Ints:
    """Without the gaps (−1), 0 at the end."""
    held: npt.NDArray[np.bool_] = tokens >= 0
    order = np.argsort(~held, axis=1, kind="stable")
    width = int(held.sum(axis=1).max())
    return np.take_along_axis(np.where(held, tokens, 0), order, axis=1)[:, :width]
