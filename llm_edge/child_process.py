"""A process that runs ``llm_edge.child``, and the wire to it."""

import os
import select
import signal
import socket
import subprocess
import sys
from typing import Any

from llm_edge.isolation import environment
from llm_edge.wire import Wire

_BUFFER = 1 << 20
"""Bytes that can be sent to a process that does not listen; the system may allow fewer."""


class ChildProcess:
    """Started with ``first``, the message that says what to be. silent_s: a message that takes
    longer to come whole, or to be taken, is none.

    Raises:
        OSError: the system starts no more processes.
    """

    def __init__(self, first: dict[str, Any], silent_s: float) -> None:
        self._end, there = socket.socketpair()
        with there:
            self._end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._end.settimeout(silent_s)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "llm_edge.child", str(there.fileno())],
                    pass_fds=[there.fileno()],
                    env=environment({**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}),
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the parent to pass on
                )
            except OSError:
                self._end.close()
                raise
        self.wire = Wire(self._end)
        self.wire.send(first)

    @property
    def pid(self) -> int:
        return self._process.pid

    def speaks(self, within_s: float) -> bool:
        """Whether a message, or the end, is there to be received."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(within_s * 1e3))

    def signal(self, number: signal.Signals) -> None:
        """To nobody, where it has ended."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill it, also while it is stopped."""
        self._process.kill()
        self._process.wait()
        self.wire.close()
