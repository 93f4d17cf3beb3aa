"""The channel models: every delay, loss and byte is really there."""

import math
from collections import Counter

import numpy as np
import pytest

from comms.channel import (
    ITS_G5_DELIVERY,
    ITS_G5_DISTANCE_M,
    LINK_OVERHEAD,
    MAX_INBOX,
    NETWORK_OVERHEAD,
    Air,
    ChannelConfig,
)
from comms.impairments import BLOCK_SLOTS, SLOT_NS, GilbertElliott, Moment, Trace, uniform
from pipeline.errors import InputError

MS = 1_000_000
SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND + 123_456
LATER = T0 + 3600 * SECOND


def air(seed=0, stations=(1, 2), **options):
    return Air(ChannelConfig(**options), seed, stations, T0)


def arrivals(channel, sizes, gap_ns=0, station=2):
    """Delays in ns from the first sending of each of some datagrams that station 1 sends."""
    for k, size in enumerate(sizes):
        channel.send(1, bytes([k % 256]) * size, T0 + k * gap_ns)
    return {data: at - T0 for at, data in channel.receive(station, LATER)}


def delivered(channel, count, gap_ns=25 * MS, station=2, size=50):
    """(count,) bool: which of datagrams sent in turn arrive."""
    taken = []
    for k in range(count):
        channel.send(1, k.to_bytes(4, "little") + bytes(size), T0 + k * gap_ns)
        taken += channel.receive(station, T0 + k * gap_ns)
    taken += channel.receive(station, LATER)
    found = {int.from_bytes(data[:4], "little") for _, data in taken}
    return np.array([k in found for k in range(count)])


def test_an_ideal_channel_delivers_everything_at_once_to_all_others_only():
    channel = air(stations=(1, 2, 3))
    channel.send(1, b"hello", T0)
    assert channel.receive(2, T0) == channel.receive(3, T0) == [(T0, b"hello")]
    assert channel.receive(1, LATER) == [] == channel.receive(2, LATER)


def test_a_delay_that_is_configured_is_applied_to_the_nanosecond():
    channel = air(delay_ms=137.25)
    channel.send(1, b"x", T0)
    due = T0 + 137_250_000
    assert channel.receive(2, due - 1) == []
    assert channel.due_ns() == due
    assert channel.receive(2, due) == [(due, b"x")]


@pytest.mark.parametrize("delay_ms", [3.0, 90.0, 410.0])
def test_delays_below_and_between_frames_are_not_rounded_away(delay_ms):
    assert [*arrivals(air(delay_ms=delay_ms), [9]).values()] == [round(delay_ms * MS)]


def test_every_byte_takes_its_time_on_the_air_and_waits_for_those_before_it():
    channel = air(rate_kbit_s=800.0, delay_ms=7.0)  # 100 bytes a ms
    found = arrivals(channel, [124, 1024, 24])
    overhead = NETWORK_OVERHEAD + LINK_OVERHEAD
    ends = np.cumsum([124 + overhead, 1024 + overhead, 24 + overhead]) / 100 + 7.0
    np.testing.assert_allclose(np.array([*found.values()]) / MS, ends, atol=1e-5)


def test_one_more_byte_arrives_later_and_is_counted():
    found = []
    for size in (700, 701):
        channel = air(rate_kbit_s=800.0)
        found.append((*arrivals(channel, [size]).values(), channel.counts[1].air_bytes))
    assert found[1][0] - found[0][0] == 10_000
    assert found[1][1] - found[0][1] == 1


def test_the_lower_layers_bytes_stand_apart_and_only_what_was_sent_is_counted():
    channel = air(rate_kbit_s=800.0, queue_bytes=1000)
    for _ in range(8):
        channel.send(1, bytes(324), T0)  # 400 on the air: one is on its way, two may wait
    channel.advance(T0)
    count = channel.counts[1]
    assert (count.offered, count.pushed_out, count.aired) == (8, 5, 1)
    channel.advance(LATER)
    assert (count.aired, count.payload_bytes) == (3, 3 * 324)
    assert (count.network_bytes, count.link_bytes) == (3 * 40, 3 * 36)
    assert count.air_bytes == 3 * 400
    assert len(channel.receive(2, LATER)) == channel.counts[2].delivered == 3


def test_a_full_queue_lets_the_oldest_go_and_never_the_newest():
    channel = air(rate_kbit_s=800.0, queue_bytes=0)
    found = arrivals(channel, [500, 600, 700, 800])
    assert [len(data) for data in found] == [500, 800]


def test_a_queue_drains_in_between_so_that_a_slow_sender_loses_nothing():
    channel = air(rate_kbit_s=800.0, queue_bytes=0)
    assert delivered(channel, 40, gap_ns=20 * MS, size=900).all()


