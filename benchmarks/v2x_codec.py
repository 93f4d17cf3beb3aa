"""What a V2X message costs in bytes and in time, and what it costs to refuse one.

    python -m benchmarks.v2x_codec [--stream 100000] [--repeats 300]

Twenty made objects with the covariances of a Kalman filter (seeded), in both encodings: bytes of
payload, header and signature apart; median CPU time of one thread to encode, sign, admit (all
checks and the signature) and decode. Then streams of forged, replayed and mutated messages against
a gate that knows the station. Then messages of 100 stations at 10 Hz, as many as one core takes in.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from comms import codec
from comms.certificates import Certificate, issue, point_of
from comms.envelope import HEADER_BYTES, Body, ClockQuality, Content, Envelope, Layer, pack
from comms.gate import Gate
from comms.reasons import Rejected
from comms.signing import (
    OVERHEAD_BYTES,
    WITH_CERTIFICATE,
    WITH_HINT,
    Credentials,
    Signer,
    TrustStore,
    Verifier,
)
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

S = 1_000_000_000
NOW = 1_800_000_000 * S
OBJECTS = 20
T = TypeVar("T")


@dataclass
class Pki:
    """A root, and stations that it issues certificates to."""

    key: ec.EllipticCurvePrivateKey
    root: Certificate

    @classmethod
    def make(cls) -> "Pki":
        key = ec.generate_private_key(ec.SECP256R1())
        now_s = NOW // S
        return cls(key, issue(key, None, point_of(key.public_key()), 0, now_s - 60, now_s + 3600))

    def signer(self, station: int) -> Signer:
        key = ec.generate_private_key(ec.SECP256R1())
        now_s = NOW // S
        point = point_of(key.public_key())
        ticket = issue(self.key, self.root, point, station, now_s - 60, now_s + 3600)
        return Signer(Credentials(ticket, key))

    def gate(self) -> Gate:
        verifier = Verifier(TrustStore(self.root, frozenset()))
        return Gate(999, verifier=verifier, max_rate_hz=1e9)


def scene(n: int, seed: int = 0) -> tuple[Objects, Pose]:
    """n objects within 100 m, and a pose."""
    rng = np.random.default_rng(seed)
    at = Pose(NOW, np.array([100.0, 50.0, 0.0]), 0.5, covariance=np.diag([0.04, 0.04, 0.1, 1e-4]))
    angle = rng.uniform(0, np.pi, n)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn.transpose(2, 0, 1)
    plane = np.zeros((n, 3, 3))
    spread = np.zeros((n, 2, 2))
    spread[:, [0, 1], [0, 1]] = rng.uniform(0.1, 0.5, (n, 2)) ** 2
    plane[:, :2, :2] = turn @ spread @ turn.swapaxes(1, 2)
    plane[:, 2, 2] = 0.04
    covariances = np.zeros((n, 6, 6))
    for i, row in enumerate(((1.0, 0.8), (0.8, 1.6))):
        for j, factor in enumerate(row):
            covariances[:, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3] = factor * plane
    made = Objects(
        stamp_ns=NOW,
        ready_ns=NOW,
        ids=np.arange(n, dtype=np.int32),
        stations=np.zeros(n, np.uint32),
        positions=at.position + np.append(rng.uniform(-100, 100, (n, 2)), np.ones((n, 1)), axis=1),
        velocities=np.append(rng.uniform(-15, 15, (n, 2)), np.zeros((n, 1)), axis=1),
        yaws=rng.uniform(-np.pi, np.pi, n),
        sizes=np.tile([4.5, 1.8, 1.5], (n, 1)),
        covariances=covariances,
        classes=rng.integers(1, 8, n).astype(np.uint8),
        quality=rng.uniform(0.5, 1, n),
        measured_ns=np.full(n, NOW - 20_000_000),
    )
    return made, at


def message(
    objects: Objects, at: Pose, content: Content, station: int, sequence: int, stamp_ns: int = NOW
) -> bytes:
    """A packed envelope."""
    at, objects = replace(at, stamp_ns=stamp_ns), replace(objects, stamp_ns=stamp_ns)
    payload = codec.encode(objects, at, stamp_ns, content, station)
    return pack(
        Envelope(
            station, sequence % 2**32, stamp_ns, 500, at, ClockQuality.GNSS, Layer.OBJECTS, content,
            Body(ObjectClass.CAR, 4.5, 1.8, 1.5), payload,
        )
    )  # fmt: skip


def timed(work: Callable[[Any], T], items: Iterable[Any]) -> tuple[float, list[T]]:
    """Median ms of one call, and what all of them gave."""
    taken, results = [], []
    for item in items:
        start = time.thread_time_ns()
        results.append(work(item))
        taken.append(time.thread_time_ns() - start)
    return statistics.median(taken) / 1e6, results


def sizes_and_times(repeats: int) -> None:
    objects, at = scene(OBJECTS)
    pki = Pki.make()
    print(
        f"| {OBJECTS} objects | payload B | header B | signature B: with hint, certificate | "
        "datagram B | encode ms | sign ms | admit ms | decode ms | all ms |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for content in Content:
        signer, gate = pki.signer(7), pki.gate()
        packing, packed = timed(partial(message, objects, at, content, 7), range(repeats))
        signing, signed = timed(partial(signer.sign, now_ns=NOW), packed)
        admitting, admitted = timed(partial(gate.admit, now_ns=NOW), signed)
        decoding, _ = timed(lambda envelope: codec.decode(envelope.payload, envelope), admitted)
        times = [packing, signing, admitting, decoding]
        overhead = [OVERHEAD_BYTES[kind] for kind in (WITH_HINT, WITH_CERTIFICATE)]
        cells = " | ".join(f"{t:.2f}" for t in (*times, sum(times)))
        print(
            f"| {content.name.lower()} | {len(admitted[0].payload)} | {HEADER_BYTES} | "
            f"{overhead[0]}, {overhead[1]} | {len(signed[-1])} | {cells} |"
        )


def streams(count: int) -> None:
    rng = np.random.default_rng(1)
    objects, at = scene(OBJECTS)
    pki, crook = Pki.make(), Pki.make()
    signer, gate = pki.signer(7), pki.gate()
    genuine = [message(objects, at, Content.COMPACT, 7, k) for k in range(200)]
    taken = [signer.sign(p, NOW) for p in genuine]
    for data in taken:
        gate.admit(data, NOW)
    fresh = [
        signer.sign(message(objects, at, Content.COMPACT, 7, 300 + k), NOW) for k in range(200)
    ]
    forger = crook.signer(7)
    overhead = OVERHEAD_BYTES[WITH_HINT]
    forged = [forger.sign(data[overhead:], NOW + 10 * S * k) for k, data in enumerate(fresh)]

    def mutated(k: int) -> bytes:
        data = bytearray(fresh[k % 200])
        for place in rng.integers(0, len(data), 1 + k % 3):
            data[place] ^= 1 + int(rng.integers(255))
        data[0] ^= data == fresh[k % 200]  # two places were one
        return bytes(data)

    def wrong_signature(k: int) -> bytes:
        data = bytearray(fresh[k % 200])
        data[overhead - 1 - int(rng.integers(64))] ^= 1 + int(rng.integers(255))
        return bytes(data)

    print("\n| stream | messages | admitted | µs each | p99 µs | reasons |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name, make in {
        "forged: certificates of another root": lambda k: forged[k % 200],
        "forged: a known station's signature altered": wrong_signature,
        "replayed": lambda k: taken[k % 200],
        "mutated: 1 to 3 bytes anywhere": mutated,
    }.items():
        before, admitted, spent = dict(gate.counts), gate.admitted, np.zeros(count)
        for k in range(count):
            data = make(k)
            start = time.thread_time_ns()
            with suppress(Rejected):
                gate.admit(data, NOW)
            spent[k] = time.thread_time_ns() - start
        reasons = ", ".join(
            f"{r.value} {n - before[r]}" for r, n in gate.counts.items() if n > before[r]
        )
        spent /= 1e3
        print(
            f"| {name} | {count} | {gate.admitted - admitted} | {spent.mean():.0f} | "
            f"{np.percentile(spent, 99):.0f} | {reasons} |"
        )


def sustained(seconds: float) -> None:
    pki = Pki.make()
    print("\n| 100 stations | messages | messages/s of one core | of what 10 Hz brings |")
    print("| --- | ---: | ---: | ---: |")
    for content in Content:
        gate = pki.gate()
        stations = [(s, pki.signer(s), *scene(OBJECTS, s)) for s in range(1, 101)]
        stream = []
        for tick in range(max(1, round(10 * seconds))):
            at_ns = NOW + tick * S // 10
            for station, signer, objects, at in stations:
                data = message(objects, at, content, station, tick, at_ns)
                stream.append((signer.sign(data, at_ns), at_ns + 20_000_000))
        start = time.thread_time()
        for data, at_ns in stream:
            envelope = gate.admit(data, at_ns)
            codec.decode(envelope.payload, envelope)
        rate = len(stream) / (time.thread_time() - start)
        print(
            f"| {OBJECTS} objects, {content.name.lower()} | {len(stream)} | {rate:.0f} | "
            f"{rate / 1000:.1f}× |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stream", type=int, default=100_000, help="messages of each kind")
    parser.add_argument("--repeats", type=int, default=300)
    args = parser.parse_args()
    sizes_and_times(args.repeats)
    streams(args.stream)
    sustained(args.repeats / 100)


if __name__ == "__main__":
    main()
