"""highway-env seen as scenes, and driven by decisions."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.highway import DECISIONS, LANE_M, SPEEDS, Highway, run
from evaluation.policies import decision, make
from llm_edge.decision import Action, Direction
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

pytest.importorskip("highway_env", reason="highway-env is not installed (the highway extra)")


@pytest.fixture
def world():
    made = Highway(4, 2.0, seed=1)
    yield made
    made.close()


def test_a_scene_holds_the_cars_near_with_left_up(world):
    scene = world.scene()
    env = world._env
    assert len(scene) > 3 and (np.abs(scene.positions[:, 0]) <= 120).all()
    assert (scene.classes == ObjectClass.CAR).all() and not scene.told.any()
    lane = env.vehicle.target_lane_index[2]
    others = [v for v in env.road.vehicles if v is not env.vehicle]
    for k, identity in enumerate(scene.ids):
        car = others[identity]
        across = round(scene.positions[k, 1] / LANE_M)
        assert across == lane - car.lane_index[2]  # highway-env counts lanes from the left
        assert scene.positions[k, 0] == pytest.approx(car.position[0] - env.vehicle.position[0])
    assert (scene.open_left, scene.open_right) == (lane > 0, lane < 3)
    assert scene.speed_mps == pytest.approx(env.vehicle.speed)


@pytest.mark.parametrize("side", [Direction.LEFT, Direction.RIGHT])
def test_evading_changes_to_the_lane_of_that_side(world, side):
    scene = world.scene()
    assert scene.open_left and scene.open_right
    before = world._env.vehicle.target_lane_index[2]
    world.apply(decision(scene, Action.EVADE, scene.speed_mps, side))
    moved = world._env.vehicle.target_lane_index[2] - before
    assert moved == (-1 if side is Direction.LEFT else 1)


def test_speeds_step_towards_the_decided_one(world):
    scene = world.scene()
    aimed = world._ego.speed_index
    go = decision(scene, Action.PROCEED, float(SPEEDS[aimed]))
    assert world.meta_action(go) == 1
    assert world.meta_action(replace(go, speed_mps=float(SPEEDS[aimed + 1]))) == 3
    assert world.meta_action(replace(go, speed_mps=float(SPEEDS[aimed]) - 2.0)) == 4
    assert world.meta_action(replace(go, action=Action.STOP, speed_mps=0.0)) == 4
    assert world.meta_action(make("idle")(scene)) == 1


def test_a_drive_ends_at_thirty_decisions_or_a_crash_and_the_same_seed_repeats_it():
    ticks = iter(range(0, 10**12, 2_000_000))
    first, again = (run(make("ttc"), 4, 2.0, 3, lambda: next(ticks)) for _ in range(2))
    assert (first.decisions == DECISIONS) != first.crashed
    assert (first.decisions, first.mean_mps) == (again.decisions, again.mean_mps)
    assert (first.took_ms == 2.0).all() and len(first.took_ms) == first.decisions


def test_no_road_is_refused():
    for given in ({"lanes": 0}, {"density": float("nan")}, {"vehicles": -1}):
        with pytest.raises(InputError, match="give 1 to 16"):
            Highway(**{"lanes": 4, "density": 2.0, "seed": 0, **given})
