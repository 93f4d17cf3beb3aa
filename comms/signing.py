"""Messages framed with or without a signature, and who believes whom.

A framed message is one of::

    0 ‖ envelope                                       unsigned
    1 ‖ hint (4) ‖ signature (64) ‖ envelope           signed, the certificate known by its hint
    2 ‖ certificate (119) ‖ signature (64) ‖ envelope  signed, the certificate attached
    5, 6: as 1 and 2, but before the signature stand a count and as many hints that are asked for

A hint is the end of a certificate's digest. The certificate goes along with the first message and
soon once more, where its hint is asked for, where a station is met, and every so often for those
who only listen, more often where much is lost, as peer-to-peer certificate distribution of IEEE
1609.2 does. A signature covers the SHA-256 of the signer's certificate, what is asked for and the
envelope, so it holds under no other certificate.
"""

import hashlib
import stat
from collections import OrderedDict, deque
from collections.abc import Sequence
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

UNSIGNED, WITH_HINT, WITH_CERTIFICATE = 0, 1, 2
ASKING = 4
"""Flag of a signed message that asks for certificates."""
HINT_BYTES = 4
MAX_ASKED = 2
"""In a message."""
OVERHEAD_BYTES = {
    UNSIGNED: 1,
    WITH_HINT: 1 + HINT_BYTES + SIGNATURE_BYTES,
    WITH_CERTIFICATE: 1 + CERTIFICATE_BYTES + SIGNATURE_BYTES,
}
"""What framing adds to an envelope; asking adds one byte and ``HINT_BYTES`` each."""
CERTIFICATE_EVERY_NS = 10_000_000_000
"""For those who only listen, and do not ask."""
CERTIFICATE_MET_NS = 1_000_000_000
"""After which it goes along once more where a station is met, which may not know it."""
CERTIFICATE_ASKED_NS = 250_000_000
"""However often it is asked for."""
STRANGER_NS = 1_000_000_000
"""The same where nothing proves who asks: two stations may not know each other."""
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
    """The parts of a message. signer: (119,) a certificate, (4,) its hint, or b"" of none. asked:
    hints of certificates that its sender does not know."""

    signer: bytes
    asked: tuple[bytes, ...]
    signature: bytes
    envelope: bytes


def split(message: bytes) -> Framed:
    """The parts of a message; nothing is verified.

    Raises:
        Rejected: TRUNCATED, MALFORMED where it asks for too many certificates or none, or VERSION
            where it begins as none of ours.
    """
    kind = message[0] if message else UNSIGNED
    overhead, asking = OVERHEAD_BYTES.get(kind & ~ASKING), bool(kind & ASKING)
    if overhead is None or (asking and kind == ASKING):
        raise Rejected(Reason.VERSION, f"it begins with {kind}, which is none of ours")
    end = overhead - SIGNATURE_BYTES
    count = message[end] if asking and len(message) > end else 0
    if count > MAX_ASKED or (asking and len(message) > end and not count):
        raise Rejected(Reason.MALFORMED, f"it asks for {count} certificates")
    after = end + (1 + HINT_BYTES * count if asking else 0)
    if len(message) <= (1 if kind == UNSIGNED else after + SIGNATURE_BYTES):
        raise Rejected(Reason.TRUNCATED, f"{len(message)} bytes; framing has {overhead}")
    if kind == UNSIGNED:
        return Framed(b"", (), b"", message[1:])
    hints = message[end + 1 : after]
    asked = tuple(hints[k : k + HINT_BYTES] for k in range(0, len(hints), HINT_BYTES))
    start = after + SIGNATURE_BYTES
    return Framed(message[1:end], asked, message[after:start], message[start:])


