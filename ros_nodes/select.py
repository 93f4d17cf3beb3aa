"""The ``~/select`` service: which target to follow, by a box in an image of the recent past."""

from collections import deque
from collections.abc import Callable
from typing import Any

from leadsight_msgs.srv import Select
from rclpy.node import Node

from perception.target import TargetTracker
from pipeline.errors import InputError
from pipeline.frame import Frame

REMEMBERED_FRAMES = 12


class TargetSelection:
    """Remembers the newest frames, so that a box may refer to one that has just gone by.

    ``tracker`` is None while the node cannot track. ``choose`` takes a target's identity where a
    detector runs.
    """

    def __init__(self, node: Node) -> None:
        self.tracker: TargetTracker | None = None
        self.choose: Callable[[int], int] | None = None
        self._frames: deque[Frame] = deque(maxlen=REMEMBERED_FRAMES)
        node.create_service(Select, "~/select", self._answer)

    def remember(self, frame: Frame) -> None:
        """Note a frame that the tracker is going to see."""
        self._frames.append(frame)

    def forget(self) -> None:
        """Drop all frames: time jumped back."""
        self._frames.clear()

    def _answer(self, request: Any, response: Any) -> Any:
        try:
            response.track_id = self._select(request)
            response.success = True
        except InputError as error:
            response.track_id, response.success, response.message = -1, False, str(error)
        return response

    def _select(self, request: Any) -> int:
        if self.tracker is None:
            raise InputError("the tracker is not active: configure and activate it first")
        if request.detection_id >= 0:
            if self.choose is None:
                raise InputError("no detector runs here: set detection_id to -1 and give a box")
            return self.choose(request.detection_id)
        if not self._frames:
            raise InputError("no image has come yet: check the topic that the tracker subscribes")
        frames = [f for f in tuple(self._frames) if request.stamp_ns in (0, f.stamp_ns)]
        if not frames:
            raise InputError(
                f"no image of stamp {request.stamp_ns} among the last {len(self._frames)}: "
                "give the stamp of a recent one, or 0 for the newest"
            )
        return self.tracker.select(request.box, frame=frames[-1])
