"""The embedded world: an aerial camera over a small town, for demos and tests.

It needs nothing but numpy and OpenCV. Frame k depends only on (configuration, seed, k), so frames
can be asked for in any order. It looks like aerial footage so that real trackers run on it; it
makes **no accuracy claims**: figures measured on it say that software works, not how well.

Frames of reference: the world is east-north-up in meters, the camera x right, y down, z forward
(REP-103, optical). Pixel (0, 0) is the center of the first pixel in matrices; boxes are continuous
and start at the first pixel's corner, so a box covers exactly the pixels it names.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bridges import scene as town
from bridges.sensor import ENCODINGS, BayerSensor
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.imu import CameraCalibration, GyroCalibration, ImuSamples

CAMERA_FROM_IMU = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
_NOISE_BLOCK = 256
_MAX_INDEX = 1 << 31
_SEEN = 0.1
_PERSON = town.LABELS.index("person")
_FAR = 115.0
"""Meters beyond the focus up to which the nearest copy of each thing is the only one in view."""
_NEAREST = 1.0
_REACH = 6.5
"""Half of the longest actor, in meters."""
_MARGIN = 30
"""Pixels outside the image from which a shadow or headlights may still reach in."""
_LEAFY = 0.88
"""Share of a crown's radius that hides what is behind."""
_FACES = np.array([[0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7], [4, 5, 6, 7]])
_CORNERS = np.array(
    [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], bool
)

Image = npt.NDArray[Any]


@dataclass(frozen=True)
class WorldConfig(Config):
    """The embedded world's options."""

    seed: int = option(0, "Number that everything random follows from.", low=0, high=2**31)
    width: int = option(1280, "Image width in pixels, even.", low=64, high=4096)
    height: int = option(720, "Image height in pixels, even.", low=64, high=4096)
    rate_hz: float = option(30.0, "Frames a second.", low=1, high=1000)
    encoding: str = option("bayer_rggb12", "Bayer order and bits.", choices=ENCODINGS)
    start_ns: int = option(0, "Stamp of frame 0 in nanoseconds.", low=0, high=2**62)
    altitude_m: float = option(52.0, "Height of the camera above ground.", low=15, high=120)
    pitch_deg: float = option(47.0, "How far the camera looks down.", low=30, high=80)
    fov_deg: float = option(58.0, "Horizontal field of view.", low=5, high=90)
    wander_px: float = option(150.0, "How far the target strays from the center.", low=0, high=1000)
    pace: float = option(1.0, "Factor on how fast the camera wanders.", low=0.1, high=20)
    shake_px: float = option(1.2, "Amplitude of the camera's vibration.", low=0, high=20)
    vehicles: int = option(24, "Vehicles on the road; the first is the target.", low=1, high=30)
    people: int = option(10, "People on the sidewalks.", low=0, high=100)
    occlusions: bool = option(True, "Trees and a footbridge over the target's road.")
    night: bool = option(False, "Street lamps, a long exposure and high gain.")
    noise: float = option(1.0, "Factor on the sensor's noise; 0 for none.", low=0, high=10)
    gyro_hz: float = option(500.0, "Samples of the gyroscope a second.", low=1, high=10_000)
    gyro_noise: float = option(
        3e-4, "Density of the gyroscope's noise in rad/s/√Hz; 0 for none.", low=0, high=1
    )
    gyro_bias: tuple[float, ...] = option(
        (0.004, -0.007, 0.002), "What the gyroscope says at rest, rad/s, x y z.", low=-0.5, high=0.5
    )
    gyro_offset_ms: float = option(
        0.0, "A gyroscope's stamp minus the frame's of the same moment.", low=-1000, high=1000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.gyro_bias) != 3:
            raise InputError(f"gyro_bias: {len(self.gyro_bias)} numbers, give three")
        if self.width % 2 or self.height % 2:
            raise InputError(f"width, height: {self.width}x{self.height} is odd, give even numbers")
        focal = self.width / (2 * np.tan(np.radians(self.fov_deg) / 2))
        top = np.radians(self.pitch_deg) - np.arctan(self.height / 2 / focal) - 0.06
        focus = self.altitude_m / np.tan(np.radians(self.pitch_deg))
        if top <= 0.02 or self.altitude_m / np.tan(top) - focus > _FAR:
            raise InputError(
                f"pitch_deg {self.pitch_deg:g} at altitude_m {self.altitude_m:g} and fov_deg "
                f"{self.fov_deg:g} sees past the town; look down more, fly lower or narrow the view"
            )


