"""A station with the credentials and the trust that its configuration names."""

from pathlib import Path

from comms.config import V2xConfig
from comms.envelope import ClockQuality
from comms.gate import Gate
from comms.signing import Credentials, Signer, TrustStore, Verifier
from comms.station import Station


def make_station(config: V2xConfig, copies: int = 1) -> Station:
    """Raises:
    InputError: credentials or trust that cannot be read, or are of another station."""
    verifier = Verifier(TrustStore.load(Path(config.trust))) if config.trust else None
    signer = None
    if config.credentials:
        every_ns = round(1e9 * config.certificate_s)
        signer = Signer(Credentials.load(Path(config.credentials)), every_ns)
    gate = Gate(config.station, config.frame_id, verifier, config.max_future_ms, config.ttl_ms)
    clock = ClockQuality[config.clock.upper()]
    return Station(config, gate, signer, clock=clock, copies=copies)
