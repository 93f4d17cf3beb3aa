"""Objects, poses and plans as messages and back."""

from typing import Any

import numpy as np
from leadsight_msgs import msg as own
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import LaserScan

from comms.fusion import Fused
from comms.request import MAX_LEAD_S, MAX_POINTS, Plan, Sight
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import MAX_OBJECTS, Objects
from pipeline.pose import Pose
from ros_nodes.messages import header, packed, read_array, stamp_of

MAX_PLAN_POSES = 10_000
MAX_BEAMS = 1 << 16
MAX_SIGHT_M = 1000.0
SECTORS = 36
LEAST_PLAN_SPEED = 1.0
"""m/s along a path without times, where the vehicle stands still."""
UNKNOWN_POSE_SIGMAS = (0.5, 0.5, 0.5, np.radians(1))
"""m, m, m, rad: of an odometry whose covariance is all zeros, which says that nobody filled it."""


def objects_message(fused: Fused, frame_id: str) -> own.ObjectArray:
    """leadsight_msgs/ObjectArray."""
    objects = fused.objects
    return own.ObjectArray(
        header=header(objects.stamp_ns, frame_id),
        ready_ns=objects.ready_ns,
        stations=packed("I", objects.stations.astype(np.uint32)),
        ids=packed("i", objects.ids.astype(np.int32)),
        positions=packed("d", objects.positions),
        velocities=packed("f", objects.velocities.astype(np.float32)),
        yaws=packed("f", objects.yaws.astype(np.float32)),
        sizes=packed("f", objects.sizes.astype(np.float32)),
        covariances=packed("f", objects.covariances.astype(np.float32)),
        classes=packed("B", objects.classes),
        quality=packed("f", objects.quality.astype(np.float32)),
        measured_ns=packed("q", objects.measured_ns),
        sources=packed("I", fused.sources.astype(np.uint32)),
        source_ends=packed("I", fused.ends.astype(np.uint32)),
    )


def fused_of(message: own.ObjectArray, frame_id: str) -> Fused:
    """Objects of any stations, and who contributed to each.

    Raises:
        InputError: another frame, arrays that do not fit together, a value that cannot be.
    """
    _check_frame("ObjectArray", message.header.frame_id, frame_id)
    n = len(message.ids)
    if n > MAX_OBJECTS:
        raise InputError(f"ObjectArray.ids holds {n} objects, allowed are {MAX_OBJECTS}")

    def read(name: str, dtype: Any, *shape: int) -> Any:
        return read_array(f"ObjectArray.{name}", getattr(message, name), dtype, (n, *shape))

    covariances = read("covariances", np.float32, 6, 6).astype(np.float64)
    objects = Objects(
        stamp_of(message.header),
        message.ready_ns,
        read("ids", np.int32),
        read("stations", np.uint32),
        read("positions", np.float64, 3),
        read("velocities", np.float32, 3).astype(np.float64),
        read("yaws", np.float32).astype(np.float64),
        read("sizes", np.float32, 3).astype(np.float64),
        (covariances + covariances.transpose(0, 2, 1)) / 2,
        read("classes", np.uint8),
        read("quality", np.float32).astype(np.float64),
        read("measured_ns", np.int64),
    )
    _check_covariances(objects.covariances)
    ends, sources = message.source_ends, np.array(message.sources, np.uint32)
    if not len(ends) and not len(sources):
        return Fused(objects, objects.stations, np.arange(1, n + 1, dtype=np.uint32))
    ends = read("source_ends", np.uint32)
    if (np.diff(ends.astype(np.int64), prepend=0) < 0).any() or ends[-1] != len(sources):
        raise InputError(
            "ObjectArray.source_ends must rise to the number of sources; its sender is at fault"
        )
    return Fused(objects, sources, ends)


def objects_of(message: own.ObjectArray, frame_id: str) -> Objects:
    """What a vehicle perceives itself.

    Raises:
        InputError: as ``fused_of``; objects of other stations, which must not be told as own; an
            id twice.
    """
    objects = fused_of(message, frame_id).objects
    if objects.stations.any():
        raise InputError(
            f"objects: one is of station {objects.stations.max()}; give own perception only, "
            "stations 0"
        )
    if len(np.unique(objects.ids)) != len(objects):
        raise InputError("objects: an id stands there twice; its sender is at fault")
    return objects


def pose_of(message: Odometry, frame_id: str) -> Pose:
    """The twist, which is in the vehicle's own frame, is turned into the fixed one.

    Raises:
        InputError: another frame, a value that is not finite, an orientation that is none.
    """
    _check_frame("Odometry", message.header.frame_id, frame_id)
    at, rotation = message.pose.pose.position, attitude_of(message)
    velocity = message.twist.twist.linear
    given = np.array(message.pose.covariance, np.float64).reshape(6, 6)
    if given.any():
        rows = [0, 1, 2, 5]  # x, y, z and the turn about z
        covariance = given[np.ix_(rows, rows)]
        covariance = (covariance + covariance.T) / 2
    else:
        covariance = np.diag(np.square(UNKNOWN_POSE_SIGMAS))
    return Pose(
        stamp_of(message.header),
        np.array([at.x, at.y, at.z]),
        float(np.arctan2(rotation[1, 0], rotation[0, 0])),
        rotation @ np.array([velocity.x, velocity.y, velocity.z]),
        covariance,
        frame_id,
    )


