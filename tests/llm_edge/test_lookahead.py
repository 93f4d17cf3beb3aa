"""The look-ahead: what it says to plain situations whose end is known."""

import numpy as np
import pytest

from llm_edge import coding
from llm_edge.coding import coded_scene
from llm_edge.lookahead import MANEUVERS, PREFERENCE, choose, clear_of, look_ahead, outline
from llm_edge.scene import LinkState, Mission, Platform, TargetState
from pipeline.objects import ObjectClass
from tests.llm_edge.test_coding import scene

NAMES = [
    f"{['straight', 'left', 'right'][s]} {['up', 'keep', 'down', 'stop'][v]}" for s, v in MANEUVERS
]


def looked(positions, velocities=None, **changed):
    coded = coded_scene(scene(positions, velocities, **{"cruise_mps": 5.0, **changed}))
    return coded, look_ahead(coded)


def best(positions, velocities=None, **changed):
    return NAMES[look_ahead(coded_scene(
        scene(positions, velocities, **{"cruise_mps": 5.0, **changed})
    )).best[0]]  # fmt: skip


def test_with_nobody_there_it_does_what_the_mission_wants():
    assert best([]) == "straight keep"
    assert best([], cruise_mps=9.0) == "straight up"
    assert best([], cruise_mps=1.0) == "straight down"
    assert best([], mission=Mission.HOLD) == "straight stop"


def test_it_goes_around_what_stands_in_the_way_to_the_side_that_is_open():
    assert best([[16.0, 0.0]]) == "left keep"
    assert best([[16.0, 0.0]], open_left=False) == "right keep"


def test_between_walls_it_slows_down_or_stops():
    shut = {"open_left": False, "open_right": False}
    assert best([[18.0, 0.0]], **shut) == "straight down"
    assert best([[8.0, 0.0]], **shut) == "straight stop"
    assert best([[40.0, 0.0]], [[4.0, 0.0]], **shut) == "straight keep"


def test_who_crosses_in_time_to_be_met_is_let_pass_and_who_is_gone_by_then_is_not():
    met = [[14.0, -6.0]], [[0.0, 3.0]]
    gone = [[14.0, 6.0]], [[0.0, 3.0]]
    shut = {"open_left": False, "open_right": False}
    assert best(*met, **shut) != "straight keep"
    assert best(*gone, **shut) == "straight keep"


def test_a_corridor_that_somebody_drives_along_is_not_moved_into():
    beside = [[16.0, 0.0], [0.0, 3.0]], [[0.0, 0.0], [5.0, 0.0]]
    assert best(*beside) == "right keep"


def test_nobody_who_drives_behind_makes_it_go_faster():
    assert best([[-9.0, 0.0]], [[6.0, 0.0]]) == "straight keep"


def test_a_lost_target_is_looked_for_where_it_was_last_seen():
    lost = {"mission": Mission.FOLLOW, "target": 3, "target_state": TargetState.LOST}
    assert best([], **lost, target_side=-1).startswith("right")
    assert best([], **lost, target_side=1).startswith("left")
    assert best([], **lost, target_side=1, open_left=False).startswith("straight")


@pytest.mark.parametrize(("ahead", "level"), [(35.0, "up"), (12.0, "keep"), (8.0, "down")])
def test_a_target_is_followed_at_the_stand_off(ahead, level):
    follow = {"mission": Mission.FOLLOW, "target": 0, "target_state": TargetState.TRACKED,
              "cruise_mps": 9.0}  # fmt: skip
    _, outcome = looked([[ahead, 0.0]], [[5.0, 0.0]], **follow)
    assert NAMES[outcome.wish[0]] == f"straight {level}"


def test_a_blind_spot_slows_it_down_only_while_others_are_heard_badly():
    corner = {"blind": np.array([[12.0, 2.0]]), "cruise_mps": 9.0, "speed_mps": 9.0,
              "open_left": False, "open_right": False}  # fmt: skip
    assert best([], **corner) == "straight keep"
    assert best([], **corner, link=LinkState.LOST) in ("straight down", "straight stop")


def test_what_is_uncertain_takes_more_room_and_ever_more():
    sure, unsure = (
        outline(coded_scene(scene([[14.0, 3.2]], [[2.0, 0.0]], sigmas=np.array([sigma]))))
        for sigma in (0.1, 2.0)
    )
    for less, more in zip(sure, unsure, strict=True):
        assert (more[0, 0] > less[0, 0]).all() and more[0, 0, -1] > more[0, 0, 0]


def test_nobody_is_passed_through_however_fast():
    fast = {"platform": Platform(40.0, 4.0, 2.0, 3.0, (0.5, 0.5)), "speed_mps": 40.0,
            "cruise_mps": 40.0, "sizes": np.full((1, 2), 0.5)}  # fmt: skip
    for x in np.arange(40.0, 60.0, 1.7):
        _, outcome = looked([[x, 0.0]], [[-30.0, 0.0]], **fast)
        assert outcome.blocks[0, 0, :2].all(), x


def test_one_scene_among_many_is_judged_as_it_is_alone():
    alone = [coded_scene(scene([[12.0 + k, 0.5 * k]], [[k - 3.0, 0.0]])) for k in range(5)]
    many = coding.Coded(
        *(np.concatenate([getattr(c, f) for c in alone]) for f in coding.Coded.__slots__)
    )
    together = look_ahead(many)
    for k, one in enumerate(alone):
        assert np.array_equal(look_ahead(one).blocks[0], together.blocks[k])


def test_slots_that_are_not_taken_block_nothing():
    coded, outcome = looked([[16.0, 0.0]])
    assert not outcome.blocks[0, 1:].any() and outcome.blocks[0, 0].any()
    assert clear_of(coded, outcome.blocks).any()


def test_the_order_of_preference_keeps_the_wish_first_and_slower_before_faster():
    for wish, row in enumerate(PREFERENCE):
        assert row[0] == wish and sorted(row) == list(range(10))
    keep = [NAMES[m] for m in PREFERENCE[NAMES.index("straight keep")]]
    assert keep.index("straight down") < keep.index("straight up")
    none = np.zeros((1, 10), bool)
    stop, no_way = choose(np.array([0]), none)
    assert NAMES[stop[0]] == "straight stop" and no_way[0]


def test_people_are_given_more_ways_to_go_on_than_standing_obstacles():
    def blocks(kind):
        one = scene([[14.0, 2.3]], sizes=np.array([[0.5, 0.5]]),
                    classes=np.array([kind], np.uint8))  # fmt: skip
        return look_ahead(coded_scene(one)).blocks[0, 0].sum()

    assert blocks(ObjectClass.PERSON) >= blocks(ObjectClass.OBSTACLE)
