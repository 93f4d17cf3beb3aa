"""The stations of a scene's agents and the air between them, as one thing to step."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec

from comms.alignment import ALIGN, Align
from comms.certificates import Certificate, issue, point_of
from comms.channel import Air, ChannelConfig
from comms.config import V2xConfig
from comms.gate import Gate
from comms.signing import Credentials, Signer, TrustStore, Verifier
from comms.station import Station
from evaluation.v2x_scenes import PoseError, View


@dataclass(frozen=True)
class Run:
    """One way to communicate. config: of every station; its number is set. pose_m, pose_deg:
    sigmas of each agent's constant pose error. alignments: the receivers' ways with delay, each
    scored on the same messages; ``oracle`` knows the truth."""

    config: V2xConfig
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    pose_m: float = 0.2
    pose_deg: float = 0.2
    alignments: tuple[str, ...] = ("predict",)


class Fleet:
    """Everybody who takes part. stations: by agent. errors: of their poses; constant."""

    def __init__(self, run: Run, seed: int, agents: Iterable[int]) -> None:
        agents = list(agents)
        self.stations = {a: make_station(run.config, a) for a in agents}
        self.errors = {a: PoseError.drawn(seed, a, run.pose_m, run.pose_deg) for a in agents}
        self.air = Air(run.channel, seed, agents)

    def step(self, views: dict[int, View], now_ns: int) -> dict[int, list[tuple[int, bytes]]]:
        """All look and send; what arrived is taken in. By agent: when and which datagrams."""
        for agent, view in views.items():
            station = self.stations[agent]
            show(station, view, self.errors[agent])
            for data in station.outgoing(now_ns):
                self.air.send(agent, data, now_ns, view.pose.position)
        arrived = {agent: self.air.receive(agent, now_ns) for agent in views}
        for agent, datagrams in arrived.items():
            for arrival_ns, data in datagrams:
                self.stations[agent].incoming(data, arrival_ns)
        return arrived

    @property
    def sent_bytes(self) -> Counter[str]:
        """By all of them, by kind."""
        total = Counter[str]()
        for station in self.stations.values():
            total.update(station.report().sent_bytes)
        return total


def make_station(config: V2xConfig, agent: int, align: str | Align = "") -> Station:
    """Signs and verifies in earnest.

    align: instead of the configuration's.
    """
    config = replace(config, station=agent)
    root, _ = _root()
    verifier = Verifier(TrustStore(root, frozenset()))
    gate = Gate(agent, config.frame_id, verifier, config.max_future_ms, config.ttl_ms)
    align_by = ALIGN[align or config.alignment] if isinstance(align, str) else align
    signer = Signer(_credentials(agent), round(1e9 * config.certificate_s))
    return Station(config, gate, signer, align_by)


@lru_cache(1)
def _root() -> tuple[Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    return issue(key, None, point_of(key.public_key()), 0, 0, 2**32 - 1), key


@lru_cache(1024)
def _credentials(agent: int) -> Credentials:
    root, issuer = _root()
    key = ec.generate_private_key(ec.SECP256R1())
    return Credentials(issue(issuer, root, point_of(key.public_key()), agent, 0, 2**32 - 1), key)


def show(station: Station, view: View, error: PoseError) -> None:
    """What an agent sees, as it believes it to stand."""
    pose, own = error.pose(view.pose), error.objects(view.own, view.pose)
    plan = error.plan(view.plan, view.pose) if view.plan else None
    station.see(own, pose, plan, error.sight(view.sight, view.pose))
