"""A simulator in front of the stack: what its cameras see is tracked, and, with ``follow:=true``,
what the stack says flies the UAVs.

``world:=`` embedded, mujoco, town, sumo, recorder or carla. ``vehicles:=uav1,uav2`` starts one
stack for each, in its namespace. The simulator owns ``/clock``.
"""

import re
import runpy
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    GroupAction,
    RegisterEventHandler,
    SetLaunchConfiguration,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration

HERE = Path(__file__).resolve().parent
PIPELINE = runpy.run_path(str(HERE / "pipeline.launch.py"))
CAMERAS = ("embedded", "mujoco", "carla")
"""Worlds with pictures; behind the others there is no stack to start."""
WORLDS = (*CAMERAS, "town", "sumo", "recorder")
ARGUMENTS = {
    **PIPELINE["ARGUMENTS"],
    "params_file": (str(HERE.parent / "config" / "sim.yaml"), "ROS 2 parameter file."),
    "use_sim_time": ("true", "Whether the stack's time comes from /clock."),
    "world": ("embedded", f"Which simulator: {', '.join(WORLDS)}."),
    "source": ("", "What it plays or where it runs: a recording, a .sumocfg, host:port."),
    "vehicles": ("", "Names of the UAVs, with commas between; empty: one, in the namespace."),
    "follow": ("false", "Whether the stack flies the UAVs, each after its target."),
}
Parameters = dict[str, object]


def generate_launch_description() -> LaunchDescription:
    """The simulator, then a stack for each vehicle."""
    return PIPELINE["described"](ARGUMENTS, lambda context: simulated(context, {}))


def simulated(context: LaunchContext, given: Parameters) -> list[LaunchDescriptionEntity]:
    """One node ``simulator`` with the parameters that are given; for each vehicle the stack's own
    description, and ``follower``. All ends with the simulator."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    world, vehicles = value("world"), value("vehicles").split(",")
    if world not in WORLDS:
        raise ValueError(f"world:={world} is none of {', '.join(WORLDS)}")
    if not all(re.fullmatch(r"([A-Za-z]\w{0,31})?", v) for v in vehicles):
        raise ValueError(f"vehicles:={value('vehicles')}: give names with commas between them")
    one = value("processes") == "one"
    select = "pipeline/select" if one else "tracker/select"
    parameters = {
        "use_sim_time": False,
        "simulator.world": world,
        "simulator.source": value("source"),
        "simulator.vehicles": vehicles,
        "simulator.select_service": select if world in CAMERAS else "",
    }
    node = PIPELINE["node"]("simulator", **parameters, **given)
    ended = OnProcessExit(target_action=node, on_exit=[Shutdown(reason="the simulator has ended")])
    stacks = [stack(context, name) for name in vehicles] if world in CAMERAS else []
    return [node, RegisterEventHandler(ended), *stacks]


def stack(context: LaunchContext, vehicle: str) -> GroupAction:
    """The stack of one vehicle, in its namespace."""
    space = LaunchConfiguration("namespace").perform(context).rstrip("/")
    follow = LaunchConfiguration("follow").perform(context).lower() in ("true", "1", "yes")
    return GroupAction(
        [
            SetLaunchConfiguration("namespace", "/".join(filter(None, [space, vehicle]))),
            PIPELINE["generate_launch_description"](),
            *([PIPELINE["node"]("follower")] if follow else []),
        ]
    )
