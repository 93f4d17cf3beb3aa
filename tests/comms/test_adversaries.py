"""Others that lie, err, or send what is none of it: counted, and own perception never harmed."""

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from comms import compact
from comms.bits import Writer
from comms.envelope import MTU, Content, Layer, pack
from comms.reasons import Reason
from comms.signing import Signer, frame_unsigned, split
from pipeline.objects import ObjectClass, joined
from tests.comms.made import MS, NOW, Pki, S, pki
from tests.comms.scenes import at, envelope_of, seen_by, station, straight, things, view

FREE_M = 40.0
SIGMA_M = 0.25
PEER_AT = np.array([55.0, 5.0])


@pytest.fixture(scope="module")
def keys() -> Pki:
    return pki()


# Vehicles that meet


def street(t_s=0.0):
    """Cars that the ego sees, at (0, 0) with a free view of 40 m, and cars that it does not."""
    near = [(12, 4), (22, -4), (31, 4), (-15, 4), (-28, -4), (5, 30), (-4, -32)]
    far = [(62, 14), (75, -4), (90, 4), (70, 40), (55, -35)]
    v = np.array([(6, 0), (-5, 0), (3, 0), (4, 0), (-6, 0), (0, -2), (0, 3)] + [(0, 0)] * 5)
    p = np.array(near + far, float) + t_s * v
    return things(p, v, ids=np.arange(101, 113), sigma_m=SIGMA_M, yaw=np.nan)


def stamped(objects, stamp_ns, rng=None, sigma_m=SIGMA_M):
    noise = 0 if rng is None else rng.normal(0, sigma_m, (len(objects), 3)) * [1, 1, 0]
    return objects.derived(
        stamp_ns=stamp_ns, ready_ns=stamp_ns, positions=objects.positions + noise,
        measured_ns=np.full(len(objects), stamp_ns),
    )  # fmt: skip


class Meeting:
    """Seconds of an ego, the same ego without others, and other vehicles that tell ``tell(t, truth,
    rng)`` from ``pose``; all signed, 10 Hz, 30 ms of delay."""

    def __init__(self, keys, tell, seconds=4.0, pose=None, others=1, sight=True, **options):
        self.ego = station(1, verifier=keys.verifier(), max_rate_hz=200.0, range_m=300.0, **options)
        self.alone = station(1, range_m=300.0, **options)
        senders = [
            station(7 + k, keys.signer(7 + k), selector="send_all", budget_bytes_s=1e7,
                    range_m=5000.0, min_quality=0.0)
            for k in range(others)
        ]  # fmt: skip
        pose = at((*PEER_AT, 0.0), sigmas=(0.05, 0.001)) if pose is None else pose
        self.steps = []
        rng = np.random.default_rng(5)
        for k in range(round(seconds * 10)):
            now = NOW + k * 100 * MS
            truth = street(0.1 * k)
            for sender in senders:
                told = tell(0.1 * k, truth, rng)
                sender.see(stamped(told, now), replace(pose, stamp_ns=now))
                for data in sender.outgoing(now):
                    self.ego.incoming(data, now + 30 * MS)
            later = now + 40 * MS
            here = at(stamp_ns=later)
            truth = stamped(street(0.1 * k + 0.04), later)
            seen = np.hypot(*truth.positions[:, :2].T) < FREE_M
            own = stamped(truth.selected(seen), later, rng)
            own = own.derived(ids=own.ids - 100)
            free = view(FREE_M) if sight else None
            for one in (self.ego, self.alone):
                one.see(own, here, straight(stamp_ns=later), free)
            out, silent = (s.fused(later, later) for s in (self.ego, self.alone))
            self.steps.append((truth, own, out, silent.objects))

    def own_errors(self):
        """(with others, alone) root mean square m of own objects' places, in truth."""
        errors = [[], []]
        for truth, own, out, silent in self.steps:
            rows = np.searchsorted(truth.ids, own.ids + 100)
            for found, objects in zip(errors, (out.objects, silent), strict=True):
                assert (objects.ids[: len(own)] == own.ids).all()
                off = (objects.positions[: len(own)] - truth.positions[rows])[:, :2]
                found.append((off**2).sum(axis=1))
        return [float(np.sqrt(np.concatenate(e).mean())) for e in errors]

    def near(self, point, within_m=3.0):
        """How many objects were fused about a place, in all steps."""
        return sum(
            int((np.hypot(*(out.objects.positions[:, :2] - point).T) < within_m).sum())
            for _, _, out, _ in self.steps
        )

    def of_others(self, last=None):
        """Of each step, (M,) m by which objects that only others told of are off anything."""
        errors = []
        for truth, own, out, _ in self.steps[-(last or len(self.steps)) :]:
            there = np.vstack([truth.positions[:, :2], PEER_AT])
            more = out.objects.positions[len(own) :, None, :2] - there
            errors.append(np.linalg.norm(more, axis=2).min(axis=1, initial=np.inf))
        return errors


