"""``leadsight raw-doctor`` on a live topic: the node looks at one message, and ends."""

import sys
from pathlib import Path

import cv2
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from sensor_msgs.msg import Image

from bridges.world import AerialWorld, WorldConfig
from pipeline.frame import Frame
from ros_nodes import messages, qos

COMMAND = [sys.executable, "-m", "leadsight", "raw-doctor"]


def test_a_topic_is_examined_and_its_encoding_contradicted(ros, tmp_path: Path) -> None:
    world = WorldConfig(encoding="bayer_rggb12", width=800, height=600, seed=3)
    mosaic = AerialWorld(world).render(4).frame.image
    publisher = ros.node.create_publisher(Image, "/nose/raw", qos.images())
    image = messages.image_of(Frame(mosaic, 10**9, "bayer_gbrg16"))
    given = ["--bits", "14", "-o", str(tmp_path / "four.png")]
    process = ros.run([*COMMAND, "/nose/raw", *given])

    def ended() -> bool:
        if publisher.get_subscription_count():
            publisher.publish(image)
        return process.popen.poll() is not None

    assert ros.spin(ended, 40)
    assert process.popen.returncode == 0, process.text()
    assert "isp.order=rggb --set isp.bits=14 --set isp.justified=right" in process.text()
    assert "It says gbrg itself, another green diagonal: trust the pixels" in process.text()
    assert cv2.imread(str(tmp_path / "four.png")) is not None


def test_a_topic_on_which_nothing_comes_is_one_line_and_status_2(ros) -> None:
    other = ros.node.create_publisher(Image, "/tail/raw", qos.images())
    process = ros.start("raw_doctor", "raw_doctor.wait_s:=2.0")
    assert ros.spin(lambda: process.popen.poll() is not None, 30)
    assert process.popen.returncode == 2
    assert process.text().count("\n") == 1
    assert "/image_raw: no picture came in 2 s; topics with pictures: /tail/raw" in process.text()
    assert other.topic_name == "/tail/raw"


def test_a_picture_that_is_developed_already_is_one_line_and_status_2(ros) -> None:
    publisher = ros.node.create_publisher(Image, "image_raw", qos.images())
    process = ros.start("raw_doctor")

    def ended() -> bool:
        if publisher.get_subscription_count():
            publisher.publish(Image(width=4, height=2, step=12, encoding="rgb8", data=bytes(24)))
        return process.popen.poll() is not None

    assert ros.spin(ended, 30)
    assert process.popen.returncode == 2
    assert process.text().count("\n") == 1 and "developed already" in process.text()
