"""``leadsight simulate``: a UAV follows a vehicle in any world; the flight becomes a bag."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from bridges.follow import FollowConfig, behind, follow, true_sight
from bridges.loop import LoopConfig, SimulationLoop, Step
from bridges.make_simulator import config_class, make_simulator, stage_of
from bridges.simulator import Odometry, Sensor, SensorKind, Simulator, SimulatorError
from evaluation.flight_recorder import (
    BODY,
    FlightRecorder,
    FlightWriter,
    flight_calibration,
    flight_sensors,
)
from evaluation.follow_target import choose_target
from evaluation.pursuit_eyes import CAMERA, true_box
from evaluation.video import AnnotatedVideo
from isp.config import IspConfig
from isp.make import make_isp
from leadsight.signals import ended_by_sigterm, until_signalled
from pipeline import config
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.objects import ObjectClass

_ARRIVE_S = 1.5
"""Flown before the recording begins, until the gimbal is on the target."""


@dataclass(frozen=True)
class FlightRequest:
    """What the command line asked for. source: of sumo and recorder. target: an actor's id."""

    world: str
    out: Path
    seconds: float
    seed: int
    source: str = ""
    video: Path | None = None
    target: int | None = None
    width: int = 640
    height: int = 480
    fov_deg: float = 50.0
    encoding: str = "rgb8"
    overwrite: bool = False
    settings: tuple[str, ...] = ()


def run_simulate(request: FlightRequest, console: Console) -> None:
    """Write the bag, its camera's calibration beside it, and the video where one is wanted.

    SIGINT and SIGTERM end the flight, and what was flown is written; before it has begun, nothing
    is left.

    Raises:
        InputError: a world, option or path that cannot be used.
    """
    own = stage_of(request.world)
    classes = {own: config_class(request.world), "follow": FollowConfig, "isp": IspConfig}
    configs = config.build(classes, assignments=request.settings)
    if request.video is not None and request.video.exists() and not request.overwrite:
        raise InputError(f"{request.video}: exists already; give another name or --overwrite")
    with ended_by_sigterm(), FlightWriter(request.out, request.overwrite) as writer:
        simulator = make_simulator(request.world, configs[own], request.seed, request.source)
        try:
            ended = _fly(simulator, request, configs, writer, console)
        finally:
            simulator.close()
    if ended:
        console.print(f"it ended early: {ended}", markup=False, soft_wrap=True)


def _fly(
    simulator: Simulator,
    request: FlightRequest,
    configs: dict[str, Any],
    writer: FlightWriter,
    console: Console,
) -> str:
    """The flight; why it ended early, or nothing."""
    target = choose_target(simulator, request.seed) if request.target is None else request.target
    uav = simulator.spawn(
        ObjectClass.UAV, behind(simulator.moment, target, configs["follow"]), "follower"
    )
    camera = Sensor(
        SensorKind.CAMERA, CAMERA, uav, on_gimbal=True, width=request.width, height=request.height,
        fov_deg=request.fov_deg, encoding=request.encoding,
    )  # fmt: skip
    pictures = SensorKind.CAMERA in simulator.abilities.sensors
    if request.video is not None and not pictures:
        raise InputError(f"--video: {simulator.name} makes no pictures; leave it away")
    recorder = FlightRecorder(writer, camera, target)
    film = _Film(request.video, camera, target, configs["isp"], 1e9 / simulator.step_ns)
    sensors = flight_sensors(simulator.abilities, camera)
    steps = max(1, round(request.seconds * 1e9 / simulator.step_ns))
    arriving = round(_ARRIVE_S * 1e9 / simulator.step_ns)
    flown, ended, begin = 0, "", time.monotonic()
    with (
        SimulationLoop(simulator, sensors, LoopConfig(real_time_factor=0.0)) as loop,
        film,
        until_signalled() as stopped,
    ):
        rounds = range(steps + arriving)
        for k in track(rounds, f"fly {request.world}", console=console, transient=True):
            try:
                step = loop.step()
                _steer(loop, step, uav, target, configs["follow"])
            except SimulatorError as error:
                ended = str(error)
            except InputError:
                ended = f"target {target} left the scene"
            ended = ended or ("told to by a signal" if stopped.is_set() else "")
            if ended:
                break
            if k >= arriving:
                recorder.write(step)
                film.write(step)
            flown += 1
        counts = loop.counts
    if flown <= arriving:
        raise InputError(f"{simulator.name}: {ended or 'nothing was flown'}; nothing is written")
    if pictures:
        path = request.out.with_suffix(".camchain.yaml")
        path.write_text(flight_calibration(camera), encoding="utf-8")
    wall_s = time.monotonic() - begin
    factor = flown * simulator.step_ns * 1e-9 / wall_s
    console.print(
        f"wrote {request.out}: {(flown - arriving) * simulator.step_ns * 1e-9:.1f} s, "
        f"{recorder.pictures} pictures, target {target} in {recorder.seen} of them; "
        f"{factor:.2f} times as fast as real time; sensors missing: {counts['missing']}",
        soft_wrap=True,
    )
    return ended


def _steer(loop: SimulationLoop, step: Step, uav: int, target: int, options: FollowConfig) -> None:
    """The pilot knows the truth."""
    body = step.readings[BODY].value if BODY in step.readings else None
    if isinstance(body, Odometry):
        for control in follow(true_sight(step.moment, uav, target), body, options):
            loop.apply(uav, control)


class _Film:
    """The video, where one is wanted."""

    def __init__(
        self, path: Path | None, camera: Sensor, target: int, isp: IspConfig, fps: float
    ) -> None:
        self._target, self._isp = target, make_isp(isp)
        self._video = (
            AnnotatedVideo(path, (camera.width, camera.height), fps) if path is not None else None
        )

    def write(self, step: Step) -> None:
        """The picture with the target's true box."""
        frame = step.readings[CAMERA].value if CAMERA in step.readings else None
        if self._video is None or not isinstance(frame, Frame):
            return
        found = true_box(step, self._target)
        self._video.write(self._isp.process(frame).bgr(), truth=found[0] if found else None)

    def __enter__(self) -> "_Film":
        return self

    def __exit__(self, *_: object) -> None:
        if self._video is not None:
            self._video.close()
