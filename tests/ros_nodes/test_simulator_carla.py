"""Node ``simulator`` in front of CARLA's client library, here the fake one in its place."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from leadsight_msgs import msg as own
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, PointCloud2

from ros_nodes import qos
from tests.ros_nodes.carla_library import with_fake_carla

SMALL = ("sensors.width:=160", "sensors.height:=120", "simulator.world:=carla")


@pytest.fixture
def carla(ros, tmp_path):
    """Starts the node beside a module ``carla`` that is the fake."""
    port = with_fake_carla(ros, tmp_path)
    return lambda *options: ros.start("simulator", *SMALL, f"carla.port:={port}", *options)


def test_a_free_camera_flies_and_sees(ros, carla):
    heard = {t: ros.heard(k, t) for t, k in (("image_raw", Image), ("gimbal", Odometry))}
    process = carla()
    assert ros.spin(lambda: all(len(m) > 5 for m in heard.values()), 40), process.text()
    assert heard["gimbal"][-1].pose.pose.position.z > 10


def test_a_car_drives_by_its_pedals(ros, carla):
    odometry, points = ros.heard(Odometry, "odometry"), ros.heard(PointCloud2, "lidar")
    process = carla("simulator.carrier:=car", "sensors.lidar:=true", "simulator.role:=mine")
    pedals = ros.node.create_publisher(own.DriveControl, "vehicle_control_cmd", qos.results(1))

    def drives():
        pedals.publish(own.DriveControl(throttle=0.8))
        return odometry and odometry[-1].twist.twist.linear.x > 1.0

    assert ros.spin(drives, 40), process.text()
    assert abs(odometry[-1].twist.twist.linear.y) < 0.5
    assert ros.spin(lambda: points and len(points[-1].data), 20), process.text()
    rows = np.frombuffer(bytes(points[-1].data), np.float32).reshape(-1, 4)
    assert np.isfinite(rows).all() and len(rows) == points[-1].width


def test_a_role_that_is_taken_is_one_line(ros, carla):
    process = carla("simulator.carrier:=car", "simulator.role:=hero")
    assert ros.spin(lambda: process.popen.poll() is not None, 30), process.text()
    assert process.popen.returncode == 2 and "hero" in process.text()
    assert process.text().count("\n") == 1


def test_what_is_heard_by_radio_is_told(ros, carla):
    heard = ros.heard(own.V2xMessage, "v2x/heard")
    process = carla("sensors.v2x:=true")
    assert ros.spin(lambda: heard and len(heard[-1].data), 40), process.text()
