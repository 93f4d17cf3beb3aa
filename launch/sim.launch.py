"""The embedded world in front of the stack, which is told to follow the world's target."""

import runpy
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

HERE = Path(__file__).resolve().parent
PIPELINE = runpy.run_path(str(HERE / "pipeline.launch.py"))


def generate_launch_description() -> LaunchDescription:
    """The stack's own description, with the world's parameters, and ``sim_camera``."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=str(HERE.parent / "config" / "sim.yaml"),
                description="ROS 2 parameter file.",
            ),
            PIPELINE["generate_launch_description"](),
            OpaqueFunction(function=camera),
        ]
    )


def camera(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The world, which knows where its target is."""
    one = LaunchConfiguration("processes").perform(context) == "one"
    service = "pipeline/select" if one else "tracker/select"
    return [PIPELINE["node"]("sim_camera", **{"sim_camera.select_service": service})]
