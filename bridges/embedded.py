"""The embedded aerial world behind the port: no simulator to install, nothing but numpy and OpenCV.

Its town and traffic are a script; UAVs of ours fly over it, with cameras where they look.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bridges.actors import Snapshot
from bridges.fleet import CONTROLS, SENSES, sensor_pose, upright
from bridges.flight import Craft
from bridges.own_simulator import OwnSimulator
from bridges.scene import LABELS, TILE, Scene
from bridges.simulator import (
    Abilities,
    Moment,
    Reading,
    SeenBoxes,
    Sensor,
    SensorKind,
    Value,
)
from bridges.view import OPTICAL
from bridges.world import AerialWorld, WorldConfig, focus_of
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

CLASSES = np.array(
    [
        {"car": ObjectClass.CAR, "van": ObjectClass.TRUCK, "truck": ObjectClass.TRUCK,
         "bus": ObjectClass.BUS, "person": ObjectClass.PERSON}[label]
        for label in LABELS
    ],
    np.uint8,
)  # fmt: skip
"""``ObjectClass`` of the world's labels."""
_STEP_OF_SPEED_S = 0.05


class EmbeddedSimulator(OwnSimulator):
    """The town of ``WorldConfig``; its camera's own flight is not used. Actor k has id k + 1."""

    name = "the embedded world"
    abilities = Abilities(
        owns_clock=True,
        sensors=frozenset({SensorKind.CAMERA, SensorKind.BOXES}) | SENSES,
        spawns=frozenset({ObjectClass.UAV}),
        controls=CONTROLS,
    )

    def __init__(self, config: WorldConfig | None = None, scene: Scene | None = None) -> None:
        """scene: another world's of the same configuration, which takes a second to build."""
        super().__init__()
        self._config = config = config or WorldConfig()
        self._aerial = AerialWorld(config, scene)
        self.step_ns = self._aerial.period_ns
        self.target_id = self._aerial.target_id + 1
        self._cameras: dict[str, AerialWorld] = {}
        self._made: dict[WorldConfig, AerialWorld] = {}
        parts = self._aerial.scene.actors.parts
        flat = parts.reshape(len(parts), -1, 3)
        self._sizes: FloatArray = np.maximum(flat.max(axis=1) - flat.min(axis=1), 0.1)
        self._begin()

    def listen(self, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        self._check()
        if sensor.parent not in self._fleet:
            self.moment.actors.row(sensor.parent)
            raise InputError(f"{sensor.name}: only UAVs that were spawned carry sensors here")
        sees = sensor.kind in (SensorKind.CAMERA, SensorKind.BOXES)
        camera = self._camera(sensor) if sees else None
        super().listen(sensor, receive)
        if camera is not None:
            self._cameras[sensor.name] = camera

    def close(self) -> None:
        super().close()
        self._cameras.clear()
        self._made.clear()

    def _advance(self) -> None:
        pass  # where everybody is follows from the tick alone

    def _camera(self, sensor: Sensor) -> AerialWorld:
        """Sensors of the same optics share one, as each holds a picture and a sensor's noise."""
        raw = self._config.encoding if sensor.encoding == "rgb8" else sensor.encoding
        config = replace(  # where the scripted camera would fly does not matter
            self._config, width=sensor.width, height=sensor.height, encoding=raw,
            fov_deg=sensor.fov_deg, pitch_deg=80.0, altitude_m=15.0,
        )  # fmt: skip
        if config not in self._made:
            self._made[config] = AerialWorld(config, self._aerial.scene)
        return self._made[config]

    def _value(self, sensor: Sensor) -> Value | None:
        if sensor.name not in self._cameras:
            return self._fleet.read(sensor)
        world, craft = self._cameras[sensor.name], self._fleet.craft(sensor.parent)
        pose = sensor_pose(sensor, craft.pose, craft)
        moved, turn = np.eye(4), np.eye(4)
        turn[:3, :3] = OPTICAL.T
        # While the shutter is open a camera in a gimbal moves, and turns as the gimbal does.
        half_s = world.exposure_s / 2
        moved[:3, 3] = half_s * craft.velocity
        later = moved @ pose
        rates = pose[:3, :3] @ (craft.gimbal_rates if sensor.on_gimbal else craft.rates)
        later[:3, :3] += half_s * np.cross(rates, pose[:3, :3], axisb=0, axisc=0)
        if sensor.kind is SensorKind.CAMERA:
            return world.shoot(self._frame, pose @ turn, later @ turn, sensor.encoding)
        boxes, visibility = world.boxes_from(self._frame, pose @ turn)
        seen = np.flatnonzero(np.isfinite(boxes[:, 0]))
        classes = CLASSES[self._aerial.scene.actors.label[seen]]
        return SeenBoxes(seen.astype(np.int32) + 1, classes, boxes[seen], visibility[seen])

    def _world(self) -> Moment:
        return upright(self._frame, self._town())

    def _town(self) -> Snapshot:
        """The actors, each the copy nearest to where the gimbal of any UAV looks."""
        scene, seconds = self._aerial.scene, self._frame * self.step_ns * 1e-9
        pose = scene.poses(seconds)
        h = _STEP_OF_SPEED_S
        change = (scene.poses(seconds + h) - scene.poses(seconds - h))[:, :2]
        velocity = (change - TILE * np.round(change / TILE)) / (2 * h)
        xy = pose[:, :2]
        crafts = self._fleet.crafts
        if crafts:
            foci = np.array([_focus(craft) for craft in crafts])
            away = xy[:, None] - foci
            away -= TILE * np.round(away / TILE)
            nearest = np.linalg.norm(away, axis=2).argmin(axis=1)
            xy = foci[nearest] + away[np.arange(len(xy)), nearest]
        sizes, n = self._sizes, len(pose)
        return Snapshot(
            self._aerial.stamp_ns(self._frame), np.arange(1, n + 1, dtype=np.int32),
            CLASSES[scene.actors.label],
            np.column_stack([xy, sizes[:, 2] / 2]), np.column_stack([velocity, np.zeros(n)]),
            pose[:, 2], sizes, np.zeros(n, bool),
        )  # fmt: skip


def _focus(craft: Craft) -> FloatArray:
    """(2,) the point of the ground that its gimbal looks at."""
    optical = craft.gimbal_pose.copy()
    optical[:3, :3] = optical[:3, :3] @ OPTICAL.T
    return focus_of(optical)
