"""Rays through a MuJoCo scene: what a LiDAR measures, and where a craft meets a wall."""

from typing import Any

import numpy as np

from bridges.flight import Craft
from bridges.mujoco_gl import load_mujoco
from bridges.mujoco_model import MOVING, SOLID
from bridges.mujoco_scene import MujocoScene
from bridges.simulator import Points, Sensor
from pipeline.box import FloatArray

LOWEST_DEG, HIGHEST_DEG = -30.0, 10.0
"""Of a LiDAR's channels."""
CRAFT_M = 0.5
"""From a craft's middle to what it touches."""
_GROUPS = 6


class MujocoRays:
    """Of one scene."""

    def __init__(self, scene: MujocoScene) -> None:
        self._mujoco: Any = load_mujoco()
        self._scene = scene
        self._seen = _groups(SOLID, MOVING)
        self._still = _groups(SOLID)
        # The argument for normals came with a later MuJoCo.
        self._normals = "normal:" in (self._mujoco.mj_multiRay.__doc__ or "")

    def scan(self, sensor: Sensor, pose: FloatArray, carrier: int) -> Points:
        """One turn of a LiDAR at ``pose`` (4, 4). Rays that meet nothing in range give no point;
        intensity is the cosine at which a ray meets a surface. It does not see its carrier."""
        rays = directions(sensor.channels, max(1, sensor.points // sensor.channels))
        n = len(rays)
        met, distance = np.full(n, -1, np.int32), np.full(n, -1.0)
        normals = np.zeros((n, 3))
        world = rays @ pose[:3, :3].T
        options: dict[str, Any] = {"normal": normals.reshape(-1)} if self._normals else {}
        self._mujoco.mj_multiRay(
            self._scene.model, self._scene.data, pnt=pose[:3, 3].copy(), vec=world.reshape(-1),
            geomgroup=self._seen, flg_static=True, bodyexclude=self._scene.body_id(carrier),
            geomid=met, dist=distance, nray=n, cutoff=sensor.range_m, **options,
        )  # fmt: skip
        hit = (distance >= 0) & (distance <= sensor.range_m)
        xyz = (rays[hit] * distance[hit, None]).astype(np.float32)
        strength = np.abs((normals[hit] * world[hit]).sum(axis=1)) if self._normals else 1.0
        return Points(xyz, np.clip(np.broadcast_to(strength, len(xyz)), 0, 1).astype(np.float32))

    def hold(self, craft: Craft, before: FloatArray) -> None:
        """Stop a craft that flew from ``before`` (3,) into a house, a tree or the ground."""
        way = craft.position - before
        length = float(np.linalg.norm(way))
        if length < 1e-6:
            return
        met = np.zeros(1, np.int32)
        distance = self._mujoco.mj_ray(
            self._scene.model, self._scene.data, before, way / length, self._still, True, -1, met
        )
        if 0 <= distance < length + CRAFT_M:
            craft.position = before + way / length * max(0.0, distance - CRAFT_M)
            craft.velocity[:] = 0.0


def directions(channels: int, columns: int) -> FloatArray:
    """(channels × columns, 3) unit vectors, x ahead; a turn counter-clockwise for each channel."""
    up = np.radians(np.linspace(LOWEST_DEG, HIGHEST_DEG, channels) if channels > 1 else [0.0])
    round_ = 2 * np.pi * np.arange(columns) / columns
    up, round_ = (a.ravel() for a in np.meshgrid(up, round_, indexing="ij"))
    rays: FloatArray = np.stack(
        [np.cos(up) * np.cos(round_), np.cos(up) * np.sin(round_), np.sin(up)], axis=1
    )
    return rays


def _groups(*seen: int) -> Any:
    chosen = np.zeros(_GROUPS, np.uint8)
    chosen[list(seen)] = 1
    return chosen
