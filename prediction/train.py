"""Train a motion model and write it as ONNX, with a card beside it that says how it was made.

    python -m prediction.train residual --data TRACKING --sources uav123 uav20l outputs
        --out residual.onnx

Needs torch (the ``train`` extra), one thread, minutes. A run that was stopped goes on from
``<out>.checkpoint`` when it is started again with the same arguments.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from rich.progress import track as progress_bar
from torch import nn

from pipeline.box import FloatArray, iou, to_center
from pipeline.errors import InputError
from pipeline.tracks import TrackStatus
from prediction import pvt, residual
from prediction.imm import ImmPredictor
from prediction.kalman import doubled_sides
from prediction.predictor import PredictorConfig
from prediction.train_data import Track, read_tracks

OPSET = 17
OBSERVATIONS = 9
LANES = 128
MAX_GAP = 12
MAX_AHEAD = 18
ON_TARGET = 0.4
"""IoU of an answer with the truth, above which the truth is a fair thing to ask for."""
CHECKPOINT_EVERY = 500


@dataclass(frozen=True)
class Batch:
    """LANES targets observed at the same stamps, and the truth later.

    stamps_ns: (k,). seen: (k, L, 4). status: (k, L). ahead_ns: (k, m) horizons.
    truth: (k, m, L, 4), NaN where the target is not to be asked for.
    """

    stamps_ns: npt.NDArray[np.int64]
    seen: FloatArray
    status: npt.NDArray[np.uint8]
    ahead_ns: npt.NDArray[np.int64]
    truth: FloatArray


def batches(
    tracks: list[Track], rng: np.random.Generator, count: int, horizons: int
) -> Iterator[Batch]:
    """Late answers and camera-rate ones alike: gaps of 1 … 12 frames, at a rate of 24 to 37 Hz.

    Each source has the same share, in it each footage, in it each track.
    """
    groups: dict[str, dict[str, list[Track]]] = {}
    for item in tracks:
        groups.setdefault(item.source, {}).setdefault(item.footage, []).append(item)
    sources = [list(by_footage.values()) for by_footage in groups.values()]
    shares = 1 / np.sqrt(np.arange(1, MAX_GAP + 1))
    for _ in range(count):
        gap = int(rng.choice(MAX_GAP, p=shares / shares.sum())) + 1
        steps = np.append(0, np.cumsum(gap + (rng.random(OBSERVATIONS - 1) < 0.4)))
        ahead = rng.integers(1, min(2 * gap + 3, MAX_AHEAD), (OBSERVATIONS, horizons))
        span = int(steps[-1]) + 2 * gap + 3
        seen = np.full((OBSERVATIONS, LANES, 4), np.nan)
        truth = np.full((OBSERVATIONS, horizons, LANES, 4), np.nan)
        for lane in range(LANES):
            footages = sources[rng.integers(len(sources))]
            cuts = footages[rng.integers(len(footages))]
            chosen = cuts[rng.integers(len(cuts))]
            n = len(chosen.seen)
            at = int(rng.integers(max(n - span, 1))) + steps
            at = at[at < n]
            seen[: len(at), lane] = chosen.seen[at]
            later = at[:, None] + ahead[: len(at)]
            wanted = chosen.truth[np.minimum(later, n - 1)]
            fair = iou(chosen.seen[at], chosen.truth[at]) > ON_TARGET
            truth[: len(at), :, lane] = np.where(
                ((later < n) & fair[:, None])[..., None], wanted, np.nan
            )
        missing = np.isnan(seen).any(axis=-1)
        period_ns = rng.uniform(0.8, 1.25) * 1e9 / 30
        yield Batch(
            np.round(steps * period_ns).astype(np.int64),
            np.where(missing[..., None], 1.0, seen),
            np.where(missing, TrackStatus.LOST, TrackStatus.TRACKED).astype(np.uint8),
            np.round(ahead * period_ns).astype(np.int64),
            truth,
        )


# --- residual -------------------------------------------------------------------------------------


def residual_rows(found: Iterator[Batch], count: int) -> list[torch.Tensor]:
    """inputs (R, 4, I), unit, wanted correction and the filter's sigma (R, 4) in box sides, and
    the box that the filter gives and the true one (R, 4), in sides."""
    filters = ImmPredictor(PredictorConfig())
    parts: list[list[FloatArray]] = []
    for batch in progress_bar(found, "simulating", total=count):
        state = residual.with_history(filters.blank(LANES))
        for k, stamp in enumerate(batch.stamps_ns):
            stamps = np.full(LANES, stamp)
            state = residual.observe(filters, state, stamps, batch.seen[k], batch.status[k])
            valid_at = stamp + batch.ahead_ns[k]
            boxes, variances, _ = filters.predict(state, valid_at)
            dt = np.clip((valid_at - state.stamp_ns[:, None]) * 1e-9, 0, residual.LONGEST_S)
            inputs, unit = residual.network_inputs(state, dt)
            position = (state.position * state.weight).sum(axis=1)
            sides = doubled_sides(position)[:, None]
            truth = batch.truth[k].transpose(1, 0, 2)
            keep = (
                np.isfinite(truth).all(axis=-1)
                & ((state.count > 1) & (batch.status[k] == TrackStatus.TRACKED))[:, None]
            )
            wanted = (to_center(truth) - to_center(boxes)) / sides
            origin = np.concatenate([position[:, :2], 0 * position[:, 2:]], axis=1)
            values = [
                inputs,
                unit / sides,
                wanted,
                np.sqrt(variances) / sides,
                (to_center(boxes) - origin[:, None]) / sides,
            ]
            parts.append([v[keep].astype(np.float32) for v in values])
    return [torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)]


class ResidualNet(nn.Module):
    """The network of ``prediction.residual``; its last layer starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(residual.ODD + residual.EVEN, residual.WIDTH),
            nn.Tanh(),
            nn.Linear(residual.WIDTH, residual.WIDTH),
            nn.Tanh(),
            nn.Linear(residual.WIDTH, 2),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        turn = torch.ones(residual.ODD + residual.EVEN)
        turn[: residual.ODD] = -1
        out, turned = self.layers(inputs), self.layers(inputs * turn)
        return torch.tanh((out[..., 0] - turned[..., 0]) / 2), (out[..., 1] + turned[..., 1]) / 2


