"""A UAV that follows a target by what it sees, late: what latency costs, and what forecasts save.

A simulated quadrotor with a camera in its gimbal follows a vehicle. What is seen in the frame
stamped t is known at t + base + added latency; what is commanded is obeyed an actuator's delay
later. Time is the simulation's, so a flight depends on configuration and seed only.

A box becomes a point on the ground by the gimbal's attitude and the craft's place *at its stamp*
(the ground is flat, the altitude known); there a predictor of ours (prediction/) filters it, in
decimeters in place of pixels. All arms have that, the same controller (bridges/follow.py) and the
same noise; they differ in what the controller is told:

- ``stale``: the newest answer, where it was seen from the craft, and how fast it was, as if now.
- ``at-use``: its pixels as if seen now, so with the camera's attitude of now: a stack without
  stamps.
- ``forecast``: the filter's forecast for the moment when the command is obeyed.
- ``oracle``: the truth at once, gone on for the actuators' delay as it goes.

A pilot who knows the truth flies first, and hands over when the target has been in view for a
second; figures are of what comes after. A target that is out of the picture for ``lost_s`` on end
is lost: nobody finds it again, and the rest of the time counts as out of view. One that something
hides is not out of the picture.
"""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bridges.follow import FollowConfig, Sight, behind, follow, true_sight
from bridges.loop import LoopConfig, SimulationLoop, Step
from bridges.simulator import Odometry, Sensor, SensorKind, Simulator
from bridges.view import project
from evaluation.pursuit_eyes import Eyes, Look, camera_sensors
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from pipeline.tracks import TrackStatus
from prediction.ground_target import GroundTarget, on_ground
from prediction.predictor import PredictorConfig

ARMS = ("stale", "at-use", "forecast", "oracle")
_BODY, _GIMBAL = "odometry", "gimbal"
_TARGET_HEIGHT = 0.75
"""m, of what is seen of a vehicle."""
_STEADY_NS, _PATIENCE_NS = 1_000_000_000, 30_000_000_000
"""The hand-over waits until the target has been seen for so long, but no longer than that."""
_TRAFFIC_NS = 10_000_000_000
VEHICLES = (ObjectClass.CAR, ObjectClass.TRUCK, ObjectClass.BUS)


@dataclass(frozen=True)
class PursuitConfig(Config):
    """One flight after a target."""

    seconds: float = option(20.0, "Length of the flight after the hand-over.", low=0.1, high=3600)
    hand_over_s: float = option(
        6.0, "Flown before by who knows the truth, at least.", low=2, high=60
    )
    base_ms: float = option(40.0, "From a frame to what is seen in it.", low=0, high=2000)
    added_ms: float = option(0.0, "Latency on top of that.", low=0, high=2000)
    actuator_ms: float = option(
        60.0, "From a command to what obeys it; rounded to whole ticks.", low=0, high=1000
    )
    width: int = option(320, "Of the picture, in pixels, even.", low=64, high=4096)
    height: int = option(240, "Of the picture, in pixels, even.", low=64, high=4096)
    fov_deg: float = option(20.0, "Horizontal field of view.", low=5, high=90)
    center_noise: float = option(
        0.04, "Sigma of a seen center where no tracker looks, in box sides.", low=0, high=1
    )
    size_noise: float = option(
        0.05, "Sigma of a seen side where no tracker looks, in sides.", low=0, high=1
    )
    lost_s: float = option(1.0, "Out of the picture for as long: lost.", low=0.05, high=60)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was seen in a frame. look: in pixels. pose: (4, 4) of the camera then."""

    stamp_ns: int
    ready_ns: int
    look: Look
    pose: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One flight after the hand-over. error_deg: RMS angle from the camera's axis to the target
    while it was not lost. in_view: share of the time. lost_after_s: NaN: never."""

    error_deg: float
    in_view: float
    lost_after_s: float

    @property
    def lost(self) -> bool:
        return bool(np.isfinite(self.lost_after_s))


@dataclass(frozen=True, slots=True, eq=False)
class Tick:
    """One tick of a flight. at_s: since the hand-over, NaN before it. pose: (4, 4) of the camera.
    error_deg: from its axis to the target. visible: the target's middle is in the picture."""

    at_s: float
    step: Step
    pose: FloatArray
    error_deg: float
    visible: bool


