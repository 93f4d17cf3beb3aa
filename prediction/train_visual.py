"""Training of ``prediction.pvt_visual`` on what ``python -m evaluation.views`` kept."""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper
from torch import nn

from pipeline.box import iou, to_center
from pipeline.errors import InputError
from pipeline.tracks import TrackStatus
from prediction import pvt
from prediction.pvt import MOTIONS
from prediction.pvt_visual import CHANNELS, MAP, SEARCH, TEMPLATE, WIDTH
from prediction.train_pvt import (
    Decoder,
    MotionEncoder,
    decoder_constants,
    decoder_nodes,
    encoder_constants,
    encoder_nodes,
    mean_motion,
    motion,
    thirds,
)
from prediction.train_residual import ON_TARGET
from prediction.training import folded, onnx_graph

PARTS = 4
"""One recording in this many is kept apart for the figures."""
DROPPED = 0.2
SHARES = (0.1, 0.1, 0.09)
"""Of the loss: the motion branch and the visual one by themselves, and the motion seen just now."""
MAX_FILE_BYTES = 4 << 30
ARRAYS = ("truth", "frames", "boxes", "status", "template", "search")


@dataclass(frozen=True)
class Views:
    """Features that rows point into: templates (T, C, h, w), searches (S, C, H, W), float16; names
    of the recordings, and how many of them are kept apart."""

    templates: torch.Tensor
    searches: torch.Tensor
    recordings: tuple[str, ...]
    apart: int


def visual_rows(
    paths: list[Path], heads: int
) -> tuple[Views, list[torch.Tensor], list[torch.Tensor]]:
    """The features, and rows to train on and to hold apart: motions (R, 3, 4), gaps (R, 3), motions
    wanted (R, heads, 4), which of them are known (R, heads), and the indices of the template (R,)
    and of the three searches (R, 3).

    Raises:
        InputError: no such file, not what ``evaluation.views`` writes, or too few recordings.
    """
    templates: list[npt.NDArray[np.float16]] = []
    searches: list[npt.NDArray[np.float16]] = []
    parts: tuple[list[Any], list[Any]] = ([], [])
    names: dict[str, bool] = {}
    for name, run in (found for path in paths for found in _runs(path)):
        begin = sum(map(len, searches))
        apart = names.setdefault(name, zlib.crc32(name.encode()) % PARTS == 0)
        rows = _run_rows(run, heads)
        if len(rows[0]):
            at = rows.pop()
            index = begin + at[:, None] + np.arange(1 - MOTIONS, 1)
            parts[apart].append([*rows, np.full(len(at), len(templates)), index])
            templates.append(run["template"])
            searches.append(run["search"])
    if len({template.shape for template in templates}) > 1:
        raise InputError("--views: of different trackers; give those of one")
    if not all(parts):
        raise InputError("--views: too few recordings to keep some apart; give more")
    shown = Views(
        torch.from_numpy(np.stack(templates)),
        torch.from_numpy(np.concatenate(searches)),
        tuple(names),
        sum(names.values()),
    )
    train, held = (
        [torch.from_numpy(np.concatenate(column)) for column in zip(*part, strict=True)]
        for part in parts
    )
    return shown, train, held


