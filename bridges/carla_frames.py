"""CARLA's frame of reference and ours, both ways, in numpy alone.

CARLA is left-handed: x forward, y right, z up, degrees, ``Rotation(pitch, yaw, roll)``. Ours is
x forward (east), y left (north), z up. One is the other with y flipped, S = diag(1, -1, 1), so a
rotation M becomes S M S = Rz(-yaw) Ry(-pitch) Rx(roll), and no information is lost. Every function
takes any leading shape.

Where a rate of turn comes from decides on its signs (``AXIAL``, ``ROTATOR``). CARLA's physics
engine computes with the components of its own frame as if that were right-handed, so its rates are
an axial vector: ours are (-x, +y, -z). Rates that are differences of a ``Rotation``'s angles
(roll, pitch, yaw) are ours as (+x, -y, -z). In recordings of a real server the angular velocity of
vehicles is axial, in the world's axes, in degrees. What the IMU of a server of yours says,
``leadsight carla-doctor`` measures.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError

AXIAL = "axial"
ROTATOR = "rotator"
CONVENTIONS = (AXIAL, ROTATOR)
_SIGNS = {AXIAL: np.array([-1.0, 1.0, -1.0]), ROTATOR: np.array([1.0, -1.0, -1.0])}
FARTHEST_M = 1000.0
"""What CARLA's depth pictures say of the sky."""
EARTH_RADIUS_M = 6378137.0
SCALE_0_9_16 = 0.9996
PROJECTIONS = ("mercator", "transverse")


def flipped(vectors: FloatArray) -> FloatArray:
    """(..., 3) locations, velocities or accelerations, CARLA's to ours or back."""
    found: FloatArray = np.asarray(vectors, np.float64) * (1.0, -1.0, 1.0)
    return found


