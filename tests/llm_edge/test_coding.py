"""The decoder's numbers for a scene: right, bounded, the relevant first."""

import numpy as np

from llm_edge import coding, scenarios, words
from llm_edge.coding import coded_scene
from llm_edge.scene import Mission, Platform, Scene, TargetState
from pipeline.objects import ObjectClass
from tests.llm_edge.crowds import crowd


def scene(positions, velocities=None, **changed):
    n = len(positions)
    values = {
        "at_ns": 0, "seen_ns": 0, "speed_mps": 5.0,
        "platform": Platform(10.0, 4.0, 2.0, 3.0, (1.0, 0.5)),
        "ids": np.arange(n, dtype=np.int32), "classes": np.full(n, ObjectClass.CAR, np.uint8),
        "told": np.zeros(n, bool), "positions": np.array(positions, float).reshape(n, 2),
        "velocities": np.array(velocities or [[0.0, 0.0]] * n).reshape(n, 2),
        "sizes": np.full((n, 2), [4.0, 2.0]), "sigmas": np.full(n, 0.2),
    }  # fmt: skip
    return Scene(**{**values, **changed})


def test_an_object_is_told_in_the_platform_s_own_units():
    # 17.5 m ahead between ends, one corridor and a half to the right; 1/2 limit, 0.45 corridors/s
    c = coded_scene(scene([[20.0, -4.5]], [[5.0, 1.35]]))
    assert coding.GAP_S[c.gap[0, 0]] == 1.8 and coding.SIDE[c.side[0, 0]] == -1.5
    assert coding.ALONG[c.along[0, 0]] == 8 and coding.DRIFT[c.drift[0, 0]] == 0.45
    assert coding.LONG_S[c.long[0, 0]] == 0.65 and coding.WIDE[c.wide[0, 0]] == 0.8
    assert coding.STOP_S[c.stop[0]] == 2.5 and coding.SHIFT_S[c.shift[0]] == 2.0
    assert c.speed[0] == 8 and c.count[0] == 1


def test_who_comes_soonest_is_first_and_who_is_over_the_slots_is_dropped():
    far = [[60.0 + k, 9.0] for k in range(20)]
    c = coded_scene(scene([*far, [30.0, 0.0], [8.0, 0.0]]))
    assert c.count[0] == coding.SLOTS
    assert c.rows[0, :2].tolist() == [21, 20]
    assert set(c.rows[0].tolist()) <= set(range(22))


def test_what_cannot_matter_is_dropped():
    assert coded_scene(scene([[200.0, 0.0], [-90.0, 0.0], [5.0, 60.0]])).count[0] == 0


def test_the_mission_s_target_is_first_however_far():
    crowded = [[6.0 + k, 0.0] for k in range(12)]
    c = coded_scene(scene([*crowded, [80.0, 9.0]], mission=Mission.FOLLOW, target=12,
                          target_state=TargetState.TRACKED))  # fmt: skip
    assert c.followed[0] and c.rows[0, 0] == 12


def test_a_target_that_is_said_to_be_tracked_and_is_not_there_counts_as_lost():
    c = coded_scene(scene([[9.0, 0.0]], mission=Mission.FOLLOW, target=7,
                          target_state=TargetState.TRACKED))  # fmt: skip
    assert coding.STATES[c.state[0]] == "lost_ahead" and not c.followed[0]


def test_blind_spots_take_slots_and_are_no_objects():
    c = coded_scene(scene([[9.0, 0.0]], blind=np.array([[6.0, 2.0]])))
    assert sorted(c.kind[0, :2].tolist()) == [ObjectClass.CAR, coding.BLIND]
    assert sorted(c.rows[0, :2].tolist()) == [-1, 0]


def test_an_empty_scene_and_five_hundred_objects_are_coded():
    assert coded_scene(Scene(0, 0)).count[0] == 0
    full = coded_scene(crowd(n=500, blind=64))
    assert full.count[0] == coding.SLOTS
    tokens = words.prompt_tokens(full)
    assert tokens.shape == (1, words.MAX_PROMPT) and tokens.max() < len(words.WORDS)


def test_drawn_scenes_in_meters_are_coded_as_they_were_drawn():
    kinds = (*scenarios.KINDS, *scenarios.HELD_OUT)
    drawn = scenarios.draw(np.random.default_rng(5), 200, kinds)
    coded = coding.coded(drawn)
    same = 0
    for k, one in enumerate(scenarios.scenes_of(drawn)):
        again = coded_scene(one)
        same += all(
            np.array_equal(getattr(again, f)[0], getattr(coded, f)[k])
            for f in coding.Coded.__slots__ if f != "rows"
        )  # fmt: skip
    assert same > 160  # rounding may put a value on the other side of a middle