@dataclass(frozen=True, slots=True, eq=False)
class WorldTruth:
    """What is where in frame ``index``, exactly, at the middle of its exposure.

    boxes: (N, 4) float64, x y w h in pixels, around what is drawn of the actor, clipped to the
        image; NaN where less than a tenth of it can be seen.
    ids: (N,) int32, the same in every frame. labels: (N,) int16, index into ``scene.LABELS``.
    visibility: (N,) float64, the share of the actor inside the image and not hidden.
    camera_pose: (4, 4), camera to world. homography: (3, 3), ground pixels of the previous frame
        to this one's.
    """

    index: int
    stamp_ns: int
    boxes: FloatArray
    ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int16]
    visibility: FloatArray
    camera_pose: FloatArray
    homography: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class WorldFrame(WorldTruth):
    """A RAW frame and its truth; on request ``bgr``, (H, W, 3), the picture before the sensor."""

    frame: Frame
    bgr: Image | None


@dataclass(frozen=True, slots=True, eq=False)
class _Camera:
    """position: (3,) m. axes: (3, 3) rows right, down, forward. focal, center: pixels."""

    position: FloatArray
    axes: FloatArray
    focal: float
    center: FloatArray

    def project(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """World points (..., 3) → pixels (..., 2) and depths (...) in meters."""
        seen = (points - self.position) @ self.axes.T
        depth = np.maximum(seen[..., 2], 0.1)
        return self.focal * seen[..., :2] / depth[..., None] + self.center, seen[..., 2]

    def plane(self, z: float) -> FloatArray:
        """Homography (3, 3) from x, y on the plane at height ``z`` to pixels."""
        columns = np.stack([*self.axes.T[:2], self.axes @ ([0, 0, z] - self.position)], -1)
        return np.asarray(_intrinsic(self) @ columns)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """What is in view: K actors, B blocks, T trees, in the copy of the tile that the camera sees.

    ids: (K,). parts: (K, 3, 8, 3) m. uv: (K, 24, 2) and samples: (K, S, 2) pixels. xy: (K, 2) m.
    step: (K, 2) m, what each moves while half of the exposure passes.
    blocks: (B, 2, 3) m. block_uv: (B, 8, 2). crowns: (T, 3) x, y, radius in pixels.
    low, high: (K + B + T, 2) bounds in pixels. distance: (K + B + T,) m from the camera.
    """

    camera: _Camera
    focus: FloatArray
    ids: npt.NDArray[np.intp]
    parts: FloatArray
    uv: FloatArray
    samples: FloatArray
    xy: FloatArray
    step: FloatArray
    block_ids: npt.NDArray[np.intp]
    blocks: FloatArray
    block_uv: FloatArray
    tree_ids: npt.NDArray[np.intp]
    crowns: FloatArray
    low: FloatArray
    high: FloatArray
    distance: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Faces:
    """How each actor in view looks: per actor 3 parts, per part 5 faces of 4 corners.

    corners: (K, 3, 5, 4, 2) int32, 1/16 pixel. front: (K, 3, 5) whether it faces the camera.
    color: (K, 3, 5, 3) BGR. order: (K, 3) parts, the first drawn first. smear: (K, 2) pixels.
    """

    corners: npt.NDArray[np.int32]
    front: npt.NDArray[np.bool_]
    color: FloatArray
    order: npt.NDArray[np.intp]
    smear: FloatArray


class AerialWorld:
    """A town seen from a UAV that follows one car. Not thread-safe: one world a thread.

    target_id: the actor that the camera follows; it stays in view, at times hidden.
    camera_matrix: (3, 3) of the pinhole camera, no distortion.
    """

    target_id = 0

    def __init__(self, config: WorldConfig | None = None, scene: town.Scene | None = None) -> None:
        """scene: another world's of the same seed, which takes a second to build."""
        self.config = config = config or WorldConfig()
        self.period_ns = round(1e9 / config.rate_hz)
        self.size = (config.width, config.height)
        self.scene = scene or town.build(
            config.seed, config.vehicles, config.people, config.occlusions, config.night
        )
        self._focal = config.width / (2 * np.tan(np.radians(config.fov_deg) / 2))
        self._center = np.array([(config.width - 1) / 2, (config.height - 1) / 2])
        self.camera_matrix = np.array(
            [[self._focal, 0, self._center[0]], [0, self._focal, self._center[1]], [0, 0, 1]]
        )
        exposure, gain = (0.06, 9.0) if config.night else (0.9, 1.0)
        self.exposure_s = min(0.016 if config.night else 0.004, 0.7e-9 * self.period_ns)
        self.sensor = BayerSensor(
            config.encoding, self.size, config.seed, exposure, gain, config.noise
        )
        rng = np.random.default_rng((config.seed, 4))
        self._phases = rng.uniform(0, 2 * np.pi, 16)
        self._heading = rng.uniform(0, 2 * np.pi)
        self._image: Image = np.empty((config.height, config.width, 4), np.uint8)
        self._scratch = np.empty_like(self._image)

    def stamp_ns(self, index: int) -> int:
        """When frame ``index`` is exposed (the middle of it)."""
        return self.config.start_ns + index * self.period_ns

    def frames(self, count: int, start: int = 0) -> Iterator[WorldFrame]:
        """``count`` frames in order."""
        for index in range(start, start + count):
            yield self.render(index)

    def truth(self, index: int) -> WorldTruth:
        """The truth of a frame, without drawing it.

        Raises:
            InputError: a negative or absurd index.
        """
        seconds = self._seconds(index)
        layout = self._layout(*self._camera(seconds), seconds)
        boxes, visibility = self._boxes(layout)
        return WorldTruth(
            index, self.stamp_ns(index), *self._rest(layout, index, boxes, visibility)
        )

    def render(self, index: int, *, clean: bool = False, hide: tuple[int, ...] = ()) -> WorldFrame:
        """Draw one frame.

        clean: also return the picture before the sensor. hide: ids of actors to leave out of the
        picture (not of the truth).

        Raises:
            InputError: a negative or absurd index.
        """
        seconds = self._seconds(index)
        layout = self._layout(*self._camera(seconds), seconds)
        boxes, visibility = self._boxes(layout)
        closed, _ = self._camera(seconds + self.exposure_s / 2)
        image = self._draw(layout, closed, frozenset(hide))
        raw = self.sensor.expose(image, index)
        frame = Frame(raw, self.stamp_ns(index), self.sensor.encoding, index)
        return WorldFrame(
            index,
            frame.stamp_ns,
            *self._rest(layout, index, boxes, visibility),
            frame,
            np.ascontiguousarray(image[..., :3]) if clean else None,
        )

    def shoot(self, index: int, pose: FloatArray, later: FloatArray, encoding: str) -> Frame:
        """Frame ``index`` of a camera that flies freely.

        pose: (4, 4) camera (optical) to world. later: the same at the end of the exposure.
        encoding: rgb8, or else the world's own RAW. The town repeats every ``scene.TILE`` meters;
        what is seen of each actor is the copy nearest to where the camera looks.

        Raises:
            InputError: a negative or absurd index.
        """
        seconds = self._seconds(index)
        camera, closed = self._at(pose), self._at(later)
        layout = self._layout(camera, focus_of(pose), seconds)
        image = self._draw(layout, closed, frozenset())
        if encoding == "rgb8":
            picture: Image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
        else:
            picture, encoding = self.sensor.expose(image, index), self.sensor.encoding
        return Frame(picture, self.stamp_ns(index), encoding, index)

    def boxes_from(self, index: int, pose: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Boxes and visibility of ``shoot``, without drawing."""
        return self._boxes(self._layout(self._at(pose), focus_of(pose), self._seconds(index)))

    def _at(self, pose: FloatArray) -> _Camera:
        return _Camera(pose[:3, 3], pose[:3, :3].T, self._focal, self._center)

    def gyro(self, start_ns: int, end_ns: int) -> ImuSamples:
        """The samples of a gyroscope on the camera that are stamped from one moment to before
        another, each the mean rate over its own period. Its axes: x forward, y left, z up."""
        config = self.config
        period_s = 1 / config.gyro_hz
        begin_ns = config.start_ns + round(config.gyro_offset_ms * 1e6)
        # The first sample whose stamp, in whole nanoseconds, is not before the moment.
        first, end = (
            math.ceil((ns - begin_ns - 0.5) / (period_s * 1e9)) for ns in (start_ns, end_ns)
        )
        samples = np.arange(first, max(end, first))
        edges = (np.arange(first, first + len(samples) + 1) - 0.5) * period_s
        axes = np.array([self._camera(seconds)[0].axes for seconds in edges.tolist()])
        turns = axes[1:] @ axes[:-1].transpose(0, 2, 1) if len(samples) else np.empty((0, 3, 3))
        around = [turns[:, i, j] - turns[:, j, i] for i, j in ((1, 2), (2, 0), (0, 1))]
        rates = np.stack(around, axis=1) / (2 * period_s) @ CAMERA_FROM_IMU
        sigma = config.gyro_noise / math.sqrt(period_s)
        rates += sigma * self._gyro_noise(samples) + config.gyro_bias
        stamps = np.round(samples * (period_s * 1e9)).astype(np.int64)
        return ImuSamples(begin_ns + stamps, rates)

    def _gyro_noise(self, samples: npt.NDArray[np.int64]) -> FloatArray:
        """(n, 3) of unit variance, each sample's always the same; drawn in blocks."""
        block = samples // _NOISE_BLOCK
        drawn = [
            np.random.default_rng((self.config.seed, 6, b + (1 << 40))).standard_normal(
                (_NOISE_BLOCK, 3)
            )
            for b in np.unique(block).tolist()
        ]
        if not drawn:
            return np.empty((0, 3))
        return np.asarray(np.concatenate(drawn)[samples - block[0] * _NOISE_BLOCK])

    @property
    def calibration(self) -> tuple[CameraCalibration, GyroCalibration]:
        """What calibrating camera and gyroscope would give, with the bias left unknown."""
        return (
            CameraCalibration(self.size, self.camera_matrix, np.empty(0)),
            GyroCalibration(
                CAMERA_FROM_IMU,
                round(self.config.gyro_offset_ms * 1e6),
                max(self.config.gyro_noise, 1e-6),
            ),
        )

    def _seconds(self, index: int) -> float:
        if not 0 <= index < _MAX_INDEX:
            raise InputError(f"frame index {index}: give 0 to {_MAX_INDEX - 1}")
        return index * self.period_ns * 1e-9

    def _rest(
        self, layout: _Layout, index: int, boxes: FloatArray, visibility: FloatArray
    ) -> tuple[
        FloatArray,
        npt.NDArray[np.int32],
        npt.NDArray[np.int16],
        FloatArray,
        FloatArray,
        FloatArray,
    ]:
        pose = np.eye(4)
        pose[:3, :3] = layout.camera.axes.T
        pose[:3, 3] = layout.camera.position
        before, _ = self._camera((index - 1) * self.period_ns * 1e-9)
        motion = layout.camera.plane(0.0) @ np.linalg.inv(before.plane(0.0))
        ids = np.arange(len(boxes), dtype=np.int32)
        return boxes, ids, self.scene.actors.label, visibility, pose, motion / motion[2, 2]

    def _camera(self, seconds: float) -> tuple[_Camera, FloatArray]:
        """Where the camera is, and the point of the ground (2,) that it looks at.

        It trails the target with two lags, the craft's and the gimbal's, which are averages over
        the target's past: a state-free form of a first-order lag.
        """
        c = self.config
        delays = np.linspace(0, 4, 33)
        past = self.scene.trail(self.target_id, seconds - delays)

        def lagged(lag_s: float) -> FloatArray:
            weight = np.exp(-delays / lag_s)
            return np.asarray(weight @ past / weight.sum())

        def wave(k: int, period_s: float) -> float:
            return math.sin(2 * math.pi * seconds / period_s + self._phases[k])

        pitch = np.radians(c.pitch_deg)
        heading = self._heading + 2 * np.pi * seconds / 240 + 0.5 * wave(0, 41) + 0.1 * wave(1, 17)
        height = c.altitude_m * (1 + 0.05 * wave(2, 23))
        back = c.altitude_m / np.tan(pitch)
        craft = lagged(1.4) - back * np.array([np.cos(heading), np.sin(heading)])
        position = np.array([*craft, height])
        aim = lagged(0.35)
        ahead = aim - craft
        yaw = np.arctan2(ahead[1], ahead[0])
        down = np.arctan2(height, np.hypot(*ahead))
        wander = np.array(
            [
                0.62 * wave(3, 6.1 / c.pace) + 0.38 * wave(4, 3.3 / c.pace),
                0.38 * wave(5, 7.3 / c.pace) + 0.22 * wave(6, 3.7 / c.pace),
            ]
        )
        shake = np.array(
            [
                wave(7, 1 / 4.3) + 0.5 * wave(8, 1 / 9.7) + 0.3 * wave(9, 1 / 14.3),
                wave(10, 1 / 5.1) + 0.6 * wave(11, 1 / 11.9) + 0.3 * wave(12, 1 / 13.1),
            ]
        )
        off = (c.wander_px * wander + c.shake_px * shake) * (c.width / 1280) / self._focal
        yaw += off[0] / np.cos(down)
        down += off[1]
        roll = 0.03 * wave(13, 5.3) + 0.6 * c.shake_px * wave(14, 1 / 6.7) / 1280
        cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(down), np.sin(down)
        forward = np.array([cp * cy, cp * sy, -sp])
        right = np.array([sy, -cy, 0.0])
        below = np.array([-sp * cy, -sp * sy, -cp])
        cr, sr = np.cos(roll), np.sin(roll)
        axes = np.stack([cr * right + sr * below, cr * below - sr * right, forward])
        focus = craft + forward[:2] * height / sp
        return _Camera(position, axes, self._focal, self._center), focus

    def _layout(self, camera: _Camera, focus: FloatArray, seconds: float) -> _Layout:
        scene = self.scene
        size = np.array(self.size)

        def near(xy: FloatArray) -> FloatArray:
            return xy + town.TILE * np.round((focus - xy) / town.TILE)

        def visible(low: FloatArray, high: FloatArray, depth: FloatArray) -> npt.NDArray[np.intp]:
            inside = (high > -_MARGIN) & (low < size + _MARGIN)
            return np.flatnonzero(inside[:, 0] & inside[:, 1] & (depth > _NEAREST))

        pose = scene.poses(seconds)
        xy = near(pose[:, :2])
        center, depth = camera.project(np.column_stack([xy, np.ones(len(xy))]))
        reach = (_REACH * self._focal / np.maximum(depth, _NEAREST))[:, None]
        ids = visible(center - reach, center + reach, depth)
        xy = xy[ids]
        step = scene.poses(seconds + self.exposure_s / 2)[ids, :2] - pose[ids, :2]
        solid = np.concatenate(
            [scene.actors.parts[ids].reshape(len(ids), 24, 3), scene.actors.samples[ids]], 1
        )
        c, s = np.cos(pose[ids, 2])[:, None], np.sin(pose[ids, 2])[:, None]
        x, y = solid[..., 0], solid[..., 1]
        moved = [c * x - s * y + xy[:, :1], s * x + c * y + xy[:, 1:], solid[..., 2]]
        solid = np.stack(moved, -1)
        both, _ = camera.project(solid)
        uv, corners = both[:, :24], solid[:, :24]

        blocks = scene.blocks.copy()
        middle = blocks[:, :, :2].mean(1)
        blocks[:, :, :2] += (near(middle) - middle)[:, None]
        block_uv, block_depth = camera.project(np.where(_CORNERS, blocks[:, 1:], blocks[:, :1]))
        block_ids = visible(block_uv.min(1), block_uv.max(1), block_depth.min(1))
        blocks, block_uv = blocks[block_ids], block_uv[block_ids]

        crown = np.column_stack([near(scene.trees[:, :2]), scene.trees[:, 2]])
        tree_uv, tree_depth = camera.project(crown)
        radius = (scene.trees[:, 3] * self._focal / np.maximum(tree_depth, _NEAREST))[:, None]
        tree_ids = visible(tree_uv - radius, tree_uv + radius, tree_depth)
        tree_uv, radius = tree_uv[tree_ids], radius[tree_ids]

        centers = np.concatenate([corners.mean(1), blocks.mean(1), crown[tree_ids]])
        return _Layout(
            camera,
            focus,
            ids,
            corners.reshape(-1, 3, 8, 3),
            uv,
            both[:, 24:],
            xy,
            step,
            block_ids,
            blocks,
            block_uv,
            tree_ids,
            np.column_stack([tree_uv, radius]),
            np.concatenate([uv.min(1), block_uv.min(1), tree_uv - radius]),
            np.concatenate([uv.max(1), block_uv.max(1), tree_uv + radius]),
            np.linalg.norm(centers - camera.position, axis=1),
        )

    def _boxes(self, layout: _Layout) -> tuple[FloatArray, FloatArray]:
        """Boxes (N, 4) and visibility (N,): the share of points in an actor that can be seen."""
        count, shown, blocks = len(self.scene.actors), len(layout.ids), len(layout.blocks)
        size = np.array(self.size, np.float64)
        inside = (layout.samples > -0.5) & (layout.samples < size - 0.5)
        clear = inside[..., 0] & inside[..., 1]
        low, high = layout.low, layout.high
        meets = (low < high[:shown, None]) & (high > low[:shown, None])
        nearer = layout.distance < layout.distance[:shown, None]
        for i, j in np.argwhere(meets[..., 0] & meets[..., 1] & nearer).tolist():
            points = layout.samples[i]
            if j < shown:
                clear[i] &= ~_inside(points, layout.uv[j])
            elif j < shown + blocks:
                clear[i] &= ~_inside(points, layout.block_uv[j - shown])
            else:
                x, y, radius = layout.crowns[j - shown - blocks]
                clear[i] &= np.hypot(points[:, 0] - x, points[:, 1] - y) > _LEAFY * radius
        boxes, visibility = np.full((count, 4), np.nan), np.zeros(count)
        visibility[layout.ids] = clear.mean(1)
        first = np.clip(low[:shown] + 0.5, 0, size)
        box = np.concatenate([first, np.clip(high[:shown] + 0.5, 0, size) - first], 1)
        seen = visibility[layout.ids] >= _SEEN
        boxes[layout.ids[seen]] = box[seen]
        return boxes, visibility

    def _draw(self, layout: _Layout, closed: _Camera, hidden: frozenset[int]) -> Image:
        """Back to front, each thing smeared by its own motion while the shutter is open.

        closed: the camera at the end of the exposure.
        """
        image = self._image
        self._ground(layout.camera)
        self._sky(layout.camera)
        smear = _smear(layout.camera, closed, layout.focus[None], np.zeros((1, 2)))[0]
        _blur(image, smear, self._scratch)

        self._shadows(layout, hidden)
        if self.config.night:
            self._headlights(layout, hidden)
        faces = self._faces(layout, closed)
        shown, blocks = len(layout.ids), len(layout.blocks)
        for k in np.argsort(-layout.distance, kind="stable").tolist():
            if k >= shown + blocks:
                self._tree(layout, k - shown - blocks)
            elif k >= shown:
                self._block(layout, k - shown)
            elif layout.ids[k] not in hidden:
                self._actor(layout, faces, k)
                self._blur_patch(layout.low[k], layout.high[k], faces.smear[k])
            if k >= shown:
                self._blur_patch(layout.low[k], layout.high[k], smear)
        return image

    def _faces(self, layout: _Layout, closed: _Camera) -> _Faces:
        fixed = np.round(layout.uv * 16).astype(np.int32).reshape(-1, 3, 8, 2)
        corners = np.ascontiguousarray(fixed[:, :, _FACES])
        a, b = corners[..., 2, :] - corners[..., 0, :], corners[..., 3, :] - corners[..., 1, :]
        front = a[..., 0].astype(np.int64) * b[..., 1] - a[..., 1].astype(np.int64) * b[..., 0] < 0
        solid = layout.parts[:, :, _FACES]
        normal = np.cross(solid[..., 2, :] - solid[..., 0, :], solid[..., 3, :] - solid[..., 1, :])
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
        lit = 0.5 + 0.62 * np.maximum(normal @ town.SUN, 0)
        lit *= self.scene.light_at(layout.xy)[:, None, None]
        color = self.scene.actors.colors[layout.ids][:, :, [0, 0, 0, 0, 1]] * lit[..., None]
        # Parts stand on each other or beside each other: low ones first, then far ones.
        far = np.linalg.norm(layout.parts.mean(2) - layout.camera.position, axis=-1)
        order = np.lexsort((-far, np.round(layout.parts[:, :, 0, 2], 1)), axis=-1)
        smear = _smear(layout.camera, closed, layout.xy, layout.step)
        return _Faces(corners, front, np.minimum(color, 255), order, smear)

    def _ground(self, camera: _Camera) -> None:
        """The texture through the ground's homography; the far rows from the coarse copy."""
        height, width = self._image.shape[:2]
        split = height // 3 // 2 * 2
        for texture, texel, rows in (
            (self.scene.coarse, 2 * town.TEXEL, slice(0, split)),
            (self.scene.texture, town.TEXEL, slice(split, height)),
        ):
            x, y = (at + texel / 2 for at in town.ORIGIN)
            texels = np.array([[texel, 0, x], [0, texel, y], [0, 0, 1]])
            shift = np.array([[1, 0, 0], [0, 1, -rows.start], [0, 0, 1.0]])
            band = self._image[rows]
            cv2.warpPerspective(
                texture,
                shift @ camera.plane(0.0) @ texels,
                (width, len(band)),
                dst=band,
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_WRAP,
            )

    def _sky(self, camera: _Camera) -> None:
        """What lies above the horizon, where a camera that flies freely sees so far."""
        slope = camera.axes[:, 2] @ np.linalg.inv(_intrinsic(camera))
        width, height = self.size
        edges = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) - 0.5
        above = edges @ slope[:2] + slope[2] + 0.02  # radians under the horizon, about
        if (above <= 0).all():
            return
        outline = []
        for k in range(4):
            a, b = above[k - 1], above[k]
            if (a > 0) != (b > 0):
                outline.append(edges[k - 1] + a / (a - b) * (edges[k] - edges[k - 1]))
            if b > 0:
                outline.append(edges[k])
        light = 0.25 if self.config.night else 1.0
        points = np.round(np.array(outline) * 16).astype(np.int32)
        color = (235 * light, 214 * light, 190 * light)
        cv2.fillConvexPoly(self._image, points, color, cv2.LINE_8, 4)

    def _shadows(self, layout: _Layout, hidden: frozenset[int]) -> None:
        parts = layout.parts.reshape(-1, 24, 3)
        ground = parts * (1, 1, 0)
        ground[..., :2] -= parts[..., 2:] * (town.SUN[:2] / town.SUN[2])
        uv, _ = layout.camera.project(ground)
        gain = 0.62 if self.config.night else 0.48
        for i, points in zip(layout.ids.tolist(), uv.astype(np.float32), strict=True):
            if i not in hidden:
                _scale(self._image, cv2.convexHull(points)[:, 0], gain)

    def _headlights(self, layout: _Layout, hidden: frozenset[int]) -> None:
        lit = [k for k, i in enumerate(layout.ids.tolist()) if self._drives(i) and i not in hidden]
        base = layout.parts[lit, 0, :4, :2]
        ahead = base[:, 1] - base[:, 0]
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        side = np.stack([-ahead[:, 1], ahead[:, 0]], 1)
        nose = base[:, 1:3].mean(1)
        for reach, spread, gain in (
            (18.0, 4.0, 1.2),
            (14.0, 3.2, 1.2),
            (10.0, 2.4, 1.2),
            (6.0, 1.7, 1.2),
        ):
            corners = [nose - 0.6 * side, nose + ahead * reach - spread * side]
            corners += [nose + ahead * reach + spread * side, nose + 0.6 * side]
            cone = np.stack(corners, 1)
            flat = np.concatenate([cone, np.zeros_like(cone[..., :1])], -1)
            uv, depth = layout.camera.project(flat)
            for points, far in zip(uv.astype(np.float32), depth, strict=True):
                if far.min() > _NEAREST:
                    _scale(self._image, points, gain)

    def _drives(self, actor: int) -> bool:
        actors = self.scene.actors
        return bool(actors.label[actor] != _PERSON and actors.route[actor] >= 0)

    def _actor(self, layout: _Layout, faces: _Faces, k: int) -> None:
        image = self._image
        for part in faces.order[k].tolist():
            for face in np.flatnonzero(faces.front[k, part]).tolist():
                color = faces.color[k, part, face].tolist()
                cv2.fillConvexPoly(image, faces.corners[k, part, face], color, cv2.LINE_AA, 4)
        if self.config.night and self._drives(int(layout.ids[k])):
            for face, color in ((1, (225, 250, 255)), (3, (60, 50, 235))):
                if faces.front[k, 1, face]:
                    quad = faces.corners[k, 1, face]
                    for at in ((quad[0] + quad[3]) // 32, (quad[1] + quad[2]) // 32):
                        cv2.circle(image, at.tolist(), 2, color, -1, cv2.LINE_AA)

    def _block(self, layout: _Layout, k: int) -> None:
        image, uv, j = self._image, layout.block_uv[k], int(layout.block_ids[k])
        low, high = layout.blocks[k]
        light = float(self.scene.light_at((low[:2] + high[:2]) / 2)) if self.config.night else 1.0
        points = np.round(uv * 16).astype(np.int32)
        for face in range(4):
            quad = uv[_FACES[face]]
            a, b = quad[2] - quad[0], quad[3] - quad[1]
            if a[0] * b[1] - a[1] * b[0] >= 0:
                continue
            normal = ((0, -1), (1, 0), (0, 1), (-1, 0))[face]
            lit = (0.5 + 0.6 * max(0.0, float(np.dot(normal, town.SUN[:2])))) * light
            color = np.minimum(self.scene.block_color[j] * lit, 255)
            cv2.fillConvexPoly(image, points[_FACES[face]], color.tolist(), cv2.LINE_AA, 4)
            if self.scene.windows[j]:
                lamp = self.config.night and (j + face) % 3 == 0
                glass = (92, 156, 186) if lamp else (color * 0.45).tolist()
                quads = list(self._windows(layout, k, face))
                cv2.fillPoly(image, quads, glass, cv2.LINE_AA, 4)
        self._roof(layout, k, light)

    def _windows(self, layout: _Layout, k: int, face: int) -> npt.NDArray[np.int32]:
        """Window quads of one wall, (K, 4, 2), 1/16 pixel."""
        low, high = layout.blocks[k]
        a, b = _CORNERS[_FACES[face][0]], _CORNERS[_FACES[face][1]]
        start, end = (np.where(corner, high, low) for corner in (a, b))
        length = float(np.linalg.norm((end - start)[:2]))
        columns, rows = max(1, int(length / 2.6)), max(1, int(high[2] / 3.0))
        u = (np.arange(columns) + 0.5) / columns
        v = (np.arange(rows) + 0.5) * high[2] / rows
        grid_u, grid_v = (g.ravel()[:, None] for g in np.meshgrid(u, v))
        du, dv = np.array([-0.55, 0.55, 0.55, -0.55]) / length, np.array([-0.65, -0.65, 0.65, 0.65])
        along = start[:2] + (grid_u + du)[..., None] * (end - start)[:2]
        uv, _ = layout.camera.project(np.concatenate([along, (grid_v + dv)[..., None]], -1))
        return np.round(uv * 16).astype(np.int32)

    def _roof(self, layout: _Layout, k: int, light: float) -> None:
        quad, j = layout.block_uv[k, 4:], int(layout.block_ids[k])
        patch = self._patch(quad.min(0), quad.max(0))
        if patch is None:
            return
        view, x, y = patch
        corner = layout.blocks[k, 0]
        texels = np.array([[town.TEXEL, 0, corner[0]], [0, town.TEXEL, corner[1]], [0, 0, 1]])
        shift = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]])
        plane = shift @ layout.camera.plane(float(layout.blocks[k, 1, 2])) @ texels
        height, width = view.shape[:2]
        roof = cv2.warpPerspective(
            self.scene.roofs[self.scene.block_roof[j]],
            plane,
            (width, height),
            flags=cv2.INTER_LINEAR,
        )
        if light != 1.0:
            roof = cv2.convertScaleAbs(roof, alpha=light)
        mask = np.zeros((height, width), np.uint8)
        outline = np.round((quad - (x, y)) * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, outline, (255,), cv2.LINE_8, 4)
        cv2.copyTo(roof, mask, view)
        edge = np.minimum(self.scene.block_color[j] * 1.1 * light, 255).tolist()
        cv2.polylines(view, [outline], True, edge, 1, cv2.LINE_AA, 4)

    def _tree(self, layout: _Layout, k: int) -> None:
        center, radius, j = (
            layout.crowns[k, :2],
            float(layout.crowns[k, 2]),
            int(layout.tree_ids[k]),
        )
        patch = self._patch(center - radius, center + radius)
        if patch is None:
            return
        view, x, y = patch
        scale = radius / 30.0
        warp = np.array(
            [[scale, 0, center[0] - x - 31.5 * scale], [0, scale, center[1] - y - 31.5 * scale]]
        )
        crown = cv2.warpAffine(
            self.scene.crowns[j % len(self.scene.crowns)], warp, (view.shape[1], view.shape[0])
        )
        mask = cv2.threshold(cv2.extractChannel(crown, 3), 127, 255, cv2.THRESH_BINARY)[1]
        if self.config.night:
            light = float(self.scene.light_at(self.scene.trees[j, :2]))
            crown = cv2.convertScaleAbs(crown, alpha=light)
        cv2.copyTo(crown, mask, view)

    def _patch(self, low: FloatArray, high: FloatArray) -> tuple[Image, int, int] | None:
        """The part of the picture that a box of pixels covers, and where it starts."""
        x0, y0 = (max(0, int(v) - 1) for v in np.floor(low))
        x1, y1 = (min(n, int(v) + 2) for v, n in zip(np.ceil(high), self.size, strict=True))
        return (self._image[y0:y1, x0:x1], x0, y0) if x1 > x0 and y1 > y0 else None

    def _blur_patch(self, low: FloatArray, high: FloatArray, smear: FloatArray) -> None:
        if np.abs(smear).max() < 1.5:
            return
        patch = self._patch(low - np.abs(smear) / 2, high + np.abs(smear) / 2)
        if patch is not None:
            view = patch[0]
            _blur(view, smear, self._scratch[: view.shape[0], : view.shape[1]])


