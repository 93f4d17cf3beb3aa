"""The rule policy: always a decision that fits, and a judge of others'."""

import time

import numpy as np
import pytest

from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source, check
from llm_edge.policy import Policy
from llm_edge.scene import LinkState, Mission, Platform, Scene, TargetState
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


UAV = Platform(limit_mps=20.0, brake_mps2=8.0, shift_s=1.0, corridor_m=3.0, size_m=(0.5, 0.5))


@pytest.mark.parametrize("gap", np.arange(20.0, 60.0, 2.5))
def test_nobody_is_passed_through_however_fast(gap):
    comes = scene(
        [[gap, 0.0]], [[-20.0, 0.0]], sizes=np.array([[0.5, 0.5]]), platform=UAV, speed_mps=20.0
    )  # fmt: skip
    met = Policy(comes).meeting(Direction.NONE, 20.0)
    assert met.row == 0 and met.in_s == pytest.approx(gap / 40, abs=0.21)
    crosses = scene(
        [[gap, -20.0 * gap / 20.0]], [[0.0, 20.0]], sizes=np.array([[0.5, 0.5]]), platform=UAV,
        speed_mps=20.0,
    )  # fmt: skip
    assert Policy(crosses).meeting(Direction.NONE, 20.0).row == 0


def test_who_touches_and_goes_away_is_not_met():
    goes = scene([[2.6, 0.0]], [[9.0, 0.0]], speed_mps=3.0)  # 4 m long
    assert Policy(goes).meeting(Direction.NONE, 3.0).row == -1


def test_an_ego_beyond_its_limit_is_as_fast_as_it_is():
    wall = scene([[21.0, 0.0]], speed_mps=20.0)  # limit 10: it brakes to that on the way
    assert Policy(wall).meeting(Direction.NONE, 10.0).in_s < 1.5


def test_it_refuses_to_move_in_front_of_who_comes_from_behind_too_fast_to_brake():
    def against(x, speed_mps):
        policy = Policy(scene([[x, 3.0]], [[speed_mps, 0.0]], speed_mps=3.0))
        return policy.refuses(given(Action.EVADE, Direction.LEFT, 3.0), policy.decide(0))

    assert "would meet 0" in against(-6.0, 10.0)
    assert not against(-30.0, 10.0)  # has seconds to brake
    assert not against(-6.0, 2.0)  # falls behind


def test_it_refuses_what_is_not_for_the_mission():
    for mission, action, speed, says in (
        (Mission.HOLD, Action.PROCEED, 5.0, "shall hold"),
        (Mission.HOLD, Action.FOLLOW, 5.0, "follow is not for the mission hold"),
        (Mission.GOTO, Action.SEARCH, 5.0, "search is not for the mission goto"),
        (Mission.GOTO, Action.HOLD, 0.0, "hold is not for the mission goto"),
        (Mission.FOLLOW, Action.FOLLOW, 5.0, "not about the mission's target"),
    ):
        asked = scene(
            [[25.0, 9.0]], mission=mission, target=0 if mission is Mission.FOLLOW else -1,
            target_state=TargetState(int(mission is Mission.FOLLOW)),
        )  # fmt: skip
        policy = Policy(asked)
        own = policy.decide(0)
        assert says in policy.refuses(given(action, Direction.NONE, speed), own)
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
