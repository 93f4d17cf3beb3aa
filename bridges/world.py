"""The embedded world: an aerial camera over a small town, for demos and tests.

It needs nothing but numpy and OpenCV. Frame k depends only on (configuration, seed, k), so frames
can be asked for in any order. It looks like aerial footage so that real trackers run on it; it
makes **no accuracy claims**: figures measured on it say that software works, not how well.

Frames of reference: the world is east-north-up in meters, the camera x right, y down, z forward
(REP-103, optical). Pixel (0, 0) is the center of the first pixel in matrices; boxes are continuous
and start at the first pixel's corner, so a box covers exactly the pixels it names.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bridges import scene as town
from bridges.sensor import ENCODINGS, BayerSensor
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.frame import Frame

_MAX_INDEX = 1 << 31
_SEEN = 0.1
_FAR = 115.0
_FACES = np.array([[0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7], [4, 5, 6, 7]])
_CORNERS = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)])

Image = npt.NDArray[np.uint8]


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
    fov_deg: float = option(58.0, "Horizontal field of view.", low=20, high=90)
    wander_px: float = option(150.0, "How far the target strays from the center.", low=0, high=1000)
    shake_px: float = option(1.2, "Amplitude of the camera's vibration.", low=0, high=20)
    vehicles: int = option(14, "Vehicles on the road; the first is the target.", low=1, high=40)
    people: int = option(10, "People on the sidewalks.", low=0, high=100)
    occlusions: bool = option(True, "Trees and a footbridge over the target's road.")
    night: bool = option(False, "Street lamps, a long exposure and high gain.")
    noise: float = option(1.0, "Factor on the sensor's noise; 0 for none.", low=0, high=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2 or self.height % 2:
            raise InputError(f"width, height: {self.width}x{self.height} is odd; Bayer cells are 2x2")
        focal = self.width / (2 * np.tan(np.radians(self.fov_deg) / 2))
        top = np.radians(self.pitch_deg) - np.arctan(self.height / 2 / focal) - 0.06
        nearest = self.altitude_m / np.tan(np.radians(self.pitch_deg))
        if top <= 0.02 or self.altitude_m / np.tan(top) - nearest > 2 * _FAR:
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
    """A RAW frame with its truth, and the noise-free picture (H, W, 3) BGR where it was asked for."""

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
        intrinsic = np.array(
            [[self.focal, 0, self.center[0]], [0, self.focal, self.center[1]], [0, 0, 1]]
        )
        return intrinsic @ columns


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Everything in front of the camera, moved to the copy of the tile that it sees."""

    camera: _Camera
    focus: FloatArray
    actor_parts: FloatArray
    actor_uv: FloatArray
    actor_distance: FloatArray
    in_view: npt.NDArray[np.intp]
    samples: FloatArray
    blocks: FloatArray
    actor_light: FloatArray
    block_uv: FloatArray
    block_distance: FloatArray
    block_order: npt.NDArray[np.intp]
    tree_uv: FloatArray
    tree_radius: FloatArray
    tree_distance: FloatArray
    tree_order: npt.NDArray[np.intp]


