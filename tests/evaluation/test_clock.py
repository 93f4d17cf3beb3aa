"""The online clock against schedules worked out by hand."""

import itertools

import numpy as np
import pytest

from evaluation.clock import Latency, read_latency, run_clock, simulate
from evaluation.sequences import even_stamps
from pipeline.errors import InputError

MS = 1_000_000


def schedule(latency_ms, frames=20, fps=30.0):
    return simulate(even_stamps(frames, fps), Latency(round(latency_ms * MS)))


def test_47_ms_at_30_fps_sees_two_frames_of_three():
    found = schedule(47)
    # Frame 1 (33) at 47, 2 (67) at 94, 4 (133) at 141, 5 at 188, 7 (233) at 235, 8 at 282, 9 at 329
    assert found.frames[:9].tolist() == [0, 1, 2, 4, 5, 7, 8, 9, 11]
    assert (found.ready_ns[:9] // MS).tolist() == [0, 94, 141, 188, 235, 282, 329, 376, 423]


def test_170_ms_at_30_fps_sees_every_fifth_frame():
    found = schedule(170)
    assert found.frames.tolist() == [0, 5, 10, 15, 19]
    assert (found.ready_ns // MS).tolist() == [0, 340, 510, 680, 850]


def test_a_tracker_faster_than_the_camera_sees_every_frame_and_waits_for_each():
    found = schedule(12.5)
    assert found.frames.tolist() == list(range(20))
    expected = even_stamps(20, 30.0) + round(12.5 * MS)
    assert found.ready_ns[1:].tolist() == expected[1:].tolist()


def test_a_latency_of_just_the_period_skips_nothing():
    stamps = np.arange(10) * 40 * MS
    found = simulate(stamps, Latency(40 * MS))
    assert found.frames.tolist() == list(range(10))
    assert found.ready_ns.tolist() == [0, *(stamps[1:] + 40 * MS)]


def test_one_frame_is_a_schedule():
    found = schedule(500, frames=1)
    assert (found.frames.tolist(), found.ready_ns.tolist()) == ([0], [0])


def test_time_starts_at_the_first_stamp_and_follows_irregular_ones():
    stamps = 10**18 + np.array([0, 10, 20, 200, 210]) * MS
    found = simulate(stamps, Latency(15 * MS))
    assert found.frames.tolist() == [0, 1, 2, 3, 4]
    assert ((found.ready_ns - 10**18) // MS).tolist() == [0, 30, 45, 215, 230]


def test_work_is_asked_once_for_each_frame_seen_in_order():
    asked = []

    def cost(frame):
        asked.append(frame)
        return 90 * MS

    found = run_clock(even_stamps(30, 30.0), cost)
    assert asked == found.frames.tolist() == sorted(set(asked))


def test_the_predictors_cost_is_charged_to_every_answer():
    with_cost = simulate(even_stamps(40, 30.0), Latency(60 * MS), 9 * MS)
    plain = simulate(even_stamps(40, 30.0), Latency(69 * MS))
    np.testing.assert_array_equal(with_cost.ready_ns, plain.ready_ns)


def test_sampled_latencies_repeat_with_seed_and_key_and_differ_without():
    def draw(seed, key):
        return list(itertools.islice(Latency(80 * MS, 0.3, seed).draw(key), 3000))

    assert draw(1, 5) == draw(1, 5)
    assert draw(1, 5) != draw(2, 5) and draw(1, 5) != draw(1, 6)
    logs = np.log(np.array(draw(1, 5)) / (80 * MS))
    assert abs(np.median(logs)) < 0.02 and abs(logs.std() - 0.3) < 0.02


def test_recorded_latencies_are_used_in_turn_and_again(tmp_path):
    file = tmp_path / "latency.txt"
    file.write_text("0.010\n0.030\n0.250\n")
    latency = read_latency(file)
    assert latency.median_ns == 30 * MS
    drawn = list(itertools.islice(latency.draw(), 5))
    assert drawn == [10 * MS, 30 * MS, 250 * MS, 10 * MS, 30 * MS]


@pytest.mark.parametrize("text", ["", "abc", "-0.1", "nan", "inf", "61", "0.1 x"])
@pytest.mark.filterwarnings("error")
def test_a_latency_file_that_is_none_is_named(text, tmp_path):
    file = tmp_path / "latency.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=r"latency\.txt"):
        read_latency(file)


@pytest.mark.parametrize("median_ns", [0, -1, 61 * 10**9])
def test_a_latency_out_of_range_is_refused(median_ns):
    with pytest.raises(InputError, match="above 0"):
        Latency(median_ns)
