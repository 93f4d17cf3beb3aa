"""A request: what a plan and a view weigh, what of them arrives, and what is refused."""

import numpy as np
import pytest

from comms.reasons import Reason, Rejected
from comms.request import MAX_POINTS, Plan, Sight, decode, encode
from pipeline.errors import InputError
from tests.comms.made import MS, NOW
from tests.comms.scenes import at, envelope_of, straight, view


def through(plan, sight=None, pose=None, capture_ns=NOW):
    pose = at((40.0, -7.0), stamp_ns=capture_ns) if pose is None else pose
    return decode(encode(plan, sight, pose, capture_ns), envelope_of(9, pose=pose))


def along(plan, times_s):
    return np.column_stack([np.interp(times_s, plan.times_s, plan.points[:, k]) for k in (0, 1)])


@pytest.mark.parametrize("wild_m", [0.1, 300.0])
def test_a_plan_arrives_to_half_a_meter_and_a_twentieth_of_a_second(wild_m):
    rng = np.random.default_rng(3)
    times = np.linspace(0, 25, 32)
    plan = Plan(NOW, times, times[:, None] * [8, 3] + rng.uniform(-wild_m, wild_m, (32, 2)), 4.7)
    got = through(plan)
    assert got.station == 9
    fast = np.abs(np.diff(plan.points, axis=0) / np.diff(times)[:, None]).max()
    off = np.abs(along(got.plan, times) - plan.points).max()
    assert off <= 0.55 + 0.05 * fast
    assert got.plan.times_s[0] == 0 and got.plan.times_s[-1] == pytest.approx(25, abs=0.051)
    assert got.plan.width_m == pytest.approx(4.7)


def test_only_corners_travel_and_the_way_between_them_arrives():
    plan, pose = straight(points=8), at()
    assert len(encode(plan, None, pose, NOW)) == 3 + 5 * 2
    assert len(encode(plan, view(30, sectors=36), pose, NOW)) == 3 + 5 * 2 + 18
    assert len(encode(plan, view(30, sectors=7), pose, NOW)) == 3 + 5 * 2 + 4
    got = through(plan).plan
    assert np.diff(got.times_s).max() <= 1.0 + 1e-9
    np.testing.assert_allclose(got.points, along(plan, got.times_s), atol=0.1)
    turn = Plan(NOW, np.arange(5.0), np.array([[0, 0], [9, 0], [18, 0], [18, 9], [18, 18]]))
    assert len(encode(turn, None, pose, NOW)) == 3 + 5 * 3
    waits = Plan(NOW, np.array([0.0, 2, 4, 6]), np.array([[0, 0], [0, 0], [0, 0], [20, 0]]))
    assert len(encode(waits, None, pose, NOW)) == 3 + 5 * 3  # a stop is a corner in time


def test_a_plan_of_many_corners_arrives_with_its_largest_gaps_filled():
    times = np.append(np.linspace(0, 3, 17), 25.0)
    zigzag = np.column_stack([times * 12, np.where(np.arange(18) % 2, 3.0, 0.0)])
    got = through(Plan(NOW, times, zigzag)).plan
    assert len(got.times_s) == 32
    assert np.diff(got.times_s).max() < 1.6
    np.testing.assert_allclose(along(got, times), zigzag, atol=1.0)


def test_what_was_driven_already_is_not_sent_and_times_count_from_the_capture():
    got = through(straight(seconds=5, points=11), capture_ns=NOW + 1200 * MS)
    assert got.plan.stamp_ns == NOW + 1200 * MS
    assert got.plan.times_s[0] == pytest.approx(0.3, abs=0.051)
    assert got.plan.times_s[-1] == pytest.approx(3.8, abs=0.051)


@pytest.mark.parametrize("late_ms", [300, 301, 10_000])
def test_a_plan_that_just_ended_is_still_a_request(late_ms):
    got = through(Plan(NOW, np.array([0.0, 0.3]), np.zeros((2, 2))), capture_ns=NOW + late_ms * MS)
    assert got.plan.times_s.tolist() == [0.0]


def test_a_view_never_arrives_as_freer_than_it_is():
    rng = np.random.default_rng(4)
    free = rng.uniform(0, 400, 72)
    got = through(straight(), Sight(np.zeros(2), free)).sight
    assert (got.free_m <= free).all()
    assert (got.free_m >= np.minimum(0.75 * free - 2, 80)).all()
    assert through(straight()).sight is None


def test_sectors_go_counter_clockwise_from_x():
    sight = Sight(np.array([10.0, 5.0]), np.array([1.0, 2.0, 4.0, 8.0]))
    around = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / np.sqrt(2)
    np.testing.assert_allclose(sight.margins(sight.center + around), [0, 1, 3, 7], atol=1e-9)
    np.testing.assert_allclose(sight.margins(sight.center + 10 * around), [-9, -8, -6, -2])


@pytest.mark.parametrize(
    "given",
    [
        {"times_s": np.zeros(0), "points": np.zeros((0, 2))},
        {"times_s": np.arange(MAX_POINTS + 1) / 10, "points": np.zeros((MAX_POINTS + 1, 2))},
        {"times_s": np.array([1.0, 0.5])},
        {"times_s": np.array([-0.1, 0.5])},
        {"times_s": np.array([0.0, 26.0])},
        {"times_s": np.array([0.0, np.nan])},
        {"points": np.array([[0.0, np.inf], [0, 0]])},
        {"points": np.zeros((2, 3))},
        {"width_m": -1.0},
        {"width_m": np.nan},
        {"width_m": 26.0},
    ],
)
def test_a_plan_that_cannot_be_is_refused(given):
    fields = {"times_s": np.array([0.0, 1.0]), "points": np.zeros((2, 2)), **given}
    with pytest.raises(InputError, match="Plan"):
        Plan(NOW, **fields)


@pytest.mark.parametrize("free", [[], [1.0] * 73, [np.nan], [-1.0], [np.inf]])
def test_a_view_that_cannot_be_is_refused(free):
    with pytest.raises(InputError, match="Sight"):
        Sight(np.zeros(2), np.array(free))


def test_any_bytes_are_a_request_or_rejected():
    rng = np.random.default_rng(5)
    good = encode(straight(points=4), view(30, sectors=8), at(), NOW)
    reasons = set()
    for k in range(1500):
        data = bytearray(good if k % 2 else rng.bytes(int(rng.integers(0, 60))))
        for _ in range(int(rng.integers(0, 4))):
            if data:
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            decode(bytes(data), envelope_of())
        except Rejected as rejected:
            reasons.add(rejected.reason)
    assert reasons == {Reason.TRUNCATED, Reason.MALFORMED}
