"""Node ``pipeline``: the whole stack in one process; images go from stage to stage by reference."""

import dataclasses
import sys
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from leadsight_msgs.msg import Exposure, ForecastArray, LatencyReport, TrackArray
from leadsight_msgs.msg import Span as SpanMessage
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image

from isp.exposure import Advice
from leadsight.stack import CONFIGS, Stack
from llm_edge.make_reasoner import STAGES as REASONER
from perception.tracker import TrackerConfig
from pipeline.config import Config
from pipeline.frame import Frame
from pipeline.span import Span
from pipeline.tracks import Forecasts, Tracks
from ros_nodes import messages, process, qos
from ros_nodes.image_topics import ReceivedImage, subscribe
from ros_nodes.imu import ImuInput, gyro_diagnostics
from ros_nodes.latency_monitor import MonitorConfig, diagnostics_of
from ros_nodes.parameters import Live
from ros_nodes.select import TargetSelection
from ros_nodes.stage import STEADY, Stage


class PipelineNode(Node):
    """Feeds the stack and publishes what comes out; ``image`` only while somebody subscribes."""

    def __init__(self) -> None:
        super().__init__("pipeline")
        live: dict[str, Live[Any, Any]] = {}
        elsewhere = ("v2x", "ground", "scene", *REASONER)
        stages = {name: cls for name, cls in CONFIGS.items() if name not in elsewhere}
        for name, cls in (stages | {"latency_monitor": MonitorConfig}).items():
            live[name] = Live(self, name, cls, lambda config: config, _fixed(cls))
        self._tracker_options = live["tracker"]
        self._frame_id = ""
        self._stage = Stage(self, lambda: None)
        overrides = QoSOverridingOptions.with_default_policies()
        self._images = self.create_publisher(
            Image, "image", qos.images(), qos_overriding_options=overrides
        )
        self._tracks = self.create_publisher(TrackArray, "tracks", qos.results())
        self._forecasts = self.create_publisher(ForecastArray, "forecasts", qos.results())
        self._exposure = self.create_publisher(Exposure, "isp/exposure", qos.results())
        self._latency = self.create_publisher(LatencyReport, "latency", qos.results(1))
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.results())
        self._stage_spans = {
            stage: self.create_publisher(SpanMessage, f"{stage}/span", qos.results())
            for stage in ("isp", "tracker", "predictor")
        }
        for stage in {*live["latency"].config.stages} - {*self._stage_spans}:
            self.create_subscription(SpanMessage, f"{stage}/span", self._hear, qos.results())
        self._stack = Stack(
            {name: options.config for name, options in live.items()},
            self._stage.clock,
            self._on_image,
            self._on_tracks,
            self._on_forecasts,
            self._on_span,
            lambda stage, text: self._stage.complain(f"{stage}: {text}"),
            self._on_exposure,
        )
        calibrated = bool(live["propagator"].config.calibration)
        self._imu = ImuInput(self, self._stack, self._stage.complain) if calibrated else None
        self._selection = TargetSelection(self)
        self._selection.tracker = self._stack.tracker
        self._selection.choose = self._stack.select_detection
        self._jumps = 0
        self._stack.start()
        subscribe(self, "image_raw", self._receive, self._stage, overrides)
        self.create_subscription(Exposure, "isp/camera_state", self._tell, qos.results())
        self.create_timer(1 / live["latency_monitor"].config.rate_hz, self._report, clock=STEADY)
        self.create_timer(1.0, self._diagnose, clock=STEADY)

    def destroy_node(self) -> None:
        self._stack.stop()
        super().destroy_node()

    def _receive(self, message: ReceivedImage, info: Any) -> None:
        self._stage.handle(message.header, info, lambda index: self._feed(message, index))

    def _feed(self, message: ReceivedImage, index: int) -> bool:
        frame = messages.frame_of(message, index)
        self._frame_id = frame.frame_id
        if self._imu is not None:
            self._imu.poll()
        self._stack.tracker.extra_delay_s = self._tracker_options.config.extra_delay_ms * 1e-3
        self._stack.feed(frame)
        if self._stack.jumps > self._jumps:
            self._jumps = self._stack.jumps
            self._selection.forget()
        return False  # the stages report their own spans

    def _on_image(self, frame: Frame) -> None:
        self._selection.remember(frame)
        if self._images.get_subscription_count():
            self._images.publish(messages.image_of(frame))

    def _on_tracks(self, tracks: Tracks) -> None:
        self._tracks.publish(messages.tracks_message(tracks, self._frame_id))

    def _on_forecasts(self, forecasts: Forecasts) -> None:
        self._forecasts.publish(messages.forecasts_message(forecasts, self._frame_id))

    def _on_exposure(self, advice: Advice) -> None:
        if self._exposure.get_subscription_count():
            self._exposure.publish(messages.exposure_message(advice, self._frame_id))

    def _tell(self, message: Exposure) -> None:
        """What the camera does now; where that cannot be, advice is relative."""
        camera = None
        with self._stage.complaining():
            camera = messages.camera_state_of(message)
        self._stack.tell_exposure(camera)

    def _on_span(self, span: Span) -> None:
        self._stage_spans[span.stage].publish(messages.span_message(span, self._frame_id))

    def _hear(self, message: SpanMessage) -> None:
        """The span of a stage in another process, which uses the forecasts."""
        with self._stage.complaining():
            self._stack.report_span(messages.span_of(message))

    def _report(self) -> None:
        self._latency.publish(messages.report_message(self._stack.report()))

    def _diagnose(self) -> None:
        report = self._stack.report()
        status = diagnostics_of(report, self.get_namespace())
        if self._imu is not None:
            status.append(gyro_diagnostics(self._stack.gyro(), self.get_namespace()))
        self._diagnostics.publish(
            DiagnosticArray(header=messages.header(report.stamp_ns), status=status)
        )


def _fixed(cls: type[Config]) -> list[str]:
    """Options that are read once. The added delay may change while running."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return [n for n in names if not (cls is TrackerConfig and n == "extra_delay_ms")]


def main() -> None:
    sys.exit(process.run(PipelineNode))


if __name__ == "__main__":
    main()
