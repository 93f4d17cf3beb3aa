"""A quadrotor that is told velocities, and the gimbal under it: simple, smooth, deterministic.

The craft tilts its thrust toward the acceleration that takes it to the velocity that it is told,
within what tilt and thrust allow; its attitude follows with a lag, the air drags it. The gimbal
holds a direction in the world, follows what it is told with a lag and a limited rate. After the
cascaded velocity and attitude control of common autopilots, with the motors' own dynamics left out.
"""

from dataclasses import dataclass, replace

import numpy as np

from bridges.simulator import Aim, Inertial, Place, Velocity, pose_of
from pipeline.box import FloatArray

GRAVITY = 9.80665
SUBSTEP_S = 0.005


@dataclass(frozen=True, slots=True)
class CraftModel:
    """tilt: rad, and acceleration: m/s², the most. speed_lag_s, attitude_lag_s, gimbal_lag_s: time
    constants. drag: 1/s. yaw_rate, gimbal_rate: rad/s, the most."""

    tilt: float = 0.6
    acceleration: float = 6.0
    speed_lag_s: float = 0.5
    attitude_lag_s: float = 0.12
    drag: float = 0.05
    yaw_rate: float = 1.5
    gimbal_lag_s: float = 0.05
    gimbal_rate: float = 3.0


class Craft:
    """One quadrotor; its state after the last ``step``.

    position, velocity: (3,) world. rotation: (3, 3) body to world. rates: (3,) rad/s body.
    acceleration: (3,) m/s², world, without gravity. azimuth, elevation: of the gimbal, rad.
    """

    def __init__(
        self,
        pose: FloatArray,
        model: CraftModel | None = None,
        azimuth: float | None = None,
        elevation: float = -0.5,
    ) -> None:
        self.model = model or CraftModel()
        self.velocity = np.zeros(3)
        self.acceleration = np.zeros(3)
        self.rates = np.zeros(3)
        self._yaw_rate = self._azimuth_rate = self._elevation_rate = 0.0
        self._goal = Velocity(np.zeros(3))
        self.place(pose)
        self.azimuth = self.yaw if azimuth is None else azimuth
        self.elevation = elevation
        self._aim = Aim(_wrapped(self.azimuth), elevation)

    @property
    def pose(self) -> FloatArray:
        """(4, 4) body to world."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self.rotation, self.position
        return pose

    @property
    def gimbal_pose(self) -> FloatArray:
        """(4, 4) gimbal to world, x along its direction, no roll."""
        return pose_of(self.position, self.azimuth, -self.elevation)

    @property
    def gimbal_rates(self) -> FloatArray:
        """(3,) rad/s in the gimbal's axes."""
        turn = np.array([0.0, 0.0, self._azimuth_rate])
        rates: FloatArray = self.gimbal_pose[:3, :3].T @ turn + (0.0, -self._elevation_rate, 0.0)
        return rates

    def place(self, pose: FloatArray) -> None:
        """Be somewhere at once, at rest."""
        self.position = pose[:3, 3].copy()
        self.yaw = float(np.arctan2(pose[1, 0], pose[0, 0]))
        self.rotation = pose[:3, :3].copy()
        self.velocity[:] = 0.0
        self._up = self.rotation[:, 2].copy()

    def obey(self, control: Velocity | Aim | Place) -> None:
        """Until the next one of its kind."""
        if isinstance(control, Place):
            self.place(control.pose)
        elif isinstance(control, Aim):
            self._aim = control
        else:
            self._goal = control

    def step(self, step_ns: int, begin_ns: int = 0) -> tuple[Inertial, Inertial]:
        """Go on; what IMUs on the body and on the gimbal say meanwhile, without noise."""
        count = max(1, round(step_ns * 1e-9 / SUBSTEP_S))
        dt = step_ns * 1e-9 / count
        body, gimbal, felt, felt_gimbal = [], [], [], []
        for _ in range(count):
            self._advance(dt)
            force = self.acceleration + (0, 0, GRAVITY)
            body.append(self.rates)
            felt.append(self.rotation.T @ force)
            gimbal.append(self.gimbal_rates)
            felt_gimbal.append(self.gimbal_pose[:3, :3].T @ force)
        stamps = begin_ns + np.round((np.arange(count) + 0.5) * dt * 1e9).astype(np.int64)
        return (
            Inertial(stamps, np.array(body), np.array(felt), quaternion(self.rotation)),
            Inertial(
                stamps, np.array(gimbal), np.array(felt_gimbal),
                quaternion(self.gimbal_pose[:3, :3]),
            ),
        )  # fmt: skip

    def _advance(self, dt: float) -> None:
        m = self.model
        turn = float(np.clip(self._goal.yaw_rate, -m.yaw_rate, m.yaw_rate))
        self._yaw_rate += (turn - self._yaw_rate) * (1 - np.exp(-dt / m.attitude_lag_s))
        self.yaw = _wrapped(self.yaw + self._yaw_rate * dt)
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        x, y, z = self._goal.linear
        wished = (np.array([c * x - s * y, s * x + c * y, z]) - self.velocity) / m.speed_lag_s
        wished += m.drag * self.velocity
        size = float(np.linalg.norm(wished))
        wished *= min(1.0, m.acceleration / max(size, 1e-9))
        across = float(np.hypot(wished[0], wished[1]))
        wished[:2] *= min(1.0, np.tan(m.tilt) * (GRAVITY + wished[2]) / max(across, 1e-9))
        thrust = wished + (0, 0, GRAVITY)
        strength = float(np.linalg.norm(thrust))

        # The axis of the thrust follows with a lag; so does what it does to the craft.
        self._up += (thrust / strength - self._up) * (1 - np.exp(-dt / m.attitude_lag_s))
        self._up /= np.linalg.norm(self._up)
        # Its nose lies over the heading, however the thrust is tilted.
        x, y, z = self._up
        level, side = max(abs(z), 1e-9), float(np.copysign(1.0, z))
        nose = np.array([c * level, s * level, -side * (c * x + s * y)])
        nose /= np.linalg.norm(nose)
        rotation = np.stack([nose, np.cross(self._up, nose), self._up], axis=1)
        self.rates = rotation_vector(self.rotation.T @ rotation) / dt
        self.rotation = rotation
        self.acceleration = strength * self._up - (0, 0, GRAVITY) - m.drag * self.velocity
        self.position = self.position + (self.velocity + 0.5 * dt * self.acceleration) * dt
        self.velocity = self.velocity + self.acceleration * dt
        self._turn_gimbal(dt)

    def _turn_gimbal(self, dt: float) -> None:
        m, aim = self.model, self._aim
        share = (1 - np.exp(-dt / m.gimbal_lag_s)) / dt
        ahead = _wrapped(aim.azimuth - self.azimuth) * share + aim.azimuth_rate
        above = (aim.elevation - self.elevation) * share + aim.elevation_rate
        self._azimuth_rate = float(np.clip(ahead, -m.gimbal_rate, m.gimbal_rate))
        self._elevation_rate = float(np.clip(above, -m.gimbal_rate, m.gimbal_rate))
        self.azimuth = _wrapped(self.azimuth + self._azimuth_rate * dt)
        limit = np.pi / 2
        self.elevation = float(np.clip(self.elevation + self._elevation_rate * dt, -limit, limit))
        # What was told goes on turning, so a rate holds between two commands.
        self._aim = replace(
            aim,
            azimuth=_wrapped(aim.azimuth + aim.azimuth_rate * dt),
            elevation=float(np.clip(aim.elevation + aim.elevation_rate * dt, -limit, limit)),
        )