def honest(t, truth, rng):
    far = np.hypot(*(truth.positions[:, :2] - PEER_AT).T) < 60
    return stamped(truth.selected(far), truth.stamp_ns, rng)


def test_an_honest_peer_shows_what_the_ego_cannot_see_and_does_no_harm(keys):
    met = Meeting(keys, honest)
    ours, alone = met.own_errors()
    assert ours <= 1.02 * alone
    shown = met.of_others(last=20)
    assert all(len(e) >= 5 and e.max() < 1.2 for e in shown)
    assert met.ego.report().distrusted == 0


@pytest.mark.parametrize("sigma_m", [0.01, 0.3])
@pytest.mark.parametrize("honest_as_well", [True, False])
def test_nobody_plants_an_object_in_the_free_view(keys, sigma_m, honest_as_well):
    place = np.array([20.0, 12.0])

    def tell(t, truth, rng):
        ghost = things([place], kind=ObjectClass.PERSON, ids=[5000], sigma_m=sigma_m, quality=1.0)
        return joined([honest(t, truth, rng), ghost]) if honest_as_well else ghost

    met = Meeting(keys, tell)
    assert met.near(place) == 0
    ours, alone = met.own_errors()
    assert ours <= 1.02 * alone


def test_who_plants_many_is_not_believed_about_what_nobody_sees_either(keys):
    ghosts = [(20, 14), (-12, -14), (8, -20), (-20, 20)]
    unseen = (70.0, -30.0)

    def tell(t, truth, rng):
        return things([*ghosts, unseen], ids=range(5000, 5005))

    met = Meeting(keys, tell, seconds=6)
    assert sum(met.near(np.array(g)) for g in ghosts) == 0
    assert len(met.of_others(last=1)[0]) == 0
    assert met.ego.report().distrusted == 1


def test_who_goes_on_lying_is_not_forgiven(keys):
    """Absent objects make its pose doubtful, too; that must not excuse them."""
    places = [(20, 14), (-12, -14), (8, -20), (70.0, -30.0), (60.0, 40.0)]

    def tell(t, truth, rng):
        return things(places, ids=range(5000, 5005))

    met = Meeting(keys, tell, seconds=30)
    assert met.ego.report().distrusted == 1
    assert all(len(e) == 0 for e in met.of_others(last=200))


def test_height_is_no_excuse_for_a_car(keys):
    def tell(t, truth, rng):
        return things([(20, 14, 3.9), (-12, -14, 5.1), (8, -20, 50.0)], ids=[5000, 5001, 5002])

    assert all(len(e) <= 1 for e in Meeting(keys, tell).of_others())


