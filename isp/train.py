"""Train the task-aware ISP's parameter network and write it as ONNX, with a card beside it.

    python -m isp.train --pictures FOLDER --detectors yolox_nano_416.onnx:yolox
        fastestdet_352.onnx:fastestdet --tracker nanotrackv3/backbone.onnx --out task-aware.onnx

No labels are needed. Frozen detectors look at the clean pictures, and the ISP learns to make them
see the same in noisy RAW of them; a frozen tracker's features likewise; people get the clean
picture's own colors.

Needs torch (the ``train`` extra), one core. A run that was stopped goes on from
``<out>.checkpoint`` when it is started again with the same arguments.
"""

import argparse
import shlex
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from rich.progress import track as progress_bar
from torch import nn
from torch.nn import functional

from isp.task_aware import CONSUMERS
from isp.train_losses import LOSSES
from isp.train_network import ParameterNet, develop, tone
from isp.train_onnx import OnnxModule
from isp.train_published import REGIONS, PublishedNet, gumbel_like
from isp.train_views import (
    GRID,
    Picture,
    Shot,
    random_shot,
    random_view,
    read_picture,
    read_pictures,
    stacked,
)
from perception.layouts import LAYOUTS
from pipeline.errors import InputError

BATCH = 4
RATE = 3e-3
CHECKPOINT_EVERY = 100
KEPT_APART = 8
"""Of so many pictures one is kept apart for the card's figures; of so many folders one, if there
are more, so that frames of one video do not fall on both sides."""


