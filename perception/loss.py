"""When is a target lost? Trackers seldom say so themselves (NanoTrack's answer is always yes).

Two kinds of evidence, both judged against the target's own history so that one setting serves
trackers whose scores mean different things: the score has fallen well below its usual level, or the
box has become implausible (left the image, collapsed, or grown beyond reason in one step).
"""

import numpy as np

from perception.engine import RawAnswer
from pipeline.box import FloatArray
from pipeline.tracks import TrackStatus

MIN_VISIBLE = 0.1
"""Share of a box that must lie in the image."""
MAX_SCALE_STEP = 2.0
"""Factor by which a side may change between two answers."""
MIN_SIDE_PX = 2.0
USUAL_RATE = 0.05
"""How fast the usual score follows good answers: it forgets over about 20 of them."""


class LossJudge:
    """Turns raw answers into a status; state is the usual score and the last plausible size.

    The settings are the options of the same names in ``TrackerConfig``.
    """

    def __init__(self, uncertain_ratio: float, lost_ratio: float, lost_after: int) -> None:
        self._uncertain_ratio = uncertain_ratio
        self._lost_ratio = lost_ratio
        self._lost_after = lost_after
        self._usual = 0.0
        self._size = np.ones(2)
        self._doubts = 0

    def start(self, box: FloatArray) -> None:
        """Forget all and begin with this box."""
        self._usual = 0.0
        self._size = box[2:].copy()
        self._doubts = 0

    def judge(self, answer: RawAnswer, image_size: tuple[int, int]) -> TrackStatus:
        """Status of the newest answer."""
        plausible = answer.found and self._plausible(answer.box, image_size)
        if self._usual == 0.0 and plausible:
            self._usual = answer.score
        ratio = answer.score / self._usual if self._usual > 0 else 0.0
        if not plausible or ratio < self._lost_ratio:
            self._doubts += 1
            lost = self._doubts >= self._lost_after or not answer.found
            return TrackStatus.LOST if lost else TrackStatus.UNCERTAIN
        self._doubts = 0
        self._size = answer.box[2:].copy()
        if ratio < self._uncertain_ratio:
            return TrackStatus.UNCERTAIN
        self._usual += USUAL_RATE * (answer.score - self._usual)
        return TrackStatus.TRACKED

    def _plausible(self, box: FloatArray, image_size: tuple[int, int]) -> bool:
        if not np.isfinite(box).all() or (box[2:] < MIN_SIDE_PX).any():
            return False
        change = box[2:] / self._size
        if max(change.max(), 1 / change.min()) > MAX_SCALE_STEP:
            return False
        inside = np.minimum(box[:2] + box[2:], image_size) - np.maximum(box[:2], 0)
        return bool(inside.min() > 0 and inside.prod() >= MIN_VISIBLE * box[2:].prod())
