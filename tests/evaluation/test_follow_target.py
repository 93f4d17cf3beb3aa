"""Following late: what is seen comes to the ground where it is, and latency costs what it must."""

from dataclasses import replace
from functools import cache

import pytest

from bridges.follow import FollowConfig
from bridges.simulator import Sensor, SensorKind
from bridges.traffic import TrafficConfig
from bridges.traffic_simulator import town_simulator
from evaluation.follow_target import (
    ARMS,
    Flight,
    PursuitConfig,
    choose_target,
)
from evaluation.pursuit_eyes import NoisyTruth
from pipeline.errors import InputError

CAMERA = Sensor(SensorKind.BOXES, "boxes", 1, width=320, height=240, fov_deg=20.0)
CONFIG = PursuitConfig(seconds=8.0, hand_over_s=4.0, fov_deg=12.0)
FOLLOW = FollowConfig(orbit_mps=8.0)


@cache
def flown(arm, added_ms=300.0, seed=3, **options):
    simulator = town_simulator(
        TrafficConfig(blocks=3, vehicles=8, people=0, parked=0, step_s=0.04), seed
    )
    target = choose_target(simulator, seed)
    config = replace(CONFIG, added_ms=added_ms, **options)
    eyes = NoisyTruth(target, seed, config.center_noise, config.size_noise)
    flight = Flight(simulator, target, eyes, arm, config, FOLLOW)
    return flight.fly()


def test_forecasts_point_better_than_stale_ones_and_the_oracle_best():
    found = {arm: flown(arm).error_deg for arm in ("stale", "forecast", "oracle")}
    assert found["oracle"] < 0.3 and found["oracle"] < found["forecast"]
    assert found["forecast"] < 0.6 * found["stale"]


def test_latency_costs_the_stale_arm_and_not_the_oracle():
    assert flown("stale", 300.0).error_deg > 2 * flown("stale", 0.0).error_deg
    one, other = flown("oracle", 0.0), flown("oracle", 400.0)
    assert one.error_deg == other.error_deg and one.in_view == 1.0 and not one.lost


def test_the_same_seed_is_the_same_flight():
    one, other = (flown.__wrapped__("forecast", seed=7) for _ in range(2))
    assert one.error_deg == other.error_deg and one.in_view == other.in_view


def test_what_leaves_the_picture_is_lost_and_counts_as_out_of_it_to_the_end():
    found = flown("stale", 1500.0, seed=5)
    assert found.lost and found.in_view < 0.9
    assert found.lost_after_s + CONFIG.lost_s < CONFIG.seconds


def test_an_unknown_arm_is_refused_and_the_simulator_closed():
    simulator = town_simulator(TrafficConfig(blocks=2, vehicles=6, people=0, parked=0), 1)
    target = choose_target(simulator, 1)
    with pytest.raises(InputError, match="stale, at-use"):
        Flight(simulator, target, NoisyTruth(target, 1, 0, 0), "guess").fly()
    with pytest.raises(InputError, match="closed"):
        simulator.tick()
    assert ARMS[-1] == "oracle"


def test_a_target_is_waited_for_and_nobody_who_drives_is_an_input_error():
    simulator = town_simulator(TrafficConfig(blocks=2, vehicles=6, people=0, parked=0), 1)
    simulator.moment.actors.velocities[:] = 0
    assert choose_target(simulator, 1) in simulator.moment.actors.ids
    assert simulator.moment.frame >= 1
    simulator.close()
    nobody = town_simulator(TrafficConfig(blocks=2, vehicles=1, cyclists=0, people=0, parked=0), 1)
    before = nobody.tick

    def stand():
        moment = before()
        moment.actors.velocities[:] = 0
        return moment

    nobody.tick = stand
    nobody.moment.actors.velocities[:] = 0
    with pytest.raises(InputError, match="no vehicle drives"):
        choose_target(nobody, 1)
    nobody.close()
