"""Scores of V2X on a small town: paired, by hand, and none of them blind to delay or bytes."""

from dataclasses import replace

import numpy as np
import pytest

from bridges.actors import Snapshot
from bridges.traffic import KinematicTraffic, TrafficConfig
from comms.channel import ChannelConfig
from comms.config import V2xConfig
from comms.fusion import Fused
from comms.request import Plan, Sight
from evaluation.v2x import GOSPA_M, Score, gospa, matched, score, simulate
from evaluation.v2x_fleet import Fleet, Run
from evaluation.v2x_scenes import PoseError, View, record
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

TOWN = TrafficConfig(
    blocks=2, vehicles=20, cyclists=4, people=8, parked=10, uavs=1, equipped=0.5, speed_mps=13.0
)
S = 1_000_000_000
EXACT = PoseError(0, 0, 0, 0, 0)
BUDGET = V2xConfig(budget_bytes_s=20_000)


def town(seed=5, seconds=5.0):
    return record(KinematicTraffic(TOWN, seed), seed, seconds, agents=5, egos=2)


@pytest.fixture(scope="module")
def scene():
    return town()


def run(delay_ms=0.0, alignments=("predict",), config=BUDGET, **given):
    return Run(config, ChannelConfig(delay_ms=delay_ms), alignments=alignments, **given)


def total(scores):
    return sum(scores.values(), Score())


@pytest.fixture(scope="module")
def late(scene):
    """500 ms late, by alignment."""
    found = simulate(scene, run(500.0, ("predict", "stale", "oracle")))
    return {name: total(each) for name, each in found.items()}


def test_the_same_seed_is_recorded_alike_and_another_is_not(scene):
    again, other = town(), town(4, 0.5)
    assert again.agents == scene.agents and again.egos == scene.egos
    for old, new in zip(scene.views, again.views, strict=True):
        assert old.keys() == new.keys()
        for agent in old:
            a, b = old[agent], new[agent]
            assert np.array_equal(a.own.positions, b.own.positions)
            assert np.array_equal(a.own.covariances, b.own.covariances)
            assert np.array_equal(a.truth, b.truth) and np.array_equal(a.shares, b.shares)
            assert np.array_equal(a.plan.points, b.plan.points)
            assert np.array_equal(a.sight.free_m, b.sight.free_m)
    first = scene.snapshots[0].positions
    assert not np.array_equal(first[:5], other.snapshots[0].positions[:5])


def test_runs_are_paired_they_ask_for_the_same_and_see_the_same(scene, late):
    sums = [*late.values(), total(simulate(scene, run())["predict"])]
    assert len({(s.frames, s.hidden, s.wanted, round(s.gospa_alone, 6)) for s in sums}) == 1
    assert sums[0].hidden > 100 and sums[0].wanted > 10


def test_a_pose_error_is_the_same_draw_at_any_sigma_and_undone_exactly(scene):
    small, large = (PoseError.drawn(3, 8, m, d) for m, d in ((0.2, 0.5), (1.0, 2.0)))
    assert np.isclose(large.x, 5 * small.x) and np.isclose(large.yaw, 4 * small.yaw)
    assert PoseError.drawn(3, 9, 1.0, 2.0).x != large.x
    view = scene.views[20][scene.egos[0]]
    believed = large.objects(view.own, view.pose)
    shift = np.linalg.norm(believed.positions - view.own.positions, axis=1)
    assert shift.min() > 0.1
    back = large.true_objects(believed, view.pose)
    for name in ("positions", "velocities", "yaws", "covariances"):
        assert np.allclose(getattr(back, name), getattr(view.own, name))
    # Seen from where the agent believes to be, everything is where it was seen.
    pose = large.pose(view.pose)
    c, s = np.cos(large.yaw), np.sin(large.yaw)
    rel = (believed.positions - pose.position) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    assert np.allclose(rel, view.own.positions - view.pose.position)


def objects(*rows):
    """Of station, x, y."""
    table = np.array(rows, float).reshape(-1, 3)
    n = len(table)
    return Objects(
        S, S, np.arange(n, dtype=np.int32), table[:, 0].astype(np.uint32),
        np.column_stack([table[:, 1:], np.zeros(n)]), np.zeros((n, 3)), np.zeros(n),
        np.ones((n, 3)), np.tile(np.eye(6) * 0.01, (n, 1, 1)), np.full(n, ObjectClass.CAR, "u1"),
        np.ones(n), np.full(n, S),
    )  # fmt: skip


