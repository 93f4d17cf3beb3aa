"""The files of a training: checkpoint, ONNX, card."""

import shlex
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from rich.progress import track as progress_bar
from torch import nn

CHECKPOINT_EVERY = 100


def checkpoint_of(out: Path) -> Path:
    """Where a training that writes ``out`` keeps how far it is."""
    return Path(f"{out}.checkpoint")


def resumable(
    out: Path, words: list[str], steps: int, label: str, parts: Mapping[str, Any]
) -> Iterator[int]:
    """The steps to do: behind those of the checkpoint, where that is of a run by the same words.

    parts: what has a state: the network, the optimizer, the schedule.
    """
    checkpoint, run = checkpoint_of(out), shlex.join(words)
    done = 0
    if checkpoint.is_file():
        stored = torch.load(checkpoint, weights_only=True)
        if stored["run"] == run:
            for name, part in parts.items():
                part.load_state_dict(stored[name])
            done = stored["step"]
    for step in progress_bar(range(done, steps), label, total=steps - done):
        yield step
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            written = Path(f"{checkpoint}.part")
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({"run": run, "step": step + 1, **states}, written)
            written.replace(checkpoint)


def export(
    net: nn.Module,
    given: Mapping[str, torch.Tensor],
    outputs: list[str],
    path: Path,
    sides: tuple[str, ...] = (),
) -> None:
    """Write a network as ONNX. given: its inputs by name. sides: which inputs and outputs may be of
    any height and width."""
    free = {name: {2: "height", 3: "width"} for name in sides}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own future
        torch.onnx.export(
            net.eval(),
            tuple(given.values()),
            str(path),
            input_names=list(given),
            output_names=outputs,
            dynamic_axes=free or None,
            opset_version=17,
            dynamo=False,
        )
    onnx.checker.check_model(str(path))


def write_card(
    out: Path, what: str, command: list[str], data: str, rows: list[list[str]], license: str
) -> None:
    """What a model is and how it was made, in Markdown beside it; files by their names alone.

    what: the subject of "…, torch 2. Made by". command: behind ``python -m``. data: the sentence
    before the table. rows: of the table, the first its header. license: a sentence, or "".
    """
    words = [Path(word).name if "/" in word else word for word in command]
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    rule = f"| --- |{' ---: |' * (len(rows[0]) - 1)}"
    lines = [
        f"# {out.name}",
        "",
        f"{what}, torch {torch.__version__}. Made by",
        "",
        "```",
        f"python -m {shlex.join(words)}",
        "```",
        "",
        data,
        "",
        header,
        rule,
        *body,
        "",
        *([license, ""] if license else []),
    ]
    out.with_suffix(".md").write_text("\n".join(lines), "utf-8")
