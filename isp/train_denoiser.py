"""Train the task-aware ISP's denoiser and write it as ONNX, with a card beside it.

    python -m isp.train_denoiser --pictures FOLDER --model task-aware.onnx

``isp.train`` ends with the same; this is for a model that is there already. Neither labels nor
detectors are needed: the detector's view of a noisy frame shall come as near as it can to what the
same frame gives without noise, by parameters drawn around the classical defaults.

Needs torch (the ``train`` extra), one core. A run that was stopped goes on from
``<model>-denoiser.onnx.checkpoint`` when it is started again with the same arguments.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from isp.networks import ParameterModel, denoiser_of
from isp.operators import FIELD, SEEN
from isp.train_files import checkpoint_of, export, resumable, write_card
from isp.train_network import HEADS, DenoiserNet, develop, settings
from isp.train_views import (
    Shot,
    drawn,
    random_shot,
    random_view,
    read_picture,
    read_pictures,
    split,
    stacked,
)
from pipeline.errors import InputError

BATCH = 2
RATE = 6e-3
WARM_UP = 0.1
STEPS = 3000
SPREAD = 0.3
"""Standard deviation of what parameters are drawn by, in the network's own numbers."""
HELD_PICTURES, HELD_VIEWS = 64, 4
"""Of those kept apart, and of each of them, for the card's figures."""


class Batch(NamedTuple):
    """Shots with parameters for them: what ``develop`` takes, shaped as it says, and ``wanted``,
    (n, 3, h, w) its answer without noise and shrink."""

    planes: torch.Tensor
    noise: torch.Tensor
    given: torch.Tensor
    field: torch.Tensor
    mix: torch.Tensor
    wanted: torch.Tensor

    def loss(self, denoiser: nn.Module | None) -> torch.Tensor:
        """Mean distance of the views from those without noise, parts of white."""
        return (develop(*self[:5], denoiser) - self.wanted).abs().mean()


def batch_of(shots: list[Shot], rng: np.random.Generator) -> Batch:
    """Shots with parameters drawn around the classical defaults."""
    planes, light, noise, mix, features = (
        stacked([getattr(s, name) for s in shots])
        for name in ("planes", "light", "noise", "mix", "features")
    )
    raw = torch.from_numpy(rng.normal(0, SPREAD, (len(shots), 1, HEADS))).float()
    given = settings(raw, features.mean((2, 3))[:, :3])[:, 0]
    field = torch.zeros(len(shots), 2, FIELD, FIELD)
    plain = given.clone()
    plain[:, -3:] = 0  # no shrink
    with torch.no_grad():
        wanted = develop(light, noise, plain, field, mix)
    return Batch(planes, noise, given, field, mix, wanted)


def train_denoiser(args: argparse.Namespace, used: list[Path], apart: list[Path]) -> None:
    """Train on ``used`` and write the denoiser of ``args.out`` and its card, with figures on
    ``apart``.

    args: out, seed, words, command, license and denoiser_steps are taken.
    """
    torch.manual_seed(args.seed)
    out, steps, denoiser = denoiser_of(args.out), args.denoiser_steps, DenoiserNet()
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=RATE)
    warm_up = WARM_UP if steps > 10 else 0.3  # which never makes a phase of no length
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=warm_up
    )
    parts = {"net": denoiser, "optimizer": optimizer, "schedule": schedule}
    for step in resumable(out, args.words, steps, "denoiser", parts):
        rng = np.random.default_rng([args.seed, 6, step])
        pictures = [read_picture(used[k]) for k in rng.integers(len(used), size=BATCH)]
        shots = [random_shot(random_view(p, rng), rng, False) for p in pictures]
        loss = batch_of(shots, rng).loss(denoiser)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1)
        optimizer.step()
        schedule.step()
    denoiser.eval().requires_grad_(False)
    rows = [["kept apart", "the shrink alone", "with the denoiser"]]
    if apart:
        rng = np.random.default_rng([0, 7])
        losses = []
        for path in drawn(apart, HELD_PICTURES, rng):
            views = [random_view(read_picture(path), rng) for _ in range(HELD_VIEWS)]
            batch = batch_of([random_shot(view, rng, False) for view in views], rng)
            losses.append([255 * batch.loss(d).item() for d in (None, denoiser)])
        rows.append(["codes of 255", *(f"{x:.3f}" for x in np.mean(losses, axis=0))])
    seen = {"seen": torch.zeros(1, SEEN, 64, 64)}
    export(denoiser, seen, ["lacking", "factor"], out, ("seen", "lacking", "factor"))
    write_card(
        out,
        f"Denoiser of leadsight's task-aware ISP, seed {args.seed}, {steps} steps",
        args.command,
        f"{len(used) + len(apart)} pictures; {len(apart)} of them kept apart for these figures, "
        "the mean distance of the detector's view from the one without noise:",
        rows,
        args.license,
    )
    checkpoint_of(out).unlink(missing_ok=True)


def main(words: list[str] | None = None) -> None:
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", nargs="+", type=Path, required=True, help="folders")
    parser.add_argument(
        "--model", dest="out", type=Path, default=Path("task-aware.onnx"),
        help="of `isp.train`; the denoiser is written beside it",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", dest="denoiser_steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--license", default="", help="a sentence for the card")
    args = parser.parse_args(words)
    args.words, args.command = words, ["isp.train_denoiser", *words]
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    try:
        if args.denoiser_steps < 1:
            raise InputError(f"--steps: {args.denoiser_steps} is out of range, give 1 or more")
        ParameterModel(args.out)
        train_denoiser(args, *split(read_pictures(args.pictures)))
    except InputError as error:
        sys.exit(f"leadsight: {error}")


if __name__ == "__main__":
    main()