def test_a_body_as_large_as_a_square_hides_nobody_whom_others_tell_of(keys):
    """Station 7 is honest; 8 tells of one car of 100 by 100 m over everybody."""
    ego = station(1, verifier=keys.verifier(), range_m=300.0)
    honest_one, liar = (
        station(n, keys.signer(n), selector="send_all", budget_bytes_s=1e7) for n in (7, 8)
    )
    walkers = things([(60, 10), (64, 12), (58, 16)], kind=ObjectClass.PERSON, ids=[1, 2, 3])
    square = things([(60, 12)], size=(100.0, 100.0, 3.0), ids=[4])
    later = NOW + 200 * MS
    for sender, told in ((liar, square), (honest_one, walkers)):
        sender.outgoing(NOW)
        sender.see(stamped(told, later), at((*PEER_AT, 0.0), stamp_ns=later, sigmas=(0.05, 0.001)))
        for data in sender.outgoing(later):
            ego.incoming(data, later + 10 * MS)
    ego.see(stamped(things([(12, 4)]), later), at(stamp_ns=later))
    fused = ego.fused(later + 20 * MS, later + 20 * MS).objects
    assert (fused.classes == ObjectClass.PERSON).sum() == 3


def test_what_nobody_will_use_does_not_keep_an_honest_station_from_telling(keys):
    """An echo of a walker with quality 0."""
    walker = things([(40, 10)], kind=ObjectClass.PERSON, ids=[9])
    sent = []
    for echo in (False, True):
        sender = station(7, keys.signer(7))
        for k in range(30):
            now = NOW + k * 100 * MS
            if echo:
                told = stamped(walker, now).derived(quality=np.zeros(1))
                payload = bytes([0]) + compact.encode(told, at(stamp_ns=now), now)
                envelope = envelope_of(8, k + 1, at(stamp_ns=now), payload=payload)
                sender.incoming(frame_unsigned(pack(envelope)), now)
            sender.see(stamped(walker, now), at(stamp_ns=now))
            sender.outgoing(now)
        sent.append(sender.report().sent_bytes["payload"])
    assert sent[1] >= 0.9 * sent[0] > 0


def test_own_ids_may_be_any_and_twice(keys):
    sender = station(7, keys.signer(7))
    own = things([(10, 0), (20, 0), (30, 0)], ids=[65535, 3, 3])
    for k in range(10):
        now = NOW + k * 100 * MS
        sender.see(stamped(own, now), at(stamp_ns=now))
        sender.outgoing(now)
        assert len(sender.fused(now, now).objects) == 3


def test_as_many_peers_as_there_may_be_that_tell_of_all_they_may_stop_nobody():
    ego = station(1, range_m=300.0)
    rng = np.random.default_rng(3)
    for n in range(2, 258):
        told = things(rng.uniform(-200, 200, (33, 2)), ids=range(33))
        for piece in range(8):
            ids = np.arange(33, dtype=np.int32) + 33 * piece
            payload = bytes([0]) + compact.encode(told.derived(ids=ids), at(), NOW)
            envelope = envelope_of(n, piece + 1, payload=payload)
            ego.incoming(frame_unsigned(pack(envelope)), NOW + 10 * MS)
    ego.see(things([(12, 4), (20, -4)]), at(), None, view(40.0))
    out = ego.fused(NOW + 20 * MS, NOW + 20 * MS)
    assert (out.objects.stations[:2] == 0).all() and len(ego.peers) == 256


@pytest.mark.parametrize("others", [1, 3])
def test_a_world_shifted_by_ten_meters_ends_left_out_and_moves_nothing(keys, others):
    def tell(t, truth, rng):
        told = honest(t, truth, rng)
        return told.derived(positions=told.positions + [0.0, 10.0, 0])

    met = Meeting(keys, tell, seconds=6, others=others)
    ours, alone = met.own_errors()
    assert ours <= 1.05 * alone
    assert met.ego.report().distrusted == others
    # what is left of each is at most the sender itself, where it truly is
    assert all(len(e) == 0 for e in met.of_others(last=10))


def test_who_leaves_an_object_out_does_not_erase_it(keys):
    def tell(t, truth, rng):
        told = honest(t, truth, rng)
        return told.selected(told.ids != 102)  # of our second

    met = Meeting(keys, tell)
    for _, own, out, silent in met.steps:
        row = np.flatnonzero(own.ids == 2)
        assert (out.objects.ids[row] == 2).all()
        assert (out.objects.quality[row] >= silent.quality[row]).all()


