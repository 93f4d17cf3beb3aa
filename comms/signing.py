"""Messages framed with or without a signature, and who believes whom.

A framed message is one of::

    0 ‖ envelope                                       unsigned
    1 ‖ digest (8) ‖ signature (64) ‖ envelope         signed, the certificate known by its digest
    2 ‖ certificate (119) ‖ signature (64) ‖ envelope  signed, the certificate attached

The certificate goes along once a second, as in ETSI TS 103 097. A signature covers the SHA-256 of
the signer's certificate and the envelope, so it holds under no other certificate.
"""

import hashlib
import stat
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from comms.certificates import (
    CERTIFICATE_BYTES,
    DIGEST_BYTES,
    MAX_REVOKED,
    SIGNATURE_BYTES,
    Certificate,
    RevocationList,
    digest_of,
    holds,
    point_of,
    sign,
)
from comms.reasons import Reason, Rejected
from pipeline.errors import InputError

UNSIGNED, WITH_DIGEST, WITH_CERTIFICATE = 0, 1, 2
OVERHEAD_BYTES = {
    UNSIGNED: 1,
    WITH_DIGEST: 1 + DIGEST_BYTES + SIGNATURE_BYTES,
    WITH_CERTIFICATE: 1 + CERTIFICATE_BYTES + SIGNATURE_BYTES,
}
"""What framing adds to an envelope."""
CERTIFICATE_EVERY_NS = 1_000_000_000
CERTIFICATE_ASKED_NS = 250_000_000
"""However often strangers ask for it."""
CERTIFICATE_FILE, KEY_FILE = "certificate.bin", "key.pem"
ROOT_FILE, REVOKED_FILE = "root.bin", "revoked.bin"
MAX_CACHED = 1024
_MAX_FILE_BYTES = 64 + MAX_REVOKED * DIGEST_BYTES + SIGNATURE_BYTES


