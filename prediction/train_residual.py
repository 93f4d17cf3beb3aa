"""Training of ``prediction.residual``: late answers simulated on tracks, loss on overlap."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper
from rich.progress import track as progress_bar
from torch import nn

from pipeline.box import FloatArray, iou, to_center
from pipeline.tracks import TrackStatus
from prediction import residual
from prediction.imm import ImmPredictor
from prediction.kalman import doubled_sides
from prediction.predictor import PredictorConfig
from prediction.train_data import Track
from prediction.training import onnx_graph

OBSERVATIONS = 9
LANES = 128
MAX_GAP = 12
MAX_AHEAD = 18
ON_TARGET = 0.4
"""IoU of an answer with the truth, above which the truth is a fair thing to ask for."""


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
    return onnx_graph("residual", nodes, constants, {"inputs": ["rows", width]}, ["rows", 2])
