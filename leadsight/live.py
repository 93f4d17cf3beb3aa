"""Run the stack in real time on frames at hand, and keep what it said."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from leadsight.stack import Stack
from pipeline.clock import WallClock
from pipeline.frame import Frame
from pipeline.runner import StageCount
from pipeline.span import LatencyReport
from pipeline.tracks import Forecasts, Tracks


@dataclass
class Flight:
    """What came out of a live run. Times are of the wall clock; ``start_ns`` is frame 0's stamp."""

    start_ns: int = 0
    tracks: list[Tracks] = field(default_factory=list)
    forecasts: list[Forecasts] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    report: LatencyReport | None = None
    counts: dict[str, StageCount] = field(default_factory=dict)


def fly(
    frames: list[Frame],
    box: Any,
    configs: dict[str, Any],
    progress: Callable[[int], None] = lambda n: None,
) -> Flight:
    """Feed frames at their own pace, stamped as if they came from a camera now.

    box: (4,) the target in the first frame. ``progress`` is told each frame fed.
    """
    clock = WallClock()
    flight = Flight()
    lock = threading.Lock()

    def keep(items: list[Any]) -> Callable[[Any], None]:
        def append(item: Any) -> None:
            with lock:
                items.append(item)

        return append

    stack = Stack(
        configs,
        clock,
        on_tracks=keep(flight.tracks),
        on_forecasts=keep(flight.forecasts),
        on_error=lambda stage, text: keep(flight.errors)((stage, text)),
    )
    stack.tracker.select(box)
    stack.start()
    flight.start_ns = clock.now_ns()
    try:
        for frame in frames:
            due_ns = flight.start_ns + frame.stamp_ns - frames[0].stamp_ns
            time.sleep(max(due_ns - clock.now_ns(), 0) * 1e-9)
            stack.feed(replace(frame, stamp_ns=due_ns))
            progress(1)
    finally:
        flight.report = stack.report()
        stack.stop()
    flight.counts = stack.counts()
    return flight
