"""A model that never ends: what the tracker's frame times are measured beside.

    python -m benchmarks.endless MODEL.gguf [--threads 2]

As a program it is what one gets without thinking about it: llama.cpp with two threads that spin
while they wait, at the tracker's priority. ``Endless`` is an answerer for ``llm_edge.worker``.
"""

import argparse

import numpy as np

from llm_edge.answerer import Reply
from llm_edge.decision import Decision
from llm_edge.engine import CanceledError
from llm_edge.llama_engine import CHUNK, LlamaEngine
from llm_edge.scene import Scene
from pipeline.clock import Clock

PROMPT = 2000
DECODED = 400
READ = 160


class Endless:
    """Decodes (``kind`` decode) or reads a prompt of 2,000 tokens (prefill) until it is canceled;
    tells how many tokens it did, and how long after the cancel it ended."""

    def __init__(self, clock: Clock, model: str, kind: str = "decode", chunk: int = CHUNK) -> None:
        self._clock, self._kind = clock, kind
        self._engine = LlamaEngine(model, PROMPT + 48, chunk=chunk)
        self._tokens = np.random.default_rng(0).integers(300, 400, PROMPT)
        self._canceled_ns = 0
        self._engine.feed(self._tokens[:64])

    def answer(self, scene: Scene, deadline_ns: int) -> Reply:
        self._engine.clear()
        begun_ns = self._clock.now_ns()
        count = 0
        try:
            while self._clock.now_ns() < deadline_ns:
                count += self._some()
        except CanceledError:
            pass
        now_ns = self._clock.now_ns()
        figures = {"tokens_s": count / max(1e-9, (now_ns - begun_ns) * 1e-9)}
        return Reply(None, "", {**figures, "cancel_ms": (now_ns - self._canceled_ns) * 1e-6})

    def _some(self) -> int:
        if self._kind == "decode":
            if self._engine.length > 64 + DECODED:
                self._engine.rewind(64)
            self._engine.feed(self._tokens[:1])
            return 1
        if self._engine.length + READ > PROMPT:
            self._engine.rewind(0)
        self._engine.feed(self._tokens[:READ])
        return READ

    def prepare(self, scene: Scene) -> None:
        """Nothing."""

    def learn(self, scene: Scene, decision: Decision) -> None:
        """Nothing."""

    def cancel(self) -> None:
        self._canceled_ns = self._clock.now_ns()
        self._engine.cancel()

    def close(self) -> None:
        self._engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    import llama_cpp  # before our own loading, which would make its threads wait quietly

    assert llama_cpp
    engine = LlamaEngine(options.model, 1024, chunk=512, threads=options.threads, pace=int)
    tokens = np.random.default_rng(0).integers(300, 400, 512)
    print("ready", flush=True)
    while True:
        engine.rewind(0)
        engine.feed(tokens)
        for _ in range(128):
            engine.feed(tokens[:1])


if __name__ == "__main__":
    main()