def test_senders_do_not_wait_for_each_other():
    channel = air(stations=(1, 2, 3), rate_kbit_s=800.0)
    channel.send(1, bytes(924), T0)
    channel.send(2, bytes(424), T0)
    assert [at - T0 for at, _ in channel.receive(3, LATER)] == [5 * MS, 10 * MS]


def test_log_normal_delays_have_the_median_and_the_spread_asked_for():
    found = arrivals(air(delay_ms=40.0, delay_sigma=0.5, stations=(1, 2)), range(8, 1008), 0)
    logs = np.log(np.array([*found.values()]) / MS)
    assert abs(math.exp(np.median(logs)) - 40) < 2.5
    assert abs(logs.std() - 0.5) < 0.04
    assert [*found.values()] == sorted(found.values())


def test_independent_loss_is_as_frequent_as_asked_and_has_no_memory():
    got = delivered(air(loss=0.3), 6000)
    assert abs(got.mean() - 0.7) < 0.02
    lost = ~got
    assert abs(lost[1:][lost[:-1]].mean() - 0.3) < 0.04


def test_losses_differ_between_receivers_seeds_and_directions():
    first = air(loss=0.5, stations=(1, 2, 3))
    at_2 = delivered(first, 400)
    at_3 = {int.from_bytes(d[:4], "little") for _, d in first.receive(3, LATER)}
    other_seed = delivered(air(seed=1, loss=0.5), 400)
    for other in (np.array([k in at_3 for k in range(400)]), other_seed):
        assert 0.4 < (at_2 == other).mean() < 0.6


@pytest.mark.parametrize(
    "options",
    [
        {"loss": 0.4},
        {"burst_ms": 120.0, "gap_ms": 200.0},
        {"loss": 0.2, "burst_ms": 60.0, "delay_ms": 30.0, "delay_sigma": 0.4},
    ],
)
def test_the_same_moments_have_the_same_fortune_whatever_else_is_sent(options):
    alone, beside = air(seed=9, **options), air(seed=9, stations=(1, 2, 3), **options)
    found = []
    for channel, extra in ((alone, 0), (beside, 3)):
        for k in range(500):
            channel.send(1, k.to_bytes(4, "little"), T0 + k * 50 * MS)
            for _ in range(extra):  # more pieces, and another sender
                channel.send(1, bytes(1000), T0 + k * 50 * MS)
                channel.send(3, bytes(900), T0 + k * 50 * MS)
        taken = channel.receive(2, LATER)
        found.append({(at, data) for at, data in taken if len(data) == 4})
    assert found[0] == found[1]
    assert 50 < len(found[0]) < 450


def test_pieces_of_one_moment_are_lost_one_by_one():
    channel = air(loss=0.5)
    assert 60 < len(arrivals(channel, range(1, 161))) < 100


def test_bursts_last_as_long_and_come_as_often_as_asked():
    model = GilbertElliott(good_ms=400.0, bad_ms=100.0, good_loss=0.0, bad_loss=1.0)
    slots = 4 * BLOCK_SLOTS
    bad = np.array([model.is_bad(Moment(5, 1, 2, T0 + k * SLOT_NS)) for k in range(slots)])
    assert abs(bad.mean() - 0.2) < 0.03
    begins = np.flatnonzero(bad[1:] & ~bad[:-1])
    assert abs(bad.sum() / len(begins) * 10 - 100) < 20
    losses = ~delivered(air(burst_ms=100.0, gap_ms=400.0), 8000, gap_ns=10 * MS)
    assert losses[1:][losses[:-1]].mean() > 0.8 > 0.3 > losses.mean()


def test_a_burst_loses_only_its_share():
    got = delivered(air(burst_ms=1e5, gap_ms=1.0, burst_loss=0.25), 4000, gap_ns=5 * MS)
    assert abs(got.mean() - 0.75) < 0.04


def test_delivery_follows_the_table_of_distances():
    table = {"distance_m": ITS_G5_DISTANCE_M, "distance_delivery": ITS_G5_DELIVERY}
    for distance, expected in ((30.0, 1.0), (225.0, 0.71), (300.0, 0.42), (501.0, 0.0)):
        channel = air(**table)
        channel.place(2, (100.0 + distance, 50.0))
        channel.place(1, (100.0, 50.0))
        assert abs(delivered(channel, 2000).mean() - expected) < 0.04


def test_positions_are_those_of_the_moment_of_sending():
    channel = air(distance_m=(10.0,), distance_delivery=(1.0,))
    channel.place(2, (0.0, 0.0, 0.0))
    for k, x in enumerate((9.0, 11.0, 8.0)):
        channel.send(1, bytes([k]), T0 + k, (x, 0.0, 0.0))
    assert [data[0] for _, data in channel.receive(2, LATER)] == [0, 2]


def test_a_table_without_positions_is_an_error_and_no_silent_delivery():
    with pytest.raises(InputError, match="place every station"):
        air(distance_m=(10.0,), distance_delivery=(1.0,)).send(1, b"", T0)


