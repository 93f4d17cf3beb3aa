"""Node ``simulator``: real DDS, real simulators; what it says, what it obeys, how it ends."""

import signal

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist
from leadsight_msgs import msg as own
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix

from ros_nodes import qos
from tests.bridges import carla_logs

SMALL = ("sensors.width:=160", "sensors.height:=120", "world.rate_hz:=20.0")


def seconds(stamp):
    return stamp.sec + stamp.nanosec * 1e-9


def test_one_world_says_it_all_on_one_clock(ros):
    heard = {
        topic: ros.heard(kind, topic)
        for topic, kind in {
            "image_raw": Image, "camera_info": CameraInfo, "imu": Imu, "gnss": NavSatFix,
            "odometry": Odometry, "gimbal": Odometry, "truth": own.TrackArray,
            "truth_objects": own.ObjectArray, "/clock": Clock, "/diagnostics": DiagnosticArray,
        }.items()
    }  # fmt: skip
    process = ros.start("simulator", *SMALL, "sensors.encoding:=bayer_rggb12")
    assert ros.spin(lambda: all(len(m) > 2 for m in heard.values()), 40), process.text()
    image = heard["image_raw"][-1]
    assert (image.width, image.height, image.encoding) == (160, 120, "bayer_rggb16")
    assert heard["camera_info"][-1].k[0] > 160
    stamps = {topic: {seconds(m.header.stamp) for m in heard[topic]} for topic in ("odometry",)}
    assert all(seconds(m.header.stamp) in stamps["odometry"] for m in heard["truth"][2:-2])
    ticks = np.array([seconds(m.clock) for m in heard["/clock"]])
    assert (np.diff(ticks) >= 0).all() and np.diff(ticks).max() < 0.2
    assert len(ticks) > 3 * len(heard["odometry"])  # it runs on between ticks
    truth = heard["truth"][-1]
    assert len(truth.ids) and truth.image_width == 160
    assert len(heard["truth_objects"][-1].ids) > len(truth.ids)
    values = {v.key: v.value for v in heard["/diagnostics"][-1].status[0].values}
    assert float(values["real-time factor"]) > 0.1 and int(values["ticks"]) > 5
    gravity = heard["imu"][-1].linear_acceleration
    assert 7 < np.linalg.norm([gravity.x, gravity.y, gravity.z]) < 13


def test_the_pilot_keeps_the_target_in_view_until_somebody_else_commands(ros):
    truth, odometry = ros.heard(own.TrackArray, "truth"), ros.heard(Odometry, "odometry")
    process = ros.start("simulator", *SMALL)
    assert ros.spin(lambda: len(truth) > 60, 40), process.text()
    assert min(len(t.ids) for t in truth[20:]) > 0
    publisher = ros.node.create_publisher(Twist, "cmd_vel", qos.results(1))
    up = Twist()
    up.linear.z = 3.0
    before = odometry[-1].pose.pose.position.z

    def risen():
        publisher.publish(up)
        return odometry[-1].pose.pose.position.z > before + 4

    assert ros.spin(risen, 20), process.text()


def test_two_vehicles_each_under_its_name(ros):
    images = [ros.heard(Image, f"{name}/image_raw") for name in ("uav1", "uav2")]
    process = ros.start("simulator", *SMALL, "simulator.vehicles:=[uav1,uav2]")
    assert ros.spin(lambda: all(len(i) > 2 for i in images), 40), process.text()
    assert bytes(images[0][-1].data) != bytes(images[1][-1].data)


def test_a_command_that_is_no_number_is_one_line_and_the_flight_goes_on(ros):
    odometry = ros.heard(Odometry, "odometry")
    process = ros.start("simulator", *SMALL)
    publisher = ros.node.create_publisher(Twist, "cmd_vel", qos.results(1))
    bad = Twist()
    bad.linear.x = float("nan")

    def refused():
        publisher.publish(bad)
        return "Velocity.linear" in process.text()

    assert ros.spin(refused, 30), process.text()
    count = len(odometry)
    assert ros.spin(lambda: len(odometry) > count + 10, 20)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("simulator.world:=moon",), "embedded"),
        (("simulator.world:=recorder",), "recording"),
        (("simulator.world:=recorder", "simulator.source:=/no/such.log"), "/no/such.log"),
        (("simulator.vehicles:=[a,a]",), "different names"),
        (("sensors.encoding:=rgb7",), "rgb8"),
        (("simulator.world:=carla", "carla.port:=1"), "carla"),
    ],
)
def test_what_cannot_be_started_is_one_line_and_status_2(ros, options, text):
    process = ros.start("simulator", *options)
    assert ros.spin(lambda: process.popen.poll() is not None, 30)
    assert process.popen.returncode == 2, process.text()
    assert text in process.text() and process.text().count("\n") == 1


def test_it_ends_soon_also_where_a_tick_takes_minutes(ros):
    odometry = ros.heard(Odometry, "odometry")
    process = ros.start("simulator", *SMALL, "simulation.real_time_factor:=0.0005")
    assert ros.spin(lambda: odometry, 40), process.text()
    process.popen.send_signal(signal.SIGINT)
    assert ros.spin(lambda: process.popen.poll() is not None, 10), process.text()
    assert process.popen.returncode == 0 and "Traceback" not in process.text(), process.text()


def test_a_recording_ends_the_node_as_it_should(ros, tmp_path):
    (tmp_path / "run.log").write_bytes(carla_logs.round_trip(3.0, 0))
    objects = ros.heard(own.ObjectArray, "truth_objects")
    process = ros.start(
        "simulator", "simulator.world:=recorder", f"simulator.source:={tmp_path / 'run.log'}"
    )
    assert ros.spin(lambda: process.popen.poll() is not None, 40), process.text()
    assert process.popen.returncode == 0, process.text()
    assert len(objects) > 20 and "is over after" in process.text()


def test_a_commander_that_falls_silent_leaves_it_hovering(ros):
    odometry = ros.heard(Odometry, "odometry")
    process = ros.start("simulator", *SMALL, "simulator.silent_s:=0.4")
    publisher = ros.node.create_publisher(Twist, "cmd_vel", qos.results(1))
    up = Twist()
    up.linear.z = 3.0

    def rises():
        publisher.publish(up)
        return odometry and odometry[-1].twist.twist.linear.z > 2

    assert ros.spin(rises, 40), process.text()
    assert ros.spin(lambda: abs(odometry[-1].twist.twist.linear.z) < 0.1, 20), process.text()
    assert "cmd_vel is silent" in process.text()
