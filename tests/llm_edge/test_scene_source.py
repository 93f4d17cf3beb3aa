"""The present scene, of what was told last."""

import numpy as np
import pytest

from llm_edge.order import Order
from llm_edge.scene import LinkState, Mission, TargetState
from llm_edge.scene_source import SceneSource, SourceConfig, link_of
from pipeline.errors import InputError
from pipeline.tracks import Forecasts, ForecastStatus
from tests.llm_edge.test_scene_build import MS, NORTH, T, pose, things

WITHIN = 33 * MS


def source(objects=None, **config):
    made = SceneSource(SourceConfig(**config))
    made.order = Order(Mission.FOLLOW, 8.0, (0, 1))
    made.pose, made.path = pose(), NORTH
    made.see(things([(100, 60), (90, 45)]) if objects is None else objects, T)
    return made


def forecasts(status, ready_ns=T):
    return Forecasts(
        T, ready_ns, ("display", "control"), np.array([T, T]), np.array([1], np.int32),
        np.zeros((2, 1, 4)), np.zeros((2, 1, 4, 4)), np.array([[0], [status]], np.uint8),
    )  # fmt: skip


def test_the_scene_is_of_when_the_decision_is_used():
    made = source(ahead_ms=20.0)
    assert made.built(T, WITHIN).scene.at_ns == T + 53 * MS
    made.adjust(180 * MS, T)
    assert made.built(T, WITHIN).scene.at_ns == T - 70 * MS + 180 * MS
    made.adjust(5 * MS, T)
    assert made.built(T, WITHIN).scene.at_ns == T  # never the past
    made.adjust(180 * MS, T - 3000 * MS)
    assert made.built(T, WITHIN).scene.at_ns == T + 53 * MS  # told too long ago
    made.adjust(None, T)
    assert made.built(T, WITHIN).scene.at_ns == T + 53 * MS


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (ForecastStatus.OK, TargetState.TRACKED),
        (ForecastStatus.PRIOR, TargetState.TRACKED),
        (ForecastStatus.STALE, TargetState.UNCERTAIN),
        (ForecastStatus.LOST, TargetState.LOST),
    ],
)
def test_the_tracker_says_how_well_the_target_is_known(status, state):
    made = source()
    made.expect(forecasts(status), "control")
    assert made.built(T, WITHIN).scene.target_state is state
    made.expect(forecasts(status, T - 3000 * MS), "control")
    assert made.built(T, WITHIN).scene.target_state is TargetState.TRACKED  # said too long ago
    with pytest.raises(InputError, match="no forecast for consumer 'planner'"):
        made.expect(forecasts(status), "planner")


def test_a_target_that_goes_is_lost_towards_where_it_went():
    made = source()
    made.see(things([(100, 60)]), T)
    scene = made.built(T, WITHIN).scene
    assert (scene.target_state, scene.target_side) == (TargetState.LOST, 1)
    made.order = Order(Mission.FOLLOW, 8.0, (0, 7))
    assert made.built(T, WITHIN).scene.target_side == 0  # another one, never seen


def test_until_an_order_comes_it_holds():
    assert SceneSource(SourceConfig()).order.mission is Mission.HOLD


def test_without_objects_or_pose_nothing_is_decided():
    made = source()
    with pytest.raises(InputError, match="no objects"):
        made.built(T + 1500 * MS, WITHIN)
    made.pose = None
    with pytest.raises(InputError, match="no odometry"):
        made.built(T, WITHIN)
    made.reset()
    with pytest.raises(InputError, match="no objects"):
        made.built(T, WITHIN)
    assert made.order.mission is Mission.FOLLOW


def test_how_well_others_are_heard_is_how_fresh_what_they_tell_is():
    stations = np.array([0, 3, 4], np.uint32)
    fresh = things([(0, 0)] * 3, stations=stations)
    assert link_of(fresh) is LinkState.GOOD
    assert link_of(things([(0, 0)])) is LinkState.LOST
    old = np.array([T, T - 800 * MS, T - 900 * MS])
    assert link_of(things([(0, 0)] * 3, stations=stations, measured_ns=old)) is LinkState.POOR


def test_what_the_vehicle_can_do_is_as_configured():
    platform = SourceConfig(limit_mps=20.0, length_m=4.0).platform
    assert (platform.limit_mps, platform.size_m) == (20.0, (4.0, 0.8))
    with pytest.raises(InputError, match="corridor_m"):
        SourceConfig(corridor_m=0.0)
