"""How soon a model stops when it is told to, and is there again when it was killed.

    python -m benchmarks.reasoner_faults [--repeats 40] [--kills 5] [--model MODEL.gguf]

engine: from ``cancel`` on one thread to the return of ``feed`` on another. process: from
``Worker.cancel`` here to the answer's end here, so with a message each way, and the process is
under ``SCHED_IDLE``. Aims: 20 ms in decode, 40 ms in prefill. kill: ``kill -9`` of the process to
its next answer, aim 2 s; asked meanwhile: how long a question takes that cannot be answered.
Random weights in SmolLM-135M's shape, Q8_0, where no model is given (extra llm).
"""

import argparse
import contextlib
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.endless import Endless
from benchmarks.random_gguf import SHAPES, write
from llm_edge.isolation import IsolationConfig
from llm_edge.scene import Scene
from llm_edge.worker import Work, Worker
from pipeline.clock import WallClock

SCENE = Scene(0, 0)
LONG_NS = 600 * 10**9
AIMS_MS = {"decode": 20, "prefill": 40}
CLOCK = WallClock()


def in_engine(model: str, kind: str, repeats: int) -> list[float]:
    """ms from a cancel to the end, each at another moment."""
    endless = Endless(CLOCK, model, kind)
    found = []
    for k in range(repeats):
        timer = threading.Timer(0.02 + 0.0137 * (k % 17), endless.cancel)
        timer.start()
        figures = endless.answer(SCENE, CLOCK.now_ns() + LONG_NS).figures
        found.append(figures["cancel_ms"])
    endless.close()
    return found


def started(model: str, kind: str) -> Worker:
    work = Work("benchmarks.endless:Endless", {"model": model, "kind": kind})
    worker = Worker(work, CLOCK, IsolationConfig(scheduling="idle"))
    if not worker.ready.wait(60):
        raise SystemExit(worker.why)
    return worker


def in_process(model: str, kind: str, repeats: int) -> list[float]:
    worker = started(model, kind)
    found = []
    for k in range(repeats):
        answer = worker.submit(SCENE, CLOCK.now_ns() + LONG_NS)
        time.sleep(0.02 + 0.0137 * (k % 17))
        begun_ns = CLOCK.now_ns()
        worker.cancel()
        answer.result(30)
        found.append((CLOCK.now_ns() - begun_ns) * 1e-6)
    worker.close()
    return found


def killed(model: str, kills: int) -> tuple[list[float], list[float]]:
    """Seconds from each kill to the next answer, and ms that each question took meanwhile."""
    back, asked = [], []
    for _ in range(kills):
        worker = started(model, "decode")
        begun_ns = CLOCK.now_ns()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        while True:
            at_ns = CLOCK.now_ns()
            reply = worker.ask(SCENE, at_ns + 20_000_000)  # it never has one; it tells how it went
            if reply.figures or reply.why == "no answer by the deadline":
                break
            asked.append((CLOCK.now_ns() - at_ns) * 1e-6)
            time.sleep(0.005)
        back.append((at_ns - begun_ns) * 1e-9)
        worker.close()
    return back, asked


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--model", help="a GGUF file instead of random weights")
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    options = parser.parse_args()
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        print("llama-cpp-python is not installed (the llm extra): nothing to measure")
        return
    with contextlib.ExitStack() as stack:
        model = options.model
        if not model:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            model = str(Path(folder) / "random.gguf")
            write(Path(model), SHAPES[options.shape])
        print("| cancel | in | p50 ms | p99 | max | aim |\n| --- | --- |" + " ---: |" * 4)
        for kind, aim in AIMS_MS.items():
            for name, measured in (("engine", in_engine), ("process", in_process)):
                ms = measured(model, kind, options.repeats)
                p50, p99 = np.percentile(ms, (50, 99))
                print(f"| {kind} | {name} | {p50:.1f} | {p99:.1f} | {max(ms):.1f} | {aim} |")
        back, asked = killed(model, options.kills)
        print(
            f"\nkill -9: the next answer can be had after {np.median(back):.2f} s, at most "
            f"{max(back):.2f} s (aim 2 s); asked meanwhile: {np.median(asked):.2f} ms, at most "
            f"{max(asked):.2f} ms"
        )


if __name__ == "__main__":
    main()
