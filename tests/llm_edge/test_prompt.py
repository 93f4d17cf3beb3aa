"""The prompt: the same for the same scene, bounded, what matters first, nothing foreign in it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source
from llm_edge.prompt import guessed, matters_s, order, parts, solved
from llm_edge.scene import Scene, TargetState
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from tests.llm_edge.crowds import NOW, crowd


def text(made):
    return made.static + made.slow + made.fast


def row(x, y, vx=0.0, vy=0.0, **changed):
    values = {"ids": [4], "classes": [4], "told": [False], "sizes": [[1.0, 1.0]], "sigmas": [0.0]}
    kinds = {"ids": np.int32, "classes": np.uint8, "told": bool, "sizes": float, "sigmas": float}
    arrays = {k: np.array(v, kinds[k]) for k, v in values.items()}
    return Scene(
        NOW, NOW, positions=np.array([[x, y]]), velocities=np.array([[vx, vy]]),
        **{**arrays, "speed_mps": 5.0, "cruise_mps": 5.0, **changed},
    )  # fmt: skip


def test_the_same_scene_gives_the_same_text_and_the_first_parts_outlive_it():
    assert parts(crowd(seed=1)) == parts(crowd(seed=1))
    one, other = parts(crowd(seed=1)), parts(crowd(seed=2))
    assert (one.static, one.slow) == (other.static, other.slow)
    assert one.fast != other.fast
    moved = parts(crowd(seed=1, cruise_mps=3.0))
    assert moved.static == one.static
    assert moved.slow != one.slow
    assert moved.fast.splitlines()[1] == one.fast.splitlines()[1]


@pytest.mark.parametrize(("n", "budget"), [(0, 480), (3, 540), (40, 700), (500, 1100)])
def test_it_keeps_the_budget_and_counts_what_it_leaves_out(n, budget):
    scene = crowd(n)
    made = parts(scene, budget)
    assert guessed(text(made)) <= budget
    told = int(m[1]) if (m := re.search(r"(\d+) more objects", made.fast)) else 0
    spots = int(m[1]) if (m := re.search(r"(\d+) more blind", made.fast)) else 0
    assert told + len(made.objects) == n
    assert spots + made.fast.count("blind spot x=") == len(scene.blind)
    assert sum(line.split()[0].isdigit() for line in made.fast.splitlines()) == len(made.objects)
    more = parts(scene, budget + 40)
    assert len(more.objects) >= len(made.objects)


def test_blind_spots_go_before_objects_and_the_example_before_both():
    scene = crowd(8, blind=5)
    example = "Example:\n" + "x\n" * 100
    full = guessed(text(parts(scene, 10_000)))
    made = parts(scene, full, example=example)
    assert "Example" not in made.fast
    assert "left out" not in made.fast
    assert "Example" in parts(scene, full + 200, example=example).fast
    fewer = parts(scene, full - 8)
    assert len(fewer.objects) == 8
    assert "more blind spots" in fewer.fast
    assert len(parts(scene, full - 120).objects) < 8


def test_the_target_is_first_and_stays_while_anything_does():
    scene = crowd(300)
    target = int(np.flatnonzero(scene.ids == scene.target)[0])
    for budget in (480, 540, 900):
        assert parts(scene, budget).objects[0] == target
    with pytest.raises(InputError, match="the target alone take"):
        parts(scene, 200)


def test_what_comes_near_sooner_stands_first():
    rows, soon = order(crowd(60, target=-1, target_state=TargetState.NONE))
    assert len(set(rows.tolist())) == 60
    assert (np.diff(soon[np.isfinite(soon)]) >= 0).all()
    assert np.isfinite(soon).any()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((20.0, 0.0), 3.75),  # 18.1 m from bumper to bumper less 1 m at 5 m/s, in quarters
        ((20.0, 10.0, 0.0, -2.5), 3.5),
        ((0.0, 1.5), 0.0),
        ((20.0, 0.0, 5.0), np.inf),
        ((-20.0, 0.0, 9.0), 4.5),
    ],
)
def test_time_until_it_matters_is_the_ways_over_the_speeds(place, expected):
    assert matters_s(row(*place))[0][0] == pytest.approx(expected, abs=0.26)


def test_a_standing_ego_that_wants_to_go_minds_what_stands_ahead():
    assert np.isfinite(matters_s(row(20, 0, speed_mps=0.0))[0][0])
    assert np.isinf(matters_s(row(20, 0, speed_mps=0.0, cruise_mps=0.0))[0][0])


def test_only_numbers_and_our_own_words_enter():
    ours = """
        scene ego m s left right free closed target none tracked uncertain lost last seen ahead x y
        vx vy size sd told near blind spot out less urgent more objects spots
        """
    known = {*re.findall(r"\w+", ours), *(c.name.lower() for c in ObjectClass)}
    for seed in range(20):
        fast = parts(crowd(30, seed=seed, target_state=TargetState.LOST, target_side=1), 900).fast
        assert fast.isascii()
        assert set(re.findall(r"[a-z]+", re.sub(r"\d+(\.\d+)?x\d", "", fast.lower()))) <= known


def test_no_number_is_written_as_minus_zero_or_with_a_tail():
    fast = parts(row(-0.04, 0.04, -1e-9, 3.14159)).fast
    assert "x=0 y=0 vx=0 vy=3.1" in fast


def test_a_solved_scene_is_shown_with_its_answer():
    decision = Decision(
        Action.EVADE, 17, Direction.LEFT, 3.25, Risk.MEDIUM, Reason.AHEAD, NOW, Source.FAST
    )
    shown = solved(crowd(20), decision)
    assert shown.count("\n") == 1 + 1 + 4 + 1
    assert '"action":"evade","target":17,"direction":"left","speed_mps":3.2,' in shown
    none = replace(decision, target=None)
    assert '"target":null' in solved(crowd(0), none)