def attitude_of(message: Odometry) -> FloatArray:
    """(3, 3) rotation, the vehicle's axes → the fixed frame's.

    Raises:
        InputError: an orientation that is none.
    """
    q = message.pose.pose.orientation
    turn = np.array([q.w, q.x, q.y, q.z])
    length = float(np.linalg.norm(turn))
    if not 0.99 < length < 1.01:
        raise InputError(f"Odometry: an orientation of length {length:g} is none; normalize it")
    return _rotation(turn / length)


def path_of(message: Path, frame_id: str) -> FloatArray | None:
    """(K, 2) m; None where the path is empty.

    Raises:
        InputError: another frame, too many poses, a value not finite.
    """
    if not message.poses:
        return None
    _check_frame("Path", message.header.frame_id, frame_id)
    if len(message.poses) > MAX_PLAN_POSES:
        raise InputError(f"Path: {len(message.poses)} poses, allowed are {MAX_PLAN_POSES}")
    places = [p.pose.position for p in message.poses]
    points: FloatArray = np.array([(p.x, p.y) for p in places], np.float64)
    if not np.isfinite(points).all():
        raise InputError("Path: a position is not finite; its sender is at fault")
    return points


def plan_of(message: Path, frame_id: str, speed: float, now_ns: int) -> Plan | None:
    """The part of a path that a request has room for; None where the path is empty.

    Where the poses' stamps do not tell when, the vehicle follows the path at ``speed`` in m/s from
    the path's stamp on, or from ``now_ns`` where that is zero.

    Raises:
        InputError: another frame, too many poses, times that do not rise, a value not finite.
    """
    points = path_of(message, frame_id)
    if points is None:
        return None
    begin_ns = stamp_of(message.header) or now_ns
    stamps = np.array([stamp_of(p.header) for p in message.poses], np.int64)
    if stamps[-1] > stamps[0]:
        begin_ns = min(begin_ns, int(stamps[0]))
        times: FloatArray = (stamps - begin_ns).astype(np.float64) * 1e-9
        if (np.diff(times) < 0).any():
            raise InputError("Path: the poses' stamps fall; give rising ones, or zeros")
    else:
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        times = np.append(0.0, np.cumsum(steps)) / max(speed, LEAST_PLAN_SPEED)
    if len(times) > MAX_POINTS or times[-1] > MAX_LEAD_S:
        ends = np.minimum(times[[0, -1]], MAX_LEAD_S)
        spaced: FloatArray = np.linspace(ends[0], ends[1], MAX_POINTS)
        points = np.stack([np.interp(spaced, times, axis) for axis in points.T], axis=1)
        times = spaced
    return Plan(begin_ns, times, points)


def sight_of(message: LaserScan, pose: Pose) -> Sight:
    """How far the view is free, of a scan in the vehicle's own axes about its middle: in each
    sector the shortest beam; beams without an echo are free to the scanner's range.

    Raises:
        InputError: no beams or too many, angles or ranges that are not finite or not rising.
    """
    ranges = np.frombuffer(message.ranges, np.float32).astype(np.float64)
    limits = (message.angle_min, message.angle_increment, message.range_max)
    if not 0 < len(ranges) <= MAX_BEAMS or not np.isfinite(limits).all():
        raise InputError(f"LaserScan: {len(ranges)} beams; give 1 to {MAX_BEAMS}, angles finite")
    if message.angle_increment <= 0 or not 0 < message.range_max <= MAX_SIGHT_M:
        raise InputError("LaserScan: angle_increment and range_max must be above 0")
    ranges = np.where(np.isnan(ranges), 0.0, np.clip(ranges, 0, message.range_max))
    angles = message.angle_min + np.arange(len(ranges)) * message.angle_increment + pose.yaw
    sector = (angles / (2 * np.pi) % 1.0 * SECTORS).astype(np.intp) % SECTORS
    free = np.full(SECTORS, np.inf)
    np.minimum.at(free, sector, ranges)
    return Sight(pose.position[:2].copy(), np.where(np.isinf(free), 0.0, free))


def _check_frame(what: str, given: str, wanted: str) -> None:
    if given != wanted:
        raise InputError(
            f"{what} in frame {given!r:.40}, v2x.frame_id is {wanted!r:.40}: transform it, or set "
            "v2x.frame_id"
        )


def _check_covariances(covariances: FloatArray) -> None:
    """Raises InputError: one that no random state has."""
    if not len(covariances):
        return
    least = np.linalg.eigvalsh(covariances)[:, 0]
    if (least < -1e-4 * np.trace(covariances, axis1=1, axis2=2)).any():
        raise InputError(
            "ObjectArray.covariances: one is not positive semidefinite; its sender is at fault"
        )


def _rotation(q: FloatArray) -> FloatArray:
    """(3, 3) of a unit quaternion w, x, y, z."""
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
