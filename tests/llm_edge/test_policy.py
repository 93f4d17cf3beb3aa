"""The rule policy: always a decision that fits, and a judge of others'."""

import time

import numpy as np
import pytest

from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source, check
from llm_edge.policy import Policy
from llm_edge.scene import LinkState, Mission, Scene, TargetState
from tests.llm_edge.crowds import crowd
from tests.llm_edge.test_coding import scene


def decided(*args, **changed):
    return Policy(scene(*args, **{"cruise_mps": 5.0, **changed})).decide(77)


def test_it_goes_on_where_nobody_is_and_says_whose_decision_it_is():
    made = decided([])
    assert (made.action, made.speed_mps, made.source) == (Action.PROCEED, 5.0, Source.POLICY)
    assert made.valid_until_ns == 77 and made.reason is Reason.CLEAR


def test_it_goes_around_an_obstacle_and_stops_where_it_cannot():
    assert decided([[12.0, 0.0]]).direction is Direction.LEFT
    assert decided([[12.0, 0.0]], open_left=False).direction is Direction.RIGHT
    shut = decided([[12.0, 0.0]], open_left=False, open_right=False)
    assert shut.action in (Action.STOP, Action.SLOW) and shut.target == 0


def test_it_tells_who_is_against_it():
    told = decided([[12.0, 0.0]], told=np.array([True]))
    assert told.reason is Reason.OCCLUDED
    crossing = decided([[11.0, -3.0]], [[0.0, 1.5]])
    assert crossing.reason is Reason.CROSSING
    assert decided([[16.0, 0.0]], [[-4.0, 0.0]]).reason is Reason.ONCOMING


def test_it_follows_searches_and_holds():
    follow = {"mission": Mission.FOLLOW, "target": 0, "target_state": TargetState.TRACKED}
    made = decided([[22.0, 0.0]], [[5.0, 0.0]], **follow)
    assert made.action is Action.FOLLOW and made.target == 0 and made.speed_mps > 5
    lost = decided([], **{**follow, "target_state": TargetState.LOST, "target_side": -1})
    assert lost.action is Action.SEARCH and lost.direction is Direction.RIGHT
    assert decided([], mission=Mission.HOLD).action is Action.HOLD


def test_it_is_careful_near_a_blind_spot_only_while_others_are_heard_badly():
    corner = {"blind": np.array([[8.0, 2.0]])}
    assert decided([], **corner).speed_mps == 5.0
    assert decided([], **corner, link=LinkState.POOR).speed_mps == 2.5


def given(action, direction, speed):
    return Decision(
        action, None, direction, speed, Risk.NONE, Reason.CLEAR, 0, Source.FAST
    )  # fmt: skip


def test_it_refuses_what_runs_into_somebody_and_lets_pass_what_does_not():
    wall = scene([[9.0, 0.0]], speed_mps=6.0)
    policy = Policy(wall)
    own = policy.decide(0)
    assert "would meet 0" in policy.refuses(given(Action.PROCEED, Direction.NONE, 9.0), own)
    assert not policy.refuses(given(Action.STOP, Direction.NONE, 0.0), own)
    assert not policy.refuses(own, own)


def test_it_refuses_a_side_that_is_shut_and_a_speed_beyond_the_limit():
    policy = Policy(scene([], open_left=False))
    own = policy.decide(0)
    assert "no way to the left" in policy.refuses(given(Action.EVADE, Direction.LEFT, 3.0), own)
    assert "limit" in policy.refuses(given(Action.PROCEED, Direction.NONE, 11.0), own)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_scene_its_decision_fits(seed):
    rng = np.random.default_rng(seed)
    made = crowd(
        n=int(rng.integers(0, 60)), blind=int(rng.integers(0, 9)), seed=seed,
        mission=Mission(int(rng.integers(4))), speed_mps=float(rng.uniform(0, 30)),
        cruise_mps=float(rng.uniform(0, 90)), open_left=bool(rng.integers(2)),
    )  # fmt: skip
    check(Policy(made).decide(0), made)


def test_five_hundred_objects_and_none_are_decided_on():
    check(Policy(crowd(n=500)).decide(0), crowd(n=500))
    began = time.process_time()
    Policy(Scene(0, 0)).decide(0)
    assert time.process_time() - began < 0.5  # bounded work, whatever the machine
