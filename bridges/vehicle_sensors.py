"""What a simulated vehicle carries."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bridges.simulator import Abilities, Aim, Sensor, SensorKind, pose_of
from pipeline.config import Config, option


@dataclass(frozen=True)
class SensorsConfig(Config):
    """What a simulated vehicle carries."""

    width: int = option(640, "Image width in pixels, even.", low=64, high=4096)
    height: int = option(480, "Image height in pixels, even.", low=64, high=4096)
    fov_deg: float = option(45.0, "Horizontal field of view.", low=5, high=120)
    encoding: str = option("rgb8", "rgb8, or bayer_<order><bits>: RAW.")
    gimbal: bool = option(True, "Camera and IMU hang in the gimbal, where there is one.")
    pitch_deg: float = option(20.0, "How far down a camera without gimbal looks.", low=-90, high=90)
    imu_hz: float = option(
        200.0,
        "Samples of the IMU a second, where there are as many: UAVs have 200, CARLA's cars one a "
        "tick; 0: no IMU.",
        low=0,
        high=1000,
    )
    depth: bool = option(False, "Publish depth.")
    lidar: bool = option(False, "Publish lidar.")
    gnss: bool = option(True, "Publish gnss.")
    v2x: bool = option(False, "Publish the radio messages that are heard, as v2x/heard.")
    every: int = option(1, "Pictures on every n-th tick.", low=1, high=1000)


def sensors_of(
    config: SensorsConfig, abilities: Abilities, number: int, flies: bool, label: str
) -> list[Sensor]:
    """For the actor ``number``: those of the configuration that the simulator has, with names that
    begin with ``label``."""
    hangs = config.gimbal and flies and Aim in abilities.controls
    ahead = np.eye(4) if hangs else pose_of(np.zeros(3), 0.0, np.radians(config.pitch_deg))

    def sensor(kind: SensorKind, name: str, **options: Any) -> Sensor:
        return Sensor(kind, label + name, number, **options)

    seen: dict[str, Any] = dict(
        mount=ahead, on_gimbal=hangs, width=config.width, height=config.height,
        fov_deg=config.fov_deg, every=config.every,
    )  # fmt: skip
    wished = [
        sensor(SensorKind.CAMERA, "camera", encoding=config.encoding, **seen),
        sensor(SensorKind.BOXES, "truth", **seen),
        sensor(SensorKind.ODOMETRY, "odometry"),
    ]
    if hangs:
        wished.append(sensor(SensorKind.ODOMETRY, "gimbal", on_gimbal=True))
    if config.imu_hz:
        wished.append(sensor(SensorKind.IMU, "imu", on_gimbal=hangs, rate_hz=config.imu_hz))
    if config.depth:
        wished.append(sensor(SensorKind.DEPTH, "depth", **seen))
    if config.lidar:
        wished.append(sensor(SensorKind.LIDAR, "lidar"))
    if config.v2x:
        wished.append(sensor(SensorKind.V2X, "v2x"))
    if config.gnss:
        wished.append(sensor(SensorKind.GNSS, "gnss"))
    return [s for s in wished if s.kind in abilities.sensors]
