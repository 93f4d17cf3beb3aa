"""Turn rates from noisy velocities, and what telling mean velocities brings on a circle."""

import numpy as np
import pytest

from comms.motion import MetricFilter
from comms.turning import TurnRates, along_chord
from tests.comms.made import MS, NOW
from tests.comms.scenes import at, station, things

SPEED = 10.0


def on_circle(rate, seconds, phase=0.0):
    """Places and velocities (2,) of what goes round at 10 m/s."""
    angle = phase + rate * seconds
    radius = SPEED / rate
    return (
        np.array([30 + radius * np.sin(angle), radius * (1 - np.cos(angle))]),
        SPEED * np.array([np.cos(angle), np.sin(angle)]),
    )


@pytest.mark.parametrize("rate", [0.3, -0.8])
@pytest.mark.parametrize("delay", [0.2, 0.5, 1.0])
def test_a_straight_prediction_of_the_mean_velocity_lands_where_the_turn_does(rate, delay):
    place, velocity = on_circle(rate, 1.0)
    some = things([place], velocity)
    after = along_chord(some, np.array([rate]), delay)
    landed = place + delay * after.velocities[0, :2]
    np.testing.assert_allclose(landed, on_circle(rate, 1.0 + delay)[0], atol=1e-9)
    unturned = along_chord(some, np.zeros(1), delay)
    np.testing.assert_array_equal(unturned.velocities, some.velocities)
    np.testing.assert_allclose(
        along_chord(some, np.array([rate]), -1.0).velocities, some.velocities
    )


def test_rates_are_found_of_what_turns_and_none_is_claimed_of_the_straight_the_slow_and_the_new():
    rng = np.random.default_rng(1)
    turns = TurnRates()
    for k in range(30):
        round_, straight_ = on_circle(0.5, 0.1 * k), ((0, 0), (9.0, 2.0))
        slow = ((5.0, 5.0), rng.normal(size=2) * 0.5)
        rows = [round_, straight_, slow] + ([((9.0, 9.0), (8.0, 0.0))] if k > 28 else [])
        places, velocities = (np.array(list(part)) for part in zip(*rows, strict=True))
        velocities = velocities + rng.normal(size=velocities.shape) * 0.1
        looked = things(places, velocities, stamp_ns=NOW + k * 100 * MS)
        turns.observe(looked)
        turns.observe(looked)  # the same look again says nothing
    rates = turns.of(np.array([3, 1, 77, 2, 4], np.int32))
    assert abs(rates[1] - 0.5) < 0.12
    assert (rates[[0, 2, 3, 4]] == 0).all()
    turns.observe(things([[0, 0.0]], (10.0, 0, 0), stamp_ns=NOW + 60_000 * MS))
    assert turns.of(np.array([1], np.int32)) == 0  # a minute later it is another motion


def error_on_circle(rate, seed, delay_ms=500, **options):
    """RMS error, m, of what a receiver knows half a second late of a car that circles."""
    rng = np.random.default_rng(seed)
    sender = station(1, selector="send_all", **options)
    receiver = station(2, selector="send_all")
    tracker, waiting, errors = MetricFilter(), [], []
    for k in range(65):
        now = NOW + k * 100 * MS
        seconds = 0.1 * k
        place, _ = on_circle(rate, seconds)
        seen = things([place + rng.normal(size=2) * 0.2], stamp_ns=now, ids=[5])
        sender.see(tracker.observe(seen), at((30.0, 60.0), stamp_ns=now))
        receiver.see(things([[200.0, 9.0]], stamp_ns=now), at((60.0, -60.0), stamp_ns=now))
        for one, other in ((sender, receiver), (receiver, sender)):
            waiting += [(now + delay_ms * MS, other, data) for data in one.outgoing(now)]
        for due, other, data in waiting:
            if due == now:
                other.incoming(data, now)
        if k > 30:
            objects = receiver.fused(now, now).objects
            cars = objects.selected((objects.stations == 1) & (objects.ids == 5))
            assert len(cars) == 1
            errors.append(np.linalg.norm(cars.positions[0, :2] - place))
    return float(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.parametrize("rate", [0.5, -0.5])
def test_on_a_circle_half_a_second_late_the_error_falls_and_on_a_straight_it_does_not_rise(rate):
    plain = np.mean([error_on_circle(rate, seed) for seed in range(2)])
    ahead = np.mean([error_on_circle(rate, seed, sender_prediction=True) for seed in range(2)])
    assert ahead < 0.85 * plain
    line = [error_on_circle(1e-4, seed) for seed in range(2)]
    same = [error_on_circle(1e-4, seed, sender_prediction=True) for seed in range(2)]
    assert np.mean(same) < 1.05 * np.mean(line)