def read_file(path: Path) -> bytes:
    """A small file of keys or certificates.

    Raises:
        InputError: it cannot be read, or is larger than any.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"{path}: over {_MAX_FILE_BYTES} bytes is none of `leadsight v2x-pki`")
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); `leadsight v2x-pki` makes one"
        ) from None


def frame_unsigned(envelope: bytes) -> bytes:
    """A message without a signature."""
    return bytes([UNSIGNED]) + envelope


@dataclass(frozen=True, slots=True)
class Framed:
    """The parts of a message. signer: (119,) a certificate, (8,) its digest, or b"" of none."""

    kind: int
    signer: bytes
    signature: bytes
    envelope: bytes


def split(message: bytes) -> Framed:
    """The parts of a message; nothing is verified.

    Raises:
        Rejected: TRUNCATED, or VERSION where it begins as none of ours.
    """
    overhead = OVERHEAD_BYTES.get(message[0]) if message else 1
    if overhead is None:
        raise Rejected(Reason.VERSION, f"it begins with {message[0]}, not with 0, 1 or 2")
    if len(message) <= overhead:
        raise Rejected(Reason.TRUNCATED, f"{len(message)} bytes; framing has {overhead}")
    if message[0] == UNSIGNED:
        return Framed(UNSIGNED, b"", b"", message[1:])
    at = overhead - SIGNATURE_BYTES
    return Framed(message[0], message[1:at], message[at:overhead], message[overhead:])


@dataclass(frozen=True, slots=True)
class Credentials:
    """A station's certificate and private key."""

    certificate: Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load(cls, folder: Path) -> "Credentials":
        """Read ``certificate.bin`` and ``key.pem``.

        Raises:
            InputError: one is missing, damaged, does not belong to the other, or the key can be
                read by others.
        """
        path = folder / KEY_FILE
        pem = read_file(path)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(f"{path}: others can read the key; `chmod 600` it")
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise InputError(f"{path}: no private key without password in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise InputError(f"{path}: the key is not of P-256")
        certificate = Certificate.unpack(read_file(folder / CERTIFICATE_FILE))
        if point_of(key.public_key()) != certificate.point:
            raise InputError(f"{folder}: {CERTIFICATE_FILE} is for another key than {KEY_FILE}")
        return cls(certificate, key)


class Signer:
    """Signs a station's envelopes."""

    def __init__(self, credentials: Credentials) -> None:
        self.station = credentials.certificate.station
        self._key = credentials.key
        self._certificate = credentials.certificate.pack()
        self._attached_ns: int | None = None
        self._wanted = False

    def attach_next(self) -> None:
        """Let the next message carry the certificate, if none did of late: somebody may not know
        it yet."""
        self._wanted = True

    def sign(self, envelope: bytes, now_ns: int) -> bytes:
        """The framed message, with the certificate once a second and its digest in between."""
        since = None if self._attached_ns is None else now_ns - self._attached_ns
        wait_ns = CERTIFICATE_ASKED_NS if self._wanted else CERTIFICATE_EVERY_NS
        if since is None or not 0 <= since < wait_ns:  # or the clock jumped back
            self._attached_ns, self._wanted = now_ns, False
            head = bytes([WITH_CERTIFICATE]) + self._certificate
        else:
            head = bytes([WITH_DIGEST]) + digest_of(self._certificate)
        return head + sign(self._key, _signed(self._certificate, envelope)) + envelope


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The root that is believed, and the digests of certificates that it called back."""

    root: Certificate
    revoked: frozenset[bytes]

    @classmethod
    def load(cls, path: Path) -> "TrustStore":
        """Read ``root.bin`` and ``revoked.bin`` of a folder.

        Raises:
            InputError: one is missing, damaged, or not signed by the root.
        """
        root = Certificate.unpack(read_file(path / ROOT_FILE))
        revoked = RevocationList.unpack(read_file(path / REVOKED_FILE))
        key = root.public_key()
        if not holds(key, root.signature, root.signed_part()):
            raise InputError(f"{path / ROOT_FILE}: its own signature does not hold")
        if revoked.issuer != root.digest or not holds(
            key, revoked.signature, revoked.signed_part()
        ):
            raise InputError(f"{path / REVOKED_FILE}: not signed by {ROOT_FILE}")
        return cls(root, revoked.digests)


@dataclass(frozen=True, slots=True)
class _Known:
    certificate: Certificate
    packed: bytes
    key: ec.EllipticCurvePublicKey


class Verifier:
    """Believes messages whose certificate the root issued. Keeps the ``MAX_CACHED`` certificates
    that were used last; none enters before the root's signature on it held."""

    def __init__(self, trust: TrustStore) -> None:
        self._trust = trust
        self._root_key = trust.root.public_key()
        self._root_digest = trust.root.digest
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def open(self, message: bytes, now_ns: int) -> tuple[bytes, Certificate]:
        """The envelope, and the certificate under which its signature holds at ``now_ns``.

        Raises:
            Rejected: TRUNCATED, VERSION, UNSIGNED, UNKNOWN_SIGNER, CERTIFICATE, REVOKED or
                SIGNATURE.
        """
        framed = split(message)
        return framed.envelope, self.verify(framed, now_ns)

    def verify(self, framed: Framed, now_ns: int) -> Certificate:
        """The certificate under which a split message's signature holds; raises as ``open``."""
        if framed.kind == UNSIGNED:
            raise Rejected(Reason.UNSIGNED, "this station takes signed messages only")
        known = self._certificate(framed)
        if not (known.certificate.valid_at(now_ns) and self._trust.root.valid_at(now_ns)):
            raise Rejected(Reason.CERTIFICATE, "the certificate is not valid now")
        if not holds(known.key, framed.signature, _signed(known.packed, framed.envelope)):
            raise Rejected(Reason.SIGNATURE, "the signature does not hold")
        return known.certificate

    def _certificate(self, framed: Framed) -> _Known:
        attached = framed.kind == WITH_CERTIFICATE
        digest = digest_of(framed.signer) if attached else framed.signer
        if digest in self._trust.revoked:
            raise Rejected(Reason.REVOKED, "the certificate was called back")
        known = self._known.get(digest)
        if known is not None and (not attached or known.packed == framed.signer):
            self._known.move_to_end(digest)
            return known
        if not attached:
            raise Rejected(Reason.UNKNOWN_SIGNER, "its certificate was not received yet")
        known = self._check(framed.signer)
        self._known[digest] = known
        if len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
        return known

    def _check(self, packed: bytes) -> _Known:
        try:
            certificate = Certificate.unpack(packed)
            if certificate.issuer != self._root_digest:
                raise InputError("certificate: issued by another root")
            if not holds(self._root_key, certificate.signature, certificate.signed_part()):
                raise InputError("certificate: the root's signature does not hold")
            return _Known(certificate, packed, certificate.public_key())
        except InputError as error:
            raise Rejected(Reason.CERTIFICATE, str(error)) from None


def _signed(certificate: bytes, envelope: bytes) -> bytes:
    return hashlib.sha256(certificate).digest() + envelope