def quaternion(rotation: FloatArray) -> FloatArray:
    """(4,) x y z w of a rotation matrix (3, 3)."""
    xx, yy, zz = np.diagonal(rotation)
    squares = np.array([1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz])
    largest = int(squares.argmax())
    r = rotation
    a, b, c = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    d, e, f = r[1, 0] + r[0, 1], r[0, 2] + r[2, 0], r[2, 1] + r[1, 2]
    rows = np.array([[0, d, e, a], [d, 0, f, b], [e, f, 0, c], [a, b, c, 0]])
    rows[range(4), range(4)] = squares
    found: FloatArray = rows[largest] / (2 * np.sqrt(squares[largest]))
    return found


def rotation_vector(rotations: FloatArray) -> FloatArray:
    """(..., 3, 3) rotations by less than half a turn → (..., 3) rad."""
    r = rotations
    axis = np.stack(
        [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]],
        axis=-1,
    ) / 2  # fmt: skip
    sine = np.linalg.norm(axis, axis=-1)
    angle = np.arctan2(sine, (np.trace(r, axis1=-2, axis2=-1) - 1) / 2)
    vectors: FloatArray = axis * np.divide(
        angle, sine, out=np.ones_like(sine), where=sine > 1e-12
    )[..., None]  # fmt: skip
    return vectors


def rotation(vectors: FloatArray) -> FloatArray:
    """(..., 3) rad → (..., 3, 3), Rodrigues."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vectors / np.maximum(angle[..., 0], 1e-12), -1, 0)
    o = np.zeros_like(x)
    cross = np.stack([o, -z, y, z, o, -x, -y, x, o], axis=-1).reshape(*o.shape, 3, 3)
    turns: FloatArray = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turns


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
