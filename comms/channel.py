"""The air between stations, in virtual time: what is sent here arrives late, in part, or not.

A station sends through one queue of its own: a datagram waits for those before it, takes its bytes
over the rate to transmit, and arrives at each receiver after that receiver's own delay, or is lost
on the way to it. Stations do not contend for the channel; what contention costs can be put into
the rate, or into the table of delivery by distance.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from comms.impairments import (
    SLOT_NS,
    Delay,
    DistanceLoss,
    GilbertElliott,
    IndependentLoss,
    Loss,
    Moment,
    Outages,
    RandomDelay,
    Trace,
)
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError

NETWORK_OVERHEAD = 40
"""Bytes that GeoNetworking (single-hop broadcast) and BTP-B put before a datagram; textbook."""
LINK_OVERHEAD = 36
"""Bytes that LLC and 802.11's MAC put around it; textbook."""
MAX_INBOX = 4096
Position = Sequence[float] | FloatArray
ITS_G5_DISTANCE_M = (50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0)
ITS_G5_DELIVERY = (1.0, 0.98, 0.97, 0.79, 0.63, 0.42, 0.20, 0.06)
"""700-byte broadcasts at 23 dBm and 6 Mbit/s, log-distance 2.75 and Nakagami fading, simulated
with ns-3."""


@dataclass(frozen=True)
class ChannelConfig(Config):
    """What a link does to datagrams. All of it applies together: the lowest rate, the sum of the
    delays, lost where any says so."""

    rate_kbit_s: float = option(0.0, "Rate of one station, kbit/s; 0: no limit.", low=0, high=1e7)
    queue_bytes: int = option(
        12_000, "What may wait at the sender; beyond it the oldest goes.", low=0, high=1 << 30
    )
    delay_ms: float = option(
        0.0, "From the end of transmission to arrival; the median.", low=0, high=60_000
    )
    delay_sigma: float = option(
        0.0, "Of the logarithm of a log-normal delay; 0: the delay is fixed.", low=0, high=3
    )
    loss: float = option(0.0, "Probability with which a datagram is lost, each.", low=0, high=1)
    burst_ms: float = option(
        0.0, "Mean time in Gilbert-Elliott's bad state; 0: no bad state.", low=0, high=1e6
    )
    gap_ms: float = option(900.0, "Mean time in its good state.", low=1, high=1e6)
    burst_loss: float = option(1.0, "Probability of loss in the bad state.", low=0, high=1)
    distance_m: tuple[float, ...] = option((), "Distances of a table of delivery; empty: none.")
    distance_delivery: tuple[float, ...] = option(
        (), "Share that is delivered at each of distance_m.", low=0, high=1
    )
    outage_from_s: tuple[float, ...] = option(
        (), "Begins of windows without any delivery, since the start.", low=0, high=1e6
    )
    outage_to_s: tuple[float, ...] = option((), "Their ends.", low=0, high=1e6)
    trace: str = option("", "CSV file of a recorded link: t_s,delay_ms,rate_kbit_s,lost.")


class Channel:
    """The impairments of a configuration. epoch_ns: when its outages and its trace begin.

    Raises:
        InputError: a table, windows or a trace that cannot be.
    """

    def __init__(self, config: ChannelConfig, seed: int = 0, epoch_ns: int = 0) -> None:
        c = config
        self.seed = seed
        self._rate_kbit_s = c.rate_kbit_s or math.inf
        self._trace = Trace.read(Path(c.trace), epoch_ns, self._rate_kbit_s) if c.trace else None
        self._losses: list[Loss] = []
        self._delays: list[Delay] = []
        if c.delay_ms:
            self._delays.append(RandomDelay(c.delay_ms, c.delay_sigma))
        if c.loss:
            self._losses.append(IndependentLoss(c.loss))
        if c.burst_ms:
            self._losses.append(GilbertElliott(c.gap_ms, c.burst_ms, 0.0, c.burst_loss))
        if c.distance_m or c.distance_delivery:
            self._losses.append(DistanceLoss(c.distance_m, c.distance_delivery))
        if c.outage_from_s or c.outage_to_s:
            self._losses.append(Outages(c.outage_from_s, c.outage_to_s, epoch_ns))
        if self._trace is not None:
            self._losses.append(self._trace)
            self._delays.append(self._trace)

    def end_ns(self, start_ns: int, count: int) -> int:
        """When ``count`` bytes are sent whose transmission begins at ``start_ns``."""
        if self._trace is not None:
            return self._trace.end_ns(start_ns, count)
        return start_ns + math.ceil(count * 8e6 / self._rate_kbit_s)

    def lost(self, moment: Moment) -> bool:
        """Whether any impairment loses it."""
        return any(model.lost(moment) for model in self._losses)

    def delay_ns(self, moment: Moment) -> int:
        """The sum of all delays."""
        return sum(model.delay_ns(moment) for model in self._delays)


@dataclass(slots=True)
class AirCount:
    """What one station sent and what reached it, in datagrams and bytes.

    offered: given to ``send``. pushed_out: gone from the full queue for newer ones. aired: sent.
    payload_bytes, network_bytes, link_bytes: of those aired; the datagrams themselves, then what
    the layers below add. delivered, lost: of others, on the way to this station. overrun: arrived,
    and gone for newer ones before ``receive`` was called.
    """

    offered: int = 0
    pushed_out: int = 0
    aired: int = 0
    payload_bytes: int = 0
    network_bytes: int = 0
    link_bytes: int = 0
    delivered: int = 0
    lost: int = 0
    overrun: int = 0

    @property
    def air_bytes(self) -> int:
        """All bytes on the air."""
        return self.payload_bytes + self.network_bytes + self.link_bytes