def misposed(bias):
    return lambda t, truth, rng: seen_by(bias, honest(t, truth, rng), PEER_AT)


def test_a_pose_off_within_its_claim_is_put_right(keys):
    bias = (1.2, -0.8, np.radians(2))
    claim = at((*(PEER_AT - bias[:2]), 0.0), sigmas=(1.0, np.radians(1.5)))
    met = Meeting(keys, misposed(bias), seconds=6, pose=claim, max_sigma_m=3.0)
    first, last = met.of_others()[3:6], met.of_others(last=10)
    assert max(e.max() for e in last) < 1.0
    assert np.concatenate(last).mean() < 0.5
    assert min(len(e) for e in last) >= 5
    assert np.concatenate(last).mean() < np.concatenate(first).mean() + 0.1
    ours, alone = met.own_errors()
    assert ours <= 1.05 * alone


@pytest.mark.parametrize("bias", [(3.0, 0.0, 0.0), (0.0, -5.0, 0.0), (2.0, 2.0, 0.06)])
def test_a_pose_off_beyond_its_claim_is_not_fused_unless_put_right(keys, bias):
    claim = at((*(PEER_AT - bias[:2]), 0.0), sigmas=(0.1, 0.003))
    met = Meeting(keys, misposed(bias), seconds=8, pose=claim)
    ours, alone = met.own_errors()
    assert ours <= 1.05 * alone
    for errors in met.of_others(last=20):
        assert (errors < 1.5).all()


def test_enormous_covariances_are_left_out_and_counted(keys):
    def tell(t, truth, rng):
        told = honest(t, truth, rng)
        return told.derived(covariances=told.covariances * 1e6)

    met = Meeting(keys, tell)
    ours, alone = met.own_errors()
    assert ours == pytest.approx(alone)
    # only the sender itself, which is sure of its place
    assert all(len(e) <= 1 for e in met.of_others())
    assert met.ego.report().unsure > 100


def test_tiny_covariances_move_own_objects_no_farther_than_their_own_errors_allow(keys):
    """Who claims to be sure to the millimeter and is off by 0.6 m: within what own perception, with
    a sigma of 0.25 m, cannot exclude. Off by 2 m, it can."""

    def tell(off):
        def told(t, truth, rng):
            seen = honest(t, truth, None)
            signs = np.where(np.arange(len(seen)) % 2, 1.0, -1.0)[:, None]
            moved = seen.positions + signs * [0.0, off, 0]
            return seen.derived(positions=moved, covariances=seen.covariances * 1e-6)

        return told

    for off, most in ((0.6, 0.62), (2.0, 0.4)):
        met = Meeting(keys, tell(off), seconds=3)
        ours, alone = met.own_errors()
        assert ours < most
        assert alone < 0.4


def test_eight_thousand_objects_are_bounded_and_harm_nothing(keys):
    rng = np.random.default_rng(2)
    many = things(rng.uniform(-250, 250, (8000, 2)), ids=range(1, 8001))
    met = Meeting(keys, lambda t, truth, _: many, seconds=0.8)
    ours, alone = met.own_errors()
    assert ours == pytest.approx(alone, rel=0.2)
    _, own, out, _ = met.steps[-1]
    assert len(out.objects) <= len(own) + 256
    inside = np.hypot(*out.objects.positions[len(own) :, :2].T)
    assert (inside > FREE_M - 6).all()
    assert met.ego.report().rejected.get(Reason.FLOOD.value, 0) > 0


def test_even_without_a_view_own_objects_stay_as_they_are(keys):
    def tell(t, truth, rng):
        told = honest(t, truth, rng)
        return told.derived(positions=rng.permutation(told.positions))

    met = Meeting(keys, tell, sight=False)
    ours, alone = met.own_errors()
    assert ours <= 1.1 * alone


# Single messages, each refused for its reason


