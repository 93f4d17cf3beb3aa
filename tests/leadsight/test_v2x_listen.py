"""``leadsight v2x-listen``: hears stations over UDP, counts their bytes and what it refuses."""

import io
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from comms.config import V2xConfig
from comms.envelope import HEADER_BYTES, unpack
from comms.make_station import make_station
from comms.signing import split
from comms.udp import UdpLink
from leadsight.v2x_listen import MAX_ROWS, NUMBER, Listener, sizes_of, table_of, totals_of
from leadsight.v2x_pki import run_v2x_pki
from pipeline.clock import WallClock
from tests.comms.made import MS, NOW
from tests.comms.scenes import at, station, straight, things

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def listener(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "leadsight", "v2x-listen", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline()


def test_it_hears_a_signed_station_and_refuses_the_rest(tmp_path, port):
    keys = tmp_path / "keys"
    run_v2x_pki(keys, 1, 1.0, None, (), Console(quiet=True))
    config = V2xConfig(credentials=str(keys / "station-1"), selector="codriving")
    sender, link, clock = make_station(config), UdpLink([("127.0.0.1", port)], 0), WallClock()
    process, first = listener(
        f"udp://127.0.0.1:{port}", "--trust", str(keys / "trust"), "--seconds", "4"
    )
    assert "trusting" in first, first
    sizes, end_s = [], time.monotonic() + 3
    while time.monotonic() < end_s:
        now = clock.now_ns()
        plan = replace(straight(), stamp_ns=now)
        sender.see(things([(10, 0), (20, 0)], stamp_ns=now), at(stamp_ns=now), plan)
        for data in sender.outgoing(now):
            sizes.append(len(data))
            link.send(data)
            link.send(data)  # replayed
            link.send(b"\0" + split(data).envelope)  # its signature taken off
        time.sleep(0.02)
    link.close()
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 0, told
    n = len(sizes)
    assert n > 10
    assert f"replay {n}" in told, told
    assert f"unsigned {n} (they do not sign" in told
    assert re.search(r"\d s: 1 stations, \d+\.\d messages/s, bytes/s: payload", told)
    row = next(line for line in told.splitlines() if re.match(r" +1  +\d", line))
    cells = [float(c) for c in re.findall(r"[\d.]+", row)]
    took_s = float(re.search(r"all in all, ([\d.]+) s", told).group(1))
    assert cells[1] * took_s == pytest.approx(n, rel=0.05)
    assert sum(cells[2:7]) * took_s == pytest.approx(sum(sizes), rel=0.05)
    assert min(cells[2:6]) > 0
    assert cells[7] == 3  # two, and the station itself
    assert cells[-1] == 0  # lost


def test_it_ends_when_it_is_told_to_and_says_that_nobody_spoke(port):
    process, first = listener(f"udp://127.0.0.1:{port}")
    assert "nothing is verified" in first, first
    process.terminate()
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert "nobody was heard" in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["ros"], "only the v2x node"), (["udp://127.0.0.1:1", "--trust", "nowhere"], "v2x-pki")],
)
def test_what_cannot_be_is_one_line_and_status_2(arguments, says):
    process, first = listener(*arguments)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert says in first + rest
    assert len((first + rest).strip().splitlines()) == 1


def test_kinds_add_up_to_the_datagrams_and_are_what_the_sender_counted():
    sender, heard = station(7), Counter()
    for k in range(30):
        now = NOW + k * 100 * MS
        sender.see(things([(10 + k * k, 0)], stamp_ns=now), at(stamp_ns=now), straight())
        for data in sender.outgoing(now):
            kinds = sizes_of(data, unpack(split(data).envelope))
            assert sum(kinds.values()) == len(data)
            heard.update(kinds)
    assert dict(heard) == sender.report().sent_bytes
    assert heard["request"] > 0


def test_the_table_fits_80_columns_whatever_the_numbers():
    number = NUMBER - 1
    mine, sender = Listener(station(NUMBER)), station(number)
    sender.see(things([(10, 0)]), at())
    sender.outgoing(NOW - 1000 * MS)
    for data in sender.outgoing(NOW):
        mine.take(data, NOW + 999 * MS)
    mine.settle(NOW)
    busy = {n: Counter({k: 10_000 * v for k, v in c.items()}) for n, c in totals_of(mine).items()}
    out = Console(width=80, record=True, file=io.StringIO())
    out.print(table_of(mine, busy, 1.0, "3600 s"))
    text = out.export_text()
    headers = ("payload", "header", "signed", "request", "features", "known", "lost%")
    for whole in (*headers, f"{number} ", "999/999", f"{10_000 * HEADER_BYTES}"):
        assert whole in text
    assert max(map(len, text.splitlines())) <= 80


def test_any_number_of_stations_takes_bounded_memory():
    mine = Listener(station(NUMBER, budget_bytes_s=0))
    rng = np.random.default_rng(1)
    for k in range(MAX_ROWS + 50):
        now = NOW + k * 6000 * MS  # one after another, each silent when the next one comes
        sender = station(1 + k)
        sender.see(things(rng.uniform(-9, 9, (2, 2)), stamp_ns=now), at(stamp_ns=now))
        sender.outgoing(now - 1000 * MS)
        for data in sender.outgoing(now):
            mine.take(data, now)
        mine.settle(now)
    assert len(mine.heard) == MAX_ROWS
    assert mine.total.messages == MAX_ROWS + 50
    assert mine.rejected == {}
