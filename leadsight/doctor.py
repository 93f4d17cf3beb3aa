"""``leadsight doctor``: what is here, what is missing and how to get it, and does it run."""

import importlib
import importlib.metadata
import os
import platform
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from bridges.world import AerialWorld, WorldConfig
from evaluation.data import find_data
from leadsight.live import fly
from leadsight.stack import CONFIGS
from pipeline import config
from pipeline.span import LatencyStatus

NEEDED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "cv2": "opencv-contrib-python-headless",
    "onnxruntime": "onnxruntime",
    "onnx": "onnx",
    "rosbags": "rosbags",
    "matplotlib": "matplotlib",
    "yaml": "PyYAML",
    "typer": "typer",
}
OPTIONAL = {
    "rclpy": ("ROS 2 nodes", "source a ROS 2, or `make install-ros`"),
    "leadsight_msgs": ("ROS 2 messages", "`make install-ros`, or colcon build with interfaces"),
    "launch_ros": ("ROS 2 launch files", "comes with a ROS 2 installation only"),
    "rawpy": ("DNG and camera RAW files", "`pip install '.[raw]'`"),
    "pycocotools": ("streaming AP of many targets", "`pip install '.[mot]'`"),
    "zenoh": ("V2X over zenoh", "`pip install '.[zenoh]'`"),
    "ray": ("evaluation on a cluster", "`pip install '.[scale]'`"),
    "rerun": ("viewer for .mcap files", "`pip install '.[viz]'`"),
    "mujoco": ("the MuJoCo world", "`pip install '.[sim]'`"),
    "libsumo": ("traffic of SUMO", "`pip install '.[sumo]'`"),
    "carla": ("CARLA servers (then `leadsight carla-doctor`)", "`pip install '.[carla]'`"),
    "torch": ("training", "`pip install '.[train]'`"),
}
SELFTEST_S = 10.0


def run_doctor(selftest: bool, console: Console) -> bool:
    """Print the findings; False when something needed is missing or the self-test fails."""
    healthy = _installed(console)
    _system(console)
    if selftest and healthy:
        healthy = _selftest(console)
    console.print("leadsight is ready" if healthy else "leadsight is [bold]not[/bold] ready")
    return healthy


def _installed(console: Console) -> bool:
    table = Table("package", "version", "what for / remedy", title="installed")
    healthy = True
    for module, package in NEEDED.items():
        version = _version(module, package)
        healthy &= version is not None
        remedy = "needed" if version else f"[red]missing[/red]: `pip install {package}`"
        table.add_row(package, version or "–", remedy)
    for module, (purpose, remedy) in OPTIONAL.items():
        version = _version(module, module)
        text = purpose if version else f"{purpose}: {remedy}"
        table.add_row(module, version or "–", escape(text))
    contrib = hasattr(cv2, "legacy") and hasattr(cv2, "TrackerCSRT_create")
    if not contrib:
        table.add_row("cv2.legacy", "–", "MOSSE, KCF, CSRT: install opencv-contrib-python-headless")
    console.print(table)
    return healthy


def _version(module: str, package: str) -> str | None:
    try:
        found = importlib.import_module(module)
    except Exception:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(found, "__version__", "found"))


def _system(console: Console) -> None:
    models = find_data("models")
    console.print(f"python {platform.python_version()}, {platform.platform()}")
    console.print(f"{os.cpu_count()} cores, {_cpu()}")
    console.print(f"ROS 2 sourced: {os.environ.get('ROS_DISTRO', 'no')}")
    console.print(f"models: {models or 'none found; set LEADSIGHT_DATA or give --models'}")


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def _selftest(console: Console) -> bool:
    world = AerialWorld(WorldConfig(width=640, height=360, altitude_m=30.0))
    count = int(SELFTEST_S * 30)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("self-test", total=2 * count)
        frames = []
        for k in range(count):
            frames.append(world.render(k).frame)
            bar.advance(task)
        truth = world.truth(0)
        box = truth.boxes[truth.ids == world.target_id][0]
        configs = config.build(CONFIGS, assignments=["tracker.name=kcf", "isp.black_level=[64]"])
        flight = fly(frames, box, configs, lambda n: bar.advance(task, n))
    report = flight.report
    table = Table("stage", "median age", "p99", "jitter", "rate", "drops", title="self-test")
    healthy = report is not None and not flight.errors and len(flight.forecasts) > count / 2
    for stage in report.stages if report else ():
        healthy &= stage.status == LatencyStatus.ESTIMATED
        ms = [f"{ns * 1e-6:.1f} ms" for ns in (stage.median_ns, stage.p99_ns, stage.jitter_ns)]
        table.add_row(stage.stage, *ms, f"{stage.rate_hz:.1f} Hz", str(stage.drops))
    console.print(table)
    for horizon in report.horizons if report else ():
        console.print(f"horizon of {horizon.consumer}: {horizon.ns * 1e-6:.1f} ms")
    for stage_name, text in dict.fromkeys(flight.errors):
        console.print(f"[red]{stage_name}[/red]: {text}")
    spread = np.ptp([f.valid_at_ns[0] - f.stamp_ns for f in flight.forecasts] or [0])
    console.print(
        f"{len(flight.forecasts)} forecasts of {count} frames, horizon moved by "
        f"{spread * 1e-6:.1f} ms"
    )
    return bool(healthy)
