"""Own objects always stay; others' refine them or come in, with their provenance."""

import numpy as np
import pytest

from comms.alignment import predict
from comms.consistency import LEAST_TRUST, told_by
from comms.fusion import Fused, fuse
from comms.merging import intersected
from comms.peers import Peer
from pipeline.objects import ObjectClass, Objects, joined
from tests.comms.made import MS, NOW, covariances
from tests.comms.scenes import at, peer_of, things, view

HERE = at()


def fused(own, peers, pose=HERE, sight=None, **options):
    told = told_by(peers, own.stamp_ns, predict, pose)
    return fuse(own, peers, told, pose, sight, **options)


def sources(out):
    ends = out.ends.tolist()
    return [out.sources[a:b].tolist() for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def test_alone_is_own_perception_unchanged():
    own = things([(10, 0), (20, 5)])
    for out in (Fused.alone(own), fused(own, []), fused(own, [Peer(7)])):
        assert out.objects is own
        assert sources(out) == [[0], [0]]


def test_what_only_another_station_sees_comes_in_with_its_provenance():
    own = things([(10, 0)])
    out = fused(own, [peer_of(things([(50, 0)], ids=[9]), station=7)])
    assert out.objects.ids.tolist() == [1, 9]
    assert out.objects.stations.tolist() == [0, 7]
    assert sources(out) == [[0], [7]]
    assert out.objects.quality[1] < 0.95  # times its trust


def test_one_long_body_told_of_at_both_its_ends_is_one():
    """Nothing of our own is as long: what others tell must be held against each other as well."""
    ends = [things([(x, 0)], kind=ObjectClass.BUS, ids=[5]) for x in (40.0, 53.05)]
    peers = [
        peer_of(end.derived(sizes=np.array([[26.0, 4.0, 3.0]]), yaws=np.array([-0.153])), station=k)
        for k, end in zip((7, 8), ends, strict=True)
    ]
    assert len(fused(Objects.none(NOW), peers).objects) == 1


def test_own_objects_stay_whatever_others_say():
    rng = np.random.default_rng(1)
    for _ in range(60):
        own = things(rng.uniform(-60, 60, (8, 2)), rng.uniform(-5, 5, (8, 2)), sigma_m=0.3)
        peers = [
            peer_of(
                things(
                    np.vstack([own.positions[:5, :2] + rng.normal(0, 1, (5, 2)),
                               rng.uniform(-60, 60, (6, 2))]),
                    sigma_m=rng.uniform(0.02, 3), quality=rng.uniform(0.3, 1),
                    kind=int(rng.integers(10)),
                ),
                station=k,
            )
            for k in (7, 8, 9)
        ]  # fmt: skip
        peers[2].agreed = 0.1
        out = fused(own, peers, sight=view(rng.uniform(0, 80)))
        n = len(own)
        assert (out.objects.ids[:n] == own.ids).all()
        assert (out.objects.quality[:n] >= own.quality - 1e-12).all()
        assert [s[0] for s in sources(out)[:n]] == [0] * n
        assert len(sources(out)) == len(out.objects)
        shifts = np.linalg.norm(out.objects.positions[:n] - own.positions, axis=1)
        assert shifts.max() < 4 * np.sqrt(2) * 0.3 + 3  # within the gate of both errors


def test_the_same_object_from_three_stations_is_one_with_all_as_sources():
    own = things([(10, 0)], sigma_m=0.5)
    peers = [peer_of(things([(10.1 * 1, 0.05 * k)], ids=[k]), station=k) for k in (7, 8, 9)]
    out = fused(own, peers)
    assert len(out.objects) == 1
    assert sorted(sources(out)[0]) == [0, 7, 8, 9]
    assert out.objects.quality[0] > own.quality[0]


def test_an_object_that_two_others_told_of_comes_in_once_under_the_surer():
    own = things([(10, 0)])
    vague, sure = things([(50, 0)], ids=[3], sigma_m=0.5), things([(50.2, 0)], ids=[4], sigma_m=0.1)
    out = fused(own, [peer_of(vague, station=7), peer_of(sure, station=8)])
    assert len(out.objects) == 2
    assert sorted(sources(out)[1]) == [7, 8]
    assert (out.objects.stations[1], out.objects.ids[1]) == (8, 4)


def test_a_much_surer_peer_refines_place_and_velocity_and_a_vaguer_one_does_not():
    own = things([(10, 0)], (4.0, 0.0), sigma_m=1.0, sigma_ms=2.0)
    sure = things([(10.6, 0)], (5.0, 0.0), sigma_m=0.1, sigma_ms=0.2)
    refined = fused(own, [peer_of(sure)]).objects
    assert 10.3 < refined.positions[0, 0] < 10.6
    assert 4.5 < refined.velocities[0, 0] < 5.0
    assert np.trace(refined.covariances[0]) < np.trace(own.covariances[0])
    vague = things([(10.6, 0)], (5.0, 0.0), sigma_m=2.0, sigma_ms=3.0)
    kept = fused(own, [peer_of(vague)]).objects
    assert (kept.positions == own.positions).all()
    assert (kept.covariances == own.covariances).all()


def test_yaw_and_size_come_from_another_only_where_unknown():
    own = things([(10, 0), (30, 0)], yaw=np.array([np.nan, 0.1]), size=(0.0, 1.8, 1.5))
    theirs = things([(10, 0), (30, 0)], yaw=0.7, size=(5.0, 2.5, 2.0))
    out = fused(own, [peer_of(theirs)]).objects
    np.testing.assert_allclose(out.yaws, [0.7, 0.1])
    np.testing.assert_allclose(out.sizes, [[5.0, 1.8, 1.5]] * 2)


def test_this_vehicle_itself_is_not_fused_as_an_object_also_while_it_moves():
    pose = at((100.0, 0.0), velocity=(20.0, 0.0, 0.0))
    own = things([(130, 0)], stamp_ns=NOW + 500 * MS)
    echo = peer_of(things([(100, 0)], (20.0, 0.0), ids=[9]))
    assert len(fused(own, [echo], pose).objects) == 1
    left_behind = peer_of(things([(100, 0)], ids=[9]))
    assert len(fused(own, [left_behind], pose).objects) == 2


@pytest.mark.parametrize(
    "other",
    [
        things([(160, 0)], ids=[9]),
        things([(50, 0)], ids=[9], quality=0.5),
        things([(50, 0)], ids=[9], sigma_m=3.0),
        things([(25, 0)], ids=[9]),
    ],
    ids=["out of range", "unlikely", "unsure", "in the free view"],
)
def test_what_is_far_unlikely_unsure_or_contradicted_stays_out(other):
    own = things([(10, 0)])
    out = fused(own, [peer_of(other)], sight=view(40))
    assert len(out.objects) == 1
    assert out.unsure == int(other.covariances[0, 0, 0] > 4)


def test_nothing_of_a_distrusted_station_is_fused():
    peer = peer_of(things([(50, 0), (10, 0)], ids=[8, 9]))
    peer.disagreed = peer.agreed / LEAST_TRUST
    own = things([(10, 0)])
    out = fused(own, [peer])
    assert out.objects is own
    assert sources(out) == [[0]]


def test_no_second_vehicle_stands_in_one_of_ours():
    own = things([(10, 0)], sigma_m=0.05)
    off = peer_of(things([(11.0, 0.3)], ids=[9], sigma_m=0.05))  # too far to be the same
    assert len(fused(own, [off]).objects) == 1


def test_a_walker_beside_a_car_comes_in():
    own = things([(10, 0)])
    walker = peer_of(things([(10, 2.0)], kind=ObjectClass.PERSON, ids=[9]))
    assert len(fused(own, [walker]).objects) == 2


@pytest.mark.parametrize("correlation", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_covariance_intersection_is_never_surer_than_the_truth(correlation):
    """4000 pairs of estimates whose errors are correlated up to fully: the mean square error along
    each axis is at most what the intersection claims (5 % for the sampling)."""
    rng = np.random.default_rng(7)
    A, B = covariances(rng, 2, 6, 0.5)
    n = 4000
    common, other = rng.normal(size=(2, n, 6))
    mixed = correlation * common + np.sqrt(1 - correlation**2) * other
    first = common @ np.linalg.cholesky(A).T
    second = mixed @ np.linalg.cholesky(B).T
    state, claimed = intersected(first, np.tile(A, (n, 1, 1)), second, np.tile(B, (n, 1, 1)))
    actual = state.T @ state / n
    assert np.linalg.eigvalsh(1.05 * claimed[0] - actual).min() >= -1e-6
    assert np.trace(claimed[0, :3, :3]) <= np.trace(A[:3, :3]) + np.trace(B[:3, :3])


def test_covariance_intersection_of_the_same_twice_gains_nothing():
    P = covariances(np.random.default_rng(8), 5, 6)
    x = np.ones((5, 6))
    state, claimed = intersected(x, P, x, P)
    np.testing.assert_allclose(state, x, atol=1e-5)
    np.testing.assert_allclose(claimed, P, rtol=1e-4, atol=1e-6)


def test_the_same_told_by_a_chain_of_stations_makes_nothing_surer():
    """Rumors: four stations repeat one measurement; the error claimed stays that of one."""
    one = things([(50, 0)], ids=[9], sigma_m=0.3)
    peers = [peer_of(one, station=k) for k in (7, 8, 9, 10)]
    out = fused(things([(10, 0)]), peers).objects
    single = fused(things([(10, 0)]), peers[:1]).objects
    np.testing.assert_allclose(out.covariances[1], single.covariances[1])
    assert out.quality[1] > single.quality[1]


def test_everything_at_once_is_finite():
    rng = np.random.default_rng(9)
    own = joined([things(rng.uniform(-50, 50, (60, 2))), Objects.none(NOW)])
    peers = [peer_of(things(rng.uniform(-50, 50, (200, 2))), station=k) for k in range(7, 17)]
    out = fused(own, peers).objects
    for name in ("positions", "velocities", "covariances", "quality"):
        assert np.isfinite(getattr(out, name)).all()
    assert (out.quality <= 1).all()
