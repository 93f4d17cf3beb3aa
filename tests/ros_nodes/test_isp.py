"""The isp node in task_aware mode, over DDS: a view for each consumer, advice, and bad input."""

import math
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
own = pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from isp.exposure import Reason  # noqa: E402
from pipeline.frame import Frame  # noqa: E402
from pipeline.tracks import Tracks, TrackStatus  # noqa: E402
from ros_nodes import messages, qos  # noqa: E402
from tests.isp.test_task_aware import counts, light, network  # noqa: E402
from tests.perception.models import bright  # noqa: E402

TASK_AWARE = ("isp.mode:=task_aware", "isp.bits:=12", "isp.black_level:=[64.0]")
MS = 1_000_000


class Camera:
    """Shows frames until something holds."""

    def __init__(self, ros) -> None:
        self.ros = ros
        self.publisher = ros.node.create_publisher(Image, "image_raw", qos.images())
        self.stamp_ns = 0

    def show(self, image=None, encoding: str = "bayer_rggb16", **changes) -> None:
        self.stamp_ns = time.time_ns()
        image = counts(light()) if image is None else image
        message = messages.image_of(Frame(image, self.stamp_ns, encoding, 0, "nose"))
        for name, value in changes.items():
            setattr(message, name, value)
        self.publisher.publish(message)
        self.ros.spin(lambda: False, 0.05)

    def until(self, done, image=None) -> bool:
        assert self.ros.spin(self.publisher.get_subscription_count), "nobody subscribes"
        return self.ros.spin(lambda: done() or self.show(image), 10)


def diagnostics(ros) -> dict[str, DiagnosticStatus]:
    found: dict[str, DiagnosticStatus] = {}
    ros.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: found.update({s.name: s for s in m.status}), 10
    )
    return found


def put(ros, name: str, text: str):
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=text)
    request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    return ros.call(SetParameters, "isp/set_parameters", request).results[0]


def test_each_consumer_gets_its_view_only_while_it_subscribes(ros) -> None:
    ros.start("isp", *TASK_AWARE, "isp.detector_px:=64")
    camera, spans = Camera(ros), ros.heard(own.Span, "isp/span")
    detector = ros.heard(Image, "isp/detector")
    assert camera.until(lambda: detector and spans)
    assert (detector[-1].encoding, detector[-1].width, detector[-1].height) == ("rgb8", 64, 48)
    assert detector[-1].header.frame_id == "nose"
    assert ros.node.count_publishers("image") == 1
    human, image = ros.heard(Image, "isp/human"), ros.heard(Image, "image")
    assert camera.until(lambda: human and image)
    assert {(m.width, m.height) for m in (human[-1], image[-1])} == {(160, 120)}
    assert spans[-1].stage == "isp"


def test_the_detectors_view_goes_out_before_the_whole_picture_is_made(ros) -> None:
    ros.start("isp", *TASK_AWARE, "isp.detector_px:=64")
    camera = Camera(ros)
    sent: dict[str, dict[int, int]] = {"isp/detector": {}, "image": {}}
    for topic, at_ns in sent.items():

        def note(message, info, at_ns=at_ns) -> None:
            at_ns[messages.stamp_of(message.header)] = info["source_timestamp"]

        ros.node.create_subscription(Image, topic, note, qos.images())

    def of_both() -> set[int]:
        return sent["isp/detector"].keys() & sent["image"].keys()

    assert camera.until(lambda: len(of_both()) > 3)
    assert all(sent["isp/detector"][stamp] < sent["image"][stamp] for stamp in of_both())


def test_in_classical_mode_all_consumers_get_the_same_picture_and_no_advice(ros) -> None:
    ros.start("isp", *TASK_AWARE[1:])
    camera, advice = Camera(ros), ros.heard(own.Exposure, "isp/exposure")
    heard = [ros.heard(Image, topic) for topic in ("image", "isp/human", "isp/detector")]

    def of_one_moment() -> list[list[bytes]]:
        by_stamp = [{messages.stamp_of(m.header): bytes(m.data) for m in h} for h in heard]
        stamps = by_stamp[0].keys() & by_stamp[1].keys() & by_stamp[2].keys()
        return [[pictures[stamp] for pictures in by_stamp] for stamp in stamps]

    assert camera.until(lambda: len(of_one_moment()) > 2)
    assert all(a == b == c for a, b, c in of_one_moment())
    assert advice == []


