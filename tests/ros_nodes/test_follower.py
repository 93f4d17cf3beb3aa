"""Node ``follower``: points and flies by what the tracker says, and hovers without it."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from geometry_msgs.msg import Twist
from leadsight_msgs import msg as own
from nav_msgs.msg import Odometry as OdometryMessage
from sensor_msgs.msg import CameraInfo

from bridges.simulator import Odometry, Sensor, SensorKind, pose_of
from pipeline.tracks import Tracks
from ros_nodes import messages, qos
from ros_nodes import simulator_messages as convert

CAMERA = Sensor(SensorKind.CAMERA, "camera", 1, width=640, height=480, fov_deg=40.0)
POSITION = np.array([5.0, -3.0, 40.0])
LEVEL, TURNED = pose_of(POSITION), pose_of(POSITION, 0.5, 0.6)


class Flight:
    """A UAV that stands in the air and sees a target where it is told."""

    def __init__(self, ros):
        self.ros = ros
        self.aims = ros.heard(own.GimbalAim, "gimbal_aim")
        self.speeds = ros.heard(Twist, "cmd_vel")
        make = ros.node.create_publisher
        self.info = make(CameraInfo, "camera_info", qos.results(1))
        self.gimbal = make(OdometryMessage, "gimbal", qos.results())
        self.body = make(OdometryMessage, "odometry", qos.results())
        self.tracks = make(own.TrackArray, "tracks", qos.results())

    def say(self, box=None, turned=TURNED, body=LEVEL):
        now_ns = time.time_ns()
        still = np.zeros(3)
        self.info.publish(convert.info_message(CAMERA, now_ns, "camera"))
        self.gimbal.publish(convert.odometry_message(Odometry(turned, still, still), now_ns, "g"))
        if box is not None:
            tracks = Tracks(
                now_ns, now_ns, 1, (640, 480), np.array([4], np.int32), np.array([box], float),
                np.ones(1, np.float32), np.zeros(1, np.uint8), np.zeros(1, np.int16),
            )  # fmt: skip
            self.tracks.publish(messages.tracks_message(tracks, "camera"))
        self.body.publish(convert.odometry_message(Odometry(body, still, still), now_ns, "b"))


def test_it_points_at_what_stands_in_the_middle_and_goes_after_what_does_not(ros):
    process, flight = ros.start("follower"), Flight(ros)

    def aimed(count):
        flight.say([300, 220, 40, 40])
        return len(flight.aims) > count

    assert ros.spin(lambda: aimed(30), 30), process.text()
    aim = flight.aims[-1]
    assert (aim.azimuth, aim.elevation) == pytest.approx((0.5, -0.6), abs=0.03)
    assert flight.speeds[-1].angular.z > 0.3  # its nose turns there
    ahead = 40 / np.tan(0.6)
    assert flight.speeds[-1].linear.x > 0.2 * (ahead - 30)


def test_without_an_answer_it_hovers_and_says_so(ros):
    process, flight = ros.start("follower", "follower.silent_s:=0.3"), Flight(ros)

    def aimed():
        flight.say([300, 220, 40, 40])
        return len(flight.aims) > 5

    def hovers():
        flight.say()
        return flight.speeds and flight.speeds[-1] == Twist()

    def rests():
        """What was told last has no rate, so that the gimbal does not turn on."""
        flight.say()
        rates = (flight.aims[-1].azimuth_rate, flight.aims[-1].elevation_rate)
        return len(flight.aims) > told and rates == (0.0, 0.0)

    assert ros.spin(aimed, 30), process.text()
    assert ros.spin(hovers, 10), process.text()
    told = len(flight.aims)
    assert ros.spin(rests, 10), process.text()
    aim = flight.aims[-1]
    assert (aim.azimuth, aim.elevation) == pytest.approx((0.5, -0.6), abs=1e-3)
    assert ros.spin(lambda: "no answer of the tracker" in process.text(), 5)


def test_nonsense_is_one_line_and_it_goes_on(ros):
    process, flight = ros.start("follower"), Flight(ros)
    bad = pose_of(POSITION)
    bad[0, 3] = np.nan

    def complained():
        flight.say([300, 220, 40, 40], body=bad)
        return "not finite" in process.text()

    def aimed():
        flight.say([300, 220, 40, 40])
        return len(flight.aims) > 5

    assert ros.spin(complained, 30), process.text()
    assert ros.spin(aimed, 20), process.text()
    assert "Traceback" not in process.text()
