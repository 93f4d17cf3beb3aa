"""How many agents one receiver sustains on one core, all of its work included.

    python -m benchmarks.v2x_receiver [--agents 25 50 100 150 200] [--seconds 4] [--content cpm]

Agents within 300 x 300 m, among 363 road users, each tell of the 20 nearest ones at 10 Hz, signed.
One ``Station`` takes all of it in (every check, verification, decoding), and ten times a second
gets its own 20 objects (``see``: peers' poses and truthfulness assessed), fuses all of them and
makes its own messages. CPU time of one thread, from the median step; a core is full at 1000 ms/s.

Two shared cores of an Intel Xeon guest; all agents' messages are taken, none refused:

| agents | take in, ms/s | see | fused | outgoing | of a core | refused |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| 25 | 91 | 19 | 78 | 30 | 22 % | 0 |
| 50 | 187 | 31 | 148 | 43 | 41 % | 0 |
| 100 | 379 | 67 | 225 | 53 | 72 % | 0 |
| 150 | 575 | 87 | 305 | 62 | 103 % | 0 |
| 200 | 762 | 105 | 364 | 65 | 130 % | 0 |

sustained by one core: 145 agents. About 90 ms/s of what 100 agents take in is the verification of
their signatures.
"""

import argparse
import os
import time
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.v2x_codec import NOW, Pki
from comms import codec
from comms.config import V2xConfig
from comms.envelope import Body, ClockQuality, Content, Envelope, Layer, pack
from comms.gate import Gate
from comms.request import Plan, Sight
from comms.signing import Signer, TrustStore, Verifier
from comms.station import Station
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

MS = 1_000_000
STEP_NS = 100 * MS
OBJECTS = 20
SIDE_M = 300.0
SPACING_M = 9.0
FREE_M = 40.0
EGO = 1
BODY = Body(ObjectClass.CAR, 4.5, 1.8, 1.5)
WORK = ("incoming", "see", "fused", "outgoing")


