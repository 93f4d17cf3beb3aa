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


def test_what_a_stack_said_when_recorded_does_not_meet_the_live_one(ros, tmp_path: Path) -> None:
    path = tmp_path / "flight.mcap"
    with BagWriter(path) as bag:
        for k in range(COUNT):
            stamp = BEGIN + k * STEP
            bag.frame("/uav/image_raw", Frame(picture(k), stamp, "mono8", k, "nose"))
            bag.frame("/uav/image", Frame(picture(k), stamp, "mono8", k, "nose"))
            box = np.array([k, 1.0, 5.0, 6.0])
            tracks = Tracks.single(stamp, stamp, k, (60, 40), box, 1, TrackStatus.TRACKED)
            bag.tracks("/tracks", tracks)
            bag.tracks("/uav/tracks", tracks)
    live = [ros.heard(own.TrackArray, name) for name in ("tracks", "uav/tracks")]
    recorded = [ros.heard(own.TrackArray, f"recorded/{name}") for name in ("tracks", "uav/tracks")]
    images, old = ros.heard(Image, "image_raw"), ros.heard(Image, "recorded/uav/image")
    forecasts = ros.heard(own.ForecastArray, "forecasts")
    ros.start("predictor", "use_sim_time:=true")
    assert ros.spin(lambda: ros.node.count_publishers("forecasts"))
    replay = ros.start("replay", f"replay.bag:={path}", "replay.camera:=/uav/image_raw")
    assert ros.spin(lambda: replay.popen.poll() is not None)
    assert [len(m) for m in (images, old, *recorded)] == [COUNT] * 4
    assert [*live, forecasts] == [[], [], []]


@pytest.mark.parametrize(
    ("topic", "kind", "expected"),
    [
        ("/nose/raw", "sensor_msgs/msg/Image", "image_raw"),
        ("/uav/image_raw", "sensor_msgs/msg/Image", "recorded/uav/image_raw"),
        ("/tail/raw", "sensor_msgs/msg/Image", "tail/raw"),
        ("/truth", "leadsight_msgs/msg/TrackArray", "truth"),
        ("/uav/truth", "leadsight_msgs/msg/TrackArray", "uav/truth"),
        ("/isp/span", "leadsight_msgs/msg/Span", "recorded/isp/span"),
        ("/latency", "leadsight_msgs/msg/LatencyReport", "recorded/latency"),
        ("/decision", "leadsight_msgs/msg/Decision", "recorded/decision"),
        ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", "recorded/diagnostics"),
        ("/tf", "tf2_msgs/msg/TFMessage", "tf"),
        ("/clock", "rosgraph_msgs/msg/Clock", "clock"),
    ],
)
def test_only_what_a_stack_publishes_is_set_apart(topic: str, kind: str, expected: str) -> None:
    from ros_nodes.replay import played_as

    assert played_as(topic, kind, camera="/nose/raw") == expected


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