def _intrinsic(camera: _Camera) -> FloatArray:
    """(3, 3)."""
    focal, (x, y) = camera.focal, camera.center
    return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]])


def focus_of(pose: FloatArray) -> FloatArray:
    """The point (2,) of the ground that a camera (4, 4) looks at, at most ``_FAR`` m away."""
    way = pose[:3, 2]
    ahead = float(np.linalg.norm(way[:2]))
    reach = min(_FAR, pose[2, 3] * ahead / max(-way[2], 1e-3))
    found: FloatArray = pose[:2, 3] + way[:2] * (reach / max(ahead, 1e-9))
    return found


def _inside(points: FloatArray, corners: FloatArray) -> npt.NDArray[np.bool_]:
    """Which points (S, 2) lie in the convex hull of the corners (K, 2)."""
    hull = cv2.convexHull(corners.astype(np.float32))[:, 0].astype(np.float64)
    edge = np.roll(hull, -1, 0) - hull
    away = points[:, None] - hull[None]
    cross = edge[None, :, 0] * away[..., 1] - edge[None, :, 1] * away[..., 0]
    return np.asarray((cross >= 0).all(1) | (cross <= 0).all(1))


def _smear(middle: _Camera, closed: _Camera, xy: FloatArray, step: FloatArray) -> FloatArray:
    """Pixels (K, 2) that points of the ground move while the shutter is open.

    Twice what they move in its second half, in which they go ``step`` (K, 2) meters.
    """
    ground = np.zeros((len(xy), 1))
    a, _ = middle.project(np.concatenate([xy, ground], 1))
    b, _ = closed.project(np.concatenate([xy + step, ground], 1))
    return 2 * (b - a)


