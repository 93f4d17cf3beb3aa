"""Who may send what, until when: certificates of one root, and the list of those called back.

After IEEE 1609.2 and ETSI TS 103 097 in manner, not in bytes: a self-signed root issues one
authorization ticket a station (ECDSA P-256 over SHA-256, compressed points, signatures as r‖s), and
a certificate is named by the low-order eight bytes of its hash. A ticket here also names its
station and the layers it may send.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from comms.envelope import Layer
from pipeline.errors import InputError

CERTIFICATE_VERSION = 1
DIGEST_BYTES = 8
SIGNATURE_BYTES = 64
MAX_REVOKED = 100_000
_FIELDS = struct.Struct(">BIBII8s33s")
CERTIFICATE_BYTES = _FIELDS.size + SIGNATURE_BYTES
_REVOKED = struct.Struct(">BII8s")
_ECDSA = ec.ECDSA(hashes.SHA256())
ROOT_ISSUER = bytes(DIGEST_BYTES)
"""What a root names as its issuer."""


def digest_of(data: bytes) -> bytes:
    """(8,) bytes that name a certificate: HashedId8."""
    return hashlib.sha256(data).digest()[-DIGEST_BYTES:]


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """(64,) bytes r‖s."""
    r, s = decode_dss_signature(key.sign(data, _ECDSA))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def holds(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` of 64 bytes is the key's over ``data``."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), data, _ECDSA)
    except InvalidSignature:
        return False
    return True


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """(33,) bytes, the compressed point."""
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


@dataclass(frozen=True, slots=True)
class Certificate:
    """station: whose, 0 for a root. layers: what it may send. from_s, until_s: seconds of the
    stations' common clock between which it is valid. issuer: (8,) bytes, digest of the root's.
    point: (33,) bytes, public key. signature: (64,) bytes of the issuer."""

    station: int
    layers: frozenset[Layer]
    from_s: int
    until_s: int
    issuer: bytes
    point: bytes
    signature: bytes = field(default=bytes(SIGNATURE_BYTES))

    def signed_part(self) -> bytes:
        """What the issuer signs."""
        mask = sum(1 << layer for layer in self.layers)
        return _FIELDS.pack(
            CERTIFICATE_VERSION, self.station, mask, self.from_s, self.until_s, self.issuer,
            self.point,
        )  # fmt: skip

    def pack(self) -> bytes:
        """``CERTIFICATE_BYTES`` bytes."""
        return self.signed_part() + self.signature

    @property
    def digest(self) -> bytes:
        return digest_of(self.pack())

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Raises InputError: ``point`` is none of the curve."""
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.point)
        except ValueError:
            raise InputError("certificate: its key is no point of P-256") from None

    def valid_at(self, time_ns: int) -> bool:
        return self.from_s * 10**9 <= time_ns < self.until_s * 10**9

    @classmethod
    def unpack(cls, data: bytes) -> "Certificate":
        """Raises InputError: another length, version or layer."""
        if len(data) != CERTIFICATE_BYTES:
            raise InputError(f"certificate: {len(data)} bytes, not {CERTIFICATE_BYTES}")
        version, station, mask, from_s, until_s, issuer, point = _FIELDS.unpack_from(data)
        if version != CERTIFICATE_VERSION or mask >= 2 << max(Layer):
            raise InputError(f"certificate: version {version}, layers {mask:#x} are not known")
        layers = frozenset(layer for layer in Layer if mask >> layer & 1)
        return cls(station, layers, from_s, until_s, issuer, point, data[_FIELDS.size :])


def issue(
    key: ec.EllipticCurvePrivateKey,
    root: Certificate | None,
    point: bytes,
    station: int,
    from_s: int,
    until_s: int,
    layers: Iterable[Layer] = Layer,
) -> Certificate:
    """A certificate signed with the root's ``key``; the root's own where ``root`` is None.

    Raises:
        InputError: times that 32 bits cannot hold, or that end before they begin.
    """
    if not 0 <= from_s < until_s < 2**32:
        raise InputError(f"certificate: valid from {from_s} to {until_s} s; give 0 to 2³²−1")
    issuer = root.digest if root else ROOT_ISSUER
    blank = Certificate(station, frozenset(layers), from_s, until_s, issuer, point)
    return Certificate.unpack(blank.signed_part() + sign(key, blank.signed_part()))


@dataclass(frozen=True, slots=True)
class RevocationList:
    """digests: of the certificates called back, as of ``issued_s``; issuer: digest of the root."""

    issued_s: int
    issuer: bytes
    digests: frozenset[bytes]
    signature: bytes = field(default=bytes(SIGNATURE_BYTES))

    def signed_part(self) -> bytes:
        head = _REVOKED.pack(CERTIFICATE_VERSION, self.issued_s, len(self.digests), self.issuer)
        return head + b"".join(sorted(self.digests))

    def pack(self) -> bytes:
        return self.signed_part() + self.signature

    @classmethod
    def unpack(cls, data: bytes) -> "RevocationList":
        """Raises InputError: another length or version, or over ``MAX_REVOKED``."""
        if len(data) < _REVOKED.size + SIGNATURE_BYTES:
            raise InputError(f"revocation list: {len(data)} bytes are too few")
        version, issued_s, count, issuer = _REVOKED.unpack_from(data)
        end = _REVOKED.size + count * DIGEST_BYTES
        if version != CERTIFICATE_VERSION or count > MAX_REVOKED:
            raise InputError(f"revocation list: version {version} with {count} is not known")
        if len(data) != end + SIGNATURE_BYTES:
            raise InputError(f"revocation list: {len(data)} bytes are not {count} digests")
        starts = range(_REVOKED.size, end, DIGEST_BYTES)
        digests = frozenset(data[at : at + DIGEST_BYTES] for at in starts)
        return cls(issued_s, issuer, digests, data[end:])


def revoke(
    key: ec.EllipticCurvePrivateKey,
    root: Certificate,
    revoked: Iterable[Certificate],
    issued_s: int,
) -> RevocationList:
    """A list signed with the root's ``key``; it may be empty."""
    digests = frozenset(certificate.digest for certificate in revoked)
    blank = RevocationList(issued_s, root.digest, digests)
    return RevocationList.unpack(blank.signed_part() + sign(key, blank.signed_part()))
