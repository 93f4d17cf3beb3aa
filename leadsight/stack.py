"""The whole stack in one process, with the latency loop closed.

isp → predictor on every frame, isp → tracker as fast as that one can; its answers, late by then,
go to the predictor stage, which carries them to the newest frame. With ``fusion.enabled`` off it is
isp → tracker → predictor.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from isp.classical import ClassicalIsp, IspConfig
from perception.ego import GyroReport
from perception.propagator import Propagator, PropagatorConfig
from perception.target import TargetTracker
from perception.tracker import TrackerConfig
from pipeline.box import FloatArray
from pipeline.clock import Clock
from pipeline.config import Config
from pipeline.frame import Frame
from pipeline.imu import CameraCalibration, ImuSamples
from pipeline.runner import Runner, StageCount
from pipeline.span import LatencyReport, Span
from pipeline.tracks import Forecasts, Tracks
from prediction.forecaster import Forecaster
from prediction.latency import LatencyConfig, LatencyMonitor
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate

CONFIGS: dict[str, type[Config]] = {
    "isp": IspConfig,
    "tracker": TrackerConfig,
    "propagator": PropagatorConfig,
    "fusion": FusionConfig,
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
        carried = configs["fusion"].enabled
        propagator = Propagator(configs["propagator"])
        self._ego = propagator.ego
        self._carrier = TwoRate(configs["fusion"], configs["predictor"], propagator)
        self._carrying = threading.Lock()
        self.tracker = TargetTracker(configs["tracker"], clock, *([self._guide] if carried else []))
        self._forecaster = Forecaster(configs["predictor"])
        self._on_tracks = on_tracks
        self._monitor = LatencyMonitor(configs["latency"])
        self._lock = threading.Lock()
        self._on_span = on_span
        self.jumps = 0
        """Times that the frames' stamps jumped back."""

        self._runner = Runner(clock, self._take_span, *([on_error] if on_error else []))
        self._runner.add("isp", self._isp.process, reset=self._restart)
        self._runner.add("tracker", self.tracker.process, after="isp", reset=self.tracker.reset)
        if carried:
            self._runner.add("predictor", self._carry, after="isp", reset=self._forget)
            self._runner.listen("tracker", self._take_answer)
        else:
            self._runner.add(
                "predictor", self._forecast, after="tracker", reset=self._forecaster.reset
            )
            if on_tracks is not None:
                self._runner.listen("tracker", on_tracks)
        for stage, callback in (("isp", on_image), ("predictor", on_forecasts)):
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

    def feed_imu(self, samples: ImuSamples) -> None:
        """Give the propagator samples of the gyroscope, best before the frame they lead to; never
        waits. They are used where ``propagator.calibration`` says how it sits on the camera."""
        self._ego.feed(samples)

    def tell_camera(self, camera: CameraCalibration) -> None:
        """The camera of the frames, for where ``propagator.calibration`` is of another size."""
        self._ego.told = camera

    def gyro(self) -> GyroReport:
        """How the gyroscope does."""
        return self._ego.report()

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

    def _guide(self, target: int, stamp_ns: int) -> FloatArray | None:
        with self._carrying:
            return self._carrier.guide(target, stamp_ns)

    def _take_answer(self, tracks: Tracks) -> None:
        with self._carrying:
            self._carrier.answer(tracks)

    def _forget(self) -> None:
        with self._carrying:
            self._carrier.reset()

    def _carry(self, frame: Frame) -> Forecasts | None:
        with self._carrying:
            tracks = self._carrier.frame(frame)
            if not len(tracks):
                return None
            now_ns = self._clock.now_ns()
            forecasts = self._carrier.forecast(frame.stamp_ns, now_ns, self._horizons(now_ns))
        if self._on_tracks is not None:
            self._on_tracks(replace(tracks, ready_ns=now_ns))
        return forecasts

    def _forecast(self, tracks: Tracks) -> Forecasts:
        self._forecaster.observe(tracks)
        now_ns = self._clock.now_ns()
        return self._forecaster.forecast(tracks.stamp_ns, now_ns, self._horizons(now_ns))

    def _horizons(self, now_ns: int) -> dict[str, int]:
        with self._lock:
            return {h.consumer: h.ns for h in self._monitor.horizons(now_ns)}
