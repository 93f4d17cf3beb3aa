"""The whole stack in one process, with the latency loop closed.

isp → predictor on every frame, isp → tracker as fast as that one can; its answers, late by then,
go to the predictor stage, which carries them to the newest frame. With ``fusion.enabled`` off it is
isp → tracker → predictor.

With ``detector.model`` the tracker stage detects, and all targets are followed; once one of them is
selected, the tracker stage tracks that one, and detects again when it is lost. With ``isp.mode``
task_aware the detector gets a view of its own, all others the whole picture.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

from comms.config import V2xConfig
from comms.ground import GroundConfig
from isp.config import IspConfig
from isp.exposure import Advice, CameraState, ExposureAdvisor, ExposureConfig
from isp.make import make_isp
from isp.task_aware import TaskAwareIsp
from llm_edge.make_reasoner import STAGES as REASONER
from llm_edge.scene_source import SourceConfig
from perception.detector import Detector, DetectorConfig
from perception.ego import GyroReport
from perception.propagator import Propagator, PropagatorConfig
from perception.target import TargetTracker
from perception.tracker import TrackerConfig
from pipeline.box import FloatArray
from pipeline.clock import Clock
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.imu import CameraCalibration, ImuSamples
from pipeline.runner import Runner, StageCount
from pipeline.span import Horizon, LatencyReport, Span
from pipeline.tracks import Detections, Forecasts, Tracks, TrackStatus
from prediction.association import Association, AssociationConfig
from prediction.forecaster import Forecaster
from prediction.latency import MAX_AGE_NS, LatencyConfig, LatencyMonitor
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig, TwoRate

CONFIGS: dict[str, type[Config]] = {
    "isp": IspConfig,
    "exposure": ExposureConfig,
    "tracker": TrackerConfig,
    "detector": DetectorConfig,
    "association": AssociationConfig,
    "propagator": PropagatorConfig,
    "fusion": FusionConfig,
    "predictor": PredictorConfig,
    "latency": LatencyConfig,
    "v2x": V2xConfig,
    "ground": GroundConfig,
    "scene": SourceConfig,
    **REASONER,
}
"""Every stage with its configuration, as ``pipeline.config.build`` takes them. V2X with the ground
on which it places tracks, and reasoning with its scene, are nodes of their own (ros_nodes/v2x.py,
ros_nodes/reasoner.py) and no part of the stack below."""


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
        on_exposure: Callable[[Advice], None] | None = None,
    ) -> None:
        if configs["propagator"].memory < configs["fusion"].memory:
            raise InputError(
                "propagator.memory: give at least fusion.memory, or late answers cannot be traced"
            )
        self._clock = clock
        carried = configs["fusion"].enabled
        ids = count()
        self._detector = Detector(configs["detector"]) if configs["detector"].model else None
        self._on_error = on_error
        self._isp = make_isp(
            configs["isp"],
            self._detector.grid if self._detector else None,
            partial(on_error, "isp") if on_error is not None else None,
        )
        if configs["isp"].ignored and on_error is not None:
            on_error("isp", configs["isp"].ignored)
        self._isp_problem = self._isp_found = ""
        self._advisor = ExposureAdvisor(configs["exposure"])
        self._on_exposure = on_exposure
        association = Association(configs["association"], ids)
        propagator = Propagator(configs["propagator"])
        self._ego = propagator.ego
        self._carrier = TwoRate(configs["fusion"], configs["predictor"], propagator, association)
        self._carrying = threading.Lock()
        self._shown: tuple[Frame | None, Tracks] | None = None
        guide = self._guide if carried else lambda target, stamp_ns: None
        self.tracker = TargetTracker(configs["tracker"], clock, guide, ids)
        self._forecaster = Forecaster(configs["predictor"], association)
        self._on_tracks = on_tracks
        self._monitor = LatencyMonitor(configs["latency"])
        self._probabilities = configs["latency"].probabilities
        self._lock = threading.Lock()
        self._on_span = on_span
        self.jumps = 0
        """Times that the frames' stamps jumped back."""

        self._runner = Runner(clock, self._take_span, *([on_error] if on_error else []))
        self._runner.add("isp", self._develop, reset=self._restart)
        self._runner.add("tracker", self._track, after="isp", reset=self.tracker.reset)
        if carried:
            self._runner.add("predictor", self._carry, after="isp", reset=self._forget)
            self._runner.listen("tracker", self._take_answer)
        else:
            self._runner.add("predictor", self._forecast, after="tracker", reset=self._forget)
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

    def tell_exposure(self, camera: CameraState | None) -> None:
        """What the camera does now; None where it is not known, so that advice is relative."""
        self._advisor.camera = camera

    def gyro(self) -> GyroReport:
        """How the gyroscope does."""
        return self._ego.report()

    def select_detection(self, target: int) -> int:
        """Let the tracker follow one of the targets that are published; its identity stays.

        Once it is lost, the detector takes over again.

        Raises:
            InputError: no detector runs here, or no such target is published now.
        """
        if self._detector is None:
            raise InputError("no detector runs here: set detection_id to -1 and give a box")
        shown = self._shown
        ids = shown[1].ids.tolist() if shown is not None else []
        if shown is None or target not in ids:
            raise InputError(
                f"detection_id {target}: no such target among the newest tracks; there are "
                f"{', '.join(map(str, ids[:20])) or 'none'}"
            )
        frame, tracks = shown
        box = tracks.boxes[ids.index(target)]
        return self.tracker.select(box, tracks.image_size, frame, target)

    def report(self) -> LatencyReport:
        """The latency monitor's view of this moment."""
        with self._lock:
            return self._monitor.report(self._clock.now_ns())

    def report_span(self, span: Span) -> None:
        """Take what a stage outside of this stack, one that uses the forecasts, reports of itself.

        Raises:
            InputError: a stage that is not among ``latency.stages`` or runs here, or times that
                cannot be.
        """
        if span.stage in self._runner.counts():
            raise InputError(
                f"span of stage {span.stage!r:.40}: it runs here and speaks for itself"
            )
        if span.end_ns > self._clock.now_ns() + MAX_AGE_NS:  # would stand in the way of later ones
            raise InputError(
                f"span of stage {span.stage!r:.40} ends over a minute from now; "
                "give all stages one clock"
            )
        with self._lock:
            self._monitor.add(span)

    def counts(self) -> dict[str, StageCount]:
        """Frames handled, dropped and failed, by stage."""
        return self._runner.counts()

    def _restart(self) -> None:
        """The first stage has seen the stamps jump back; the others see it for themselves."""
        self.jumps += 1
        self._isp.reset()
        self._advisor.reset()
        with self._lock:
            self._monitor.reset()

    def _take_span(self, span: Span) -> None:
        with self._lock:
            self._monitor.add(span)
        if self._on_span is not None:
            self._on_span(span)

    def _develop(self, frame: Frame) -> Frame:
        picture = self._isp.process(frame)
        if self._isp.found != self._isp_found:
            self._isp_found = self._isp.found
            if self._isp_found and self._on_error is not None:
                self._on_error("isp", self._isp_found)
        chosen = self._isp.chosen if isinstance(self._isp, TaskAwareIsp) else None
        if chosen is None:
            return picture
        if chosen.problem != self._isp_problem:
            self._isp_problem = chosen.problem
            if chosen.problem and self._on_error is not None:
                self._on_error("isp", chosen.problem)
        if self._on_exposure is not None:
            shown = self._shown
            if shown is not None:
                self._advisor.see(shown[1])
            advice = self._advisor.advise(frame.stamp_ns, frame.size[0], chosen)
            if advice is not None:
                self._on_exposure(advice)
        return picture

    def _track(self, frame: Frame) -> Tracks | Detections | None:
        tracks = self.tracker.process(frame)
        if self._detector is None:
            return tracks
        if tracks is None:
            time.sleep(self.tracker.extra_delay_s)
            return self._detector.detect(frame)
        if tracks.status[0] == TrackStatus.LOST:
            self.tracker.reset()
        return tracks

    def _guide(self, target: int, stamp_ns: int) -> FloatArray | None:
        with self._carrying:
            return self._carrier.guide(target, stamp_ns)

    def _take_answer(self, found: Tracks | Detections) -> None:
        with self._carrying:
            self._carrier.answer(found)

    def _forget(self) -> None:
        self._shown = None
        with self._carrying:
            self._carrier.reset()
        self._forecaster.reset()

    def _carry(self, frame: Frame) -> Forecasts | None:
        with self._carrying:
            tracks = self._carrier.frame(frame)
            self._shown = frame, tracks
            if not len(tracks):
                return None
            now_ns = self._clock.now_ns()
            forecasts = self._carrier.forecast(
                frame.stamp_ns, now_ns, self._horizons(now_ns), self._probabilities
            )
        if self._on_tracks is not None:
            self._on_tracks(replace(tracks, ready_ns=self._clock.now_ns()))
        return forecasts

    def _forecast(self, found: Tracks | Detections) -> Forecasts | None:
        tracks = self._forecaster.observe(found)
        if tracks is None:
            return None
        self._shown = None, tracks
        now_ns = self._clock.now_ns()
        if self._on_tracks is not None and len(tracks):
            self._on_tracks(
                tracks if isinstance(found, Tracks) else replace(tracks, ready_ns=now_ns)
            )
        return self._forecaster.forecast(
            tracks.stamp_ns, now_ns, self._horizons(now_ns), self._probabilities
        )

    def _horizons(self, now_ns: int) -> dict[str, Horizon]:
        with self._lock:
            return {h.consumer: h for h in self._monitor.horizons(now_ns)}
