"""The launch files, run for real where ROS 2's ``launch`` is installed."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")
pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 installation")

from leadsight_msgs import msg as own
from sensor_msgs.msg import Image

from tests.ros_nodes.carla_library import with_fake_carla

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
source = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [tuple(a.split(":=", 1)) for a in sys.argv[2:]]
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


def launch(ros, name: str, *arguments: str):
    command = [sys.executable, "-c", RUN, str(LAUNCH / f"{name}.launch.py"), *arguments]
    return ros.run(command)


@pytest.mark.parametrize("processes", ["one", "many"])
def test_the_world_is_launched_in_a_namespace_from_a_checkout(ros, processes: str) -> None:
    forecasts = ros.heard(own.ForecastArray, "/uav7/forecasts")
    launched = launch(ros, "sim", "namespace:=uav7", f"processes:={processes}")
    assert ros.spin(lambda: len(forecasts) > 3, 40), launched.text()
    names = {name for name, space in ros.node.get_node_names_and_namespaces() if space == "/uav7"}
    wanted = {
        "one": {"pipeline", "simulator"},
        "many": {"isp", "tracker", "predictor", "latency_monitor", "simulator"},
    }
    assert names == wanted[processes]


def test_a_stack_for_each_of_two_vehicles_that_flies_it(ros) -> None:
    aims = [ros.heard(own.GimbalAim, f"/{name}/gimbal_aim") for name in ("left", "right")]
    launched = launch(ros, "sim", "vehicles:=left,right", "follow:=true")
    assert ros.spin(lambda: all(len(a) > 3 for a in aims), 60), launched.text()
    spaces = {space for _, space in ros.node.get_node_names_and_namespaces()}
    assert spaces >= {"/", "/left", "/right"}


def test_carla_is_launched_under_the_names_of_its_ros_bridge(ros, tmp_path: Path) -> None:
    port = with_fake_carla(ros, tmp_path)
    space = "/carla/ego_vehicle"
    images = ros.heard(Image, f"{space}/rgb_front/image")
    spans = ros.heard(own.Span, f"{space}/isp/span")
    launched = launch(ros, "carla", f"port:={port}")
    assert ros.spin(lambda: len(images) > 3 and len(spans) > 3, 60), launched.text()


def test_a_launch_of_a_recording_ends_with_it(ros, tmp_path: Path) -> None:
    import numpy as np

    from evaluation.bags import BagWriter
    from pipeline.frame import Frame

    with BagWriter(tmp_path / "flight.mcap") as bag:
        for k in range(10):
            image = np.full((40, 60, 3), k, np.uint8)
            bag.frame("/nose", Frame(image, 10**18 + k * 10**8, "rgb8", k))
    spans = ros.heard(own.Span, "isp/span")
    launched = launch(ros, "replay", f"bag:={tmp_path / 'flight.mcap'}")
    assert ros.spin(lambda: launched.popen.poll() is not None, 30)
    assert launched.popen.returncode == 0, launched.text()
    assert {s.header.stamp.sec for s in spans} == {10**9}, launched.text()
    assert "Traceback" not in launched.text()


def test_the_reasoner_is_launched_alone_and_beside_the_stack(ros) -> None:
    alone = launch(ros, "reasoner", "namespace:=uav8", "deadline_ms:=10.0")
    beside = launch(ros, "pipeline", "namespace:=uav9", "reasoner:=true")

    def there() -> set[str]:
        found = ros.node.get_node_names_and_namespaces()
        return {space for name, space in found if name == "reasoner"}

    assert ros.spin(lambda: there() == {"/uav8", "/uav9"}, 40), alone.text() + beside.text()


def test_stations_are_launched_in_namespaces_of_their_own(ros) -> None:
    launched = launch(ros, "v2x", "agents:=3", "first:=7")

    def there() -> set[str]:
        found = ros.node.get_node_names_and_namespaces()
        return {space for name, space in found if name == "v2x"}

    assert ros.spin(lambda: there() == {"/agent7", "/agent8", "/agent9"}, 40), launched.text()
