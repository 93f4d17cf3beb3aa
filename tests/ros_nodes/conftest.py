"""Real nodes as real processes over real DDS; each test has a domain of its own."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_domains = itertools.count(1 + os.getpid() % 40 * 2)


class Ros:
    """A node that watches, and the processes that it watches."""

    def __init__(self, tmp_path: Path) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        from ros_nodes import process

        process.use_profile()
        self.domain = next(_domains) % 100 + 1
        self.environment = os.environ | {
            "ROS_DOMAIN_ID": str(self.domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(tmp_path / "log"),
        }
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self._logs = tmp_path
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node = rclpy.create_node("watch", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *parameters: str, arguments: tuple[str, ...] = ()) -> "Process":
        command = [sys.executable, "-m", f"ros_nodes.{name}", "--ros-args", *arguments]
        for parameter in parameters:
            command += ["-p", parameter]
        return self.run(command)

    def run(self, command: list[str]) -> "Process":
        log = self._logs / f"{len(self._started)}.txt"
        with log.open("w") as file:
            popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._started.append(popen)
        return Process(popen, log)

    def spin(self, done: Callable[[], object], limit_s: float = 15.0) -> bool:
        """Spin until something holds; whether it came to."""
        end = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.02)
        return True

    def heard(self, kind: Any, topic: str, depth: int = 100) -> list[Any]:
        """A list that grows with each message of a topic; best effort hears both kinds."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy

        taken: list[Any] = []
        profile = QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.node.create_subscription(kind, topic, taken.append, profile)
        return taken

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        assert self.spin(client.service_is_ready), f"no service {name}"
        future = client.call_async(request)
        assert self.spin(future.done), f"no answer from {name}"
        return future.result()

    def close(self) -> None:
        for popen in self._started:
            if popen.poll() is None:
                os.killpg(popen.pid, signal.SIGINT)  # as Ctrl-C: the children of a launch, too
        for popen in self._started:
            try:
                popen.wait(10)
            except subprocess.TimeoutExpired:
                popen.kill()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


class Process:
    """One started process and what it wrote."""

    def __init__(self, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.popen = popen
        self._log = log

    def text(self) -> str:
        return self._log.read_text()


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[Ros]:
    found = Ros(tmp_path)
    yield found
    found.close()