def residual_loss(net: Any, rows: list[torch.Tensor]) -> torch.Tensor:
    """1 − overlap, an error that pulls where nothing overlaps, and the Gaussian likelihood of the
    variance."""
    inputs, unit, wanted, sigma, start = rows
    moved, log_ratio = net(inputs)
    error = wanted - moved * unit
    log_ratio = torch.clamp(log_ratio, -residual.MOST_LOG_RATIO, residual.MOST_LOG_RATIO)
    z = torch.clamp(error.detach() / sigma, -30, 30) * torch.exp(-log_ratio)
    likelihood = log_ratio + z * z / 2
    overlap = _overlap(start + moved * unit, start + wanted)
    return (
        1 - overlap.mean() + 0.1 * torch.log1p(error.abs() / 0.3).mean() + 0.02 * likelihood.mean()
    )


def _overlap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """IoU of centered boxes (R, 4)."""
    half_a, half_b = a[:, 2:].clamp(min=1e-3) / 2, b[:, 2:] / 2
    low = torch.maximum(a[:, :2] - half_a, b[:, :2] - half_b)
    high = torch.minimum(a[:, :2] + half_a, b[:, :2] + half_b)
    common = (high - low).clamp(min=0).prod(dim=1)
    return common / (4 * half_a.prod(dim=1) + 4 * half_b.prod(dim=1) - common)


def residual_figures(net: Any, rows: list[torch.Tensor]) -> dict[str, float]:
    """Mean overlap and calibration of the filter and of the network."""
    inputs, unit, wanted, sigma, start = rows
    with torch.no_grad():
        moved, log_ratio = net(inputs)
    figures = {}
    for name, move, ratio in (
        ("filter", 0 * unit, 0 * unit),
        ("residual", moved * unit, log_ratio),
    ):
        error = (wanted - move).numpy()
        boxes = (start + move).numpy().astype(np.float64)
        truth = (start + wanted).numpy().astype(np.float64)
        for each in (boxes, truth):  # in sides, so a shape of 1×1 stands for the target
            each[:, :2] -= each[:, 2:] / 2
        z = (
            error
            / (
                sigma
                * torch.exp(torch.clamp(ratio, -residual.MOST_LOG_RATIO, residual.MOST_LOG_RATIO))
            ).numpy()
        )
        figures[f"{name} IoU"] = float(iou(boxes, truth).mean())
        figures[f"{name} error, sides"] = float(
            np.hypot(error[:, 0], error[:, 1]).clip(max=2).mean()
        )
        figures[f"{name} within 90 %"] = float((np.abs(z) < 1.645).mean())
    return figures


