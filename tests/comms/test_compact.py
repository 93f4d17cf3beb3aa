"""Objects in the compact form: round trips within quantization, hostile payloads."""

import math
from dataclasses import replace

import numpy as np
import pytest

from comms import codec, compact
from comms.envelope import Content, pack, unpack
from comms.reasons import Reason, Rejected
from comms.statures import TYPICAL
from pipeline.errors import InputError
from pipeline.objects import Objects
from pipeline.pose import Pose
from tests.comms.made import MS, NOW, envelope, filtered_covariances, objects, pose

GOLDEN = (
    "032df4051d4268e860c6021c08c430c49400812905260bfc4f3c8008c8ffe293967c9231815482"
    "28f7d8448e5456ced348"
)


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
    sent = sent.selected(np.argsort(sent.ids))
    assert got.stamp_ns == NOW and (got.stations == 9).all()
    assert (got.ids == sent.ids).all() and (got.classes == sent.classes).all()
    off = np.abs(got.positions - sent.positions).max(axis=0)
    assert (off <= [0.02501, 0.02501, 0.05001]).all()
    assert np.abs(got.velocities - sent.velocities).max() <= 0.05001
    turned = got.yaws - sent.yaws
    assert (np.isnan(got.yaws) == np.isnan(sent.yaws)).all()
    assert all(abs(math.remainder(a, math.tau)) < 0.0124 for a in turned[np.isfinite(turned)])
    assert ((got.sizes == 0) == (sent.sizes == 0)).all()
    known = sent.sizes > 0
    assert np.abs(got.sizes[known] / sent.sizes[known] - 1).max() < 0.0279
    less = (1 - got.quality) / (1 - sent.quality)
    assert ((less >= 1 - 1e-6) & ((less < 2**0.2501) | (got.quality > 0.994))).all()
    late = sent.measured_ns - got.measured_ns
    assert ((late >= 0) & (late < 10 * MS)).all()
    assert np.linalg.eigvalsh(got.covariances - sent.covariances).min() >= -1e-9


def test_a_filters_covariance_grows_by_a_fifth_at_most():
    rng = np.random.default_rng(6)
    at = pose(rng)
    sent = replace(objects(rng, 30, at.position), covariances=filtered_covariances(rng, 30))
    got = trip(sent, at, rng)
    sent = sent.selected(np.argsort(sent.ids))
    assert np.linalg.eigvalsh(got.covariances - sent.covariances).min() >= 0
    # The greatest factor over all directions, of the deviation.
    factor = np.linalg.eigvals(np.linalg.solve(sent.covariances, got.covariances)).real
    assert np.sqrt(factor.max()) < 1.4 and np.median(np.sqrt(factor)) < 1.2


@pytest.mark.parametrize("wide", [1e2, 9e6])
@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (3, 4), (4, 3)])
def test_one_axis_far_less_sure_than_the_other_is_told_and_never_as_surer(wide, axes):
    rng = np.random.default_rng(5)
    at = pose(rng)
    sent = objects(rng, 6, at.position)
    covariances = sent.covariances.copy()
    covariances[2] = np.eye(6) * 0.1
    covariances[2, axes[0], axes[0]], covariances[2, axes[1], axes[1]] = wide, 1e-5
    got = trip(sent.derived(covariances=covariances), at, rng)
    order = np.argsort(sent.ids)
    assert (got.ids == sent.ids[order]).all()
    apart = got.covariances - covariances[order]
    assert (np.linalg.eigvalsh(apart) > -1e-6 * wide).all()


def test_ids_that_wrap_are_refused():
    rng = np.random.default_rng(6)
    payload = bytearray(codec.encode(objects(rng, 3, np.zeros(3)), pose(rng), NOW, Content.COMPACT))
    for at in range(len(payload)):  # whatever a width becomes, ids rise or it is refused
        for bit in range(8):
            wrong = bytearray(payload)
            wrong[at] ^= 1 << bit
            try:
                got = compact.decode(bytes(wrong), envelope(rng, bytes(wrong)))
            except Rejected:
                continue
            assert (np.diff(got.ids.astype(np.int64)) >= 0).all()


def test_no_object_is_a_legal_payload_of_one_byte():
    rng = np.random.default_rng(0)
    at = pose(rng)
    assert len(trip(Objects.none(NOW), at, rng)) == 0
    assert compact.encode(Objects.none(NOW), at, NOW) == b"\0"


@pytest.mark.parametrize("reach_m", [320, 3e5])
def test_far_ones_take_more_bits_and_are_no_coarser(reach_m):
    rng = np.random.default_rng(1)
    at = pose(rng)
    sent = objects(rng, 20, at.position, reach_m=reach_m)
    error = np.abs(trip(sent, at, rng).positions - sent.positions[np.argsort(sent.ids)])
    assert (error.max(axis=0) <= [0.02501, 0.02501, 0.05001]).all()


def test_what_a_filter_gives_takes_about_fourteen_bytes_each():
    """Cars and walkers within 60 m, as in the documented table."""
    rng = np.random.default_rng(8)
    for n, most in ((1, 27), (8, 125), (20, 300)):
        sent = crowd(rng, n)
        assert len(compact.encode(sent, Pose(NOW, np.zeros(3), 0.0), NOW)) <= most


