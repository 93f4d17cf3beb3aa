"""Pictures and depths of a MuJoCo scene from any pose, without a display, on one thread."""

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bridges.mujoco_gl import context, load_mujoco
from bridges.mujoco_model import FAR_M, NEAR_M, SOLID
from bridges.mujoco_scene import MujocoScene
from bridges.simulator import Sensor
from pipeline.box import FloatArray

_FONT = 100
_SPARE_GEOMS = 64
_UNSEEN = 5
"""Group of geoms that are out of view."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a camera saw. rgb: (H, W, 3) uint8; None: not asked for. depth: (H, W) float32, m along
    the view, inf where nothing is; None: not asked for."""

    rgb: npt.NDArray[np.uint8] | None
    depth: npt.NDArray[np.float32] | None


class MujocoRenderer:
    """Draws one scene. Make it, use it and close it on one thread."""

    def __init__(self, scene: MujocoScene, gl: str, samples: int) -> None:
        """samples: to a pixel, against jagged edges; 0: one.

        Raises:
            InputError: nothing can be drawn on this machine.
        """
        self._mujoco: Any = load_mujoco()
        self._scene, self._samples = scene, samples
        self._size = (16, 16)
        self._held: list[Any] = [context(gl, *self._size)]  # and what draws in it
        self._end = weakref.finalize(self, _give_back, self._held)
        self._version = -1

    def reserve(self, width: int, height: int) -> None:
        """Room for pictures of that size, before the first of them is drawn."""
        self._size = max(self._size[0], width), max(self._size[1], height)
        self._version = -1

    def draw(self, pose: FloatArray, sensor: Sensor, rgb: bool, depth: bool, hide: int = 0) -> View:
        """What a camera at ``pose`` (4, 4), x along its view, sees. hide: an actor, 0: nobody."""
        flags = self._prepare(pose, sensor, hide)
        plain = not rgb  # flat colors draw faster, and depth is the same
        flags["mjRND_SEGMENT"] = flags["mjRND_IDCOLOR"] = plain
        self._set(flags)
        picture = np.empty((sensor.height, sensor.width, 3), np.uint8) if rgb else None
        far = np.empty((sensor.height, sensor.width), np.float32) if depth else None
        self._render(sensor, picture, far)
        return View(
            None if picture is None else np.ascontiguousarray(picture[::-1]),
            None if far is None else _meters(far[::-1]),
        )

    def segments(self, pose: FloatArray, sensor: Sensor, hide: int = 0) -> npt.NDArray[np.int32]:
        """(H, W) the actor that each pixel shows; 0: none.

        What boxes and visibility are checked against: the drawn truth, pixel by pixel, which no
        sensor hands out.
        """
        flags = self._prepare(pose, sensor, hide)
        flags["mjRND_SEGMENT"] = flags["mjRND_IDCOLOR"] = True
        self._set(flags)
        picture = np.empty((sensor.height, sensor.width, 3), np.uint8)
        self._render(sensor, picture, None)
        numbers = picture[::-1].astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        owners = self._scene.owners()
        table = np.zeros(self._view.ngeom + 1, np.int32)
        for geom in self._view.geoms[: self._view.ngeom]:
            if geom.segid >= 0 and geom.objtype == self._mujoco.mjtObj.mjOBJ_GEOM:
                table[geom.segid + 1] = owners[geom.objid]
        found: npt.NDArray[np.int32] = table[np.clip(numbers, 0, len(table) - 1)]
        return found

    def close(self) -> None:
        """Give everything back; a second time it does nothing."""
        self._end()

    def _prepare(self, pose: FloatArray, sensor: Sensor, hide: int) -> dict[str, bool]:
        """What is in view, loaded and placed; the flags of a plain picture."""
        mj, scene = self._mujoco, self._scene
        self._held[0].make_current()
        if self._version != scene.version:
            self._load()
        groups = scene.model.geom_group
        before = groups.copy()
        groups[~in_view(scene.data.geom_xpos, scene.model.geom_rbound, pose, sensor)] = _UNSEEN
        groups[scene.geoms_of(hide)] = _UNSEEN
        mj.mjv_updateScene(
            scene.model, scene.data, self._option, None, self._camera,
            int(mj.mjtCatBit.mjCAT_ALL), self._view,
        )  # fmt: skip
        groups[:] = before
        self._aim(pose, sensor)
        return {
            "mjRND_SHADOW": False, "mjRND_REFLECTION": False, "mjRND_SKYBOX": True,
            "mjRND_FOG": True, "mjRND_HAZE": False, "mjRND_SEGMENT": False, "mjRND_IDCOLOR": False,
        }  # fmt: skip

    def _load(self) -> None:
        mj, model = self._mujoco, self._scene.model
        if len(self._held) > 1:
            self._held.pop().free()
        model.vis.global_.offwidth, model.vis.global_.offheight = self._size
        model.vis.quality.offsamples = self._samples
        self._drawer = mj.MjrContext(model, _FONT)
        self._held.append(self._drawer)
        mj.mjr_setBuffer(int(mj.mjtFramebuffer.mjFB_OFFSCREEN), self._drawer)
        self._drawer.readDepthMap = mj.mjtDepthMap.mjDEPTH_ZEROFAR
        self._view = mj.MjvScene(model, maxgeom=model.ngeom + _SPARE_GEOMS)
        self._option, self._camera = mj.MjvOption(), mj.MjvCamera()
        self._option.geomgroup[:] = 1
        self._option.geomgroup[[SOLID, _UNSEEN]] = 0
        self._version = self._scene.version

    def _set(self, flags: dict[str, bool]) -> None:
        for name, on in flags.items():
            self._view.flags[int(getattr(self._mujoco.mjtRndFlag, name))] = on

    def _aim(self, pose: FloatArray, sensor: Sensor) -> None:
        half = NEAR_M * sensor.height / 2 / sensor.matrix[0, 0]
        for eye in self._view.camera:
            eye.pos, eye.forward, eye.up = pose[:3, 3], pose[:3, 0], pose[:3, 2]
            eye.frustum_near, eye.frustum_far, eye.frustum_center = NEAR_M, FAR_M, 0.0
            eye.frustum_bottom, eye.frustum_top = -half, half

    def _render(
        self, sensor: Sensor, rgb: npt.NDArray[np.uint8] | None,
        depth: npt.NDArray[np.float32] | None,
    ) -> None:  # fmt: skip
        rect = self._mujoco.MjrRect(0, 0, sensor.width, sensor.height)
        self._mujoco.mjr_render(rect, self._view, self._drawer)
        self._mujoco.mjr_readPixels(rgb, depth, rect, self._drawer)


def in_view(
    middles: FloatArray, radii: FloatArray, pose: FloatArray, sensor: Sensor
) -> npt.NDArray[np.bool_]:
    """(G,) which spheres reach into a camera's pyramid; pose: (4, 4), x along its view."""
    ahead, left, up = ((middles - pose[:3, 3]) @ pose[:3, :3]).T
    seen = (ahead > -radii) & (ahead < FAR_M + radii)
    for aside, pixels in ((left, sensor.width), (up, sensor.height)):
        slope = pixels / 2 / sensor.matrix[0, 0]
        seen &= np.abs(aside) - slope * ahead <= radii * np.hypot(1.0, slope)
    return np.asarray(seen)


def _meters(buffer: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """From a reversed depth buffer, 1 near and 0 far, to meters."""
    near, far = NEAR_M, FAR_M
    meters = np.float32(near * far) / (buffer * np.float32(far - near) + np.float32(near))
    meters[buffer <= 0] = np.inf
    return meters


def _give_back(held: list[Any]) -> None:
    """Also at the end of the interpreter, before the libraries that it needs are gone."""
    try:
        held[0].make_current()
        while held:
            held.pop().free()
    except Exception:  # the driver is gone already, and with it what it held
        held.clear()
