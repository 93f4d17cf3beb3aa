"""The whole stack in one process: isp → tracker → predictor, with the latency loop closed."""

import threading
from collections.abc import Callable
from typing import Any

from isp.classical import ClassicalIsp, IspConfig
from perception.target import TargetTracker
from perception.tracker import TrackerConfig
from pipeline.clock import Clock
from pipeline.config import Config
from pipeline.frame import Frame
from pipeline.runner import Runner, StageCount
from pipeline.span import LatencyReport, Span
from pipeline.tracks import Forecasts, Tracks
from prediction.forecaster import Forecaster
from prediction.latency import LatencyConfig, LatencyMonitor
from prediction.predictor import PredictorConfig

CONFIGS: dict[str, type[Config]] = {
    "isp": IspConfig,
    "tracker": TrackerConfig,
    "predictor": PredictorConfig,
    "latency": LatencyConfig,
}
"""Every stage of the stack with its configuration, as ``pipeline.config.build`` takes them."""


class Stack:
    """Frames in, forecasts out, each stage on its own thread.

    The predictor forecasts for the horizons that the latency monitor measures on the very spans of
    these stages. Callbacks run on the stages' threads and must be quick.
    """

    def __init__(
        self,
        configs: dict[str, Any],
        clock: Clock,
        on_image: Callable[[Frame], None] | None = None,
        on_tracks: Callable[[Tracks], None] | None = None,
        on_forecasts: Callable[[Forecasts], None] | None = None,
        on_span: Callable[[Span], None] | None = None,
        on_error: Callable[[str, str], None] | None = None,
    ) -> None:
        self._clock = clock
        self._isp = ClassicalIsp(configs["isp"])
        self.tracker = TargetTracker(configs["tracker"], clock)
        self._forecaster = Forecaster(configs["predictor"])
        self._monitor = LatencyMonitor(configs["latency"])
        self._lock = threading.Lock()
        self._on_span = on_span
        self.jumps = 0
        """Times that the frames' stamps jumped back."""

        self._runner = Runner(clock, self._take_span, *([on_error] if on_error else []))
        self._runner.add("isp", self._isp.process, reset=self._restart)
        self._runner.add("tracker", self.tracker.process, after="isp", reset=self.tracker.reset)
        self._runner.add("predictor", self._forecast, after="tracker", reset=self._forecaster.reset)
        for stage, callback in (
            ("isp", on_image),
            ("tracker", on_tracks),
            ("predictor", on_forecasts),
        ):
            if callback is not None:
                self._runner.listen(stage, callback)

    def start(self) -> None:
        """Start the stages' threads."""
        self._runner.start()

    def stop(self) -> None:
        """Let the stages finish what they hold and end."""
        self._runner.stop()

    def feed(self, frame: Frame) -> None:
        """Give the stack its newest frame; never waits.

        A stamp before the last one means that the source began anew (a bag that loops): targets,
        motion and latencies are forgotten.
        """
        self._runner.feed("isp", frame)

    def report(self) -> LatencyReport:
        """The latency monitor's view of this moment."""
        with self._lock:
            return self._monitor.report(self._clock.now_ns())

    def counts(self) -> dict[str, StageCount]:
        """Frames handled, dropped and failed, by stage."""
        return self._runner.counts()

    def _restart(self) -> None:
        """The first stage has seen the stamps jump back; the others see it for themselves."""
        self.jumps += 1
        self._isp.reset()
        with self._lock:
            self._monitor.reset()

    def _take_span(self, span: Span) -> None:
        with self._lock:
            self._monitor.add(span)
        if self._on_span is not None:
            self._on_span(span)

    def _forecast(self, tracks: Tracks) -> Forecasts:
        self._forecaster.observe(tracks)
        now_ns = self._clock.now_ns()
        with self._lock:
            horizons = {h.consumer: h.ns for h in self._monitor.horizons(now_ns)}
        return self._forecaster.forecast(tracks.stamp_ns, now_ns, horizons)
