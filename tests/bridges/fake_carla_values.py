"""Values of CARLA's Python API for its fake, from its documentation: left-handed, in degrees."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Vector3D:
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


class Location(Vector3D):
    pass


@dataclass
class Rotation:
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0


@dataclass
class BoundingBox:
    location: Location
    extent: Vector3D
    rotation: Rotation = field(default_factory=Rotation)


@dataclass
class Transform:
    location: Location = field(default_factory=Location)
    rotation: Rotation = field(default_factory=Rotation)

    def turn(self):
        """(3, 3) body to world, in Unreal's own components."""
        angles = np.radians([self.rotation.pitch, self.rotation.yaw, self.rotation.roll])
        (cp, cy, cr), (sp, sy, sr) = np.cos(angles), np.sin(angles)
        return np.array(
            [
                [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr],
                [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr],
                [sp, -cp * sr, cp * cr],
            ]
        )

    def get_matrix(self):
        at = self.location
        made = np.eye(4)
        made[:3, :3], made[:3, 3] = self.turn(), (at.x, at.y, at.z)
        return made.tolist()

    def on(self, parent):
        """Of what stands at ``self`` on a parent."""
        turn = parent.turn()
        a, b = self.location, parent.location
        place = turn @ (a.x, a.y, a.z) + (b.x, b.y, b.z)
        return Transform(Location(*place), angles_of(turn @ self.turn()))


def angles_of(turn):
    """Rotation of a (3, 3)."""
    return Rotation(
        float(np.degrees(np.arcsin(np.clip(turn[2, 0], -1, 1)))),
        float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))),
        float(np.degrees(np.arctan2(-turn[2, 1], turn[2, 2]))),
    )


def turn_by(vector):
    """(3, 3) of a small turn about an axis, by the components' own algebra."""
    angle = np.linalg.norm(vector)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
