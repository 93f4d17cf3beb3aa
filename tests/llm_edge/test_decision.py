"""Decisions: what is read from text fits the scene, or is refused in one line."""

import json
from dataclasses import replace

import pytest

from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source, check, parse
from llm_edge.scene import Platform
from pipeline.errors import InputError
from tests.llm_edge.crowds import crowd

SCENE = crowd(n=3)
GIVEN = {
    "action": "evade", "target": 17, "direction": "left", "speed_mps": 4.5, "risk": "medium",
    "reason": "crossing", "valid_until_ns": 900, "source": "gguf",
}  # fmt: skip


def test_a_decision_is_read_back_as_it_was_written():
    made = parse(json.dumps(GIVEN), SCENE)
    assert made == Decision(
        Action.EVADE, 17, Direction.LEFT, 4.5, Risk.MEDIUM, Reason.CROSSING, 900, Source.GGUF
    )
    assert json.loads(made.to_json()) == GIVEN
    assert list(json.loads(made.to_json())) == list(GIVEN)


@pytest.mark.parametrize("limit", [50 / 3.6, 2 / 3, 10.0004, 400.0])
def test_the_limit_itself_may_be_written_whatever_its_digits(limit):
    scene = replace(crowd(n=0), platform=Platform(limit_mps=limit))
    made = Decision(
        Action.PROCEED, None, Direction.NONE, limit, Risk.NONE, Reason.CLEAR, 0, Source.FAST
    )
    again = parse(made.to_json(), scene)
    assert limit - 1e-3 < again.speed_mps <= limit and again.to_json() == made.to_json()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"action": "attack"}, "action is none of"),
        ({"action": ["stop"]}, "action is none of"),
        ({"target": 99}, "not in the scene"),
        ({"target": True}, "not in the scene"),
        ({"target": "17"}, "not in the scene"),
        ({"speed_mps": 10.1}, "speed_mps"),
        ({"speed_mps": -0.1}, "speed_mps"),
        ({"speed_mps": None}, "speed_mps is no number"),
        ({"speed_mps": float("nan")}, "speed_mps"),
        ({"direction": "none"}, "evade has no direction"),
        ({"action": "stop"}, "stop has a speed"),
        ({"action": "hold"}, "hold has a speed"),
        ({"action": "proceed"}, "proceed has a direction"),
        ({"valid_until_ns": 1.5}, "valid_until_ns"),
        ({"note": "x"}, "exactly"),
    ],
)
def test_what_does_not_fit_is_one_line(changed, says):
    with pytest.raises(InputError, match=says):
        parse(json.dumps({**GIVEN, **changed}), SCENE)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"action":"stop"}', "[" * 4000, "9" * 5000])
def test_what_is_no_decision_is_one_line(text):
    with pytest.raises(InputError, match="decision:"):
        parse(text, SCENE)


def test_the_mission_s_own_target_may_be_named_though_it_is_not_seen():
    lost = crowd(n=0, target=44)
    check(parse(json.dumps({**GIVEN, "target": 44}), lost), lost)
