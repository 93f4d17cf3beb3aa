"""Messages between processes: whole ones arrive, and anything else ends the talk."""

import socket
import struct
import threading

import pytest

from llm_edge.wire import MAX_BYTES, Wire
from pipeline.errors import InputError


@pytest.fixture
def ends():
    here, there = socket.socketpair()
    yield Wire(here), Wire(there), there
    here.close()
    there.close()


def test_messages_arrive_whole_and_in_order_from_several_threads(ends):
    here, there, _ = ends
    words = "x" * 50_000

    def send(k):
        for n in range(5):
            assert here.send({"from": k, "n": n, "words": words})

    threads = [threading.Thread(target=send, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    got = [there.receive() for _ in range(15)]
    for k in range(3):
        assert [m["n"] for m in got if m["from"] == k] == list(range(5))
    assert all(m["words"] == words for m in got)


def test_the_end_of_the_other_is_none_and_nothing_can_be_sent(ends):
    here, there, _ = ends
    there.close()
    assert here.receive() is None
    assert not here.send({"a": 1})


@pytest.mark.parametrize(
    "data",
    [b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000, b""],
)
def test_what_is_no_object_is_refused(ends, data):
    here, _, raw = ends
    raw.sendall(struct.pack("<I", len(data)) + data)
    with pytest.raises(InputError, match="wire"):
        here.receive()


def test_too_long_a_message_is_neither_sent_nor_read(ends):
    here, _, raw = ends
    with pytest.raises(InputError, match="at most"):
        here.send({"a": "x" * MAX_BYTES})
    raw.sendall(struct.pack("<I", MAX_BYTES + 1))
    with pytest.raises(InputError, match="are the most"):
        here.receive()


def test_half_a_message_is_the_end(ends):
    here, there, raw = ends
    raw.sendall(struct.pack("<I", 100) + b"{")
    there.close()
    assert here.receive() is None


def test_a_message_that_was_cut_ends_the_talk_for_both(ends):
    here, there, _ = ends
    here._end.settimeout(0.05)
    assert not here.send({"words": "x" * (MAX_BYTES // 2)})  # nobody reads, so a part is under way
    assert there.receive() is None
    assert here.receive() is None and not here.send({"a": 1})
