"""A detector of any published form: one ONNX file under onnxruntime, pictures in, boxes out."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from perception.layouts import LAYOUTS, Array, Boxes, Layout
from perception.network import Network, read_model
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.tracks import MAX_TARGETS, Detections

MIN_SIDE_PX = 1.0
MAX_INPUT_PX = 4096
MAX_CANDIDATES = 1000
"""Boxes of highest score that are compared with each other, so that no picture takes forever."""
PRESET = "preset"
REMEDY = "give a detector with one picture as its input"


@dataclass(frozen=True)
class DetectorConfig(Config):
    """Which detector file, and what it wants and says. ``preset`` and −1: as the layout's models
    were trained."""

    model: str = option("", "Path of the ONNX file; empty: the tracker follows one target.")
    layout: str = option("yolox", "What the file's outputs mean.", choices=tuple(LAYOUTS))
    min_score: float = option(0.1, "Detections below are dropped.", low=0, high=1)
    nms_iou: float = option(
        0.65, "Overlap above which the weaker of two of a class is a duplicate.", low=0, high=1
    )
    classes: tuple[int, ...] = option((-1,), "Classes to keep; -1 keeps all.", low=-1, high=32767)
    max_detections: int = option(300, "Detections of highest score kept.", low=1, high=MAX_TARGETS)
    threads: int = option(1, "Threads of the inference session.", low=1, high=64)
    input_px: int = option(
        640, "Sides of the input where the file leaves them open.", low=32, high=MAX_INPUT_PX
    )
    resize: str = option(
        PRESET,
        "Aspect kept, at the top left or in the center, or not kept.",
        choices=(PRESET, "top-left", "center", "stretch"),
    )
    channels: str = option(PRESET, "Order of the colors.", choices=(PRESET, "bgr", "rgb"))
    mean: tuple[float, ...] = option(
        (-1.0,), "Taken off the three colors, in their order; -1: preset.", low=-1, high=255
    )
    std: tuple[float, ...] = option(
        (-1.0,), "What they are divided by, then; -1: preset.", low=-1, high=255
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("mean", 0.0), ("std", 1e-3)):
            given = getattr(self, name)
            if given != (-1.0,) and (len(given) != 3 or min(given) < low):
                raise InputError(f"{name}: give three numbers of at least {low:g}, or -1 alone")


class Detector:
    """Finds objects in frames. Not thread-safe.

    Raises:
        InputError: the file is missing, too large, no ONNX model, or not of the layout named.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        self._path = Path(config.model).expanduser()
        preset = LAYOUTS[config.layout]
        self._layout = replace(
            preset,
            resize=preset.resize if config.resize == PRESET else config.resize,
            channels=preset.channels if config.channels == PRESET else config.channels,
            mean=preset.mean if config.mean == (-1.0,) else config.mean,
            std=preset.std if config.std == (-1.0,) else config.std,
        )
        self._network = Network(read_model(self._path), self._path, config.threads, REMEDY)
        self.input_size = self._input_size()
        """(width, height) of the model's input."""
        self._blob = np.zeros((1, 3, *self.input_size[::-1]), np.float32)
        self._run("a blank picture")

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that a picture of ``size`` has in the model's input."""
        return _grid(size, self.input_size, self._layout)

    def detect(self, frame: Frame) -> Detections:
        """What is in a frame, or in its ``detail`` where it has one, highest score first; in the
        frame's own pixels.

        Raises:
            InputError: no 8-bit picture, or the model's answer holds what is no number.
        """
        frame.check()
        seen = frame if frame.detail is None else frame.detail
        seen.check()
        known = seen.encoding in ("rgb8", "bgr8")
        image = seen.image if known else seen.bgr()
        order = "rgb" if seen.encoding == "rgb8" else "bgr"
        grid, offset = _fill(self._blob, image, self._layout, order)
        scale = [side / size for side, size in zip(grid, frame.size, strict=True)]
        found = self._run(f"frame {frame.index}")
        score = np.clip(found.scores, 0.0, 1.0)
        keep = score >= self._config.min_score
        if -1 not in self._config.classes:
            keep &= np.isin(found.labels, self._config.classes)
        limit = np.array([*frame.size, *frame.size], np.float64)
        corners = (found.corners.astype(np.float64) - [*offset, *offset]) / [*scale, *scale]
        corners = np.clip(corners, 0, limit)
        sides = corners[:, 2:] - corners[:, :2]
        rows = np.flatnonzero(keep & (sides >= MIN_SIDE_PX).all(axis=1))
        rows = rows[np.argsort(-score[rows], kind="stable")[:MAX_CANDIDATES]]
        boxes = np.concatenate([corners[rows, :2], sides[rows]], axis=1)
        scores, labels = score[rows], found.labels[rows]
        first = np.arange(len(rows))
        if self._layout.suppress and len(rows):
            kept = cv2.dnn.NMSBoxesBatched(
                boxes.tolist(), scores.tolist(), labels.tolist(), 0.0, self._config.nms_iou
            )
            first = np.array(kept, np.intp)
        first = first[: self._config.max_detections]
        return Detections(
            frame.stamp_ns,
            frame.index,
            frame.size,
            boxes[first],
            scores[first].astype(np.float32),
            labels[first].astype(np.int16),
        )

    def _run(self, what: str) -> Boxes:
        """The boxes in the blob, checked."""
        outputs = [np.asarray(output) for output in self._network(self._blob)]
        try:
            if not all(np.issubdtype(output.dtype, np.number) for output in outputs):
                raise InputError("gives outputs that are no arrays of numbers; export them as such")
            found = self._layout.decode([o.astype(np.float32) for o in outputs], self.input_size)
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from None
        if not (np.isfinite(found.corners).all() and np.isfinite(found.scores).all()):
            raise InputError(
                f"{self._path}: answers {what} with what is no number; see whether detector.mean, "
                "detector.std and the file itself are right"
            )
        return found

    def _input_size(self) -> tuple[int, int]:
        inputs = self._network.inputs
        shape, kind = inputs[0][1:] if len(inputs) == 1 else ([], "")
        if len(shape) != 4 or shape[0] not in (1, *_open(shape)) or kind != "tensor(float)":
            listed = ", ".join(f"{kind} {shape}" for _, shape, kind in inputs[:4])
            raise InputError(f"{self._path}: wants {listed}, not float [1, 3, h, w]; {REMEDY}")
        height, width = (s if isinstance(s, int) else self._config.input_px for s in shape[2:])
        if shape[1] not in (3, *_open(shape)) or not min(height, width) >= 32:
            raise InputError(f"{self._path}: wants {shape}, not [1, 3, h, w]; {REMEDY}")
        if max(height, width) > MAX_INPUT_PX:
            raise InputError(
                f"{self._path}: wants {width}x{height} pixels; give one of at most {MAX_INPUT_PX}"
            )
        return width, height