class Town:
    """Road users that drive straight on, in a third of squares of 9 m, and agents among them."""

    def __init__(self, agents: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        cells = int(SIDE_M / SPACING_M)
        chosen = rng.permutation(cells**2)[: cells**2 // 3]
        places = (np.column_stack([chosen // cells, chosen % cells]) - cells / 2) * SPACING_M
        self.places = places + rng.uniform(-2, 2, places.shape)
        self.velocities = rng.uniform(-8, 8, places.shape)
        self.people = np.arange(len(places)) % 4 == 0
        self.agents = rng.permutation(len(places))[:agents]
        self.rng = rng

    def at(self, t_s: float) -> np.ndarray:
        return self.places + t_s * self.velocities

    def seen(self, from_place: np.ndarray, t_s: float, stamp_ns: int, but: int) -> Objects:
        """The nearest ``OBJECTS`` of a place, with noise."""
        places = self.at(t_s)
        away = np.hypot(*(places - from_place).T)
        away[but] = np.inf
        rows = np.argsort(away)[:OBJECTS]
        n = len(rows)
        people = self.people[rows]
        sigmas = np.array([0.2, 0.2, 0.1, 0.4, 0.4, 0.1])
        flat = np.zeros((n, 1))
        return Objects(
            stamp_ns, stamp_ns, rows.astype(np.int32), np.zeros(n, np.uint32),
            np.hstack([places[rows] + self.rng.normal(0, 0.2, (n, 2)), flat]),
            np.hstack([self.velocities[rows] + self.rng.normal(0, 0.4, (n, 2)), flat]),
            np.arctan2(*self.velocities[rows].T[::-1]),
            np.where(people[:, None], (0.6, 0.6, 1.7), (4.5, 1.8, 1.5)),
            np.broadcast_to(np.diag(sigmas**2), (n, 6, 6)).copy(),
            np.where(people, ObjectClass.PERSON, ObjectClass.CAR).astype(np.uint8),
            np.full(n, 0.95), np.full(n, stamp_ns - 20 * MS),
        )  # fmt: skip


def messages(town: Town, signers: list[Signer], step: int, content: Content) -> list[bytes]:
    """One of each agent, captured at a step."""
    stamp_ns, t_s = NOW + step * STEP_NS, step * STEP_NS * 1e-9
    out = []
    for agent, signer in zip(town.agents, signers, strict=True):
        place = town.at(t_s)[agent]
        pose = Pose(
            stamp_ns, np.append(place, 0.0), 0.0, np.append(town.velocities[agent], 0.0),
            np.diag([0.1, 0.1, 0.1, 0.01]) ** 2,
        )  # fmt: skip
        objects = town.seen(place, t_s, stamp_ns, agent)
        payload = b"\0" + codec.encode(objects, pose, stamp_ns, content, signer.station)
        envelope = Envelope(
            signer.station, step, stamp_ns, 3000, pose, ClockQuality.PTP, Layer.OBJECTS, content,
            BODY, payload,
        )  # fmt: skip
        out.append(signer.sign(pack(envelope), stamp_ns))
    return out


def run(
    agents: int, seconds: float, content: Content, pki: Pki
) -> tuple[dict[str, float], Station]:
    """CPU seconds by kind of work in a second of traffic, from the median step, and the station
    after it."""
    town = Town(agents)
    signers = [pki.signer(100 + k) for k in range(agents)]
    config = V2xConfig(station=EGO)
    verifier = Verifier(TrustStore(pki.root, frozenset()))
    gate = Gate(EGO, config.frame_id, verifier, config.max_future_ms, config.ttl_ms)
    station = Station(config, gate, pki.signer(EGO))
    spent = []
    here = np.zeros(3)
    warm = 10
    for step in range(round(seconds * 1e9 / STEP_NS) + warm):
        stamp_ns = NOW + step * STEP_NS
        arrived = messages(town, signers, step, content)
        own = town.seen(here[:2], step * STEP_NS * 1e-9, stamp_ns, -1)
        own = replace(own, ids=own.ids + 30_000)
        pose = Pose(stamp_ns, here, 0.0, covariance=np.diag([0.05, 0.05, 0.05, 0.003]) ** 2)
        plan = Plan(stamp_ns, np.linspace(0, 5, 11), np.linspace((0, 0), (60, 0), 11))
        sight = Sight(here[:2], np.full(36, FREE_M))
        times = [time.process_time()]
        for data in arrived:
            station.incoming(data, stamp_ns + 30 * MS)
        times.append(time.process_time())
        station.see(own, pose, plan, sight)
        times.append(time.process_time())
        station.fused(stamp_ns + 50 * MS, stamp_ns + 40 * MS)
        times.append(time.process_time())
        station.outgoing(stamp_ns + 50 * MS)
        times.append(time.process_time())
        if step >= warm:
            spent.append(np.diff(times))
    a_second = np.median(spent, axis=0) * 1e9 / STEP_NS
    return dict(zip(WORK, a_second.tolist(), strict=True)), station


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, nargs="+", default=[25, 50, 100, 150, 200])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--content", choices=("compact", "cpm"), default="compact")
    args = parser.parse_args()
    pki = Pki.make()
    print("| agents | take in, ms/s | see | fused | outgoing | of a core | refused |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    totals = []
    for agents in args.agents:
        spent, station = run(agents, args.seconds, Content[args.content.upper()], pki)
        totals.append(sum(spent.values()))
        cells = " | ".join(
            f"{1e3 * spent[k]:.0f}" for k in ("incoming", "see", "fused", "outgoing")
        )
        refused = sum(station.report().rejected.values())
        print(f"| {agents} | {cells} | {100 * totals[-1]:.0f} % | {refused} |", flush=True)
    if len(totals) > 1:
        print(f"\nsustained by one core: {sustained(args.agents, totals):.0f} agents")


def sustained(agents: list[int], shares: list[float]) -> float:
    """At which a whole core is used, on the line through the last two, or between two."""
    for k in range(1, len(agents)):
        if shares[k] >= 1 or k == len(agents) - 1:
            slope = (shares[k] - shares[k - 1]) / (agents[k] - agents[k - 1])
            return agents[k - 1] + (1 - shares[k - 1]) / slope
    return float(agents[-1])


if __name__ == "__main__":
    main()
