"""Scenes with many different values, and an engine that is no model but keeps the protocol."""

import numpy as np

from llm_edge.engine import CanceledError
from llm_edge.scene import LinkState, Mission, Scene, TargetState
from pipeline.errors import InputError

NOW = 1_700_000_000_000_000_000
MS = 1_000_000


def crowd(n=6, blind=3, seed=0, **changed):
    """n objects about the ego; the mission follows the one with the highest id."""
    rng = np.random.default_rng(seed)
    values = {
        "at_ns": NOW, "seen_ns": NOW - 43 * MS, "mission": Mission.FOLLOW, "speed_mps": 6.2,
        "cruise_mps": 7.5, "target": 10 + 7 * (n - 1) if n else -1,
        "target_state": TargetState.TRACKED if n else TargetState.NONE,
        "link": LinkState.POOR, "open_right": False,
        "ids": (10 + 7 * np.arange(n)).astype(np.int32),
        "classes": rng.integers(0, 10, n).astype(np.uint8), "told": rng.random(n) < 0.2,
        "positions": rng.uniform(-70, 70, (n, 2)), "velocities": rng.uniform(-8, 8, (n, 2)),
        "sizes": rng.uniform(0.4, 5, (n, 2)), "sigmas": rng.uniform(0.1, 1.5, n),
        "blind": rng.uniform(-40, 40, (blind, 2)),
    }  # fmt: skip
    return Scene(**{**values, **changed})


class Tally:
    """An ``Engine`` whose logits tell what it has read: a sum over tokens and places."""

    vocabulary, context = 97, 400

    def __init__(self):
        self.read, self.fed = [], 0
        self.cancel_after = None

    @property
    def length(self):
        return len(self.read)

    def feed(self, tokens):
        if self.cancel_after == 0:
            self.cancel_after = None
            raise CanceledError
        if self.cancel_after:
            self.cancel_after -= 1
        if not len(tokens) or self.length + len(tokens) > self.context:
            raise InputError("Tally: too many tokens")
        self.read += tokens.tolist()
        self.fed += len(tokens)
        total = sum(k * t for k, t in enumerate(self.read, 1))
        return np.arange(self.vocabulary, dtype=np.float32) == total % self.vocabulary

    def feed_all(self, tokens):
        return np.array([self.feed(tokens[k : k + 1]) for k in range(len(tokens))])

    def rewind(self, length):
        if not 0 <= length <= self.length:
            raise InputError("Tally: not so many tokens")
        del self.read[length:]

    def cancel(self):
        self.cancel_after = 0

    def close(self):
        pass
