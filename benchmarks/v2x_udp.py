"""V2X over UDP between two processes through the relay, then against forged messages.

    python -m benchmarks.v2x_udp [--seconds 30] [--messages 100000] [--set channel.loss=0.1 …]

A sender and a receiver, each a process with its own socket, talk through ``leadsight v2x-relay``
at 6 Mbit/s, 20 ms and 10 % loss unless told otherwise: 20 objects at 10 Hz, everything sent, all
signed. Delay: from capture to the receiver's ``incoming``; one machine, so one clock.

Then streams of forged, replayed and mutated messages go into the receiver's ``incoming``, each
message by itself, and its time is taken; whatever it then fuses must be what it fused before.

Two cores (virtual, x86-64) beside other work, load 2 to 3; a message of all 21 objects is 1.0 kB,
which takes 1.5 ms on the air:

| sent | 299 datagrams: 226,343 B of payload, 17,342 B of headers, 25,157 B of signatures |
| --- | --- |
| delivered | 91.6 % |
| delay p50 / p95 / p99 | 26.4 / 31.2 / 36.0 ms |
| age when fused p50 / p95 / p99 | 82.1 / 179.7 / 256.2 ms |
| objects fused, mean of 20 and the sender | 21.0 |

| stream | messages | admitted | p50 µs | p99 µs | mean µs |
| --- | ---: | ---: | ---: | ---: | ---: |
| forged | 100000 | 0 | 60 | 188 | 70 |
| replayed | 100000 | 0 | 46 | 97 | 58 |
| mutated | 100000 | 0 | 8 | 263 | 48 |
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console

from comms import codec
from comms.certificates import issue, point_of
from comms.config import V2xConfig
from comms.envelope import Body, ClockQuality, Content, Envelope, Layer, pack
from comms.gate import Gate
from comms.make_link import make_link
from comms.signing import (
    HINT_BYTES,
    Credentials,
    Signer,
    TrustStore,
    Verifier,
    frame_unsigned,
    hint_of,
    split,
)  # fmt: skip
from comms.station import Station
from leadsight.v2x_pki import run_v2x_pki
from pipeline.clock import WallClock
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

MS = 1_000_000
OBJECTS = 20
SENDER, RECEIVER = 1, 2
RELAY = ("channel.rate_kbit_s=6000", "channel.delay_ms=20", "channel.loss=0.1")
BODY = Body(ObjectClass.CAR, 4.5, 1.8, 1.5)
PLANTED = np.array([40.0, 40.0, 0.0])


class Watch(Gate):
    """A gate that notes sequence and age of what it admits."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.seen: dict[int, float] = {}

    def admit(self, data: bytes, now_ns: int) -> Envelope:
        envelope = super().admit(data, now_ns)
        self.seen[envelope.sequence] = (now_ns - envelope.capture_ns) / MS
        return envelope


def station(number: int, pki: Path) -> tuple[Station, Watch]:
    config = V2xConfig(
        station=number, selector="send_all", budget_bytes_s=1e6, rate_hz=20.0, ttl_ms=2000.0
    )
    gate = Watch(
        number, config.frame_id, Verifier(TrustStore.load(pki / "trust")), 50.0, config.ttl_ms
    )
    signer = Signer(Credentials.load(pki / f"station-{number}"))
    return Station(config, gate, signer), gate


def cars(stamp_ns: int, n: int = OBJECTS) -> Objects:
    """On a ring of 60 m, at 8 m/s."""
    angle = 2 * np.pi * np.arange(n) / n + stamp_ns * 1e-9 * 8 / 60
    place = 60 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    speed = 8 * np.stack([-np.sin(angle), np.cos(angle), 0 * angle], axis=1)
    return Objects(
        stamp_ns, stamp_ns, np.arange(n, dtype=np.int32), np.zeros(n, np.uint32), place, speed,
        np.arctan2(speed[:, 1], speed[:, 0]), np.tile([4.5, 1.8, 1.5], (n, 1)),
        np.tile(np.diag([0.02] * 3 + [0.05] * 3), (n, 1, 1)), np.full(n, ObjectClass.CAR, np.uint8),
        np.full(n, 0.95), np.full(n, stamp_ns),
    )  # fmt: skip


def pose(stamp_ns: int, x: float) -> Pose:
    covariance = np.diag([0.01, 0.01, 0.01, 1e-6])
    return Pose(stamp_ns, np.array([x, 0.0, 0.0]), 0.0, np.zeros(3), covariance)