def _runs(path: Path) -> Iterator[tuple[str, dict[str, npt.NDArray[Any]]]]:
    """The name of the recording and the arrays of each run of a tracker in the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
                raise ValueError(f"unpacks to over {MAX_FILE_BYTES >> 30} GiB")
        with np.load(path, allow_pickle=False) as arrays:
            for run in dict.fromkeys(key.rpartition("/")[0] for key in arrays.files):
                found = {name: arrays[f"{run}/{name}"] for name in ARRAYS}
                _check(run, found)
                yield run.rpartition("/")[0], found
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"--views {path}: cannot be read ({error}); make it by `python -m evaluation.views`"
        ) from None


def _check(run: str, found: dict[str, npt.NDArray[Any]]) -> None:
    n, features = found["frames"].size, found["search"].shape[1:2]
    shapes = {
        "truth": (found["truth"].size // 4, 4),
        "frames": (n,),
        "boxes": (n, 4),
        "status": (n,),
        "template": (*features, TEMPLATE, TEMPLATE),
        "search": (n, *features, SEARCH, SEARCH),
    }
    for name, shape in shapes.items():
        array = found[name]
        if array.shape != shape or array.dtype.kind not in "iuf":
            raise ValueError(f"{run}/{name} is {array.dtype} of {array.shape}, not of {shape}")
        if name != "truth" and not np.isfinite(array).all():
            raise ValueError(f"{run}/{name} is not finite")
    frames = found["frames"]
    rising = frames.dtype.kind in "iu" and bool((np.diff(frames.astype(np.int64)) > 0).all())
    if not rising or not n or frames[0] < 0 or frames[-1] >= len(found["truth"]):
        raise ValueError(f"{run}/frames are not the numbers of frames, rising")


def _run_rows(run: dict[str, npt.NDArray[Any]], heads: int) -> list[npt.NDArray[Any]]:
    """motions, gaps, wanted, known, and the answer that each row ends on."""
    truth, frames, boxes = run["truth"].astype(np.float64), run["frames"], run["boxes"]
    boxes = np.maximum(boxes.astype(np.float64), 1e-3)
    with np.errstate(invalid="ignore"):
        good = (iou(boxes, truth[frames]) > ON_TARGET) & (run["status"] != TrackStatus.LOST)
    at = np.arange(MOTIONS, len(frames))
    at = at[np.all([good[at - k] for k in range(MOTIONS + 1)], axis=0)]
    centered = to_center(boxes)
    past = centered[at[:, None] + np.arange(-MOTIONS, 1)]
    later = frames[at][:, None] + np.arange(1, heads + 1)
    inside = np.minimum(later, len(truth) - 1)
    ahead = to_center(truth[inside])
    known = (later < len(truth)) & np.isfinite(ahead).all(axis=-1) & (ahead[..., 2:] > 0).all(-1)
    wanted = motion(past[:, -1:], np.where(known[..., None], ahead, past[:, -1:]))
    gaps = np.diff(frames[at[:, None] + np.arange(-MOTIONS, 1)], axis=1)
    values = [motion(past[:, :-1], past[:, 1:]), gaps, wanted, known]
    return [*(v.astype(np.float32) for v in values), at]


class ViewEncoder(nn.Module):
    """A template and three search regions → (N, 64), and the newest motion as seen, (N, 4)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.template = nn.Conv2d(features, CHANNELS, 1, bias=False)
        self.search = nn.Conv2d(features, CHANNELS, 1, bias=False)
        self.drop = nn.Dropout(DROPPED)
        self.map, self.map_norm = nn.Linear(CHANNELS * MAP * MAP, WIDTH), nn.LayerNorm(WIDTH)
        self.time, self.time_norm = nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm1d(WIDTH)
        self.now = nn.Linear(WIDTH, 4)

    def forward(
        self, template: torch.Tensor, search: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # By Fourier; no shift carries the template past the region's end, so none wraps round.
        cells = (SEARCH, SEARCH)
        large = torch.fft.rfft2(self.search(search.flatten(0, 1)).unflatten(0, search.shape[:2]))
        small = torch.fft.rfft2(self.template(template)[:, None], s=cells)
        maps = torch.fft.irfft2(large * small.conj(), s=cells)[..., :MAP, :MAP] / TEMPLATE**2
        flat = self.drop(maps.flatten(2))
        seen = self.map_norm(self.map(flat)).relu()
        mean = self.time_norm(self.time(seen.transpose(1, 2))).relu().mean(dim=2)
        return mean, self.now(seen[:, -1])


class VisualNet(nn.Module):
    """The network of "pvt-visual": the prediction (N, heads, 4), those of its branches by
    themselves, and the newest motion as seen, (N, 4)."""

    def __init__(self, heads: int, features: int) -> None:
        super().__init__()
        self.views, self.decoder = ViewEncoder(features), Decoder(heads)

    def forward(self, moved: Any, frames: Any, template: Any, search: Any) -> Any:
        mean, now = self.views(template, search)
        return self.decoder(mean) * mean_motion(moved, frames), [], now


class JointNet(nn.Module):
    """The network of "pvt-joint"."""

    def __init__(self, heads: int, features: int) -> None:
        super().__init__()
        self.views, self.encoder = ViewEncoder(features), MotionEncoder()
        self.decoder = Decoder(heads, 2 * WIDTH)
        self.by_boxes, self.by_views = Decoder(heads), Decoder(heads)

    def forward(self, moved: Any, frames: Any, template: Any, search: Any) -> Any:
        views, now = self.views(template, search)
        boxes, p = self.encoder(moved, frames), mean_motion(moved, frames)
        both = self.decoder(torch.cat([boxes, views], dim=1)) * p
        return both, [self.by_boxes(boxes) * p, self.by_views(views) * p], now


def visual_loss(net: Any, views: Views, rows: list[torch.Tensor]) -> torch.Tensor:
    """L1 summed over heads and coordinates, and the shares of the branches."""
    wanted, known = rows[2], rows[3]

    def error(found: torch.Tensor) -> torch.Tensor:
        return ((found - wanted).abs() * known[..., None]).sum(dim=(1, 2)).mean()

    found, single, now = _run_net(net, views, rows)
    loss: torch.Tensor = error(found) + SHARES[2] * (now - rows[0][:, -1]).abs().sum(dim=1).mean()
    for share, branch in zip(SHARES, single, strict=False):
        loss = loss + share * error(branch)
    return loss


def visual_figures(net: Any, views: Views, rows: list[torch.Tensor]) -> dict[str, float]:
    """Mean error of each third of the heads, beside the mean velocity's."""
    found = []
    with torch.no_grad():
        for part in torch.split(torch.arange(len(rows[0])), 256):  # type: ignore[no-untyped-call]
            found.append(_run_net(net, views, [column[part] for column in rows])[0])
    return thirds(torch.cat(found), *rows[:4])


def _run_net(net: Any, views: Views, rows: list[torch.Tensor]) -> Any:
    moved, frames, _, _, template, search = rows
    return net(moved, frames, views.templates[template].float(), views.searches[search].float())


def visual_graph(net: Any) -> onnx.ModelProto:
    """motions (1, 3, 8), p (1, 1, 4), template (1, C, 8, 8), search (3, C, 16, 16) →
    (1, heads, 4)."""
    scale, shift = folded(net.views.time_norm)
    constants = {
        "template_w": net.views.template.weight[:, :, 0, 0],
        "search_w": net.views.search.weight[:, :, 0, 0],
        "map_w": net.views.map.weight.T,
        "map_b": net.views.map.bias,
        "map_scale": net.views.map_norm.weight,
        "map_shift": net.views.map_norm.bias,
        "map_time_w": net.views.time.weight * scale[:, None, None],
        "map_time_b": net.views.time.bias * scale + shift,
        "cells": torch.tensor([float(TEMPLATE**2)]),
        **decoder_constants(net.decoder),
    }
    joint = isinstance(net, JointNet)
    node, epsilon = helper.make_node, pvt.LAYER_NORM_EPSILON
    nodes = [
        node("Einsum", ["template_w", "template"], ["kernel"], equation="kc,ncij->knij"),
        node("Einsum", ["search_w", "search"], ["projected"], equation="kc,ncij->nkij"),
        node("Conv", ["projected", "kernel"], ["sums"], group=CHANNELS),
        node("Div", ["sums", "cells"], ["maps"]),
        node("Flatten", ["maps"], ["flat"]),
        node("Gemm", ["flat", "map_w", "map_b"], ["m0"]),
        node("LayerNormalization", ["m0", "map_scale", "map_shift"], ["m1"], epsilon=epsilon),
        node("Relu", ["m1"], ["m2"]),
        node("Transpose", ["m2"], ["m3"], perm=[1, 0]),
        node("Unsqueeze", ["m3", "first"], ["m4"]),
        node("Conv", ["m4", "map_time_w", "map_time_b"], ["m5"], pads=[1, 1]),
        node("Relu", ["m5"], ["m6"]),
        node("ReduceMean", ["m6"], ["by_views"], axes=[2], keepdims=0),
    ]
    if joint:
        constants |= encoder_constants(net.encoder)
        nodes += [*encoder_nodes(), node("Concat", ["by_boxes", "by_views"], ["both"], axis=1)]
    nodes += decoder_nodes("both" if joint else "by_views")
    features = net.views.search.weight.shape[1]
    inputs = {
        **({"motions": [1, MOTIONS, 8]} if joint else {}),
        "p": [1, 1, 4],
        "template": [1, features, TEMPLATE, TEMPLATE],
        "search": [MOTIONS, features, SEARCH, SEARCH],
    }
    nodes.insert(0, node("Constant", [], ["first"], value_ints=[0]))
    return onnx_graph("pvt-visual", nodes, constants, inputs, [1, len(net.decoder.heads), 4])
