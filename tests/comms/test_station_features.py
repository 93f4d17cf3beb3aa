"""The feature layer of a station: asked for, within what is left, moved on with the objects."""

from dataclasses import replace

import numpy as np
import pytest

from comms import features as wire
from comms.alignment import keep_stale, predict
from comms.envelope import HEADER_BYTES, MTU, Layer, pack, unpack
from comms.feature_layer import gathered, wanted
from comms.features import Features, decode, encode
from comms.peers import MAX_CELLS_EACH, MAX_VALUES_EACH
from comms.reasons import Reason
from comms.request import Request
from comms.signing import frame_unsigned, split
from pipeline.errors import InputError
from pipeline.objects import Objects
from tests.comms.made import MS, NOW, S
from tests.comms.scenes import at, envelope_of, peer_of, station, straight, things, view

CELL_M = 0.5


def grid(low, high, stamp_ns=NOW, cell_m=CELL_M, channels=3, occupied=0.8):
    """All cells of a rectangle in m."""
    i0, j0 = np.round(np.array(low) / cell_m).astype(int)
    i1, j1 = np.round(np.array(high) / cell_m).astype(int)
    i, j = np.meshgrid(np.arange(i0, i1), np.arange(j0, j1))
    cells = np.stack([i.ravel(), j.ravel()], axis=1).astype(np.int32)
    values = np.full((len(cells), channels), 0.3, np.float32)
    values[:, 0] = occupied
    return Features(stamp_ns, cell_m, cells, values)


def asked(sender, plan, now=NOW, number=2, place=(0.0, 0.0)):
    """A sender that heard another's plan."""
    other = station(number, budget_bytes_s=1e5)
    other.see(Objects.none(now), at(place, stamp_ns=now), plan)
    other.outgoing(now - S)
    for data in other.outgoing(now):
        sender.incoming(data, now)
    return other


def layers(out):
    return [unpack(split(data).envelope) for data in out]


def cells_of(out):
    return [decode(e.payload, e) for e in layers(out) if e.layer == Layer.FEATURES]


def sender_with(features, budget=1e5, plan=None, **options):
    """A station with a full bucket that heard of a plan, and sees nothing but its map."""
    sender = station(1, budget_bytes_s=budget, **options)
    sender.outgoing(NOW - 2 * S)
    asked(sender, plan or straight((60.0, 0.0)))
    sender.see(Objects.none(NOW), at((30.0, 10.0)), features=features)
    return sender


def test_only_cells_in_the_corridor_that_a_peer_asked_for_are_sent_the_first_ones_first():
    sender = sender_with(grid((-20, -15), (80, 15)))
    got = cells_of(sender.outgoing(NOW))
    centers = np.concatenate([f.centers() for f in got])
    assert np.abs(centers[:, 1]).max() < 1.5 + CELL_M
    assert centers[:, 0].min() > -2 and centers[:, 0].max() < 62
    assert 6 * 120 <= len(centers) <= 6 * 126  # 3 m wide, 60 m long, round ends
    assert len(np.unique(centers, axis=0)) == len(centers)
    assert got[0].centers()[:, 0].max() <= got[-1].centers()[:, 0].max()


def test_nobody_asked_no_bits_no_map_an_old_map_and_a_map_of_tomorrow_send_nothing():
    far = straight((60.0, 300.0), (0.0, 300.0))
    corridor = grid((0, -1), (60, 1))
    assert cells_of(sender_with(corridor).outgoing(NOW))
    assert not cells_of(sender_with(corridor, plan=far).outgoing(NOW))
    assert not cells_of(sender_with(corridor, feature_bits=0).outgoing(NOW))
    assert not cells_of(sender_with(None).outgoing(NOW))
    assert not cells_of(sender_with(replace(corridor, stamp_ns=NOW - 4 * S)).outgoing(NOW))
    assert not cells_of(sender_with(replace(corridor, stamp_ns=NOW + MS)).outgoing(NOW))
    alone = station(1, budget_bytes_s=1e5)
    alone.outgoing(NOW - 2 * S)
    alone.see(Objects.none(NOW), at(), features=corridor)
    assert not cells_of(alone.outgoing(NOW))