class Watcher:
    """A frozen detector that looks at what an ISP makes."""

    def __init__(self, path: Path, layout: str) -> None:
        """Raises:
        InputError: a layout without a loss, or a file that the reader does not take."""
        if layout not in LOSSES:
            raise InputError(f"--detectors {layout!r:.40}: give one of {', '.join(LOSSES)}")
        self.name = path.stem
        self.module = OnnxModule.load(path)
        self.loss_of = LOSSES[layout]
        self._layout = LAYOUTS[layout]

    def __call__(self, rgb: torch.Tensor) -> list[torch.Tensor]:
        """rgb: (n, 3, h, w) in [0, 1]. The detector's outputs."""
        layout = self._layout
        width, height = self.module.input_size
        x = 255 * rgb
        sides = [height / x.shape[2], width / x.shape[3]]
        if layout.resize != "stretch":
            sides = [min(sides)] * 2
        size = [round(n * s) for n, s in zip(x.shape[2:], sides, strict=True)]
        if size != list(x.shape[2:]):
            x = functional.interpolate(x, size, mode="bilinear", antialias=True)
        down, right = height - size[0], width - size[1]
        top, left = (down // 2, right // 2) if layout.resize == "center" else (0, 0)
        x = functional.pad(x, [left, right - left, top, down - top], value=layout.pad)
        if layout.channels == "bgr":
            x = x.flip(1)
        mean, std = (x.new_tensor(v)[:, None, None] for v in (layout.mean, layout.std))
        return list(self.module((x - mean) / std))


@dataclass(frozen=True)
class View:
    """A clean picture, (480, 640, 3), and what each detector sees in it."""

    picture: Picture
    wanted: list[list[torch.Tensor]]


@dataclass(frozen=True)
class Judge:
    """Who the ISP is trained for."""

    detectors: list[Watcher]
    tracker: OnnxModule | None

    def views(self, paths: list[Path], count: int, rng: np.random.Generator) -> list[View]:
        """``count`` random views of every picture with the detectors' answers."""
        views = []
        for path in progress_bar(paths, "views"):
            picture = read_picture(path)
            for _ in range(count):
                view = random_view(picture, rng)
                small = cv2.resize(view, GRID, interpolation=cv2.INTER_AREA)
                rgb = stacked([small.transpose(2, 0, 1)]) / 255
                with torch.no_grad():
                    wanted = [[o.half() for o in watcher(rgb)] for watcher in self.detectors]
                views.append(View(view, wanted))
        return views

    def losses(
        self, net: nn.Module, views: list[View], shots: list[Shot]
    ) -> dict[str, torch.Tensor]:
        """How far each consumer is from what it makes of the clean pictures."""
        planes = stacked([s.planes for s in shots])
        if isinstance(net, PublishedNet):
            return self._detected(net(planes, gumbel_like(planes)), views)
        noise = stacked([s.noise for s in shots])
        given, field = net(stacked([s.features for s in shots]), noise)
        of = {name: given[:, k] for k, name in enumerate(CONSUMERS)}
        mix = stacked([s.mix for s in shots])
        found = self._detected(develop(planes, noise, of["detector"], field, mix), views)
        crop = stacked([s.crop for s in shots])
        clean = stacked([s.clean for s in shots]) / 255
        found["human"] = (tone(crop, of["human"]) - clean).abs().mean()
        if self.tracker is not None:
            with torch.no_grad():
                wanted = self.tracker(255 * clean.flip(1))
            seen = self.tracker(255 * tone(crop, of["tracker"]).flip(1))
            parts = [
                (s - w).square().sum() / w.square().sum() for s, w in zip(seen, wanted, strict=True)
            ]
            found["tracker"] = torch.stack(parts).mean()
        return found

    def _detected(self, rgb: torch.Tensor, views: list[View]) -> dict[str, torch.Tensor]:
        found = {}
        for k, watcher in enumerate(self.detectors):
            wanted = [torch.cat(o).float() for o in zip(*(v.wanted[k] for v in views), strict=True)]
            found[watcher.name] = watcher.loss_of(watcher(rgb), wanted)
        return found


def total(losses: dict[str, torch.Tensor], detectors: int) -> torch.Tensor:
    """The detectors count one together, and so do the others each."""
    return torch.stack(
        [v if name in ("human", "tracker") else v / detectors for name, v in losses.items()]
    ).sum()


def fit(net: nn.Module, judge: Judge, views: list[View], args: argparse.Namespace) -> None:
    """AdamW with a cosine to zero; goes on from the checkpoint of the same run."""
    checkpoint = Path(f"{args.out}.checkpoint")
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    run = shlex.join(args.words)
    done = 0
    if checkpoint.is_file():
        stored = torch.load(checkpoint, weights_only=True)
        if stored["run"] == run:
            net.load_state_dict(stored["net"])
            optimizer.load_state_dict(stored["optimizer"])
            schedule.load_state_dict(stored["schedule"])
            done = stored["step"]
    for step in progress_bar(range(done, args.steps), "training", total=args.steps - done):
        # A step's views and noise follow from the seed and the step, so a resumed run is the same.
        rng = np.random.default_rng([args.seed, 2, step])
        chosen = [views[i] for i in rng.integers(len(views), size=BATCH)]
        day = [k == 0 for k in range(BATCH)]
        shots = [random_shot(v.picture, rng, d) for v, d in zip(chosen, day, strict=True)]
        loss = total(judge.losses(net, chosen, shots), len(judge.detectors))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5)
        optimizer.step()
        schedule.step()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == args.steps:
            parts = Path(f"{checkpoint}.part")
            torch.save(
                {
                    "run": run,
                    "net": net.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "step": step + 1,
                },
                parts,
            )
            parts.replace(checkpoint)


def figures(net: nn.Module, judge: Judge, views: list[View]) -> dict[str, float]:
    """Mean losses over views kept apart, the same shots whatever the network."""
    sums: dict[str, float] = {}
    for k in progress_bar(range(0, len(views), BATCH), "kept apart"):
        part = views[k : k + BATCH]
        rng = np.random.default_rng([0, 3, k])
        with torch.no_grad():
            found = judge.losses(net, part, [random_shot(v.picture, rng, False) for v in part])
        for name, value in found.items():
            sums[name] = sums.get(name, 0) + value.item() * len(part) / len(views)
    return sums


