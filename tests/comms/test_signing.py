"""Certificates and signatures: what is believed, and why not."""

import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from comms import signing
from comms.certificates import (
    CERTIFICATE_BYTES,
    Certificate,
    RevocationList,
    digest_of,
    issue,
    point_of,
    revoke,
    sign,
)
from comms.envelope import Layer
from comms.reasons import Reason, Rejected
from comms.signing import (
    ASKING,
    HINT_BYTES,
    MAX_ASKED,
    OVERHEAD_BYTES,
    WITH_CERTIFICATE,
    WITH_HINT,
    Credentials,
    Signer,
    TrustStore,
    Verifier,
    frame_unsigned,
    hint_of,
    split,
)
from pipeline.errors import InputError
from tests.comms.made import MS, NOW, Pki, S, pki

DATA = b"an envelope"


@pytest.fixture(scope="module")
def made() -> Pki:
    return pki()


def refused(verifier, message, now_ns=NOW):
    with pytest.raises(Rejected) as caught:
        verifier.open(message, now_ns)
    return caught.value.reason


def test_the_certificate_goes_along_every_so_often_and_a_hint_in_between(made):
    signer, verifier = Signer(made.credentials(), every_ns=S), made.verifier()
    kinds = []
    for k in range(31):
        now_ns = NOW + 100 * MS * k
        overhead = signer.overhead(now_ns)
        message = signer.sign(DATA, now_ns)
        kinds.append(message[0])
        assert len(message) == len(DATA) + overhead == len(DATA) + OVERHEAD_BYTES[message[0]]
        assert verifier.open(message, now_ns)[0] == DATA
    assert kinds == [2, 1, 1, *[2, *[1] * 9] * 3][:31]  # twice at the start
    assert signer.sign(DATA, NOW - 3600 * S)[0] == WITH_CERTIFICATE  # a clock that jumped back
    assert OVERHEAD_BYTES == {0: 1, 1: 69, 2: 184}


