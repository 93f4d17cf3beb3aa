"""What each shortcut of the GGUF tier saves, the same scenes answered with and without it.

    python -m benchmarks.reasoner_savings [--scenes 5] [--model MODEL.gguf]

A stream of scenes with six moving objects and one mission. as it is: prompts read from where they
differ, forced words read together with the chosen one before them. Each of the other rows leaves
one thing away. first answer: by a model that has read nothing yet, and by one that read the static
and the slow part while idle. calls: four requests to others that take 50 ms each, run together as
planned and one after the other. Random weights in SmolLM-135M's shape, Q8_0, where no model is
given (extra llm); their vocabulary splits words more than a real one, so prompts are long.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.random_gguf import SHAPES
from benchmarks.random_gguf import write as write_gguf
from llm_edge.engine import Tokens
from llm_edge.guided import write
from llm_edge.json_guide import Guide, grammar, schema
from llm_edge.llama_engine import LlamaEngine
from llm_edge.prefix import LivePrefix
from llm_edge.prompt import parts
from llm_edge.scene import Mission, Scene
from llm_edge.tools import Call, run

STEP_S = 0.2
CALL_S = 0.05
N = 6


def stream(count: int) -> list[Scene]:
    """The same six objects, a fifth of a second apart."""
    rng = np.random.default_rng(3)
    first = Scene(
        0, 0, mission=Mission.FOLLOW, target=3, speed_mps=6.0,
        ids=np.arange(1, N + 1, dtype=np.int32), classes=np.full(N, 4, np.uint8),
        told=np.arange(N) == 4, positions=rng.uniform(-40, 40, (N, 2)),
        velocities=rng.uniform(-8, 8, (N, 2)), sizes=np.full((N, 2), 2.0), sigmas=np.full(N, 0.3),
    )  # fmt: skip
    return [
        replace(first, positions=first.positions + k * STEP_S * first.velocities)
        for k in range(count)
    ]


@dataclass
class Told:
    """Of one answer."""

    ms: float
    read: int
    forwards: int


class Counted(LivePrefix):
    """Counts what is read."""

    read = forwards = 0

    def feed(self, tokens: Tokens) -> np.ndarray:
        self.read += len(tokens)
        self.forwards += 1
        return super().feed(tokens)


class OneByOne:
    """A guide that forces nothing: every token is a forward of its own."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide

    def __getattr__(self, name: str) -> object:
        return getattr(self._guide, name)

    def forced(self) -> Tokens:
        return np.zeros(0, np.int64)


def answer(
    engine: LlamaEngine, prefix: Counted, scene: Scene, *, reuse: bool = True, jump: bool = True
) -> Told:
    begun_s, read, forwards = time.perf_counter(), prefix.read, prefix.forwards
    if not reuse:
        prefix.rewind(0)
    guide = Guide(engine, grammar(schema(scene)))
    prompt = np.concatenate([standing(engine, scene), engine.tokenize(parts(scene).fast)])
    write(prefix, guide if jump else OneByOne(guide), prompt)  # type: ignore[arg-type]
    took_ms = (time.perf_counter() - begun_s) * 1e3
    return Told(took_ms, prefix.read - read, prefix.forwards - forwards)


def standing(engine: LlamaEngine, scene: Scene) -> Tokens:
    made = parts(scene)
    return np.concatenate([engine.tokenize(made.static), engine.tokenize(made.slow)])


def row(name: str, told: list[Told]) -> None:
    ms = np.median([t.ms for t in told])
    read = np.median([t.read for t in told])
    forwards = np.median([t.forwards for t in told])
    print(f"| {name} | {ms:.0f} | {read:.0f} | {forwards:.0f} |", flush=True)


def calls() -> tuple[float, float]:
    """Seconds that four requests take together, and one after the other."""
    regions = ("ahead", "left", "right", "behind")
    plan = tuple(Call("request_v2x", region=r) for r in regions)
    ask: Callable[..., int] = lambda region: time.sleep(CALL_S) or 1  # noqa: E731
    took = []
    for plans in ([plan], [(c,) for c in plan]):
        begun_s = time.perf_counter()
        for one in plans:
            run(one, Scene(0, 0), 5.0, ask)
        took.append(time.perf_counter() - begun_s)
    return took[0], took[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=5)
    parser.add_argument("--model", help="a GGUF file instead of random weights")
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    options = parser.parse_args()
    together, after = calls()
    print(f"four calls: together {together * 1e3:.0f} ms, one after the other {after * 1e3:.0f} ms")
    try:
        import llama_cpp  # noqa: F401
        import llguidance  # noqa: F401
    except ImportError:
        print("llama-cpp-python or llguidance is not installed (the llm extra): no more rows")
        return
    with contextlib.ExitStack() as stack:
        model = options.model
        if not model:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            model = str(Path(folder) / "random.gguf")
            write_gguf(Path(model), SHAPES[options.shape])
        engine = LlamaEngine(model, 4096)
        stack.callback(engine.close)
        scenes = stream(options.scenes + 1)
        prefix = Counted(engine)
        Guide(engine, grammar(schema(scenes[0])))  # its vocabulary is made once
        print("\n| | ms an answer | tokens read | forwards |\n| --- | ---: | ---: | ---: |")
        row("first answer, nothing read", [answer(engine, prefix, scenes[0])])
        prefix.rewind(0)
        prefix.resume(standing(engine, scenes[0]))
        row("first answer, read while idle", [answer(engine, prefix, scenes[0])])
        row("as it is", [answer(engine, prefix, s) for s in scenes[1:]])
        row("no prefix reuse", [answer(engine, prefix, s, reuse=False) for s in scenes[1:]])
        answer(engine, prefix, scenes[0])
        row("no jump-forward", [answer(engine, prefix, s, jump=False) for s in scenes[1:]])


if __name__ == "__main__":
    main()
