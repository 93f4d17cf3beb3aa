"""What the stages' nodes share: spans, diagnostics, and a guard that keeps the stream going."""

import re
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from leadsight_msgs.msg import Span as SpanMessage
from rclpy.clock import Clock, ClockType, JumpHandle, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node

from pipeline.clock import RosClock
from pipeline.errors import InputError
from pipeline.span import Span
from ros_nodes import messages, qos

MAX_KINDS = 64
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
"""For what must tick in real time, even while a simulated clock stands still."""


def watch_jumps_back(node: Node, callback: Callable[[TimeJump], None]) -> JumpHandle:
    """Call back when the node's time goes back, for as long as the handle is kept."""
    back = JumpThreshold(
        min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
    )
    return node.get_clock().create_jump_callback(back, post_callback=callback)


class StampedClock(RosClock):
    """A node's clock that is never behind the stamps it has seen.

    A simulated clock comes as messages of its own, which may arrive after the image they go with.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node.get_clock())
        self._ros_clock = node.get_clock()
        self._newest_ns = 0

    def now_ns(self) -> int:
        now_ns = super().now_ns()
        return max(now_ns, self._newest_ns) if self._ros_clock.ros_time_is_active else now_ns

    def see(self, stamp_ns: int) -> None:
        """Note a stamp; one before the last means that time has jumped back."""
        self._newest_ns = stamp_ns


class Stage:
    """One node's work on a stream of stamped messages.

    Publishes ``<stage>/span`` for each message handled and a line of ``/diagnostics`` a second. A
    message that cannot be used costs one line and is counted; the next one is handled as ever. When
    time jumps back (a bag that loops, a simulator restarted) ``reset`` is called.
    """

    def __init__(self, node: Node, reset: Callable[[], None]) -> None:
        self.name = node.get_name()
        self.clock = StampedClock(node)
        self._node = node
        self._reset = reset
        self._last_stamp_ns: int | None = None
        self._last_number = 0
        self._dropped = 0
        self._handled = self._failed = self._dropped_total = 0
        self._problem = ""
        self._silent_until: dict[str, float] = {}
        self.fault = ""
        """Why the node cannot work at all, until it can."""

        self._spans = node.create_publisher(SpanMessage, f"{self.name}/span", qos.results())
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", qos.results())
        node.create_timer(1.0, self._diagnose, clock=STEADY)
        self._jumps = watch_jumps_back(node, self._jumped)

    def handle(self, head: Any, info: Any, work: Callable[[int], bool]) -> None:
        """Do ``work(index)`` for one message and report it; ``work`` says whether it gave a result.

        index: the number of the message in its publisher's stream, from 0.
        """
        index = self._count(info)
        try:
            stamp_ns = messages.stamp_of(head)
            if self._last_stamp_ns is not None and stamp_ns < self._last_stamp_ns:
                self.restart((self._last_stamp_ns - stamp_ns) * 1e-9)
            self._last_stamp_ns = stamp_ns
            self.clock.see(stamp_ns)
            start_ns = self.clock.now_ns()
            gave_result = work(index)
        except InputError as error:
            self.complain(str(error))
            return
        except Exception as error:
            self.complain(f"{type(error).__name__}: {error}")
            self._node.get_logger().error(traceback.format_exc())
            return
        self._handled += 1
        if gave_result:
            self.report(stamp_ns, start_ns, head.frame_id)

    def report(self, stamp_ns: int, start_ns: int, frame_id: str) -> None:
        """A span that ends now, of work on what was acquired at ``stamp_ns``."""
        span = Span(self.name, stamp_ns, start_ns, self.clock.now_ns(), self._dropped)
        self._dropped = 0
        self._spans.publish(messages.span_message(span, frame_id))

    @contextmanager
    def complaining(self) -> Iterator[None]:
        """Where the work inside finds its message unusable, that is counted and said, no more."""
        try:
            yield
        except InputError as error:
            self.complain(str(error))

    def complain(self, text: str) -> None:
        """Count a message that could not be used, and say why."""
        self._failed += 1
        self.warn(text)

    def warn(self, text: str) -> None:
        """Say what is amiss; a line a second of each kind at most, whatever numbers are in it."""
        self._problem = text
        kind, now = re.sub(r"[-\d.]+", "", text), time.monotonic()
        if now < self._silent_until.get(kind, 0.0):
            return
        if len(self._silent_until) >= MAX_KINDS:
            self._silent_until.clear()
        self._silent_until[kind] = now + 1.0
        self._node.get_logger().warning(text)

    def restart(self, seconds: float) -> None:
        """Time went back."""
        self.clock.see(0)
        self._last_stamp_ns = None
        self._node.get_logger().warning(f"time jumped back by {seconds:.3f} s: starting afresh")
        self._reset()

    def _count(self, info: Any) -> int:
        number = int(info["publication_sequence_number"])
        missed = number - self._last_number - 1
        if self._last_number and 0 < missed < 1 << 20:
            self._dropped += missed
            self._dropped_total += missed
        self._last_number = number
        return max(0, number - 1)

    def _jumped(self, jump: TimeJump) -> None:
        self.restart(-jump.delta.nanoseconds * 1e-9)

    def _diagnose(self) -> None:
        level = DiagnosticStatus.WARN if self._problem else DiagnosticStatus.OK
        status = DiagnosticStatus(
            level=DiagnosticStatus.ERROR if self.fault else level,
            name=self._node.get_fully_qualified_name(),
            message=self.fault or self._problem or "running",
            hardware_id="leadsight",
            values=[
                KeyValue(key="handled", value=str(self._handled)),
                KeyValue(key="dropped", value=str(self._dropped_total)),
                KeyValue(key="unusable", value=str(self._failed)),
            ],
        )
        self._problem = ""
        head = messages.header(self.clock.now_ns())
        self._diagnostics.publish(DiagnosticArray(header=head, status=[status]))
