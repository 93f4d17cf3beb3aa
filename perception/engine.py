"""The seam between a tracking algorithm and what leadsight makes of it."""

from typing import NamedTuple, Protocol

from pipeline.box import FloatArray
from pipeline.frame import Frame
from pipeline.tracks import View


class RawAnswer(NamedTuple):
    """What an engine found, before its status is judged. ``found`` is the engine's own word, view
    what its network saw, if it has one that shows it."""

    box: FloatArray
    score: float
    found: bool
    view: View | None = None


class Engine(Protocol):
    """The tracking algorithm itself; ``Tracker`` checks its input and judges its answer."""

    def start(self, frame: Frame, box: FloatArray) -> None:
        """Learn the target in ``box`` of ``frame``."""
        ...

    def aim(self, box: FloatArray) -> None:
        """Look next around ``box``; an engine that cannot be told goes on where it was."""
        ...

    def update(self, frame: Frame) -> RawAnswer:
        """Find the target in the next frame, whatever time has passed."""
        ...
