"""Which depth and width the decoder should have, for a decision within some milliseconds.

    python -m benchmarks.decoder_shapes [--target-ms 5] [--accuracies FILE.json] [--rounds 15]

The time of a whole decision (prompt of 66 words, thought of 33, answer of 6 calls) is measured for
a grid of shapes with untrained weights, in turns, one thread, as time spent on the calling thread.
The objective is MnasNet's (Tan et al., CVPR 2019): accuracy · (latency / target)^w with w 0 within
the target and --weight beyond it. FILE.json holds what training found, {"4x128": 0.93, …}, layers
by width; shapes that it leaves out have a latency only.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy as np

from llm_edge.calibrate import ThreadClock
from llm_edge.checkpoint import Shape, random_checkpoint
from llm_edge.decoder_graph import decoder_model
from llm_edge.ort_engine import OrtEngine
from pipeline.errors import InputError

LAYERS, WIDTHS = (2, 3, 4, 6, 8), (64, 96, 128, 192, 256)
HEAD, VOCABULARY, CONTEXT = 32, 300, 128
PROMPT, THOUGHT, ANSWER = 66, 33, (2,) * 6
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, CONTEXT)


def shape(layers: int, width: int) -> Shape:
    """Heads of 32, a hidden layer of three times the width."""
    heads = width // HEAD
    return Shape(VOCABULARY, width, layers, heads, heads, 3 * width, CONTEXT)


def decide(engine: OrtEngine) -> None:
    """The calls of one decision."""
    engine.rewind(0)
    engine.feed(TOKENS[:PROMPT])
    for k in range(THOUGHT):
        engine.feed(TOKENS[k : k + 1])
    for size in ANSWER:
        engine.feed(TOKENS[:size])


def latencies(grid: list[tuple[int, int]], rounds: int) -> dict[tuple[int, int], float]:
    """Median ms of a decision of each shape."""
    engines = {}
    with tempfile.TemporaryDirectory() as folder:
        for layers, width in grid:
            path = Path(folder) / "m.onnx"
            model = decoder_model(random_checkpoint(shape(layers, width)))
            path.write_bytes(model.SerializeToString())
            engines[layers, width] = OrtEngine(path, max_lanes=0)
    clock = ThreadClock()
    spent: dict[tuple[int, int], list[int]] = {key: [] for key in grid}
    for _ in range(rounds):
        for key, engine in engines.items():
            decide(engine)  # finds the one before it in the caches
            began = clock.now_ns()
            decide(engine)
            spent[key].append(clock.now_ns() - began)
    return {key: float(np.median(ns)) / 1e6 for key, ns in spent.items()}


def read_accuracies(path: Path) -> dict[tuple[int, int], float]:
    """By layers and width.

    Raises:
        InputError: no such file, or another content.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        made = {}
        for name, value in given.items():
            layers, _, width = name.partition("x")
            made[int(layers), int(width)] = float(value)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f'{path}: give JSON such as {{"4x128": 0.93}} ({error})') from None
    if not all(0 <= value <= 1 for value in made.values()):
        raise InputError(f"{path}: accuracies go from 0 to 1")
    return made


def objective(accuracy: float, ms: float, target_ms: float, weight: float) -> float:
    """MnasNet's, hard within the target."""
    return accuracy * (ms / target_ms) ** (weight if ms > target_ms else 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target-ms", type=float, default=5.0)
    parser.add_argument("--weight", type=float, default=-1.0)
    parser.add_argument("--accuracies", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--layers", type=int, nargs="+", default=LAYERS)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    args = parser.parse_args()
    known = read_accuracies(args.accuracies) if args.accuracies else {}
    grid = sorted({(n, d) for n in args.layers for d in args.widths} | set(known))
    found = latencies(grid, args.rounds)
    scores = {
        key: objective(known[key], found[key], args.target_ms, args.weight) if key in known
        else math.nan
        for key in grid
    }  # fmt: skip
    print("| layers x width | weights, M | decision, ms | accuracy | objective |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for key in sorted(grid, key=lambda k: (-scores[k] if k in known else math.inf, found[k])):
        layers, width = key
        cells = f"{known[key]:.3f} | {scores[key]:.3f}" if key in known else " | "
        print(
            f"| {layers}x{width} | {shape(layers, width).parameters / 1e6:.2f} "
            f"| {found[key]:.2f}{' over' if found[key] > args.target_ms else ''} | {cells} |"
        )
    if known:
        layers, width = max(known, key=lambda k: scores[k])
        print(f"\nBest for {args.target_ms:g} ms: {layers} layers, {width} wide")


if __name__ == "__main__":
    main()