def test_each_map_is_sent_once_and_the_next_one_again():
    sender = sender_with(grid((0, -1), (60, 1)))
    assert cells_of(sender.outgoing(NOW))
    assert not cells_of(sender.outgoing(NOW + 500 * MS))
    later = NOW + S
    asked(sender, straight((60.0, 0.0), stamp_ns=later), later, number=3)
    sender.see(
        Objects.none(later), at((30.0, 10.0), stamp_ns=later),
        features=grid((0, -1), (60, 1), stamp_ns=later),
    )  # fmt: skip
    assert cells_of(sender.outgoing(later))


def test_only_what_the_budget_has_left_above_half_goes_to_features():
    corridor = grid((0, -1.5), (60, 1.5), channels=8)
    corridor = replace(
        corridor, values=np.random.default_rng(1).random((len(corridor), 8), np.float32)
    )
    sizes = []
    for budget in (300.0, 3000.0, 6000.0, 40_000.0):
        sender = sender_with(corridor, budget)
        out = sender.outgoing(NOW)
        sizes.append(sum(len(d) for d in out if layers([d])[0].layer == Layer.FEATURES))
        assert sizes[-1] <= budget / 2
    assert sizes[0] == 0 and 0 < sizes[1] < sizes[2] < sizes[3]
    empty = sender_with(corridor, 6000.0)
    empty.outgoing(NOW)
    later = NOW + 100 * MS
    asked(empty, straight((60.0, 0.0), stamp_ns=later), later, number=3)
    empty.see(
        Objects.none(later), at((30.0, 10.0), stamp_ns=later),
        features=replace(corridor, stamp_ns=later),
    )  # fmt: skip
    assert not cells_of(empty.outgoing(later))  # half of it is kept for objects


def test_objects_go_before_features():
    corridor = grid((0, -1.5), (60, 1.5), channels=8)
    crowd = things(np.random.default_rng(2).uniform(-40, 40, (60, 2)))
    sender = station(1, budget_bytes_s=800.0, selector="send_all")
    sender.outgoing(NOW - 2 * S)
    asked(sender, straight((60.0, 0.0)))
    sender.see(crowd, at((30.0, 10.0)), features=corridor)
    out = sender.outgoing(NOW)
    assert {e.layer for e in layers(out)} == {Layer.OBJECTS}


@pytest.mark.parametrize("bits", [4, 8])
def test_every_byte_of_features_is_counted_and_every_message_fits(bits):
    rng = np.random.default_rng(3)
    corridor = grid((0, -1.5), (60, 1.5), channels=16)
    corridor = replace(corridor, values=rng.random((len(corridor), 16), np.float32))
    sender = sender_with(corridor, feature_bits=bits)
    out = sender.outgoing(NOW)
    told = sender.report().sent_bytes
    assert all(len(d) <= MTU for d in out)
    assert sum(map(len, out)) == sum(told.values())
    envelopes = layers(out)
    expected = sum(len(e.payload) for e in envelopes if e.layer == Layer.FEATURES)
    assert told["features"] == expected > 0
    assert told["header"] == len(out) * HEADER_BYTES
    pieces = [e for e in envelopes if e.layer == Layer.FEATURES]
    assert {e.capture_ns for e in pieces} == {NOW}
    count = sum(len(f) for f in cells_of(out))
    assert expected / count < (11.0 if bits == 4 else 19.0)
    if bits == 8:
        four = sender_with(corridor, feature_bits=4)
        four.outgoing(NOW)
        assert four.report().sent_bytes["features"] < 0.65 * told["features"]


def test_a_map_that_no_message_holds_costs_the_objects_nothing(monkeypatch):
    sender = sender_with(grid((0, -1), (60, 1)))

    def refuse(*_):
        raise InputError("does not fit")

    monkeypatch.setattr("comms.station.encode_cells", refuse)
    assert {e.layer for e in layers(sender.outgoing(NOW))} == {Layer.OBJECTS}


# in


