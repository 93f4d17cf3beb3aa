"""The shipped decoder's engine: ms a token beside llama.cpp, and what each saving saves.

    python -m benchmarks.decoder [--rounds 30] [--calibrations 10] [--shapes 1M 3M]

Untrained weights in the shapes of 1 and 3 million parameters, 300 words, context 256, one thread.
llama.cpp runs the same weights (extra `llm`), called without its Python layers; without it those
rows are left out. Time is what the processor spent on the calling thread, which others on the
machine hardly move; engines take turns in every round, figures are medians, ratios are ours over
llama.cpp's Q8_0 in the same run.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from llm_edge.calibrate import ThreadClock, calibrate
from llm_edge.checkpoint import Shape, random_checkpoint, save_checkpoint
from llm_edge.cost import CostModel
from llm_edge.export_gguf import export_gguf
from llm_edge.export_onnx import export_onnx
from llm_edge.ort_engine import OrtEngine
from llm_edge.speculate import Drafter, generate
from pipeline.clock import WallClock
from pipeline.errors import InputError

SHAPES = {
    "1M": Shape(300, 128, 4, 4, 4, 384, 256),
    "3M": Shape(300, 192, 6, 6, 6, 512, 256),
}
PROMPT, THOUGHT, FIELDS = 100, 33, 6
HELD_OUT = (20, 50, 77, 120, 150, 200, 230)
CLOCK = ThreadClock()
TOKENS = np.random.default_rng(0).integers(0, 300, 256)
Calls = dict[str, Callable[[], object]]


def timed(call: Callable[[], object]) -> int:
    began = CLOCK.now_ns()
    call()
    return CLOCK.now_ns() - began


def medians(rows: dict[str, Calls], rounds: int, inner: int = 5) -> dict[str, dict[str, float]]:
    """ms of every call of every row, the rows taking turns; the first call of a turn is not
    counted, since it finds the other's data in the caches."""
    spent: dict[str, dict[str, list[int]]] = {r: {c: [] for c in rows[r]} for r in rows}
    for _ in range(rounds):
        for row, calls in rows.items():
            for name, call in calls.items():
                spent[row][name] += [timed(call) for _ in range(inner)][1:]
    return {
        row: {name: float(np.median(ns)) / 1e6 for name, ns in calls.items()}
        for row, calls in spent.items()
    }


def ours(engine: OrtEngine) -> Calls:
    """Prefill and one token after it."""

    def prefill() -> None:
        engine.rewind(0)
        engine.feed(TOKENS[:PROMPT])

    def token() -> None:
        engine.rewind(PROMPT)
        engine.feed(TOKENS[:1])

    return {"prefill": prefill, "token": token}


def llama(path: Path) -> Calls | None:
    """The same by llama.cpp's own functions; None where it is not installed."""
    try:
        import llama_cpp
    except ImportError:
        return None
    model = llama_cpp.Llama(
        str(path), n_ctx=256, n_batch=256, n_ubatch=256, n_threads=1, n_threads_batch=1,
        verbose=False,
    )  # fmt: skip
    context, memory = model.ctx, llama_cpp.llama_get_memory(model.ctx)
    prompt = (llama_cpp.llama_token * PROMPT)(*TOKENS[:PROMPT].tolist())
    one = (llama_cpp.llama_token * 1)(int(TOKENS[0]))

    def call(held: int, tokens: object, count: int) -> None:
        _ = model  # keeps the context
        llama_cpp.llama_memory_seq_rm(memory, 0, held, -1)
        batch = llama_cpp.llama_batch_get_one(tokens, count)
        assert llama_cpp.llama_decode(context, batch) == 0
        llama_cpp.llama_get_logits_ith(context, -1)

    return {"prefill": lambda: call(0, prompt, PROMPT), "token": lambda: call(PROMPT, one, 1)}