def rotations(rotators: FloatArray) -> FloatArray:
    """(..., 3) pitch, yaw, roll in degrees as CARLA has them → (..., 3, 3) body to world, ours."""
    pitch, yaw, roll = np.moveaxis(np.radians(np.asarray(rotators, np.float64)), -1, 0)
    cp, sp, cy, sy = np.cos(pitch), -np.sin(pitch), np.cos(yaw), -np.sin(yaw)
    cr, sr = np.cos(roll), np.sin(roll)
    rows = (
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotators(turns: FloatArray) -> FloatArray:
    """(..., 3, 3) ours → (..., 3) pitch, yaw, roll in degrees, yaw and roll within ±180.

    Straight up or down, where yaw and roll turn about one axis, roll is 0.
    """
    turns = np.asarray(turns, np.float64)
    level = np.hypot(turns[..., 0, 0], turns[..., 1, 0])
    pitch = np.arctan2(turns[..., 2, 0], level)
    steep = level < 1e-9
    yaw = np.where(
        steep,
        np.arctan2(turns[..., 0, 1], turns[..., 1, 1]),
        -np.arctan2(turns[..., 1, 0], turns[..., 0, 0]),
    )
    roll = np.where(steep, 0.0, np.arctan2(turns[..., 2, 1], turns[..., 2, 2]))
    found: FloatArray = np.degrees(np.stack([pitch, yaw, roll], axis=-1))
    return found


def poses(locations: FloatArray, angles: FloatArray) -> FloatArray:
    """(..., 3) locations in m and (..., 3) pitch, yaw, roll → (..., 4, 4) body to world, ours."""
    made = np.zeros((*np.shape(locations)[:-1], 4, 4))
    made[..., :3, :3] = rotations(angles)
    made[..., :3, 3] = flipped(locations)
    made[..., 3, 3] = 1.0
    return made


def transforms(given: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(..., 4, 4) ours → CARLA's locations (..., 3) m and pitch, yaw, roll (..., 3) degrees."""
    return flipped(given[..., :3, 3]), rotators(given[..., :3, :3])


def body_velocities(velocities: FloatArray, turns: FloatArray) -> FloatArray:
    """(..., 3) in CARLA's world, of bodies turned by (..., 3, 3), ours → (..., 3) in the body's
    axes, ours: R^T S v, exact in every attitude."""
    found: FloatArray = np.einsum("...ij,...i->...j", turns, flipped(velocities))
    return found


def turn_rates(
    rates: FloatArray, convention: str = AXIAL, degrees: bool = False, back: bool = False
) -> FloatArray:
    """(..., 3) CARLA's rates of turn → (..., 3) rad/s ours, about the same body's or world's axes.

    degrees: CARLA gives them in degrees. back: from ours to CARLA's.

    Raises:
        InputError: no such convention.
    """
    if convention not in _SIGNS:
        raise InputError(f"convention {convention!r:.40}: give one of {', '.join(CONVENTIONS)}")
    signed = np.asarray(rates, np.float64) * _SIGNS[convention]
    unit = np.degrees(1.0) if back else np.radians(1.0)
    found: FloatArray = signed * (unit if degrees else 1.0)
    return found


def lidar_points(data: bytes | memoryview) -> tuple[npt.NDArray[np.float32], ...]:
    """CARLA's buffer of N float32 x, y, z, intensity → (N, 3) float32, m ours, and (N,) 0 to 1.

    Raises:
        InputError: no whole number of points.
    """
    if len(data) % 16:
        raise InputError(f"LiDAR: {len(data)} bytes are no whole number of points of 16 bytes")
    rows = np.frombuffer(data, np.float32).reshape(-1, 4)
    rows = rows[np.isfinite(rows).all(axis=1)]
    xyz = rows[:, :3] * np.array([1, -1, 1], np.float32)
    return xyz, np.clip(rows[:, 3], 0, 1)


def picture(data: bytes | memoryview, height: int, width: int) -> npt.NDArray[np.uint8]:
    """CARLA's buffer of a camera → (H, W, 4) uint8, blue green red alpha, not copied.

    Raises:
        InputError: another size.
    """
    if len(data) != height * width * 4:
        raise InputError(f"picture: {len(data)} bytes are no {width}x{height} of 4 bytes")
    return np.frombuffer(data, np.uint8).reshape(height, width, 4)


def depth_meters(bgra: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(..., 4) of a depth camera → (...) float32 m along the view, inf for the sky.

    24 bits, red the lowest, of 1 km.
    """
    blue, green, red = (bgra[..., k].astype(np.uint32) for k in range(3))
    whole = red | green << 8 | blue << 16
    meters = (whole * (FARTHEST_M / (2**24 - 1))).astype(np.float32)
    meters[whole == 2**24 - 1] = np.inf
    return meters


@dataclass(frozen=True, slots=True)
class GeoFrame:
    """Where on earth a map lies, as CARLA computes it: on a sphere.

    latitude, longitude: degrees, of the map's origin. altitude: m.
    projection: mercator, of servers up to 0.9.15; transverse, as the wheel of 0.9.16 computes for
    every map, with a scale of 0.9996 whatever the map says.
    mirrored: latitude falls where our y grows. The wheel of 0.9.16 has it so (CARLA's pull request
    9552 is about it), which turns north into south.

    Raises:
        InputError: out of range, or no such projection.
    """

    latitude: float
    longitude: float
    altitude: float = 0.0
    projection: str = "mercator"
    mirrored: bool = False

    def __post_init__(self) -> None:
        if not (abs(self.latitude) < 90 and abs(self.longitude) <= 180):
            raise InputError(
                f"map: latitude {self.latitude} and longitude {self.longitude} are no place on "
                "earth; give them in degrees"
            )
        if self.projection not in PROJECTIONS:
            raise InputError(
                f"projection {self.projection!r:.40}: give one of {', '.join(PROJECTIONS)}"
            )

    def to_wgs84(self, positions: FloatArray) -> FloatArray:
        """(..., 3) m, ours → (..., 3) latitude and longitude in degrees, altitude in m."""
        x, y, z = np.moveaxis(np.asarray(positions, np.float64), -1, 0)
        y = -y if self.mirrored else y
        middle = np.radians(self.latitude)
        if self.projection == "mercator":
            radius = EARTH_RADIUS_M * np.cos(middle)
            upward = np.arctanh(np.sin(middle)) + y / radius
            latitude, longitude = np.arctan(np.sinh(upward)), x / radius
        else:
            radius = EARTH_RADIUS_M * SCALE_0_9_16
            along = middle + y / radius
            latitude = np.arcsin(np.sin(along) / np.cosh(x / radius))
            longitude = np.arctan2(np.sinh(x / radius), np.cos(along))
        found = np.degrees(latitude), self.longitude + np.degrees(longitude), self.altitude + z
        return np.stack(np.broadcast_arrays(*found), axis=-1)