def by_hand(*told, seen=((20.0, 0.2),), error=EXACT, went=(0.0, 0.0), left=()):
    """Ego 1 at 0, 0 sees 2 at 20, 0; agent 3 at 0, 30 sees 4 at 40, 0, in the ego's way, and 5 at
    40, 40, a person; nobody sees 6 at -20, 0; 7 is 100 m off.

    went: how far all are on when it is used. left: who is gone then.
    """
    at = np.array([(0, 0), (20, 0), (0, 30), (40, 0), (40, 40), (-20, 0), (100, 0)], float)
    classes = np.array([4, 4, 4, 4, 1, 4, 4], np.uint8)
    now = Snapshot(
        S, np.arange(1, 8, dtype=np.int32), classes, np.column_stack([at, np.zeros(7)]),
        np.zeros((7, 3)), np.zeros(7), np.ones((7, 3)), np.isin(np.arange(1, 8), (1, 3)),
    )  # fmt: skip
    use = replace(now, stamp_ns=S + S // 20, positions=now.positions + np.array([*went, 0.0]))
    use = use.selected(~np.isin(use.ids, left))
    none, sight = np.zeros(0, np.int32), Sight(np.zeros(2), np.ones(4))
    plan = Plan(S, np.array([0.0, 3.0]), np.array([[0.0, 0.0], [45.0, 0.0]]))
    views = {
        1: View(Objects.none(S), none, Pose(S, np.zeros(3), 0.0), plan, sight,
                np.array([0, 0.9, 0, 0, 0, 0, 0])),
        3: View(Objects.none(S), none, Pose(S, np.array([0.0, 30, 0]), 0.0), None, sight,
                np.array([0, 0, 0, 0.8, 0.9, 0, 0.9])),
    }  # fmt: skip
    own = objects(*((0, x, y) for x, y in seen))
    fused = Fused.alone(objects(*((0, x, y) for x, y in seen), *told))
    return score(fused, own, now, use, views, 1, error)


def test_score_by_hand():
    silent = by_hand()
    # 4 and 5 are seen by 3, which itself is an agent that the ego does not see.
    assert (silent.hidden, silent.found, silent.wanted, silent.wanted_found) == (3, 0, 1, 0)
    assert (silent.told, silent.right, silent.harmed, silent.helped) == (0, 0, 0, 0)
    # 2 is found, 0.2 m off; 3, 4, 5 and 6 are missed.
    assert np.isclose(silent.gospa, 0.2 + 4 * GOSPA_M / 2)
    good = by_hand((3, 40.5, 0), (3, 0, 31.5))
    assert (good.hidden, good.found, good.wanted, good.wanted_found) == (3, 2, 1, 1)
    assert (good.told, good.right, good.harmed, good.helped) == (2, 2, 0, 1)
    assert np.isclose(good.error_m, 2.0)
    assert np.isclose(good.gospa, 0.2 + 0.5 + 1.5 + 2 * GOSPA_M / 2)
    assert np.isclose(good.gospa_alone, silent.gospa)
    # A vulnerable one must be nearer, and what is nowhere is told in vain.
    wrong = by_hand((3, 40, 41.5), (3, -50, -50), (3, -50, 20))
    assert (wrong.found, wrong.told, wrong.right, wrong.harmed) == (0, 3, 0, 1)
    assert np.isclose(wrong.gospa, silent.gospa - GOSPA_M / 2 + 1.5 + 2 * GOSPA_M / 2)
    # Neither what is told of beyond 80 m nor own objects count as told of right or wrong.
    assert by_hand((3, 99, 0)).told in (0, 1) and by_hand((3, 99, 0)).harmed == 0


def test_truth_is_that_of_the_moment_of_use_for_all_who_are_still_there():
    later = by_hand((3, 43.0, 0), seen=((23.0, 0.2),), went=(3.0, 0.0))
    assert (later.hidden, later.found, later.helped) == (3, 1, 1)
    assert by_hand((3, 40.0, 0), seen=((23.0, 0.2),), went=(3.0, 0.0)).found == 0
    gone = by_hand((3, 40.0, 0), seen=((23.0, 0.2),), went=(3.0, 0.0), left=(4,))
    assert gone.hidden == 3 and gone.found == 1


def test_what_is_seen_is_used_half_a_period_later_where_the_steps_allow():
    fine = record(KinematicTraffic(replace(TOWN, step_s=0.05), 3), 3, 0.5, agents=2, egos=1)
    stamps, uses = ([s.stamp_ns // 1_000_000 for s in t] for t in (fine.snapshots, fine.uses))
    assert stamps == [0, 100, 200, 300, 400] and uses == [50, 150, 250, 350, 450]


def test_truth_is_taken_into_the_frame_that_the_ego_believes_in():
    off = PoseError(3.0, 0.0, 0.0, 0.2, 0.0)
    believed = by_hand((3, 43.0, 0), seen=((23.0, 0.2),), error=off)
    assert (believed.found, believed.helped) == (1, 1)
    assert by_hand((3, 40.0, 0), seen=((23.0, 0.2),), error=off).found == 0


def test_gospa_and_matching_are_one_to_one():
    truth = np.array([[0.0, 0, 0], [10, 0, 0]])
    twice = np.array([[0.3, 0, 0], [0.1, 0, 0]])
    assert np.isclose(gospa(twice, truth), 0.1 + GOSPA_M)  # the second pair is 4 m by its bound
    assert gospa(np.zeros((0, 3)), truth) == GOSPA_M and gospa(truth, truth) == 0
    mine, theirs, apart = matched(twice, truth, np.array([2.0, 2.0]))
    assert (mine.tolist(), theirs.tolist()) == ([1], [0]) and np.allclose(apart, 0.1)
    assert len(matched(truth[:0], truth, np.ones(2))[0]) == 0


def test_scores_add_up_and_are_shares_of_their_sums():
    one = Score(frames=4, hidden=10, found=5, told=4, right=3, harmed=1, error_m=2.0, agent_s=2.0)
    one.bytes.update(payload=100, header=20)
    both = one + replace(one, found=10, bytes=one.bytes)
    assert (both.recall, both.precision, both.harm) == (15 / 20, 6 / 8, 2 / 8)
    assert both.bytes_s == 240 / 4.0 and both.error == 4.0 / 15
    assert Score().recall == Score().precision == Score().bytes_s == 0


def test_half_a_second_late_stale_data_score_worse_than_predicted_ones(late):
    assert late["stale"].recall < 0.9 * late["predict"].recall
    assert late["stale"].precision < 0.6 * late["predict"].precision
    assert late["stale"].gospa > late["predict"].gospa


def test_an_oracle_that_knows_where_told_actors_are_is_at_least_as_good(late):
    assert late["oracle"].recall >= late["predict"].recall > 0.3
    assert late["oracle"].error < 0.5 * late["predict"].error
    assert late["oracle"].gospa <= late["predict"].gospa


def test_a_delay_is_applied_nothing_arrives_before_it_and_stale_data_suffer(scene, late):
    first_ns = []
    for delay_ms in (0.0, 300.0):
        fleet = Fleet(run(delay_ms), scene.seed, scene.agents)
        stamps = []
        for snapshot, views in zip(scene.snapshots[:15], scene.views, strict=False):
            arrived = fleet.step(views, snapshot.stamp_ns)
            stamps += [arrival for each in arrived.values() for arrival, _ in each]
            assert not stamps or max(stamps) <= snapshot.stamp_ns
        first_ns.append(min(stamps))
    assert first_ns[1] == first_ns[0] + 300_000_000
    for ego in scene.egos:
        fleet.stations[ego].fused(snapshot.stamp_ns, snapshot.stamp_ns)
        assert fleet.stations[ego].report().age_ns[0] >= 300_000_000
    at_once = total(simulate(scene, run(0.0, ("stale",)))["stale"])
    assert at_once.recall > 1.1 * late["stale"].recall
    assert at_once.gospa < late["stale"].gospa


@pytest.mark.parametrize("selector", ("apc", "send_all"))
def test_every_byte_that_is_counted_was_sent_and_the_other_way_round(scene, selector):
    plan = run(config=replace(BUDGET, selector=selector))
    fleet = Fleet(plan, scene.seed, scene.agents)
    for snapshot, views in zip(scene.snapshots, scene.views, strict=True):
        fleet.step(views, snapshot.stamp_ns)
    sent, aired = fleet.sent_bytes, sum(c.payload_bytes for c in fleet.air.counts.values())
    assert sent.total() == aired > 1000
    assert all(sent[kind] > 0 for kind in ("payload", "header", "signature"))
    assert (sent["request"] > 0) == (selector == "apc")  # others make no use of them
    scored = total(simulate(scene, plan)["predict"])
    assert np.isclose(sum(scored.bytes.values()), aired)
    seconds = len(scene.snapshots) * 0.1
    assert np.isclose(scored.bytes_s, aired / len(scene.agents) / seconds)
    assert scored.bytes_s < BUDGET.budget_bytes_s


def test_silence_costs_nothing_brings_nothing_and_harms_nobody(scene):
    silent = total(simulate(scene, run(config=replace(BUDGET, budget_bytes_s=0)))["predict"])
    assert silent.bytes_s == silent.told == silent.harmed == silent.helped == 0
    assert silent.found < 0.2 * silent.hidden  # what it saw a moment ago
    assert np.isclose(silent.gospa, silent.gospa_alone)


def test_what_others_tell_helps_far_more_often_than_it_harms(scene):
    """A tiny world has some frames only; benchmarks/v2x_tradeoff.py measures harm."""
    told = total(simulate(scene, run(100.0))["predict"])
    assert told.harm < 0.2 and told.helped > 0.5 * told.frames
    assert told.recall > 0.4 and told.precision > 0.7
