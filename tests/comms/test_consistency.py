"""How far a station may be believed: its pose's error is found, and what nobody sees counts."""

import numpy as np
import pytest

from comms.alignment import predict
from comms.association import mutual
from comms.consistency import (
    AGREED,
    CORRELATED,
    DISAGREED,
    LEAST_TRUST,
    assess,
    contradicted,
    priors,
    told_by,
)
from comms.envelope import ClockQuality
from pipeline.objects import ObjectClass, Objects
from tests.comms.made import MS, NOW, S
from tests.comms.scenes import at, envelope_of, peer_of, seen_by, things, view

ORIGIN = np.array([30.0, -10.0])


def truth(n=12, seed=1):
    """Cars on a grid of streets, 12 m apart and more."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(36)[:n]
    p = np.column_stack([cells % 6, cells // 6]) * 15.0 - 35 + rng.uniform(-1, 1, (n, 2))
    return things(p, rng.uniform(-6, 6, (n, 2)))


def look(peer, objects, bias, sigmas, k, seed=0, noise=0.15, sight=None, own=None, theirs=None):
    """The k-th look, after 0.1 s each, of both at the same objects."""
    rng = np.random.default_rng([seed, k])
    stamp = NOW + k * 100 * MS
    moved = objects.derived(positions=objects.positions + 0.1 * k * objects.velocities)

    def noisy(o):
        p = o.positions + rng.normal(0, noise, (len(o), 3)) * [1, 1, 0]
        return o.derived(positions=p, stamp_ns=stamp)

    told = noisy(seen_by(bias, moved if theirs is None else theirs, ORIGIN))
    pose = at((*ORIGIN, 0.0), stamp_ns=stamp, sigmas=sigmas)
    peer.hear(envelope_of(peer.station, sequence=k, pose=pose), stamp)
    peer.put(envelope_of(peer.station, sequence=k, pose=pose), told.derived(stamp_ns=stamp))
    own = at(stamp_ns=stamp) if own is None else own
    ours = noisy(moved)
    assess([peer], told_by([peer], stamp, predict, own), ours, own, sight, stamp)
    return moved.derived(stamp_ns=stamp)


def fresh():
    return peer_of(Objects.none(NOW), pose=at((*ORIGIN, 0.0), sigmas=(1.0, 0.02)))


def off(peer, objects):
    """(N,) m, how far what is told of each object is from where it is."""
    told = told_by([peer], objects.stamp_ns, predict)
    i, j = mutual(objects, told.objects, np.zeros(len(told.objects), np.intp))
    assert len(i) >= 0.8 * len(objects)
    return np.linalg.norm((told.objects.positions[j] - objects.positions[i])[:, :2], axis=1)


@pytest.mark.parametrize(
    ("bias", "sigmas"),
    [
        ((0.5, -0.3, np.radians(0.8)), (0.5, np.radians(0.7))),
        ((1.5, -1.2, np.radians(3.0)), (1.0, np.radians(2.0))),
    ],
)
def test_a_pose_that_is_off_within_its_claim_is_found(bias, sigmas):
    peer = fresh()
    for k in range(40):
        now = look(peer, truth(), bias, sigmas, k)
    assert (np.abs(peer.bias - bias) < [0.15, 0.15, 0.006]).all(), peer.bias
    assert off(peer, now).mean() < 0.35
    assert peer.trust > 0.85


def test_a_pose_that_is_right_stays_so():
    peer = fresh()
    for k in range(40):
        look(peer, truth(), (0.0, 0.0, 0.0), (0.5, np.radians(1)), k)
    assert (np.abs(peer.bias) < [0.08, 0.08, 0.004]).all(), peer.bias


def test_what_is_left_of_the_error_shrinks_with_looks_and_grows_without():
    peer, own = fresh(), at()
    sizes = [np.trace(priors([peer], NOW, own)[0][:2, :2])]
    for k in range(20):
        look(peer, truth(), (0.2, 0.1, 0.0), (0.5, np.radians(1)), k)
        sizes.append(np.trace(priors([peer], NOW + k * 100 * MS, own)[0][:2, :2]))
    assert sizes[-1] < 0.2 * sizes[1]
    later = [np.trace(priors([peer], NOW + (2 + t) * S, own)[0][:2, :2]) for t in (0, 5, 30, 3000)]
    assert later == sorted(later)
    assert later[-1] <= np.trace(peer.claimed[:2, :2]) + 1e-9


def test_a_first_pair_tells_what_a_kalman_filter_with_correlated_noise_tells():
    """One object straight ahead of the station, so that the turn is not seen in x."""
    peer = peer_of(things([(40, -10)]), pose=at((*ORIGIN, 0.0), sigmas=(0.3, 0.0)))
    ours = things([(40.2, -10)])
    assess([peer], told_by([peer], NOW, predict), ours, at(), None, NOW)
    prior = peer.claimed[0, 0]
    noise = CORRELATED * (2 * 0.2**2 + 0.05**2 + 0.01)
    assert peer.bias[0] == pytest.approx(0.2 * prior / (prior + noise), rel=1e-6)


def test_a_clocks_error_counts_along_the_way():
    moving = things([(0, 0)], (20.0, 0.0))
    good, bad = (
        told_by([peer_of(moving, clock=c)], NOW, predict).plain.covariances[0]
        for c in (ClockQuality.GNSS, ClockQuality.FREE)
    )
    assert bad[0, 0] - good[0, 0] == pytest.approx((20 * 0.05) ** 2, rel=0.01)
    assert bad[1, 1] == pytest.approx(good[1, 1])


def test_our_own_poses_error_counts_as_well():
    peer = peer_of(things([(50, 0)]), pose=at((20.0, 0.0)))
    sure, unsure = (
        told_by([peer], NOW, predict, at(sigmas=s)).objects.covariances[0]
        for s in ((0.0, 0.0), (0.6, 0.0))
    )
    assert unsure[0, 0] - sure[0, 0] == pytest.approx(0.36, rel=0.01)


def test_what_stands_well_inside_our_free_view_is_contradicted():
    ours = things([(10, 0)])
    claims = things([(10, 0.5), (20, 0), (0, 38), (0, 60), (12.5, 0)], sigma_m=0.1)
    out = contradicted(claims, ours, np.zeros(0, np.intp), view(40))
    assert out.tolist() == [False, True, False, False, False]
    assert not contradicted(claims, ours, np.zeros(0, np.intp), None).any()
    assert not contradicted(things([(20, 0)], sigma_m=20.0), ours, np.zeros(0, np.intp), view(40))
    flying = things([(20, 0, 30)], kind=ObjectClass.UAV)
    assert not contradicted(flying, ours, np.zeros(0, np.intp), view(40)).any()
    high = things([(20, 0, 5.1)])  # a car is on the ground, whatever is said of its height
    assert contradicted(high, ours, np.zeros(0, np.intp), view(40)).all()


def test_who_places_things_where_nothing_is_loses_trust_and_honesty_wins_it_back():
    peer, real = fresh(), truth()
    ghosts = things([(5, 5), (12, -20), (-8, 14)])
    trusts = []
    for k in range(60):
        honest = k >= 20
        look(
            peer, real, np.zeros(3), (0.05, 0.001), k, sight=view(80),
            theirs=None if honest else ghosts.derived(ids=ghosts.ids + 100),
        )  # fmt: skip
        if k == 19:
            peer.keep(np.zeros(len(peer.objects), np.bool_))
        trusts.append(peer.trust)
    assert trusts[0] > LEAST_TRUST
    assert trusts[19] < LEAST_TRUST < trusts[-1]


def test_evidence_fades():
    peer = fresh()
    for k in range(30):
        look(peer, truth(), np.zeros(3), (0.05, 0.001), k, sight=view(80))
    assert peer.agreed > 5 * AGREED
    none = Objects.none(NOW + 60 * S)
    peer.keep(np.zeros(len(peer.objects), np.bool_))
    assess([peer], told_by([peer], none.stamp_ns, predict), none, at(), None, none.stamp_ns)
    assert peer.agreed == pytest.approx(AGREED, rel=0.02)
    assert peer.disagreed == pytest.approx(DISAGREED, rel=0.01)


def test_a_bias_that_fits_no_more_is_begun_anew():
    peer = fresh()
    for k in range(30):
        look(peer, truth(), (0.3, 0.2, 0.0), (0.3, np.radians(0.5)), k, sight=view(80))
    peer.bias = np.array([5.0, 0.0, 0.2])  # as a wrong registration would leave it
    for k in range(30, 60):
        now = look(peer, truth(), (0.3, 0.2, 0.0), (0.3, np.radians(0.5)), k, sight=view(80))
    assert off(peer, now).mean() < 0.4


def test_no_peers_tell_nothing():
    told = told_by([], NOW, predict)
    assert len(told.objects) == 0
    assert told.jacobian.shape == (0, 2, 3)
