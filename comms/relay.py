"""A UDP relay with the impairments of a radio link, in real time.

Stations send to the relay instead of to each other. What one sends goes to all others through the
same models as in virtual time (comms/channel.py), driven by the clock that is handed in.
"""

import contextlib
import select
import socket
from collections.abc import Callable, Sequence

from comms.channel import Air, AirCount, ChannelConfig
from comms.envelope import MTU
from comms.udp import BUFFER_BYTES, Address, resolved
from pipeline.clock import Clock
from pipeline.errors import InputError

MAX_PEERS = 64
MAX_READ = 256
"""Datagrams that are read before others are sent on."""


class UdpRelay:
    """Peers are numbered from 1 in the order given. A datagram is known by its source address.

    What is longer than ``MTU`` is cut to one byte over it, as at the links.

    listen: own address and port; 0: any free one. peers: the stations' addresses and ports.
    The clock is that of ``run``; outages and traces begin when the relay is made.

    Raises:
        InputError: fewer than two peers or the same twice, an address that cannot be had, or
            delivery by distance: nobody tells the relay where the stations are.
    """

    def __init__(
        self,
        config: ChannelConfig,
        listen: Address,
        peers: Sequence[Address],
        clock: Clock,
        seed: int = 0,
    ) -> None:
        self._peers = [(resolved(host), port) for host, port in peers]
        self._number = {peer: k for k, peer in enumerate(self._peers, 1)}
        if not 2 <= len(self._number) == len(peers) <= MAX_PEERS:
            raise InputError(f"relay: give 2 to {MAX_PEERS} peers, each once")
        if config.distance_m:
            raise InputError("relay: it knows no distances; give loss instead of distance_m")
        self._clock = clock
        self._air = Air(config, seed, self._number.values(), clock.now_ns())
        self.strangers = 0
        """Datagrams of others than the peers, which go nowhere."""
        self.failed = 0
        """Datagrams that the network did not take."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        try:
            self._socket.bind((resolved(listen[0]), listen[1]))
        except OSError as error:
            self._socket.close()
            raise InputError(
                f"relay: cannot listen at {listen[0]}:{listen[1]} ({error.strerror}); "
                "give another port"
            ) from None

    @property
    def port(self) -> int:
        """At which it listens and from which it sends."""
        return int(self._socket.getsockname()[1])

    @property
    def counts(self) -> dict[int, AirCount]:
        """By peer."""
        return self._air.counts

    def run(self, stop: Callable[[], bool]) -> None:
        """Relay until ``stop()``, which is asked at least ten times a second."""
        while not stop():
            self.step(0.1)

    def step(self, limit_s: float) -> None:
        """Wait for what comes or is due, for ``limit_s`` at most, and send on what is due."""
        due_ns = self._air.due_ns()
        if due_ns is not None:
            limit_s = min(limit_s, max(0, due_ns - self._clock.now_ns()) * 1e-9)
        if select.select([self._socket], [], [], limit_s)[0]:
            self._read()
        now_ns = self._clock.now_ns()
        for number, peer in enumerate(self._peers, 1):
            for _, data in self._air.receive(number, now_ns):
                try:
                    self._socket.sendto(data, peer)
                except OSError:
                    self.failed += 1

    def _read(self) -> None:
        for _ in range(MAX_READ):
            try:
                data, source = self._socket.recvfrom(MTU + 1)
            except BlockingIOError:
                return
            except OSError:
                continue  # what a peer's host answers to an earlier datagram
            number = self._number.get(source)
            if number is None:
                self.strangers += 1
            else:
                self._air.send(number, data, self._clock.now_ns())

    def close(self) -> None:
        """Give the port back."""
        with contextlib.suppress(OSError):
            self._socket.close()
