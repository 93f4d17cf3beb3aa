"""Zenoh (extra ``zenoh``): best effort, and what is in the way is dropped.

Give ``udp/…`` endpoints on a lossy radio: TCP would send again what is stale by then.
"""

import json
from collections.abc import Sequence
from typing import Any

from comms.envelope import MTU
from comms.link import Inbox, LinkCount, check_size
from pipeline.errors import InputError, first_line

KEY = "leadsight/v2x"
MAX_MESSAGE_BYTES = 65_535


class ZenohLink:
    """A zenoh session that publishes and subscribes one key.

    connect, listen: endpoints such as ``udp/192.168.0.7:7447``. scouting: find others by multicast.
    Shared memory is off, so that every byte goes over the network. Own datagrams do not come back.

    Raises:
        InputError: zenoh is not installed, or refuses key or endpoints.
    """

    copies = 1

    def __init__(
        self,
        connect: Sequence[str] = (),
        listen: Sequence[str] = (),
        scouting: bool = True,
        key: str = KEY,
    ) -> None:
        zenoh = _imported()
        self.counts = LinkCount()
        self.problem = ""
        self._inbox = Inbox(self.counts)
        settings: dict[str, Any] = {
            "mode": "peer",
            "transport/shared_memory/enabled": False,
            "transport/link/rx/max_message_size": MAX_MESSAGE_BYTES,
            "scouting/multicast/enabled": scouting,
            "scouting/gossip/enabled": scouting,
        }
        settings |= {
            f"{k}/endpoints": list(v) for k, v in (("connect", connect), ("listen", listen)) if v
        }
        try:
            config = zenoh.Config()
            for name, value in settings.items():
                config.insert_json5(name, json.dumps(value))
            self._session = zenoh.open(config)
        except zenoh.ZError as error:
            raise InputError(f"zenoh: {_reason(error)}; check connect= and listen=") from None
        try:
            self._publisher = self._session.declare_publisher(
                key,
                congestion_control=zenoh.CongestionControl.DROP,
                reliability=zenoh.Reliability.BEST_EFFORT,
                allowed_destination=zenoh.Locality.REMOTE,
                express=True,
            )
            self._subscriber = self._session.declare_subscriber(key, self._take)
        except zenoh.ZError as error:
            self._session.close()
            raise InputError(f"zenoh: key {key!r:.60}: {_reason(error)}") from None
        self._error = zenoh.ZError

    def _take(self, sample: Any) -> None:
        self._inbox.put(sample.payload.to_bytes()[: MTU + 1])

    def send(self, data: bytes) -> None:
        check_size(data)
        if self._session.is_closed():
            return
        try:
            self._publisher.put(data)
        except self._error as error:
            self.counts.failed += 1
            self.problem = f"zenoh: {_reason(error)}"
        else:
            self.counts.sent += 1
            self.counts.sent_bytes += len(data)
            self.problem = ""

    def receive(self) -> list[bytes]:
        return self._inbox.take()

    def close(self) -> None:
        if not self._session.is_closed():
            self._session.close()
        self._inbox.take()


def _imported() -> Any:
    try:
        import zenoh
    except ImportError:
        raise InputError("zenoh is not installed: pip install 'leadsight[zenoh]'") from None
    return zenoh


def _reason(error: Exception) -> str:
    """One line, without the places in zenoh's own source."""
    return first_line(error).partition(" at /")[0]
