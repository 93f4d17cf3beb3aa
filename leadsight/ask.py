"""``leadsight ask`` and ``calibrate``: one decision on a scene, and what decisions cost here."""

import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leadsight.scene_picture import check_name, draw_scene
from llm_edge import words
from llm_edge.calibrate import ThreadClock, calibrate
from llm_edge.cost_file import calibration_file, device_name, save_costs
from llm_edge.decision import Source
from llm_edge.fast import ANSWER, shipped
from llm_edge.make_reasoner import make_reasoner
from llm_edge.ort_engine import OrtEngine
from llm_edge.reasoner import Answer, Reasoner
from llm_edge.scene import MAX_TEXT, Mission, Platform, Scene, TargetState, scene_from_json
from pipeline.clock import WallClock
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

UNITS_NS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
MAX_DEADLINE_NS = 600_000_000_000
READY_S = 60.0
"""Larger models may take so long to load before they are asked."""
_WHO = {
    Source.POLICY: "the rule policy",
    Source.FAST: "the shipped decoder, its thought cut or none",
    Source.THOUGHT: "the shipped decoder, its thought complete",
    Source.GGUF: "the GGUF model",
    Source.REMOTE: "the endpoint",
    Source.CACHE: "the cache",
}


def example() -> Scene:
    """A target ahead, a car that crosses, and somebody on foot whom only others see."""
    return Scene(
        at_ns=1_000_000_000,
        seen_ns=940_000_000,
        platform=Platform(),
        mission=Mission.FOLLOW,
        speed_mps=6.0,
        cruise_mps=8.0,
        target=3,
        target_state=TargetState.TRACKED,
        open_right=False,
        ids=np.array([3, 8, 12], np.int32),
        classes=np.array([ObjectClass.CYCLIST, ObjectClass.CAR, ObjectClass.PERSON], np.uint8),
        told=np.array([False, False, True]),
        positions=np.array([[14.0, 0.5], [30.0, -22.0], [22.0, 4.0]]),
        velocities=np.array([[5.5, 0.0], [0.0, 7.0], [0.0, -1.4]]),
        sizes=np.array([[1.8, 0.7], [1.8, 4.5], [0.6, 0.6]]),
        sigmas=np.array([0.3, 0.5, 0.8]),
    )


def deadline_ns(text: str) -> int:
    """``33ms``, ``0.5s``, ``800us`` in ns.

    Raises:
        InputError: no time with its unit, none at all, or over ten minutes.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{0,9})?)\s*(ns|us|µs|ms|s)", text.strip())
    if match is None:
        raise InputError(f"--deadline {text[:40]}: give a time with its unit, such as 33ms or 1s")
    found = round(float(match[1]) * UNITS_NS[match[2]])
    if not 0 < found <= MAX_DEADLINE_NS:
        raise InputError(f"--deadline {text[:40]}: give more than nothing, up to 600s")
    return found


def run_ask(source: str, within: str, configs: dict[str, Any], picture: Path | None = None) -> None:
    """Print the decision on the scene of a file, or of standard input for ``-``, as JSON; on
    standard error how it came about.

    picture: where to draw both.

    Raises:
        InputError: no such file, no scene, no deadline, a model that cannot be read, or a picture
            that cannot be written.
    """
    within_ns = deadline_ns(within)
    if picture is not None:
        check_name(picture)
    scene = scene_from_json(_text(source))
    clock = WallClock()
    reasoner = make_reasoner(configs, clock)
    try:
        _await_models(reasoner)
        answer = reasoner.decide(scene, clock.now_ns() + within_ns)
    finally:
        reasoner.close()
    print(answer.decision.to_json())
    print(told(answer, within_ns), file=sys.stderr)
    if picture is not None:
        draw_scene(scene, answer.decision, picture)


def told(answer: Answer, within_ns: int) -> str:
    """How an answer came about, in one line."""
    took, of = answer.took_ns * 1e-6, within_ns * 1e-6
    parts = [f"{took:.2f} ms of {of:g}" + ("" if answer.met else ", too late")]
    if answer.thought_tokens:
        parts.append(f"a thought of {answer.thought_tokens} tokens")
    if answer.votes > 1:
        parts.append(f"{answer.votes} votes")
    if answer.ttft_ns:
        parts.append(f"first token after {answer.ttft_ns * 1e-6:.2f} ms")
    line = f"by {_WHO[answer.decision.source]}: {', '.join(parts)}"
    return f"{line}; {answer.why}" if answer.why else line


def _await_models(reasoner: Reasoner) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        tiers = reasoner.tiers().values()
        if all(state == "ready" or state.startswith("failed") for state in tiers):
            return
        time.sleep(0.05)


def _text(source: str) -> str:
    if source == "-":
        return sys.stdin.read(MAX_TEXT + 1)
    path = Path(source)
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_TEXT + 1)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no UTF-8 text"
        raise InputError(
            f"{source[:200]}: {reason}; `leadsight ask --example` writes a scene to begin with"
        ) from None


def run_calibrate(configs: dict[str, Any], console: Console) -> None:
    """Measure what the decoder costs on this machine, keep it and print it.

    Raises:
        InputError: no model, or one that cannot be read.
    """
    fast = configs["reasoner_fast"]
    model = Path(fast.model) if fast.model else shipped()
    engine = OrtEngine(model, max_lanes=max(fast.votes, 2))
    costs = calibrate(engine, WallClock(), ThreadClock())
    engine.close()
    file = calibration_file(model)
    kept = save_costs(costs, file)
    table = Table("", "on this machine", box=SIMPLE_HEAD, title=f"{model.name} on {device_name()}")
    prompt, thought = words.MAX_PROMPT, words.MAX_THOUGHT
    table.add_row("reading I tokens, ms", f"{costs.a * 1e-6:.2e} I² + {costs.b * 1e-6:.4f} I + "
                                          f"{costs.c * 1e-6:.3f}")  # fmt: skip
    table.add_row("a token after n, ms", f"{costs.n * 1e-6:.4f} + {costs.m * 1e-6:.2e} n")
    for name, curve in (("a call of k tokens", costs.steps), ("a token in k lanes", costs.lanes)):
        if curve:
            shown = ", ".join(f"{k}: {ratio:.2f}" for k, ratio in curve)
            table.add_row(f"{name}, to one token", shown)
    table.add_row("now slower than undisturbed by", f"{costs.factor:.2f}")
    for name, calls in (("no thought", 0), ("the longest thought", thought)):
        mean, p99 = costs.predict(prompt, calls, ANSWER)
        label = f"fullest scene, {name}, mean / p99 ms"
        table.add_row(label, f"{mean * 1e-6:.2f} / {p99 * 1e-6:.2f}")
    console.print(table)
    console.print(
        f"kept in {file}" if kept else f"{file.parent} cannot be written: measured anew each time",
        soft_wrap=True,
    )
