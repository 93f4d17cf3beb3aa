"""Node ``latency_monitor``: every ``<stage>/span`` → ``latency`` and ``/diagnostics``."""

import sys
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from leadsight_msgs.msg import LatencyReport as ReportMessage
from leadsight_msgs.msg import Span as SpanMessage
from rclpy.node import Node

from pipeline.clock import RosClock
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.span import LatencyReport, LatencyStatus, StageLatency
from prediction.latency import LatencyConfig, LatencyMonitor
from ros_nodes import messages, process, qos
from ros_nodes.parameters import Live
from ros_nodes.stage import STEADY, watch_jumps_back


@dataclass(frozen=True)
class MonitorConfig(Config):
    """How often the monitor speaks."""

    rate_hz: float = option(10.0, "Latency reports a second.", low=1, high=50)


class LatencyMonitorNode(Node):
    """Feeds the monitor and publishes what it says. A stage not heard of is WARN, never OK."""

    def __init__(self) -> None:
        super().__init__("latency_monitor")
        self._monitor = Live(
            self, "latency", LatencyConfig, LatencyMonitor, ("stages", "consumers")
        )
        config = Live(
            self, "latency_monitor", MonitorConfig, lambda config: config, ("rate_hz",)
        ).config
        self._now = RosClock(self.get_clock())
        self._ends: dict[str, int] = {}
        self._reports = self.create_publisher(ReportMessage, "latency", qos.results(1))
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.results())
        for stage in self._monitor.config.stages:
            self.create_subscription(SpanMessage, f"{stage}/span", self._receive, qos.results())
        self.create_timer(1 / config.rate_hz, self._report, clock=STEADY)
        self.create_timer(1.0, self._diagnose, clock=STEADY)
        self._jumps = watch_jumps_back(self, lambda _: self._restart())

    def _receive(self, message: SpanMessage) -> None:
        try:
            span = messages.span_of(message)
            self._monitor.made.check(span)
            if span.end_ns < self._ends.get(span.stage, 0):
                self._restart()
            self._monitor.made.add(span)
            self._ends[span.stage] = span.end_ns
        except InputError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)

    def _restart(self) -> None:
        self.get_logger().warning("time jumped back: starting afresh", throttle_duration_sec=1.0)
        self._monitor.made.reset()
        self._ends.clear()

    def _report(self) -> None:
        self._reports.publish(
            messages.report_message(self._monitor.made.report(self._now.now_ns()))
        )

    def _diagnose(self) -> None:
        now_ns = self._now.now_ns()
        report = self._monitor.made.report(now_ns)
        self._diagnostics.publish(
            DiagnosticArray(
                header=messages.header(now_ns), status=diagnostics_of(report, self.get_namespace())
            )
        )


_MEANING = {
    LatencyStatus.ESTIMATED: "measured",
    LatencyStatus.PRIOR: "too few spans so far: is the stage running?",
    LatencyStatus.STALE: "no spans any more: has the stage stopped?",
}


def diagnostics_of(report: LatencyReport, namespace: str) -> list[DiagnosticStatus]:
    """One status a stage; anything but a fresh estimate is a warning."""
    return [
        DiagnosticStatus(
            level=(
                DiagnosticStatus.OK
                if stage.status == LatencyStatus.ESTIMATED
                else DiagnosticStatus.WARN
            ),
            name=f"{namespace.rstrip('/')}/latency/{stage.stage}",
            message=_MEANING[stage.status],
            hardware_id="leadsight",
            values=_values(stage),
        )
        for stage in report.stages
    ]


def _values(stage: StageLatency) -> list[KeyValue]:
    milliseconds = {
        "age median [ms]": stage.median_ns,
        "age p90 [ms]": stage.p90_ns,
        "age p99 [ms]": stage.p99_ns,
        "jitter [ms]": stage.jitter_ns,
        "work median [ms]": stage.work_median_ns,
    }
    return [
        *(KeyValue(key=k, value=f"{v * 1e-6:.2f}") for k, v in milliseconds.items()),
        KeyValue(key="rate [Hz]", value=f"{stage.rate_hz:.1f}"),
        KeyValue(key="dropped", value=str(stage.drops)),
    ]


def main() -> None:
    sys.exit(process.run(LatencyMonitorNode))


if __name__ == "__main__":
    main()
