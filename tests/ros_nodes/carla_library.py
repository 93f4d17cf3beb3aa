"""CARLA's client library for processes of a test: the fake in its place."""

import os
import socket

LIBRARY = """
import os, socket, sys
from tests.bridges.fake_carla import FakeCarla
fake = FakeCarla(cars=3, v2x=True)
fake.server.socket.close()
fake.server.socket = socket.create_server(("127.0.0.1", int(os.environ["FAKE_PORT"])))
fake.server.port = int(os.environ["FAKE_PORT"])
sys.modules[__name__] = fake
"""


def with_fake_carla(ros, folder):
    """Processes that ``ros`` starts from now on import the fake as ``carla``; its server's port."""
    (folder / "carla.py").write_text(LIBRARY)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = os.pathsep.join(filter(None, [str(folder), ros.environment.get("PYTHONPATH", "")]))
    ros.environment |= {"PYTHONPATH": path, "FAKE_PORT": str(port)}
    return port