@pytest.mark.parametrize(("loss", "after_ms"), [(0.0, 10_000), (0.5, 2500), (0.9, 250)])
def test_it_goes_along_more_often_where_asks_and_answers_are_lost(made, loss, after_ms):
    signer = made.signer()
    signer.loss = loss
    for start in (NOW - S, NOW):
        assert signer.sign(DATA, start)[0] == WITH_CERTIFICATE
    at = [k for k in range(1, 200) if signer.sign(DATA, NOW + 100 * k * MS)[0] == WITH_CERTIFICATE]
    assert at[0] * 100 == -(-after_ms // 100) * 100


def attached(signer, since, at_ms):
    """Whether the certificate is in a message at NOW plus so much, after the start's two."""
    for before in (signer.sign(DATA, NOW - S), signer.sign(DATA, NOW)):
        assert before[0] == WITH_CERTIFICATE
    since(signer)
    return signer.sign(DATA, NOW + at_ms * MS)[0] & 2 > 0


def test_it_goes_along_where_it_is_asked_for_or_a_station_is_met(made):
    hint = hint_of(made.signer().sign(DATA, NOW)[1:120])
    for at_ms in (200, 300, 900, 1100, 9900):
        credentials = made.credentials()
        mine = hint_of(credentials.certificate.pack())
        assert attached(Signer(credentials), lambda s, h=mine: s.heard([hint, h], True), at_ms) is (
            at_ms >= 250
        )
        assert not attached(Signer(credentials), lambda s: s.heard([hint], True), at_ms)
        assert attached(Signer(credentials), lambda s: s.met(), at_ms) is (at_ms >= 1000)
        stranger = attached(Signer(credentials), lambda s, h=mine: s.heard([h], False), at_ms)
        assert stranger is (at_ms >= 1000)


def test_what_is_not_known_is_asked_for_once_and_under_the_signature(made):
    signer, verifier = made.signer(), made.verifier()
    verifier.open(signer.sign(DATA, NOW), NOW)
    hints = [bytes([k]) * HINT_BYTES for k in range(MAX_ASKED + 3)]
    for hint in [*hints, hints[-1]]:
        signer.ask(hint)
    overhead = signer.overhead(NOW)
    message = signer.sign(DATA, NOW)
    assert message[0] == WITH_HINT | ASKING
    assert len(message) == len(DATA) + overhead == len(DATA) + 69 + 1 + HINT_BYTES * MAX_ASKED
    assert split(message).asked == tuple(hints[-MAX_ASKED:])  # whoever makes some up keeps none out
    assert verifier.open(message, NOW)[0] == DATA
    assert signer.sign(DATA, NOW)[0] == WITH_HINT
    for at in (5, 6, 20):  # their number, the hints
        wrong = bytearray(message)
        wrong[at] ^= 1
        refused(verifier, bytes(wrong))
    for end in range(len(message)):
        refused(verifier, message[:end])
    for count in (0, MAX_ASKED + 1):
        wrong = message[:5] + bytes([count]) + message[6:]
        assert refused(verifier, wrong) is Reason.MALFORMED
    assert refused(verifier, bytes([ASKING]) + message[1:]) is Reason.VERSION


def test_a_hint_is_unknown_until_its_certificate_came(made):
    signer, verifier = made.signer(), made.verifier()
    first, second = signer.sign(DATA, NOW), signer.sign(DATA, NOW + 1)
    assert second[0] == WITH_HINT
    assert refused(verifier, second) is Reason.UNKNOWN_SIGNER
    verifier.open(first, NOW)
    data, certificate = verifier.open(second, NOW)
    assert (data, certificate.station) == (DATA, 7)


def test_any_flipped_bit_of_a_signed_message_is_refused(made):
    signer, verifier = made.signer(), made.verifier()
    for message in (signer.sign(DATA, NOW), signer.sign(DATA, NOW + 1)):
        verifier.open(message, NOW)
        for at in range(len(message)):
            wrong = bytearray(message)
            wrong[at] ^= 1 << at % 8
            refused(verifier, bytes(wrong))
        for end in range(len(message)):
            refused(verifier, message[:end])


def test_what_is_wrong_is_told_apart(made):
    verifier = made.verifier()
    message = made.signer().sign(DATA, NOW)
    assert refused(verifier, b"") is Reason.TRUNCATED
    assert refused(verifier, message[:100]) is Reason.TRUNCATED
    assert refused(verifier, b"\3" + message[1:]) is Reason.VERSION
    assert refused(verifier, frame_unsigned(DATA)) is Reason.UNSIGNED
    assert refused(verifier, message[:-1] + b"!") is Reason.SIGNATURE
    assert refused(verifier, pki().signer().sign(DATA, NOW)) is Reason.CERTIFICATE  # other root
    certificate = bytearray(message)
    certificate[3] ^= 1  # its station
    assert refused(verifier, bytes(certificate)) is Reason.CERTIFICATE
    zero = message[: 1 + CERTIFICATE_BYTES] + bytes(64) + DATA
    assert refused(verifier, zero) is Reason.SIGNATURE


def test_one_stations_signature_does_not_hold_under_anothers_certificate(made):
    verifier = made.verifier()
    a, b = made.signer(7).sign(DATA, NOW), made.signer(8).sign(DATA, NOW)
    mixed = b[: 1 + CERTIFICATE_BYTES] + a[1 + CERTIFICATE_BYTES :]
    assert refused(verifier, mixed) is Reason.SIGNATURE


def test_a_certificate_that_expires_in_flight_is_refused_though_it_is_known(made):
    signer, verifier = made.signer(until_s=NOW // S + 1), made.verifier()
    verifier.open(signer.sign(DATA, NOW), NOW)
    last = signer.sign(DATA, NOW + S - 1)
    verifier.open(last, NOW + S - 1)
    assert refused(verifier, last, NOW + S) is Reason.CERTIFICATE
    assert refused(verifier, last, NOW - 3601 * S) is Reason.CERTIFICATE  # not yet valid
    assert refused(verifier, last, NOW + 44_000 * S) is Reason.CERTIFICATE  # the root has expired


def test_a_revoked_certificate_is_refused_attached_or_by_hint(made):
    credentials = made.credentials()
    signer = Signer(credentials)
    verifier = made.verifier(revoked=[credentials.certificate])
    assert refused(verifier, signer.sign(DATA, NOW)) is Reason.REVOKED
    assert refused(verifier, signer.sign(DATA, NOW + 1)) is Reason.REVOKED


def test_a_certificate_whose_key_is_no_point_of_the_curve_is_refused(made):
    blank = replace(made.credentials().certificate, point=b"\2" + b"\xff" * 32)
    packed = blank.signed_part() + sign(made.key, blank.signed_part())
    message = bytes([WITH_CERTIFICATE]) + packed + bytes(64) + DATA
    assert refused(made.verifier(), message) is Reason.CERTIFICATE


def test_a_station_cannot_issue_certificates(made):
    crook = made.credentials(7)
    key = ec.generate_private_key(ec.SECP256R1())
    now_s = NOW // S
    point = point_of(key.public_key())
    child = issue(crook.key, crook.certificate, point, 8, now_s, now_s + 60)
    message = Signer(Credentials(child, key)).sign(DATA, NOW)
    assert refused(made.verifier(), message) is Reason.CERTIFICATE
    claimed = replace(child, issuer=made.root.digest)
    forged = claimed.signed_part() + sign(crook.key, claimed.signed_part())
    message = Signer(Credentials(Certificate.unpack(forged), key)).sign(DATA, NOW)
    assert refused(made.verifier(), message) is Reason.CERTIFICATE


def test_the_store_of_known_certificates_is_bounded_and_keeps_the_last_used(made, monkeypatch):
    monkeypatch.setattr(signing, "MAX_CACHED", 3)
    verifier, signers = made.verifier(), [made.signer(k + 1) for k in range(4)]
    for signer in signers[:3]:
        verifier.open(signer.sign(DATA, NOW), NOW)
    verifier.open(signers[0].sign(DATA, NOW), NOW)  # by hint: used again
    verifier.open(signers[3].sign(DATA, NOW), NOW)
    assert refused(verifier, signers[1].sign(DATA, NOW)) is Reason.UNKNOWN_SIGNER
    for k in (0, 2, 3):
        verifier.open(signers[k].sign(DATA, NOW), NOW)


def test_certificates_and_revocation_lists_round_trip(made):
    certificate = made.credentials(2**32 - 1, layers={Layer.REQUEST, Layer.OBJECTS}).certificate
    assert Certificate.unpack(certificate.pack()) == certificate
    assert certificate.digest == digest_of(certificate.pack())
    listed = revoke(made.key, made.root, [certificate, made.root], NOW // S)
    assert RevocationList.unpack(listed.pack()) == listed
    assert RevocationList.unpack(revoke(made.key, made.root, [], 0).pack()).digests == frozenset()


@pytest.mark.parametrize("kind", [Certificate, RevocationList])
def test_damaged_certificates_and_lists_are_refused(made, kind):
    certificate = made.credentials().certificate
    listed = revoke(made.key, made.root, [certificate], 0)
    data = (certificate if kind is Certificate else listed).pack()
    for wrong in (
        b"",
        data[:-1],
        data + b"\0",
        b"\2" + data[1:],
        data[:5] + b"\xff" * len(data[5:]),
    ):
        with pytest.raises(InputError):
            kind.unpack(wrong)


@pytest.fixture
def folder(made, tmp_path):
    """As `leadsight v2x-pki` writes, for one station."""
    credentials = made.credentials()
    pem = credentials.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    os.chmod(tmp_path / "key.pem", 0o600)
    (tmp_path / "certificate.bin").write_bytes(credentials.certificate.pack())
    (tmp_path / "root.bin").write_bytes(made.root.pack())
    (tmp_path / "revoked.bin").write_bytes(revoke(made.key, made.root, [], 0).pack())
    return tmp_path


def test_what_was_loaded_signs_and_verifies(folder):
    message = Signer(Credentials.load(folder)).sign(DATA, NOW)
    assert Verifier(TrustStore.load(folder)).open(message, NOW)[0] == DATA


def test_a_key_that_others_can_read_is_refused(folder):
    os.chmod(folder / "key.pem", 0o640)
    with pytest.raises(InputError, match="chmod 600"):
        Credentials.load(folder)


def test_damaged_or_missing_files_are_refused_by_name(folder, made):
    other = ec.generate_private_key(ec.SECP256R1())
    wrong_curve = ec.generate_private_key(ec.SECP384R1())
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    damaged = {
        "key.pem": [b"", b"\0" * 99, other.private_bytes(*form), wrong_curve.private_bytes(*form)],
        "certificate.bin": [b"", b"\1" * CERTIFICATE_BYTES],
        "root.bin": [b"", replace(made.root, station=1).pack(), pki().root.pack()],
        "revoked.bin": [b"", revoke(other, made.root, [], 0).pack(), bytes(2_000_000)],
    }
    for name, contents in damaged.items():
        good = (folder / name).read_bytes()
        load = Credentials.load if name in ("key.pem", "certificate.bin") else TrustStore.load
        for content in contents:
            (folder / name).write_bytes(content)
            with pytest.raises(InputError):
                load(folder)
        (folder / name).unlink()
        with pytest.raises(InputError, match="v2x-pki"):
            load(folder)
        (folder / name).write_bytes(good)
        os.chmod(folder / name, 0o600)
        load(folder)