def test_the_mode_changes_while_it_runs(ros) -> None:
    process = ros.start("isp", *TASK_AWARE[1:], "isp.gamma:=1.8")
    camera, detector = Camera(ros), ros.heard(Image, "isp/detector")
    assert camera.until(lambda: detector)
    assert detector[-1].width == 160
    assert put(ros, "isp.mode", "task_aware").successful
    assert camera.until(lambda: detector[-1].width == 80)
    assert "isp.gamma: for isp.mode=classical alone, ignored" in process.text()
    refused = put(ros, "isp.model", "/no/such/model.onnx")
    assert not refused.successful and "/no/such/model.onnx: cannot be read" in refused.reason
    assert camera.until(lambda: len(detector) > 5)


def test_advice_is_relative_until_the_driver_says_what_the_camera_does(ros) -> None:
    process = ros.start("isp", *TASK_AWARE, "exposure.speed_px_s:=0.0")
    camera, advice = Camera(ros), ros.heard(own.Exposure, "isp/exposure")
    driver = ros.node.create_publisher(own.Exposure, "isp/camera_state", qos.results())
    tracker = ros.node.create_publisher(own.TrackArray, "tracks", qos.results())
    dark = counts(light() * 0.2)
    assert camera.until(lambda: advice, dark)
    first = advice[-1]
    assert math.isnan(first.exposure_s) and math.isnan(first.gain) and math.isnan(first.blur_px)
    assert (first.factor, first.reason) == (pytest.approx(1.5), Reason.DARK)

    driver.publish(own.Exposure(exposure_s=0.004, gain=2.0))
    assert camera.until(lambda: not math.isnan(advice[-1].exposure_s), dark)
    known = advice[-1]
    assert known.exposure_s == pytest.approx(0.006)  # nothing moves
    assert known.blur_px == 0.0

    def moving() -> bool:
        box = np.array([1e-9 * 3000 * (camera.stamp_ns % 10**12) % 1e6, 40, 20, 20])
        made = Tracks.single(
            camera.stamp_ns, camera.stamp_ns, 0, (160, 120), box, 1, TrackStatus.TRACKED
        )
        tracker.publish(messages.tracks_message(made, "nose"))
        return advice[-1].blur_px > 5

    assert camera.until(moving, dark)
    fast = advice[-1]
    assert fast.blur_px == pytest.approx(3000 * 0.004, rel=0.5)
    assert fast.exposure_s < 0.004 and fast.gain > 2

    driver.publish(own.Exposure(exposure_s=0.004, gain=0.0))
    assert camera.until(lambda: math.isnan(advice[-1].exposure_s), dark)
    assert "gain is 0, give a number above 0" in process.text()
    assert "Traceback" not in process.text()