def _open(shape: list[Any]) -> list[Any]:
    """Sides that the file leaves open."""
    return [side for side in shape if not isinstance(side, int)]


def _grid(size: tuple[int, int], input_size: tuple[int, int], layout: Layout) -> tuple[int, int]:
    sides = [i / s for i, s in zip(input_size, size, strict=True)]
    if layout.resize != "stretch":
        sides = [min(sides)] * 2
    width, height = (max(round(a * b), 1) for a, b in zip(sides, size, strict=True))
    return width, height


def _fill(
    blob: Array, image: npt.NDArray[np.uint8], layout: Layout, order: str
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Put a picture into the model's input; returns its width and height there, and its offset."""
    height, width = blob.shape[2:]
    w, h = _grid((image.shape[1], image.shape[0]), (width, height), layout)
    resized = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    x, y = ((width - w) // 2, (height - h) // 2) if layout.resize == "center" else (0, 0)
    if (w, h) != (width, height):
        resized = cv2.copyMakeBorder(
            resized, y, height - y - h, x, width - x - w,
            cv2.BORDER_CONSTANT, value=(layout.pad,) * 3,
        )  # fmt: skip
    planes = resized.transpose(2, 0, 1)
    blob[0] = planes if order == layout.channels else planes[::-1]
    for plane, mean, std in zip(blob[0], layout.mean, layout.std, strict=True):
        if (mean, std) != (0.0, 1.0):
            plane -= mean
            plane /= std
    return (w, h), (x, y)
