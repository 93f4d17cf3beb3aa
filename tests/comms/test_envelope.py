"""The envelope: round trips, and what it refuses."""

import math
import zlib

import numpy as np
import pytest

from comms import uncertainty
from comms.envelope import HEADER_BYTES, MAX_TTL_MS, MTU, Body, Content, Layer, pack, unpack
from comms.reasons import Reason, Rejected
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from pipeline.pose import Pose
from tests.comms.made import NOW, covariances, envelope, pose

GOLDEN = (
    "026002050000000700000102a3b5840f4000aabb0004d2fffdd000004e28be0280ff8800145b5b5b5b00"
    "044636326162f24ad447"
)  # fmt: skip


def refused(data, frame_id="map"):
    with pytest.raises(Rejected) as caught:
        unpack(data, frame_id)
    return caught.value.reason


def resealed(data):
    """With the checksum that its bytes ask for."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "big")


@pytest.mark.parametrize("seed", range(40))
def test_round_trip_is_within_quantization_and_never_more_certain(seed):
    rng = np.random.default_rng(seed)
    sent = envelope(
        rng,
        bytes(rng.integers(0, 256, rng.integers(0, 1200), dtype=np.uint8)),
        station=int(rng.integers(1, 2**32)),
        sequence=int(rng.integers(0, 2**32)),
        capture_ns=NOW + int(rng.integers(0, 10**12)),
        ttl_ms=int(rng.integers(1, MAX_TTL_MS)),
        layer=Layer(int(rng.integers(1, 4))),
        content=Content(int(rng.integers(0, 2))),
        body=Body(ObjectClass(int(rng.integers(0, 10))), *rng.uniform(0.2, 60, 2), 0.0),
    )
    data = pack(sent)
    assert len(data) == HEADER_BYTES + len(sent.payload)
    got = unpack(data)
    for name in ("station", "sequence", "clock", "layer", "content", "payload"):
        assert getattr(got, name) == getattr(sent, name)
    assert 0 <= got.ttl_ms - sent.ttl_ms < 100
    assert got.body.kind == sent.body.kind and got.body.height_m == 0
    assert got.body.length_m == pytest.approx(sent.body.length_m, rel=0.0279)
    assert got.body.width_m == pytest.approx(sent.body.width_m, rel=0.0279)
    assert abs(got.capture_ns - sent.capture_ns) <= 5000
    assert got.pose.stamp_ns == got.capture_ns
    assert np.abs(got.pose.position - sent.pose.position).max() <= 0.5001e-2
    assert np.abs(got.pose.velocity - sent.pose.velocity).max() <= 0.5001 / 80
    assert abs(math.remainder(got.pose.yaw - sent.pose.yaw, math.tau)) <= math.pi / 65535
    assert np.linalg.eigvalsh(got.pose.covariance - sent.pose.covariance)[0] >= -1e-9


def test_the_extremes_that_a_pose_allows_saturate_and_never_wrap():
    rng = np.random.default_rng(0)
    fast = Pose(NOW, np.zeros(3), 1e9, np.array([400.0, -400.0, 400.0]), np.eye(4) * 1e7)
    got = unpack(pack(envelope(rng, pose=fast))).pose
    assert np.allclose(got.velocity, fast.velocity)
    assert np.allclose(np.diagonal(got.covariance), 1e7, rtol=1e-3)
    got = unpack(pack(envelope(rng, body=Body(ObjectClass.BUS, 1e3, 1e-3, 0.1)))).body
    np.testing.assert_allclose([got.length_m, got.width_m, got.height_m], [100, 0.1, 0.1])
    for place in ([8.4e4, 0, 0], [0, 0, -8.4e4]):
        with pytest.raises(InputError, match="83 km"):
            pack(envelope(rng, pose=Pose(NOW, np.array(place), 0.0)))


def test_the_bytes_are_these():
    """Golden: whoever changes them changes the version."""
    at = Pose(NOW, np.array([12.34, -5.6, 0.78]), 1.0, np.array([8.0, -1.5, 0.25]), np.eye(4) / 25)
    data = pack(envelope(np.random.default_rng(0), b"ab", pose=at, sequence=258))
    assert HEADER_BYTES == 50
    assert data.hex() == GOLDEN


@pytest.mark.parametrize(
    "change",
    [
        {"station": 0}, {"station": 2**32}, {"sequence": -1}, {"sequence": 2**32}, {"ttl_ms": 0},
        {"ttl_ms": MAX_TTL_MS + 1}, {"capture_ns": -1}, {"capture_ns": 2**62},
        {"payload": bytes(MTU)},
    ],
)  # fmt: skip
def test_a_field_out_of_range_is_refused_by_name(change):
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=next(iter(change))):
        envelope(rng, pose=pose(rng), **change)


def test_what_is_wrong_with_bytes_is_told_apart():
    data = pack(envelope(np.random.default_rng(1), b"0123456789"))
    assert refused(b"") is Reason.TRUNCATED
    assert refused(data[:20]) is Reason.TRUNCATED
    assert refused(data[:-1]) is Reason.TRUNCATED
    assert refused(data + b"\0") is Reason.CRC
    assert refused(resealed(data + b"\0")) is Reason.MALFORMED
    assert refused(b"\1" + data[1:]) is Reason.VERSION
    assert refused(bytes(MTU + 1)) is Reason.OVERSIZE
    assert refused(data, "another") is Reason.FRAME
    for at, value in ((1, 0x20), (1, 0x78), (3, 0), (42, 10), (41, 127)):  # layer, clock, TTL, …
        wrong = bytearray(data)
        wrong[at] = value
        assert refused(resealed(bytes(wrong))) is Reason.MALFORMED
    assert refused(resealed(data[:4] + bytes(4) + data[8:])) is Reason.MALFORMED  # station 0


def test_any_flipped_bit_is_refused():
    data = pack(envelope(np.random.default_rng(2)))
    for at in range(len(data)):
        for bit in range(8):
            wrong = bytearray(data)
            wrong[at] ^= 1 << bit
            assert refused(bytes(wrong)) in (Reason.VERSION, Reason.TRUNCATED, Reason.CRC)


@pytest.mark.parametrize("scale", [1e-4, 0.1, 1.0, 30.0])
def test_a_packed_covariance_bounds_the_true_one(scale):
    pairs = ((0, 1), (3, 4), (0, 3), (1, 4), (2, 5))
    p = covariances(np.random.default_rng(3), 300, 6, scale)
    got = uncertainty.decode(*uncertainty.encode(p, pairs), pairs)
    assert np.linalg.eigvalsh(got - p).min() >= -1e-9 * p.max()


def test_a_covariance_whose_correlations_all_travel_grows_by_less_than_a_fifth():
    pairs = ((0, 1), (3, 4), (0, 3), (1, 4), (2, 5))
    axes = np.array([[0.3, 0.2], [0.2, 0.5]])
    p = np.kron(axes, np.diag([1.0, 2.0, 0.5]))[None]
    got = uncertainty.decode(*uncertainty.encode(p, pairs), pairs)[0]
    grown = np.sqrt(np.diagonal(got) / np.diagonal(p[0]))
    assert grown.min() >= 1 and grown.max() < 1.2


def test_what_is_no_covariance_is_packed_all_the_same_and_comes_out_as_one():
    wild = np.array([np.eye(6), np.full((6, 6), 1e300), np.zeros((6, 6)), np.eye(6) * 1e-300])
    wild[0, 0, 1] = 5e5
    got = uncertainty.decode(*uncertainty.encode(wild, ((0, 1),)), ((0, 1),))
    assert np.linalg.eigvalsh(got).min() > 0


@pytest.mark.parametrize("rho", [-126, -1, 0, 50, 126])
def test_of_one_pose_the_covariance_is_that_of_many(rho):
    codes, rhos = np.array([[0, 100, 255, 7]], np.uint8), np.array([[rho]], np.int8)
    many = uncertainty.decode(codes, rhos, ((0, 1),))
    assert (uncertainty.decode_pose((0, 100, 255, 7), rho) == many[0]).all()


@pytest.mark.parametrize("rho", [-128, -127, 127])
def test_a_pose_without_a_covariance_is_refused(rho):
    with pytest.raises(ValueError, match="correlation"):
        uncertainty.decode_pose((9, 9, 9, 9), rho)


def test_correlations_that_contradict_each_other_are_refused():
    pairs = ((0, 1), (3, 4), (0, 3), (1, 4), (2, 5))
    codes = np.full((1, 6), 100, np.uint8)
    with pytest.raises(ValueError, match="contradict"):
        uncertainty.decode(codes, np.array([[120, 120, 120, -120, 0]], np.int8), pairs)
    with pytest.raises(ValueError, match="contradict"):
        uncertainty.decode(codes, np.array([[-128, 0, 0, 0, 0]], np.int8), pairs)
