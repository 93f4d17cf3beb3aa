"""How a UAV follows a target: where its gimbal looks, and how it flies.

It knows one thing of the target: where it will be, and how fast, when the command is obeyed. How
late that knowledge is, and what was done about it, is not its matter (evaluation/follow_target.py
compares). The gimbal looks at the target and turns on as the line of sight does::

    ω = r × (v_target − v_own) / |r|²

The craft flies as the target does, closes what its distance and height are off, and may circle the
target meanwhile (standoff tracking); its nose follows the line of sight.
"""

from dataclasses import dataclass

import numpy as np

from bridges.simulator import MAX_RATE, Aim, Moment, Odometry, Velocity, pose_of
from pipeline.box import FloatArray
from pipeline.config import Config, option

_NEAREST_M = 1.0


@dataclass(frozen=True)
class FollowConfig(Config):
    """How a target is followed."""

    distance_m: float = option(30.0, "Kept to the target, over ground.", low=0, high=300)
    altitude_m: float = option(40.0, "Kept above the world's zero.", low=5, high=300)
    orbit_mps: float = option(
        0.0, "Speed at which it circles the target, clockwise if below 0.", low=-30, high=30
    )
    gain: float = option(0.8, "Speed for each meter off the distance, 1/s.", low=0, high=10)
    climb_gain: float = option(0.8, "Speed for each meter off the altitude, 1/s.", low=0, high=10)
    yaw_gain: float = option(1.5, "Rate of turn for each rad off the target, 1/s.", low=0, high=10)
    speed_mps: float = option(18.0, "Most over ground.", low=1, high=60)
    climb_mps: float = option(4.0, "Most up or down.", low=0.1, high=20)


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A target when the command will be obeyed.

    offset: (3,) m in world axes, from the craft to it. velocity: (3,) m/s in the world, its own.
    """

    offset: FloatArray
    velocity: FloatArray


def follow(sight: Sight, own: Odometry, config: FollowConfig) -> tuple[Velocity, Aim]:
    """What the craft and its gimbal are told. own: of the craft's body, now."""
    turn, position = own.pose[:3, :3], own.pose[:3, 3]
    own_velocity = turn @ own.velocity
    yaw = float(np.arctan2(turn[1, 0], turn[0, 0]))
    aim = look_along(sight.offset, sight.velocity - own_velocity)

    across = sight.offset[:2]
    ahead = np.array([np.cos(aim.azimuth), np.sin(aim.azimuth)])
    wished = sight.velocity[:2] + config.gain * (across - config.distance_m * ahead)
    wished = wished + config.orbit_mps * np.array([ahead[1], -ahead[0]])
    wished = wished * min(1.0, config.speed_mps / max(float(np.linalg.norm(wished)), 1e-9))
    climb = config.climb_gain * (config.altitude_m - position[2])
    c, s = np.cos(yaw), np.sin(yaw)
    linear = np.array(
        [
            c * wished[0] + s * wished[1],
            c * wished[1] - s * wished[0],
            np.clip(climb, -config.climb_mps, config.climb_mps),
        ]
    )
    off = (aim.azimuth - yaw + np.pi) % (2 * np.pi) - np.pi
    return Velocity(linear, float(np.clip(config.yaw_gain * off, -MAX_RATE, MAX_RATE))), aim


def look_along(offset: FloatArray, velocity: FloatArray) -> Aim:
    """The gimbal's aim at what is ``offset`` (3,) m away and moves by ``velocity`` (3,) m/s against
    the craft; both in world axes."""
    across = max(float(np.hypot(offset[0], offset[1])), 1e-6)
    far = max(float(np.linalg.norm(offset)), _NEAREST_M)
    azimuth = float(np.arctan2(offset[1], offset[0]))
    sideways = (offset[0] * velocity[1] - offset[1] * velocity[0]) / across
    outward = (offset[0] * velocity[0] + offset[1] * velocity[1]) / across
    azimuth_rate = sideways / max(across, _NEAREST_M)
    elevation_rate = (across * velocity[2] - offset[2] * outward) / far**2
    return Aim(
        azimuth,
        float(np.arctan2(offset[2], across)),
        float(np.clip(azimuth_rate, -MAX_RATE, MAX_RATE)),
        float(np.clip(elevation_rate, -MAX_RATE, MAX_RATE)),
    )


def true_sight(moment: Moment, own_id: int, target_id: int, ahead_s: float = 0.0) -> Sight:
    """The target as it is, both gone on as they go for ``ahead_s``.

    Raises:
        InputError: either is not there now.
    """
    actors = moment.actors
    own, target = actors.row(own_id), actors.row(target_id)
    apart = actors.positions[target] - actors.positions[own]
    drift = actors.velocities[target] - actors.velocities[own]
    return Sight(apart + ahead_s * drift, actors.velocities[target].copy())


def behind(moment: Moment, target_id: int, config: FollowConfig) -> FloatArray:
    """(4, 4) where a UAV begins to follow a target: behind it, its nose toward it.

    Raises:
        InputError: the target is not there now.
    """
    row = moment.actors.row(target_id)
    yaw = float(moment.actors.yaws[row])
    x, y, _ = moment.actors.positions[row]
    back = config.distance_m * np.array([np.cos(yaw), np.sin(yaw)])
    return pose_of(np.array([x - back[0], y - back[1], config.altitude_m]), yaw)
