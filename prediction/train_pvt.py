"""Training of ``prediction.pvt`` on true boxes, as its authors do: L1 over all heads."""

from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import nn

from pipeline.box import FloatArray, to_center
from prediction import pvt
from prediction.train_data import Track
from prediction.training import folded, onnx_graph


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
                motion(boxes[:, :-1], boxes[:, 1:]),
                np.full((len(boxes), 3), float(gap)),
                motion(boxes[:, -1:], later),
            ]
        )
    return [
        torch.from_numpy(np.concatenate(column).astype(np.float32))
        for column in zip(*parts, strict=True)
    ]


def motion(a: FloatArray, b: FloatArray) -> FloatArray:
    """From centered boxes a to b, (…, 4): in sides of a, and ln of the change of the sides."""
    moved = (b[..., :2] - a[..., :2]) / a[..., 2:]
    return np.concatenate([moved, np.log(b[..., 2:] / a[..., 2:])], axis=-1)


class MotionEncoder(nn.Module):
    """Three motions and their gaps → (N, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.encode_norm = nn.Linear(8, 64), nn.LayerNorm(64)
        self.time, self.time_norm = nn.Conv1d(64, 64, 3, padding=1), nn.BatchNorm1d(64)

    def forward(self, moved: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        rate = moved / frames[..., None]
        step = self.encode_norm(self.encode(torch.cat([moved, rate], dim=-1))).relu()
        mean: torch.Tensor = self.time_norm(self.time(step.transpose(1, 2))).relu().mean(dim=2)
        return mean


class Decoder(nn.Module):
    """(N, width) → (N, heads, 4), in units of the mean motion."""

    def __init__(self, heads: int, width: int = 64) -> None:
        super().__init__()
        self.decode, self.decode_norm = nn.Linear(width, 32), nn.BatchNorm1d(32)
        self.heads = nn.ModuleList(nn.Linear(32, 32) for _ in range(heads))
        self.head_norm, self.out = nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        decoded = self.decode_norm(self.decode(mean)).relu()
        head = torch.stack([layer(decoded) for layer in self.heads], dim=1)
        found: torch.Tensor = self.out(self.head_norm(head).relu())
        return found


class PvtNet(nn.Module):
    """The network of ``prediction.pvt``, with its batch norms."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.encoder, self.decoder = MotionEncoder(), Decoder(heads)

    def forward(self, moved: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.decoder(self.encoder(moved, frames))
        return found * mean_motion(moved, frames)


def mean_motion(moved: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """p = mean |m/Δ|, (N, 1, 4)."""
    return (moved / frames[..., None]).abs().mean(dim=1)[:, None]


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
    return thirds(found, moved, frames, wanted, torch.ones(wanted.shape[:2]))


def thirds(
    found: torch.Tensor,
    moved: torch.Tensor,
    frames: torch.Tensor,
    wanted: torch.Tensor,
    known: torch.Tensor,
) -> dict[str, float]:
    """Mean error of each third of the heads, where ``known`` (R, heads) is 1."""
    ahead = torch.arange(1, wanted.shape[1] + 1)[:, None]
    steady = (moved / frames[..., None]).mean(dim=1)[:, None] * ahead
    figures = {}
    for name, guess in (("constant velocity", steady), ("network", found)):
        error = (guess - wanted)[..., :2].norm(dim=-1).clamp(max=2)
        parts = zip(error.chunk(3, dim=1), known.chunk(3, dim=1), strict=True)
        for part, (values, weight) in zip(("first", "middle", "last"), parts, strict=False):
            share = (values * weight).sum() / weight.sum().clamp(min=1)
            figures[f"{name} error, sides, {part} heads"] = float(share)
    return figures


def pvt_graph(net: Any) -> onnx.ModelProto:
    """motions (N, 3, 8), [m, m/Δ], and p (N, 1, 4) → (N, heads, 4)."""
    constants = encoder_constants(net.encoder) | decoder_constants(net.decoder)
    nodes = [*encoder_nodes(), *decoder_nodes("by_boxes")]
    inputs = {"motions": ["n", pvt.MOTIONS, 8], "p": ["n", 1, 4]}
    heads = len(net.decoder.heads)
    return onnx_graph("pvt-motion", nodes, constants, inputs, ["n", heads, 4])


def encoder_constants(net: Any) -> dict[str, torch.Tensor]:
    scale, shift = folded(net.time_norm)
    return {
        "encode_w": net.encode.weight.T,
        "encode_b": net.encode.bias,
        "encode_scale": net.encode_norm.weight,
        "encode_shift": net.encode_norm.bias,
        "time_w": net.time.weight * scale[:, None, None],
        "time_b": net.time.bias * scale + shift,
    }


def decoder_constants(net: Any) -> dict[str, torch.Tensor]:
    scale, shift = folded(net.decode_norm)
    return {
        "decode_w": (net.decode.weight * scale[:, None]).T,
        "decode_b": net.decode.bias * scale + shift,
        "head_w": torch.stack([layer.weight.T for layer in net.heads]),
        "head_b": torch.stack([layer.bias[None] for layer in net.heads]),
        "head_scale": net.head_norm.weight,
        "head_shift": net.head_norm.bias,
        "out_w": net.out.weight.T,
        "out_b": net.out.bias,
    }


def encoder_nodes() -> list[onnx.NodeProto]:
    """motions (N, 3, 8) → by_boxes (N, 64)."""
    node, epsilon = helper.make_node, pvt.LAYER_NORM_EPSILON
    return [
        node("MatMul", ["motions", "encode_w"], ["e0"]),
        node("Add", ["e0", "encode_b"], ["e1"]),
        node("LayerNormalization", ["e1", "encode_scale", "encode_shift"], ["e2"], epsilon=epsilon),
        node("Relu", ["e2"], ["e3"]),
        node("Transpose", ["e3"], ["e4"], perm=[0, 2, 1]),
        node("Conv", ["e4", "time_w", "time_b"], ["t0"], pads=[1, 1]),
        node("Relu", ["t0"], ["t1"]),
        node("ReduceMean", ["t1"], ["by_boxes"], axes=[2], keepdims=0),
    ]


def decoder_nodes(mean: str) -> list[onnx.NodeProto]:
    """``mean`` (N, width) and p (N, 1, 4) → outputs (N, heads, 4)."""
    node, epsilon = helper.make_node, pvt.LAYER_NORM_EPSILON
    return [
        node("Gemm", [mean, "decode_w", "decode_b"], ["d0"]),
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