def test_advice_comes_at_most_ten_times_a_second(ros) -> None:
    ros.start("isp", *TASK_AWARE)
    camera, advice = Camera(ros), ros.heard(own.Exposure, "isp/exposure")
    assert camera.until(lambda: len(advice) > 4)
    stamps = [messages.stamp_of(m.header) for m in advice]
    assert min(np.diff(stamps)) >= 100 * MS


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: "/no/such/model.onnx", "isp.model: /no/such/model.onnx: cannot be read"),
        (lambda path: network(path, inputs={"x": [1, 3, 8, 8]}), "not features and noise"),
        (lambda path: network(path, field=np.full((1, 2, 16, 16), np.nan)), "other outputs than"),
    ],
    ids=["missing", "other inputs", "NaN"],
)
def test_a_bad_model_is_one_line_and_the_stream_goes_on(ros, tmp_path, make, reason) -> None:
    process = ros.start("isp", *TASK_AWARE, f"isp.model:={make(tmp_path / 'bad.onnx')}")
    camera, image, status = Camera(ros), ros.heard(Image, "image"), diagnostics(ros)
    assert camera.until(lambda: len(image) > 3)
    assert camera.until(lambda: "/isp" in status and status["/isp"].level == DiagnosticStatus.WARN)
    assert reason in status["/isp"].message
    assert status["/isp"].values[2].value == "0"  # no frame was unusable
    assert 20 < np.frombuffer(image[-1].data, np.uint8).mean() < 235
    text = process.text()
    assert reason in text and "Traceback" not in text
    assert text.count(reason) < len(image) + 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("black_level: .nan\n", "black_level: nan is not finite"),
        ("gain: 0\n", "gain: no such option"),
    ],
)
def test_a_bad_profile_is_one_line_and_the_stream_goes_on(ros, tmp_path, text, reason) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    process = ros.start("isp", *TASK_AWARE, f"isp.camera_profile:={path}")
    camera, image = Camera(ros), ros.heard(Image, "image")
    assert camera.until(lambda: len(image) > 1)
    assert process.text().count(reason) == 1 and "Traceback" not in process.text()


def test_each_kind_of_bad_frame_is_one_line_and_the_stream_goes_on(ros) -> None:
    process = ros.start("isp", *TASK_AWARE)
    camera, image = Camera(ros), ros.heard(Image, "image")
    assert camera.until(lambda: image)
    good = messages.image_of(Frame(counts(light()), 0, "bayer_rggb16"))
    bad = {
        "unknown encoding 'bayer_rgbg16'": {"encoding": "bayer_rgbg16"},
        "it is truncated": {"data": good.data[:1000]},
        "cannot be: give an even height": {"height": 119},
        "image of 0x120": {"width": 0},
    }
    for changes in bad.values():
        for _ in range(3):
            camera.show(**changes)
    camera.show(np.full((120, 160), 0xFFF7, np.uint16))
    heard = len(image)
    for flat in (0, 64, 4095):
        camera.show(np.full((120, 160), flat, np.uint16))
    camera.show()
    assert ros.spin(lambda: messages.stamp_of(image[-1].header) == camera.stamp_ns)
    assert len(image) >= heard + 2
    text = process.text()
    for reason in bad:
        assert text.count(reason) == 1, reason  # a second: three frames are one line
    assert "more than 12 bits" in text
    assert "Traceback" not in text


def test_the_pipeline_gives_its_detector_a_view_of_its_own_and_advises(ros, tmp_path) -> None:
    model = bright(tmp_path / "bright.onnx", (80, 60), (14, 10), label=2)
    ros.start(
        "pipeline", *TASK_AWARE, "detector.layout:=yolov8", f"detector.model:={model}",
        "detector.nms_iou:=0.01",
    )  # fmt: skip
    camera, image = Camera(ros), ros.heard(Image, "image")
    tracks, advice = ros.heard(own.TrackArray, "tracks"), ros.heard(own.Exposure, "isp/exposure")
    driver = ros.node.create_publisher(own.Exposure, "isp/camera_state", qos.results())
    shown = light(high=0.06)
    for x, y in ((16, 20), (96, 64)):
        shown[y : y + 20, x : x + 28] = 0.9
    raw = counts(shown)
    assert camera.until(lambda: image and advice and tracks and len(tracks[-1].ids) == 2, raw)
    assert (image[-1].width, tracks[-1].image_width) == (160, 160)
    boxes = np.array(tracks[-1].boxes).reshape(-1, 4)
    np.testing.assert_allclose(
        boxes[np.argsort(boxes[:, 0])], [[16, 20, 28, 20], [96, 64, 28, 20]], atol=6
    )
    assert ros.spin(driver.get_subscription_count)
    driver.publish(own.Exposure(exposure_s=0.004, gain=2.0))
    assert camera.until(lambda: not math.isnan(advice[-1].exposure_s), raw)
