"""What may come in: every message passes here once, and is refused for one counted reason.

The cheap checks stand first and the signature last, so that a flood costs little. A station's
record (what it sent, how often, its clock) changes only after its signature held: nobody can make
another's messages count as seen, or as too many.
"""

from dataclasses import dataclass, field

from comms.drift import DriftMonitor
from comms.envelope import MTU, TIME_UNIT_NS, Envelope, Layer, unpack
from comms.reasons import Reason, Rejected
from comms.signing import Framed, Verifier, split
from pipeline.pose import MAP

WINDOW = 1024
"""Sequence numbers behind the newest within which an unseen one is still taken."""
_MS = 1_000_000
_MIN_MEMORY_MS = 5000


@dataclass(slots=True)
class _Peer:
    """seen: bit k says whether sequence ``newest − k`` came."""

    newest: int
    seen: int
    tokens: float
    heard_ns: int
    drift: DriftMonitor = field(default_factory=DriftMonitor)

    def is_new(self, sequence: int) -> bool:
        ahead = _ahead(sequence, self.newest)
        return ahead > 0 or (-ahead < WINDOW and not self.seen >> -ahead & 1)

    def mark(self, sequence: int) -> None:
        ahead = _ahead(sequence, self.newest)
        if ahead <= 0:
            self.seen |= 1 << -ahead
            return
        self.seen = ((self.seen << ahead | 1) if ahead < WINDOW else 1) & ((1 << WINDOW) - 1)
        self.newest = sequence


def _ahead(sequence: int, newest: int) -> int:
    """How far ahead of ``newest`` modulo 2³², below zero behind it (RFC 1982)."""
    return (sequence - newest + 2**31) % 2**32 - 2**31


class Gate:
    """Admits messages.

    own_station: whose echoes are refused. frame_id: in which positions must be. verifier: None
    takes messages without looking at signatures. max_future_ms: by how much a capture may lie
    ahead of now. max_age_ms: past which a message is refused whatever its TTL. max_stations: how
    many at a time. max_rate_hz: messages a second and station, all layers and pieces together; a
    second's worth may come at once.
    """

    def __init__(
        self,
        own_station: int,
        frame_id: str = MAP,
        verifier: Verifier | None = None,
        max_future_ms: float = 50.0,
        max_age_ms: float = 2000.0,
        max_stations: int = 256,
        max_rate_hz: float = 200.0,
    ) -> None:
        self.counts = dict.fromkeys(Reason, 0)
        self.admitted = 0
        self._own_station = own_station
        self._frame_id = frame_id
        self._verifier = verifier
        self.verifies = verifier is not None
        self._max_future_ns = round(max_future_ms * _MS)
        self._max_age_ns = round(max_age_ms * _MS)
        self._max_stations = max_stations
        self._max_rate_hz = max_rate_hz
        # Whoever is silent for so long is forgotten: what could be replayed of it has expired.
        self._memory_ns = max(self._max_future_ns + self._max_age_ns, _MIN_MEMORY_MS * _MS)
        self._peers: dict[int, _Peer] = {}
        self._latest_ns = 0

    def admit(self, data: bytes, now_ns: int) -> Envelope:
        """The envelope of a message that came at ``now_ns``.

        Raises:
            Rejected: any reason; it is counted.
        """
        if now_ns < self._latest_ns - self._memory_ns:  # a bag that loops
            self._peers.clear()
            self._latest_ns = now_ns
        self._latest_ns = max(self._latest_ns, now_ns)
        try:
            envelope = self._check(data, now_ns)
        except Rejected as rejected:
            self.counts[rejected.reason] += 1
            raise
        self.admitted += 1
        return envelope

    def _check(self, data: bytes, now_ns: int) -> Envelope:
        if len(data) > MTU:
            raise Rejected(Reason.OVERSIZE, f"{len(data)} bytes; {MTU} is the most")
        framed = split(data)
        if self._verifier and not framed.signature:
            raise Rejected(Reason.UNSIGNED, "this station takes signed messages only")
        envelope = unpack(framed.envelope, self._frame_id)
        if envelope.station == self._own_station:
            raise Rejected(Reason.OWN, f"station {envelope.station} is this one")
        self._check_time(envelope, now_ns)
        peer = self._peer(envelope, now_ns)
        if not peer.is_new(envelope.sequence):
            raise Rejected(Reason.REPLAY, f"sequence {envelope.sequence} came before")
        tokens = peer.tokens + self._max_rate_hz * max(0, now_ns - peer.heard_ns) * 1e-9
        if tokens < 1:
            raise Rejected(Reason.FLOOD, f"over {self._max_rate_hz:g} messages a second")
        if self._verifier:
            self._check_signature(self._verifier, framed, envelope, now_ns)

        self._peers[envelope.station] = peer
        peer.mark(envelope.sequence)
        peer.tokens = min(tokens, self._max_rate_hz) - 1
        peer.heard_ns = max(peer.heard_ns, now_ns)
        if peer.drift.observe(now_ns - envelope.capture_ns, now_ns):
            raise Rejected(Reason.CLOCK, f"station {envelope.station}'s clock drifts against ours")
        return envelope

    def _check_time(self, envelope: Envelope, now_ns: int) -> None:
        age_ns = now_ns - envelope.capture_ns
        if age_ns < -self._max_future_ns - TIME_UNIT_NS:  # to which captures are rounded
            raise Rejected(Reason.FUTURE, f"captured {-age_ns / _MS:.0f} ms from now")
        if age_ns > min(self._max_age_ns, envelope.ttl_ms * _MS):
            raise Rejected(Reason.EXPIRED, f"captured {age_ns / _MS:.0f} ms ago")

    def _peer(self, envelope: Envelope, now_ns: int) -> _Peer:
        """The station's record; a new one that is not kept yet if it was not heard of late."""
        peer = self._peers.get(envelope.station)
        if peer is not None and now_ns - peer.heard_ns <= self._memory_ns:
            return peer
        if peer is None and len(self._peers) >= self._max_stations:
            silent = [s for s, p in self._peers.items() if now_ns - p.heard_ns > self._memory_ns]
            for station in silent:
                del self._peers[station]
            if not silent:
                raise Rejected(Reason.STATIONS, f"over {self._max_stations} at once")
        return _Peer((envelope.sequence - 1) % 2**32, 0, max(1.0, self._max_rate_hz), now_ns)

    @staticmethod
    def _check_signature(
        verifier: Verifier, framed: Framed, envelope: Envelope, now_ns: int
    ) -> None:
        certificate = verifier.verify(framed, now_ns)
        if certificate.station != envelope.station:
            raise Rejected(
                Reason.CERTIFICATE,
                f"station {envelope.station} under the certificate of {certificate.station}",
            )
        used = (envelope.layer, Layer.REQUEST) if envelope.asks else (envelope.layer,)
        for layer in used:
            if layer not in certificate.layers:
                raise Rejected(Reason.CERTIFICATE, f"not for layer {layer.name.lower()}")
        if not certificate.valid_at(envelope.capture_ns):
            raise Rejected(Reason.CERTIFICATE, "the certificate was not valid at capture")