def _scale(image: Image, polygon: npt.NDArray[np.float32], gain: float) -> None:
    """Darken or brighten what a convex polygon (M, 2) covers."""
    height, width = image.shape[:2]
    x0, y0 = (max(0, int(v)) for v in np.floor(polygon.min(0)))
    x1, y1 = min(width, int(polygon[:, 0].max()) + 2), min(height, int(polygon[:, 1].max()) + 2)
    if x1 <= x0 or y1 <= y0:
        return
    view = image[y0:y1, x0:x1]
    mask = np.zeros(view.shape[:2], np.uint8)
    points = np.round((polygon - (x0, y0)) * 16).astype(np.int32)
    cv2.fillConvexPoly(mask, points, (255,), cv2.LINE_8, 4)
    cv2.copyTo(cv2.convertScaleAbs(view, alpha=gain), mask, view)


def _blur(image: Image, smear: FloatArray, scratch: Image) -> None:
    """Average along a line of ``smear`` pixels (2,), by halves: n passes are 2ⁿ samples."""
    length = float(np.abs(smear).max())
    passes = min(4, max(0, int(np.ceil(np.log2(max(length, 1e-9) / 0.75)))))
    for k in range(passes):
        dx, dy = (round(float(v)) for v in smear / 2 ** (k + 1))
        width, height = image.shape[1] - abs(dx), image.shape[0] - abs(dy)
        if (dx == 0 and dy == 0) or width <= 0 or height <= 0:
            continue
        a = image[max(dy, 0) :, max(dx, 0) :][:height, :width]
        b = image[max(-dy, 0) :, max(-dx, 0) :][:height, :width]
        out = scratch[:height, :width]
        cv2.addWeighted(a, 0.5, b, 0.5, 0, out)
        # Half of the shift each way keeps the middle of the exposure where it was.
        y, x = abs(dy) // 2, abs(dx) // 2
        image[y : y + height, x : x + width] = out