def told(receiver, features, number=7, pose=None, objects=None, now=None):
    """Hand a station's map, and objects, to a receiver."""
    now = now or features.stamp_ns + 20 * MS
    pose = pose or at((5.0, 5.0), stamp_ns=features.stamp_ns)
    if objects is not None:
        from comms import codec
        from comms.envelope import Content

        payload = b"\0" + codec.encode(objects, pose, pose.stamp_ns, Content.COMPACT, number)
        message = envelope_of(number, 900, pose, payload=payload)
        receiver.incoming(frame_unsigned(pack(message)), now)
    payloads = encode(features, 8, 1200)
    for k, payload in enumerate(payloads):
        message = envelope_of(number, 1000 + k, pose, payload=payload, layer=Layer.FEATURES)
        receiver.incoming(frame_unsigned(pack(message)), now)


def listener(pose=None):
    receiver = station(1)
    receiver.see(Objects.none(NOW), pose or at())
    return receiver


def occupied(features, low, high):
    """Centers of cells that are surely occupied, in a rectangle."""
    c = features.centers()[features.values[:, 0] > 0.5]
    return c[((c > low) & (c < high)).all(axis=1)]


def test_cells_of_an_object_at_10_m_s_are_found_5_m_on_after_half_a_second_and_others_stay():
    cars = things([[20.0, 0.0]], (10.0, 0, 0))
    car, wall = grid((18, -1), (22, 1)), grid((18, 4), (22, 5))
    both = replace(
        car,
        cells=np.concatenate([car.cells, wall.cells]),
        values=np.concatenate([car.values, wall.values]),
    )
    receiver = listener()
    told(receiver, both, objects=cars)
    found = receiver.features(NOW + 500 * MS, NOW + 100 * MS)
    assert found.stamp_ns == NOW + 500 * MS and len(found) == len(both)
    moved = occupied(found, (0, -2), (40, 2))
    np.testing.assert_allclose(moved.mean(axis=0), [25, 0], atol=CELL_M / 2)
    stayed = occupied(found, (0, 3), (40, 6))
    np.testing.assert_allclose(stayed.mean(axis=0), [20, 4.5], atol=1e-6)
    assert not len(occupied(found, (17, -2), (22.5, 2)))
    stale = station(1, alignment="stale")
    stale.see(Objects.none(NOW), at())
    told(stale, both, objects=cars)
    late = stale.features(NOW + 500 * MS, NOW + 100 * MS)
    np.testing.assert_allclose(occupied(late, (0, -2), (40, 2)).mean(axis=0), [20, 0], atol=1e-6)


def test_a_turned_car_takes_its_own_cells_and_not_its_neighbours():
    yaw = np.radians(60)
    cars = things([[20.0, 0.0]], (6 * np.cos(yaw), 6 * np.sin(yaw), 0), yaw=yaw)
    around = grid((15, -5), (25, 5))
    peer = peer_of(cars)
    peer.put_features(envelope_of(), around)
    found = gathered([peer], NOW + S, predict, np.zeros(2), 100.0)
    points = around.centers() - [20, 0]
    c, s = np.cos(yaw), np.sin(yaw)
    own = (np.abs(points @ [c, s]) < 2.5) & (np.abs(points @ [-s, c]) < 1.15)
    still = around.selected(~own).cells
    assert all(len(np.flatnonzero((found.cells == cell).all(axis=1))) == 1 for cell in still)
    gone = {
        tuple(x)
        for x in np.floor((around.centers()[own] + [6 * c, 6 * s]) / CELL_M).astype(int).tolist()
    }
    there = {tuple(x) for x in found.cells.tolist()}
    assert gone <= there
    assert len(found) == len({tuple(x) for x in still.tolist()} | gone)


def test_the_bias_of_a_peers_pose_is_taken_out():
    peer = peer_of(things([[500.0, 0.0]]), pose=at((10.0, 0.0)))
    peer.put_features(envelope_of(pose=at((10.0, 0.0))), grid((30, -1), (31, 1)))
    peer.bias = np.array([1.0, -0.5, 0.1])
    found = gathered([peer], NOW, predict, np.zeros(2), 100.0)
    np.testing.assert_allclose(
        found.centers().mean(axis=0), [30.5 + 1.0, -0.5 + 0.1 * 20.5], atol=CELL_M / 2
    )


