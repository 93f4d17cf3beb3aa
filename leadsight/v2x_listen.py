"""``leadsight v2x-listen``: who is on a V2X link, what it weighs, and what is refused."""

import threading
from collections import Counter, OrderedDict, deque
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from comms.config import V2xConfig
from comms.envelope import HEADER_BYTES, Envelope, Layer
from comms.link import Link
from comms.make_link import make_link
from comms.make_station import make_station
from comms.reasons import Reason
from comms.station import Station
from leadsight.signals import until_signalled
from pipeline.clock import Clock, WallClock

KINDS = ("payload", "header", "signature", "request", "features")
NUMBER = 2**32 - 1
"""Of this station, which sends nothing."""
MAX_ROWS = 256
AGES = 512
SHOW_S, POLL_S = 1.0, 0.005
HINTS = {
    Reason.FRAME: "they use another frame; give it with --frame",
    Reason.FUTURE: "their clocks are ahead of this machine's",
    Reason.EXPIRED: "their clocks are behind this machine's, or the link is slow",
    Reason.CERTIFICATE: "of another root than --trust has, or not valid now",
    Reason.UNSIGNED: "they do not sign; without --trust they are taken",
    Reason.VERSION: "something else uses this address, or stations of another version",
}


@dataclass
class Heard:
    """Of one station, since the beginning: messages, bytes by kind, ages in ns as they came."""

    messages: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    ages: deque[int] = field(default_factory=lambda: deque(maxlen=AGES))
    objects: int = 0
    loss: float = 0.0

    def note(self, data: bytes, envelope: Envelope, now_ns: int) -> None:
        """A message that was taken."""
        self.messages += 1
        self.sizes.update(sizes_of(data, envelope))
        self.ages.append(now_ns - envelope.capture_ns)


