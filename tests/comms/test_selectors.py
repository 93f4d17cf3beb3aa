"""Each rule's own property, on scenes where it can be told."""

import numpy as np
import pytest

from comms.belief import Belief
from comms.config import SELECTORS, V2xConfig
from comms.motion import predicted
from comms.request import Request
from comms.selectors import (
    Apc,
    CoDriving,
    Confidence,
    Etsi,
    Random,
    Scene,
    Select2Drive,
    SendAll,
    make_selector,
)
from pipeline.objects import ObjectClass, Objects, joined
from tests.comms.made import MS, NOW, objects
from tests.comms.scenes import at, straight, things, view

PERSON = ObjectClass.PERSON


def scene(seen, belief=None, heard=None, requests=(), delay_s=0.1, loss=0.0, now_ns=None):
    now_ns = seen.stamp_ns if now_ns is None else now_ns
    belief = Belief(3.0, 1.6) if belief is None else belief
    heard = Objects.none(now_ns) if heard is None else heard
    told = belief.of(seen, now_ns)
    return Scene(seen, told, heard, at(), list(requests), now_ns, delay_s, loss)


def after(seen, rows=None):
    """A belief that some of them were just told."""
    belief = Belief(3.0, 1.6)
    rows = np.arange(len(seen)) if rows is None else np.array(rows)
    belief.told(seen, belief.of(seen, seen.stamp_ns), rows, 0.0)
    return belief


def sent(selector, *args, **fields):
    return (selector.choose(scene(*args, **fields)).priority > 0).tolist()


@pytest.mark.parametrize("name", SELECTORS)
def test_every_rule_gives_each_object_a_finite_priority(name):
    selector = make_selector(V2xConfig(selector=name))
    rng = np.random.default_rng(1)
    for n in (0, 1, 50):
        seen = objects(rng, n)
        requests = [Request(2, straight()), Request(3, straight((0, 90)), view(20))]
        for asked in ([], requests):
            choice = selector.choose(scene(seen, after(seen), objects(rng, n), asked, 0.3, 0.2))
            assert choice.priority.shape == choice.reserved.shape == (n,)
            assert np.isfinite(choice.priority).all()


# ETSI TS 103 324


def etsi(change=None, after_ms=100, kind=ObjectClass.CAR, turn_deg=0.0):
    """Whether an object that was told is due after a time and a change (dx, dv)."""
    before = things([(0, 0)], (10.0, 0.0), kind=kind)
    dx, dv = change or (0.0, 0.0)
    v = np.array([[10.0 + dv, 0, 0]])
    p = before.positions + [dx, 0, 0]
    now = before.derived(
        stamp_ns=NOW + after_ms * MS, positions=p, velocities=v,
        yaws=before.yaws + np.radians(turn_deg),
    )  # fmt: skip
    return sent(Etsi(), now, after(before))[0]


@pytest.mark.parametrize(
    ("due", "case"),
    [
        (False, {}),
        (False, {"change": (3.99, 0)}),
        (True, {"change": (4.01, 0)}),
        (False, {"change": (0, 0.49)}),
        (True, {"change": (0, 0.51)}),
        (True, {"change": (0, -0.51)}),
        (False, {"turn_deg": 3.99}),
        (True, {"turn_deg": 4.01}),
        (True, {"turn_deg": -4.01}),
        (False, {"turn_deg": 358}),
        (False, {"after_ms": 999}),
        (True, {"after_ms": 1000}),
        (False, {"after_ms": 499, "kind": PERSON}),
        (True, {"after_ms": 500, "kind": PERSON}),
    ],
)
def test_etsi_sends_over_4_m_half_a_meter_a_second_4_degrees_or_1_s(due, case):
    assert etsi(**case) is due


def test_etsi_sends_what_is_new_but_not_what_is_unlikely():
    assert sent(Etsi(), things([(0, 0), (9, 0)], quality=[0.9, 0.1])) == [True, False]


def test_etsi_sends_all_vulnerable_ones_as_soon_as_one_is_due():
    seen = things([(0, 0), (5, 0), (9, 0)], kind=[PERSON, PERSON, ObjectClass.CAR])
    assert sent(Etsi(), seen, after(seen, rows=[0, 2])) == [True, True, False]


def test_etsi_does_not_mind_yaws_that_nobody_knows():
    seen = things([(0, 0)], yaw=np.nan)
    assert sent(Etsi(), seen, after(seen)) == [False]


# attention to the receiver's decision

PLAN = Request(2, straight((100.0, 0.0)))


def test_select2drives_printed_gaussian_never_passes_its_threshold():
    rng = np.random.default_rng(2)
    near = things(np.column_stack([rng.uniform(0, 100, 200), rng.normal(0, 3, 200)]), quality=1.0)
    assert not any(sent(Select2Drive(literal=True), near, requests=[PLAN]))
    assert all(sent(Select2Drive(), near, requests=[PLAN]))