def test_of_two_peers_the_surer_cell_counts_and_unlike_grids_are_left_out():
    first, second = peer_of(things([[500.0, 0]]), 7), peer_of(things([[500.0, 0]]), 8)
    first.put_features(envelope_of(), grid((0, 0), (4, 1), occupied=0.2))
    second.put_features(envelope_of(), grid((2, 0), (6, 1), occupied=0.9))
    found = gathered([first, second], NOW, predict, np.zeros(2), 100.0)
    assert len(found) == 12 * 2
    sure = found.centers()[:, 0] > 2
    assert (found.values[sure, 0] == np.float32(0.9)).all()
    assert (found.values[~sure, 0] == np.float32(0.2)).all()
    other = peer_of(things([[500.0, 0]]), 9)
    other.put_features(envelope_of(), grid((0, 0), (4, 1), stamp_ns=NOW - 1, cell_m=0.25))
    assert len(gathered([first, second, other], NOW, predict, np.zeros(2), 100.0)) == len(found)
    assert gathered([peer_of(things([[1.0, 0]]))], NOW, keep_stale, np.zeros(2), 9.0) is None
    near = gathered([first, second], NOW, predict, np.zeros(2), 3.0)
    assert 0 < len(near) < len(found)


def test_what_is_older_than_its_time_is_dropped_and_older_maps_do_not_replace_newer():
    receiver = listener()
    told(receiver, grid((18, -1), (22, 1)))
    assert len(receiver.features(NOW, NOW + 2 * S)) == 8 * 4
    early = grid((0, 0), (1, 1), stamp_ns=NOW - S)
    told(receiver, early, now=NOW + 30 * MS)
    assert len(receiver.features(NOW, NOW + 2 * S)) == 8 * 4
    assert receiver.features(NOW, NOW + 4 * S) is None
    assert station(3).features(NOW, NOW) is None


def test_a_peer_that_contradicts_is_not_believed():
    receiver = listener()
    told(receiver, grid((18, -1), (22, 1)))
    peer = receiver._peers.of[7]
    peer.agreed, peer.disagreed = 1.0, 9.0
    assert receiver.features(NOW, NOW + S) is None


def test_no_bad_map_raises_each_is_counted_and_memory_is_bounded():
    receiver = listener()
    rng = np.random.default_rng(4)
    good = encode(grid((18, -1), (22, 1)), 8, 1200)[0]
    for k in range(300):
        bad = bytearray(good)
        for place in rng.integers(0, len(bad), 3):
            bad[place] = rng.integers(256)
        if k % 3 == 0:
            bad = bad[: rng.integers(len(bad))]
        pose = at((5.0, 5.0), stamp_ns=NOW + k * MS)
        message = envelope_of(7, 1000 + k, pose, payload=bytes(bad), layer=Layer.FEATURES)
        receiver.incoming(frame_unsigned(pack(message)), NOW + k * MS)
        receiver.features(NOW + S, NOW + S)
    report = receiver.report()
    assert report.rejected[Reason.MALFORMED.value] > 100
    assert report.received + sum(report.rejected.values()) == 300


def test_pieces_of_one_moment_add_up_to_a_bound_and_unlike_ones_are_refused():
    receiver = listener()
    sequence = iter(range(1000, 2000))

    def put(features):
        for payload in encode(features, 4, 1200):
            message = envelope_of(
                7, next(sequence), at(stamp_ns=NOW), payload=payload, layer=Layer.FEATURES
            )
            receiver.incoming(frame_unsigned(pack(message)), NOW + MS)

    for k in range(8):
        put(grid((20 * k - 80, -25), (20 * k - 60, 5), channels=1))
    assert receiver.report().rejected[Reason.OVERSIZE.value] >= 1
    kept = receiver._peers.of[7].features
    assert MAX_CELLS_EACH - 4096 < len(kept) <= MAX_CELLS_EACH
    assert kept.values.size <= MAX_VALUES_EACH
    put(grid((0, 0), (1, 1), channels=2))
    assert receiver.report().rejected[Reason.MALFORMED.value] == 1


