"""The small world to decide in, and what comes of policies in it."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.decision_loop import Outcome, _Ego, run, summary
from evaluation.decision_senses import Senses
from evaluation.decision_world import KINDS, PLATFORMS, TARGET, made, world_of
from evaluation.policies import decision, idle, make, rule
from llm_edge.decision import Action, Direction, Source
from llm_edge.scene import LinkState, Mission, TargetState
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

CAR = PLATFORMS[0]


def someone(
    kind=ObjectClass.PERSON, x=30.0, y=5.0, vx=0.0, vy=0.0, begin=0.0, yields=False, told=True
):
    return made(CAR, Mission.GOTO, [(kind, x, y, vx, vy, begin, yields, told)], 300.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_is_the_same_world_and_run(kind):
    first, again = run("policy", rule, kind, 3), run("policy", rule, kind, 3)
    assert first == again
    assert not np.array_equal(world_of(kind, 3).places, world_of(kind, 5).places)


@pytest.mark.parametrize("kind", KINDS)
def test_who_only_goes_on_gets_into_trouble_that_the_rule_mostly_avoids(kind):
    hits = [sum(run("", p, kind, s).collision for s in range(6)) for p in (idle, rule)]
    assert hits[1] < hits[0] and hits[1] <= 1


def test_houses_hide_whom_they_stand_before():
    world = someone(x=30.0, y=8.0)
    eye = np.zeros(2)
    assert not world.hides(eye).any()
    world.houses = np.array([[10.0, 2.0, 25.0, 9.0]])
    assert world.hides(eye).all() and not world.hides(np.array([28.0, 0.0])).any()
    world.houses = np.array([[31.0, 2.0, 40.0, 20.0]])  # behind
    assert not world.hides(eye).any()


def test_drivers_behind_brake_for_the_ego():
    world = someone(ObjectClass.CAR, x=-50.0, y=0.0, vx=14.0, yields=True)
    for k in range(200):
        world.advance(k * 0.05, 0.05, np.zeros(2), 0.0)
    assert world.places[0, 0] < -4.4 and world.speeds[0, 0] < 2.0


def test_the_ego_keeps_its_platforms_limits():
    ego = _Ego(someone())
    scene_like = type("S", (), {"platform": CAR, "at_ns": 0})
    ego.obey(decision(scene_like, Action.STOP, 0.0))
    begin = ego.speed
    ego.advance(0.5)
    assert ego.speed == pytest.approx(begin - 0.5 * CAR.brake_mps2)
    ego.obey(decision(scene_like, Action.EVADE, 5.0, Direction.LEFT))
    ego.advance(CAR.shift_s / 2)
    assert ego.y == pytest.approx(CAR.corridor_m / 2)
    ego.advance(CAR.shift_s)
    assert ego.y == CAR.corridor_m and not ego.is_open(1) and ego.is_open(-1)
    ego.obey(decision(scene_like, Action.EVADE, 5.0, Direction.LEFT))  # there is no way
    ego.advance(1.0)
    assert ego.y == CAR.corridor_m


def known(world, until_s, seed=1):
    senses = Senses(world, seed)
    for k in range(round(until_s / 0.05) + 1):
        senses.watch(k * 0.05, np.zeros(2))
        world.advance(k * 0.05, 0.05, np.zeros(2), 0.0)
    return senses, senses.objects(until_s)


def test_own_perception_is_late_and_carried_on():
    _, objects = known(someone(vx=4.0), 2.0)
    assert objects.stations.tolist() == [0]
    assert objects.stamp_ns - objects.measured_ns[0] == pytest.approx(1e8, abs=1e6)
    assert objects.positions[0, 0] == pytest.approx(38.0, abs=0.8)


def test_who_is_hidden_is_known_by_others_alone_unless_nothing_comes_through():
    def hidden(**changed):
        world = someone(x=30.0, y=8.0)
        world.houses = np.array([[10.0, 2.0, 25.0, 9.0]])
        for name, value in changed.items():
            setattr(world, name, value)
        return known(world, 2.0)[1]

    assert hidden().stations.tolist() == [7]
    assert len(hidden(loss=1.0)) == 0
    assert len(hidden(equipped=np.array([False]))) == 0


def test_a_target_out_of_sight_is_uncertain_then_lost_where_it_was():
    target = ObjectClass.CYCLIST, 20.0, 1.0, 0.0, 0.0, 0.0, False, False
    world = made(CAR, Mission.FOLLOW, [target], np.inf)
    world.hidden_s = (1.0, 9.0)
    assert known(world, 1.0)[0].target(1.0)[0] is None
    assert known(world, 1.3)[0].target(1.3)[0] is TargetState.UNCERTAIN
    senses = known(world, 2.0)[0]
    state, last = senses.target(2.0)
    assert state is TargetState.LOST and not senses.in_view
    assert np.allclose(last, world.places[TARGET])


def test_kinds_are_what_they_say():
    assert all(world_of("poor-link", s).link is not LinkState.GOOD for s in range(6))
    assert all(len(world_of("v2x-warning", s).houses) == 3 for s in range(6))
    assert all(world_of("target-lost", s).mission is Mission.FOLLOW for s in range(6))
    with pytest.raises(InputError, match="none of target-lost, crossing"):
        world_of("rain", 1)


def test_a_late_answer_is_obeyed_late():
    def stop(scene):
        return decision(scene, Action.STOP, 0.0)

    early, late = (run("", stop, "obstacle-ahead", 2, ms) for ms in (0.0, 190.0))
    assert early.seconds == late.seconds and early.mean_mps < late.mean_mps
    gone = (late.mean_mps - early.mean_mps) * late.seconds
    assert gone == pytest.approx(0.19 * 0.85 * CAR.limit_mps, rel=0.02)


def test_decisions_of_the_rule_in_a_model_s_place_are_told_apart():
    turns = iter(range(10_000))

    def by_turns(scene):
        source = Source.POLICY if next(turns) % 4 else Source.THOUGHT
        return replace(idle(scene), source=source)

    assert run("", by_turns, "target-lost", 3).by_model == pytest.approx(0.25, abs=0.01)
    assert run("", idle, "crossing", 3).by_model == 0.0


def test_the_table_has_a_row_for_each_kind_and_policy():
    outcomes = [Outcome(p, "crossing", s, s == 1, s == 2, 0.5, 4.0, 20.0)
                for p in ("a", "b") for s in range(4)]  # fmt: skip
    lines = summary(outcomes)
    assert len(lines) == 4 and "| crossing | a | 1 of 4 (0.05 to 0.70) | 1 | 0.50" in lines[2]


def test_v2x_is_what_saves_who_cannot_see():
    heard, unheard = (
        [run("", make("policy"), "v2x-warning", s, hears=h).collision for s in range(8)]
        for h in (True, False)
    )
    assert sum(heard) < sum(unheard)
