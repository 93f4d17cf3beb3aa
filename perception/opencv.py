"""OpenCV's own trackers (MOSSE, KCF, CSRT and MIL need the contrib build, Nano two ONNX files)."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from perception.engine import RawAnswer
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.frame import Frame

PATCH_PX = 16
TEMPLATE_RATE = 0.3
"""Share of the newest patch in the template: appearance that changes slowly is followed."""
SURE = 0.5
"""Score from which the template is renewed; what is not the target must not enter it."""
MIN_SIDE_PX = {"mil": 5}
"""Smallest target, 2 px where not named; below it MIL looks for features without end."""


class OpenCvEngine:
    """One of OpenCV's trackers.

    All but Nano give no score, so it is the normalized cross-correlation of a 16×16 gray patch
    with a slowly renewed template of the target, clipped to 0 … 1.
    """

    def __init__(self, name: str, backbone: Path | None = None, head: Path | None = None) -> None:
        self._name = name
        self._make = _factory(name, backbone, head)
        self._tracker = self._make()
        self._box = np.zeros(4)
        self._template = np.zeros((PATCH_PX, PATCH_PX), np.float32)

    def start(self, frame: Frame, box: FloatArray) -> None:
        image = frame.bgr()
        self._tracker = self._make()
        x, y = np.floor(box[:2]).astype(int)
        w, h = np.maximum(np.round(box[2:]), 1).astype(int)
        smallest = MIN_SIDE_PX.get(self._name, 2)
        started = False
        if min(w, h) >= smallest:
            with contextlib.suppress(cv2.error):
                started = self._tracker.init(image, (int(x), int(y), int(w), int(h))) is not False
        if not started:
            raise InputError(
                f"{self._name} cannot start on box {box.tolist()}: give one of at least "
                f"{smallest} pixels a side, its center inside the image"
            )
        self._box = box
        self._template = _patch(image, box)

    def update(self, frame: Frame) -> RawAnswer:
        image = frame.bgr()
        found, box = self._tracker.update(image)
        if not found:
            return RawAnswer(self._box, 0.0, False)
        self._box = np.array(box, np.float64)
        if self._name == "nano":
            score = float(self._tracker.getTrackingScore())
            return RawAnswer(self._box, min(max(score, 0.0), 1.0), True)
        patch = _patch(image, self._box)
        score = float(np.clip((patch * self._template).mean(), 0, 1))
        if score >= SURE:
            self._template += TEMPLATE_RATE * (patch - self._template)
            self._template /= max(float(self._template.std()), 1e-3)
        return RawAnswer(self._box, score, True)


def _factory(name: str, backbone: Path | None, head: Path | None) -> Callable[[], Any]:
    if name == "nano":
        parameters = cv2.TrackerNano_Params()  # type: ignore[attr-defined]
        parameters.backbone, parameters.neckhead = str(backbone), str(head)

        def make_nano() -> Any:
            try:
                return cv2.TrackerNano_create(parameters)  # type: ignore[attr-defined]
            except cv2.error as error:
                raise InputError(f"{backbone}: OpenCV cannot load it ({error.err})") from None

        return make_nano
    try:
        if name == "mosse":
            return cv2.legacy.TrackerMOSSE_create  # type: ignore[attr-defined,no-any-return]
        return getattr(cv2, f"Tracker{name.upper()}_create")  # type: ignore[no-any-return]
    except AttributeError:
        raise InputError(
            f"this OpenCV {cv2.__version__} has no {name} tracker: "
            "install opencv-contrib-python-headless"
        ) from None


def _patch(image: np.ndarray, box: FloatArray) -> np.ndarray:
    """(16, 16) float32 of zero mean and unit variance: the box's gray content."""
    center = (float(box[0] + box[2] / 2), float(box[1] + box[3] / 2))
    size = (max(int(box[2]), 2), max(int(box[3]), 2))
    height, width = image.shape[:2]
    size = (min(size[0], 2 * width), min(size[1], 2 * height))
    gray = cv2.cvtColor(cv2.getRectSubPix(image, size, center), cv2.COLOR_BGR2GRAY)
    patch = cv2.resize(gray, (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    patch -= patch.mean()
    return patch / max(float(patch.std()), 1e-3)
