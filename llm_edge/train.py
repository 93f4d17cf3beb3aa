"""Train the shipped decoder on scenes that it is drawn, taught by what the look-ahead sees.

    python -m llm_edge.train --out reasoner.npz

Needs torch (the ``train`` extra); two cores for under an hour, or a GPU for minutes with
``--device cuda``. A run that was stopped goes on from ``<out>.checkpoint`` when it is started again
with the same arguments. ``python -m llm_edge.export_onnx`` makes the model that the reasoner loads.
"""

import argparse
import math
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch.nn import functional

from llm_edge import scenarios
from llm_edge.checkpoint import Shape
from llm_edge.train_data import Sequences, sequences
from llm_edge.train_network import Decoder, save
from llm_edge.words import CONTEXT, PER_OBJECT, SLOT_AT, WORDS
from pipeline.errors import InputError

PART = 4096
"""Scenes drawn at once."""
BATCH = 64
WARM_UP = 100
TEACHER = 3.0
"""Weight of what is read off each object beside what is said."""
CHECKPOINT_EVERY = 500


def batches(seed: int, first: int, steps: int) -> Iterator[list[torch.Tensor]]:
    """The arrays of ``Sequences``, of similar length together; drawn ahead in a thread."""
    per_part = PART // BATCH

    def drawn(part: int) -> Sequences:
        return sequences(seed, part, PART, scenarios.KINDS)

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(drawn, first // per_part)
        for part in range(first // per_part, -(-steps // per_part)):
            made, ahead = ahead.result(), pool.submit(drawn, part + 1)
            length = (made.tokens > 0).sum(axis=1)
            by_length = np.argsort(length, kind="stable").reshape(per_part, BATCH)
            by_length = by_length[np.random.default_rng([seed, part, 1]).permutation(per_part)]
            for k, rows in enumerate(by_length):
                if first <= part * per_part + k < steps:
                    tokens = made.tokens[rows, : length[rows].max()]
                    parts = (made.start, made.blocks, made.times, made.meets)
                    yield [torch.from_numpy(a) for a in (tokens, *(p[rows] for p in parts))]


def loss_of(
    net: Decoder, tokens: torch.Tensor, start: torch.Tensor, blocks: torch.Tensor,
    times: torch.Tensor, meets: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Cross-entropy of everything after the scene, and the teacher's of each object."""
    logits, taught = net(tokens[:, :-1])
    wanted = tokens[:, 1:]
    places = torch.arange(wanted.shape[1], device=tokens.device)
    learned = (places >= start[:, None] - 1) & (wanted > 0)
    said = functional.cross_entropy(logits[learned].float(), wanted[learned])
    row, slot = torch.nonzero(meets >= 0, as_tuple=True)
    if not len(row):  # scenes with nobody in them
        return said, torch.zeros_like(said)
    read = net.teacher(taught[row, SLOT_AT + PER_OBJECT * slot]).float()
    maneuvers = blocks.shape[2]
    by_object = functional.binary_cross_entropy_with_logits(read[:, :maneuvers], blocks[row, slot])
    time = (read[:, maneuvers : 2 * maneuvers] - times[row, slot]).square().mean()
    when = functional.cross_entropy(read[:, 2 * maneuvers :], meets[row, slot])
    return said, by_object + time + 0.2 * when


def rate_at(step: int, steps: int, rate: float) -> float:
    """Linear warm-up, then a cosine to a fiftieth."""
    if step < WARM_UP:
        return rate * (step + 1) / WARM_UP
    share = (step - WARM_UP) / max(steps - WARM_UP, 1)
    return rate * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * share)))


def optimizers(net: Decoder, rate: float) -> dict[str, torch.optim.Optimizer]:
    """Muon (Jordan, 2024) for the layers' matrices, which saves half of the steps; AdamW for all
    else. Steps of the matrices are twice as large, by what AdamW's would be (Moonlight, 2025)."""
    matrices = [p for n, p in net.named_parameters() if n.startswith("layers") and p.ndim == 2]
    held = set(map(id, matrices))
    rest = [p for p in net.parameters() if id(p) not in held]
    return {
        "muon": torch.optim.Muon(
            matrices, lr=2 * rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        ),
        "adamw": torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.97), weight_decay=0.0),
    }


def fit(net: Decoder, args: argparse.Namespace) -> None:
    """Goes on from the checkpoint of the same run."""
    checkpoint = Path(f"{args.out}.checkpoint")
    made = optimizers(net, args.rate)
    groups = [(g, g["lr"]) for optimizer in made.values() for g in optimizer.param_groups]
    run = shlex.join(args.words)
    done = 0
    if checkpoint.is_file():
        stored = torch.load(checkpoint, weights_only=True, map_location=args.device)
        if stored["run"] == run:
            net.load_state_dict(stored["net"])
            for name, optimizer in made.items():
                optimizer.load_state_dict(stored[name])
            done = stored["step"]
    smooth: torch.Tensor | None = None
    with Progress() as progress:
        task = progress.add_task("training", total=args.steps, completed=done)
        for step, batch in enumerate(batches(args.seed, done, args.steps), done):
            for group, rate in groups:
                group["lr"] = rate_at(step, args.steps, rate)
            with torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=args.bf16):
                said, taught = loss_of(net, *(a.to(args.device) for a in batch))
                loss = said + TEACHER * taught
            net.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            for optimizer in made.values():
                optimizer.step()
            now = torch.stack([said, taught]).detach()
            smooth = now if smooth is None else smooth + 0.02 * (now - smooth)
            shown = "loss {:.4f}, of objects {:.4f}".format(*smooth.tolist())
            progress.update(task, advance=1, description=f"training, {shown}")
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == args.steps:
                parts = Path(f"{checkpoint}.part")
                stored = {
                    "run": run, "net": net.state_dict(), "step": step + 1,
                    **{name: optimizer.state_dict() for name, optimizer in made.items()},
                }  # fmt: skip
                torch.save(stored, parts)
                parts.replace(checkpoint)
                print(f"step {step + 1}: {shown}", file=sys.stderr, flush=True)


def main(words: list[str] | None = None) -> None:
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("reasoner.npz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5000, help=f"of {BATCH} scenes each")
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--compile", action="store_true",
        help="let torch compile the network first: a minute, then twice as fast; needs g++",
    )  # fmt: skip
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16: for a GPU")
    args = parser.parse_args(words)
    args.words = words
    try:
        shape = Shape(
            len(WORDS), args.width, args.layers, args.heads, args.heads, args.hidden, CONTEXT
        )
    except InputError as error:
        sys.exit(f"leadsight: {error}")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    net = Decoder(shape).to(args.device)
    if args.compile:
        net.compile(dynamic=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    fit(net, args)
    save(net.cpu(), args.out)


if __name__ == "__main__":
    main()