@dataclass(slots=True)
class _Station:
    position: tuple[float, ...] | None = None
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    waiting_bytes: int = 0
    offered_ns: int | None = None
    free_ns: int | None = None
    slot: int | None = None
    nth: int = 0
    inbox: list[tuple[int, int, bytes]] = field(default_factory=list)
    count: AirCount = field(default_factory=AirCount)


class Air:
    """Stations that broadcast to each other, in the time that the caller hands in.

    stations: those that hear from the beginning; any other joins with its first ``place``, ``send``
    or ``receive``. One seed gives the same losses and delays to whatever is sent.
    """

    def __init__(
        self,
        config: ChannelConfig,
        seed: int = 0,
        stations: Iterable[int] = (),
        epoch_ns: int = 0,
    ) -> None:
        self._channel = Channel(config, seed, epoch_ns)
        self._queue_bytes = config.queue_bytes
        self._stations: dict[int, _Station] = {}
        self._order = 0
        for station in stations:
            self.place(station)

    def place(self, station: int, position: Position | None = None) -> None:
        """Say that a station is there, and where: x, y and maybe z in m."""
        found = self._stations.setdefault(station, _Station())
        if position is not None:
            where = tuple(float(x) for x in position)
            if len(where) not in (2, 3) or not all(math.isfinite(x) for x in where):
                raise InputError(f"station {station}: give x, y and z of its position, finite")
            found.position = where

    def send(
        self, station: int, data: bytes, now_ns: int, position: Position | None = None
    ) -> None:
        """Put a datagram into the station's queue; the oldest waiting ones go where it is full.

        Raises:
            InputError: a time before that of the station's last datagram.
        """
        self.place(station, position)
        sender = self._stations[station]
        if sender.offered_ns is not None and now_ns < sender.offered_ns:
            raise InputError(
                f"station {station} sends at {now_ns} ns after {sender.offered_ns} ns: "
                "send in order of time"
            )
        sender.offered_ns = now_ns
        sender.waiting.append((now_ns, data))
        sender.waiting_bytes += on_air(data)
        sender.count.offered += 1
        self._advance(station, sender, now_ns)
        while sender.waiting_bytes > self._queue_bytes and len(sender.waiting) > 1:
            sender.waiting_bytes -= on_air(sender.waiting.popleft()[1])
            sender.count.pushed_out += 1

    def receive(self, station: int, now_ns: int) -> list[tuple[int, bytes]]:
        """What has arrived by now and was not taken yet: (arrival_ns, datagram), first first."""
        self.place(station)
        self.advance(now_ns)
        inbox = self._stations[station].inbox
        taken = []
        while inbox and inbox[0][0] <= now_ns:
            arrival_ns, _, data = heapq.heappop(inbox)
            taken.append((arrival_ns, data))
        self._stations[station].count.delivered += len(taken)
        return taken

    def advance(self, now_ns: int) -> None:
        """Let every transmission begin whose time has come; ``send`` and ``receive`` do so."""
        for station, sender in self._stations.items():
            self._advance(station, sender, now_ns)

    def due_ns(self) -> int | None:
        """When the next datagram arrives or begins, as things stand; None: there is none."""
        times = [s.inbox[0][0] for s in self._stations.values() if s.inbox]
        times += [_begin_ns(s) for s in self._stations.values() if s.waiting]
        return min(times, default=None)

    @property
    def counts(self) -> dict[int, AirCount]:
        """By station, as of the last ``advance``."""
        return {station: found.count for station, found in self._stations.items()}

    def _advance(self, station: int, sender: _Station, now_ns: int) -> None:
        while sender.waiting and (begin_ns := _begin_ns(sender)) <= now_ns:
            _, data = sender.waiting.popleft()
            count = on_air(data)
            sender.waiting_bytes -= count
            sender.free_ns = self._channel.end_ns(begin_ns, count)
            slot = begin_ns // SLOT_NS
            sender.nth = sender.nth + 1 if slot == sender.slot else 0
            sender.slot = slot
            sender.count.aired += 1
            sender.count.payload_bytes += len(data)
            sender.count.network_bytes += NETWORK_OVERHEAD
            sender.count.link_bytes += LINK_OVERHEAD
            for other, receiver in self._stations.items():
                if other != station:
                    distance = _distance(sender.position, receiver.position)
                    moment = Moment(
                        self._channel.seed, station, other, begin_ns, sender.nth, distance
                    )
                    self._carry(receiver, moment, sender.free_ns, data)

    def _carry(self, receiver: _Station, moment: Moment, end_ns: int, data: bytes) -> None:
        if self._channel.lost(moment):
            receiver.count.lost += 1
            return
        arrival_ns = end_ns + self._channel.delay_ns(moment)
        self._order += 1
        heapq.heappush(receiver.inbox, (arrival_ns, self._order, data))
        if len(receiver.inbox) > MAX_INBOX:
            heapq.heappop(receiver.inbox)
            receiver.count.overrun += 1


def on_air(data: bytes) -> int:
    """Bytes that a datagram takes on the air."""
    return len(data) + NETWORK_OVERHEAD + LINK_OVERHEAD


def _begin_ns(sender: _Station) -> int:
    """When the first waiting datagram's transmission begins."""
    offered_ns = sender.waiting[0][0]
    return offered_ns if sender.free_ns is None else max(offered_ns, sender.free_ns)


def _distance(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> float:
    if a is None or b is None:
        return math.nan
    return math.dist(a[:2], b[:2]) if len(a) != len(b) else math.dist(a, b)