def engines(folder: Path, shape: Shape) -> tuple[OrtEngine, dict[str, Calls]]:
    """Our engine, and the rows of the first table."""
    source = folder / "c.npz"
    save_checkpoint(random_checkpoint(shape), source)
    export_onnx(source, folder / "int8.onnx")
    export_onnx(source, folder / "float.onnx", quantized=False)
    engine = OrtEngine(folder / "int8.onnx")
    rows = {"ours, int8": ours(engine), "ours, float32": ours(OrtEngine(folder / "float.onnx"))}
    try:
        for kind in ("q8_0", "f16"):
            export_gguf(source, folder / f"{kind}.gguf", kind)
            calls = llama(folder / f"{kind}.gguf")
            if calls is not None:
                rows[f"llama.cpp {kind}"] = calls
    except InputError as error:
        print(f"without llama.cpp: {error}\n")
    return engine, rows


def calibration(engine: OrtEngine, rounds: int) -> tuple[CostModel, float, dict[str, list[float]]]:
    """Costs, ms that measuring took, and relative errors at lengths it did not see."""
    clock = WallClock()
    began = clock.now_ns()
    costs = calibrate(engine, clock, CLOCK)
    took_ms = (clock.now_ns() - began) / 1e6
    plain = replace(costs, factor=1.0)
    errors: dict[str, list[float]] = {"prefill": [], "token": [], "step": [], "lanes": []}

    def check(kind: str, predicted: float, call: Callable[[], object], held: int) -> None:
        taken = []
        for _ in range(rounds + 1):
            engine.rewind(held)
            if kind == "lanes":
                engine.rewind_lanes(np.full(len(engine.lane_lengths), held))
            taken.append(timed(call))
        errors[kind].append(predicted / float(np.median(taken[1:])) - 1)

    for size in HELD_OUT:
        prompt = TOKENS[:size]
        check("prefill", plain.prefill(size), partial(engine.feed, prompt), 0)
        check("token", plain.decode(1, size), partial(engine.feed, TOKENS[:1]), size)
    for k in (3, 5, 6):
        held = HELD_OUT[-2]
        check("step", plain.step(k, held), partial(engine.feed, TOKENS[:k]), held)
        engine.rewind(held)
        engine.fork(k)
        lanes = TOKENS[:k, None]
        check("lanes", plain.step_lanes(k, 1, held), partial(engine.feed_lanes, lanes), held)
    return costs, took_ms, errors


def answer(engine: OrtEngine) -> Calls:
    """An answer's words one by one, and with the words that the grammar forces in one call."""

    def plain() -> None:
        engine.rewind(PROMPT)
        for k in range(2 * FIELDS):
            engine.feed(TOKENS[k : k + 1])

    def forward() -> None:
        engine.rewind(PROMPT)
        for k in range(0, 2 * FIELDS, 2):
            engine.feed(TOKENS[k : k + 2])

    return {"plain": plain, "forward": forward}


def thoughts(engine: OrtEngine) -> Calls:
    """A thought in each of several lanes, the copies of the prompt included."""
    calls: Calls = {}
    for count in (1, 2, 4, 8):

        def think(count: int = count) -> None:
            engine.rewind(PROMPT)
            if count == 1:
                for k in range(THOUGHT):
                    engine.feed(TOKENS[k : k + 1])
                return
            engine.fork(count)
            for k in range(THOUGHT):
                engine.feed_lanes(np.full((count, 1), TOKENS[k]))

        calls[str(count)] = think
    return calls


def texts(share: float, count: int, length: int) -> list[list[int]]:
    """Each word goes on with what followed it last time with this probability."""
    rng = np.random.default_rng(7)
    made = []
    for _ in range(count):
        text = TOKENS[:PROMPT].tolist()
        copied = 0
        for _ in range(length):
            copied = (copied + 1) if copied and rng.random() < share else rng.integers(1, PROMPT)
            text.append(text[min(copied, len(text) - 1)])
        made.append(text)
    return made


