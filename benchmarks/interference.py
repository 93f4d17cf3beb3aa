"""What a tracker at 30 Hz notices of a language model beside it.

    python -m benchmarks.interference [--rounds 5] [--seconds 10] [--model MODEL.gguf]

Tracker: OpenCV's KCF on 640×480 frames of the embedded world, one thread, asleep until each tick.
Response: from the tick to the end of the update; missed: over a period. All settings take turns in
each round; p50, p99 and the ratio to alone are medians over rounds, p99 of all frames stands apart.

naive: llama.cpp with two spinning threads at the tracker's priority. The others are ours: a process
of its own, one thread, chunks of 32, ``SCHED_IDLE``; paced: it stands still while the tracker is
expected to work; FIFO: the tracker under ``SCHED_FIFO`` (where permitted). The model has random
weights in SmolLM-135M's shape, Q8_0, where none is given. --fast names a factory for
``llm_edge.worker`` that answers a scene after each frame, in the normal class.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

from benchmarks.random_gguf import SHAPES, write
from bridges.world import AerialWorld, WorldConfig
from isp.classical import ClassicalIsp
from llm_edge.isolation import IsolationConfig, first_in_line, normal
from llm_edge.rhythm import Pacer, Rhythm
from llm_edge.scene import Scene
from llm_edge.worker import Work, Worker
from pipeline.clock import WallClock

RATE_HZ = 30.0
PERIOD_NS = round(1e9 / RATE_HZ)
FRAMES = 90
SETTLE_S = 0.4
WARM_UP = 12
CLOCK = WallClock()
After = Callable[[int, int], None]


class Kcf:
    """The tracker on frames that go forth and back; begun again where it lost the target."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        world = AerialWorld(WorldConfig(width=640, height=480, wander_px=60.0))
        isp = ClassicalIsp()
        shots = list(world.frames(FRAMES))
        once = [np.ascontiguousarray(isp.process(s.frame).bgr()) for s in shots]
        self._frames = once + once[-2:0:-1]
        self._box = tuple(int(v) for v in shots[0].boxes[world.target_id])
        self.restart()

    def restart(self) -> None:
        self._tracker = cv2.TrackerKCF_create()
        self._tracker.init(self._frames[0], self._box)
        self._at = 0

    def update(self) -> None:
        self._at = (self._at + 1) % len(self._frames)
        if not self._tracker.update(self._frames[self._at])[0]:
            self.restart()


def responses(tracker: Kcf, seconds: float, after: After) -> np.ndarray:
    """(N,) ms from each tick to the end of its update. after: told when the work began and ended,
    in ns."""
    tracker.restart()
    found = []
    tick_ns = CLOCK.now_ns() + PERIOD_NS
    for _ in range(WARM_UP + round(seconds * RATE_HZ)):
        time.sleep(max(0, tick_ns - CLOCK.now_ns()) * 1e-9)
        begun_ns = CLOCK.now_ns()
        tracker.update()
        ended_ns = CLOCK.now_ns()
        found.append((ended_ns - tick_ns) * 1e-6)
        after(begun_ns, ended_ns)
        tick_ns = max(tick_ns + PERIOD_NS, ended_ns)
    return np.array(found[WARM_UP:])


@dataclass
class Setting:
    """name: of the row. worker: what is asked to go on without end. paced, fifo: see above."""

    name: str
    worker: Worker | None = None
    naive: subprocess.Popen[bytes] | None = None
    fast: Worker | None = None
    paced: bool = False
    fifo: bool = False


@contextlib.contextmanager
def beside(setting: Setting, seconds: float, rates: list[float]) -> Iterator[After]:
    """The load runs; what the tracker's loop calls after each frame."""
    rhythm = Rhythm()
    pacer = None
    answers = []

    def after(begun_ns: int, ended_ns: int) -> None:
        rhythm.told(begun_ns, ended_ns)
        if setting.fast is not None:
            scene = Scene(ended_ns, begun_ns)
            answers.append(setting.fast.submit(scene, ended_ns + PERIOD_NS))

    asked = None
    if setting.worker is not None:
        until_ns = CLOCK.now_ns() + round((seconds + 5) * 1e9)
        asked = setting.worker.submit(Scene(0, 0), until_ns)
        pacer = Pacer(setting.worker, rhythm, CLOCK) if setting.paced else None
    if setting.naive is not None:
        setting.naive.send_signal(signal.SIGCONT)
    if setting.fifo and (why := first_in_line()):
        raise PermissionError(why)
    time.sleep(SETTLE_S)
    try:
        yield after
    finally:
        if setting.fifo:
            normal()
        if pacer is not None:
            pacer.close()
        if setting.naive is not None:
            setting.naive.send_signal(signal.SIGSTOP)
        if asked is not None and setting.worker is not None:
            setting.worker.cancel()
            rates.append(asked.result(10).figures.get("tokens_s", np.nan))
        if setting.fast is not None:
            whole = sum(a.done() and a.result().decision is not None for a in answers)
            rates.append(whole / len(answers) * RATE_HZ)


