"""Scene and decision from above: what is drawn, and where it can be put."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from leadsight.ask import example
from leadsight.scene_picture import AHEAD_S, draw_scene, way_of
from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source
from llm_edge.scene import Platform, Scene
from pipeline.errors import InputError

PLATFORM = Platform(limit_mps=10.0, brake_mps2=4.0, shift_s=2.0, corridor_m=3.2)
SCENE = Scene(0, 0, platform=PLATFORM, speed_mps=8.0)


def decided(action=Action.PROCEED, direction=Direction.NONE, speed=8.0):
    return Decision(action, None, direction, speed, Risk.NONE, Reason.CLEAR, 1, Source.POLICY)


def test_a_stop_ends_after_the_braking_distance():
    way = way_of(SCENE, decided(Action.STOP, speed=0.0))
    assert way[-1] == pytest.approx([8.0**2 / (2 * 4.0), 0.0], abs=0.01)


def test_speeding_up_is_half_as_hard_as_braking():
    way = way_of(SCENE, decided(speed=10.0))  # 2 m/s², so 10 m/s after 1 s
    assert way[-1, 0] == pytest.approx(9.0 + 10.0 * (AHEAD_S - 1.0), abs=0.01)


@pytest.mark.parametrize(("direction", "aside"), [(Direction.LEFT, 3.2), (Direction.RIGHT, -3.2)])
def test_an_evasion_ends_one_corridor_aside(direction, aside):
    way = way_of(SCENE, decided(Action.EVADE, direction))
    assert way[0] == pytest.approx([0.0, 0.0]) and way[-1] == pytest.approx([24.0, aside])


def test_what_others_tell_of_and_what_is_shut_look_different(tmp_path):
    scene = replace(example(), told=np.zeros(3, bool), open_right=True)
    seen, told, shut = (tmp_path / f"{k}.png" for k in range(3))
    draw_scene(scene, decided(), seen)
    draw_scene(replace(scene, told=np.ones(3, bool)), decided(), told)
    draw_scene(replace(scene, open_right=False), decided(), shut)
    pictures = [cv2.imread(str(p)) for p in (seen, told, shut)]
    orange = [((p == (14, 127, 255)).all(axis=2)).sum() for p in pictures]  # BGR
    silver = [((p == 192).all(axis=2)).sum() for p in pictures]
    assert orange[1] > 100 > orange[0] and silver[2] > 1000 > silver[0]


@pytest.mark.parametrize("blind", [np.zeros((0, 2)), np.array([[6.0, 3.0]])])
def test_an_empty_scene_is_drawn(blind, tmp_path):
    draw_scene(replace(SCENE, blind=blind), decided(), tmp_path / "empty.svg")
    assert "<svg" in (tmp_path / "empty.svg").read_text()


@pytest.mark.parametrize(
    ("name", "says"), [("scene.bmp", "ends in"), ("scene", "ends in"), ("no/scene.png", "folder")]
)
def test_where_it_cannot_be_put_is_said(name, says, tmp_path):
    with pytest.raises(InputError, match=says):
        draw_scene(SCENE, decided(), tmp_path / name)


def test_a_folder_of_that_name_is_said(tmp_path):
    (tmp_path / "scene.png").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        draw_scene(SCENE, decided(), tmp_path / "scene.png")