def hint_of(signer: bytes) -> bytes:
    """(4,) bytes that name the certificate of a signed message."""
    return digest_of(signer)[-HINT_BYTES:] if len(signer) == CERTIFICATE_BYTES else signer


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
    """Signs a station's envelopes.

    every_ns: the certificate goes along at least so often, and more often the more of the messages
    are lost, share ``loss``, since an ask and its answer must both arrive; for that no more often
    than each least_ns. layers: what others will take.
    """

    def __init__(self, credentials: Credentials, every_ns: int = CERTIFICATE_EVERY_NS) -> None:
        self.station = credentials.certificate.station
        self.layers = credentials.certificate.layers
        self.every_ns, self.least_ns, self.loss = every_ns, CERTIFICATE_ASKED_NS, 0.0
        self._key = credentials.key
        self._certificate = credentials.certificate.pack()
        self._hint = hint_of(self._certificate)
        self._attached_ns: int | None = None
        self._wait_ns = every_ns
        self._asks: deque[bytes] = deque(maxlen=MAX_ASKED)

    def met(self) -> None:
        """A station was heard that may not know the certificate."""
        self._wait_ns = min(self._wait_ns, CERTIFICATE_MET_NS)

    def heard(self, asked: Sequence[bytes], known: bool) -> None:
        """What somebody asked for, who is known or not; if it is this certificate, it goes along
        with the next message unless it did just now."""
        if self._hint in asked:
            self._wait_ns = min(self._wait_ns, CERTIFICATE_ASKED_NS if known else STRANGER_NS)

    def ask(self, hint: bytes) -> None:
        """Ask in the next message for a certificate that is not known; the newest hints are asked
        for, so that none who makes some up keeps others out for long."""
        if hint not in self._asks:
            self._asks.append(hint)

    def overhead(self, now_ns: int) -> int:
        """Bytes that signing adds to a message now."""
        kind = WITH_CERTIFICATE if self._due(now_ns) else WITH_HINT
        return OVERHEAD_BYTES[kind] + (1 + HINT_BYTES * len(self._asks) if self._asks else 0)

    def _due(self, now_ns: int) -> bool:
        if self._attached_ns is None:
            return True
        often_ns = max(self.least_ns, self.every_ns * (1 - self.loss) ** 2)
        since = now_ns - self._attached_ns
        return not 0 <= since < min(self._wait_ns, often_ns)  # or the clock jumped back

    def sign(self, envelope: bytes, now_ns: int) -> bytes:
        """The framed message."""
        kind, signer, asks = WITH_HINT, self._hint, b""
        if self._due(now_ns):
            kind, signer = WITH_CERTIFICATE, self._certificate
            first = self._attached_ns is None  # soon once more, for it may get lost
            self._wait_ns = CERTIFICATE_ASKED_NS if first else self.every_ns
            self._attached_ns = now_ns
        if self._asks:
            kind, asks = kind | ASKING, bytes([len(self._asks)]) + b"".join(self._asks)
            self._asks.clear()
        signature = sign(self._key, _signed(self._certificate, asks + envelope))
        return bytes([kind]) + signer + asks + signature + envelope


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
        self._revoked = frozenset(digest[-HINT_BYTES:] for digest in trust.revoked)
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
        if not framed.signature:
            raise Rejected(Reason.UNSIGNED, "this station takes signed messages only")
        known = self._certificate(framed.signer)
        if not (known.certificate.valid_at(now_ns) and self._trust.root.valid_at(now_ns)):
            raise Rejected(Reason.CERTIFICATE, "the certificate is not valid now")
        asked = bytes([len(framed.asked)]) + b"".join(framed.asked) if framed.asked else b""
        if not holds(known.key, framed.signature, _signed(known.packed, asked + framed.envelope)):
            raise Rejected(Reason.SIGNATURE, "the signature does not hold")
        return known.certificate

    def _certificate(self, signer: bytes) -> _Known:
        attached = len(signer) == CERTIFICATE_BYTES
        hint = hint_of(signer)
        known = self._known.get(hint)
        if known is not None and (not attached or known.packed == signer):
            self._known.move_to_end(hint)
            return known
        if digest_of(signer) in self._trust.revoked if attached else hint in self._revoked:
            raise Rejected(Reason.REVOKED, "the certificate was called back")
        if not attached:
            raise Rejected(Reason.UNKNOWN_SIGNER, "its certificate was not received yet")
        known = self._check(signer)
        self._known[hint] = known
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