def crowd(rng, n):
    walks = np.arange(n) % 2 == 0
    covariances = np.zeros((n, 6, 6))
    for k in range(3):
        spread = rng.uniform(0.1, 0.3, n) ** 2
        covariances[:, k, k], covariances[:, k + 3, k + 3] = spread, 2 * spread
        covariances[:, k, k + 3] = covariances[:, k + 3, k] = 0.8 * spread
    covariances[:, 1] = covariances[:, 0][:, [1, 0, 2, 4, 3, 5]]
    covariances[:, 4] = covariances[:, 3][:, [1, 0, 2, 4, 3, 5]]
    return replace(
        objects(rng, n),
        ids=(1000 + rng.permutation(3 * n)[:n]).astype(np.int32),
        positions=np.column_stack([rng.uniform(-60, 60, (n, 2)), np.full(n, 0.8)]),
        velocities=np.column_stack([rng.uniform(-12, 12, (n, 2)), np.zeros(n)]),
        sizes=TYPICAL[np.where(walks, 1, 4)] * rng.uniform(0.9, 1.1, (n, 3)),
        classes=np.where(walks, 1, 4).astype(np.uint8),
        covariances=covariances,
        quality=rng.uniform(0.7, 1, n),
        measured_ns=np.full(n, NOW),
    )


def test_the_bytes_are_these():
    """Golden: whoever changes them changes the envelope's version."""
    data = compact.encode(crowd(np.random.default_rng(9), 3), Pose(NOW, np.ones(3), 0.0), NOW)
    assert data.hex() == GOLDEN


def test_extremes_saturate_and_never_wrap():
    rng = np.random.default_rng(2)
    at = pose(rng)
    sent = objects(rng, 3, at.position)
    sent = replace(
        sent,
        ids=np.array([-(2**31), 0, 2**31 - 1], np.int32),
        velocities=np.array([[400.0, -400, 0]] * 3),
        sizes=np.array([[1000.0, 1e-9, 0.1]] * 3),
        yaws=np.array([-math.pi, math.pi, 1e9]),
        quality=np.array([0.0, 0.5, 1.0]),
        measured_ns=np.array([NOW - 10**12, NOW + 10**12, NOW]),
        covariances=np.tile(np.eye(6), (3, 1, 1)) * np.array([1e-30, 1e30, 1.0])[:, None, None],
    )
    got = trip(sent, at, rng)
    assert (got.ids == sent.ids).all()
    assert np.allclose(got.velocities, sent.velocities)
    assert np.allclose(got.sizes, [100, 0.1, 0.1])
    assert got.quality.tolist() == [0.0, 0.5, 1.0]
    assert (got.measured_ns == NOW + np.array([-40950, 0, 0]) * MS).all()
    assert np.allclose(np.diagonal(got.covariances[1]), 1e7, rtol=1e-3)
    assert all(abs(math.remainder(a - math.pi, math.tau)) < 0.0124 for a in got.yaws[:2])


def test_objects_of_another_time_or_too_far_or_too_many_are_refused():
    rng = np.random.default_rng(3)
    at = pose(rng)
    with pytest.raises(InputError, match="predict them"):
        codec.encode(objects(rng, 2, stamp_ns=NOW - 1), at, NOW, Content.COMPACT)
    far = replace(objects(rng, 1), positions=np.array([[1e7, 0, 0]]))
    near = replace(at, position=np.array([-1e7, 0, 0]))
    with pytest.raises(InputError, match="from the sender"):
        codec.encode(far, near, NOW, Content.COMPACT)
    with pytest.raises(InputError, match="256 objects"):
        compact.encode(objects(rng, 256), at, NOW)


def test_no_payload_raises_anything_but_malformed():
    rng = np.random.default_rng(4)
    at = envelope(rng)
    payload = codec.encode(objects(rng, 5, at.pose.position), at.pose, NOW, Content.COMPACT)
    for wrong in (*(payload[:cut] for cut in range(len(payload))), payload + b"\0"):
        with pytest.raises(Rejected) as caught:
            codec.decode(wrong, at)
        assert caught.value.reason is Reason.MALFORMED
    refused = taken = 0
    for k in range(4000):
        wild = bytearray(payload)
        for _ in range(1 + k % 4):
            wild[int(rng.integers(len(wild)))] = int(rng.integers(256))
        if k % 4 == 0:
            wild = rng.bytes(int(rng.integers(0, 90)))
        try:
            got = codec.decode(bytes(wild), at)
        except Rejected as rejected:
            refused += 1
            assert rejected.reason is Reason.MALFORMED
        else:
            taken += 1
            if len(got):
                assert np.linalg.eigvalsh(got.covariances).min() > 0
                assert (np.diff(got.ids) >= 0).all()
    assert refused > 1000 and taken > 100


@pytest.mark.parametrize("count", [1, 255])
def test_the_widest_fields_are_bounded_work(count):
    """A head that says the largest widths, with as many bytes as that takes, or fewer."""
    rng = np.random.default_rng(5)
    for size in (20, 1300, 20_000):
        payload = bytes([count]) + b"\xff" * 20 + rng.bytes(size)
        with pytest.raises(Rejected) as caught:
            compact.decode(payload, envelope(rng))
        assert caught.value.reason is Reason.MALFORMED
