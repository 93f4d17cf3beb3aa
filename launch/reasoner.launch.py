"""On-board reasoning: ``v2x/objects``, ``odometry``, ``plan`` and ``mission`` → ``decision``.

Beside a stack and a ``v2x`` node that run already; with ``reasoner:=true`` pipeline.launch.py
starts it itself. ``gguf`` names a model of the user's, which answers where there is time for it.
"""

import runpy
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

HERE = Path(__file__).resolve().parent
PIPELINE = runpy.run_path(str(HERE / "pipeline.launch.py"))
ARGUMENTS = {
    "namespace": ("", "Namespace of the node and its topics: the vehicle."),
    "params_file": (str(HERE.parent / "config" / "leadsight.yaml"), "ROS 2 parameter file."),
    "use_sim_time": ("false", "Whether time comes from /clock."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "rate_hz": ("5.0", "Decisions a second; 0.0 only on events; reasoner_node.rate_hz."),
    "deadline_ms": ("33.0", "From a scene to its decision; reasoner_node.deadline_ms."),
    "gguf": ("", "GGUF model to ask as well; reasoner_slow.model."),
    "url": ("", "Endpoint to ask as well, …/v1/chat/completions; reasoner_remote.url."),
    "python": (PIPELINE["PYTHON"], "Python that runs the node."),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, the environment, then the node."""
    return PIPELINE["described"](ARGUMENTS, reasoner)


def reasoner(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The one node."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    parameters: dict[str, object] = {
        f"reasoner_node.{name}": float(given[name]) for name in ("rate_hz", "deadline_ms")
    }
    if given["gguf"]:
        parameters["reasoner_slow.model"] = str(Path(given["gguf"]).expanduser().resolve())
    if given["url"]:
        parameters["reasoner_remote.url"] = given["url"]
    return [
        Node(
            executable=given["python"],
            arguments=["-m", "ros_nodes.reasoner"],
            exec_name="reasoner",
            name="reasoner",
            namespace=given["namespace"],
            parameters=[
                given["params_file"],
                {
                    "use_sim_time": given["use_sim_time"].lower() in ("true", "1", "yes"),
                    **parameters,
                },
            ],
            ros_arguments=["--log-level", given["log_level"]],
            output="screen",
        )
    ]
