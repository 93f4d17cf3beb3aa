"""Links over real sockets and sessions, and the relay between them."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from comms.channel import ChannelConfig
from comms.envelope import MTU
from comms.link import MAX_WAITING, Hub
from comms.make_link import make_link
from comms.relay import MAX_PEERS, UdpRelay
from comms.udp import UdpLink
from pipeline.clock import WallClock
from pipeline.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
GROUP = "239.255.77.1"
_ports = itertools.count(21_000 + os.getpid() * 16 % 20_000)


def free_port():
    """A UDP port that nobody holds."""
    for port in _ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError


def soon(done, limit_s=5.0):
    """Whether something comes to hold; its value."""
    end = time.monotonic() + limit_s
    while not (found := done()) and time.monotonic() < end:
        time.sleep(0.005)
    return found


def collect(link, count, limit_s=5.0):
    """Datagrams of a link until there are so many."""
    taken = []
    soon(lambda: taken.extend(link.receive()) or len(taken) >= count, limit_s)
    return taken


@pytest.fixture
def made():
    """Makes links and closes them."""
    links = []

    def make(text):
        links.append(make_link(text) if isinstance(text, str) else text)
        return links[-1]

    yield make
    for link in links:
        link.close()


def pair(made, kind):
    """Two links that hear each other."""
    if kind == "hub":
        hub = Hub()
        return made(hub.join()), made(hub.join())
    if kind == "zenoh":
        pytest.importorskip("zenoh", reason="zenoh is not installed (the zenoh extra)")
        port = free_port()
        first = made(f"zenoh://?listen=udp/127.0.0.1:{port}&scouting=0")
        second = made(f"zenoh://?connect=udp/127.0.0.1:{port}&scouting=0")
        assert soon(lambda: first.send(b"there?") or second.receive())
        assert soon(lambda: second.send(b"here") or first.receive())
        time.sleep(0.1)
        first.receive(), second.receive()
        return first, second
    if kind == "multicast":
        text = f"udp://{GROUP}:{free_port()}?interface=127.0.0.1&ttl=0"
        return made(text), made(text)
    if kind == "broadcast":
        text = f"udp://127.255.255.255:{free_port()}"
        return made(text), made(text)
    a, b = free_port(), free_port()
    return made(f"udp://127.0.0.1:{a}?listen={b}"), made(f"udp://127.0.0.1:{b}?listen={a}")


KINDS = ("hub", "unicast", "multicast", "broadcast", "zenoh")


@pytest.mark.parametrize("kind", KINDS)
def test_a_datagram_arrives_whole_in_both_directions_and_is_counted(made, kind):
    first, second = pair(made, kind)
    before = second.counts.received_bytes, first.counts.sent_bytes
    largest = os.urandom(MTU)
    for data in (largest, b"\x00"):
        first.send(data)
    assert sorted(collect(second, 2), key=len) == [b"\x00", largest]
    assert second.counts.received_bytes - before[0] == MTU + 1
    assert first.counts.sent_bytes - before[1] == MTU + 1
    assert first.problem == "" and first.counts.failed == 0
    first.receive()
    second.send(b"back")
    assert b"back" in collect(first, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_oversize_datagram_is_refused_at_the_sender(made, kind):
    first, second = pair(made, kind)
    with pytest.raises(InputError, match=f"pieces of at most {MTU}"):
        first.send(bytes(MTU + 1))
    first.send(b"next")
    assert b"next" in collect(second, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_and_a_closed_link_is_silent(made, kind):
    first, second = pair(made, kind)
    first.receive()
    assert first.receive() == []
    for _ in range(2):
        second.close()
    second.send(b"x")
    assert second.receive() == []
    first.send(b"y")


@pytest.mark.parametrize("kind", ["hub", "zenoh"])
def test_own_datagrams_do_not_come_back(made, kind):
    first, second = pair(made, kind)
    first.send(b"mine")
    assert collect(second, 1) == [b"mine"]
    assert first.receive() == []


def test_own_multicast_datagrams_come_back(made):
    first, _ = pair(made, "multicast")
    first.send(b"mine")
    assert collect(first, 1) == [b"mine"]


@pytest.mark.parametrize("kind", ["hub", "unicast"])
def test_where_too_many_wait_the_newest_are_kept_and_the_rest_counted(made, kind):
    first, second = pair(made, kind)
    for k in range(MAX_WAITING + 40):
        first.send(k.to_bytes(2, "little"))
    taken = second.receive()
    assert len(taken) == MAX_WAITING == second.counts.received
    assert taken[-1] == (MAX_WAITING + 39).to_bytes(2, "little")
    assert second.counts.overrun == 40
    assert second.counts.received_bytes == 2 * MAX_WAITING


def test_one_call_reads_no_more_than_a_bounded_part_of_a_flood(made):
    port = free_port()
    link = made(f"udp://127.0.0.1:{free_port()}?listen={port}")
    stop = threading.Event()

    def flood():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not stop.is_set():
                sender.sendto(b"flood", ("127.0.0.1", port))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for _ in range(5):
            assert len(link.receive()) <= MAX_WAITING
    finally:
        stop.set()
        thread.join()


def test_what_is_too_long_is_handed_on_as_too_long(made):
    port = free_port()
    link = made(f"udp://127.0.0.1:{free_port()}?listen={port}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for size in (9000, 0):
            sender.sendto(bytes(size), ("127.0.0.1", port))
    assert [len(data) for data in collect(link, 2)] == [MTU + 1, 0]


def test_several_peers_each_get_it(made):
    ports = [free_port() for _ in range(3)]
    peers = [made(f"udp://127.0.0.1:{free_port()}?listen={port}") for port in ports]
    sender = made("udp://" + ",".join(f"localhost:{port}" for port in ports) + "?listen=0")
    sender.send(b"all")
    assert [collect(peer, 1) for peer in peers] == [[b"all"]] * 3
    assert (sender.counts.sent, sender.counts.sent_bytes) == (3, 9)


def test_a_peer_that_is_not_there_costs_nothing(made):
    port = free_port()
    link = made(f"udp://127.0.0.1:{free_port()}?listen={port}")
    for _ in range(3):
        link.send(b"anybody?")
        assert link.receive() == []


def test_a_network_that_does_not_take_a_datagram_is_counted_with_its_reason(made):
    link = made(UdpLink([("127.0.0.1", free_port())], 0))
    link._peers = [("203.0.113.7", 9)]  # bound to loopback, it cannot leave the host
    link.send(b"x")
    assert (link.counts.failed, link.counts.sent) == (1, 0)
    assert "203.0.113.7:9 cannot be sent to" in link.problem


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "give ros"),
        ("tcp://1.2.3.4:5", "give ros"),
        ("ros", "only the v2x node"),
        ("udp://", "no HOST:PORT"),
        ("udp://1.2.3.4", "no HOST:PORT"),
        ("udp://1.2.3.4:0", "no HOST:PORT"),
        ("udp://1.2.3.4:70000", "no HOST:PORT"),
        ("udp://a@1.2.3.4:7", "no HOST:PORT"),
        ("udp://1.2.3.4:7/x", "no HOST:PORT"),
        ("udp://no.such.host.invalid:7", "is not known"),
        ("udp://1.2.3.4:7?listen", "name=value"),
        ("udp://1.2.3.4:7?listen=x", "no number"),
        ("udp://1.2.3.4:7?listen=65536", "no number"),
        ("udp://1.2.3.4:7?lisden=8", "known are interface, listen, ttl"),
        ("udp://1.2.3.4:7?interface=192.0.2.77", "interface="),
        ("udp://239.1.2.3:7007?interface=nonsense", "interface="),
        ("udp://" + ",".join(["1.2.3.4:7"] * 65), "1 to 64"),
        ("zenoh://tcp/1.2.3.4:7", "connect= and listen="),
        ("zenoh://?scouting=maybe", "scouting is 0 or 1"),
        ("zenoh://?scouting=0&connect=nonsense", "check connect="),
        ("zenoh://?scouting=0&key=a//b", "key"),
        ("zenoh://?scouting=0&listen=udp/192.0.2.77:9", "check connect="),
    ],
)
def test_a_link_that_cannot_be_is_one_line_with_the_remedy(text, says):
    if text.startswith("zenoh"):
        pytest.importorskip("zenoh", reason="zenoh is not installed (the zenoh extra)")
    with pytest.raises(InputError, match=says) as error:
        make_link(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_port_that_is_taken_is_named(made):
    port = free_port()
    made(f"udp://127.0.0.1:{free_port()}?listen={port}")
    with pytest.raises(InputError, match=f"{port}.*listen="):
        made(f"udp://127.0.0.1:{free_port()}?listen={port}")


def test_without_zenoh_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zenoh", None)
    with pytest.raises(InputError, match=r"leadsight\[zenoh\]"):
        make_link("zenoh://")


class Relayed:
    """Stations around a relay that runs on a thread."""

    def __init__(self, made, stations=2, **options):
        ports = [free_port() for _ in range(stations)]
        peers = [("127.0.0.1", port) for port in ports]
        config = ChannelConfig(**options)
        self.relay = UdpRelay(config, ("127.0.0.1", 0), peers, WallClock(), seed=3)
        self.links = [made(f"udp://127.0.0.1:{self.relay.port}?listen={p}") for p in ports]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.relay.run, args=(self._stop.is_set,))
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.relay.close()


def test_the_relay_passes_on_to_all_others_after_the_delay(made):
    with Relayed(made, stations=3, delay_ms=60.0) as around:
        begin = time.monotonic()
        around.links[1].send(b"late")
        assert collect(around.links[0], 1) == [b"late"]
        assert time.monotonic() - begin >= 0.06
        assert collect(around.links[2], 1) == [b"late"]
        assert around.links[1].receive() == []
        count = around.relay.counts[2]
        assert (count.aired, count.payload_bytes, count.air_bytes) == (1, 4, 80)


def test_the_relay_loses_the_share_asked_for(made):
    with Relayed(made, loss=0.3) as around:
        first, second = around.links
        for k in range(400):
            first.send(k.to_bytes(2, "little"))
            if k % 50 == 49:
                time.sleep(0.01)
        assert soon(lambda: around.relay.counts[1].aired == 400)
        taken = collect(second, 400, limit_s=0.5)
        lost = around.relay.counts[2].lost
        assert len(taken) + lost == 400
        assert 80 < lost < 160


def test_the_relay_s_rate_holds_back_and_its_queue_drops_the_oldest(made):
    with Relayed(made, rate_kbit_s=800.0, queue_bytes=3000) as around:
        first, second = around.links
        for k in range(10):
            first.send(bytes([k]) + bytes(923))  # 10 ms each on the air
        taken = [data[0] for data in collect(second, 4)]
        assert taken == [0, 7, 8, 9]
        assert around.relay.counts[1].pushed_out == 6


def test_the_relay_sends_nothing_of_strangers(made):
    with Relayed(made) as around:
        stranger = made(f"udp://127.0.0.1:{around.relay.port}?listen=0")
        stranger.send(b"let me in")
        assert soon(lambda: around.relay.strangers)
        around.links[0].send(b"friend")
        assert collect(around.links[1], 1) == [b"friend"]
        assert stranger.receive() == [] == around.links[0].receive()


@pytest.mark.parametrize(
    ("peers", "options", "says"),
    [
        ([], {}, "2 to 64"),
        ([1, 1], {}, "each once"),
        (range(1, MAX_PEERS + 2), {}, "2 to 64"),
        ([1, 2], {"distance_m": (9.0,), "distance_delivery": (1.0,)}, "no distances"),
        ([1, 2], {"trace": "/no/such.csv"}, "cannot be read"),
    ],
)
def test_a_relay_that_cannot_be_is_refused(peers, options, says):
    addresses = [("127.0.0.1", port) for port in peers]
    with pytest.raises(InputError, match=says):
        UdpRelay(ChannelConfig(**options), ("127.0.0.1", 0), addresses, WallClock())


def test_the_relay_command_runs_between_two_links_and_says_what_went_through(made):
    relay, a, b = free_port(), free_port(), free_port()
    command = [
        sys.executable, "-m", "leadsight", "v2x-relay", f"127.0.0.1:{a}", f"127.0.0.1:{b}",
        "--listen", f"127.0.0.1:{relay}", "--set", "channel.rate_kbit_s=6000",
        "--set", "channel.delay_ms=5",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        first = made(f"udp://127.0.0.1:{relay}?listen={a}")
        second = made(f"udp://127.0.0.1:{relay}?listen={b}")
        assert soon(lambda: first.send(b"hello") or second.receive(), 20)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0
    assert f"127.0.0.1:{a}" in told and "pushed out" in told