class AerialWorld:
    """A town seen from a UAV that follows one car. Not thread-safe: one world a thread.

    target_id: the actor that the camera follows; it stays in view, at times hidden.
    camera_matrix: (3, 3) of the pinhole camera, no distortion.
    """

    target_id = 0

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config = config or WorldConfig()
        self.period_ns = round(1e9 / config.rate_hz)
        self.size = (config.width, config.height)
        self.scene = town.build(
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
        self._image: Image = np.empty((config.height, config.width, 3), np.uint8)
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
        layout = self._layout(self._seconds(index))
        boxes, visibility = self._boxes(layout)
        return WorldTruth(index, self.stamp_ns(index), *self._rest(layout, index, boxes, visibility))

    def render(self, index: int, *, clean: bool = False, hide: tuple[int, ...] = ()) -> WorldFrame:
        """Draw one frame.

        clean: also return the picture before the sensor. hide: ids of actors to leave out of the
        picture (not of the truth).

        Raises:
            InputError: a negative or absurd index.
        """
        seconds = self._seconds(index)
        layout = self._layout(seconds)
        boxes, visibility = self._boxes(layout)
        image = self._draw(layout, seconds, frozenset(hide))
        raw = self.sensor.expose(image, index)
        frame = Frame(raw, self.stamp_ns(index), self.sensor.encoding, index)
        return WorldFrame(
            index,
            frame.stamp_ns,
            *self._rest(layout, index, boxes, visibility),
            frame,
            image.copy() if clean else None,
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
        route = self.scene.routes[self.scene.actors.route[self.target_id]]
        start = self.scene.actors.phase[self.target_id] * route.lap_s
        past, _ = route.at(seconds + start - delays)

        def lagged(lag_s: float) -> FloatArray:
            weight = np.exp(-delays / lag_s)
            return weight @ past / weight.sum()

        def wave(k: int, period_s: float) -> float:
            return float(np.sin(2 * np.pi * seconds / period_s + self._phases[k]))

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
                0.62 * wave(3, 6.1) + 0.38 * wave(4, 3.3),
                0.38 * wave(5, 7.3) + 0.22 * wave(6, 3.7),
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
        below = np.cross(forward, right)
        cr, sr = np.cos(roll), np.sin(roll)
        axes = np.stack([cr * right + sr * below, cr * below - sr * right, forward])
        focus = craft + forward[:2] * height / sp
        return _Camera(position, axes, self._focal, self._center), focus

    def _poses(self, seconds: float) -> tuple[FloatArray, FloatArray]:
        """Every actor's position (N, 2) and heading (N,)."""
        actors = self.scene.actors
        xy, heading = actors.home[:, :2].copy(), actors.home[:, 2].copy()
        for r, route in enumerate(self.scene.routes):
            mine = np.flatnonzero(actors.route == r)
            if len(mine):
                xy[mine], heading[mine] = route.at(seconds + actors.phase[mine] * route.lap_s)
        return xy, heading

    def _layout(self, seconds: float) -> _Layout:
        scene = self.scene
        camera, focus = self._camera(seconds)

        def near(xy: FloatArray) -> FloatArray:
            return xy + town.TILE * np.round((focus - xy) / town.TILE)

        xy, heading = self._poses(seconds)
        xy = near(xy)
        c, s = np.cos(heading)[:, None, None], np.sin(heading)[:, None, None]

        def place(points: FloatArray) -> FloatArray:
            flat = points.reshape(len(xy), -1, 3)
            x, y = flat[:, :, :1], flat[:, :, 1:2]
            moved = np.concatenate([c * x - s * y, s * x + c * y, flat[:, :, 2:]], -1)
            moved[..., :2] += xy[:, None]
            return moved.reshape(points.shape)

        def visible(uv: FloatArray, depth: FloatArray, margin: float) -> npt.NDArray[np.intp]:
            low, high = uv.min(1) - margin, uv.max(1) + margin
            inside = (high > 0).all(1) & (low < np.array(self.size)).all(1)
            return np.flatnonzero(inside & (depth.min(1) > 1.0))

        parts = place(scene.actors.parts)
        flat = parts.reshape(len(xy), 24, 3)
        uv, depth = camera.project(flat)
        in_view = visible(uv, depth, 30)
        samples, _ = camera.project(place(scene.actors.samples)[in_view])

        blocks = scene.blocks.copy()
        blocks[:, :, :2] += (near(blocks[:, :, :2].mean(1)) - blocks[:, :, :2].mean(1))[:, None]
        corners = np.where(_CORNERS[None].astype(bool), blocks[:, 1:], blocks[:, :1])
        block_uv, block_depth = camera.project(corners)
        crown = np.concatenate([near(scene.trees[:, :2]), scene.trees[:, 2:3]], 1)
        tree_uv, tree_depth = camera.project(crown)
        radius = scene.trees[:, 3] * self._focal / np.maximum(tree_depth, 1.0)
        span = np.stack([tree_uv - radius[:, None], tree_uv + radius[:, None]], 1)

        def distance(points: FloatArray) -> FloatArray:
            return np.linalg.norm(points - camera.position, axis=-1)

        return _Layout(
            camera,
            focus,
            parts,
            uv,
            distance(flat.mean(1)),
            in_view,
            samples,
            blocks,
            scene.light_at(xy),
            block_uv,
            distance(blocks.mean(1)),
            visible(block_uv, block_depth, 0),
            tree_uv,
            radius,
            distance(crown),
            visible(span, tree_depth[:, None], 0),
        )

    def _boxes(self, layout: _Layout) -> tuple[FloatArray, FloatArray]:
        """Boxes (N, 4) and visibility (N,): the share of points in an actor that can be seen."""
        count = len(self.scene.actors)
        boxes, visibility = np.full((count, 4), np.nan), np.zeros(count)
        order, uv = layout.in_view, layout.actor_uv
        low, high = uv.min(1), uv.max(1)
        size = np.array(self.size, np.float64)
        block_low, block_high = layout.block_uv.min(1), layout.block_uv.max(1)
        for row, i in enumerate(order):
            points = layout.samples[row]
            clear = ((points > -0.5) & (points < size - 0.5)).all(1)

            def overlapping(
                others: npt.NDArray[np.intp],
                first: FloatArray,
                last: FloatArray,
                distance: FloatArray,
                i: int = int(i),
            ) -> npt.NDArray[np.intp]:
                meets = (first[others] < high[i]).all(1) & (last[others] > low[i]).all(1)
                return others[meets & (distance[others] < layout.actor_distance[i])]

            for j in overlapping(order, low, high, layout.actor_distance):
                clear &= ~_inside(points, uv[j])
            for j in overlapping(layout.block_order, block_low, block_high, layout.block_distance):
                clear &= ~_inside(points, layout.block_uv[j])
            radius = layout.tree_radius[:, None]
            for j in overlapping(
                layout.tree_order, layout.tree_uv - radius, layout.tree_uv + radius, layout.tree_distance
            ):
                away = np.hypot(*(points - layout.tree_uv[j]).T)
                clear &= away > 0.88 * layout.tree_radius[j]
            visibility[i] = clear.mean()
            if visibility[i] >= _SEEN:
                first = np.clip(low[i] + 0.5, 0, size)
                boxes[i] = [*first, *(np.clip(high[i] + 0.5, 0, size) - first)]
        return boxes, visibility

    def _draw(self, layout: _Layout, seconds: float, hidden: frozenset[int]) -> Image:
        image, camera = self._image, layout.camera
        half = self.exposure_s / 2
        opened, _ = self._camera(seconds - half)
        closed, _ = self._camera(seconds + half)
        self._ground(camera)
        smear = _displacement(opened, closed, layout.focus, layout.focus)
        _blur(image, smear, self._scratch)

        shown = np.array([i for i in layout.in_view if i not in hidden], np.intp)
        distance = np.concatenate(
            [
                layout.actor_distance[shown],
                layout.block_distance[layout.block_order],
                layout.tree_distance[layout.tree_order],
            ]
        )
        first_poses, last_poses = self._poses(seconds - half)[0], self._poses(seconds + half)[0]
        uv = np.round(layout.actor_uv * 16).astype(np.int32)
        self._actor_shadows(layout, shown)
        for k in np.argsort(-distance, kind="stable"):
            if k < len(shown):
                i = int(shown[k])
                own = _displacement(opened, closed, first_poses[i], last_poses[i])
                self._actor(layout, i, uv[i].reshape(3, 8, 2), own)
            elif k < len(shown) + len(layout.block_order):
                self._block(layout, int(layout.block_order[k - len(shown)]), smear)
            else:
                j = int(layout.tree_order[k - len(shown) - len(layout.block_order)])
                self._tree(layout, j, smear)
        return image

    def _ground(self, camera: _Camera) -> None:
        """The texture through the ground's homography; the far rows from the coarse copy."""
        height, width = self._image.shape[:2]
        split = height // 3 // 2 * 2
        for texture, texel, rows in (
            (self.scene.coarse, 2 * town.TEXEL, slice(0, split)),
            (self.scene.texture, town.TEXEL, slice(split, height)),
        ):
            texels = np.array([[texel, 0, texel / 2], [0, texel, texel / 2], [0, 0, 1]])
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

    def _actor_shadows(self, layout: _Layout, shown: npt.NDArray[np.intp]) -> None:
        parts = layout.actor_parts.reshape(-1, 24, 3)[shown]
        ground = np.concatenate(
            [parts[..., :2] - parts[..., 2:] * (town.SUN[:2] / town.SUN[2]), np.zeros_like(parts[..., :1])], -1
        )
        uv, _ = layout.camera.project(ground)
        gain = 0.62 if self.config.night else 0.48
        for points in uv.astype(np.float32):
            _scale(self._image, cv2.convexHull(points)[:, 0], gain)
        if self.config.night:
            self._headlights(layout, shown)

    def _headlights(self, layout: _Layout, shown: npt.NDArray[np.intp]) -> None:
        lit = shown[(self.scene.actors.label[shown] < 4) & (self.scene.actors.route[shown] >= 0)]
        base = layout.actor_parts[lit, 0, :4, :2]
        ahead = base[:, 1] - base[:, 0]
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        side = np.stack([-ahead[:, 1], ahead[:, 0]], 1)
        nose = base[:, 1:3].mean(1)
        for reach, spread, gain in ((16.0, 3.6, 1.35), (9.0, 2.2, 1.45)):
            corners = [nose - 0.6 * side, nose + ahead * reach - spread * side]
            corners += [nose + ahead * reach + spread * side, nose + 0.6 * side]
            cone = np.stack(corners, 1)
            uv, depth = layout.camera.project(np.concatenate([cone, np.zeros_like(cone[..., :1])], -1))
            for points, far in zip(uv.astype(np.float32), depth, strict=True):
                if far.min() > 1:
                    _scale(self._image, points, gain)

    def _actor(
        self, layout: _Layout, i: int, uv: npt.NDArray[np.int32], smear: FloatArray
    ) -> None:
        image, actors = self._image, self.scene.actors
        parts = layout.actor_parts[i]
        faces = np.ascontiguousarray(uv[:, _FACES])
        a, b = faces[:, :, 2] - faces[:, :, 0], faces[:, :, 3] - faces[:, :, 1]
        front = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0] < 0
        corners = parts[:, _FACES]
        normal = np.cross(corners[:, :, 2] - corners[:, :, 0], corners[:, :, 3] - corners[:, :, 1])
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
        lit = (0.5 + 0.62 * np.maximum(normal @ town.SUN, 0)) * layout.actor_light[i]
        # Parts stand on each other or beside each other: low ones first, then far ones.
        far = np.linalg.norm(parts.mean(1) - layout.camera.position, axis=-1)
        for part in np.lexsort((-far, np.round(parts[:, 0, 2], 1))):
            for face in np.flatnonzero(front[part]):
                color = actors.colors[i, part, int(face == 4)] * lit[part, face]
                cv2.fillConvexPoly(
                    image, faces[part, face], np.minimum(color, 255).tolist(), cv2.LINE_AA, 4
                )
        if self.config.night and actors.label[i] < 4 and actors.route[i] >= 0:
            body = uv[1] // 16
            for ends, color in (((1, 2), (225, 250, 255)), ((0, 3), (60, 50, 235))):
                if front[1, 1 if ends[0] == 1 else 3]:
                    for corner in ends:
                        at = (body[corner] + body[corner + 4]) // 2
                        cv2.circle(image, at.tolist(), 2, color, -1, cv2.LINE_AA)
        flat = uv.reshape(-1, 2) / 16
        self._blur_patch(flat.min(0), flat.max(0), smear)

    def _block(self, layout: _Layout, j: int, smear: FloatArray) -> None:
        image, uv = self._image, layout.block_uv[j]
        low, high = layout.blocks[j]
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
                glass = (92, 156, 186) if self.config.night and (j + face) % 3 == 0 else color * 0.45
                cv2.fillPoly(
                    image,
                    self._windows(layout, j, face),
                    np.asarray(glass, float).tolist(),
                    cv2.LINE_AA,
                    4,
                )
        self._roof(layout, j, light)
        self._blur_patch(uv.min(0), uv.max(0), smear)

    def _windows(self, layout: _Layout, j: int, face: int) -> npt.NDArray[np.int32]:
        """Window quads of one wall, (K, 4, 2), 1/16 pixel."""
        low, high = layout.blocks[j]
        a, b = _CORNERS[_FACES[face][0]], _CORNERS[_FACES[face][1]]
        start, end = (np.where(c, high, low) for c in (a.astype(bool), b.astype(bool)))
        length = float(np.linalg.norm((end - start)[:2]))
        columns, rows = max(1, int(length / 2.6)), max(1, int(high[2] / 3.0))
        u = (np.arange(columns) + 0.5) / columns
        v = (np.arange(rows) + 0.5) * high[2] / rows
        grid_u, grid_v = (g.ravel()[:, None] for g in np.meshgrid(u, v))
        du, dv = np.array([-0.55, 0.55, 0.55, -0.55]) / length, np.array([-0.65, -0.65, 0.65, 0.65])
        along = start[:2] + (grid_u + du)[..., None] * (end - start)[:2]
        uv, _ = layout.camera.project(np.concatenate([along, (grid_v + dv)[..., None]], -1))
        return np.round(uv * 16).astype(np.int32)

    def _roof(self, layout: _Layout, j: int, light: float) -> None:
        quad = layout.block_uv[j, 4:]
        patch = self._patch(quad.min(0), quad.max(0))
        if patch is None:
            return
        view, x, y = patch
        texels = np.diag([town.TEXEL, town.TEXEL, 1.0])
        shift = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]])
        plane = shift @ layout.camera.plane(float(layout.blocks[j, 1, 2])) @ texels
        height, width = view.shape[:2]
        roof = cv2.warpPerspective(
            self.scene.roofs[self.scene.block_roof[j]],
            plane,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        if light != 1.0:
            roof = cv2.convertScaleAbs(roof, alpha=light)
        mask = np.zeros((height, width), np.uint8)
        outline = np.round((quad - (x, y)) * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, outline, (255,), cv2.LINE_8, 4)
        cv2.copyTo(roof, mask, view)
        edge = np.minimum(self.scene.block_color[j] * 1.1 * light, 255).tolist()
        cv2.polylines(view, [outline], True, edge, 1, cv2.LINE_AA, 4)

    def _tree(self, layout: _Layout, j: int, smear: FloatArray) -> None:
        center, radius = layout.tree_uv[j], layout.tree_radius[j]
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
        color, mask = crown[..., :3], crown[..., 3]
        if self.config.night:
            light = float(self.scene.light_at(self.scene.trees[j, :2]))
            color = cv2.convertScaleAbs(color, alpha=light)
        cv2.copyTo(color, cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)[1], view)
        self._blur_patch(center - radius, center + radius, smear)

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


def _inside(points: FloatArray, corners: FloatArray) -> npt.NDArray[np.bool_]:
    """Which points (S, 2) lie in the convex hull of the corners (K, 2)."""
    hull = cv2.convexHull(corners.astype(np.float32))[:, 0].astype(np.float64)
    edge = np.roll(hull, -1, 0) - hull
    away = points[:, None] - hull[None]
    cross = edge[None, :, 0] * away[..., 1] - edge[None, :, 1] * away[..., 0]
    return (cross >= 0).all(1) | (cross <= 0).all(1)


def _displacement(opened: _Camera, closed: _Camera, first: FloatArray, last: FloatArray) -> FloatArray:
    """Pixels (2,) that a point of the ground moves while the shutter is open."""
    a, _ = opened.project(np.array([*first, 0.0]))
    b, _ = closed.project(np.array([*last, 0.0]))
    return b - a


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
