"""Why a message is not used: one word each, for counters and diagnostics."""

from enum import Enum

from pipeline.errors import InputError


class Reason(str, Enum):
    """The first thing found wrong with a message, cheap checks first."""

    OVERSIZE = "oversize"
    """More bytes than one datagram may hold."""
    TRUNCATED = "truncated"
    """Fewer bytes than it says it has."""
    VERSION = "version"
    """Another protocol, or another version of ours."""
    CRC = "crc"
    """Damaged on the way."""
    MALFORMED = "malformed"
    """Whole, but a field is impossible, absurd or not finite."""
    FRAME = "frame"
    """Positions in another frame than ours."""
    FUTURE = "future"
    """Captured later than now."""
    EXPIRED = "expired"
    """Past its time to live, or ancient."""
    REPLAY = "replay"
    """Seen before, or so far behind that this cannot be told."""
    UNSIGNED = "unsigned"
    """No signature where one is required."""
    UNKNOWN_SIGNER = "unknown signer"
    """Signed under a certificate that was not received yet."""
    CERTIFICATE = "certificate"
    """Not issued by our root, expired, not yet valid, or for another station or layer."""
    REVOKED = "revoked"
    """Its certificate was called back."""
    SIGNATURE = "signature"
    """The signature does not hold."""
    OWN = "own"
    """An echo of what we sent."""
    FLOOD = "flood"
    """Too many messages from one station."""
    CLOCK = "clock"
    """The station's clock drifts against ours."""
    STATIONS = "stations"
    """More stations at once than are kept."""


class Rejected(InputError):  # noqa: N818
    """A message that is not used. ``reason`` says why, the text names the message's fault."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason.value}: {text}")
        self.reason = reason