def residual_graph(net: Any) -> onnx.ModelProto:
    """inputs (rows, I) → (rows, 2)."""
    linear = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
    constants = {}
    for k, layer in enumerate(linear, 1):
        constants[f"w{k}"], constants[f"b{k}"] = layer.weight.T, layer.bias
    nodes = [
        helper.make_node("Gemm", ["inputs", "w1", "b1"], ["a1"]),
        helper.make_node("Tanh", ["a1"], ["t1"]),
        helper.make_node("Gemm", ["t1", "w2", "b2"], ["a2"]),
        helper.make_node("Tanh", ["a2"], ["t2"]),
        helper.make_node("Gemm", ["t2", "w3", "b3"], ["outputs"]),
    ]
    width = residual.ODD + residual.EVEN
    return _graph("residual", nodes, constants, {"inputs": ["rows", width]}, ["rows", 2])


# --- pvt-motion -----------------------------------------------------------------------------------


def pvt_rows(tracks: list[Track], rng: np.random.Generator, count: int, heads: int) -> list[Any]:
    """motions (R, 3, 4), gaps (R, 3) and the motions wanted (R, heads, 4), of true boxes."""
    parts: list[list[FloatArray]] = []
    usable = [t for t in tracks if len(t.truth) > 3 * 7 + heads]
    while sum(len(p[0]) for p in parts) < count:
        chosen = usable[rng.integers(len(usable))]
        gap = int(rng.integers(1, 8))
        last = rng.integers(3 * gap, len(chosen.truth) - heads, 16)
        boxes = to_center(chosen.truth[last[:, None] + gap * np.arange(-3, 1)])
        later = to_center(chosen.truth[last[:, None] + np.arange(1, heads + 1)])
        good = np.isfinite(boxes).all(axis=(1, 2)) & np.isfinite(later).all(axis=(1, 2))
        boxes, later = boxes[good], later[good]
        parts.append(
            [
                _motion(boxes[:, :-1], boxes[:, 1:]),
                np.full((len(boxes), 3), float(gap)),
                _motion(boxes[:, -1:], later),
            ]
        )
    return [
        torch.from_numpy(np.concatenate(column).astype(np.float32))
        for column in zip(*parts, strict=True)
    ]


def _motion(a: FloatArray, b: FloatArray) -> FloatArray:
    moved = (b[..., :2] - a[..., :2]) / a[..., 2:]
    return np.concatenate([moved, np.log(b[..., 2:] / a[..., 2:])], axis=-1)


class PvtNet(nn.Module):
    """The network of ``prediction.pvt``, with its batch norms."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.encode, self.encode_norm = nn.Linear(8, 64), nn.LayerNorm(64)
        self.time, self.time_norm = nn.Conv1d(64, 64, 3, padding=1), nn.BatchNorm1d(64)
        self.decode, self.decode_norm = nn.Linear(64, 32), nn.BatchNorm1d(32)
        self.heads = nn.ModuleList(nn.Linear(32, 32) for _ in range(heads))
        self.head_norm, self.out = nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, moved: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        rate = moved / frames[..., None]
        step = self.encode_norm(self.encode(torch.cat([moved, rate], dim=-1))).relu()
        mean = self.time_norm(self.time(step.transpose(1, 2))).relu().mean(dim=2)
        decoded = self.decode_norm(self.decode(mean)).relu()
        head = torch.stack([layer(decoded) for layer in self.heads], dim=1)
        found: torch.Tensor = self.out(self.head_norm(head).relu())
        return found * rate.abs().mean(dim=1)[:, None]


def pvt_loss(net: Any, rows: list[torch.Tensor]) -> torch.Tensor:
    """L1, summed over heads and coordinates as the paper's code does."""
    moved, frames, wanted = rows
    loss: torch.Tensor = (net(moved, frames) - wanted).abs().sum(dim=(1, 2)).mean()
    return loss


