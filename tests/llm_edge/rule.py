"""A reasoner that is the rule policy, and takes its time over it if it is told to."""

import threading
import time
from dataclasses import dataclass, replace

from llm_edge.decision import Source
from llm_edge.policy import Policy
from llm_edge.reasoner import Answer
from llm_edge.rhythm import Rhythm
from pipeline.config import Config, option


@dataclass(frozen=True)
class RuleConfig(Config):
    """How long it thinks, a call a millisecond; its answer counts as thought of then."""

    calls: int = option(0, "Of thought.", low=0, high=100_000)
    fails: bool = option(False, "Whether it breaks down each time.")
    rhythmic: bool = option(False, "Whether it is told of the tracker, and prepares.")


class Rule:
    """Ends at the deadline, or at once when canceled, with what the policy says."""

    def __init__(self, config: RuleConfig, clock) -> None:
        self._config, self._clock = config, clock
        self._stop = threading.Event()
        self.closed = False
        self.rhythm, self.prepares = Rhythm() if config.rhythmic else None, config.rhythmic
        self.prepared, self.learned = [], []

    def decide(self, scene, deadline_ns, feedback=None):
        begin_ns = self._clock.now_ns()
        if self._config.fails:
            raise RuntimeError("the engine is gone")
        own = Policy(scene).decide(scene.at_ns + 10**9)
        calls, why = 0, "thought"
        while calls < self._config.calls:
            if self._stop.wait(0.001):
                why = "canceled"
                break
            if self._clock.now_ns() > deadline_ns - 2_000_000:
                why = "deadline"
                break
            calls += 1
            if feedback:
                feedback("thought", calls)
        if calls and calls == self._config.calls:
            own = replace(own, source=Source.THOUGHT)
        self._stop.clear()
        now_ns = self._clock.now_ns()
        return Answer(own, now_ns <= deadline_ns, now_ns - begin_ns, why, calls, 1, 10**6)

    def prepare(self, scene):
        self.prepared.append((threading.current_thread().name, scene))

    def learn(self, scene, answer):
        self.learned.append((threading.current_thread().name, scene, answer))

    def tiers(self):
        if self.rhythm is None:
            return {"rule": "ready"}
        window = self.rhythm.window(self._clock.now_ns())
        return {"rhythm": "known" if window else "unknown", "prepared": str(len(self.prepared))}

    def cancel(self):
        self._stop.set()

    def close(self):
        self.closed = True


def wait(done, limit_s=5.0):
    """Whether something comes to hold."""
    end = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