def test_nothing_that_begins_within_an_outage_arrives():
    channel = air(outage_from_s=(0.1, 0.5), outage_to_s=(0.3, 0.6))
    got = delivered(channel, 8, gap_ns=100 * MS)
    assert got.tolist() == [True, False, False, True, True, False, True, True]


def trace_file(path, text):
    path.write_text("t_s,delay_ms,rate_kbit_s,lost\n" + text)
    return str(path)


def test_a_trace_gives_delay_rate_and_loss_of_its_moment_and_begins_again(tmp_path):
    path = trace_file(tmp_path / "link.csv", "0,5,800,0\n0.1,20,1600,0\n0.2,20,80,1\n")
    channel = air(trace=path)
    delays = []
    for k in (0, 100, 200, 300):  # it lasts 300 ms
        channel.send(1, bytes(724), T0 + k * MS)  # 800 on the air
        delays += [(k, (at - T0) / MS - k) for at, _ in channel.receive(2, LATER)]
    assert [(k, round(d, 3)) for k, d in delays] == [(0, 13.0), (100, 24.0), (300, 13.0)]


def test_a_transmission_that_outlasts_a_row_goes_on_at_the_next_ones_rate(tmp_path):
    trace = Trace.read(
        tmp_path / trace_file(tmp_path / "l.csv", "0,0,8,0\n0.1,0,0,0\n0.3,0,80,0\n"), T0
    )  # 1 byte a ms for 100 ms, none for 200 ms, 10 a ms for 200 ms
    assert trace.end_ns(T0, 60) == T0 + 60 * MS
    assert trace.end_ns(T0 + 50 * MS, 250) == T0 + 320 * MS
    assert trace.end_ns(T0 + 150 * MS, 10) == T0 + 301 * MS
    assert trace.end_ns(T0 + 490 * MS, 100 + 100 + 2000 + 7) == T0 + 1007 * MS


def test_impairments_apply_together(tmp_path):
    path = trace_file(tmp_path / "l.csv", "0,20,1e6,0\n")
    channel = air(trace=path, delay_ms=5.0, rate_kbit_s=800.0)
    assert [*arrivals(channel, [924]).values()] == [35 * MS]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one"),
        ("0,1,2\n", "line 2: give t_s"),
        ("0,1,2,0\n1,1,x,0\n", "line 3: give t_s"),
        ("0,nan,2,0\n", "not finite"),
        ("0,-1,2,0\n", "below 0"),
        ("0,1,2,1.5\n", "0 to 1"),
        ("0,1,0,0\n", "rate above 0"),
        ("1,1,2,0\n", "rise from 0"),
        ("0,1,2,0\n0,1,2,0\n", "rise from 0"),
    ],
)
def test_a_bad_trace_is_named_with_its_line(tmp_path, text, says):
    path = trace_file(tmp_path / "bad.csv", text)
    with pytest.raises(InputError, match=says) as error:
        air(trace=path)
    assert "bad.csv" in str(error.value)


def test_a_trace_that_is_no_trace_or_not_there_is_named(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\x00\x01")
    for name, says in (("x.csv", "give t_s"), ("none.csv", "cannot be read")):
        with pytest.raises(InputError, match=says):
            air(trace=str(tmp_path / name))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": 1.5}, "loss"),
        ({"loss": float("nan")}, "loss"),
        ({"distance_m": (1.0, 2.0), "distance_delivery": (1.0,)}, "as many"),
        ({"distance_m": (2.0, 1.0), "distance_delivery": (1.0, 1.0)}, "rising"),
        ({"outage_from_s": (1.0,)}, "as many"),
        ({"outage_from_s": (1.0,), "outage_to_s": (1.0,)}, "after"),
    ],
)
def test_a_channel_that_cannot_be_is_refused(options, says):
    with pytest.raises(InputError, match=says):
        air(**options)


def test_sending_back_in_time_and_impossible_places_are_refused():
    channel = air()
    channel.send(1, b"", T0)
    with pytest.raises(InputError, match="order of time"):
        channel.send(1, b"", T0 - 1)
    with pytest.raises(InputError, match="finite"):
        channel.place(1, (math.nan, 0.0))


def test_a_station_that_never_listens_keeps_the_newest_and_no_more():
    channel = air()
    for k in range(MAX_INBOX + 10):
        channel.send(1, k.to_bytes(4, "little"), T0 + k)
    taken = channel.receive(2, LATER)
    assert (len(taken), channel.counts[2].overrun) == (MAX_INBOX, 10)
    assert taken[0][1] == (10).to_bytes(4, "little")


def test_draws_are_uniform_and_their_own_for_each_purpose():
    drawn = np.array([[uniform(p, 3, k) for p in (b"a", b"b")] for k in range(4000)])
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.05
    assert max(Counter((drawn[:, 0] * 10).astype(int)).values()) < 500
    assert uniform(b"a", -(2**70)) != uniform(b"a", 2**62)
