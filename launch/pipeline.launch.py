"""The stack behind a camera: ``image_raw`` → ``tracks``, ``forecasts``, ``latency``.

One process by default, so that images pass by reference; ``processes:=many`` gives each stage its
own. Works from a colcon or pip installation and, by path, from a checkout.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(__file__).resolve().parents[1]
# What the nodes need lies in the active virtual environment; `ros2 launch` itself runs on the
# system's Python.
VENV = os.environ.get("VIRTUAL_ENV")
PYTHON = os.path.join(VENV, "bin", "python") if VENV else sys.executable
ARGUMENTS = {
    "namespace": ("", "Namespace of all nodes and topics: the vehicle."),
    "params_file": (str(SHARE / "config" / "leadsight.yaml"), "ROS 2 parameter file."),
    "use_sim_time": ("false", "Whether time comes from /clock."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "camera": ("image_raw", "Topic of the camera, RAW or color."),
    "imu": ("imu", "Topic of the IMU on that camera; used with calibration."),
    "camera_info": ("camera_info", "Topic of the camera's calibration."),
    "calibration": ("", "Kalibr's camchain-imucam.yaml, to use the IMU's gyroscope."),
    "reasoner": ("false", "Whether the reasoner runs as well (reasoner.launch.py)."),
    "processes": ("one", "one: all stages share one; many: each has its own."),
    "python": (PYTHON, "Python that runs the nodes."),
}
STAGES = {"one": ["pipeline"], "many": ["isp", "tracker", "predictor", "latency_monitor"]}
ENVIRONMENT = {
    "FASTDDS_DEFAULT_PROFILES_FILE": str(SHARE / "config" / "fastdds.xml"),
    "FASTRTPS_DEFAULT_PROFILES_FILE": str(SHARE / "config" / "fastdds.xml"),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, the environment, then the nodes."""
    return described(ARGUMENTS, nodes)


def described(
    arguments: dict[str, tuple[str, str]],
    start: Callable[[LaunchContext], list[LaunchDescriptionEntity]],
) -> LaunchDescription:
    """Arguments with default and text, what nodes need of the environment, then ``start``."""
    environment = {k: v for k, v in ENVIRONMENT.items() if k not in os.environ}
    if (SHARE / "package.xml").exists() and (SHARE / "ros_nodes").is_dir():
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(SHARE), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in arguments.items()
            ),
            *(SetEnvironmentVariable(name, value) for name, value in environment.items()),
            OpaqueFunction(function=start),
        ]
    )


def nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The stages of the chosen kind."""
    processes = LaunchConfiguration("processes").perform(context)
    if processes not in STAGES:
        raise ValueError(f"processes:={processes} is none of {', '.join(STAGES)}")
    calibration = LaunchConfiguration("calibration").perform(context)
    given = {"propagator.calibration": str(Path(calibration).expanduser().resolve())}
    started = [node(name, **(given if calibration else {})) for name in STAGES[processes]]
    reasons = LaunchConfiguration("reasoner").perform(context).lower() in ("true", "1", "yes")
    return [*started, node("reasoner")] if reasons else started


def node(name: str, **parameters: object) -> Node:
    """One node, run as a module: the same from a checkout and from an installation."""
    return Node(
        executable=LaunchConfiguration("python"),
        arguments=["-m", f"ros_nodes.{name}"],
        exec_name=name,
        name=name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {"use_sim_time": LaunchConfiguration("use_sim_time"), **parameters},
        ],
        remappings=[
            ("image_raw", LaunchConfiguration("camera")),
            ("imu", LaunchConfiguration("imu")),
            ("camera_info", LaunchConfiguration("camera_info")),
        ],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
