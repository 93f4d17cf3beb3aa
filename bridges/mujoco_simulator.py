"""A town in MuJoCo behind the port: any traffic on its streets, UAVs of ours above it.

MuJoCo holds the geometry: it draws pictures, depths and truths without a display (EGL or OSMesa),
casts the LiDAR's rays, and stops crafts at walls. It moves nothing: traffic moves as its own world
says (bridges/traffic.py, bridges/sumo.py), crafts fly as in every other world (bridges/flight.py).
"""

from collections.abc import Callable

from bridges.actors import TrafficWorld
from bridges.depth_boxes import boxes_in
from bridges.fleet import CONTROLS, SENSES, fix, upright
from bridges.mujoco_gl import choose, load_mujoco
from bridges.mujoco_rays import MujocoRays
from bridges.mujoco_render import MujocoRenderer, View
from bridges.mujoco_scene import MujocoScene
from bridges.mujoco_traffic import MujocoConfig, make_traffic
from bridges.odometry import odometry_of
from bridges.own_simulator import OwnSimulator
from bridges.roads import Roads
from bridges.sensor import BayerSensor
from bridges.simulator import (
    Abilities,
    Depth,
    Moment,
    Reading,
    Sensor,
    SensorKind,
    SimulatorError,
    Value,
    refuse_sensor,
)
from comms.geodesy import Origin
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.objects import ObjectClass

SEEING = frozenset({SensorKind.CAMERA, SensorKind.DEPTH, SensorKind.BOXES})
ORIGIN = Origin(48.0, 11.0, 0.0)
MOST_POINTS = 200_000
"""Rays a turn of all LiDARs together; as many take 1.5 s."""


