"""What the outputs of a detector's file mean: one function a layout, and how its picture is made.

A layout turns the model's outputs into every box it speaks of, in pixels of the model's input. To
add one, write a function like those below and name it in ``LAYOUTS`` (docs/perception.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

Array = npt.NDArray[np.float32]
STRIDES = ((8, 16, 32), (8, 16, 32, 64))
MAX_LOG_SIDE = 10.0
"""Of a cell's stride: what a network says beyond is no box, and exp of it no number."""


class Boxes(NamedTuple):
    """All n boxes of a picture. corners: (n, 4) x1 y1 x2 y2 in input pixels. scores: (n,), of the
    likeliest class. labels: (n,) int, which that is."""

    corners: Array
    scores: Array
    labels: npt.NDArray[np.intp]


def yolox(outputs: list[Array], size: tuple[int, int]) -> Boxes:
    """(1, n, 5 + classes): offset x y in the cell and ln w h, in strides; objectness; classes.

    YOLOX as it is exported by default (Ge et al., 2021), strides 8, 16, 32 or to 64.
    """
    rows = _one(outputs, outputs, "yolox", 6)
    grid = _cells(len(rows), size)
    if grid is None:
        raise _wrong("yolox", outputs)
    cells, strides = grid
    centers = (rows[:, :2] + cells) * strides
    sides = np.exp(np.minimum(rows[:, 2:4], MAX_LOG_SIDE)) * strides
    return _best(centers, sides, rows[:, 5:] * rows[:, 4:5])


def yolov5(outputs: list[Array], size: tuple[int, int]) -> Boxes:
    """(1, n, 5 + classes): x_center y_center w h in input pixels; objectness; classes.

    YOLOv5 and v7, and YOLOX exported with its boxes decoded.
    """
    rows = _one(outputs, outputs, "yolov5", 6)
    return _best(rows[:, :2], rows[:, 2:4], rows[:, 5:] * rows[:, 4:5])


def yolov8(outputs: list[Array], size: tuple[int, int]) -> Boxes:
    """(1, 4 + classes, n): x_center y_center w h in input pixels; classes. YOLOv8, v9, v11."""
    rows = _one([o.swapaxes(-1, -2) for o in outputs if o.ndim == 3], outputs, "yolov8", 5)
    return _best(rows[:, :2], rows[:, 2:4], rows[:, 4:])


def end2end(outputs: list[Array], size: tuple[int, int]) -> Boxes:
    """(1, n, 6) or (n, 6): x1 y1 x2 y2 in input pixels, score, class; duplicates already removed.

    YOLOv10, and exports with non-maximum suppression inside.
    """
    found = outputs[0] if len(outputs) == 1 else np.empty(0, np.float32)
    if found.ndim == 3 and len(found) == 1:
        found = found[0]
    if found.ndim != 2 or found.shape[1] != 6:
        raise _wrong("end2end", outputs)
    labels = np.clip(np.nan_to_num(found[:, 5]), -1, np.iinfo(np.int16).max).astype(np.intp)
    return Boxes(found[:, :4], found[:, 4], labels)


def nanodet(outputs: list[Array], size: tuple[int, int]) -> Boxes:
    """For each stride (1, n, classes), then for each stride (1, n, 4 · bins).

    The second are distributions of the distances to the box's sides, in strides; their mean counts
    (generalized focal loss, Li et al., NeurIPS 2020). NanoDet-m.
    """
    half = len(outputs) // 2
    if not half or any(o.ndim != 3 or len(o) != 1 for o in outputs):
        raise _wrong("nanodet", outputs)
    try:
        scores = np.concatenate([o[0] for o in outputs[:half]])
        spread = np.concatenate([o[0] for o in outputs[half:]])
        spread = spread.reshape(len(scores), 4, -1)
    except ValueError:
        raise _wrong("nanodet", outputs) from None
    grid = _cells(len(scores), size)
    if grid is None or not scores.size or not spread.size:
        raise _wrong("nanodet", outputs)
    cells, strides = grid
    weight = np.exp(spread - spread.max(axis=2, keepdims=True))
    bins = np.arange(spread.shape[2], dtype=np.float32)
    distance = weight @ bins / weight.sum(axis=2) * strides
    middle = (cells + 0.5) * strides
    corners = np.concatenate([middle - distance[:, :2], middle + distance[:, 2:]], axis=1)
    return _labelled(corners, scores)


