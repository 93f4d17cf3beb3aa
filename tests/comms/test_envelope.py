"""The envelope: round trips, and what it refuses."""

import math
import zlib
from dataclasses import fields

import numpy as np
import pytest

from comms import uncertainty
from comms.envelope import HEADER_BYTES, MTU, Content, Envelope, Layer, pack, unpack
from comms.reasons import Reason, Rejected
from pipeline.errors import InputError
from pipeline.pose import Pose
from tests.comms.made import NOW, covariances, envelope, pose


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
        ttl_ms=int(rng.integers(1, 65536)),
        layer=Layer(int(rng.integers(0, 4))),
        content=Content(int(rng.integers(0, 2))),
        piece=2,
        pieces=int(rng.integers(3, 256)),
    )
    data = pack(sent)
    assert len(data) == HEADER_BYTES + len(sent.payload)
    got = unpack(data)
    for field in fields(Envelope):
        if field.name != "pose":
            assert getattr(got, field.name) == getattr(sent, field.name)
    assert got.pose.stamp_ns == sent.capture_ns
    assert np.abs(got.pose.position - sent.pose.position).max() <= 0.5001e-3
    assert np.abs(got.pose.velocity - sent.pose.velocity).max() <= 0.5001 / 80
    assert abs(math.remainder(got.pose.yaw - sent.pose.yaw, math.tau)) <= math.pi / 65535
    assert np.linalg.eigvalsh(got.pose.covariance - sent.pose.covariance)[0] >= -1e-9


def test_the_extremes_that_a_pose_allows_saturate_and_never_wrap():
    rng = np.random.default_rng(0)
    fast = Pose(NOW, np.zeros(3), 1e9, np.array([400.0, -400.0, 400.0]), np.eye(4) * 1e7)
    got = unpack(pack(envelope(rng, pose=fast))).pose
    assert np.allclose(got.velocity, fast.velocity)
    assert np.allclose(np.diagonal(got.covariance), 1e7, rtol=1e-3)
    far = Pose(NOW, np.array([2.2e6, 0, 0]), 0.0)
    with pytest.raises(InputError, match="2147 km"):
        pack(envelope(rng, pose=far))


@pytest.mark.parametrize(
    "change",
    [
        {"station": 0}, {"station": 2**32}, {"sequence": -1}, {"sequence": 2**32}, {"ttl_ms": 0},
        {"ttl_ms": 65536}, {"capture_ns": -1}, {"pieces": 0}, {"pieces": 256}, {"piece": 1},
        {"payload": bytes(MTU)},
    ],
)  # fmt: skip
def test_a_field_out_of_range_is_refused_by_name(change):
    rng = np.random.default_rng(0)
    with pytest.raises(
        InputError, match=r"Envelope\.pi?e?" if "piece" in change else next(iter(change))
    ):
        envelope(rng, pose=pose(rng), **change)


def test_what_is_wrong_with_bytes_is_told_apart():
    data = pack(envelope(np.random.default_rng(1), b"0123456789"))
    assert refused(b"") is Reason.TRUNCATED
    assert refused(data[:20]) is Reason.TRUNCATED
    assert refused(data[:-1]) is Reason.TRUNCATED
    assert refused(data + b"\0") is Reason.CRC
    assert refused(resealed(data + b"\0")) is Reason.MALFORMED
    assert refused(b"\2" + data[1:]) is Reason.VERSION
    assert refused(bytes(MTU + 1)) is Reason.OVERSIZE
    assert refused(data, "another") is Reason.FRAME
    for at, value in ((1, 0x40), (1, 0x1F), (2, 200), (4, 0), (3, 9)):  # layer, content, clock, …
        wrong = bytearray(data)
        wrong[at] = value
        assert refused(resealed(bytes(wrong))) is Reason.MALFORMED
    assert refused(resealed(data[:9] + bytes(4) + data[13:])) is Reason.MALFORMED  # station 0
    assert refused(resealed(data[:17] + b"\xff" * 8 + data[25:])) is Reason.MALFORMED  # before 1970


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


def test_correlations_that_contradict_each_other_are_refused():
    pairs = ((0, 1), (3, 4), (0, 3), (1, 4), (2, 5))
    codes = np.full((1, 6), 100, np.uint8)
    with pytest.raises(ValueError, match="contradict"):
        uncertainty.decode(codes, np.array([[120, 120, 120, -120, 0]], np.int8), pairs)
    with pytest.raises(ValueError, match="contradict"):
        uncertainty.decode(codes, np.array([[-128, 0, 0, 0, 0]], np.int8), pairs)