class MujocoSimulator(OwnSimulator):
    """The town; ``Simulator``. Every actor carries cameras, depth, boxes, LiDAR, GNSS and odometry;
    UAVs that were spawned carry an IMU as well. Who carries a sensor is not seen by it. LiDARs have
    at most ``MOST_POINTS`` together."""

    name = "the MuJoCo world"
    abilities = Abilities(
        owns_clock=True,
        sensors=SEEING | SENSES | {SensorKind.LIDAR},
        spawns=frozenset({ObjectClass.UAV}),
        controls=CONTROLS,
    )

    def __init__(
        self, config: MujocoConfig | None = None, traffic: TrafficWorld | None = None
    ) -> None:
        """traffic: a world of one's own, which is closed with this one; its step is the tick then.

        Raises:
            InputError: MuJoCo or the traffic that was asked for is missing.
        """
        self._config = config = config or MujocoConfig()
        load_mujoco()
        super().__init__(ORIGIN)
        self._traffic = traffic or make_traffic(config)
        self._renderer: MujocoRenderer | None = None
        try:
            roads = getattr(self._traffic, "roads", None) or Roads()
            self._scene = MujocoScene(self._traffic.buildings, roads, config.trees, config.seed)
            self.step_ns = round(self._traffic.step_s * 1e9)
            self._rays = MujocoRays(self._scene)
            self._names: set[str] = set()
            self._points = 0
            self._sizes: list[tuple[int, int]] = []
            self._raw: dict[str, BayerSensor] = {}
            self._town = upright(0, self._traffic.snapshot())
            self._begin()
        except BaseException:
            self.close()
            raise

    def listen(self, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        self._check()
        refuse_sensor(self, sensor, self._names)
        self.moment.actors.row(sensor.parent)
        self._fleet.pose(sensor, self.moment)
        if sensor.kind is SensorKind.IMU and sensor.parent not in self._fleet:
            raise InputError(f"{sensor.name}: only UAVs that were spawned carry an IMU here")
        points = sensor.points if sensor.kind is SensorKind.LIDAR else 0
        if self._points + points > MOST_POINTS:
            raise InputError(
                f"{sensor.name}: {points} points a turn, with {self._points} of other LiDARs, are "
                f"more than {MOST_POINTS}, the most here; give fewer points"
            )
        if sensor.kind in SEEING:
            choose(self._config.gl)
            self._reserve(sensor)
        if sensor.kind is SensorKind.CAMERA and sensor.encoding != "rgb8":
            size = sensor.width, sensor.height
            self._raw[sensor.name] = BayerSensor(sensor.encoding, size, self._config.seed)
        super().listen(sensor, receive)
        self._points += points
        self._names.add(sensor.name)

    def close(self) -> None:
        super().close()
        renderer, self._renderer = self._renderer, None
        if renderer is not None:
            renderer.close()
        try:
            self._traffic.close()
        except Exception:  # it ended by itself; there is nothing left to end
            return

    # How it goes on.

    def _fly(self) -> None:
        crafts = self._fleet.crafts
        before = [craft.position for craft in crafts]
        self._fleet.step(self.step_ns, self.moment.stamp_ns)
        for craft, position in zip(crafts, before, strict=True):
            self._rays.hold(craft, position)

    def _advance(self) -> None:
        self._town = upright(self._frame + 1, self._traffic.step(), self._town.actors)

    def _world(self) -> Moment:
        return self._town

    def _now(self) -> Moment:
        moment = super()._now()
        self._scene.put(moment)
        return moment

    # What is sensed.

    def _reserve(self, sensor: Sensor) -> None:
        self._sizes.append((sensor.width, sensor.height))
        if self._renderer is not None:
            self._renderer.reserve(sensor.width, sensor.height)

    def _drawing(self) -> MujocoRenderer:
        """Made on the thread that ticks, as a context belongs to one thread."""
        if self._renderer is None:
            c = self._config
            try:
                made = MujocoRenderer(self._scene, c.gl, c.samples)
            except InputError as error:
                raise SimulatorError(str(error)) from None
            for size in self._sizes:
                made.reserve(*size)
            self._renderer = made
        return self._renderer

    def _read(self) -> None:
        """Hand out what is due; sensors that look from one place share one drawing."""
        self._views: dict[object, View] = {}
        self._wanted: dict[object, set[SensorKind]] = {}
        for sensor in self._attached.due(self._frame):
            if sensor.kind in SEEING:
                self._wanted.setdefault(_place(sensor), set()).add(sensor.kind)
        super()._read()

    def _value(self, sensor: Sensor) -> Value | None:
        pose = self._fleet.pose(sensor, self.moment)
        if pose is None:
            return None
        if sensor.kind not in SEEING:
            return self._sense(sensor, pose)
        place = _place(sensor)
        if place not in self._views:
            kinds = self._wanted[place]
            rgb, depth = SensorKind.CAMERA in kinds, bool(kinds - {SensorKind.CAMERA})
            self._views[place] = self._drawing().draw(pose, sensor, rgb, depth, sensor.parent)
        return self._seen(sensor, pose, self._views[place])

    def _sense(self, sensor: Sensor, pose: FloatArray) -> Value | None:
        if sensor.kind is SensorKind.LIDAR:
            return self._rays.scan(sensor, pose, sensor.parent)
        if sensor.parent in self._fleet:
            return self._fleet.read(sensor)
        if sensor.kind is SensorKind.GNSS:
            return fix(ORIGIN, pose[:3, 3])
        return odometry_of(sensor, self.moment)

    def _seen(self, sensor: Sensor, pose: FloatArray, view: View) -> Value | None:
        if sensor.kind is SensorKind.CAMERA and view.rgb is not None:
            picture, raw = view.rgb, self._raw.get(sensor.name)
            image = picture if raw is None else raw.expose(picture[..., ::-1], self._frame)
            return Frame(image, self.moment.stamp_ns, sensor.encoding, self._frame, sensor.name)
        if view.depth is None:
            return None
        if sensor.kind is SensorKind.DEPTH:
            return Depth(view.depth)
        return boxes_in(self.moment, pose, sensor, view.depth)


def _place(sensor: Sensor) -> object:
    """What two sensors have in common that see the same picture."""
    return (
        sensor.parent, sensor.on_gimbal, sensor.mount.tobytes(), sensor.width, sensor.height,
        sensor.fov_deg,
    )  # fmt: skip
