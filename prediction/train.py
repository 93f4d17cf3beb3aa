"""Train a motion model and write it as ONNX, with a card beside it that says how it was made.

    python -m prediction.train residual --data TRACKING --sources uav123 uav20l outputs
        --out residual.onnx
    python -m prediction.train pvt-joint --views views.npz --out pvt-joint.onnx

Needs torch (the ``train`` extra), one thread, minutes. A run that was stopped goes on from
``<out>.checkpoint`` when it is started again with the same arguments.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto
from torch import nn

from pipeline.errors import InputError
from prediction.predictor import VISUAL
from prediction.train_data import read_tracks
from prediction.train_pvt import PvtNet, pvt_figures, pvt_graph, pvt_loss, pvt_rows
from prediction.train_residual import (
    ResidualNet,
    batches,
    residual_figures,
    residual_graph,
    residual_loss,
    residual_rows,
)
from prediction.train_visual import (
    JointNet,
    Views,
    VisualNet,
    visual_figures,
    visual_graph,
    visual_loss,
    visual_rows,
)
from prediction.training import card, fit


def train(args: argparse.Namespace) -> dict[str, float]:
    """Train, write ``args.out`` and its card, and return the validation figures.

    Raises:
        InputError: data that is missing or unfit.
    """
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figures, model, data = _visual(args) if args.model in VISUAL else _on_tracks(args)
    args.out.write_bytes(model.SerializeToString())
    args.out.with_suffix(".md").write_text(card(args, data, figures), encoding="utf-8")
    Path(f"{args.out}.checkpoint").unlink(missing_ok=True)
    return figures


def _on_tracks(args: argparse.Namespace) -> tuple[dict[str, float], ModelProto, str]:
    tracks = read_tracks(args.data, args.sources)
    parts = [[t for t in tracks if t.held_out is held] for held in (False, True)]
    if not all(parts):
        raise InputError("--sources: too few recordings to keep some apart; give more")
    rngs = [np.random.default_rng([args.seed, 1]), np.random.default_rng([0, 2])]
    counts = {t.source: sum(u.source == t.source for u in tracks) for t in tracks}
    data = f"Tracks: {', '.join(f'{n} of {s}' for s, n in counts.items())}; {len(parts[1])}"
    net: nn.Module
    if args.model == "residual":
        amounts = (args.batches, max(args.batches // 4, 1))
        rows, held = (
            residual_rows(batches(part, rng, count, 2), count)
            for part, rng, count in zip(parts, rngs, amounts, strict=True)
        )
        net = ResidualNet()
        fit(net, rows, residual_loss, args, rate=2e-3, size=2048)
        return residual_figures(net, held), residual_graph(net), data
    rows, held = (
        pvt_rows(part, rng, count, args.heads)
        for part, rng, count in zip(parts, rngs, (600 * args.batches, 8000), strict=True)
    )
    net = PvtNet(args.heads)
    fit(net, rows, pvt_loss, args, rate=1e-2, size=128)
    return pvt_figures(net, held), pvt_graph(net), data


def _visual(args: argparse.Namespace) -> tuple[dict[str, float], ModelProto, str]:
    if args.views is None:
        raise InputError(f"{args.model}: give --views, made by `python -m evaluation.views`")
    views, rows, held = visual_rows(args.views, args.heads)
    features = views.searches.shape[1]
    kind = JointNet if args.model == "pvt-joint" else VisualNet
    net = kind(args.heads, features)
    fit(net, rows, partial(_visual_loss, views), args, rate=3e-3, size=64)
    data = f"Views: {len(rows[0]) + len(held[0])} of {', '.join(views.recordings)}; {views.apart}"
    return visual_figures(net, views, held), visual_graph(net), data


def _visual_loss(views: Views, net: nn.Module, rows: list[torch.Tensor]) -> torch.Tensor:
    return visual_loss(net, views, rows)


def main(words: list[str] | None = None) -> None:
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["residual", "pvt-motion", *VISUAL])
    parser.add_argument("--data", type=Path, default=Path("."), help="folder with gt/ and raw/")
    parser.add_argument(
        "--sources",
        nargs="+",
        default=["uav123", "uav20l"],
        help="uav123, uav20l, lasot, antiuav410, outputs, or files .npz of (n, 4) boxes",
    )
    parser.add_argument(
        "--views", nargs="+", type=Path, help="pvt-visual, pvt-joint: files to train on"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batches", type=int, default=250, help="amount of simulated data")
    parser.add_argument("--heads", type=int, default=12, help="pvt-*: horizons in frames")
    parser.add_argument("--licence", default="", help="a sentence for the card")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(words)
    args.words = words
    try:
        figures = train(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for name, value in figures.items():
        print(f"{name:44} {value:.4f}")


if __name__ == "__main__":
    main()
