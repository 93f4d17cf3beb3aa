"""One POST of JSON with a hard end: whatever the other side does, it is over by then."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import InputError, first_line

_PIECE = 1 << 14
_MAX_URL = 2048


class PostError(Exception):
    """No answer; the text says why in one line."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is."""

    host: str
    port: int | None
    path: str
    secure: bool

    @classmethod
    def of(cls, url: str) -> "Place":
        """
        Raises:
            InputError: no URL of http or https, or one with a name and a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError(f"{url[:80]!r} is no URL ({first_line(error)})") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or len(url) > _MAX_URL:
            raise InputError(f"{url[:80]!r} is no http:// or https:// URL")
        if parts.username is not None or any(c <= " " or c > "~" for c in url):
            raise InputError("the URL holds a name, white space or signs beyond ASCII: give none")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port, path or "/", parts.scheme == "https")


class Poster:
    """Keeps the connection from one question to the next."""

    def __init__(self, place: Place, max_bytes: int, headers: Mapping[str, str]) -> None:
        self._place, self._max_bytes, self._headers = place, max_bytes, headers
        self._connection: http.client.HTTPConnection | None = None
        self._ended = threading.Event()

    def post(self, body: Mapping[str, Any], left_ns: int) -> tuple[str, bytes]:
        """Content type and body of the answer; it takes no longer than ``left_ns``, but for the
        time in which the system resolves a name.

        Raises:
            PostError: not in time, no connection, not HTTP, another status than 200, too large.
        """
        data = json.dumps(body).encode()
        left_s = left_ns * 1e-9
        self._ended.clear()
        # A socket's timeout counts for each piece that comes, so one byte a second is no hang.
        guard = threading.Timer(left_s, self.hang_up)
        guard.daemon = True
        guard.start()
        try:
            kept = self._connection is not None
            try:
                return self._once(data, left_s)
            except _StaleError:
                if not kept or self._ended.is_set():
                    raise
                return self._once(data, left_s)  # what was kept had been closed by then
        except PostError as error:
            raise PostError("no answer in time") if self._ended.is_set() else error from None
        finally:
            guard.cancel()

    def hang_up(self) -> None:
        """From any thread: what runs ends."""
        self._ended.set()
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(self, data: bytes, left_s: float) -> tuple[str, bytes]:
        keep = False
        try:
            answer, body = self._talk(self._connected(left_s), data)
            keep = not answer.will_close
            return answer.headers.get_content_type(), body
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            raise _StaleError("the endpoint hung up") from error
        except TimeoutError as error:
            raise PostError("no answer in time") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PostError(f"no HTTP from it ({first_line(error)})") from error
        finally:
            if not keep or self._ended.is_set():
                self.close()

    def _connected(self, left_s: float) -> http.client.HTTPConnection:
        if self._connection is None:
            make = http.client.HTTPSConnection if self._place.secure else http.client.HTTPConnection
            self._connection = make(self._place.host, self._place.port, timeout=left_s)
            self._connection.connect()
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(left_s)
        if self._ended.is_set():
            raise PostError("no answer in time")
        return self._connection

    def _talk(
        self, connection: http.client.HTTPConnection, data: bytes
    ) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"Content-Type": "application/json", **self._headers}
        connection.request("POST", self._place.path, data, headers)
        answer = connection.getresponse()
        if 300 <= answer.status < 400:
            raise PostError(f"status {answer.status}: redirects are not followed, give the end")
        if answer.status != 200:
            raise PostError(f"status {answer.status}")
        pieces, size = [], 0
        while piece := answer.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise PostError(f"an answer of over {self._max_bytes} bytes")
        # The end that comes early, from there or from here, looks to http.client like any other.
        if self._ended.is_set() or answer.length:
            raise PostError("no HTTP from it (the answer was cut short)")
        return answer, b"".join(pieces)


class _StaleError(PostError):
    """The connection ended before an answer began."""
