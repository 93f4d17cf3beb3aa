"""A recorded flight in front of the stack; ends with the bag."""

import runpy
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration

PIPELINE = runpy.run_path(str(Path(__file__).resolve().with_name("pipeline.launch.py")))
ARGUMENTS = {
    "bag": (None, "Path of a rosbag2: an .mcap or .db3 file, or its folder."),
    "bag_camera": ("", "Camera topic in the bag, where it holds several."),
    "bag_imu": ("", "IMU topic in the bag, where it holds several."),
    "rate": ("1.0", "Speed; 1.0 is as recorded."),
    "loop": ("false", "Whether to start again at the end."),
    "use_sim_time": ("true", "Whether time comes from /clock."),
}


def generate_launch_description() -> LaunchDescription:
    """The stack's own description, on the bag's time, and ``replay``."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            PIPELINE["generate_launch_description"](),
            OpaqueFunction(function=replay),
        ]
    )


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The bag's node, which itself runs on wall time."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    node = PIPELINE["node"](
        "replay",
        **{
            "use_sim_time": False,
            "replay.bag": str(Path(value("bag")).expanduser().resolve()),
            "replay.camera": value("bag_camera"),
            "replay.imu": value("bag_imu"),
            "replay.rate": float(value("rate")),
            "replay.loop": value("loop").lower() in ("true", "1", "yes"),
        },
    )
    ended = OnProcessExit(target_action=node, on_exit=[Shutdown(reason="the bag has ended")])
    return [node, RegisterEventHandler(ended)]