def settings(options: argparse.Namespace, model: str, stack: contextlib.ExitStack) -> list[Setting]:
    """Those that can run here."""
    made = [Setting("alone")]
    if model:
        code = [sys.executable, "-m", "benchmarks.endless", model]
        spinning = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
        naive = subprocess.Popen(code, stdout=subprocess.PIPE, env=spinning)
        stack.callback(naive.wait)
        stack.callback(naive.kill)
        assert naive.stdout is not None and naive.stdout.readline()
        naive.send_signal(signal.SIGSTOP)
        made.append(Setting("naive, two threads", naive=naive))
        for kind in ("decode", "prefill"):
            values = {"model": model, "kind": kind, "chunk": options.chunk}
            worker = started("benchmarks.endless:Endless", values, "idle", stack)
            made.append(Setting(f"ours, {kind}", worker))
            made.append(Setting(f"ours, {kind}, paced", worker, paced=True))
            if kind == "decode":
                fifo = Setting("tracker FIFO, ours, decode", worker, fifo=True)
    if options.fast:
        values = json.loads(options.fast_options)
        made.append(
            Setting("fast tier, 30 a second", fast=started(options.fast, values, "normal", stack))
        )
    if model:
        why = first_in_line()
        if why:
            print(f"no row with the tracker under FIFO: {why}")
        else:
            normal()
            made += [Setting("tracker FIFO, alone", fifo=True), fifo]
    return made


def started(
    factory: str, values: dict[str, Any], scheduling: str, stack: contextlib.ExitStack
) -> Worker:
    worker = Worker(Work(factory, values), CLOCK, IsolationConfig(scheduling=scheduling))
    stack.callback(worker.close)
    while not worker.ready.wait(0.1):
        if worker.why.startswith("failed"):
            raise SystemExit(worker.why)
    return worker


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--model", help="a GGUF file instead of random weights")
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--fast", default="", help="module:factory of a fast answerer")
    parser.add_argument("--fast-options", default="{}", help="its options, as JSON")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        model = options.model or ""
        try:
            import llama_cpp  # noqa: F401
        except ImportError:
            print("llama-cpp-python is not installed (the llm extra): alone only")
            model = ""
        else:
            if not model:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                model = str(Path(folder) / "random.gguf")
                write(Path(model), SHAPES[options.shape])
        rows = settings(options, model, stack)
        tracker = Kcf()
        found: list[list[np.ndarray]] = [[] for _ in rows]
        rates: list[list[float]] = [[] for _ in rows]
        for k in range(options.rounds):
            for n in np.roll(np.arange(len(rows)), -k):
                with beside(rows[n], options.seconds, rates[n]) as after:
                    found[n].append(responses(tracker, options.seconds, after))
        table(rows, found, rates, options)


def table(
    rows: list[Setting],
    found: list[list[np.ndarray]],
    rates: list[list[float]],
    options: argparse.Namespace,
) -> None:
    print(
        f"{options.rounds} rounds of {options.seconds:g} s; machine's load {os.getloadavg()[0]:.1f}"
        "\n\n| beside the tracker | p50 ms | p99 ms | p99 of all | max | missed | p99 / alone | "
        "tokens/s (fast: decisions/s) |\n| --- |" + " ---: |" * 7
    )
    alone = np.array([np.percentile(r, 99) for r in found[0]])
    for row, rounds, rate in zip(rows, found, rates, strict=True):
        p50 = np.median([np.percentile(r, 50) for r in rounds])
        each = np.array([np.percentile(r, 99) for r in rounds])
        pooled = np.concatenate(rounds)
        missed = int((pooled > PERIOD_NS * 1e-6).sum())
        did = f"{np.mean(rate):.0f}" if rate else ""
        print(
            f"| {row.name} | {p50:.2f} | {np.median(each):.2f} | {np.percentile(pooled, 99):.2f} | "
            f"{pooled.max():.1f} | {missed} | {np.median(each / alone):.2f} | {did} |"
        )


if __name__ == "__main__":
    main()
