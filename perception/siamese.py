"""A Siamese tracker under onnxruntime: a backbone, a correlation head and box regression.

Runs the published NanoTrack v1, v2 and v3 files (HonglinChu/SiamTrackers, Apache-2.0); any pair of
ONNX files of the same form will do. The method is SiamBAN's (Chen et al., CVPR 2020): the head
gives, for each cell of a grid, a score and the distances to the four sides of the box.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

from perception.appearance import ScoredAppearance
from perception.engine import RawAnswer
from perception.network import Network, read_model
from pipeline.box import FloatArray
from pipeline.errors import InputError, first_line
from pipeline.frame import Frame
from pipeline.tracks import View

TEMPLATE_PX = 127
SEARCH_PX = 255
CONTEXT = 0.5
MIN_SIDE_PX = 10.0
REMEDY = "give backbone and head of the same model"


@dataclass(frozen=True)
class SiameseSettings:
    """The settings that a model was published with.

    window_influence: weight of the cosine window against the score.
    penalty: how strongly a change of size or aspect lowers a score.
    size_rate: how fast the size follows the newest answer.
    stride: pixels of the search picture from one grid cell to the next.
    """

    window_influence: float
    penalty: float
    size_rate: float
    stride: int = 16


PRESETS = {
    "nanotrack-v1": SiameseSettings(0.462, 0.148, 0.390),
    "nanotrack-v2": SiameseSettings(0.490, 0.150, 0.385),
    "nanotrack-v3": SiameseSettings(0.455, 0.138, 0.348),
}


class SiameseEngine:
    """Finds the template of the first frame in a square search region around the last answer.

    Raises:
        InputError: a file is missing, too large, no ONNX, or not of the form described above.
    """

    def __init__(
        self, backbone: Path, head: Path, settings: SiameseSettings, threads: int = 1
    ) -> None:
        self._settings = settings
        self._template_net = Network(_backbone_at(backbone, TEMPLATE_PX), backbone, threads, REMEDY)
        self._search_net = Network(_backbone_at(backbone, SEARCH_PX), backbone, threads, REMEDY)
        self._head = Network(read_model(head), head, threads, REMEDY)
        self._blobs = {px: np.zeros((1, 3, px, px), np.float32) for px in (TEMPLATE_PX, SEARCH_PX)}
        self._template = self._template_net(self._blobs[TEMPLATE_PX])[0]
        cells = self._check_form(backbone, head)
        hann = np.hanning(cells)
        self._window = np.outer(hann, hann).ravel()
        axis = (np.arange(cells) - cells // 2) * settings.stride
        self._grid = np.stack([np.tile(axis, cells), np.repeat(axis, cells)]).astype(np.float64)
        self._center = np.zeros(2)
        self._size = np.ones(2)
        self._mean: tuple[float, ...] = (0.0, 0.0, 0.0)
        self._appearance = ScoredAppearance()

    def start(self, frame: Frame, box: FloatArray) -> None:
        image = _pixels(frame)
        self._center = np.clip(box[:2] + (box[2:] - 1) / 2, 0, frame.size)
        self._size = box[2:].copy()
        self._mean = cv2.mean(image)[:3]
        self._appearance.start(frame, box)
        side = self._context_side()
        self._template = self._template_net(self._crop(image, frame.encoding, side, TEMPLATE_PX))[0]

    def aim(self, box: FloatArray) -> None:
        self._center = box[:2] + box[2:] / 2
        self._size = np.maximum(box[2:], MIN_SIDE_PX)

    def update(self, frame: Frame) -> RawAnswer:
        image = _pixels(frame)
        context = self._context_side()
        scale = TEMPLATE_PX / context
        side = context * SEARCH_PX / TEMPLATE_PX
        features = self._search_net(self._crop(image, frame.encoding, side, SEARCH_PX))[0]
        logits, sides = self._head(self._template, features)
        margin = logits[0, 0].ravel().astype(np.float64) - logits[0, 1].ravel()
        scores = 1 / (1 + np.exp(np.clip(margin, -60, 60)))
        low = self._grid - sides[0, :2].reshape(2, -1)
        high = self._grid + sides[0, 2:].reshape(2, -1)
        sizes = np.maximum(high - low, 1e-3)

        growth = _ratio(_padded_side(sizes) / _padded_side(self._size[:, None] * scale))
        aspect = _ratio((self._size[0] / self._size[1]) / (sizes[0] / sizes[1]))
        penalty = np.exp(-(growth * aspect - 1) * self._settings.penalty)
        influence = self._settings.window_influence
        best = int(np.argmax(penalty * scores * (1 - influence) + self._window * influence))

        rate = penalty[best] * scores[best] * self._settings.size_rate
        limit = np.array(frame.size, np.float64)
        center = self._center + (low[:, best] + high[:, best]) / 2 / scale
        size = self._size * (1 - rate) + sizes[:, best] / scale * rate
        self._center = np.clip(center, 0, limit)
        self._size = np.clip(size, MIN_SIDE_PX, np.maximum(limit, MIN_SIDE_PX))
        box = np.concatenate([self._center - self._size / 2, self._size])
        score = self._appearance.combine(float(scores[best]), frame, box)
        return RawAnswer(box, score, True, View(self._template[0], features[0]))

    def _context_side(self) -> float:
        """Side in pixels of the square that holds the target and its context."""
        return float(np.sqrt(np.prod(self._size + CONTEXT * self._size.sum())))

    def _crop(self, image: np.ndarray, encoding: str, side: float, px: int) -> np.ndarray:
        """The square of ``side`` pixels around the center as a (1, 3, px, px) BGR blob.

        Cut between the pixels: with whole-pixel cuts, as in the published code, the smallest shift
        of a target of 20 pixels decides whether it is lost at a distractor.
        """
        scale = px / side
        shift = (px - 1) / 2 - scale * self._center
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        patch = cv2.warpAffine(image, matrix, (px, px), borderValue=self._mean)
        blob = self._blobs[px]
        planes = patch.transpose(2, 0, 1)
        blob[0] = planes[::-1] if encoding == "rgb8" else planes
        return blob

    def _check_form(self, backbone: Path, head: Path) -> int:
        """Run once on zeros; cells along a side of the head's grid."""
        features = self._search_net(self._blobs[SEARCH_PX])[0]
        outputs = self._head(self._template, features)
        shapes = [o.shape for o in outputs]
        square = all(len(s) == 4 and s[0] == 1 and s[2] == s[3] for s in shapes)
        if len(outputs) != 2 or not square or (shapes[0][1], shapes[1][1]) != (2, 4):
            raise InputError(
                f"{head}: gives {shapes}, not scores (1, 2, n, n) and sides (1, 4, n, n): "
                f"give the head that belongs to {backbone.name}"
            )
        return int(shapes[0][2])


def _pixels(frame: Frame) -> np.ndarray:
    """The picture as it is where its three channels are in a known order; else as BGR."""
    frame.check()
    return frame.image if frame.encoding in ("rgb8", "bgr8") else frame.bgr()


def _padded_side(sizes: np.ndarray) -> Any:
    pad = CONTEXT * sizes.sum(axis=0)
    return np.sqrt((sizes[0] + pad) * (sizes[1] + pad))


def _ratio(x: np.ndarray) -> Any:
    return np.maximum(x, 1 / x)


def _backbone_at(path: Path, px: int) -> bytes:
    """The backbone with its input fixed to px × px; its inner shapes follow from it."""
    try:
        model = onnx.load_from_string(read_model(path))
        dims = model.graph.input[0].type.tensor_type.shape.dim
        if len(model.graph.input) != 1 or len(dims) != 4:
            raise InputError(
                f"{path}: has other inputs than one picture: give a tracker's backbone"
            )
        dims[2].dim_value = dims[3].dim_value = px
        del model.graph.value_info[:]
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        return bytes(model.SerializeToString())
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: is no ONNX model ({first_line(error)})") from None
