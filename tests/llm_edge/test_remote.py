"""A remote endpoint: a good one answers; whatever a bad one does is one reason, in time."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llm_edge.decision import Action, Source
from llm_edge.remote import Remote, RemoteConfig
from llm_edge.thread_worker import ThreadWorker
from pipeline.clock import WallClock
from pipeline.errors import InputError
from tests.llm_edge.crowds import MS, NOW, crowd
from tests.llm_edge.test_json_guide import GOOD

CLOCK = WallClock()
ANSWER = json.dumps(GOOD)


def whole(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


class Endpoint(ThreadingHTTPServer):
    """Answers with what it is told to: bytes of a body, or a callable that gets the handler."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.asked, self.connections = whole(ANSWER), [], 0
        self.release = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1/chat/completions"

    def handle_error(self, request, client_address):
        """Clients hang up here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(body)))
        answer = self.server.answer
        if callable(answer):
            answer(self)
        else:
            self.send(200, answer)

    def send(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def endpoint():
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def remote(endpoint, **options):
    return Remote(RemoteConfig(url=endpoint.url, **options), CLOCK)


def ask(made, ms=5000):
    return made.answer(crowd(), CLOCK.now_ns() + ms * MS)


def test_a_good_endpoint_answers(endpoint):
    made = remote(endpoint, model="qwen", valid_ms=700.0)
    reply = ask(made)
    assert reply.decision.action is Action.SLOW
    assert reply.decision.source is Source.REMOTE
    assert reply.decision.valid_until_ns == NOW + 700 * MS
    path, headers, question = endpoint.asked[0]
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert question["model"] == "qwen"
    assert question["response_format"]["json_schema"]["schema"]["anyOf"]
    assert [m["role"] for m in question["messages"]] == ["system", "user"]
    assert "31 " in question["messages"][1]["content"]


@pytest.mark.parametrize(
    "text",
    [f"```json\n{ANSWER}\n```", f"<think>{{hm}}</think>\nSure: {ANSWER}", f"\n {ANSWER}\n"],
)
def test_what_models_put_around_an_answer_is_left_away(endpoint, text):
    endpoint.answer = whole(text)
    assert ask(remote(endpoint)).decision is not None


def test_an_answer_in_pieces_is_put_together(endpoint):
    def stream(handler):
        rows = [{"choices": [{"delta": {"role": "assistant"}}]}]
        rows += [{"choices": [{"delta": {"content": c}}]} for c in ANSWER]
        rows += [{"choices": [], "usage": {}}]
        text = "".join(f"data: {json.dumps(r)}\n\n" for r in rows) + "data: [DONE]\n\n"
        handler.send(200, text.encode(), "text/event-stream")

    endpoint.answer = stream
    assert ask(remote(endpoint, stream=True)).decision is not None
    assert endpoint.asked[0][2]["stream"] is True


def test_the_key_goes_into_the_header_and_nowhere_else(endpoint, monkeypatch):
    monkeypatch.setenv("A_KEY", "geheim-77")
    made = remote(endpoint, key_variable="A_KEY")
    ask(made)
    assert endpoint.asked[0][1]["Authorization"] == "Bearer geheim-77"
    assert "geheim" not in json.dumps(endpoint.asked[0][2])
    endpoint.answer = lambda handler: handler.send(401, b"bad key geheim-77")
    assert ask(made).why == "remote: status 401"
    monkeypatch.setenv("A_KEY", "a\r\nHost: evil")
    with pytest.raises(InputError, match="no header can hold"):
        remote(endpoint, key_variable="A_KEY")


def raw(data):
    def send(handler):
        handler.wfile.write(data)
        handler.wfile.flush()
        handler.close_connection = True

    return send


def endless(handler):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while not handler.server.release.is_set():
        handler.wfile.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "no JSON"), (b"<html>", "no JSON"), (b"\xff\xfe{}", "no JSON"), (b"[]", "choices"),
        (b"[" * 60_000, "no JSON"), (b"{}", "choices"), (b'{"choices":{}}', "no text"),
        (b'{"choices":[]}', "no text"), (b'{"choices":[7]}', "choices"), (whole(None), "no text"),
        (b'{"choices":[{"message":[]}]}', "choices"), (whole("I would slow down."), "no JSON"),
        (whole("{}"), "exactly"), (whole(json.dumps({**GOOD, "target": 5})), "not in the scene"),
        (whole(json.dumps({**GOOD, "speed_mps": 10**400})), "possible size"),
        (whole("x" * 10_000), "characters"), (b"x" * 70_000, "over 65536 bytes"),
        (endless, "over 65536 bytes"), (lambda h: h.send(500, b"oops"), "status 500"),
        (lambda h: h.send(302, Location="http://127.0.0.1:1/"), "redirects are not followed"),
        (raw(b""), "hung up"), (raw(b"SSH-2.0-dropbear\r\n"), "no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), "remote"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n"), "no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 90_000), "no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}"), "no HTTP"),
    ],
)  # fmt: skip
def test_garbage_is_one_reason_and_no_crash(endpoint, answer, why):
    endpoint.answer = answer
    reply = ask(remote(endpoint))
    assert reply.decision is None
    assert why in reply.why
    assert "\n" not in reply.why
    assert len(reply.why) < 300


def silent(handler):
    handler.server.release.wait(20)


def trickle(handler):
    """A header line now and then, which no timeout of a socket ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.release.wait(0.02):
        handler.wfile.write(b"X: y\r\n")