@pytest.mark.parametrize("literal", [False, True])
def test_select2drives_change_branch_sends_what_moves_by_a_cell_within_the_delay(literal):
    far = things([(0, 200), (0, 250)], [(10.0, 0.0, 0), (2.0, 0, 0)])
    rule = Select2Drive(literal)
    assert sent(rule, far, requests=[PLAN], delay_s=0.1) == [True, False]
    assert sent(rule, far, requests=[PLAN], delay_s=0.09) == [False, False]  # n = 0


def test_select2drive_cuts_what_is_far_from_the_plan():
    seen = things([(50, 0), (50, 30), (50, 60)])
    assert sent(Select2Drive(), seen, requests=[PLAN]) == [True, True, False]


def test_codriving_weighs_confidence_by_the_nearest_way_point_and_saturates():
    seen = things([(50, 0), (50, 25), (50, 50), (50, 80)], quality=[0.5, 1, 1, 1])
    p = CoDriving().choose(scene(seen, requests=[PLAN])).priority
    assert p[0] == pytest.approx(0.5, abs=1e-3)
    assert p[1] == pytest.approx(1, abs=1e-3)
    assert 0 == p[3] == p[2]


def test_confidence_goes_by_quality_alone():
    seen = things([(0, 0), (500, 0), (9, 9)], quality=[0.4, 0.9, 0.01])
    p = Confidence().choose(scene(seen, after(seen), requests=[PLAN])).priority
    assert p.tolist() == [0.4, 0.9, 0.0]


def test_send_all_begins_with_what_waited_longest():
    seen = things([(0, 0), (9, 0), (20, 0)])
    belief = after(seen, rows=[2])
    later = seen.derived(stamp_ns=NOW + 100 * MS)
    belief.told(later, belief.of(later, later.stamp_ns), np.array([0]), 0.0)
    p = SendAll().choose(scene(later, belief, now_ns=NOW + 200 * MS)).priority
    assert (p > 0).all()
    assert np.argsort(-p).tolist() == [1, 2, 0]


def test_random_draws_anew_but_the_same_for_a_seed():
    seen, one, other = things([(0, 0)] * 20), Random(3), Random(3)
    first, second = (one.choose(scene(seen)).priority for _ in range(2))
    assert (first == other.choose(scene(seen)).priority).all()
    assert (first != second).all()
    assert (first > 0).all()


# ours


def utility(*args, **fields):
    return Apc(1.6).choose(scene(*args, **fields)).priority


def test_apc_puts_what_the_receiver_will_meet_first():
    seen = things([(50, 0), (50, 40)])
    near, far = utility(seen, requests=[PLAN])
    assert near > 2 * far > 0


def test_apc_puts_what_the_receiver_does_not_see_itself_first():
    seen = things([(10, 0), (50, 0)])
    inside, outside = utility(seen, requests=[Request(2, PLAN.plan, view(30))])
    assert outside > 10 * inside
    assert inside > 0


def test_apc_counts_the_receiver_that_lacks_it_most():
    seen = things([(50, 0)])
    blind, other = Request(2, PLAN.plan), Request(3, PLAN.plan, view(80))
    assert utility(seen, requests=[blind, other])[0] == utility(seen, requests=[blind])[0]
    assert utility(seen, requests=[other])[0] < utility(seen, requests=[blind])[0]


def test_apc_does_not_repeat_what_is_known_and_repeats_what_got_lost():
    seen = things([(50, 0)], (10.0, 0.0))
    known = after(seen)
    soon = predicted(seen, NOW + 100 * MS)
    assert utility(soon, known, requests=[PLAN])[0] < 0.05 * utility(soon, requests=[PLAN])[0]
    lossy = Belief(3.0, 1.6)
    lossy.told(seen, lossy.of(seen, NOW), np.arange(1), 0.5)
    assert utility(soon, lossy, requests=[PLAN])[0] > 0.3 * utility(soon, requests=[PLAN])[0]


def test_apc_leaves_out_what_another_station_told():
    seen = things([(50, 0), (60, 0)])
    with_other = utility(seen, heard=seen.selected(np.array([0])), requests=[PLAN])
    alone = utility(seen, requests=[PLAN])
    assert with_other[0] < 0.3 * alone[0]
    assert with_other[1] == pytest.approx(alone[1], rel=1e-3)


def test_apc_reserves_for_the_vulnerable_and_for_surprises():
    seen = things([(0, 0), (20, 0), (40, 0)], (10.0, 0.0), kind=[PERSON, *[ObjectClass.CAR] * 2])
    belief = after(seen)
    later = predicted(seen, NOW + 500 * MS)
    braked = later.derived(
        positions=np.where([[False], [True], [False]], seen.positions, later.positions)
    )
    assert Apc(1.6).choose(scene(braked, belief)).reserved.tolist() == [False, True, False]
    unknown = Apc(1.6).choose(scene(braked, Belief(3.0, 1.6)))
    assert unknown.reserved.tolist() == [True, False, False]


def test_apc_worth_grows_with_quality():
    low, high = utility(joined([things([(50, 0)], quality=0.5), things([(50, 0)], ids=[9])]))
    assert high > low