def speculation(engine: OrtEngine, share: float, rounds: int) -> tuple[list[float], float, int]:
    """ms of 100 tokens with drafts of 0 to 4, with as many as the drafter says; what it said."""
    costs = replace(calibrate(engine, WallClock(), CLOCK), factor=1.0)
    drafter, length = Drafter(), 100
    spent: list[list[int]] = [[] for _ in range(6)]
    stream = texts(share, rounds, length)
    for text in stream:
        for column in range(6):
            engine.rewind(0)
            logits = engine.feed(np.array(text[:PROMPT]))

            def call(text=text, column=column, logits=logits) -> None:
                own = column == 5
                size = drafter.size(costs, PROMPT + length // 2) if own else column
                generate(
                    engine, text[:PROMPT], logits, lambda made, _: text[PROMPT + len(made)],
                    lambda made: len(made) == length, size, drafter if own else None,
                )  # fmt: skip

            spent[column].append(timed(call))
    half = len(stream) // 2  # the drafter has learned by then
    figures = [float(np.mean(s[half:])) / 1e6 for s in spent]
    return figures[:5], figures[5], drafter.size(costs, PROMPT + length // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calibrations", type=int, default=10)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in args.shapes:
            print(f"## {name}: {SHAPES[name].parameters / 1e6:.2f} M parameters\n")
            engine, rows = engines(Path(folder), SHAPES[name])
            report(engine, rows, args.rounds, args.calibrations)


def report(engine: OrtEngine, rows: dict[str, Calls], rounds: int, calibrations: int) -> None:
    found = medians(rows, rounds)
    base = found.get("llama.cpp q8_0")
    print(f"| engine | prefill of {PROMPT}, ms | ratio | one token, ms | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row, ms in found.items():
        ratio = {c: f"{ms[c] / base[c]:.2f}" if base else "" for c in ms}
        print(
            f"| {row} | {ms['prefill']:.2f} | {ratio['prefill']} "
            f"| {ms['token']:.3f} | {ratio['token']} |"
        )
    costs, took_ms, errors = calibration(engine, rounds)
    runs = [errors, *(calibration(engine, rounds)[2] for _ in range(calibrations - 1))]
    print(f"\nCalibration, {took_ms:.0f} ms: prefill {costs.a:.1f}·I² + {costs.b:.0f}·I + ", end="")
    print(f"{costs.c:.0f}, token {costs.n:.0f} + {costs.m:.0f}·held, ns\n")
    print(
        f"| held out, {calibrations} calibrations | mean error | signed | worst calibration's ",
        end="",
    )
    print("mean | calibrations up to 10 % |\n| --- | ---: | ---: | ---: | ---: |")
    for kind in errors:
        each = np.array([np.abs(run[kind]).mean() for run in runs])
        signed = np.mean([run[kind] for run in runs])
        good = int((each <= 0.1).sum())
        print(f"| {kind} | {each.mean():.1%} | {signed:+.1%} | {each.max():.1%} | {good} |")
    engine.rewind(0)
    engine.feed(TOKENS[:PROMPT])
    ms = medians({"": answer(engine)}, rounds)[""]
    print("\n| answer of 12 words | calls | ms |\n| --- | ---: | ---: |")
    print(f"| one by one | 12 | {ms['plain']:.2f} |\n| jump-forward | 6 | {ms['forward']:.2f} |")
    ms = medians({"": thoughts(engine)}, max(rounds // 4, 1), 3)[""]
    print(f"\n| thoughts of {THOUGHT} words side by side | ms | × one | × one after another |")
    print("| ---: | ---: | ---: | ---: |")
    for count, took in ms.items():
        times = took / ms["1"]
        print(f"| {count} | {took:.2f} | {times:.2f} | {times / int(count):.2f} |")
    print("\n| words that go on as last time | k=0 | 1 | 2 | 3 | 4, ms for 100 | chosen | ms |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for share in (0.0, 0.5, 0.8, 0.95):
        fixed, own, chosen = speculation(engine, share, max(rounds, 4))
        cells = " | ".join(f"{f:.1f}" for f in fixed)
        print(f"| {share:.0%} | {cells} | {chosen} | {own:.1f} |")
    print()


if __name__ == "__main__":
    main()
