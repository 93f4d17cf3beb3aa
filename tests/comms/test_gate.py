"""The gate: every reason is reached and counted, and no message raises anything else."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from comms.envelope import MTU, Layer, pack
from comms.gate import WINDOW, Gate
from comms.reasons import Reason, Rejected
from comms.signing import WITH_HINT, Signer, frame_unsigned
from tests.comms.made import MS, NOW, Pki, S, envelope, pki, pose


@pytest.fixture(scope="module")
def made() -> Pki:
    return pki()


RNG = np.random.default_rng(0)
POSE = pose(RNG)


def packed(sequence=1, station=7, capture_ns=NOW, payload=b"\0ay", **fields):
    at = replace(fields.pop("pose", POSE), stamp_ns=capture_ns)
    return pack(envelope(RNG, payload, station, sequence, capture_ns, pose=at, **fields))


def unsigned(sequence=1, **fields):
    return frame_unsigned(packed(sequence, **fields))


def impossible():
    """Whole and with its checksum, but with no time to live."""
    data = bytearray(packed()[:-4])
    data[3] = 0
    return bytes(data) + zlib.crc32(data).to_bytes(4, "big")


def refused(gate, data, now_ns=NOW):
    before, admitted = dict(gate.counts), gate.admitted
    with pytest.raises(Rejected) as caught:
        gate.admit(data, now_ns)
    reason = caught.value.reason
    assert gate.counts == {**before, reason: before[reason] + 1} and gate.admitted == admitted
    return reason


def taken(gate, data, now_ns=NOW):
    before = gate.admitted
    gate.admit(data, now_ns)
    assert gate.admitted == before + 1


def drift(gate, rate, seconds=40):
    """What becomes of a peer at 10 Hz whose clock runs at 1 + rate: reasons, admitted ages."""
    reasons, ages = [], []
    for k in range(10 * seconds):
        at_ns = NOW + 100 * MS * k
        capture_ns = at_ns - 20 * MS + round(rate * 100 * MS * k)
        try:
            got = gate.admit(unsigned(k, capture_ns=capture_ns, ttl_ms=1000), at_ns)
            ages.append((at_ns - got.capture_ns) / MS)
        except Rejected as rejected:
            reasons.append(rejected.reason)
    return reasons, ages


def test_every_reason_is_reached_and_counted(made):
    revoked = made.credentials(9)
    gate = Gate(99, verifier=made.verifier([revoked.certificate]), max_stations=2, max_rate_hz=5)
    signer, other = made.signer(), made.signer(8)

    def sign(data, by=signer):
        return by.sign(data, NOW)

    frame = replace(POSE, frame_id="odom")
    whole = sign(packed())
    assert refused(gate, bytes(MTU + 1)) is Reason.OVERSIZE
    assert refused(gate, whole[:230]) is Reason.TRUNCATED
    assert refused(gate, b"\x07") is Reason.VERSION
    assert refused(gate, unsigned()) is Reason.UNSIGNED
    assert refused(gate, whole[:-1] + b"!") is Reason.CRC
    assert refused(gate, sign(impossible())) is Reason.MALFORMED
    assert refused(gate, sign(packed(pose=frame))) is Reason.FRAME
    assert refused(gate, sign(packed(capture_ns=NOW + S))) is Reason.FUTURE
    assert refused(gate, sign(packed(capture_ns=NOW - S))) is Reason.EXPIRED
    assert refused(gate, sign(packed(station=99))) is Reason.OWN
    assert refused(gate, made.signer().sign(packed(station=8), NOW)) is Reason.CERTIFICATE
    assert refused(gate, sign(packed(station=9), Signer(revoked))) is Reason.REVOKED
    other.sign(b"", NOW)
    assert refused(gate, sign(packed(station=8), other)) is Reason.UNKNOWN_SIGNER
    wrong = bytearray(whole)
    wrong[130] ^= 1  # of the signature, over which no checksum goes
    assert refused(gate, bytes(wrong)) is Reason.SIGNATURE
    taken(gate, whole)
    assert refused(gate, sign(packed())) is Reason.REPLAY
    for k in range(2, 6):
        taken(gate, sign(packed(k)))
    assert refused(gate, sign(packed(6))) is Reason.FLOOD
    taken(gate, made.signer(8).sign(packed(station=8), NOW))
    assert refused(gate, made.signer(20).sign(packed(station=20), NOW)) is Reason.STATIONS
    plain = Gate(98)
    assert Reason.CLOCK in drift(plain, -0.1)[0] and plain.counts[Reason.CLOCK]
    assert {r for r, count in gate.counts.items() if count} == set(Reason) - {Reason.CLOCK}


def test_replayed_messages_are_refused_and_reordered_ones_taken():
    gate = Gate(99, max_rate_hz=1e6)
    for start in (2**32 - 700, 0, 5):  # the second run wraps round, the third is a replay
        if start == 5:
            assert refused(gate, unsigned(start)) is Reason.REPLAY
            break
        order = RNG.permutation(600)
        for k in order:
            taken(gate, unsigned((start + int(k)) % 2**32))
    for k in range(600):
        assert refused(gate, unsigned(k)) is Reason.REPLAY
    assert refused(gate, unsigned(2**32 - 700)) is Reason.REPLAY  # behind the window
    taken(gate, unsigned(599 + WINDOW))
    taken(gate, unsigned(600))
    assert refused(gate, unsigned(599)) is Reason.REPLAY


def test_a_message_may_be_replayed_neither_under_another_station_nor_another_sequence(made):
    gate, signer = Gate(99, verifier=made.verifier()), made.signer()
    message = signer.sign(packed(), NOW)
    taken(gate, message)
    at = len(message) - len(packed())
    for other in (packed(station=8), packed(2), packed(2, capture_ns=NOW + MS)):
        assert refused(gate, message[:at] + other) is Reason.SIGNATURE
    victim = made.signer(8).sign(packed(station=8), NOW)
    assert refused(gate, victim[:120] + message[120:]) is Reason.REPLAY
    stolen = victim[:at] + packed(2)  # under the certificate of 8
    assert refused(gate, stolen) is Reason.SIGNATURE


def test_a_layer_that_the_certificate_does_not_name_is_refused(made):
    gate = Gate(99, verifier=made.verifier())
    signer = made.signer(layers={Layer.OBJECTS})
    taken(gate, signer.sign(packed(1, layer=Layer.OBJECTS), NOW))
    for fields in ({"layer": Layer.FEATURES}, {"layer": Layer.REQUEST}, {"payload": b"\x05a plan"}):
        data = signer.sign(packed(2, **{"layer": Layer.OBJECTS, **fields}), NOW)
        assert refused(gate, data) is Reason.CERTIFICATE


def test_a_certificate_must_be_valid_at_capture_and_on_arrival(made):
    gate = Gate(99, verifier=made.verifier())
    signer = made.signer(from_s=NOW // S)
    taken(gate, signer.sign(packed(1), NOW))
    early = signer.sign(packed(2, capture_ns=NOW - MS), NOW)
    assert refused(gate, early) is Reason.CERTIFICATE
    ending = made.signer(8, until_s=NOW // S + 1)
    sent_ns = NOW + S - 30 * MS
    data = ending.sign(packed(1, station=8, capture_ns=sent_ns), sent_ns)
    assert refused(gate, data, NOW + S) is Reason.CERTIFICATE
    taken(gate, data, NOW + S - 1)


def test_forgeries_do_not_use_up_a_stations_rate_nor_its_sequence_numbers(made):
    gate, signer = Gate(99, verifier=made.verifier(), max_rate_hz=3), made.signer()
    taken(gate, signer.sign(packed(1), NOW))
    for k in range(2, 50):
        forged = bytearray(signer.sign(packed(k), NOW))
        forged[40] ^= 1
        assert refused(gate, bytes(forged)) is Reason.SIGNATURE
    taken(gate, signer.sign(packed(2), NOW))
    taken(gate, signer.sign(packed(3), NOW))
    assert refused(gate, signer.sign(packed(4), NOW)) is Reason.FLOOD


def test_a_flood_is_refused_until_the_stations_rate_allows_more():
    gate = Gate(99, max_rate_hz=10)
    for k in range(10):
        taken(gate, unsigned(k))
    assert refused(gate, unsigned(10)) is Reason.FLOOD
    taken(gate, unsigned(10), NOW + 100 * MS)
    assert refused(gate, unsigned(11), NOW + 100 * MS) is Reason.FLOOD


def test_more_stations_than_are_kept_are_refused_until_one_is_silent():
    gate = Gate(999, max_stations=200)
    for station in range(1, 201):
        taken(gate, unsigned(1, station=station))
    assert refused(gate, unsigned(1, station=201)) is Reason.STATIONS
    later = NOW + 6 * S
    taken(gate, unsigned(1, station=201, capture_ns=later), later)


def test_a_station_that_restarted_is_taken_once_it_was_silent():
    gate = Gate(99)
    taken(gate, unsigned(70_000))
    soon = NOW + S
    assert refused(gate, unsigned(1, capture_ns=soon), soon) is Reason.REPLAY
    later = NOW + 6 * S
    taken(gate, unsigned(1, capture_ns=later), later)


def test_a_clock_of_ours_that_jumps_back_starts_anew():
    gate = Gate(99)
    taken(gate, unsigned(5))
    earlier = NOW - 3600 * S
    taken(gate, unsigned(5, capture_ns=earlier), earlier)
    assert refused(gate, unsigned(5, capture_ns=earlier), earlier) is Reason.REPLAY


@pytest.mark.parametrize("rate", [0.1, -0.1])
def test_a_peer_whose_clock_drifts_100_ms_a_second_ends_refused(rate):
    gate = Gate(99)
    reasons, ages = drift(gate, rate)
    assert set(reasons) <= {Reason.CLOCK, Reason.FUTURE, Reason.EXPIRED}
    assert len(ages) < 45 and len(reasons) > 350
    assert Reason.CLOCK in reasons if rate < 0 else reasons[0] is Reason.FUTURE
    assert max(ages) < 400 and min(ages) > -51


def test_a_peer_whose_clock_does_not_drift_is_never_refused():
    reasons, ages = drift(Gate(99), 0.0)
    assert not reasons and len(ages) == 400
    assert not drift(Gate(99), 1e-4)[0]  # a poor quartz


def test_forged_replayed_and_mutated_messages_are_all_refused_and_nothing_else_raises(made):
    rng = np.random.default_rng(11)
    gate = Gate(99, verifier=made.verifier(), max_rate_hz=1e6)
    signers = [made.signer(s) for s in (7, 8)]
    crook = pki()
    genuine = []
    for k in range(40):
        message = signers[k % 2].sign(packed(k, station=7 + k % 2), NOW)
        taken(gate, message)
        genuine.append(message)
    fresh = [signers[k % 2].sign(packed(100 + k, station=7 + k % 2), NOW) for k in range(40)]
    assert {m[0] for m in fresh} == {WITH_HINT}
    forgers = [crook.signer(s) for s in (7, 8)]
    for k in range(5000):
        kind = k % 5
        if kind == 0:
            data = genuine[int(rng.integers(40))]
        elif kind == 1:
            data = forgers[k % 2].sign(packed(200 + k, station=7 + k % 2), NOW + k * 100 * MS)
        elif kind == 2:
            mutated = bytearray(fresh[int(rng.integers(40))])
            for at in rng.integers(0, len(mutated), int(rng.integers(1, 4))):
                mutated[at] ^= int(rng.integers(1, 256))
            data = bytes(mutated)
        elif kind == 3:
            whole = fresh[int(rng.integers(40))]
            cut = int(rng.integers(0, len(whole)))
            data = whole[:cut] + bytes(
                rng.integers(0, 256, int(rng.integers(0, 9)), dtype=np.uint8)
            )
            if data == whole:
                continue
        else:
            size = int(rng.integers(0, 1500))
            data = bytes(rng.integers(0, 256, size, dtype=np.uint8))
        refused(gate, data)
    assert gate.admitted == 40
    assert all(gate.counts[r] for r in (Reason.REPLAY, Reason.CERTIFICATE, Reason.SIGNATURE))
    for message in fresh:
        taken(gate, message)
