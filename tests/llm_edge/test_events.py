"""What cannot wait for the next decision in turn."""

import numpy as np
import pytest

from llm_edge.events import urgent
from llm_edge.scene import Scene, TargetState


def scene(*objects, state=TargetState.NONE, told=True):
    """Objects of (id, x, y, speed to the left) at 10 m/s."""
    rows = np.array(objects, float).reshape(-1, 4)
    n = len(rows)
    return Scene(
        at_ns=1, seen_ns=1, speed_mps=10.0, target_state=state, ids=rows[:, 0].astype(np.int32),
        classes=np.full(n, 1, np.uint8), told=np.full(n, told), positions=rows[:, 1:3].copy(),
        velocities=np.stack([0 * rows[:, 3], rows[:, 3]], axis=1), sizes=np.ones((n, 2)),
        sigmas=np.full(n, 0.3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("objects", "is_urgent"),
    [
        ([(7, 30, 1, 0)], True),
        ([(7, 30, -9, 3)], True),  # crosses: 9 m to the right, in the way in 3 s
        ([(7, 30, -20, 14)], True),  # will have crossed the way by then
        ([(7, 30, 9, 3)], False),  # walks away
        ([(7, -5, 0, 0)], False),
        ([(7, 80, 0, 0)], False),
        ([(3, 30, 1, 0)], False),  # known already
    ],
)
def test_somebody_told_of_in_the_way_is_urgent_when_new(objects, is_urgent):
    assert bool(urgent(scene((3, 60, 0, 0)), scene(*objects))) is is_urgent
    assert not urgent(scene((3, 60, 0, 0)), scene(*objects, told=False))


def test_a_target_just_lost_is_urgent_once():
    lost, tracked = scene(state=TargetState.LOST), scene(state=TargetState.TRACKED)
    assert urgent(tracked, lost) == "target lost"
    assert not urgent(lost, lost) and not urgent(lost, tracked)
    assert not urgent(scene(), lost)  # it was never there


def test_the_first_scene_is_urgent():
    assert urgent(None, scene())
