"""Boxes in a picture → objects on flat ground, in the fixed frame.

A box is taken to be that of an upright body on the ground plane. Along the horizontal direction u
in which the camera sees its middle, from a height h above the ground, the body begins at a − D/2,
ends at a + D/2 and is H tall. The rays through the box's near edge, r, and far edge, s, touch its
bottom and its top::

    −r_z (a − D/2) = r_u h        −s_z (a + D/2) = s_u (h − H)

Two equations and three unknowns, linear in them; the class says about how large D and H are, and a
linear Gaussian update gives all three with their covariance. From a car, where the far edge lies
near the horizon, it is the foot that counts; from a UAV, the middle. "Near" and "far" are where the
line through the box's middle toward the camera's nadir cuts the box, so that a rolled camera, and
one that looks straight down, need nothing else.
"""

from collections import Counter
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from comms.motion import MetricFilter, horizontal
from comms.statures import SPREAD, TYPICAL, across, classes_of, names_of
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.imu import CameraCalibration
from pipeline.objects import IS_VULNERABLE, ObjectClass, Objects
from pipeline.pose import Pose
from pipeline.tracks import Tracks, TrackSource, TrackStatus

OPTICAL: FloatArray = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""Optical axes (x right, y down, z forward) → a body's (x forward, y left, z up), REP-103."""
UNSURE_FACTOR = 9.0
"""An uncertain track's variance over a sure one's."""
SHAPE = 0.08
"""Of a body's depth: sigma by which its ends are not where a cuboid's are."""
PIXEL = 1.0
"""Sigma, px, of any edge at least."""
FARTHEST_PX = 1e5
"""From the picture's corner; no box reaches farther."""
FARTHEST_M = 1e5
LEAST_HEIGHT_M = 0.2
"""Of a camera above the ground."""
NOWHERE_M = 1e3
"""Sigma of a distance of which nothing is known."""
STEADY_RAD = 0.5
"""Of a heading that is told."""
ORTHOGONAL = 1e-3


