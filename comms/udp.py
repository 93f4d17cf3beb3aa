"""UDP: to a multicast group, a broadcast address, or named peers. IPv4."""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Sequence
from urllib.parse import urlsplit

from comms.envelope import MTU
from comms.link import MAX_WAITING, Inbox, LinkCount, check_size
from pipeline.errors import InputError

Address = tuple[str, int]
MAX_READ = 4 * MAX_WAITING
"""Datagrams that one ``receive`` reads at most, so that a flood cannot keep it busy."""
BUFFER_BYTES = 1 << 20


class UdpLink:
    """Sends each datagram to all peers from the port at which it listens.

    peers: one multicast group or broadcast address, or up to 64 hosts, resolved once. listen: port;
    0: any free one; None: that of the first peer. interface: own address through which multicast
    goes, or at which named peers are heard; empty: the system's choice. ttl: hops of multicast.

    Own multicast and broadcast datagrams come back.

    Raises:
        InputError: a host that is not known, a port that is taken, an interface that is not there.
    """

    def __init__(
        self,
        peers: Sequence[Address],
        listen: int | None = None,
        interface: str = "",
        ttl: int = 1,
    ) -> None:
        if not 1 <= len(peers) <= 64:
            raise InputError(f"udp: {len(peers)} peers; give 1 to 64")
        self.counts = LinkCount()
        self.problem = ""
        self._peers = [(resolved(host), port) for host, port in peers]
        self._inbox = Inbox(self.counts)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._bind(self._peers[0][1] if listen is None else listen, interface, ttl)
        except OSError as error:
            self._socket.close()
            raise InputError(
                f"udp: cannot listen at {interface or '*'}:{listen or self._peers[0][1]} "
                f"({error.strerror}); give another port with listen=, or an own address with "
                "interface="
            ) from None

    def _bind(self, port: int, interface: str, ttl: int) -> None:
        group = self._peers[0][0]
        shared = socket.SO_REUSEADDR
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        if ipaddress.ip_address(group).is_multicast:
            through = socket.inet_aton(interface or "0.0.0.0")
            self._socket.setsockopt(socket.SOL_SOCKET, shared, 1)
            self._socket.bind((group, port))
            self._socket.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + through
            )
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, through)
            self._socket.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("b", ttl)
            )
        elif group.endswith(".255"):  # a broadcast address, unless the network is a rare one
            self._socket.setsockopt(socket.SOL_SOCKET, shared, 1)
            self._socket.bind(("", port))
        else:
            local = all(ipaddress.ip_address(host).is_loopback for host, _ in self._peers)
            self._socket.bind((interface or ("127.0.0.1" if local else ""), port))

    @property
    def copies(self) -> int:
        """How often it sends each datagram: to each peer."""
        return len(self._peers)

    @property
    def port(self) -> int:
        """At which it listens and from which it sends."""
        return int(self._socket.getsockname()[1])

    def send(self, data: bytes) -> None:
        check_size(data)
        if self._socket.fileno() < 0:
            return
        for peer in self._peers:
            try:
                self._socket.sendto(data, peer)
            except OSError as error:
                self.counts.failed += 1
                self.problem = f"udp: {peer[0]}:{peer[1]} cannot be sent to ({error.strerror})"
            else:
                self.counts.sent += 1
                self.counts.sent_bytes += len(data)
                self.problem = ""

    def receive(self) -> list[bytes]:
        for _ in range(MAX_READ if self._socket.fileno() >= 0 else 0):
            try:
                self._inbox.put(self._socket.recv(MTU + 1))
            except BlockingIOError:
                break
            except OSError:
                continue  # what a peer's host answers to an earlier datagram
        return self._inbox.take()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def parse_address(text: str) -> Address:
    """``HOST:PORT``.

    Raises:
        InputError: another form.
    """
    try:
        found = urlsplit(f"//{text}")
        host, port = found.hostname, found.port
    except ValueError:
        host = port = None
    if not host or not port or found.netloc != text or found.username is not None:
        raise InputError(f"{text!r:.60} is no HOST:PORT")
    return host, port


def resolved(host: str) -> str:
    """The IPv4 address of a host.

    Raises:
        InputError: it is not known.
    """
    try:
        return socket.gethostbyname(host)
    except (OSError, UnicodeError):
        raise InputError(f"udp: host {host!r:.80} is not known; give an IPv4 address") from None
