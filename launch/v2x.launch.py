"""V2X stations: one ``v2x`` node a vehicle, each in a namespace of its own.

``agents:=3`` starts stations 1, 2 and 3 as /agent1/v2x to /agent3/v2x; ``namespace`` and ``first``
give one vehicle its own. In ``link``, ``credentials`` and ``params_file``, {n} is the station.
"""

import re
import runpy
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

HERE = Path(__file__).resolve().parent
PIPELINE = runpy.run_path(str(HERE / "pipeline.launch.py"))
SHARE = HERE.parent
MAX_AGENTS = 64
ARGUMENTS = {
    "agents": ("1", "How many stations."),
    "first": ("1", "Number of the first one; v2x.station."),
    "namespace": ("agent{n}", "Namespace of each; empty for none, where there is one."),
    "link": ("ros", "How messages travel: ros, udp://…, zenoh://…; v2x.link."),
    "credentials": ("", "Folder with key and certificate; v2x.credentials."),
    "trust": ("", "Folder with root certificate and revocation list; v2x.trust."),
    "params_file": (str(SHARE / "config" / "leadsight.yaml"), "ROS 2 parameter file."),
    "use_sim_time": ("false", "Whether time comes from /clock."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "python": (PIPELINE["PYTHON"], "Python that runs the nodes."),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, the environment, then the nodes."""
    return PIPELINE["described"](ARGUMENTS, stations)


def stations(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """One node a station."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    for name in ("agents", "first"):
        if not re.fullmatch(r"[1-9]\d{0,8}", given[name]):
            raise ValueError(f"{name}:={given[name]} is no number from 1")
    agents, first = int(given["agents"]), int(given["first"])
    if agents > MAX_AGENTS:
        raise ValueError(f"agents:={agents}: at most {MAX_AGENTS}")
    if agents > 1 and "{n}" not in given["namespace"]:
        raise ValueError(f"namespace:={given['namespace']}: write {{n}} for the station's number")
    return [station(n, given) for n in range(first, first + agents)]


def station(number: int, given: dict[str, str]) -> Node:
    """The node of one station."""

    def of(name: str) -> str:
        return given[name].replace("{n}", str(number))

    parameters = {f"v2x.{name}": of(name) for name in ("link", "credentials", "trust") if of(name)}
    return Node(
        executable=given["python"],
        arguments=["-m", "ros_nodes.v2x"],
        exec_name="v2x",
        name="v2x",
        namespace=of("namespace"),
        parameters=[
            of("params_file"),
            {
                "use_sim_time": given["use_sim_time"].lower() in ("true", "1", "yes"),
                "v2x.station": number,
                **parameters,
            },
        ],
        ros_arguments=["--log-level", given["log_level"]],
        output="screen",
    )
