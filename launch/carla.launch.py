"""A CARLA server in front of the stack: a camera that flies, or with ``carrier:=car`` a vehicle.

Topics stand where users of CARLA's ROS bridge look for them, under ``/carla/<role>/``. With
``mode:=follow`` another client ticks the server, and this one goes along.
"""

import re
import runpy
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import SetLaunchConfiguration
from launch.substitutions import LaunchConfiguration

SIM = runpy.run_path(str(Path(__file__).resolve().with_name("sim.launch.py")))
OWN = {
    "host": ("127.0.0.1", "Where the server runs; carla.host."),
    "port": ("2000", "Its port; carla.port."),
    "town": ("", "Town to load; empty keeps the one that is there; carla.town."),
    "camera": ("rgb_front/image", "Topic of the camera."),
    "camera_info": ("rgb_front/camera_info", "Topic of the camera's calibration."),
    "role": ("ego_vehicle", "Name of the vehicle; topics are under /carla/<role>; simulator.role."),
    "carrier": ("uav", "uav: a camera that flies; car: a vehicle; simulator.carrier."),
    "mode": ("synchronous", "synchronous: this client ticks; follow: another does; carla.mode."),
}
ARGUMENTS = {
    **{k: v for k, v in SIM["ARGUMENTS"].items() if k not in ("namespace", "world", "source")},
    **OWN,
}


def generate_launch_description() -> LaunchDescription:
    """The bridge, then the stack behind its camera."""
    return SIM["PIPELINE"]["described"](ARGUMENTS, bridge)


def bridge(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """``sim.launch.py`` with CARLA as its world."""
    given = {name: LaunchConfiguration(name).perform(context) for name in OWN}
    follow = LaunchConfiguration("follow").perform(context).lower() in ("true", "1", "yes")
    if follow and given["carrier"] != "uav":
        raise ValueError(f"carrier:={given['carrier']} follow:=true: only a UAV is flown; take one")
    if not re.fullmatch(r"[1-9]\d{0,4}", given["port"]):
        raise ValueError(f"port:={given['port']} is no port from 1 to 65535")
    fixed = {"world": "carla", "source": "", "namespace": f"carla/{given['role']}"}
    for name, value in fixed.items():
        SetLaunchConfiguration(name, value).execute(context)
    parameters: dict[str, object] = {f"carla.{k}": given[k] for k in ("host", "town", "mode")}
    parameters |= {f"simulator.{k}": given[k] for k in ("carrier", "role")}
    return SIM["simulated"](context, {**parameters, "carla.port": int(given["port"])})