@dataclass(frozen=True)
class GroundConfig(Config):
    """How the camera sits on the vehicle, and what the ground and the boxes are like."""

    camera_xyz_m: tuple[float, ...] = option(
        (0.0, 0.0, 0.0), "The camera on the vehicle: forward, left, up.", low=-50, high=50
    )
    camera_rpy_deg: tuple[float, ...] = option(
        (0.0, 0.0, 0.0),
        "How it is turned: roll, pitch (down is positive), yaw; zeros look ahead.",
        low=-180,
        high=180,
    )
    ground_z_m: float = option(0.0, "Height of the ground in the fixed frame.", low=-1e4, high=1e4)
    ground_sigma_m: float = option(0.1, "By how much the ground is uneven.", low=0, high=100)
    tilt_sigma_deg: float = option(
        0.3, "By how much the camera's roll and pitch may be off.", low=0, high=45
    )
    box_share: float = option(
        0.05, "Sigma of a box's edges in its own sides, where tracks tell none.", low=0, high=1
    )
    max_sigma_m: float = option(
        3.0, "What is less sure of its place than this is left out.", low=0.1, high=100
    )
    max_range_m: float = option(150.0, "So is what is farther away.", low=1, high=5000)
    edge_px: float = option(
        2.0, "A box so near to the picture's edge counts as cut by it.", low=0, high=100
    )
    labels: tuple[str, ...] = option(
        ("coco",), "Names of the detector's labels in order; coco: those of COCO."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("camera_xyz_m", "camera_rpy_deg"):
            if len(getattr(self, name)) != 3:
                raise InputError(f"{name}: {len(getattr(self, name))} numbers, give three")
        names_of(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """objects: N without velocities, their covariances of the boxes' error alone. lasting:
    (N, 3, 3) m², what comes on top and stays from picture to picture: the errors of the vehicle's
    pose, the camera's tilt, the ground, and of what is taken for the body's form. left_out: how
    many were, by reason.
    """

    objects: Objects
    lasting: FloatArray
    left_out: Counter[str]


def rotation_of(rpy: FloatArray) -> FloatArray:
    """(3, 3) of roll, pitch and yaw, rad: R_z(yaw) R_y(pitch) R_x(roll), REP-103."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


class GroundTracker:
    """A vehicle's tracks as objects with velocities. Not thread-safe.

    left_out: how many boxes were not placed so far, by reason: ``lost`` (the tracker did not see
    it), ``aloft`` (of a kind that does not stand on the ground), ``cut`` (by the picture's edge),
    ``horizon`` (its foot is not below it), ``unsure``, ``far``.
    """

    def __init__(self, config: GroundConfig | None = None) -> None:
        self._config = config or GroundConfig()
        self.left_out = Counter[str]()
        self.reset()

    def reset(self) -> None:
        """Forget everything: the clock jumped."""
        self._filter = MetricFilter()
        self._ids: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._lasting: FloatArray = np.zeros((0, 3, 3))

    def observe(
        self,
        tracks: Tracks,
        camera: CameraCalibration,
        pose: Pose,
        rotation: FloatArray | None = None,
    ) -> Objects:
        """All that is known at ``tracks.stamp_ns``; arguments and errors as of ``locate``."""
        found = locate(tracks, camera, pose, rotation, self._config)
        self.left_out += found.left_out
        known = self._filter.observe(found.objects)
        fresh = np.isin(self._ids, found.objects.ids, invert=True)
        ids = np.concatenate([found.objects.ids, self._ids[fresh]])
        lasting = np.concatenate([found.lasting, self._lasting[fresh]])
        _, mine, at = np.intersect1d(known.ids, ids, assume_unique=True, return_indices=True)
        self._ids, self._lasting = known.ids[mine], lasting[at]
        covariances = known.covariances.copy()
        covariances[mine, :3, :3] += self._lasting
        known = known.derived(
            stamp_ns=tracks.stamp_ns, ready_ns=tracks.ready_ns, covariances=covariances
        )
        return known.derived(yaws=_headings(known))


def locate(
    tracks: Tracks,
    camera: CameraCalibration,
    pose: Pose,
    rotation: FloatArray | None = None,
    config: GroundConfig | None = None,
) -> Located:
    """Where the boxes of one picture stand.

    pose: of the vehicle when the picture was taken. rotation: (3, 3), the vehicle's axes (x
    forward, y left, z up) → the fixed frame's; None: level, at the pose's yaw.

    Raises:
        InputError: pictures of another size than the calibration is for; a rotation that is none.
    """
    c = config or GroundConfig()
    if tracks.image_size != camera.size:
        raise InputError(
            f"tracks of {tracks.image_size[0]}x{tracks.image_size[1]} pictures, the camera is "
            f"calibrated for {camera.size[0]}x{camera.size[1]}; give the camera_info of the same "
            "pictures"
        )
    turn = rotation_of(np.array([0.0, 0.0, pose.yaw])) if rotation is None else rotation
    if turn.shape != (3, 3) or not (
        np.abs(turn @ turn.T - np.eye(3)).max() < ORTHOGONAL and np.linalg.det(turn) > 0
    ):
        raise InputError("the vehicle's rotation is none; give an orthonormal (3, 3) matrix")
    axes = turn @ rotation_of(np.radians(c.camera_rpy_deg)) @ OPTICAL
    eye = pose.position + turn @ np.array(c.camera_xyz_m)

    out = Counter[str]()
    classes, grounded = classes_of(tracks.labels, names_of(c.labels))
    seen = (tracks.status != TrackStatus.LOST) & (tracks.source != TrackSource.PREDICTED)
    seen &= (tracks.boxes[:, 2:] > 0).all(axis=1)
    keep = _kept(np.ones(len(tracks), np.bool_), seen, "lost", out)
    keep = _kept(keep, grounded, "aloft", out)
    tracks, classes = tracks.selected(keep), classes[keep]

    sides = _Sides.of(tracks, camera, axes, c)
    bodies = _bodies(sides, axes, eye[2] - c.ground_z_m, classes)
    keep = _kept(np.ones(len(tracks), np.bool_), ~sides.cut, "cut", out)
    keep = _kept(keep, bodies.below, "horizon", out)
    objects, lasting = _placed(tracks, classes, bodies, eye, pose, c)
    total = objects.covariances.copy()
    total[:, :3, :3] += lasting
    with np.errstate(invalid="ignore"):
        keep = _kept(keep, horizontal(total) <= c.max_sigma_m, "unsure", out)
        away = np.linalg.norm(objects.positions - eye, axis=1)
        keep = _kept(keep, (away <= c.max_range_m) & (bodies.distance > 0), "far", out)
    return Located(replace(objects.selected(keep)), lasting[keep], out)


def _kept(
    keep: npt.NDArray[np.bool_], good: npt.NDArray[np.bool_], reason: str, out: Counter[str]
) -> npt.NDArray[np.bool_]:
    bad = int((keep & ~good).sum())
    if bad:
        out[reason] += bad
    return keep & good


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Of N boxes, without the lens's distortion, on the picture plane at distance 1.

    middle: (N, 2). away: (N, 2) unit vector in which a point moves that rises. reach: (N,), from
    the middle to the edge that way. across: (N,) half of the extent at right angles to it.
    place, size: (N,) variance of the middle and of the reach along ``away``, side: of the middle
    across it. cut: (N,) whether an edge that counts is the picture's. open: (N,) the far edge is.
    """

    middle: FloatArray
    away: FloatArray
    reach: FloatArray
    across: FloatArray
    place: FloatArray
    size: FloatArray
    side: FloatArray
    cut: npt.NDArray[np.bool_]
    open: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, tracks: Tracks, camera: CameraCalibration, axes: FloatArray, c: GroundConfig
    ) -> "_Sides":
        """axes: (3, 3) of the camera in the fixed frame."""
        low = np.clip(tracks.boxes[:, :2], -FARTHEST_PX, FARTHEST_PX)
        high = np.clip(low + tracks.boxes[:, 2:], -FARTHEST_PX, FARTHEST_PX)
        mid = (low + high) / 2
        points = np.stack(  # left, right, top, bottom
            [
                np.stack([low[:, 0], mid[:, 1]], 1), np.stack([high[:, 0], mid[:, 1]], 1),
                np.stack([mid[:, 0], low[:, 1]], 1), np.stack([mid[:, 0], high[:, 1]], 1),
            ],
            axis=1,
        ) - 0.5  # fmt: skip
        flat = _undistorted(points.reshape(-1, 2), camera).reshape(-1, 4, 2)
        left, right = flat[:, 0, 0], flat[:, 1, 0]
        top, bottom = flat[:, 2, 1], flat[:, 3, 1]
        middle = np.stack([left + right, top + bottom], 1) / 2
        half = np.maximum(np.stack([right - left, bottom - top], 1) / 2, 1e-9)
        up = axes[2]  # the fixed frame's up in the camera's axes
        away = up[:2] - middle * up[2]
        length = np.linalg.norm(away, axis=1, keepdims=True)
        away = np.where(length > 1e-6, away / np.maximum(length, 1e-6), [0.0, -1.0])

        focal = np.array([camera.matrix[0, 0], camera.matrix[1, 1]])
        given = np.where(
            np.isfinite(tracks.variances),
            np.minimum(tracks.variances, FARTHEST_PX**2),
            (c.box_share * np.tile(high - low, 2)) ** 2,
        )
        given = given + PIXEL**2 * np.array([1, 1, 4, 4]) / 2
        unsure = tracks.status == TrackStatus.UNCERTAIN
        given = np.where(unsure[:, None], UNSURE_FACTOR, 1.0) * given / np.tile(focal, 2) ** 2
        squared = away**2
        size = np.array(tracks.image_size)
        near_edge = np.hstack([low <= c.edge_px, high >= size - c.edge_px])
        open_ = near_edge[:, 1] & (away[:, 1] < -np.abs(away[:, 0]))
        cut = near_edge[:, [0, 2, 3]].any(axis=1) | (near_edge[:, 1] & ~open_)
        with np.errstate(divide="ignore"):
            reach = (half / np.abs(away)).min(axis=1)
            across = (half / np.abs(away[:, ::-1])).min(axis=1)
        return cls(
            middle, away, reach, across,
            (squared * given[:, :2]).sum(axis=1), (squared * given[:, 2:]).sum(axis=1) / 4,
            (squared[:, ::-1] * given[:, :2]).sum(axis=1), cut, open_,
        )  # fmt: skip


def _undistorted(points: FloatArray, camera: CameraCalibration) -> FloatArray:
    """(M, 2) pixels → (M, 2) on the plane at distance 1."""
    if not len(points):
        return points
    if not len(camera.distortion):
        rays = np.linalg.inv(camera.matrix) @ np.vstack([points.T, np.ones(len(points))])
        return np.asarray(rays[:2].T)
    found = cv2.undistortPoints(points[:, None], camera.matrix, camera.distortion)
    return np.asarray(found[:, 0], np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Bodies:
    """N of them.

    ahead: (N, 2) unit vector on the ground from the camera to the middle. distance, height, width:
    (N,) m. variances: (N, 2) m² of the distance and sideways, by the boxes' error; shapes:
    (N, 3) of the distance, sideways and of the middle's height, by the body's unknown form. rise:
    (N,) m of distance for 1 m of the ground's height. tilt: (N, 2) m of distance for a radian of
    pitch, and sideways for one of roll. below: (N,) whether the near edge is under the horizon.
    """

    ahead: FloatArray
    distance: FloatArray
    height: FloatArray
    width: FloatArray
    variances: FloatArray
    shapes: FloatArray
    rise: FloatArray
    tilt: FloatArray
    below: npt.NDArray[np.bool_]


def _bodies(
    sides: _Sides, axes: FloatArray, camera_m: float, classes: npt.NDArray[np.uint8]
) -> _Bodies:
    """camera_m: height of the camera above the ground."""
    n = len(classes)
    h = camera_m

    def rays(points: FloatArray) -> FloatArray:
        return np.asarray(np.column_stack([points, np.ones(n)]) @ axes.T)

    middle = rays(sides.middle)
    level = np.linalg.norm(middle[:, :2], axis=1, keepdims=True)
    fallback = (np.column_stack([sides.away, np.zeros(n)]) @ axes.T)[:, :2]
    ahead = np.where(level > 1e-6, middle[:, :2], fallback)
    ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    step = sides.reach[:, None] * sides.away
    both = np.stack([rays(sides.middle - step), rays(sides.middle + step)], axis=1)  # near, far
    along, rising = (both[:, :, :2] * ahead[:, None]).sum(axis=2), both[:, :, 2]
    below = (rising[:, 0] < 0) & (h > LEAST_HEIGHT_M)
    past = along[:, 0] < 0  # the near edge lies beyond the nadir: there the top sticks out
    top = np.stack([past, np.ones(n, np.bool_)], axis=1)

    lengths, widths, heights = TYPICAL[classes].T
    depth, depth_sigma = across(lengths, widths)
    depth_sigma = np.hypot(depth_sigma, SPREAD[classes] * depth)
    mean = np.stack([np.zeros(n), depth, heights], axis=1)
    P = np.zeros((n, 3, 3))
    P[:, 0, 0] = NOWHERE_M**2
    P[:, 1, 1], P[:, 2, 2] = depth_sigma**2, (SPREAD[classes] * heights) ** 2
    H = np.stack([-rising, -rising * [-0.5, 0.5], along * top], axis=2)
    z = along * h
    # How the equations move with an edge, the ground, the pitch: by the depths of their rays.
    near = h / np.maximum(-rising[:, 0], 1e-9)
    end = np.maximum(near * along[:, 0] + depth, 0) / np.maximum(along[:, 1], 1e-9)
    depths = np.clip(np.stack([near, end], axis=1), 1e-3, FARTHEST_M)
    edge = np.column_stack([sides.away, np.zeros(n)]) @ axes.T
    edge_u, edge_z = (edge[:, :2] * ahead).sum(axis=1)[:, None], edge[:, 2:]
    pull = depths * (edge_u * -rising + edge_z * along)
    shared = sides.place[:, None, None] + sides.size[:, None, None] * np.array([[1, -1], [-1, 1]])
    R = shared * pull[:, :, None] * pull[:, None, :]
    boxed = R + 1e-6 * np.eye(2)
    shape = (SHAPE * depth[:, None] * rising) ** 2
    shape[:, 1] += np.where(sides.open, NOWHERE_M**2, 0)
    R = boxed + shape[:, :, None] * np.eye(2)
    S = H @ P @ H.transpose(0, 2, 1) + R
    S += 1e-9 * S * np.eye(2)  # however flat the view, it has an inverse
    gain = P @ H.transpose(0, 2, 1) @ np.linalg.inv(S)
    state = mean + (gain @ (z - (H @ mean[..., None])[..., 0])[..., None])[..., 0]
    left = np.eye(3) - gain @ H
    P = left @ P @ left.transpose(0, 2, 1) + gain @ R @ gain.transpose(0, 2, 1)
    rise = (gain @ along[..., None])[:, 0, 0]
    turn = depths * (along**2 + rising**2)
    pitch = (gain @ turn[..., None])[:, 0, 0]

    distance, body, tall = state.T
    tall = np.maximum(tall, 0.1)
    straight = np.maximum(np.hypot(distance, h - tall / 2), 0.1) / np.linalg.norm(middle, axis=1)
    width = 2 * sides.across * straight
    skewed = width * np.maximum(body, 0.1) / (4 * straight)  # its sides are at unlike distances
    by_box = (gain @ boxed @ gain.transpose(0, 2, 1))[:, 0, 0]
    variances = np.stack([by_box, sides.side * straight**2], axis=1)
    shapes = np.stack([P[:, 0, 0] - by_box, skewed**2 / 3, P[:, 2, 2] / 4], axis=1)
    return _Bodies(
        ahead, distance, tall, width, variances, shapes, rise,
        np.stack([pitch, h - tall / 2], axis=1), below,
    )  # fmt: skip


def _placed(
    tracks: Tracks,
    classes: npt.NDArray[np.uint8],
    bodies: _Bodies,
    eye: FloatArray,
    pose: Pose,
    c: GroundConfig,
) -> tuple[Objects, FloatArray]:
    """Objects, unchecked, and their lasting covariances (N, 3, 3)."""
    n = len(tracks)
    u = bodies.ahead
    v = np.stack([-u[:, 1], u[:, 0]], axis=1)
    turned = np.stack([u, v], axis=2)  # columns: along, sideways
    positions = np.empty((n, 3))
    positions[:, :2] = eye[:2] + bodies.distance[:, None] * u
    positions[:, 2] = c.ground_z_m + bodies.height / 2
    covariances = np.zeros((n, 6, 6))
    back = turned.transpose(0, 2, 1)
    covariances[:, :2, :2] = turned * bodies.variances[:, None] @ back
    covariances[:, 2, 2] = 1e-4

    lasting = np.zeros((n, 3, 3))
    once = bodies.shapes[:, :2] + (np.radians(c.tilt_sigma_deg) * bodies.tilt) ** 2
    once[:, 0] += (pose.covariance[2, 2] + c.ground_sigma_m**2) * bodies.rise**2
    lever = positions[:, :2] - pose.position[:2]
    J = np.zeros((n, 2, 3))
    J[:, 0, 0] = J[:, 1, 1] = 1
    J[:, 0, 2], J[:, 1, 2] = -lever[:, 1], lever[:, 0]
    of_pose = pose.covariance[np.ix_([0, 1, 3], [0, 1, 3])]
    lasting[:, :2, :2] = turned * once[:, None] @ back + J @ of_pose @ J.transpose(0, 2, 1)
    lasting[:, 2, 2] = c.ground_sigma_m**2 + bodies.shapes[:, 2]

    lengths, widths = TYPICAL[classes, 0], TYPICAL[classes, 1]
    upright = IS_VULNERABLE[classes] | (classes == ObjectClass.UNKNOWN)
    sizes = np.stack(
        [
            np.where(upright, np.clip(bodies.width, widths / 2, 2 * lengths),
                     np.clip(bodies.width, lengths, 1.5 * lengths)),
            np.where(upright, np.clip(bodies.width, widths / 2, 2 * widths), widths),
            bodies.height,
        ],
        axis=1,
    )  # fmt: skip
    quality = np.clip(tracks.scores.astype(np.float64), 0, 1)
    objects = Objects.none(tracks.stamp_ns, tracks.ready_ns).derived(
        ids=tracks.ids, stations=np.zeros(n, np.uint32), positions=positions,
        velocities=np.zeros((n, 3)), yaws=np.full(n, np.nan), sizes=sizes,
        covariances=covariances, classes=classes, quality=quality,
        measured_ns=np.full(n, tracks.stamp_ns),
    )  # fmt: skip
    return objects, lasting


def _headings(objects: Objects) -> FloatArray:
    """(N,) rad, of what moves surely; NaN else."""
    v = objects.velocities
    speed = np.maximum(np.hypot(v[:, 0], v[:, 1]), 1e-9)
    sideways = np.stack([-v[:, 1], v[:, 0]], axis=1) / speed[:, None]
    variance = np.einsum("ni,nij,nj->n", sideways, objects.covariances[:, 3:5, 3:5], sideways)
    sure = np.sqrt(np.maximum(variance, 0)) < STEADY_RAD * speed
    return np.where(sure, np.arctan2(v[:, 1], v[:, 0]), np.nan)
