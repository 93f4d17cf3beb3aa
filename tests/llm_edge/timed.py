"""An engine that computes nothing and takes as long as a cost model says, on a clock of its own."""

import numpy as np

from llm_edge.cost import CostModel
from pipeline.clock import SimClock
from pipeline.errors import InputError


class TimedEngine:
    """noise: of each call, a function of a random generator that gives a factor."""

    def __init__(self, costs: CostModel, context=128, max_lanes=8, noise=lambda rng: 1.0, seed=0):
        self.costs, self.vocabulary, self.context = costs, 10, context
        self.max_lanes = max_lanes
        self.clock, self.work = SimClock(5), SimClock(7)
        self.length, self.lanes = 0, 0
        self._noise, self._rng = noise, np.random.default_rng(seed)

    def spend(self, ns: float) -> None:
        self.work.advance_to(self.work.now_ns() + round(ns))
        self.clock.advance_to(self.clock.now_ns() + round(ns * self._noise(self._rng)))

    def feed(self, tokens):
        if not 0 < len(tokens) <= self.context - self.length:
            raise InputError("context")
        self.spend(self.costs.step(len(tokens), self.length))
        self.length += len(tokens)
        return np.zeros(self.vocabulary, np.float32)

    def feed_all(self, tokens):
        return np.tile(self.feed(tokens), (len(tokens), 1))

    def rewind(self, length):
        assert 0 <= length <= self.length
        self.length = length

    def cancel(self):
        pass

    def close(self):
        pass

    def fork(self, count):
        assert 1 <= count <= self.max_lanes
        self.spend(self.costs.fork * count * self.length)
        self.lanes = count

    def feed_lanes(self, tokens):
        assert len(tokens) == self.lanes
        self.spend(self.costs.step_lanes(self.lanes, 1, self.length))
        return np.zeros((self.lanes, self.vocabulary), np.float32)