def objects_payload(n=3):
    some = things([(60.0 + 3 * k, 10.0) for k in range(n)], ids=range(50, 50 + n))
    return b"\0" + compact.encode(some, at((55.0, 5.0)), NOW)


def message(credentials, now_ns=NOW, **fields):
    """One that would be fused, but for what the fields change; the certificate attached."""
    fields.setdefault("station", credentials.certificate.station)
    return Signer(credentials).sign(packed(**fields), now_ns)


def packed(station=7, capture_ns=NOW, frame_id="map", **fields):
    pose = replace(at((55.0, 5.0), stamp_ns=capture_ns, sigmas=(0.05, 0.001)), frame_id=frame_id)
    return pack(envelope_of(station, pose=pose, **{"payload": objects_payload(), **fields}))


def reframed(credentials, change):
    """A message whose envelope is changed, its checksum and signature made good again."""
    body = bytearray(packed(7)[:-4])
    change(body)
    return Signer(credentials).sign(bytes(body) + struct.pack(">I", zlib.crc32(body)), NOW)


def put(at_byte, value):
    def change(body):
        body[at_byte : at_byte + len(value)] = value

    return change


def records(**values):
    """A payload whose one object has raw fields that no encoder writes."""
    names = list(compact._FIELDS)
    widths = [f.width or 2**f.bits - 2 for f in compact._FIELDS.values()]
    out = Writer()
    out.put(1, 8)
    out.put_long(50)
    out.put_long(0)
    for _ in compact._LEAST:
        out.put(values.get("least", 20), 7)
    for width, field in zip(widths, compact._FIELDS.values(), strict=True):
        out.put(width, field.bits)
    row = np.array([[values.get(name, 0) for name in names]])
    return b"\0" + out.done(row, np.array(widths))


def flipped(data, at_byte):
    data = bytearray(data)
    data[at_byte] ^= 0x10
    return bytes(data)


SEQUENCE_AT = 8


