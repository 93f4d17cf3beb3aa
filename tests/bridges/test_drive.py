"""A car model that is told speeds drives at them and turns as it is told."""

import numpy as np
import pytest

from bridges.drive import Car, drive


def driven(wished, yaw_rate, seconds=20.0, dt=0.05):
    """Speed and rate of turn of a simple car in the end: 4 m/s² of throttle, 8 of brakes, drag."""
    car, speed, turned = Car(), 0.0, 0.0
    for _ in range(round(seconds / dt)):
        command = drive(speed, wished, yaw_rate, car)
        assert command.throttle == 0 or command.brake == 0
        push = 4.0 * command.throttle * (-1 if command.reverse else 1)
        speed += dt * (push - 0.05 * speed)
        speed -= np.sign(speed) * min(abs(speed), dt * 8.0 * command.brake)
        turned = speed * np.tan(command.steer * car.steer_rad) / car.wheelbase_m
    return speed, turned


@pytest.mark.parametrize("wished", [12.0, 5.0, -3.0, 0.0])
@pytest.mark.parametrize("yaw_rate", [0.0, 0.3, -0.3])
def test_it_comes_to_the_speed_and_the_turn(wished, yaw_rate):
    speed, turned = driven(wished, yaw_rate)
    assert speed == pytest.approx(wished, abs=0.8)
    if abs(wished) > 2:
        assert turned == pytest.approx(yaw_rate, abs=0.08)


def test_it_brakes_when_it_is_too_fast():
    assert drive(20.0, 5.0, 0.0).brake > 0.5
    assert drive(3.0, 0.0, 0.0).brake >= 0.3