def fastestdet(outputs: list[Array], size: tuple[int, int]) -> Boxes:
    """(1, 5 + classes, rows, columns): objectness, atanh offset x y in cells, logit w h in the
    picture's sides, classes. FastestDet."""
    shape = outputs[0].shape if len(outputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or shape[1] < 6 or not outputs[0].size:
        raise _wrong("fastestdet", outputs)
    channels, height, width = shape[1:]
    rows = outputs[0][0].reshape(channels, -1).T
    cells = _grid(width, height)
    sides = np.array(size, np.float32)
    centers = (cells + np.tanh(rows[:, 1:3])) / (width, height) * sides
    sides = sides / (1 + np.exp(-np.clip(rows[:, 3:5], -30, 30)))
    objectness, classes = np.clip(rows[:, :1], 0, 1), np.clip(rows[:, 5:], 0, 1)
    return _best(centers, sides, objectness**0.6 * classes**0.4)


@dataclass(frozen=True)
class Layout:
    """A layout and the picture that its models were trained on.

    outputs: their shapes, in words. resize: ``top-left`` and ``center`` keep the aspect and pad
    the rest, ``stretch`` does not. channels: order in the input. mean, std: (value − mean) / std of
    each channel in that order. suppress: whether duplicates are still to be removed.
    """

    decode: Callable[[list[Array], tuple[int, int]], Boxes]
    outputs: str
    resize: str
    channels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 114
    suppress: bool = True


_PLAIN = ((0.0,) * 3, (1.0,) * 3)
_UNIT = ((0.0,) * 3, (255.0,) * 3)
LAYOUTS = {
    "yolox": Layout(
        yolox, "(1, cells of strides 8, 16, 32, 5 + classes)", "top-left", "bgr", *_PLAIN
    ),
    "yolov5": Layout(yolov5, "(1, n, 5 + classes)", "center", "rgb", *_UNIT),
    "yolov8": Layout(yolov8, "(1, 4 + classes, n)", "center", "rgb", *_UNIT),
    "end2end": Layout(end2end, "(1, n, 6) or (n, 6)", "center", "rgb", *_UNIT, suppress=False),
    "nanodet": Layout(
        nanodet,
        "(1, cells, classes) for each of the strides 8, 16, 32, then (1, cells, 4 * bins) for each",
        "center",
        "bgr",
        (103.53, 116.28, 123.675),
        (57.375, 57.12, 58.395),
    ),
    "fastestdet": Layout(fastestdet, "(1, 5 + classes, rows, columns)", "stretch", "bgr", *_UNIT),
}


def _one(found: list[Array], outputs: list[Array], layout: str, columns: int) -> Array:
    """The rows of the only output, (1, n, at least ``columns``), more rows than columns: with
    fewer it is the other way round."""
    shape = found[0].shape if len(found) == len(outputs) == 1 else ()
    if len(shape) != 3 or shape[0] != 1 or not columns <= shape[2] <= shape[1]:
        raise _wrong(layout, outputs)
    rows: Array = found[0][0]
    return rows


def _wrong(layout: str, outputs: list[Array]) -> InputError:
    shapes = ", ".join(str(o.shape) for o in outputs[:8])
    return InputError(
        f"gives {shapes}, and the layout {layout} is {LAYOUTS[layout].outputs}; "
        f"give the file's own layout, one of {', '.join(LAYOUTS)}"
    )


def _grid(width: int, height: int) -> Array:
    """(width · height, 2) float32: column and row of each cell, row by row."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _cells(count: int, size: tuple[int, int]) -> tuple[Array, Array] | None:
    """Cells (n, 2) and strides (n, 1) of the grids of an input of that size, finest first; None
    where no usual set of strides has ``count`` cells."""
    for strides in STRIDES:
        shapes = [(-(-size[0] // s), -(-size[1] // s)) for s in strides]
        if sum(w * h for w, h in shapes) == count:
            cells = np.concatenate([_grid(w, h) for w, h in shapes])
            repeats = [w * h for w, h in shapes]
            return cells, np.repeat(np.array(strides, np.float32), repeats)[:, None]
    return None


def _best(centers: Array, sides: Array, scores: Array) -> Boxes:
    return _labelled(np.concatenate([centers - sides / 2, centers + sides / 2], axis=1), scores)


def _labelled(corners: Array, scores: Array) -> Boxes:
    labels = scores.argmax(axis=1)
    return Boxes(corners, scores[np.arange(len(scores)), labels], labels)
