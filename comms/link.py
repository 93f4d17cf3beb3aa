"""How datagrams travel: best effort, never waiting, the newest first where there are too many."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from comms.envelope import MTU
from pipeline.errors import InputError

MAX_WAITING = 512
"""Datagrams that ``receive`` gives at once; older ones go."""


@dataclass(slots=True)
class LinkCount:
    """Datagrams and bytes, without what the layers below add.

    sent, sent_bytes: given to the network. failed: it did not take them. received, received_bytes:
    given to the caller, or waiting for it. overrun: gone for newer ones before that.
    """

    sent: int = 0
    sent_bytes: int = 0
    failed: int = 0
    received: int = 0
    received_bytes: int = 0
    overrun: int = 0


class Link(Protocol):
    """One end of a link."""

    @property
    def counts(self) -> LinkCount:
        """Since the link was made."""
        ...

    @property
    def copies(self) -> int:
        """How often it sends each datagram: once for all, or once to each named peer."""
        ...

    @property
    def problem(self) -> str:
        """Why the last datagram could not be sent; empty where it could."""
        ...

    def send(self, data: bytes) -> None:
        """Send a datagram to all others, or drop it and count that; never waits.

        Raises:
            InputError: it has over ``MTU`` bytes.
        """
        ...

    def receive(self) -> list[bytes]:
        """What has come and was not taken yet, at most ``MAX_WAITING``; never waits.

        What is longer than ``MTU`` is cut to one byte over it. Own datagrams may be among them.
        """
        ...

    def close(self) -> None:
        """Give back what the link holds; ``send`` and ``receive`` do nothing any more."""
        ...


def check_size(data: bytes) -> None:
    """Raises:
    InputError: a datagram that does not fit."""
    if len(data) > MTU:
        raise InputError(f"a datagram of {len(data)} bytes; cut it into pieces of at most {MTU}")


class Inbox:
    """What has come and was not taken; filled and emptied from any thread."""

    def __init__(self, counts: LinkCount) -> None:
        self._counts = counts
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()

    def put(self, data: bytes) -> None:
        """Keep a datagram; the oldest one goes where there are too many."""
        with self._lock:
            if len(self._waiting) == MAX_WAITING:
                self._counts.overrun += 1
                self._counts.received -= 1
                self._counts.received_bytes -= len(self._waiting.popleft())
            self._waiting.append(data)
            self._counts.received += 1
            self._counts.received_bytes += len(data)

    def take(self) -> list[bytes]:
        """All that is there."""
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
        return taken


class Hub:
    """Links within one process: what one sends reaches all others at once."""

    def __init__(self) -> None:
        self._inboxes: list[Inbox] = []

    def join(self) -> "HubLink":
        """A new link to all others."""
        counts = LinkCount()
        inbox = Inbox(counts)
        self._inboxes.append(inbox)
        return HubLink(self, inbox, counts)

    def send(self, data: bytes, sender: Inbox) -> None:
        """Give a datagram to all but the sender."""
        for inbox in tuple(self._inboxes):
            if inbox is not sender:
                inbox.put(data)

    def leave(self, inbox: Inbox) -> None:
        """Take a link out; again does nothing."""
        self._inboxes = [i for i in self._inboxes if i is not inbox]

    def __contains__(self, inbox: Inbox) -> bool:
        return any(i is inbox for i in self._inboxes)


class HubLink:
    """One station's end of a ``Hub``."""

    problem = ""
    copies = 1

    def __init__(self, hub: Hub, inbox: Inbox, counts: LinkCount) -> None:
        self._hub, self._inbox, self.counts = hub, inbox, counts

    def send(self, data: bytes) -> None:
        check_size(data)
        if self._inbox in self._hub:
            self._hub.send(data, self._inbox)
            self.counts.sent += 1
            self.counts.sent_bytes += len(data)

    def receive(self) -> list[bytes]:
        return self._inbox.take()

    def close(self) -> None:
        self._hub.leave(self._inbox)
        self._inbox.take()
