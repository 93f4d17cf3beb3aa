"""Messages between a process and the one that answers for it: length, then JSON; nothing else."""

import contextlib
import json
import socket
import struct
import threading
from typing import Any

from pipeline.errors import InputError, first_line

MAX_BYTES = 4 << 20
_LENGTH = struct.Struct("<I")


class Wire:
    """One end of a stream socket. Any thread may send; one receives."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> bool:
        """False where nobody hears it any more; then nothing more is heard here either.

        Raises:
            InputError: more than ``MAX_BYTES``.
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > MAX_BYTES:
            raise InputError(f"wire: a message of {len(data)} bytes; give at most {MAX_BYTES}")
        try:
            with self._lock:
                self._end.sendall(_LENGTH.pack(len(data)) + data)
        except OSError:
            self._end_it()  # perhaps a part of it is on its way, after which nothing can be read
            return False
        return True

    def receive(self) -> dict[str, Any] | None:
        """The next message; None where the other end is gone.

        Raises:
            InputError: what came is none.
        """
        head = self._exactly(_LENGTH.size)
        if head is None:
            return None
        (size,) = _LENGTH.unpack(head)
        if size > MAX_BYTES:
            raise InputError(f"wire: a message of {size} bytes; {MAX_BYTES} are the most")
        data = self._exactly(size)
        if data is None:
            return None
        try:
            message = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InputError(f"wire: no JSON ({first_line(error)})") from error
        if not isinstance(message, dict):
            raise InputError("wire: no JSON object")
        return message

    def close(self) -> None:
        """Whoever receives, here or there, gets None."""
        self._end_it()
        self._end.close()

    def _end_it(self) -> None:
        with contextlib.suppress(OSError):  # gone already
            self._end.shutdown(socket.SHUT_RDWR)

    def _exactly(self, size: int) -> bytes | None:
        parts = []
        while size:
            try:
                part = self._end.recv(min(size, 1 << 16))
            except OSError:
                return None
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
