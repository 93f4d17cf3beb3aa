"""A link from a text: ``udp://239.255.0.1:47347``, ``udp://10.0.0.2:47000?listen=47001``,
``zenoh://?connect=udp/10.0.0.2:7447``."""

from urllib.parse import parse_qsl

from comms.link import Link
from comms.udp import UdpLink, parse_address
from comms.zenoh_link import KEY, ZenohLink
from pipeline.errors import InputError

EXAMPLES = {
    "udp": "udp://239.255.0.1:47347, udp://255.255.255.255:47347 or udp://10.0.0.2:47000?listen=47001",
    "zenoh": "zenoh:// or zenoh://?connect=udp/10.0.0.2:7447&scouting=0",
}
_OPTIONS = {
    "udp": {"listen", "interface", "ttl"},
    "zenoh": {"connect", "listen", "scouting", "key"},
}


def make_link(text: str) -> Link:
    """The link that a text names; ``docs/v2x-links.md`` has the forms.

    Raises:
        InputError: another form, or a link that cannot be made here.
    """
    scheme, there, rest = text.partition("://")
    if text == "ros":
        raise InputError("link ros: only the v2x node has it; give udp://… or zenoh://…")
    if not there or scheme not in EXAMPLES:
        raise InputError(
            f"link {text!r:.80}: give ros (in the v2x node), {EXAMPLES['udp']}, {EXAMPLES['zenoh']}"
        )
    host, _, query = rest.partition("?")
    try:
        pairs = parse_qsl(query, strict_parsing=bool(query), max_num_fields=64)
    except ValueError:
        raise _refusal(text, scheme, "after ? stand name=value, joined by &") from None
    for name, _ in pairs:
        if name not in _OPTIONS[scheme]:
            known = ", ".join(sorted(_OPTIONS[scheme]))
            raise _refusal(text, scheme, f"no option {name:.20}; known are {known}")
    if scheme == "zenoh":
        return _zenoh(text, host, pairs)
    options = dict(pairs)
    try:
        peers = [parse_address(part) for part in host.removesuffix("/").split(",")]
    except InputError as error:
        raise _refusal(text, "udp", str(error)) from None
    listen = _number(text, options["listen"], 0, 65535) if "listen" in options else None
    ttl = _number(text, options.get("ttl", "1"), 0, 127)
    return UdpLink(peers, listen, options.get("interface", ""), ttl)


def _zenoh(text: str, host: str, pairs: list[tuple[str, str]]) -> Link:
    if host.strip("/"):
        raise _refusal(text, "zenoh", "endpoints stand in connect= and listen=")
    given = dict(pairs)
    if given.get("scouting", "1") not in ("0", "1"):
        raise _refusal(text, "zenoh", "scouting is 0 or 1")
    return ZenohLink(
        [value for name, value in pairs if name == "connect"],
        [value for name, value in pairs if name == "listen"],
        given.get("scouting", "1") == "1",
        given.get("key", KEY),
    )


def _number(text: str, value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and low <= int(value[:9]) <= high):
        raise _refusal(text, "udp", f"{value:.20} is no number from {low} to {high}")
    return int(value)


def _refusal(text: str, scheme: str, why: str) -> InputError:
    return InputError(f"link {text!r:.80}: {why}; for example {EXAMPLES[scheme]}")
