"""A bag played over DDS: its pictures on ``image_raw``, its time on ``/clock``."""

import itertools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
own = pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from evaluation.bags import BagWriter  # noqa: E402
from pipeline.frame import Frame  # noqa: E402
from pipeline.tracks import Tracks, TrackStatus  # noqa: E402
from ros_nodes import messages  # noqa: E402

BEGIN = 1_600_000_000 * 10**9
STEP = 50_000_000
COUNT = 12


def picture(k: int) -> np.ndarray:
    return np.full((40, 60), 10 * k, np.uint8)


def write(path: Path, pictures: bool = True) -> Path:
    with BagWriter(path) as bag:
        for k in range(COUNT):
            stamp = BEGIN + k * STEP
            if pictures:
                bag.frame("/nose/raw", Frame(picture(k), stamp, "mono8", k, "nose"))
            box = np.array([k, 1.0, 5.0, 6.0])
            bag.tracks(
                "/truth", Tracks.single(stamp, stamp, k, (60, 40), box, 1, TrackStatus.TRACKED)
            )
    return path


def test_a_bag_plays_at_its_own_pace_and_ends(ros, tmp_path: Path) -> None:
    images, clocks = ros.heard(Image, "uav/image_raw"), ros.heard(Clock, "/clock", 1000)
    truth = ros.heard(own.TrackArray, "uav/truth")
    process = ros.start(
        "replay",
        f"replay.bag:={write(tmp_path / 'flight.mcap')}",
        "replay.rate:=2.0",
        arguments=("-r", "__ns:=/uav"),
    )
    assert ros.spin(lambda: process.popen.poll() is not None)
    assert process.popen.returncode == 0
    assert [messages.stamp_of(m.header) for m in images] == [BEGIN + k * STEP for k in range(COUNT)]
    np.testing.assert_array_equal(messages.frame_of(images[3], 0).image, picture(3))
    assert [m.boxes[0] for m in truth] == list(range(COUNT))
    times = [m.clock.sec * 10**9 + m.clock.nanosec for m in clocks]
    assert times == sorted(times)
    assert times[-1] == BEGIN + (COUNT - 1) * STEP
    assert len(times) > 2 * COUNT


def test_a_bag_that_loops_jumps_back_and_the_stack_starts_afresh(ros, tmp_path: Path) -> None:
    clocks = ros.heard(Clock, "/clock", 1000)
    isp = ros.start("isp", "use_sim_time:=true")
    images, spans = ros.heard(Image, "image"), ros.heard(own.Span, "isp/span")
    assert ros.spin(lambda: ros.node.count_publishers("image"))
    ros.start("replay", f"replay.bag:={write(tmp_path / 'flight.mcap')}", "replay.loop:=true")
    assert ros.spin(lambda: len(images) > 2 * COUNT)
    stamps = [messages.stamp_of(m.header) for m in images]
    assert sum(b < a for a, b in itertools.pairwise(stamps)) >= 1
    assert ros.spin(lambda: "time jumped back by" in isp.text())
    assert len(clocks) > 2 * COUNT
    assert all(s.start_ns <= s.end_ns < BEGIN + COUNT * STEP for s in spans)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("none", "no such bag"), ("garbage", "is no rosbag2"), ("no camera", "camera topics: none")],
)
def test_a_bag_that_cannot_be_played_is_one_line_and_status_2(
    ros, tmp_path: Path, content: str, reason: str
) -> None:
    path = tmp_path / "flight.mcap"
    if content == "garbage":
        path.write_bytes(b"garbage" * 100)
    elif content == "no camera":
        write(path, pictures=False)
    process = ros.start("replay", f"replay.bag:={path}")
    assert process.popen.wait(15) == 2
    assert process.text().count("\n") == 1
    assert reason in process.text()