def test_absurd_cells_far_away_and_absurd_objects_neither_crash_nor_show():
    receiver = listener()
    cells = np.array([[2**31 - 2, -(2**31)], [0, 0]], np.int32)
    far = Features(NOW, 655.35, cells, np.ones((2, 1), np.float32))
    wild = things([[0.0, 0.0]] * 3, (399.0, -399, 0), size=(999.0, 999.0, 9.0), ids=[1, 2, 3])
    for one in far.cells:  # they lie too far apart for a message
        part = far.selected((far.cells == one).all(axis=1))
        peer = peer_of(wild)
        peer.put_features(envelope_of(), part)
        found = gathered([peer], NOW + S, predict, np.zeros(2), 150.0)
        assert found is not None and len(found) <= 1
    assert receiver.features(NOW, NOW) is None


def test_an_object_of_absurd_size_moves_nothing_and_takes_no_memory():
    fine = grid((0, 0), (0.5, 0.5), cell_m=0.01)
    peer = peer_of(things([[0.2, 0.2]] * 9, (9.0, 0, 0), size=(900.0, 900.0, 9.0), ids=range(9)))
    peer.put_features(envelope_of(), fine)
    found = gathered([peer], NOW + S, predict, np.zeros(2), 150.0)
    assert {tuple(c) for c in found.cells.tolist()} == {tuple(c) for c in fine.cells.tolist()}


def test_of_too_many_cells_the_newest_maps_are_looked_at(monkeypatch):
    monkeypatch.setattr("comms.feature_layer.MAX_CELLS", 40)
    peers = []
    for k in range(3):
        peers.append(peer_of(things([[500.0, 0]]), 7 + k))
        corner = (10.0 * k, 0.0)
        peers[-1].put_features(
            envelope_of(), grid(corner, (corner[0] + 2, 2), stamp_ns=NOW - k * MS)
        )
    found = gathered(peers[::-1], NOW, predict, np.zeros(2), 150.0)
    assert len(found) == 32 and found.centers()[:, 0].max() < 13


def test_cells_of_a_map_larger_than_a_message_reaches_and_many_requests_are_bounded():
    big = grid((-200, -200), (200, 200), channels=1)
    plans = [Request(k, straight((9.0 * k, 50.0)), None) for k in range(1, 40)]
    some = wanted(big, plans, np.zeros(2))
    assert 0 < len(some) <= 16_384
    assert np.abs(some.cells).max() <= wire.MAX_SIDE // 2
    for payload in encode(some, 8, 1200):
        assert len(payload) <= 1200
    one = Request(1, straight((9.0, 0.0), (3.1, 0.2), points=1), None)
    assert len(wanted(big, [one], np.zeros(2))) > 10  # a plan of one point is a disc
    assert not len(wanted(big, [], np.zeros(2)))


def test_two_stations_exchange_maps_end_to_end():
    sender, receiver = station(1, budget_bytes_s=1e5), station(2, budget_bytes_s=1e5)
    for k in range(20):
        now = NOW + k * 100 * MS
        x = 20 + 1.0 * k
        cars = things([[x, 0.0]], (10.0, 0, 0), stamp_ns=now)
        cells = grid((round(2 * (x - 2)) / 2, -1), (round(2 * (x + 2)) / 2, 1), stamp_ns=now)
        sender.see(cars, at((30.0, 10.0), stamp_ns=now), features=cells)
        receiver.see(
            Objects.none(now), at(stamp_ns=now),
            straight((80.0, 0.0), stamp_ns=now), view(1.0),
        )  # fmt: skip
        for one, other in ((sender, receiver), (receiver, sender)):
            for data in one.outgoing(now):
                other.incoming(data, now + 30 * MS)
    found = receiver.features(now + 400 * MS, now + 50 * MS)
    np.testing.assert_allclose(
        occupied(found, (0, -2), (90, 2)).mean(axis=0), [x + 4, 0], atol=CELL_M
    )
    assert sender.report().sent_bytes["features"] > 0
    assert receiver.report().rejected == {}


def test_bits_are_4_8_or_none():
    with pytest.raises(InputError, match="0, 4, 8"):
        station(1, feature_bits=5)