class Listener:
    """A station that only listens, and what it heard of each other one."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self.heard: OrderedDict[int, Heard] = OrderedDict()
        """The ``MAX_ROWS`` heard last."""
        self.total = Heard()

    def take(self, data: bytes, now_ns: int) -> None:
        """A datagram."""
        envelope = self._station.incoming(data, now_ns)
        if envelope is None:
            return
        heard = self.heard.setdefault(envelope.station, Heard())
        self.heard.move_to_end(envelope.station)
        if len(self.heard) > MAX_ROWS:
            self.heard.popitem(last=False)
        for each in (heard, self.total):
            each.note(data, envelope, now_ns)

    def settle(self, now_ns: int) -> None:
        """Let go of what is too old, and note what is left of each."""
        self._station.fused(now_ns, now_ns)
        for number, heard in self.heard.items():
            peer = self._station.peers.get(number)
            heard.objects = 0 if peer is None else len(peer.objects)
            heard.loss = heard.loss if peer is None else peer.loss
        self.total.objects = sum(h.objects for h in self.heard.values())
        self.total.loss = self._station.loss

    @property
    def rejected(self) -> dict[str, int]:
        """Messages by reason."""
        return self._station.report().rejected


def sizes_of(data: bytes, envelope: Envelope) -> dict[str, int]:
    """The bytes of a message by kind; they add up to its length."""
    sizes = dict.fromkeys(KINDS, 0)
    payload = len(envelope.payload)
    sizes["header"] = HEADER_BYTES
    sizes["signature"] = len(data) - payload - HEADER_BYTES
    if envelope.layer == Layer.OBJECTS and payload:
        sizes["request"] = envelope.payload[0]
    kinds = {Layer.REQUEST: "request", Layer.FEATURES: "features"}
    sizes[kinds.get(envelope.layer, "payload")] += payload - sizes["request"]
    return sizes


def run_listen(
    link: str, trust: Path | None, frame: str, seconds: float | None, console: Console
) -> None:
    """Listen until the time is over, SIGINT or SIGTERM, then tell what was heard.

    Raises:
        InputError: a link or trust that cannot be used.
    """
    config = V2xConfig(
        station=NUMBER,
        frame_id=frame,
        budget_bytes_s=0.0,
        trust="" if trust is None else str(trust),
    )
    listener, clock = Listener(make_station(config)), WallClock()
    with closing(make_link(link)) as end, until_signalled() as stopped:
        verified = "nothing is verified" if trust is None else f"trusting {trust}"
        console.print(f"listening at {link}, frame {frame}; {verified}", soft_wrap=True)
        start_ns = clock.now_ns()
        _listen(listener, end, clock, seconds, stopped, console)
        took_s = (clock.now_ns() - start_ns) * 1e-9
        lost = end.counts.overrun
    console.print(table_of(listener, totals_of(listener), took_s, f"all in all, {took_s:.1f} s"))
    console.print(_refused(listener, hints=True))
    if lost:
        console.print(f"too many to take in: {lost}")


def _listen(
    listener: Listener,
    link: Link,
    clock: Clock,
    seconds: float | None,
    stopped: threading.Event,
    console: Console,
) -> None:
    start_ns = shown_ns = clock.now_ns()
    end_ns = None if seconds is None else start_ns + round(seconds * 1e9)
    live = (
        Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
    )
    before: dict[int, Counter[str]] = {}
    with live or nullcontext():
        while not stopped.wait(POLL_S):
            now_ns = clock.now_ns()
            for data in link.receive():
                listener.take(data, now_ns)
            if end_ns is not None and now_ns >= end_ns:
                break
            if now_ns - shown_ns < SHOW_S * 1e9:
                continue
            span_s, shown_ns = (now_ns - shown_ns) * 1e-9, now_ns
            listener.settle(now_ns)
            totals = totals_of(listener)
            news = {n: count - before.get(n, Counter()) for n, count in totals.items()}
            before = totals
            if live:
                at_s = (now_ns - start_ns) * 1e-9
                table = table_of(listener, news, span_s, f"{at_s:.0f} s")
                live.update(Group(table, _refused(listener)), refresh=True)
            else:
                console.print(_line(listener, news, span_s, now_ns - start_ns), soft_wrap=True)
    listener.settle(clock.now_ns())


def totals_of(listener: Listener) -> dict[int, Counter[str]]:
    """By station, and under 0 of all."""
    each = {0: listener.total, **listener.heard}
    return {n: h.sizes + Counter(messages=h.messages) for n, h in each.items()}


def table_of(
    listener: Listener, counts: dict[int, Counter[str]], span_s: float, title: str
) -> Table:
    title += "; messages and bytes in a second"
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    table.add_column("station", no_wrap=True)
    for name in ("sent", *KINDS, "known", "age ms", "lost%"):
        name = "signed" if name == "signature" else name  # or the table is too wide
        table.add_column(name, justify="right", no_wrap=True)
    for number in [*sorted(listener.heard), 0]:
        heard, count = listener.heard.get(number, listener.total), counts.get(number, Counter())
        p50, p95 = np.percentile(heard.ages or [0], (50, 95)) * 1e-6
        table.add_row(
            str(number) if number else f"all {len(listener.heard)}",
            f"{count['messages'] / span_s:.1f}",
            *(f"{count[kind] / span_s:.0f}" for kind in KINDS),
            str(heard.objects), f"{p50:.0f}/{p95:.0f}", f"{100 * heard.loss:.1f}",
        )  # fmt: skip
    return table


def _line(listener: Listener, counts: dict[int, Counter[str]], span_s: float, since_ns: int) -> str:
    count, total = counts[0], listener.total
    kinds = ", ".join(f"{kind} {count[kind] / span_s:.0f}" for kind in KINDS)
    speaking = sum(1 for n, c in counts.items() if n and c["messages"])
    age_ms = float(np.median(total.ages or [0])) * 1e-6
    return (
        f"{since_ns * 1e-9:.0f} s: {speaking} stations, {count['messages'] / span_s:.1f} "
        f"messages/s, bytes/s: {kinds}; {total.objects} objects, {age_ms:.0f} ms old, "
        f"{100 * total.loss:.1f} % lost; {_refused(listener)}"
    )


def _refused(listener: Listener, hints: bool = False) -> Text:
    rejected = listener.rejected
    if not rejected:
        return Text("refused: none" if listener.heard else "refused: none; nobody was heard")
    parts = []
    for reason, count in sorted(rejected.items(), key=lambda item: -item[1]):
        hint = HINTS.get(Reason(reason), "") if hints else ""
        parts.append(f"{reason} {count}" + (f" ({hint})" if hint else ""))
    return Text("refused: " + ", ".join(parts))
