"""Objects in the compact form: round trips within quantization, hostile payloads."""

import math
from dataclasses import replace

import numpy as np
import pytest

from comms import codec, compact
from comms.envelope import Content, pack, unpack
from comms.reasons import Reason, Rejected
from pipeline.errors import InputError
from pipeline.objects import Objects
from tests.comms.made import MS, NOW, envelope, filtered_covariances, objects, pose


def trip(sent, at, rng):
    payload = codec.encode(sent, at, NOW, Content.COMPACT)
    got = unpack(pack(envelope(rng, payload, station=9, pose=at)))
    return codec.decode(got.payload, got)


@pytest.mark.parametrize("seed", range(30))
def test_round_trip_is_within_quantization_and_never_more_certain(seed):
    rng = np.random.default_rng(seed)
    at = pose(rng)
    sent = objects(rng, int(rng.integers(1, 33)), at.position)
    got = trip(sent, at, rng)
    assert got.stamp_ns == NOW and (got.stations == 9).all()
    assert (got.ids == sent.ids).all() and (got.classes == sent.classes).all()
    assert np.abs(got.positions - sent.positions).max() <= 0.00501
    assert np.abs(got.velocities - sent.velocities).max() <= 0.5001 / 80
    turned = got.yaws - sent.yaws
    assert (np.isnan(got.yaws) == np.isnan(sent.yaws)).all()
    assert all(abs(math.remainder(a, math.tau)) < 1e-4 for a in turned[np.isfinite(turned)])
    assert ((got.sizes == 0) == (sent.sizes == 0)).all()
    known = sent.sizes > 0
    assert np.abs(got.sizes[known] / sent.sizes[known] - 1).max() < 0.0141
    assert ((got.quality <= sent.quality + 1e-9) & (got.quality > sent.quality - 1 / 254)).all()
    late = sent.measured_ns - got.measured_ns
    assert ((late >= 0) & (late < MS)).all()
    assert np.linalg.eigvalsh(got.covariances - sent.covariances).min() >= -1e-9


def test_a_filters_covariance_grows_by_a_tenth_at_most():
    rng = np.random.default_rng(6)
    at = pose(rng)
    sent = replace(objects(rng, 30, at.position), covariances=filtered_covariances(rng, 30))
    got = trip(sent, at, rng)
    assert np.linalg.eigvalsh(got.covariances - sent.covariances).min() >= 0
    # The greatest factor over all directions, of the deviation.
    factor = np.linalg.eigvals(np.linalg.solve(sent.covariances, got.covariances)).real
    assert np.sqrt(factor.max()) < 1.25 and np.median(np.sqrt(factor)) < 1.1


def test_no_object_is_a_legal_payload():
    rng = np.random.default_rng(0)
    assert len(trip(Objects.none(NOW), pose(rng), rng)) == 0


@pytest.mark.parametrize(("reach_m", "error_m"), [(320, 0.0051), (650, 0.0101), (3e5, 5.2)])
def test_the_finest_unit_in_which_all_fit_is_used(reach_m, error_m):
    rng = np.random.default_rng(1)
    at = pose(rng)
    sent = objects(rng, 20, at.position, reach_m=reach_m)
    error = np.abs(trip(sent, at, rng).positions - sent.positions).max()
    assert error_m / 4 < error < error_m


def test_extremes_saturate_and_never_wrap():
    rng = np.random.default_rng(2)
    at = pose(rng)
    sent = objects(rng, 3, at.position)
    sent = replace(
        sent,
        ids=np.array([-(2**31), 2**31 - 1, 0], np.int32),
        velocities=np.array([[400.0, -400, 0]] * 3),
        sizes=np.array([[1000.0, 1e-9, 0.1]] * 3),
        yaws=np.array([-math.pi, math.pi, 1e9]),
        measured_ns=np.array([NOW - 10**12, NOW + 10**12, NOW]),
        covariances=np.tile(np.eye(6), (3, 1, 1)) * np.array([1e-30, 1e30, 1.0])[:, None, None],
    )
    got = trip(sent, at, rng)
    assert (got.ids == sent.ids).all()
    assert np.allclose(got.velocities, sent.velocities)
    assert np.allclose(got.sizes, [100, 0.1, 0.1])
    assert (got.measured_ns == NOW + np.array([-32768, 32767, 0]) * MS).all()
    assert np.allclose(np.diagonal(got.covariances[1]), 1e7, rtol=1e-3)
    assert np.abs(np.abs(got.yaws[:2]) - math.pi).max() < 1e-4


def test_objects_of_another_time_or_too_far_are_refused():
    rng = np.random.default_rng(3)
    at = pose(rng)
    with pytest.raises(InputError, match="predict them"):
        codec.encode(objects(rng, 2, stamp_ns=NOW - 1), at, NOW, Content.COMPACT)
    far = replace(objects(rng, 1), positions=np.array([[1e7, 0, 0]]))
    near = replace(at, position=np.array([-1e7, 0, 0]))
    with pytest.raises(InputError, match="from the sender"):
        codec.encode(far, near, NOW, Content.COMPACT)


def test_no_payload_raises_anything_but_malformed():
    rng = np.random.default_rng(4)
    at = envelope(rng)
    payload = codec.encode(objects(rng, 5, at.pose.position), at.pose, NOW, Content.COMPACT)
    for cut in range(len(payload)):
        if (cut - compact.HEAD_BYTES) % compact.OBJECT_BYTES:
            with pytest.raises(Rejected) as caught:
                codec.decode(payload[:cut], at)
            assert caught.value.reason is Reason.MALFORMED
    refused = 0
    for _ in range(2000):
        wild = rng.integers(0, 256, 1 + 3 * compact.OBJECT_BYTES, dtype=np.uint8)
        wild[0] %= 17
        try:
            got = codec.decode(wild.tobytes(), at)
        except Rejected as rejected:
            refused += 1
            assert rejected.reason is Reason.MALFORMED
        else:
            assert np.linalg.eigvalsh(got.covariances).min() > 0
    assert refused > 1000


def test_capacity_is_what_fits():
    rng = np.random.default_rng(5)
    at = pose(rng)
    for room in (0, 1, 35, 36, 500, 1158):
        n = codec.capacity(Content.COMPACT, room)
        full = objects(rng, n + 1, at.position)
        assert len(codec.encode(full, at, NOW, Content.COMPACT)) > room
        if n:
            fits = full.selected(np.arange(n))
            assert len(codec.encode(fits, at, NOW, Content.COMPACT)) <= room
