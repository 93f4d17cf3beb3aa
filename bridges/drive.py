"""From the speed and the rate of turn that are wished for to what a driver does."""

from dataclasses import dataclass

import numpy as np

from bridges.simulator import Drive


@dataclass(frozen=True, slots=True)
class Car:
    """wheelbase_m; steer_rad: of the front wheels at full lock; gains of the pedals, s/m."""

    wheelbase_m: float = 2.8
    steer_rad: float = 0.6
    throttle_gain: float = 0.25
    brake_gain: float = 0.15
    idle_throttle: float = 0.02
    """For each m/s of the wished speed, what holds it on the flat."""


def drive(speed_mps: float, wished_mps: float, yaw_rate: float, car: Car | None = None) -> Drive:
    """Pedals by how far the speed is off; wheels by what turns a car at this speed as wished.

    speed_mps: forward, now; wished_mps: negative is backward. yaw_rate: rad/s, counter-clockwise.
    """
    car = car or Car()
    reverse = wished_mps < -0.1
    sign = -1.0 if reverse else 1.0
    off = sign * (wished_mps - speed_mps)
    hold = car.idle_throttle * abs(wished_mps)
    throttle = float(np.clip(hold + car.throttle_gain * off, 0.0, 1.0))
    brake = float(np.clip(-car.brake_gain * off - hold, 0.0, 1.0)) if off < 0 else 0.0
    if abs(wished_mps) < 0.1:
        throttle, brake = 0.0, max(brake, 0.3)
    basis = sign * max(abs(speed_mps), 2.0)
    angle = float(np.arctan(car.wheelbase_m * yaw_rate / basis))
    steer = float(np.clip(angle / car.steer_rad, -1.0, 1.0))
    return Drive(throttle if brake == 0 else 0.0, steer, brake, reverse)