def dripping(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while not handler.server.release.wait(0.02):
        handler.wfile.write(b" ")


@pytest.mark.parametrize("answer", [silent, trickle, dripping])
def test_what_hangs_or_drips_is_over_at_the_deadline(endpoint, answer):
    endpoint.answer = answer
    begun = time.monotonic()
    reply = ask(remote(endpoint), ms=100)
    assert time.monotonic() - begun < 5
    assert (reply.decision, reply.why) == (None, "remote: no answer in time")


def test_it_can_be_canceled(endpoint):
    endpoint.answer = silent
    made = remote(endpoint)
    timer = threading.Timer(0.1, made.cancel)
    timer.start()
    reply = ask(made, ms=20_000)
    assert (reply.decision, reply.why) == (None, "canceled")


def test_after_a_failure_it_is_probed_only(endpoint):
    made = remote(endpoint, probe_s=3600)
    endpoint.answer = b"oops"
    assert "no JSON" in ask(made).why
    endpoint.answer = whole(ANSWER)
    for _ in range(5):
        assert ask(made).why == "the round trip does not fit the deadline"
    assert len(endpoint.asked) == 1


def test_a_deadline_that_it_does_not_fit_is_not_tried(endpoint):
    made = remote(endpoint, probe_s=3600)
    endpoint.answer = lambda handler: (time.sleep(0.05), handler.send(200, whole(ANSWER)))
    for _ in range(4):
        assert ask(made).decision is not None
    assert not made.fits(CLOCK.now_ns() + 20 * MS)
    assert "does not fit" in ask(made, ms=20).why
    assert len(endpoint.asked) == 4


def test_the_connection_is_kept_and_made_again_when_it_was_closed(endpoint):
    made = remote(endpoint)
    for _ in range(3):
        assert ask(made).decision is not None
    assert endpoint.connections == 1
    made._poster._connection.sock.shutdown(2)  # as an idle connection's far end does
    assert ask(made).decision is not None
    assert endpoint.connections == 2
    made.close()


def test_nobody_there_is_one_reason(endpoint):
    made = Remote(RemoteConfig(url="http://127.0.0.1:9/v1"), CLOCK)
    assert "Connection refused" in ask(made).why
    plain = remote(endpoint, probe_s=0.1)
    secure = Remote(RemoteConfig(url=endpoint.url.replace("http:", "https:")), CLOCK)
    assert "no HTTP from it" in ask(secure, ms=2000).why
    assert ask(plain).decision is not None


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:8080", "ftp://host/", "file:///etc/passwd", "http://", "http://a b/",
        "http://user:word@host/", "http://host:99999/", "http://host/\r\nX: y", "http://h/ü",
        "http://[::1", "http://h/" + "a" * 3000,
    ],
)  # fmt: skip
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(InputError):
        Remote(RemoteConfig(url=url), CLOCK)


def test_in_a_thread_of_its_own_it_answers_by_the_deadline(endpoint):
    worker = ThreadWorker(lambda: remote(endpoint), CLOCK)
    assert worker.ready.wait(10)
    assert worker.ask(crowd(), CLOCK.now_ns() + 5000 * MS).decision is not None
    endpoint.answer = silent
    assert worker.ask(crowd(), CLOCK.now_ns() + 100 * MS).decision is None
    worker.close()
