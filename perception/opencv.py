"""OpenCV's own trackers (MOSSE, KCF, CSRT and MIL need the contrib build, Nano two ONNX files)."""

import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from perception.appearance import Appearance, ScoredAppearance
from perception.engine import RawAnswer
from pipeline.box import FloatArray
from pipeline.errors import InputError, first_line
from pipeline.frame import Frame

MIN_SIDE_PX = {"mil": 5}
"""Smallest target, 2 px where not named; below it MIL looks for features without end."""
REACH = 1.5
"""How far around a target's center the trackers look, in sides."""


class OpenCvEngine:
    """One of OpenCV's trackers.

    They look for the target where they found it last and cannot be told otherwise. So each is shown
    the picture moved by whole pixels, such that the place to look at lies where it will look. A
    target that starts at the picture's edge starts on a canvas with a margin there, since its
    surroundings may come into view later.

    Only Nano gives a score; for the others the target's appearance is all there is.
    """

    def __init__(self, name: str, backbone: Path | None = None, head: Path | None = None) -> None:
        self._name = name
        self._make = _factory(name, backbone, head)
        self._tracker: Any = None
        self._box = np.zeros(4)
        self._shift = np.zeros(2, np.int64)
        self._canvas = (0, 0)
        self._appearance = ScoredAppearance() if name == "nano" else Appearance()

    def start(self, frame: Frame, box: FloatArray) -> None:
        self._tracker = self._make()
        size, middle = np.array(frame.size), box[:2] + box[2:] / 2
        reach = np.minimum(REACH * box[2:], size)
        self._shift = np.ceil(np.maximum(reach - middle, 0)).astype(np.int64)
        beyond = np.ceil(np.maximum(middle + reach - size, 0)).astype(np.int64)
        width, height = size + self._shift + beyond
        self._canvas = int(width), int(height)
        x, y = np.floor(box[:2]).astype(int) + self._shift
        w, h = np.maximum(np.round(box[2:]), 1).astype(int)
        smallest = MIN_SIDE_PX.get(self._name, 2)
        started = False
        if self._name == "mil":
            _seed_c_library()
        if min(w, h) >= smallest:
            with contextlib.suppress(cv2.error):
                shown = self._shown(frame)
                started = self._tracker.init(shown, (int(x), int(y), int(w), int(h))) is not False
        if not started:
            raise InputError(
                f"{self._name} cannot start on box {box.tolist()}: give one of at least "
                f"{smallest} pixels a side, its center inside the image"
            )
        self._box = box
        self._appearance.start(frame, box)

    def aim(self, box: FloatArray) -> None:
        """Move the picture; the size is the tracker's own affair."""
        middle = self._box[:2] + self._box[2:] / 2
        moved = np.round(middle - box[:2] - box[2:] / 2).astype(np.int64)
        self._shift = self._shift + moved
        self._box = self._box - np.array([*moved, 0, 0])

    def update(self, frame: Frame) -> RawAnswer:
        found, box = self._tracker.update(self._shown(frame))
        if not found:
            return RawAnswer(self._box, 0.0, False)
        self._box = np.array(box, np.float64)
        self._box[:2] -= self._shift
        if isinstance(self._appearance, ScoredAppearance):
            own = float(self._tracker.getTrackingScore())
            score = self._appearance.combine(own, frame, self._box)
        else:
            score = self._appearance.score(frame, self._box)
        return RawAnswer(self._box, score, True)

    def _shown(self, frame: Frame) -> npt.NDArray[np.uint8]:
        """The canvas with the picture on it; beyond its edges they go on."""
        image = frame.bgr()
        if self._canvas == frame.size and not self._shift.any():
            return image
        canvas, size = np.array(self._canvas), np.array(frame.size)
        self._shift = np.clip(self._shift, 1 - size, canvas - 1)  # a pixel of it stays in sight
        low, high = np.maximum(self._shift, 0), np.minimum(self._shift + size, canvas)
        (left, top), (right, bottom) = low - self._shift, high - self._shift
        before, after = low.tolist(), (canvas - high).tolist()
        return cv2.copyMakeBorder(  # type: ignore[return-value]
            image[top:bottom, left:right],
            before[1],
            after[1],
            before[0],
            after[0],
            cv2.BORDER_REPLICATE,
        )


def _seed_c_library() -> None:
    """MIL draws its features with C's ``rand``: without a seed each run is another one."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).srand(1)


def _factory(name: str, backbone: Path | None, head: Path | None) -> Callable[[], Any]:
    if name == "nano":
        parameters = cv2.TrackerNano_Params()  # type: ignore[attr-defined]
        parameters.backbone, parameters.neckhead = str(backbone), str(head)

        def make_nano() -> Any:
            return cv2.TrackerNano_create(parameters)  # type: ignore[attr-defined]

        try:
            trial, blank = make_nano(), np.zeros((64, 64, 3), np.uint8)
            trial.init(blank, (16, 16, 32, 32))
            trial.update(blank)
        except cv2.error as error:
            raise InputError(
                f"{backbone} and {head}: OpenCV cannot track with them ({first_line(error)}); "
                "give backbone and head of the same model"
            ) from None
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
