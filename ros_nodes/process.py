"""What every node's process does: memory, DDS profile, signals, one name, a clean end."""

import ctypes
import fcntl
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import cv2
import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import LoggingSeverity, get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from pipeline.errors import InputError
from pipeline.resources import share_path

PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
NAME_CHECK_S = 3.0

_stop = threading.Event()
_status = 0


def finish(status: int = 0) -> None:
    """End the process after the callback that runs now."""
    global _status
    _status = status
    _stop.set()


def run(make_node: Callable[[], Node], argv: list[str] | None = None) -> int:
    """Spin one node until SIGINT, SIGTERM or ``finish``; returns the exit status.

    Status 2 with one line: bad ROS arguments, the node refused its input, or its name is taken.
    An exception in a callback (timer, subscription, service) is logged and the node goes on.
    """
    keep_memory()
    use_profile()
    if "OPENCV_FOR_THREADS_NUM" not in os.environ:
        # Stages share the cores: each that spreads over all of them delays the others' frames.
        cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _stop.set())
    node = lock = executor = None
    try:
        _init(sys.argv if argv is None else argv)
        node = _made(make_node)
        # Not the events executor: in rclpy 7.1 it breaks on callbacks that take a MessageInfo.
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        lock = _claim_name(node)
        check_until = time.monotonic() + NAME_CHECK_S
        while not _stop.is_set():
            try:
                executor.spin_once(timeout_sec=0.1)
            except Exception:
                if not rclpy.ok():
                    raise
                node.get_logger().error(traceback.format_exc(), throttle_duration_sec=1.0)
            if time.monotonic() < check_until and _name_is_shared(node):
                check_until = 0.0
        return _status
    except InputError as error:
        print(f"{node.get_name() if node else 'leadsight'}: {error}", file=sys.stderr)
        return 2
    finally:
        if executor is not None:  # the garbage collector's way of ending it may print a traceback
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        if lock is not None:
            os.close(lock)


def _init(argv: list[str]) -> None:
    rcl = get_logger("rcl")  # says "Failed to parse global arguments" beside what it reports
    rcl.set_level(LoggingSeverity.FATAL)
    try:
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # what rclpy's bindings raise is no public name
        raise InputError(f"ROS arguments: {_reason(error)}") from None
    finally:
        rcl.set_level(LoggingSeverity.UNSET)


def _made(make_node: Callable[[], Node]) -> Node:
    try:
        return make_node()
    except (ParameterException, NameValidationException) as error:
        raise InputError(f"ROS arguments: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """One line, without the places in rcl's own source."""
    return re.sub(r", at \S+:\d+", "", " ".join(str(error).split()))


def keep_memory() -> None:
    """Let the C library keep freed megabytes: giving each image's pages back to the kernel and
    faulting them in again costs several times the copy itself."""
    try:
        libc = ctypes.CDLL(None)
        for option, value in ((-3, 32 << 20), (-1, 512 << 20), (-8, 2)):
            libc.mallopt(option, value)
    except (OSError, AttributeError):
        pass  # no glibc: its allocator has other manners


def use_profile() -> None:
    """Fast DDS's own shared-memory segment is too small for images; a profile of the user's, named
    in the environment, goes first."""
    if not any(name in os.environ for name in PROFILE_VARIABLES):
        path = str(share_path("config", "fastdds.xml"))
        os.environ.update(dict.fromkeys(PROFILE_VARIABLES, path))


def _claim_name(node: Node) -> int | None:
    """Hold the node's name on this machine for as long as the process lives, however it ends.

    Raises:
        InputError: another process holds it.
    """
    name = node.get_fully_qualified_name()
    key = f"leadsight-{os.getuid()}-{os.environ.get('ROS_DOMAIN_ID', '0')}{name.replace('/', '-')}"
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        lock = os.open(Path(tempfile.gettempdir()) / f"{key[:200]}.lock", flags, 0o600)
    except OSError:
        return None  # no place for locks: the warning below remains
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise InputError(
            f"another node is named {name}: stop it, or give this one another name or namespace "
            "(--ros-args -r __node:=NAME -r __ns:=/NAMESPACE)"
        ) from None
    return lock


def _name_is_shared(node: Node) -> bool:
    """Warn of a namesake elsewhere: none of the two knows which one was first."""
    mine = node.get_name(), node.get_namespace()
    shared = bool(node.get_node_names_and_namespaces().count(mine) > 1)
    if shared:
        node.get_logger().warning(
            f"another machine has a node {node.get_fully_qualified_name()}, too: they disturb each "
            "other, so stop one or give it another name or namespace"
        )
    return shared