def cases(keys):
    """name → (reason, message, when it comes)."""
    mine = keys.credentials(7)
    good = message(mine)
    parts = split(good)
    head = good[: -len(parts.envelope)]
    fresh = Signer(mine)
    fresh.sign(b"one before, that was lost", NOW)
    changed = split(reframed(mine, put(SEQUENCE_AT, b"\x09"))).envelope
    later = NOW // S + 60

    def sent(**fields):
        return message(mine, **fields)

    return {
        "future": (Reason.FUTURE, sent(capture_ns=NOW + 60 * MS), NOW),
        "ancient": (Reason.EXPIRED, sent(capture_ns=NOW - 4 * S), NOW),
        "at the beginning of time": (Reason.EXPIRED, sent(capture_ns=0), NOW),
        "at the end of time": (Reason.FUTURE, sent(capture_ns=2**61), NOW),
        "past its own time to live": (Reason.EXPIRED, sent(ttl_ms=100), NOW + S),
        "another frame": (Reason.FRAME, sent(frame_id="odom"), NOW),
        "oversize": (Reason.OVERSIZE, good + bytes(MTU), NOW),
        "huge": (Reason.OVERSIZE, bytes(65507), NOW),
        "empty": (Reason.TRUNCATED, b"", NOW),
        "cut by a byte": (Reason.TRUNCATED, good[:-1], NOW),
        "cut in the header": (Reason.TRUNCATED, good[:200], NOW),
        "cut in the certificate": (Reason.TRUNCATED, good[:100], NOW),
        "another protocol": (Reason.VERSION, b"GET / HTTP/1.1", NOW),
        "another version": (Reason.VERSION, reframed(mine, put(0, b"\x01")), NOW),
        "damaged": (Reason.CRC, flipped(good, len(good) - 30), NOW),
        "places beyond any number": (Reason.MALFORMED, sent(payload=records(x=2**28)), NOW),
        "an impossible class": (Reason.MALFORMED, sent(payload=records(**{"class": 15})), NOW),
        "an impossible correlation": (Reason.MALFORMED, sent(payload=records(rho=-15)), NOW),
        "an impossible deviation": (Reason.MALFORMED, sent(payload=records(least=127, up=1)), NOW),
        "an absurd speed": (Reason.MALFORMED, sent(payload=records(vx=-8000)), NOW),
        "an id of 40 bits": (Reason.MALFORMED, sent(payload=records(id=2**40)), NOW),
        "a request that never ends": (Reason.TRUNCATED, sent(payload=b"\xff" * 90), NOW),
        "no whole object": (Reason.MALFORMED, sent(payload=b"\0\1abc"), NOW),
        "no payload": (Reason.MALFORMED, sent(payload=b""), NOW),
        "an unknown layer": (Reason.MALFORMED, reframed(mine, put(1, b"\x20")), NOW),
        "an unknown clock": (Reason.MALFORMED, reframed(mine, put(1, b"\x78")), NOW),
        "no time to live": (Reason.MALFORMED, reframed(mine, put(3, b"\x80")), NOW),
        "a sender of no class": (Reason.MALFORMED, reframed(mine, put(42, b"\x0a")), NOW),
        "station 0": (Reason.MALFORMED, reframed(mine, put(4, bytes(4))), NOW),
        "our own echo": (Reason.OWN, message(keys.credentials(1)), NOW),
        "unsigned": (Reason.UNSIGNED, frame_unsigned(parts.envelope), NOW),
        "of another root": (Reason.CERTIFICATE, message(pki().credentials(7)), NOW),
        "expired in flight": (
            Reason.CERTIFICATE, message(keys.credentials(7, until_s=NOW // S + 1)), NOW + 1500 * MS,
        ),
        "not valid yet": (Reason.CERTIFICATE, message(keys.credentials(7, from_s=later)), NOW),
        "under another's number": (Reason.CERTIFICATE, sent(station=8), NOW),
        "for another layer": (Reason.CERTIFICATE, message(keys.credentials(7, layers=[2])), NOW),
        "a hint that nobody knows": (Reason.UNKNOWN_SIGNER, fresh.sign(packed(7), NOW), NOW),
        "forged": (Reason.SIGNATURE, head[:-64] + bytes(64) + parts.envelope, NOW),
        "changed on the way": (Reason.SIGNATURE, head + changed, NOW),
    }  # fmt: skip


def ego(keys, revoked=()):
    one = station(1, verifier=keys.verifier(revoked))
    one.see(things([(10, 0), (20, 4)]), at(), straight(), view(FREE_M))
    return one


NAMES = list(cases(pki()))


@pytest.fixture(scope="module")
def made(keys):
    return cases(keys)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_counted_under_its_reason_and_nothing_of_it_fused(name, keys, made):
    reason, data, when = made[name]
    one = ego(keys)
    before = one.fused(when, when).objects
    one.incoming(data, when)
    assert one.report().rejected == {reason.value: 1}
    after = one.fused(when, when).objects
    assert (after.positions == before.positions).all()
    assert (after.covariances == before.covariances).all()
    # and the station that was spoken for is heard all the same
    one.incoming(message(keys.credentials(7), when, capture_ns=when, sequence=77), when)
    assert one.report().received == 1


def test_the_message_that_the_others_are_made_from_is_fused(keys):
    one = ego(keys)
    one.incoming(message(keys.credentials(7)), NOW)
    assert one.report().rejected == {}
    assert len(one.fused(NOW, NOW).objects) == 6  # three, and who tells of them


def test_a_revoked_station_is_counted(keys):
    credentials = keys.credentials(7)
    one = ego(keys, revoked=[credentials.certificate])
    one.incoming(message(credentials), NOW)
    assert one.report().rejected == {Reason.REVOKED.value: 1}
    assert len(one.fused(NOW, NOW).objects) == 2


def test_who_replays_anothers_messages_is_counted_whenever_and_to_whomever(keys):
    one, sender = ego(keys), keys.credentials(7)
    stream = [message(sender, NOW, sequence=k, capture_ns=NOW + k * 100 * MS) for k in range(20)]
    for k, data in enumerate(stream):
        one.incoming(data, NOW + k * 100 * MS)
    assert one.report().rejected == {}
    end = NOW + 2 * S
    before = one.fused(end, end)
    for data in stream:
        one.incoming(data, end)
    assert one.report().rejected == {Reason.REPLAY.value: 20}
    after = one.fused(end, end)
    assert (after.objects.positions == before.objects.positions).all()
    late = ego(keys)  # that never heard the first ones
    for data in stream:
        late.incoming(data, NOW + 6 * S)
    assert late.report().rejected == {Reason.EXPIRED.value: 20}


def test_a_sequence_that_wraps_around_goes_on(keys):
    one, sender = ego(keys), keys.credentials(7)
    for k in range(40):
        sequence = (2**32 - 20 + k) % 2**32
        now = NOW + k * 100 * MS
        one.incoming(message(sender, now, sequence=sequence, capture_ns=now), now)
    told = one.report()
    assert (told.received, told.rejected, told.loss) == (40, {}, 0.0)


@pytest.mark.parametrize("rate", [0.1, -0.1])
def test_a_clock_that_drifts_by_100_ms_a_second_is_found_out(rate, keys):
    """Behind: seen as a drift, later as too old; ahead: as from the future, too."""
    one, sender = ego(keys), keys.credentials(7)
    for k in range(200):
        now = NOW + k * 100 * MS
        capture = now - 30 * MS - round(rate * k * 100 * MS)
        one.incoming(message(sender, now, sequence=k, capture_ns=capture), now)
    told = one.report()
    reasons = {Reason.CLOCK.value, Reason.EXPIRED.value if rate > 0 else Reason.FUTURE.value}
    assert set(told.rejected) & reasons
    assert set(told.rejected) <= reasons
    assert told.received < 40
    end = NOW + 20 * S
    one.see(things([(10, 0), (20, 4)], stamp_ns=end), at(stamp_ns=end), None, view(FREE_M))
    assert len(one.fused(end, end).objects) == 2


def test_mutations_of_true_messages_neither_stop_nor_move_anything(keys):
    one, sender = ego(keys), keys.credentials(7)
    rng = np.random.default_rng(1)
    true = [message(sender, NOW + k * S, sequence=k) for k in range(4)]
    before = one.fused(NOW, NOW).objects
    for _ in range(10_000):
        data = bytearray(true[int(rng.integers(4))])
        for _ in range(int(rng.integers(1, 5))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        if bytes(data) not in true:
            one.incoming(bytes(data[: int(rng.integers(len(data) // 2, len(data) + 1))]), NOW)
    after = one.fused(NOW, NOW).objects
    assert one.report().received == 0
    assert sum(one.report().rejected.values()) > 9900
    assert (after.positions == before.positions).all()


def test_any_payload_under_a_true_signature_is_taken_or_counted(keys):
    """A station with a valid certificate that sends noise in every encoding."""
    one, sender = ego(keys), keys.credentials(7)
    rng = np.random.default_rng(2)
    for k in range(1500):
        payload = rng.bytes(int(rng.integers(0, 400)))
        if k % 3 == 0:
            payload = bytearray(objects_payload(9))
            payload[int(rng.integers(len(payload)))] = int(rng.integers(256))
        data = message(
            sender, NOW + k * MS, sequence=k, payload=bytes(payload), capture_ns=NOW + k * MS,
            layer=Layer(int(rng.integers(1, 4))), content=Content(int(rng.integers(2))),
        )  # fmt: skip
        one.incoming(data, NOW + k * 10 * MS)
    told = one.report()
    assert told.received + sum(told.rejected.values()) == 1500
    end = NOW + S
    own = things([(10, 0), (20, 4)], stamp_ns=end)
    one.see(own, at(stamp_ns=end), straight(), view(FREE_M))
    out = one.fused(end, end).objects
    assert np.isfinite(out.positions).all()
    assert np.isfinite(out.covariances).all()
    assert (out.ids[:2] == own.ids).all()
