"""Does a box still hold the target? The evidence of loss for trackers that always say yes."""

import cv2
import numpy as np

from pipeline.box import FloatArray
from pipeline.frame import Frame

PATCH_PX = 16
TEMPLATE_RATE = 0.3
"""Share of the newest patch in the template: appearance that changes slowly is followed."""
SURE = 0.5
"""Score from which the template is renewed at that rate."""


class Appearance:
    """Normalized cross-correlation of a 16×16 gray patch with a slowly renewed template.

    doubt_rate: share of a patch in the template below ``SURE``. At 0 nothing but the target enters
    it. A tracker with a score of its own is soon right again after the target has turned.
    """

    def __init__(self, doubt_rate: float = 0.0) -> None:
        self._doubt_rate = doubt_rate
        self._template = np.zeros((PATCH_PX, PATCH_PX), np.float32)

    def start(self, frame: Frame, box: FloatArray) -> None:
        """Learn what is in the box."""
        self._template = _patch(frame, box)

    def score(self, frame: Frame, box: FloatArray) -> float:
        """How far the box's content is the target's, 0 to 1."""
        patch = _patch(frame, box)
        score = float(np.clip((patch * self._template).mean(), 0, 1))
        rate = TEMPLATE_RATE if score >= SURE else self._doubt_rate
        self._template += rate * (patch - self._template)
        self._template /= max(float(self._template.std()), 1e-3)
        return score


class ScoredAppearance(Appearance):
    """For networks whose score says that there is *something* of the kind, and stays near 1 when
    the target itself is gone: that score times a power of the appearance.

    Power and rate are a compromise: the network alone never reports loss; a stricter appearance
    takes a walking person for lost, and lost answers do not enter the predictor.
    """

    POWER = 0.7
    DOUBT_RATE = 0.05

    def __init__(self) -> None:
        super().__init__(self.DOUBT_RATE)

    def combine(self, score: float, frame: Frame, box: FloatArray) -> float:
        """0 to 1, from the network's score for this box."""
        return float(min(max(score, 0.0), 1.0) * self.score(frame, box) ** self.POWER)


def _patch(frame: Frame, box: FloatArray) -> np.ndarray:
    """(16, 16) float32 of zero mean and unit variance: the box's gray content."""
    width, height = frame.size
    center = (float(box[0] + box[2] / 2), float(box[1] + box[3] / 2))
    size = (min(max(int(box[2]), 2), 2 * width), min(max(int(box[3]), 2), 2 * height))
    image = frame.image if frame.encoding in _GRAY else frame.bgr()
    gray = cv2.cvtColor(
        cv2.getRectSubPix(image, size, center), _GRAY.get(frame.encoding, cv2.COLOR_BGR2GRAY)
    )
    patch = cv2.resize(gray, (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    patch -= patch.mean()
    return patch / max(float(patch.std()), 1e-3)


_GRAY = {"bgr8": cv2.COLOR_BGR2GRAY, "rgb8": cv2.COLOR_RGB2GRAY}
