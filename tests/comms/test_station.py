"""A station as a whole: every byte is counted, every delay applied, no budget overrun."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from comms import compact
from comms.budget import AROUND_SHARE, BURST_S, FEW
from comms.certificates import CERTIFICATE_BYTES
from comms.codec import SELF_ID
from comms.compact import HEAD_BYTES, OBJECT_BYTES
from comms.config import SELECTORS, V2xConfig
from comms.envelope import HEADER_BYTES, MTU, ClockQuality, Content, Layer, pack, unpack
from comms.gate import Gate
from comms.motion import predicted
from comms.reasons import Reason
from comms.request import Plan, decode
from comms.signing import (
    ASKING,
    OVERHEAD_BYTES,
    WITH_CERTIFICATE,
    WITH_HINT,
    frame_unsigned,
    split,
)
from comms.station import CERTIFICATE_SHARE, Station
from pipeline.errors import InputError
from pipeline.objects import ObjectClass, Objects
from tests.comms.made import MS, NOW, S, pki
from tests.comms.scenes import at, envelope_of, station, straight, things, view


@pytest.fixture(scope="module")
def keys():
    return pki()


def crowd(n, stamp_ns=NOW, seed=1):
    """n cars and walkers that drive all about, carried to a moment."""
    rng = np.random.default_rng(seed)
    kind = np.where(np.arange(n) % 4, int(ObjectClass.CAR), int(ObjectClass.PERSON))
    some = things(rng.uniform(-80, 80, (n, 2)), rng.uniform(-9, 9, (n, 2)), kind=kind)
    moved = some.positions + (stamp_ns - NOW) * 1e-9 * some.velocities
    return some.derived(
        positions=moved, stamp_ns=stamp_ns, ready_ns=stamp_ns, measured_ns=np.full(n, stamp_ns)
    )


def driven(sender, n, seconds, plan=True, lag_ms=20, others=(), restless=True):
    """(time, datagrams) of a station that sees n objects at 10 Hz; ``lag_ms`` to process."""
    out = []
    for k in range(round(seconds * 20)):
        now = NOW + k * 50 * MS
        if k % 2 == 0:
            stamp = now - lag_ms * MS
            seen = crowd(n, stamp, seed=1 + (k // 10 if restless else 0))
            x = 5e-9 * (stamp - NOW)
            pose = at((x, 0.0), stamp_ns=stamp, velocity=(5.0, 0, 0))
            sender.see(seen, pose, straight(stamp_ns=stamp) if plan else None, view(30))
        sent = sender.outgoing(now)
        out.append((now, sent))
        for other in others:
            for data in sent:
                other.incoming(data, now + 10 * MS)
    return out


# out


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("budget", [300.0, 5000.0])
def test_in_no_window_more_is_sent_than_the_budget_and_one_burst(selector, budget, keys):
    sender = station(7, keys.signer(7), selector=selector, budget_bytes_s=budget)
    out = driven(sender, 60, 8)
    sizes = np.array([sum(map(len, sent)) for _, sent in out])
    total = np.append(0, np.cumsum(sizes))
    one = HEADER_BYTES + OVERHEAD_BYTES[WITH_CERTIFICATE] + 1 + HEAD_BYTES + FEW * OBJECT_BYTES
    burst = max(BURST_S * budget, one)
    at_s = np.arange(len(sizes)) * 0.05
    for i in range(len(sizes)):
        window = total[i + 1 :] - total[i]
        assert (window <= budget * (at_s[i:] - at_s[i]) + burst + 1e-6).all()
    assert total[-1] > 0  # also where a second's budget does not make a message


@pytest.mark.parametrize("content", ["compact", "cpm"])
@pytest.mark.parametrize("signed", [True, False])
def test_every_datagram_fits_and_is_usable_alone(content, signed, keys):
    sender = station(
        7, keys.signer(7) if signed else None, content=content, selector="send_all",
        budget_bytes_s=1e6, min_quality=0.0,
    )  # fmt: skip
    out = [data for _, sent in driven(sender, 150, 1.5) for data in sent]
    counts = Counter()
    for data in out:
        assert len(data) <= MTU
        envelope = unpack(split(data).envelope)
        counts[envelope.capture_ns] += 1
        alone = station(1, verifier=keys.verifier() if signed else None)
        alone.incoming(data, NOW + 2 * S)
        told = alone.report()
        assert (told.received, told.rejected) in ((1, {}), (0, {Reason.UNKNOWN_SIGNER.value: 1}))
    assert max(counts.values()) >= 2


@pytest.mark.parametrize("content", ["compact", "cpm"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("plan", [True, False])
def test_the_bytes_reported_are_the_datagrams_to_the_last_one(content, signed, plan, keys):
    sender = station(
        7, keys.signer(7) if signed else None, content=content, budget_bytes_s=15_000.0
    )
    out = [data for _, sent in driven(sender, 70, 6, plan) for data in sent]
    told = sender.report()
    kinds = told.sent_bytes
    assert sum(kinds.values()) == sum(map(len, out))
    assert told.sent == len(out)
    assert kinds["header"] == HEADER_BYTES * len(out)
    envelopes = [split(data).envelope for data in out]
    assert kinds["signature"] == sum(map(len, out)) - sum(map(len, envelopes))
    wishes = 0
    for data in envelopes:
        envelope = unpack(data)
        objects = envelope.layer == Layer.OBJECTS
        wishes += envelope.payload[0] if objects else len(envelope.payload)
    assert kinds["request"] == wishes
    assert (wishes > 0) is plan
    assert min(kinds[k] for k in ("payload", "header", "signature")) > 0


def test_every_copy_of_a_datagram_counts(keys):
    """Three named peers: the link sends each datagram three times."""
    config = V2xConfig(station=7, budget_bytes_s=9000.0)
    sender = Station(config, Gate(7), keys.signer(7), copies=3)
    out = [data for _, sent in driven(sender, 70, 6) for data in sent]
    assert sum(sender.report().sent_bytes.values()) == 3 * sum(map(len, out)) > 0
    assert 3 * sum(map(len, out)) <= 9000 * (6 + BURST_S)


def test_a_budget_of_zero_only_listens():
    silent, sender = station(1, budget_bytes_s=0), station(7)
    silent.see(crowd(20), at(), straight(), view(30))
    driven(sender, 20, 1, others=[silent])
    assert silent.outgoing(NOW + S) == []
    told = silent.report()
    assert told.sent == sum(told.sent_bytes.values()) == 0
    assert told.received >= 2
    assert len(silent.fused(NOW + S, NOW + S).objects) > 20


def test_before_any_perception_nothing_is_sent_or_fused():
    blank = station()
    assert blank.outgoing(NOW) == []
    assert len(blank.fused(NOW, NOW).objects) == 0


def test_without_peers_fused_is_own_perception():
    alone = station()
    own = crowd(30)
    alone.see(own, at(), straight(), view(30))
    for ahead_ms in (0, 150):
        out = alone.fused(NOW + ahead_ms * MS, NOW)
        want = predicted(own, NOW + ahead_ms * MS)
        assert (out.objects.positions == want.positions).all()
        assert (out.objects.covariances == want.covariances).all()
        assert (out.sources == 0).all()
    assert alone.report().peers == 0


def test_messages_come_at_most_so_often():
    sender = station(7, rate_hz=2.0, selector="send_all")
    times = [now for now, sent in driven(sender, 10, 5) if sent]
    assert np.diff(times).min() >= 0.5 * S - 10 * MS
    assert len(times) >= 9


def test_a_station_tells_of_itself():
    sender, other = station(7, length_m=12.0, vehicle_class="bus"), station(1)
    sender.see(Objects.none(NOW), at((50.0, 0.0), velocity=(8.0, 0, 0), sigmas=(0.1, 0.0)))
    sender.outgoing(NOW)
    sender.see(Objects.none(NOW + S), at((58.0, 0.0), stamp_ns=NOW + S, velocity=(8.0, 0, 0)))
    for data in sender.outgoing(NOW + S):
        other.incoming(data, NOW + S)
    other.see(Objects.none(NOW + S), at(stamp_ns=NOW + S))
    out = other.fused(NOW + S, NOW + S).objects
    assert out.ids.tolist() == [SELF_ID]
    assert out.classes.tolist() == [ObjectClass.BUS]
    np.testing.assert_allclose(out.positions[0], [58, 0, 0], atol=0.02)
    assert out.sizes[0, 0] == pytest.approx(12, rel=0.03)


def test_the_reserved_share_is_for_the_vulnerable_however_much_else_matters():
    n = 60
    kind = np.where(np.arange(n) < 6, int(ObjectClass.PERSON), int(ObjectClass.CAR))
    p = np.column_stack([np.linspace(-80, 80, n), np.zeros(n)])
    p[:6, 1] = 60.0  # walkers stand far from the plan, all cars on it
    told = set()
    sender = station(7, budget_bytes_s=2000.0, reserved_share=0.2)
    listener = station(1)
    plan = straight((80.0, 0.0), start=(-80.0, 0.0))
    for k in range(30):
        now = NOW + k * 100 * MS
        moved = things(p, kind=kind, stamp_ns=now)
        listener.see(Objects.none(now), at((0, -100.0), stamp_ns=now), plan)
        for data in listener.outgoing(now):
            sender.incoming(data, now)
        sender.see(moved, at((0.0, 100.0), stamp_ns=now))
        for data in sender.outgoing(now):
            envelope = unpack(data[1:])
            told |= set(compact.decode(envelope.payload[1:], envelope).ids.tolist())
    assert set(range(1, 7)) <= told


def test_a_request_arrives_as_of_the_place_and_time_of_its_message():
    """Perceived 200 ms before it is sent, at 20 m/s: neither place nor time may shift."""
    sender = station(7)
    pose = at((10.0, 4.0), velocity=(20.0, 0, 0))
    plan = straight((110.0, 4.0), start=(10.0, 4.0))
    sender.see(crowd(10), pose, plan, view(30, (10.0, 4.0)))
    sender.outgoing(NOW + 100 * MS)
    later = NOW + 1000 * MS
    sender.see(crowd(10, later), at((30.0, 4.0), stamp_ns=later, velocity=(20.0, 0, 0)), plan,
               view(30, (30.0, 4.0)))  # fmt: skip
    data = sender.outgoing(later + 200 * MS)[0]
    envelope = unpack(data[1:])
    wish = decode(envelope.payload[1 : 1 + envelope.payload[0]], envelope)
    times = wish.plan.times_s + (wish.plan.stamp_ns - plan.stamp_ns) * 1e-9
    np.testing.assert_allclose(wish.plan.points[:, 0], 10 + 20 * times, atol=1.1)
    np.testing.assert_allclose(wish.sight.center, [30, 4], atol=0.01)


# in


@pytest.mark.parametrize("delay_ms", [0, 100, 500, 1500])
@pytest.mark.parametrize("alignment", ["predict", "floored", "stale"])
def test_what_was_told_late_is_fused_where_it_is_by_now(delay_ms, alignment):
    """10 m/s, told 500 ms ago: 5 m on."""
    sender, receiver = station(7), station(1, alignment=alignment, max_sigma_m=10.0)
    sender.see(things([(40, 30)], (10.0, 0.0)), at((60.0, 30.0)))
    sender.outgoing(NOW)
    sender.see(things([(40, 30)], (10.0, 0.0)), at((60.0, 30.0)))
    (data,) = sender.outgoing(NOW + 500 * MS)
    then = NOW + delay_ms * MS
    receiver.see(Objects.none(then), at(stamp_ns=then))
    receiver.incoming(data, max(then, NOW))
    out = receiver.fused(then, then).objects
    x = out.positions[out.ids == 1, 0]
    moves = {"predict": delay_ms / 100, "floored": delay_ms // 100, "stale": 0}[alignment]
    np.testing.assert_allclose(x, 40 + moves, atol=0.02)
    assert (out.measured_ns[out.ids == 1] == NOW).all()


def test_the_moment_of_use_may_lie_ahead():
    sender, receiver = station(7), station(1, max_sigma_m=10.0)
    sender.see(things([(40, 0)], (10.0, 0.0)), at((60.0, 30.0)))
    sender.outgoing(NOW - S)
    for data in sender.outgoing(NOW):
        receiver.incoming(data, NOW)
    receiver.see(things([(5, 5)], (0.0, 10.0)), at())
    out = receiver.fused(NOW + 300 * MS, NOW).objects
    np.testing.assert_allclose(out.positions[out.ids == 1][:, :2], [[5, 8], [43, 0]], atol=0.02)
    assert receiver.report().age_ns[0] == 300 * MS


def test_what_is_past_its_time_to_live_is_not_fused():
    sender, receiver = station(7), station(1, ttl_ms=1000.0, max_sigma_m=100.0)
    sender.see(things([(40, 0)]), at((60.0, 30.0)))
    sender.outgoing(NOW - S)
    for data in sender.outgoing(NOW):
        receiver.incoming(data, NOW)
    for late_ms, n in ((900, 2), (1001, 0)):
        then = NOW + late_ms * MS
        receiver.see(Objects.none(then), at(stamp_ns=then))
        assert len(receiver.fused(then, then).objects) == n


def test_two_hundred_peers_are_heard_and_the_work_is_bounded(keys):
    receiver = station(1, verifier=keys.verifier(), range_m=500.0)
    own = crowd(20)
    rng = np.random.default_rng(3)
    for k in range(200):
        sender = station(100 + k, keys.signer(100 + k))
        where = np.append(rng.uniform(-100, 100, 2), 0.0)
        sender.see(crowd(10, seed=k), at(where))
        sender.outgoing(NOW - S)
        for data in sender.outgoing(NOW):
            receiver.incoming(data, NOW)
    receiver.see(own, at(), straight(), view(30))
    out = receiver.fused(NOW, NOW)
    assert receiver.report().peers == 200
    assert receiver.report().rejected == {}
    np.testing.assert_array_equal(out.objects.ids[:20], own.ids)
    assert len(out.objects) > 20


def test_more_stations_than_are_kept_are_counted():
    receiver = station(1)
    for k in range(300):
        pose = at()
        packed = pack(envelope_of(1000 + k, pose=pose, payload=b"\0\0"))
        receiver.incoming(frame_unsigned(packed), NOW)
    told = receiver.report()
    assert told.peers == 256
    assert told.rejected == {Reason.STATIONS.value: 44}


def test_silent_stations_are_forgotten_and_make_room():
    receiver = station(1)
    receiver.see(Objects.none(NOW), at())
    receiver.incoming(frame_unsigned(pack(envelope_of(9, payload=b"\0\0"))), NOW)
    assert receiver.report().peers == 1
    receiver.fused(NOW + 6 * S, NOW + 6 * S)
    assert receiver.report().peers == 0


def test_loss_is_measured():
    sender, receiver = station(7, selector="send_all"), station(1)
    rng = np.random.default_rng(4)
    for now, sent in driven(sender, 10, 60, restless=False):
        for data in sent:
            if rng.random() > 0.3:
                receiver.incoming(data, now)
    assert receiver.loss == pytest.approx(0.3, abs=0.15)


def spent(selector, lag_ms):
    sender = station(7, selector=selector)
    return [sum(map(len, sent)) for _, sent in driven(sender, 20, 6, False, lag_ms, restless=False)]


def test_little_is_told_while_the_receivers_predictions_hold():
    assert sum(spent("apc", 20)) < 0.5 * sum(spent("send_all", 20))


@pytest.mark.parametrize("selector", ["apc", "etsi"])
def test_how_long_own_perception_took_is_no_change_of_what_was_told(selector):
    """Objects are held against what was told of the same moment, not of the moment of sending."""
    soon, late = np.array(spent(selector, 0)), np.array(spent(selector, 150))
    assert ((soon > 0) == (late > 0)).all()
    assert np.abs(soon - late).max() <= 10  # places differ, and so do their bits, not the objects


# refused


def test_a_pose_in_another_frame_is_refused():
    pose = at()
    wrong = type(pose)(NOW, pose.position, 0.0, frame_id="odom")
    with pytest.raises(InputError, match="frame_id"):
        station().see(Objects.none(NOW), wrong)


def test_a_certificate_of_another_station_is_refused(keys):
    with pytest.raises(InputError, match="certificate is of station 8"):
        station(7, keys.signer(8))


def test_a_reset_forgets_all_but_the_counters():
    sender, receiver = station(7), station(1)
    driven(sender, 20, 1, others=[receiver])
    receiver.see(crowd(5), at())
    before = receiver.report()
    receiver.reset()
    after = receiver.report()
    assert (after.received, after.peers) == (before.received, 0)
    assert len(receiver.fused(NOW, NOW).objects) == 0


def test_a_clock_that_jumps_back_neither_overruns_the_budget_nor_stops():
    sender = station(7, budget_bytes_s=5000.0)
    ahead = driven(sender, 40, 3)
    again = driven(sender, 40, 3)
    for out in (ahead, again):
        assert sum(len(d) for _, sent in out for d in sent) <= 5000 * (3 + BURST_S)


def test_overheads_are_what_signing_adds(keys):
    sender = station(7, keys.signer(7), selector="send_all")
    first = next(sent for _, sent in driven(sender, 5, 1, plan=False) if sent)[0]
    envelope = unpack(split(first).envelope)
    objects = compact.decode(envelope.payload[1:], envelope)
    assert len(objects) == 5  # and itself, in the envelope
    assert len(first) == (HEADER_BYTES + OVERHEAD_BYTES[WITH_CERTIFICATE] + len(envelope.payload))


def test_a_station_may_be_made_with_any_clock():
    for quality in ClockQuality:
        made = Station(station().config, Gate(1), clock=quality)
        made.see(things([(9, 0)]), at())
        made.outgoing(NOW - S)
        assert unpack(made.outgoing(NOW)[0][1:]).clock == quality


def test_cpm_and_compact_tell_the_same():
    told = {}
    for content in ("compact", "cpm"):
        sender, receiver = station(7, content=content), station(1, max_sigma_m=10.0)
        sender.see(crowd(12), at((60.0, 30.0)))
        sender.outgoing(NOW - S)
        for data in sender.outgoing(NOW):
            assert unpack(data[1:]).content == Content[content.upper()]
            receiver.incoming(data, NOW)
        receiver.see(Objects.none(NOW), at((30.0, 120.0)))
        out = receiver.fused(NOW, NOW).objects
        told[content] = out.positions[np.argsort(out.ids)]
    np.testing.assert_allclose(told["compact"], told["cpm"], atol=0.03)


def test_at_most_a_share_of_the_budget_goes_around_objects(keys):
    for selector in ("apc", "send_all"):
        sender = station(7, keys.signer(7), selector=selector, budget_bytes_s=1000.0)
        driven(sender, 40, 20)
        told = sender.report()
        around = HEADER_BYTES + OVERHEAD_BYTES[WITH_HINT] + 1 + HEAD_BYTES
        assert 5 < told.sent <= (AROUND_SHARE * 1000 * 20) / around + 3


def test_whoever_misses_a_certificate_asks_for_it_and_gets_it(keys):
    """The first two messages of each are lost, and the certificates with them."""
    one = station(7, keys.signer(7), keys.verifier(), selector="send_all", budget_bytes_s=1e5)
    two = station(8, keys.signer(8), keys.verifier(), selector="send_all", budget_bytes_s=1e5)
    heard, kinds = [], []
    for k in range(12):
        now = NOW + k * 300 * MS
        for sender, receiver, x in ((one, two, 0.0), (two, one, 50.0)):
            sender.see(crowd(5, now), at((x, 0.0), stamp_ns=now))
            for data in sender.outgoing(now):
                kinds.append(data[0])
                if k > 2:
                    receiver.incoming(data, now)
        heard.append(one.report().received)
    # A budget begins empty, so the first messages go at 0.3 and 0.6 s, and the next certificates a
    # second later, at 1.8 s: until then three messages of each come under a hint that is not known.
    assert heard[-1] == 6
    for each in (one, two):
        assert each.report().rejected[Reason.UNKNOWN_SIGNER.value] == 3
    assert sum(bool(k & ASKING) for k in kinds) <= 6
    # Each twice at first, when it is asked for, and when somebody new was met: no more than that.
    assert sum(k & 3 == WITH_CERTIFICATE for k in kinds) <= 8


@pytest.mark.parametrize("budget", [250.0, 320.0, 400.0])
def test_asks_never_silence_a_station_on_a_small_budget(keys, budget):
    one = station(7, keys.signer(7), keys.verifier(), selector="send_all", budget_bytes_s=budget)
    sent = []
    for k in range(200):
        now = NOW + k * 500 * MS
        one.see(crowd(5, now), at(stamp_ns=now))
        sent.append(len(one.outgoing(now)))
        for number in range(20, 30):  # strangers, whose certificates are not known
            stranger = keys.signer(number)
            stranger.sign(b"lost", now)
            packed = pack(envelope_of(number, k, pose=at(stamp_ns=now), payload=b"\0\0"))
            one.incoming(stranger.sign(packed, now), now)
    assert sum(sent[100:]) > 5


def test_an_unknown_hint_does_not_make_a_station_send_its_certificate(keys):
    one = station(7, keys.signer(7), keys.verifier(), selector="send_all", budget_bytes_s=1e5)
    stranger = keys.signer(9)
    for now in (NOW - S, NOW):
        stranger.sign(b"lost", now)
    for k in range(20):
        now = NOW + k * 300 * MS
        one.see(crowd(5, now), at(stamp_ns=now))
        one.outgoing(now)
        packed = pack(envelope_of(9, k, pose=at(stamp_ns=now), payload=b"\0\0"))
        one.incoming(stranger.sign(packed, now), now)
    assert one.report().rejected == {Reason.UNKNOWN_SIGNER.value: 20}
    assert one.report().sent_bytes["signature"] < 18 * 74 + 2 * 184 + 1


@pytest.mark.parametrize("layers", [{Layer.OBJECTS}, {Layer.REQUEST}, set(Layer)])
def test_a_station_sends_no_layer_that_its_certificate_is_not_for(layers, keys):
    sender = station(7, keys.signer(7, layers=layers), keys.verifier(), budget_bytes_s=1e5)
    receiver = station(8, keys.signer(8), keys.verifier())
    plan = Plan(NOW, np.arange(6.0), np.column_stack([np.arange(6.0) * 10, np.zeros(6)]), 3.0)
    for k in range(20):
        now = NOW + k * 100 * MS
        sender.see(crowd(5, now), at(stamp_ns=now), replace(plan, stamp_ns=now))
        for data in sender.outgoing(now):
            assert receiver.incoming(data, now) is not None
    assert receiver.report().received > 1
    assert (sender.report().sent_bytes["request"] > 0) is (Layer.REQUEST in layers)


def test_a_peer_that_feigns_loss_takes_no_more_than_a_share_of_the_budget_for_certificates(keys):
    """Its sequence jumps, so that nearly all of its messages seem to be lost."""
    budget, seconds = 1000.0, 20
    one = station(7, keys.signer(7), keys.verifier(), selector="send_all", budget_bytes_s=budget)
    liar, certificates = keys.signer(9), 0
    for k in range(10 * seconds):
        now = NOW + k * 100 * MS
        one.see(crowd(5, now), at(stamp_ns=now))
        for data in one.outgoing(now):
            certificates += data[0] & 3 == WITH_CERTIFICATE
        packed = pack(envelope_of(9, 50 * k, pose=at(stamp_ns=now), payload=b"\0\0"))
        assert k or one.loss == 0
        one.incoming(liar.sign(packed, now), now)
    assert one.loss > 0.9
    at_first = 3  # at the start, and where the liar is met
    most = CERTIFICATE_SHARE * budget * seconds / CERTIFICATE_BYTES
    assert certificates <= most + at_first
