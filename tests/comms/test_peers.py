"""What is kept of other stations: the newest of each object, in bounded memory."""

import numpy as np
import pytest

from comms.peers import MAX_OBJECTS_EACH, MAX_PEERS, Peer, Peers
from comms.request import Request
from tests.comms.made import MS, NOW, S
from tests.comms.scenes import at, envelope_of, peer_of, straight, things


def put(peer, objects, stamp_ns, sequence=1):
    peer.put(envelope_of(pose=at(stamp_ns=stamp_ns), sequence=sequence), objects)


def x_of(peer):
    return dict(zip(peer.objects.ids.tolist(), peer.objects.positions[:, 0].tolist(), strict=True))


def test_newer_states_replace_older_ones_and_the_rest_stays():
    peer = Peer(7)
    put(peer, things([(1, 0), (2, 0)], ids=[1, 2]), NOW)
    put(peer, things([(20, 0), (30, 0)], ids=[2, 3]), NOW + 100 * MS)
    assert x_of(peer) == {1: 1.0, 2: 20.0, 3: 30.0}
    assert sorted(peer.stamps_ns.tolist()) == [NOW, NOW + 100 * MS, NOW + 100 * MS]


def test_a_message_that_was_overtaken_does_not_turn_time_back():
    peer = Peer(7)
    put(peer, things([(20, 0)], ids=[2]), NOW + 100 * MS)
    put(peer, things([(1, 0), (2, 0)], ids=[1, 2]), NOW)
    assert x_of(peer) == {1: 1.0, 2: 20.0}


def test_of_an_id_twice_in_one_message_the_first_counts():
    peer = Peer(7)
    put(peer, things([(1, 0), (2, 0)], ids=[5, 5]), NOW)
    assert x_of(peer) == {5: 1.0}


def test_an_overtaken_message_does_not_change_where_the_station_is():
    peer = Peer(7)
    for sequence, stamp, x in ((2, NOW + 100 * MS, 2.0), (1, NOW, 1.0)):
        pose = at((x, 0.0), stamp_ns=stamp, sigmas=(x, 0.0))
        peer.hear(envelope_of(sequence=sequence, pose=pose), NOW + 200 * MS)
    assert peer.pose.position[0] == 2
    assert peer.claimed[0, 0] == pytest.approx(4, abs=0.02)


def test_no_pose_is_believed_to_be_perfect():
    peer = peer_of(things([(0, 0)]))
    assert (np.diagonal(peer.claimed) > 0).all()


def test_objects_of_one_station_are_bounded_and_the_newest_stay():
    peer = Peer(7)
    for k in range(4):
        ids = np.arange(k * 100, k * 100 + 100)
        put(peer, things(np.zeros((100, 2)), ids=ids), NOW + k * MS)
    assert len(peer.objects) == len(peer.stamps_ns) == len(peer.origins) == MAX_OBJECTS_EACH
    assert (peer.stamps_ns > NOW).all()


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("first", [5, 2**32 - 300])
def test_loss_is_read_off_the_gaps_of_the_sequence_also_where_it_wraps(loss, first):
    rng, peer, values = np.random.default_rng(1), Peer(7), []
    for k in range(3000):
        if rng.random() >= loss:
            peer.hear(envelope_of(sequence=(first + k) % 2**32), NOW)
            values.append(peer.loss)
    assert np.mean(values[100:]) == pytest.approx(loss, abs=0.03)


@pytest.mark.parametrize("loss", [0.1, 0.9])
def test_loss_is_right_from_the_first_messages_on(loss):
    first = []
    for seed in range(300):
        rng, peer = np.random.default_rng(seed), Peer(7)
        peer.hear(envelope_of(sequence=0), NOW)
        for k in range(1, 30):
            if rng.random() >= loss:
                peer.hear(envelope_of(sequence=k), NOW)
        first.append(peer.loss)
    assert np.mean(first) == pytest.approx(loss, abs=0.15)


def test_messages_that_overtake_each_other_are_not_lost():
    peer = Peer(7)
    for k in range(0, 60, 2):
        for sequence in (k + 1, k):
            peer.hear(envelope_of(sequence=sequence), NOW)
    assert peer.loss < 0.05


def test_two_messages_say_nothing_of_the_loss_however_far_apart():
    peer = Peer(7)
    for sequence in (1, 51):
        peer.hear(envelope_of(sequence=sequence), NOW)
        assert not peer.counted


def test_a_station_that_began_anew_lost_nothing():
    peer = Peer(7)
    for sequence in (1, 2, 3, 900_000, 900_001):
        peer.hear(envelope_of(sequence=sequence), NOW)
    assert peer.loss == 0


def test_a_station_that_began_anew_is_not_a_late_message():
    peer = Peer(7)
    for sequence in (1, 9, 10):
        peer.hear(envelope_of(sequence=sequence), NOW)
    lost = peer.loss
    peer.hear(envelope_of(sequence=900_000), NOW)
    assert peer.loss == lost > 0


def test_old_states_silent_stations_and_plans_that_are_over_go():
    peers = Peers(ttl_ns=3 * S)
    peer = peers.get(7)
    peer.hear(envelope_of(), NOW)
    put(peer, things([(1, 0)], ids=[1]), NOW)
    put(peer, things([(2, 0)], ids=[2]), NOW + 2 * S)
    peer.request = Request(7, straight())
    assert len(peers.requests(NOW + 3 * S, np.zeros(3))) == 1
    assert peers.requests(NOW + 3 * S + 1, np.zeros(3)) == []
    peers.forget(NOW + 4 * S, silent_ns=5 * S)
    assert x_of(peer) == {2: 2.0}
    peers.forget(NOW + 5 * S + 1, silent_ns=5 * S)
    assert peers.of == {}


def test_there_is_room_for_so_many_stations_and_no_more():
    peers = Peers(ttl_ns=S)
    assert all(peers.get(k) is not None for k in range(1, MAX_PEERS + 1))
    assert peers.get(MAX_PEERS + 1) is None
    assert peers.get(1) is peers.of[1]