def export(net: nn.Module, path: Path) -> None:
    """Write the network for ``isp.task_aware.ParameterModel``, or the published operators whole."""
    ours = isinstance(net, ParameterNet)
    given = (
        (torch.zeros(1, 4, 64, 64), torch.full((1, 2), 1e-4))
        if ours
        else (torch.zeros(1, 3, 64, 64), torch.zeros(1, REGIONS, 64, 64))
    )
    sides = {2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own future
        torch.onnx.export(
            net.eval(),
            given,
            str(path),
            input_names=["features", "noise"] if ours else ["image", "gumbel"],
            output_names=["globals", "field"] if ours else ["rgb"],
            dynamic_axes=None if ours else dict.fromkeys(("image", "gumbel", "rgb"), sides),
            opset_version=17,
            dynamo=False,
        )
    onnx.checker.check_model(str(path))


def train(args: argparse.Namespace) -> dict[str, float]:
    """Train, write ``args.out`` and its card, and return the figures on pictures kept apart.

    Raises:
        InputError: data that is missing or unfit.
    """
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    paths = read_pictures(args.pictures)
    watchers = [
        Watcher(Path(p).expanduser(), kind)
        for p, _, kind in (text.rpartition(":") for text in args.detectors)
    ]
    judge = Judge(watchers, OnnxModule.load(args.tracker) if args.tracker else None)
    rng = np.random.default_rng([args.seed, 1])
    used, apart = split(paths)
    used = drawn(used, max(args.views // 2, 1), rng)
    apart = drawn(apart, max(args.views // KEPT_APART, 1), np.random.default_rng([0, 5]))
    count = max(2, -(-args.views // len(used)))
    net = PublishedNet() if args.operators == "published" else ParameterNet()
    held = judge.views(apart, 2, np.random.default_rng([0, 4]))
    before = figures(net, judge, held) if held else {}
    fit(net, judge, judge.views(used, count, rng), args)
    after = figures(net, judge, held) if held else {}
    export(net, args.out)
    found = {name: (before[name], after[name]) for name in after}
    text = card(args, len(used) + len(apart), len(apart), found)
    args.out.with_suffix(".md").write_text(text, "utf-8")
    Path(f"{args.out}.checkpoint").unlink(missing_ok=True)
    return after


def split(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Pictures to train on, and those kept apart: whole folders where there are many of them."""
    folders = sorted({p.parent for p in paths})
    if len(folders) > KEPT_APART:
        left_out = set(folders[::KEPT_APART])
        apart = [p for p in paths if p.parent in left_out]
    else:
        apart = paths[::KEPT_APART] if len(paths) > KEPT_APART else []
    kept = set(apart)
    return [p for p in paths if p not in kept], apart


def drawn(paths: list[Path], most: int, rng: np.random.Generator) -> list[Path]:
    """All of them, or so many at random: their views stay in memory, some 2 MB each."""
    if len(paths) <= most:
        return paths
    return [paths[k] for k in np.sort(rng.permutation(len(paths))[:most])]


def card(
    args: argparse.Namespace, pictures: int, apart: int, found: dict[str, tuple[float, float]]
) -> str:
    """What the model is and how it was made, in Markdown; files by their names alone."""
    words = [Path(word).name if "/" in word else word for word in args.words]
    lines = [
        f"# {args.out.name}",
        "",
        f"Parameter network of leadsight's task-aware ISP, seed {args.seed}, {args.steps} steps, "
        f"torch {torch.__version__}. Made by",
        "",
        "```",
        f"python -m isp.train {shlex.join(words)}",
        "```",
        "",
        f"{pictures} pictures; {apart} of them kept apart for these figures, the mean distance of "
        "each consumer's answer from its answer to the clean picture:",
        "",
        "| kept apart | at the defaults | trained |",
        "| --- | ---: | ---: |",
        *[f"| {name} | {a:.4f} | {b:.4f} |" for name, (a, b) in found.items()],
        "",
        *([args.license, ""] if args.license else []),
    ]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> None:
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pictures", nargs="+", type=Path, required=True,
        help="folders; frames of a video in one of their own",
    )  # fmt: skip
    parser.add_argument(
        "--detectors", nargs="+", required=True, metavar="FILE:LAYOUT",
        help=f"ONNX detectors to train for; layouts: {', '.join(LOSSES)}",
    )  # fmt: skip
    parser.add_argument(
        "--operators",
        choices=["leadsight", "published"],
        default="leadsight",
        help="published: those of TA-ISP (CVPR 2026), as a baseline for one detector's grid",
    )
    parser.add_argument("--tracker", type=Path, help="ONNX backbone of a tracker; optional")
    parser.add_argument("--out", type=Path, default=Path("task-aware.onnx"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument(
        "--views", type=int, default=264,
        help="of all pictures together, kept in memory; of more pictures than half of that a part "
        "is drawn",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--license", default="", help="a sentence for the card")
    args = parser.parse_args(words)
    args.words = words
    try:
        print({name: round(value, 4) for name, value in train(args).items()})
    except InputError as error:
        sys.exit(f"leadsight: {error}")


if __name__ == "__main__":
    main()