def choose_target(simulator: Simulator, seed: int) -> int:
    """A car that drives, by seed; another vehicle where no car does. Where nobody drives yet it
    lets 10 s pass.

    Raises:
        InputError: nobody drives then either.
    """
    for _ in range(1 + round(_TRAFFIC_NS / simulator.step_ns)):
        actors = simulator.moment.actors
        speeds = np.linalg.norm(actors.velocities[:, :2], axis=1)
        drives = np.isin(actors.classes, VEHICLES) & (speeds > 2.0)
        if drives.any():
            break
        simulator.tick()
    else:
        raise InputError(f"{simulator.name}: no vehicle drives here; give another seed or world")
    cars = drives & (actors.classes == ObjectClass.CAR)
    rng = np.random.default_rng([seed, 0x7A6])
    return int(rng.choice(actors.ids[cars if cars.any() else drives]))


class Flight:
    """One flight, over when its simulator is: it is closed at the end, however that comes."""

    def __init__(
        self,
        simulator: Simulator,
        target_id: int,
        eyes: Eyes,
        arm: str,
        config: PursuitConfig | None = None,
        follow_config: FollowConfig | None = None,
        predictor: PredictorConfig | None = None,
        pictures: bool = False,
    ) -> None:
        """pictures: also where the eyes need none.

        Raises:
            InputError: no such arm, or the simulator refuses the UAV.
        """
        self._simulator, self.target_id = simulator, target_id
        self._eyes, self._arm = eyes, arm
        self._config = config or PursuitConfig()
        self._follow = follow_config or FollowConfig()
        self._ground = GroundTarget(predictor)
        self._newest: Answer | None = None
        self._kinds = eyes.kinds
        if pictures and SensorKind.CAMERA not in eyes.kinds:
            self._kinds = (*eyes.kinds, SensorKind.CAMERA)
        try:
            if arm not in ARMS:
                raise InputError(f"arm {arm!r:.40}: give one of {', '.join(ARMS)}")
            pose = behind(simulator.moment, target_id, self._follow)
            self._uav = simulator.spawn(ObjectClass.UAV, pose, "follower")
        except BaseException:
            simulator.close()
            raise
        self.step_ns = step_ns = simulator.step_ns
        self._delay_ns = round(self._config.actuator_ms * 1e6 / step_ns) * step_ns

    def fly(self) -> Outcome:
        """To the end, or until the target is lost.

        Raises:
            InputError: the simulator refuses something or ends.
        """
        c, ticks = self._config, self.ticks()
        errors: list[float] = []
        seen, gone_s, lost_after_s = 0, float("nan"), float("nan")
        for tick in ticks:
            if np.isnan(tick.at_s):
                continue
            errors.append(tick.error_deg)
            seen += tick.visible
            gone_s = float("nan") if tick.visible else np.fmin(gone_s, tick.at_s)
            if tick.at_s - gone_s >= c.lost_s:
                lost_after_s = float(gone_s)
                break
        ticks.close()
        planned = max(c.seconds * 1e9 / self.step_ns, 1.0)
        rms = float(np.sqrt(np.mean(np.square(errors)))) if errors else float("nan")
        return Outcome(rms, min(seen / planned, 1.0), lost_after_s)

    def ticks(self) -> Generator[Tick, None, None]:
        """The flight, tick by tick, to its end, whether the target is lost or not."""
        c = self._config
        sensors = camera_sensors(self._kinds, self._uav, c.width, c.height, c.fov_deg)
        self.camera = sensors[0]
        sensors += [
            Sensor(SensorKind.ODOMETRY, _BODY, self._uav),
            Sensor(SensorKind.ODOMETRY, _GIMBAL, self._uav, on_gimbal=True),
        ]
        options = LoopConfig(real_time_factor=0, actuator_delay_s=self._delay_ns * 1e-9)
        with SimulationLoop(self._simulator, sensors, options) as loop:
            yield from self._ticks(loop)

    def close(self) -> None:
        """End it early."""
        self._simulator.close()

    def marks(self, tick: Tick) -> tuple[FloatArray, FloatArray, float] | None:
        """For the newest tick: where (3,) the stale arm takes the target to be at this moment,
        where the forecast does, and how old in s what both know is; None: nothing yet."""
        newest = self._newest
        if newest is None:
            return None
        now_ns = tick.step.moment.stamp_ns
        stale = self._ground.at(newest.stamp_ns)[0] - newest.pose[:3, 3] + tick.pose[:3, 3]
        return stale, self._ground.at(now_ns)[0], (now_ns - newest.stamp_ns) * 1e-9

    def _ticks(self, loop: SimulationLoop) -> Iterator[Tick]:
        c = self._config
        pending: deque[Answer] = deque()
        seeing, seen_ns, handed_ns = False, 0, -1
        begin_ns = self._simulator.moment.stamp_ns
        latency_ns = round((c.base_ms + c.added_ms) * 1e6)
        settle_ns = round(c.hand_over_s * 1e9)
        at_s = float("nan")
        while not at_s >= c.seconds:
            step = loop.step()
            now_ns = step.moment.stamp_ns
            body, gimbal = (step.readings[n].value for n in (_BODY, _GIMBAL))
            assert isinstance(body, Odometry) and isinstance(gimbal, Odometry)
            flown_ns = now_ns - begin_ns
            if not seeing:
                seeing = flown_ns > settle_ns // 2 and self._eyes.begin(step)
                seen_ns = now_ns
            elif (answer := self._answer(step, gimbal, latency_ns)) is not None:
                pending.append(answer)
            else:
                seen_ns = now_ns  # from here on anew
            while pending and pending[0].ready_ns <= now_ns:
                self._learn(pending.popleft())
            steady = seeing and now_ns - seen_ns >= _STEADY_NS
            if handed_ns < 0 and flown_ns >= settle_ns and (steady or flown_ns > _PATIENCE_NS):
                handed_ns = now_ns
            sight = self._sight(step, body, gimbal, handed_ns >= 0)
            for control in follow(sight, body, self._follow):
                loop.apply(self._uav, control)
            at_s = (now_ns - handed_ns) * 1e-9 if handed_ns >= 0 else at_s
            yield Tick(at_s, step, gimbal.pose, *self._error(step, gimbal))

    def _answer(self, step: Step, gimbal: Odometry, latency_ns: int) -> Answer | None:
        look = self._eyes.look(step)
        if look is None or self._on_ground(look, gimbal.pose) is None:
            return None
        if self._cut_off(look.box):  # its middle is not the target's
            look = replace(look, status=TrackStatus.UNCERTAIN)
        stamp_ns = step.moment.stamp_ns
        return Answer(stamp_ns, stamp_ns + latency_ns, look, gimbal.pose)

    def _learn(self, answer: Answer) -> None:
        look, matrix = answer.look, self.camera.matrix
        self._newest = answer
        self._ground.take(
            answer.stamp_ns, look.box, look.status, answer.pose, matrix, _TARGET_HEIGHT
        )

    def _on_ground(self, look: Look, pose: FloatArray) -> FloatArray | None:
        """(2,) m."""
        found = on_ground(look.box, pose, self.camera.matrix, _TARGET_HEIGHT)
        return None if found is None else found[0]

    def _cut_off(self, box: FloatArray) -> bool:
        size = np.array([self.camera.width, self.camera.height])
        return bool((box[:2] < 1).any() or (box[:2] + box[2:] > size - 1).any())

    def _sight(self, step: Step, body: Odometry, gimbal: Odometry, handed_over: bool) -> Sight:
        delay_s = self._delay_ns * 1e-9
        newest = self._newest
        if not handed_over or self._arm == "oracle" or newest is None:
            return true_sight(step.moment, self._uav, self.target_id, delay_s)
        position, own_velocity = body.pose[:3, 3], body.pose[:3, :3] @ body.velocity
        if self._arm == "forecast":
            point, velocity = self._ground.at(step.moment.stamp_ns + self._delay_ns)
            return Sight(point - (position + delay_s * own_velocity), velocity)
        point, velocity = self._ground.at(newest.stamp_ns)
        if self._arm == "at-use":
            found = self._on_ground(newest.look, gimbal.pose)
            if found is not None:
                return Sight(np.array([*found, _TARGET_HEIGHT]) - position, velocity)
        return Sight(point - newest.pose[:3, 3], velocity)

    def _error(self, step: Step, gimbal: Odometry) -> tuple[float, bool]:
        target = step.moment.pose(self.target_id)[:3, 3]
        way = target - gimbal.pose[:3, 3]
        ahead = gimbal.pose[:3, 0]
        angle = np.arctan2(np.linalg.norm(np.cross(ahead, way)), ahead @ way)
        pixel, depth = project(target, gimbal.pose, self.camera)
        size = (self.camera.width, self.camera.height)
        return float(np.degrees(angle)), bool(
            depth > 0 and (pixel >= 0).all() and (pixel < size).all()
        )
