"""Node ``predictor``: ``tracks`` → ``forecasts``, as far ahead as ``latency`` says."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
from leadsight_msgs.msg import ForecastArray, LatencyReport, TrackArray
from rclpy.node import Node

from pipeline.span import Horizon
from pipeline.tracks import ForecastStatus
from prediction.forecaster import Forecaster
from prediction.latency import LatencyConfig, LatencyMonitor
from prediction.predictor import PredictorConfig
from ros_nodes import messages, process, qos
from ros_nodes.parameters import Live
from ros_nodes.stage import STEADY, Stage

REPORT_SILENT_NS = 2_000_000_000
"""Twice the longest period of ``latency_monitor``; of real time, in which that one reports."""


class PredictorNode(Node):
    """One forecast for each consumer, whenever tracks arrive."""

    def __init__(self) -> None:
        super().__init__("predictor")
        self._forecaster = Live(self, "predictor", PredictorConfig, Forecaster)
        self._latency = Live(self, "latency", LatencyConfig, _priors)
        self._stage = Stage(self, self._reset)
        self._horizons: dict[str, Horizon] = {}
        self._reported_ns: int | None = None
        self._forecasts = self.create_publisher(ForecastArray, "forecasts", qos.results())
        self.create_subscription(TrackArray, "tracks", self._receive, qos.results())
        self.create_subscription(LatencyReport, "latency", self._adjust, qos.results(1))

    def _receive(self, message: TrackArray, info: Any) -> None:
        self._stage.handle(message.header, info, lambda _: self._forecast(message))

    def _forecast(self, message: TrackArray) -> bool:
        tracks = messages.tracks_of(message)
        forecaster = self._forecaster.made
        forecaster.observe(tracks)
        horizons = self._latency.made
        measured = (
            self._reported_ns is not None
            and STEADY.now().nanoseconds - self._reported_ns < REPORT_SILENT_NS
        )
        if measured:
            horizons = horizons | self._horizons
        now_ns = self._stage.clock.now_ns()
        asked = self._latency.config.probabilities
        forecasts = forecaster.forecast(tracks.stamp_ns, now_ns, horizons, asked)
        if not measured:
            status = np.maximum(forecasts.status, np.uint8(ForecastStatus.PRIOR))
            forecasts = replace(forecasts, status=status)
        self._forecasts.publish(messages.forecasts_message(forecasts, message.header.frame_id))
        return True

    def _adjust(self, message: LatencyReport) -> None:
        with self._stage.complaining():
            report = messages.report_of(message)
            # Horizons of consumers that are not configured would only grow the forecasts.
            known = [h for h in report.horizons if h.consumer in self._latency.made]
            if not self._latency.config.distribution:
                known = [replace(h, quantiles_ns=()) for h in known]
            self._horizons = {h.consumer: h for h in known}
            self._reported_ns = STEADY.now().nanoseconds

    def _reset(self) -> None:
        self._forecaster.made.reset()
        self._horizons = {}
        self._reported_ns = None


def _priors(config: LatencyConfig) -> dict[str, Horizon]:
    """Each consumer's horizon before the monitor speaks."""
    return {h.consumer: h for h in LatencyMonitor(config).horizons(0)}


def main() -> None:
    sys.exit(process.run(PredictorNode))


if __name__ == "__main__":
    main()
