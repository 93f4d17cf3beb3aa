"""The plain rules that closed loops hold reasoners against."""

import numpy as np
import pytest

from evaluation.policies import POLICIES, here, make
from llm_edge.decision import Action, Direction, check
from llm_edge.scene import Mission, Platform, Scene
from pipeline.errors import InputError

CAR = Platform(limit_mps=30.0, corridor_m=4.0, size_m=(5.0, 2.0))


def road(*others: tuple[float, float, float], **changed) -> Scene:
    """A scene of (x, y, speed along) at 25 m/s."""
    rows = np.array(others, float).reshape(-1, 3)
    values = {
        "at_ns": 7, "seen_ns": 5, "platform": CAR, "speed_mps": 25.0, "cruise_mps": 28.0,
        "ids": np.arange(len(rows), dtype=np.int32) + 40, "positions": rows[:, :2].copy(),
        "classes": np.full(len(rows), 4, np.uint8), "told": np.zeros(len(rows), bool),
        "velocities": np.stack([rows[:, 2], 0 * rows[:, 2]], axis=1),
        "sizes": np.tile([5.0, 2.0], (len(rows), 1)), "sigmas": np.full(len(rows), 0.1),
        **changed,
    }  # fmt: skip
    return Scene(**values)


@pytest.mark.parametrize("name", here(POLICIES))
def test_every_rule_answers_an_empty_and_a_full_scene_with_something_valid(name):
    rng = np.random.default_rng(3)
    full = np.stack([rng.uniform(-99, 99, 500), rng.uniform(-9, 9, 500), rng.uniform(0, 30, 500)])
    for scene in (road(), road(*full.T.tolist()), road(speed_mps=200.0)):
        check(make(name)(scene), scene)


def test_idle_keeps_its_speed_and_cruise_takes_the_missions():
    assert make("idle")(road()).speed_mps == 25.0
    assert make("cruise")(road()).speed_mps == 28.0
    assert make("cruise")(road(mission=Mission.HOLD)).speed_mps == 0.0


def test_ttc_rule_goes_round_a_slow_one_where_there_is_room():
    made = make("ttc")(road((30.0, 0.0, 15.0)))
    assert (made.action, made.direction, made.target) == (Action.EVADE, Direction.LEFT, 40)
    made = make("ttc")(road((30.0, 0.0, 15.0), open_left=False))
    assert made.direction is Direction.RIGHT
    made = make("ttc")(road((30.0, 0.0, 15.0), (-12.0, 4.0, 33.0)))
    assert made.direction is Direction.RIGHT


def test_ttc_rule_slows_down_where_it_cannot():
    made = make("ttc")(road((30.0, 0.0, 15.0), open_left=False, open_right=False))
    assert made.action is Action.SLOW and made.speed_mps == 13.0
    boxed = road((30.0, 0.0, 15.0), (2.0, 4.0, 25.0), (2.0, -4.0, 25.0))
    assert make("ttc")(boxed).action is Action.SLOW


def test_ttc_rule_lets_a_faster_one_ahead_be():
    assert make("ttc")(road((30.0, 0.0, 29.0), (-30.0, 0.0, 25.0))).action is Action.PROCEED


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"'gpt' is none of idle, cruise, brake, ttc"):
        make("gpt")