def send(pki: Path, link_text: str, seconds: float) -> None:
    """The sender's process: prints its report."""
    clock, link = WallClock(), make_link(link_text)
    mine, _ = station(SENDER, pki)
    datagrams = 0
    begin_ns = clock.now_ns()
    for k in range(round(seconds * 10)):
        time.sleep(max(0, begin_ns + k * 100 * MS - clock.now_ns()) * 1e-9)
        now_ns = clock.now_ns()
        mine.see(cars(now_ns), pose(now_ns, 0.0))
        for data in mine.outgoing(now_ns):
            link.send(data)
            datagrams += 1
        for data in link.receive():
            mine.incoming(data, clock.now_ns())
    print(json.dumps({"datagrams": datagrams, "bytes": mine.report().sent_bytes}))


def free_ports(count: int) -> list[int]:
    """UDP ports that nobody holds now."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def exchange(pki: Path, settings: list[str], seconds: float) -> Station:
    """Both processes and the relay, and the table of what arrived; the receiver's station."""
    relay, a, b = free_ports(3)
    run = [sys.executable, "-m"]
    channel = [word for s in (*RELAY, *settings) for word in ("--set", s)]
    between = subprocess.Popen(
        [*run, "leadsight", "v2x-relay", f"127.0.0.1:{a}", f"127.0.0.1:{b}", "--listen",
         f"127.0.0.1:{relay}", *channel],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    sender = None
    try:
        time.sleep(2.0)  # until it listens
        clock = WallClock()
        link = make_link(f"udp://127.0.0.1:{relay}?listen={b}")
        sender = subprocess.Popen(
            [*run, "benchmarks.v2x_udp", "--send", f"udp://127.0.0.1:{relay}?listen={a}",
             "--pki", str(pki), "--seconds", str(seconds)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        mine, gate = station(RECEIVER, pki)
        fused_age, objects, next_ns = [], [], 0
        end_ns: int | None = None
        while end_ns is None or clock.now_ns() < end_ns:
            time.sleep(0.001)
            for data in link.receive():
                mine.incoming(data, clock.now_ns())
            if end_ns is None and sender.poll() is not None:
                end_ns = clock.now_ns() + 500 * MS
            now_ns = clock.now_ns()
            if now_ns >= next_ns:
                next_ns = now_ns + 100 * MS
                mine.see(Objects.none(now_ns), pose(now_ns, 30.0))
                for data in mine.outgoing(now_ns):
                    link.send(data)
                fused = mine.fused(now_ns, now_ns).objects
                theirs = fused.stations == SENDER
                if end_ns is None and theirs.any():
                    objects.append(int(theirs.sum()))
                    fused_age += ((now_ns - fused.measured_ns[theirs]) / MS).tolist()
        told = json.loads(sender.communicate()[0])
    finally:
        between.terminate()
        if sender is not None:
            sender.kill()
        between.wait(10)
    link.close()
    delays = np.array([*gate.seen.values()])
    print(f"| sent | {told['datagrams']} datagrams, bytes: {told['bytes']} |\n| --- | --- |")
    print(f"| delivered | {100 * len(delays) / told['datagrams']:.1f} % |")
    print(f"| delay p50 / p95 / p99 | {quantiles(delays, 50, 95, 99)} ms |")
    print(f"| age when fused p50 / p95 / p99 | {quantiles(fused_age, 50, 95, 99)} ms |")
    print(f"| objects fused, mean of {OBJECTS} and the sender | {np.mean(objects):.1f} |")
    print(f"| rejected | {mine.report().rejected or 'none'} |\n")
    return mine


def quantiles(values, *shares: float) -> str:
    return " / ".join(f"{v:.1f}" for v in np.percentile(values, shares))


class Attack:
    """Messages of an attacker who hears everything and holds no key of ours."""

    def __init__(self, pki: Path, now_ns: int, count: int) -> None:
        self._rng = np.random.default_rng(1)
        self._now_ns, self._count = now_ns, count
        self.genuine, _ = station(SENDER, pki)
        own = ec.generate_private_key(ec.SECP256R1())
        point, now_s = point_of(own.public_key()), now_ns // 10**9
        root = issue(own, None, point, 0, now_s - 60, now_s + 3600, ())
        ticket = issue(own, root, point, SENDER, now_s - 60, now_s + 3600)
        self._crook = Signer(Credentials(ticket, own), every_ns=0)
        self._known = Credentials.load(pki / f"station-{SENDER}").certificate.pack()

    def caught(self, now_ns: int) -> list[bytes]:
        """What the genuine station sends then."""
        self.genuine.see(cars(now_ns), pose(now_ns, 0.0))
        return self.genuine.outgoing(now_ns)

    def _envelope(self, k: int) -> bytes:
        place = replace(cars(self._now_ns, 8), positions=np.tile(PLANTED, (8, 1)))
        at = pose(self._now_ns, 0.0)
        payload = codec.encode(place, at, self._now_ns, Content.COMPACT)
        sequence = (self._now_ns // MS + (1 << 20) + k) % 2**32
        message = Envelope(
            SENDER, sequence, self._now_ns, 2000, at, ClockQuality.GNSS, Layer.OBJECTS,
            Content.COMPACT, BODY, payload,
        )  # fmt: skip
        return pack(message)

    def forged(self) -> Iterator[bytes]:
        """In turn: under a root of its own; under the genuine certificate's hint with a made-up
        signature; unsigned; under a hint that nobody knows."""
        envelopes = [self._envelope(k) for k in range(64)]
        for k in range(self._count):
            envelope = envelopes[k % 64]
            kind = k % 4
            if kind == 0:
                yield self._crook.sign(envelope, self._now_ns)
            elif kind == 1:
                yield b"\x01" + hint_of(self._known) + self._rng.bytes(64) + envelope
            elif kind == 2:
                yield frame_unsigned(envelope)
            else:
                yield b"\x01" + self._rng.bytes(HINT_BYTES) + self._rng.bytes(64) + envelope

    def replayed(self, heard: list[bytes]) -> Iterator[bytes]:
        for k in range(self._count):
            yield heard[k % len(heard)]

    def mutated(self, unheard: list[bytes]) -> Iterator[bytes]:
        """Flipped bits, cut, lengthened; half of them with a checksum that fits again."""
        for k in range(self._count):
            data = bytearray(unheard[k % len(unheard)])
            kind = k % 4
            if kind == 0:
                del data[self._rng.integers(len(data)) :]
            elif kind == 1:
                data += self._rng.bytes(int(self._rng.integers(1, 200)))
            else:
                bits = 8 * (len(data) - 4)  # all but the checksum, which may be made to fit
                for bit in self._rng.choice(bits, self._rng.integers(1, 9), replace=False):
                    data[bit // 8] ^= 1 << bit % 8
            if k % 8 >= 4 and len(data) > 200 and data[0] in (1, 2):
                envelope = split(bytes(data)).envelope
                data[-4:] = zlib.crc32(envelope[:-4]).to_bytes(4, "big")
            yield bytes(data)


def attack(pki: Path, count: int) -> None:
    """The table of the three streams."""
    now_ns = time.time_ns()
    attacker = Attack(pki, now_ns, count)
    mine, gate = station(RECEIVER, pki)
    mine.see(Objects.none(now_ns), pose(now_ns, 30.0))
    heard: list[bytes] = []
    for k in range(10):
        for data in attacker.caught(now_ns - (10 - k) * 100 * MS):
            mine.incoming(data, now_ns - (10 - k) * 100 * MS + 20 * MS)
            heard.append(data)
    unheard = attacker.caught(now_ns)
    before = mine.fused(now_ns, now_ns).objects
    print("| stream | messages | admitted | p50 µs | p99 µs | mean µs | reasons |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for name, stream in (
        ("forged", attacker.forged()),
        ("replayed", attacker.replayed(heard)),
        ("mutated", attacker.mutated(unheard)),
    ):
        admitted, rejected = gate.admitted, dict(mine.report().rejected)
        taken = np.empty(count)
        for k, data in enumerate(stream):
            begin = time.perf_counter_ns()
            mine.incoming(data, now_ns)
            taken[k] = time.perf_counter_ns() - begin
        reasons = {
            r: n - rejected.get(r, 0)
            for r, n in sorted(mine.report().rejected.items())
            if n > rejected.get(r, 0)
        }
        p50, p99 = np.percentile(taken, (50, 99)) / 1e3
        print(
            f"| {name} | {count} | {gate.admitted - admitted} | {p50:.0f} | {p99:.0f} "
            f"| {taken.mean() / 1e3:.0f} | {reasons} |"
        )
    after = mine.fused(now_ns, now_ns).objects
    planted = np.linalg.norm(after.positions - PLANTED, axis=1).min() < 2
    same = len(after) == len(before) and np.array_equal(after.positions, before.positions)
    print(f"\nfused afterwards: {'the same' if same and not planted else 'CHANGED'}", end="")
    print(f" ({len(before)} objects)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--set", action="append", default=[], metavar="channel.option=value")
    parser.add_argument("--send", help=argparse.SUPPRESS)
    parser.add_argument("--pki", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.send:
        send(args.pki, args.send, args.seconds)
        return
    folder = Path(tempfile.mkdtemp())
    try:
        pki = folder / "pki"
        run_v2x_pki(pki, 2, 24.0, None, (), Console(quiet=True))
        exchange(pki, args.set, args.seconds)
        attack(pki, args.messages)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
