"""A recording of CARLA's, played behind the port: real traffic of a server, without the server.

Its vehicles and pedestrians go on as they did, at a fixed step between the recorder's irregular
frames. UAVs of ours may fly over them; nobody else is moved by them. Houses are not known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bridges.actors import Snapshot
from bridges.carla_log import BrokenLogError, CarlaLog, LogFrame
from bridges.fleet import CONTROLS, SENSES
from bridges.odometry import odometry_of
from bridges.own_simulator import OwnSimulator
from bridges.recorded import Cast, State, between, rows_of
from bridges.simulator import (
    Abilities,
    Moment,
    Reading,
    Sensor,
    SensorKind,
    SimulatorError,
    SimulatorOverError,
    Value,
)
from bridges.view import seen_boxes
from bridges.visibility import Visibility
from comms.geodesy import Origin
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

MOST_FRAMES, MOST_BYTES = 10_000, 8 << 20
"""That are read for one step."""
MOST_ACTORS = 10_000
"""At a time."""


@dataclass(frozen=True)
class RecorderConfig(Config):
    """How a recording is played."""

    step_s: float = option(0.05, "Seconds a step.", low=0.001, high=1)
    loop: bool = option(False, "Begin again at its end, instead of ending with one line.")
    latitude: float = option(49.0, "Of the map's origin, degrees.", low=-89, high=89)
    longitude: float = option(8.0, "Of the map's origin, degrees.", low=-180, high=180)


class RecorderSimulator(OwnSimulator):
    """A recording behind the port; ids are the recorder's own.

    warning: where the file breaks off, what was said of it when its end was reached; else empty.
    """

    abilities = Abilities(
        owns_clock=True,
        sensors=frozenset({SensorKind.BOXES}) | SENSES,
        spawns=frozenset({ObjectClass.UAV}),
        controls=CONTROLS,
    )

    def __init__(self, path: Path, config: RecorderConfig | None = None) -> None:
        """
        Raises:
            InputError: no recording, or not one whole frame in it.
        """
        self._config = config = config or RecorderConfig()
        super().__init__(Origin(config.latitude, config.longitude))
        self.name = f"the recording {Path(path).name}"
        self.step_ns = round(config.step_s * 1e9)
        self.warning = ""
        self._path = Path(path)
        self._nobody_hides = Visibility(())
        self._offset_s = 0.0
        self._ended = ""
        self._log = CarlaLog(self._path)
        try:
            self._rewind()
            self.town = self._log.town
            self._begin()
        except BaseException:
            self._log.close()
            raise

    def listen(self, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        self._check()
        uav = sensor.parent in self._fleet
        if not uav and (sensor.on_gimbal or sensor.kind in (SensorKind.IMU, SensorKind.GNSS)):
            self.moment.actors.row(sensor.parent)
            raise InputError(
                f"{sensor.name}: recorded actors carry no gimbal, IMU or GNSS; spawn a UAV"
            )
        super().listen(sensor, receive)

    def close(self) -> None:
        super().close()
        self._log.close()

    def _advance(self) -> None:
        following_s = (self._frame + 1) * self._config.step_s
        if self._reach(following_s - self._offset_s):
            return
        if not self._config.loop:
            over = SimulatorError if self._ended else SimulatorOverError
            raise over(
                f"{self.name}: is over after {self._frames} frames, {self._after.seconds:.2f} s"
                f"{self._ended}; play another one, or this one again with recorder.loop: true"
            )
        self._offset_s = following_s
        self._rewind()

    def _rewind(self) -> None:
        self._cast = Cast()
        self._stream: Iterator[LogFrame] = self._log.frames()
        self._gone: tuple[int, ...] = ()
        self._frames = 0
        first = self._next()
        if first is None:
            raise InputError(f"{self._path}: holds no whole frame{self._ended}; record it anew")
        self._before: State = first
        self._after: State = first

    def _next(self) -> State | None:
        """The next recorded frame; None: there is none."""
        self._cast.forget(self._gone)
        self._gone = ()
        try:
            frame = next(self._stream, None)
        except BrokenLogError as error:
            self.warning = str(error)
            self._ended = f" ({self.warning})"
            return None
        if frame is None:
            return None
        self._frames += 1
        state = self._cast.take(frame)
        self._gone = frame.removed
        if len(self._cast.bodies.ids) > MOST_ACTORS:
            raise SimulatorError(
                f"{self._path}: has more than {MOST_ACTORS} actors at {frame.seconds:g} s, which "
                "is the most; record fewer"
            )
        return state

    def _reach(self, seconds: float) -> bool:
        """Read on until ``seconds`` lies between two frames; False: the recording is over.

        Raises:
            SimulatorError: too much is recorded for one step.
        """
        frames, read = self._frames, self._log.bytes_read
        while self._after.seconds < seconds - 1e-9:
            following = self._next()
            if following is None:
                return False
            self._before, self._after = self._after, following
            many = self._frames - frames > MOST_FRAMES
            if many or self._log.bytes_read - read > MOST_BYTES:
                what = f"{MOST_FRAMES} frames" if many else f"{MOST_BYTES >> 20} MiB"
                raise SimulatorError(
                    f"{self._path}: more than {what} are recorded for one step of "
                    f"{self._config.step_s:g} s at {following.seconds:g} s; play it in shorter "
                    "steps with recorder.step_s, or record it anew"
                )
        return True

    def _world(self) -> Moment:
        stamp_ns = self._frame * self.step_ns
        seconds = self._frame * self._config.step_s - self._offset_s
        a, b = self._before, self._after
        span = b.seconds - a.seconds
        share = float(np.clip((seconds - a.seconds) / span, 0, 1)) if span > 0 else 1.0
        bodies = self._cast.bodies
        ids = (b if share >= 1 else a).ids
        row = rows_of(bodies.ids, ids)
        ids, row = ids[row >= 0], row[row >= 0]
        places, turns, velocities, rates = between(a, b, ids, share)
        arms = (turns @ bodies.centers[row, :, None])[..., 0]
        poses = np.tile(np.eye(4), (len(ids), 1, 1))
        poses[:, :3, :3], poses[:, :3, 3] = turns, places + arms
        actors = Snapshot(
            stamp_ns, ids.astype(np.int32), bodies.kinds[row], poses[:, :3, 3].copy(),
            velocities + np.cross(rates, arms), np.arctan2(poses[:, 1, 0], poses[:, 0, 0]),
            bodies.sizes[row], bodies.heroes[row],
        )  # fmt: skip
        return Moment(self._frame, actors, poses, (rates[:, None] @ turns)[:, 0])

    def _value(self, sensor: Sensor) -> Value | None:
        own = self._fleet.read(sensor)
        if own is not None:
            return own
        pose = self._fleet.pose(sensor, self.moment)
        if pose is None:
            return None
        if sensor.kind is SensorKind.ODOMETRY:
            return odometry_of(sensor, self.moment)
        if sensor.kind is not SensorKind.BOXES:
            return None
        return seen_boxes(self.moment, pose, sensor, self._nobody_hides)
