"""The driver by rule: stops for whom it meets, goes on for whom it does not."""

import numpy as np
import pytest

from bridges.driver import EgoState, drive
from pipeline.objects import ObjectClass, Objects

PATH = np.array([[1.5, -200.0], [1.5, 200.0]])
CRUISE = 11.0


def objects(*rows, sigma=0.1, speed_sigma=0.2, quality=0.9):
    """Rows of x, y, vx, vy, yaw, length, width."""
    table = np.array(rows, float).reshape(-1, 7)
    n = len(table)
    P = np.tile(np.diag([sigma**2] * 3 + [speed_sigma**2] * 3), (n, 1, 1))
    return Objects(
        0, 0, np.arange(n, dtype=np.int32), np.zeros(n, np.uint32),
        np.column_stack([table[:, :2], np.full(n, 0.8)]),
        np.column_stack([table[:, 2:4], np.zeros(n)]), table[:, 4],
        np.column_stack([table[:, 5:], np.full(n, 1.6)]), P,
        np.full(n, ObjectClass.CAR, np.uint8), np.full(n, quality), np.zeros(n, np.int64),
    )  # fmt: skip


def ego(y=-40.0, speed=CRUISE):
    return EgoState(np.array([1.5, y]), speed, np.array([4.6, 1.8]))


def crossing_car(arrives_s, speed=12.0):
    return (1.5 - speed * arrives_s, 0.0, speed, 0.0, 0.0, 4.6, 1.8)


def test_goes_on_with_nobody_or_with_who_is_no_concern():
    assert drive(objects(), ego(), PATH, CRUISE) == CRUISE
    oncoming = (-2.0, 40.0, 0.0, -12.0, -np.pi / 2, 4.6, 1.8)
    parked = (4.9, -10.0, 0.0, 0.0, np.pi / 2, 8.5, 2.4)
    gone = crossing_car(-1.5)
    behind = (1.5, -60.0, 0.0, 8.0, np.pi / 2, 4.6, 1.8)
    for row in (oncoming, parked, gone, behind):
        assert drive(objects(row), ego(), PATH, CRUISE) == CRUISE


@pytest.mark.parametrize("arrives_s", (3.0, 3.5, 4.0))
def test_slows_for_who_crosses_at_the_same_time_only(arrives_s):
    """The ego would be there after 40 / 11 = 3.6 s."""
    meets = drive(objects(crossing_car(arrives_s)), ego(), PATH, CRUISE)
    assert meets < CRUISE + 1e-9
    close = drive(objects(crossing_car(arrives_s - 2.4)), ego(y=-13.0), PATH, CRUISE)
    assert close < 9.0
    assert drive(objects(crossing_car(0.8)), ego(), PATH, CRUISE) == CRUISE


def test_stops_before_who_stands_in_the_way_and_never_reaches_them():
    y, speed = -60.0, CRUISE
    stands = objects((1.5, 0.0, 0.0, 0.0, 0.0, 4.6, 1.8))
    for _ in range(400):
        wish = drive(stands, ego(y, speed), PATH, CRUISE)
        speed = float(np.clip(wish, speed - 0.325, speed + 0.1))
        y += speed * 0.05
    assert speed < 0.2 and -8.0 < y < -2.3 - 0.9 - 0.5


def test_noise_of_who_stands_beside_the_way_does_not_stop_it():
    rng = np.random.default_rng(2)
    for _ in range(200):
        drift = rng.normal(0, 0.2, 2)
        parked = objects((4.8, -10.0, *drift, np.pi / 2, 8.5, 2.4), sigma=0.1, speed_sigma=0.2)
        assert drive(parked, ego(), PATH, CRUISE) == CRUISE


def test_what_hardly_exists_is_not_acted_upon():
    stands = (1.5, -25.0, 0.0, 0.0, 0.0, 4.6, 1.8)
    assert drive(objects(stands, quality=0.2), ego(), PATH, CRUISE) == CRUISE
    assert drive(objects(stands, quality=0.8), ego(), PATH, CRUISE) < CRUISE


def test_follows_a_bent_path():
    bent = np.array([[1.5, -50.0], [1.5, 0.0], [60.0, 0.0]])
    waits = (25.0, 0.0, 0.0, 0.0, np.pi / 2, 4.6, 1.8)
    straight_on = (1.5, 25.0, 0.0, 0.0, 0.0, 4.6, 1.8)
    assert drive(objects(waits), ego(y=-3.0), bent, CRUISE) < CRUISE + 4
    assert drive(objects(waits), ego(y=-1.0, speed=9.0), bent, 20.0) < 14.0
    assert drive(objects(straight_on), ego(y=-1.0), bent, CRUISE) == CRUISE