def pvt_figures(net: Any, rows: list[torch.Tensor]) -> dict[str, float]:
    """Mean error of each third of the heads, beside the mean velocity's."""
    moved, frames, wanted = rows
    with torch.no_grad():
        found = net(moved, frames)
    ahead = torch.arange(1, wanted.shape[1] + 1)[:, None]
    steady = (moved / frames[..., None]).mean(dim=1)[:, None] * ahead
    figures = {}
    for name, guess in (("constant velocity", steady), ("pvt-motion", found)):
        error = (guess - wanted)[..., :2].norm(dim=-1).clamp(max=2)
        for part, values in zip(("first", "middle", "last"), error.chunk(3, dim=1), strict=False):
            figures[f"{name} error, sides, {part} heads"] = float(values.mean())
    return figures


def pvt_graph(net: Any) -> onnx.ModelProto:
    """motions (N, 3, 8), [m, m/Δ], and p (N, 1, 4) → (N, heads, 4)."""
    time_scale, time_shift = _folded(net.time_norm)
    decode_scale, decode_shift = _folded(net.decode_norm)
    constants = {
        "encode_w": net.encode.weight.T,
        "encode_b": net.encode.bias,
        "encode_scale": net.encode_norm.weight,
        "encode_shift": net.encode_norm.bias,
        "time_w": net.time.weight * time_scale[:, None, None],
        "time_b": net.time.bias * time_scale + time_shift,
        "decode_w": (net.decode.weight * decode_scale[:, None]).T,
        "decode_b": net.decode.bias * decode_scale + decode_shift,
        "head_w": torch.stack([layer.weight.T for layer in net.heads]),
        "head_b": torch.stack([layer.bias[None] for layer in net.heads]),
        "head_scale": net.head_norm.weight,
        "head_shift": net.head_norm.bias,
        "out_w": net.out.weight.T,
        "out_b": net.out.bias,
    }
    node, epsilon = helper.make_node, pvt.LAYER_NORM_EPSILON
    nodes = [
        node("MatMul", ["motions", "encode_w"], ["e0"]),
        node("Add", ["e0", "encode_b"], ["e1"]),
        node("LayerNormalization", ["e1", "encode_scale", "encode_shift"], ["e2"], epsilon=epsilon),
        node("Relu", ["e2"], ["e3"]),
        node("Transpose", ["e3"], ["e4"], perm=[0, 2, 1]),
        node("Conv", ["e4", "time_w", "time_b"], ["t0"], pads=[1, 1]),
        node("Relu", ["t0"], ["t1"]),
        node("ReduceMean", ["t1"], ["t2"], axes=[2], keepdims=0),
        node("Gemm", ["t2", "decode_w", "decode_b"], ["d0"]),
        node("Relu", ["d0"], ["d1"]),
        node("MatMul", ["d1", "head_w"], ["h0"]),
        node("Add", ["h0", "head_b"], ["h1"]),
        node("LayerNormalization", ["h1", "head_scale", "head_shift"], ["h2"], epsilon=epsilon),
        node("Relu", ["h2"], ["h3"]),
        node("MatMul", ["h3", "out_w"], ["o0"]),
        node("Add", ["o0", "out_b"], ["o1"]),
        node("Transpose", ["o1"], ["o2"], perm=[1, 0, 2]),
        node("Mul", ["o2", "p"], ["outputs"]),
    ]
    inputs = {"motions": ["n", pvt.MOTIONS, 8], "p": ["n", 1, 4]}
    return _graph("pvt-motion", nodes, constants, inputs, ["n", len(net.heads), 4])


