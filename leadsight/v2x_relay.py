"""``leadsight v2x-relay``: the impairments of a radio link between live stations."""

from collections.abc import Sequence
from contextlib import closing

from rich.console import Console
from rich.table import Table

from comms.channel import ChannelConfig
from comms.relay import UdpRelay
from comms.udp import parse_address
from leadsight.signals import until_signalled
from pipeline.clock import WallClock
from pipeline.config import Config, build

CONFIGS: dict[str, type[Config]] = {"channel": ChannelConfig}


def run_relay(
    listen: str,
    peers: Sequence[str],
    settings: Sequence[str],
    seconds: float | None,
    seed: int,
    console: Console,
) -> None:
    """Relay until the time is over, SIGINT or SIGTERM, then tell what went through.

    Raises:
        InputError: an address or setting that cannot be.
    """
    channel = build(CONFIGS, assignments=settings)["channel"]
    addresses = [parse_address(peer) for peer in peers]
    clock = WallClock()
    relay = UdpRelay(channel, parse_address(listen), addresses, clock, seed)
    end_ns = clock.now_ns() + round(seconds * 1e9) if seconds is not None else None
    console.print(f"relaying at {listen} between {', '.join(peers)}", soft_wrap=True)
    with closing(relay), until_signalled() as stopped:
        relay.run(lambda: stopped.is_set() or (end_ns is not None and clock.now_ns() >= end_ns))
    console.print(_table(relay, peers))
    if relay.strangers or relay.failed:
        console.print(f"from others: {relay.strangers}; not sent: {relay.failed}")


def _table(relay: UdpRelay, peers: Sequence[str]) -> Table:
    table = Table("peer", "sent", "pushed out", "bytes", "with layers", "received", "lost")
    for number, count in relay.counts.items():
        row = (
            count.offered, count.pushed_out, count.payload_bytes, count.air_bytes,
            count.delivered, count.lost,
        )  # fmt: skip
        table.add_row(peers[number - 1], *map(str, row))
    return table