def _folded(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch norm in use: scale and shift."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


# --- both -----------------------------------------------------------------------------------------


def _graph(
    name: str,
    nodes: list[onnx.NodeProto],
    constants: dict[str, torch.Tensor],
    inputs: dict[str, list[Any]],
    output: list[Any],
) -> onnx.ModelProto:
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(v.detach().numpy(), np.float32), key)
        for key, v in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in inputs.items()],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, output)],
        tensors,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="leadsight"
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def fit(
    net: nn.Module,
    rows: list[torch.Tensor],
    loss_of: Callable[[Any, list[torch.Tensor]], torch.Tensor],
    args: argparse.Namespace,
    rate: float,
    size: int,
) -> None:
    """AdamW with a cosine from ``rate`` to zero; goes on from the checkpoint of the same run."""
    checkpoint = Path(f"{args.out}.checkpoint")
    run = f"{args.model} {args.data} {args.sources} {args.seed} {args.steps} {args.heads}"
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    done = 0
    if checkpoint.is_file():
        stored = torch.load(checkpoint, weights_only=True)
        if stored["run"] == run:
            net.load_state_dict(stored["net"])
            optimizer.load_state_dict(stored["optimizer"])
            schedule.load_state_dict(stored["schedule"])
            done = stored["step"]
    net.train()
    for step in progress_bar(range(done, args.steps), "training", total=args.steps - done):
        # Rows of a step follow from the seed and the step alone, so a resumed run is the same run.
        chosen = np.random.default_rng([args.seed, step]).integers(len(rows[0]), size=size)
        index = torch.from_numpy(chosen)
        loss = loss_of(net, [column[index] for column in rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 10)
        optimizer.step()
        schedule.step()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == args.steps:
            torch.save(
                {
                    "run": run,
                    "net": net.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "step": step + 1,
                },
                checkpoint,
            )
    net.eval()


def card(args: argparse.Namespace, tracks: list[Track], figures: dict[str, float]) -> str:
    """What the model is and how it was made, in Markdown."""
    held = [t for t in tracks if t.held_out]
    sources = {t.source: 0 for t in tracks}
    for item in tracks:
        sources[item.source] += 1
    lines = [
        f"# {args.out.name}",
        "",
        f"`{args.model}` of leadsight's `prediction/`, seed {args.seed}, {args.steps} steps, "
        f"torch {torch.__version__}. Made by",
        "",
        "```",
        f"python -m prediction.train {shlex.join(args.words)}",
        "```",
        "",
        f"Tracks: {', '.join(f'{n} of {s}' for s, n in sources.items())}; {len(held)} of them, "
        "whole recordings, kept apart for these figures:",
        "",
        "| on the part kept apart | |",
        "| --- | ---: |",
        *[f"| {name} | {value:.4f} |" for name, value in figures.items()],
        "",
        *([args.licence, ""] if args.licence else []),
    ]
    return "\n".join(lines)


def train(args: argparse.Namespace) -> dict[str, float]:
    """Train, write ``args.out`` and its card, and return the validation figures.

    Raises:
        InputError: data that is missing or unfit.
    """
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    tracks = read_tracks(args.data, args.sources)
    parts = [[t for t in tracks if t.held_out is held] for held in (False, True)]
    if not all(parts):
        raise InputError("--sources: too few recordings to keep some apart; give more")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rngs = [np.random.default_rng([args.seed, 1]), np.random.default_rng([0, 2])]
    net: nn.Module
    if args.model == "residual":
        counts = (args.batches, max(args.batches // 4, 1))
        rows, held = (
            residual_rows(batches(part, rng, count, 2), count)
            for part, rng, count in zip(parts, rngs, counts, strict=True)
        )
        net = ResidualNet()
        fit(net, rows, residual_loss, args, rate=2e-3, size=2048)
        figures, model = residual_figures(net, held), residual_graph(net)
    else:
        rows, held = (
            pvt_rows(part, rng, count, args.heads)
            for part, rng, count in zip(parts, rngs, (600 * args.batches, 8000), strict=True)
        )
        net = PvtNet(args.heads)
        fit(net, rows, pvt_loss, args, rate=1e-2, size=128)
        figures, model = pvt_figures(net, held), pvt_graph(net)
    args.out.write_bytes(model.SerializeToString())
    args.out.with_suffix(".md").write_text(card(args, tracks, figures), encoding="utf-8")
    Path(f"{args.out}.checkpoint").unlink(missing_ok=True)
    return figures


def main(words: list[str] | None = None) -> None:
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["residual", "pvt-motion"])
    parser.add_argument("--data", type=Path, default=Path("."), help="folder with gt/ and raw/")
    parser.add_argument(
        "--sources",
        nargs="+",
        default=["uav123", "uav20l"],
        help="uav123, uav20l, lasot, antiuav410, outputs, or files .npz of (n, 4) boxes",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batches", type=int, default=250, help="amount of simulated data")
    parser.add_argument("--heads", type=int, default=12, help="pvt-motion: horizons in frames")
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
