"""Nodes as real processes: what they publish, and how they take bad input."""

import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
own = pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from leadsight_msgs.srv import Select  # noqa: E402
from lifecycle_msgs.msg import State, Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from pipeline.frame import Frame  # noqa: E402
from pipeline.tracks import ForecastStatus, Tracks, TrackStatus  # noqa: E402
from ros_nodes import messages, qos  # noqa: E402
from tests.perception.models import bright  # noqa: E402

SECOND = 10**9


def now_ns() -> int:
    return time.time_ns()


def bayer(stamp_ns: int, value: int = 120) -> Image:
    return messages.image_of(
        Frame(np.full((48, 64), value, np.uint8), stamp_ns, "bayer_rggb8", 0, "nose")
    )


def scene(x: float) -> np.ndarray:
    """Noise with a distinct block at ``x``, 40; gray."""
    image = np.random.default_rng(1).integers(90, 130, (120, 200), dtype=np.uint8)
    left = round(x)
    image[40:64, left : left + 30] = np.random.default_rng(2).integers(0, 255, (24, 30))
    return image


def connected(ros, publisher) -> None:
    assert ros.spin(publisher.get_subscription_count), "nobody subscribes"


def diagnostics(ros) -> dict[str, DiagnosticStatus]:
    found: dict[str, DiagnosticStatus] = {}
    ros.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: found.update({s.name: s for s in m.status}), 10
    )
    return found


def test_isp_develops_and_a_bad_frame_costs_one_line(ros) -> None:
    process = ros.start("isp")
    images, spans = ros.heard(Image, "image"), ros.heard(own.Span, "isp/span")
    status = diagnostics(ros)
    camera = ros.node.create_publisher(Image, "image_raw", qos.images())
    connected(ros, camera)

    def show(message: Image) -> None:
        camera.publish(message)
        ros.spin(lambda: False, 0.1)

    stamp = now_ns()
    assert ros.spin(lambda: show(bayer(stamp)) or images, 10)
    stamp = now_ns()
    broken = bayer(stamp)
    broken.data = broken.data[:100]
    unknown = bayer(stamp + 1)
    unknown.encoding = "bayer_xyzw8"
    timeless = bayer(stamp + 2)
    timeless.header.stamp.sec = -1
    heard = len(images)
    for message in (broken, unknown, timeless):
        show(message)
    show(bayer(stamp + 3))
    assert ros.spin(lambda: len(images) == heard + 1)
    assert messages.stamp_of(images[-1].header) == stamp + 3
    assert (images[-1].encoding, images[-1].width, images[-1].header.frame_id) == (
        "rgb8",
        64,
        "nose",
    )
    assert ros.spin(lambda: spans and messages.stamp_of(spans[-1].header) == stamp + 3)
    span = spans[-1]
    assert stamp + 3 <= span.start_ns <= span.end_ns < stamp + SECOND
    assert "truncated" in process.text()
    assert ros.spin(lambda: "/isp" in status and status["/isp"].values[2].value == "3")
    assert status["/isp"].values[2].key == "unusable"


def test_isp_takes_parameters_while_it_runs_and_refuses_bad_ones(ros) -> None:
    ros.start("isp")

    def put(name: str, value: float):
        parameter = Parameter(
            name=name, value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        )
        return ros.call(
            SetParameters, "isp/set_parameters", SetParameters.Request(parameters=[parameter])
        ).results[0]

    assert put("isp.gamma", 1.5).successful
    refused = put("isp.gamma", 99.0)
    assert not refused.successful
    assert "gamma" in refused.reason


def test_tracker_follows_what_was_selected(ros) -> None:
    ros.start("tracker", "tracker.name:=kcf")
    tracks = ros.heard(own.TrackArray, "tracks")
    camera = ros.node.create_publisher(Image, "image", qos.images())
    connected(ros, camera)
    begin = now_ns()

    def show(k: int) -> int:
        stamp = begin + k * SECOND // 30
        camera.publish(messages.image_of(Frame(scene(50 + 1.5 * k), stamp, "mono8")))
        ros.spin(lambda: False, 0.05)
        return stamp

    def select(box: list[float], stamp_ns: int = 0, detection: int = -1):
        request = Select.Request(box=box, stamp_ns=stamp_ns, detection_id=detection)
        return ros.call(Select, "tracker/select", request)

    refused = select([50.0, 40.0, 30.0, 24.0])
    assert (refused.success, refused.track_id) == (False, -1)
    assert "no image" in refused.message
    first = show(0)
    show(1)
    for box, stamp, detection, reason in (
        ([500.0, 40.0, 30.0, 24.0], 0, -1, "outside"),
        ([50.0, 40.0, 0.0, 24.0], 0, -1, "no area"),
        ([float("nan"), 40.0, 3.0, 24.0], 0, -1, "finite"),
        ([50.0, 40.0, 30.0, 24.0], 5, -1, "no image of stamp 5"),
        ([50.0, 40.0, 30.0, 24.0], 0, 3, "no detector"),
    ):
        answer = select(box, stamp, detection)
        assert not answer.success
        assert reason in answer.message
    # The box is the first frame's; two more have come since.
    chosen = select([50.0, 40.0, 30.0, 24.0], first)
    assert chosen.success, chosen.message
    for k in range(2, 8):
        last = show(k)
    assert ros.spin(lambda: tracks and messages.stamp_of(tracks[-1].header) == last)
    found = messages.tracks_of(tracks[-1])
    assert found.ids.tolist() == [chosen.track_id]
    np.testing.assert_allclose(found.boxes[0], [60.5, 40, 30, 24], atol=4)
    assert found.ready_ns > found.stamp_ns


def test_tracker_without_its_model_says_so_and_can_be_configured_again(ros) -> None:
    process = ros.start("tracker", "tracker.name:=nanotrack-v3", "tracker.models:=/no/such/folder")
    status = diagnostics(ros)
    assert ros.spin(lambda: "/tracker" in status)
    assert status["/tracker"].level == DiagnosticStatus.ERROR
    assert "/no/such/folder" in status["/tracker"].message
    assert "Traceback" not in process.text()
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="mosse")
    request = SetParameters.Request(parameters=[Parameter(name="tracker.name", value=value)])
    assert ros.call(SetParameters, "tracker/set_parameters", request).results[0].successful
    for step in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=step))
        assert ros.call(ChangeState, "tracker/change_state", request).success
    state = ros.call(GetState, "tracker/get_state", GetState.Request()).current_state
    assert state.id == State.PRIMARY_STATE_ACTIVE
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    assert ros.call(ChangeState, "tracker/change_state", request).success


def single(stamp_ns: int, x: float) -> own.TrackArray:
    box = np.array([x, 20.0, 40.0, 30.0])
    found = Tracks.single(stamp_ns, stamp_ns + 1, 0, (640, 480), box, 0.9, TrackStatus.TRACKED, 4)
    return messages.tracks_message(found, "nose")


def around_the_predictor(ros):
    """What it says, and publishers of what it hears, all connected."""
    forecasts = ros.heard(own.ForecastArray, "forecasts")
    tracks = ros.node.create_publisher(own.TrackArray, "tracks", qos.results())
    reports = ros.node.create_publisher(own.LatencyReport, "latency", qos.results(1))
    connected(ros, tracks)
    connected(ros, reports)
    assert ros.spin(lambda: ros.node.count_publishers("forecasts"))
    return forecasts, tracks, reports


def test_predictor_looks_as_far_ahead_as_the_report_says_and_starts_afresh_in_the_past(ros) -> None:
    ros.start(
        "predictor",
        "latency.consumers:=['control', 'viewer']",
        "latency.consumer_stage:=['tracker', 'predictor']",
        "latency.consumer_extra_ms:=[0.0, 10.0]",
        "latency.consumer_prior_ms:=[70.0, 130.0]",
        "predictor.name:=constant-velocity",
    )
    forecasts, tracks, reports = around_the_predictor(ros)
    # Of another clock, so that no time passes between a frame and its forecast.
    begin = now_ns() + 600 * SECOND

    def forecast(stamp_ns: int, x: float):
        count = len(forecasts)
        tracks.publish(single(stamp_ns, x))
        assert ros.spin(lambda: len(forecasts) > count, 5)
        return messages.forecasts_of(forecasts[-1])

    ros.spin(lambda: False, 0.3)
    for k in range(5):
        found = forecast(begin + k * SECOND // 10, 100.0 + 10 * k)
    ahead = (found.valid_at_ns - found.stamp_ns) * 1e-6
    assert dict(zip(found.consumers, ahead, strict=True)) == {"control": 70.0, "viewer": 130.0}
    # 100 px a second
    np.testing.assert_allclose(found.boxes[:, 0, 0], [147, 153], atol=0.5)

    assert (found.status == ForecastStatus.PRIOR).all()  # nobody has measured yet

    # Consumers that are not configured get no forecast.
    names = ["viewer", *(f"intruder{i}" for i in range(1000))]
    reports.publish(
        own.LatencyReport(
            consumers=names,
            horizon_ns=[250_000_000] * len(names),
            horizon_status=[0] * len(names),
        )
    )
    ros.spin(lambda: False, 0.3)
    found = forecast(begin + SECOND // 2, 150.0)
    ahead = (found.valid_at_ns - found.stamp_ns) * 1e-6
    assert dict(zip(found.consumers, ahead, strict=True)) == {"control": 70.0, "viewer": 250.0}
    assert (found.status == ForecastStatus.OK).all()

    # The monitor is silent: back to the priors, and said so.
    ros.spin(lambda: False, 2.0)
    found = forecast(begin + SECOND * 6 // 10, 160.0)
    ahead = (found.valid_at_ns - found.stamp_ns) * 1e-6
    assert dict(zip(found.consumers, ahead, strict=True)) == {"control": 70.0, "viewer": 130.0}
    assert (found.status == ForecastStatus.PRIOR).all()

    spoilt = single(begin + SECOND, 160.0)
    spoilt.boxes[2] = float("inf")
    tracks.publish(spoilt)
    # An hour back: what was known of the motion no longer holds.
    found = forecast(begin - 3600 * SECOND, 300.0)
    assert found.stamp_ns == begin - 3600 * SECOND
    np.testing.assert_allclose(found.boxes[:, 0, 0], 300, atol=1e-6)
    assert (found.status == 1).all()


def test_predictor_forecasts_over_the_reported_distribution(ros) -> None:
    process = ros.start(
        "predictor",
        "latency.consumer_prior_ms:=[70.0]",
        "latency.consumer_probability:=[0.9]",
    )
    forecasts, tracks, reports = around_the_predictor(ros)
    report = own.LatencyReport(
        consumers=["control"],
        horizon_ns=[150_000_000],
        horizon_status=[0],
        horizon_origin=[own.LatencyReport.FORECAST],
        horizon_quantiles_ns=[20_000_000, 40_000_000, 90_000_000, 250_000_000],
    )
    begin = now_ns()

    def forecast(k: int):
        count = len(forecasts)
        reports.publish(report)
        ros.spin(lambda: False, 0.1)
        tracks.publish(single(now_ns() - 30_000_000, 100 + (now_ns() - begin) * 1e-7))
        assert ros.spin(lambda: len(forecasts) > count, 5)
        return messages.forecasts_of(forecasts[-1])

    for k in range(5):
        found = forecast(k)
    assert found.valid_at_ns[0] - found.ready_ns == 100_000_000
    assert found.probabilities.tolist() == [0.9]
    box, region = found.boxes[0, 0], found.regions[0, 0]
    assert (region[:2] < box[:2]).all() and (region[2:] > box[2:]).all()
    report.horizon_quantiles_ns = [90_000_000, 40_000_000, 20_000_000, 0]
    found = forecast(5)
    assert found.valid_at_ns[0] - found.ready_ns == 100_000_000
    assert "must rise" in process.text()


def test_monitor_warns_of_stages_it_does_not_hear(ros) -> None:
    process = ros.start(
        "latency_monitor", "latency.min_samples:=3", "latency.consumer_stage:=['tracker']"
    )
    reports, status = ros.heard(own.LatencyReport, "latency"), diagnostics(ros)
    spans = ros.node.create_publisher(own.Span, "tracker/span", qos.results())
    connected(ros, spans)
    assert ros.spin(lambda: "/latency/tracker" in status and reports)
    assert status["/latency/tracker"].level == DiagnosticStatus.WARN
    assert list(reports[-1].horizon_status) == [1]
    begin = now_ns()

    def publish(stamp_ns: int, stage: str = "tracker", age_ms: int = 60) -> None:
        end = stamp_ns + age_ms * 10**6
        spans.publish(
            own.Span(
                header=messages.header(stamp_ns), stage=stage, start_ns=end - 10**7, end_ns=end
            )
        )
        ros.spin(lambda: False, 0.03)

    for k in range(6):
        publish(begin + k * SECOND // 30)
    publish(begin + SECOND // 4, stage="intruder")
    assert ros.spin(lambda: reports[-1].horizon_ns[0] == 60 * 10**6)
    assert ros.spin(lambda: "intruder" in process.text())
    last = 2**63 - 1
    spans.publish(own.Span(stage="tracker", start_ns=last, end_ns=last, dropped=2**32 - 1))
    heard = len(reports)
    assert ros.spin(lambda: len(reports) > heard + 5)
    assert reports[-1].horizon_ns[0] == 60 * 10**6
    # Spans of a bag that began again, later than the others by nothing but their age.
    for k in range(4):
        publish(begin - 100 * SECOND + k * SECOND // 30, age_ms=40)
    assert ros.spin(lambda: reports[-1].horizon_ns[0] == 40 * 10**6)
    assert list(reports[-1].status) == [1, 2, 1]
    assert ros.spin(lambda: "stopped" in status["/latency/tracker"].message)
    assert status["/latency/tracker"].level == DiagnosticStatus.WARN


def test_pipeline_does_it_all_in_one_process(ros) -> None:
    ros.start("pipeline", "isp.bits:=12", "isp.black_level:=[64.0]", "tracker.name:=mosse")
    forecasts, tracks = (
        ros.heard(own.ForecastArray, "forecasts"),
        ros.heard(own.TrackArray, "tracks"),
    )
    reports, images = ros.heard(own.LatencyReport, "latency"), ros.heard(Image, "image")
    ros.start(
        "sim_camera",
        "world.width:=320",
        "world.height:=240",
        "sim_camera.prerendered:=20",
        "sim_camera.select_service:=pipeline/select",
    )
    assert ros.spin(lambda: len(forecasts) > 20 and len(tracks) > 20 and len(images) > 5, 30)
    assert ros.spin(lambda: reports and list(reports[-1].status) == [0, 0, 0])
    found = messages.forecasts_of(forecasts[-1])
    assert found.consumers == ("control",)
    assert 0 < found.valid_at_ns[0] - found.stamp_ns < SECOND
    assert images[-1].encoding == "rgb8"


def test_pipeline_hears_the_stages_of_others_that_use_its_forecasts(ros) -> None:
    ros.start(
        "pipeline",
        "isp.bits:=12",
        "isp.black_level:=[64.0]",
        "tracker.name:=mosse",
        "latency.stages:=['isp', 'tracker', 'predictor', 'planner']",
        "latency.consumer_stage:=['planner']",
        "latency.min_samples:=3",
    )
    forecasts = ros.heard(own.ForecastArray, "forecasts")
    reports = ros.heard(own.LatencyReport, "latency")
    spans = ros.node.create_publisher(own.Span, "planner/span", qos.results())
    ros.start(
        "sim_camera",
        "world.width:=320",
        "world.height:=240",
        "sim_camera.prerendered:=20",
        "sim_camera.select_service:=pipeline/select",
    )
    assert ros.spin(lambda: len(forecasts) > 5, 30)
    connected(ros, spans)
    for k in range(6):
        count = len(forecasts)
        assert ros.spin(lambda count=count: len(forecasts) > count)
        used = forecasts[-1]
        end = used.ready_ns + (400 + k % 2) * 10**6
        spans.publish(
            own.Span(header=used.header, stage="planner", start_ns=used.ready_ns, end_ns=end)
        )
    assert ros.spin(lambda: list(reports[-1].horizon_origin) == [own.LatencyReport.FORECAST])
    assert 300e6 < np.mean(reports[-1].horizon_quantiles_ns) <= 401e6
    assert ros.spin(lambda: forecasts[-1].valid_at_ns[0] - forecasts[-1].ready_ns > 300e6)


def test_pipeline_detects_and_tracks_what_was_chosen_of_it(ros, tmp_path) -> None:
    model = bright(tmp_path / "bright.onnx", (200, 120), (28, 20), label=2)
    ros.start(
        "pipeline", f"detector.model:={model}", "detector.layout:=yolov8", "detector.nms_iou:=0.0",
        "detector.min_score:=0.5", "detector.classes:=[2]", "tracker.name:=csrt",
    )  # fmt: skip
    tracks, forecasts = (
        ros.heard(own.TrackArray, "tracks"),
        ros.heard(own.ForecastArray, "forecasts"),
    )
    camera = ros.node.create_publisher(Image, "image_raw", qos.images())
    connected(ros, camera)
    rng = np.random.default_rng(3)
    image = rng.integers(0, 110, (120, 200, 3)).astype(np.uint8)
    for x, y in ((20, 20), (120, 60)):
        image[y : y + 20, x : x + 28] = rng.integers(190, 255, (20, 28, 3))

    def shown(ids: list[int]) -> bool:
        camera.publish(messages.image_of(Frame(image, now_ns(), "rgb8")))
        ros.spin(lambda: False, 0.05)
        return bool(tracks) and list(tracks[-1].ids) == ids

    assert ros.spin(lambda: shown([0, 1]))
    assert ros.spin(lambda: forecasts and list(forecasts[-1].ids) == [0, 1])
    assert list(tracks[-1].labels) == [2, 2]

    def select(detection: int):
        return ros.call(Select, "pipeline/select", Select.Request(detection_id=detection))

    refused = select(9)
    assert not refused.success and "there are 0, 1" in refused.message
    chosen = select(1)
    assert (chosen.success, chosen.track_id) == (True, 1), chosen.message
    assert ros.spin(lambda: shown([1]))
    assert list(tracks[-1].labels) == [2]


def test_pipeline_without_its_detector_file_is_one_line(ros) -> None:
    process = ros.start("pipeline", "detector.model:=/no/such/file.onnx")
    assert ros.spin(lambda: process.popen.poll() is not None)
    assert process.popen.returncode == 2
    assert "/no/such/file.onnx: model cannot be read" in process.text()
    assert "Traceback" not in process.text()


@pytest.mark.parametrize(
    ("encoding", "sent", "bits"),
    [("bayer_rggb12", "bayer_rggb16", 12), ("bayer_gbrg8", "bayer_gbrg8", 8)],
)
def test_the_camera_sends_encodings_that_sensor_msgs_knows(
    ros, encoding: str, sent: str, bits: int
) -> None:
    images = ros.heard(Image, "image_raw")
    ros.start("sim_camera", "world.width:=320", "world.height:=240", f"world.encoding:={encoding}")
    assert ros.spin(lambda: len(images) > 2)
    assert images[0].encoding == sent
    highest = messages.frame_of(images[0], 0).image.max()
    assert 1 << (bits - 1) <= highest < 1 << bits  # right-justified


def test_the_stack_develops_the_camera_as_its_parameter_file_says(ros) -> None:
    sim = ("--params-file", str(Path(__file__).parents[2] / "config" / "sim.yaml"))
    images = ros.heard(Image, "image")
    ros.start("isp", arguments=sim)
    ros.start("sim_camera", "world.width:=320", "world.height:=240", arguments=sim)
    assert ros.spin(lambda: len(images) > 10)
    # With 16 bits taken as significant a day's picture is nearly black.
    assert messages.frame_of(images[-1], 0).image.mean() > 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_node_ends_without_a_word(ros, number: signal.Signals) -> None:
    process = ros.start("predictor")
    assert ros.spin(lambda: ros.node.count_publishers("forecasts"))
    process.popen.send_signal(number)
    assert process.popen.wait(10) == 0
    assert process.text() == ""


def test_two_nodes_of_one_name_do_not_fight(ros) -> None:
    first = ros.start("predictor")
    assert ros.spin(lambda: ros.node.count_publishers("forecasts"))
    second = ros.start("predictor")
    assert second.popen.wait(15) == 2
    assert second.text().count("\n") == 1
    assert "another node is named /predictor" in second.text()
    assert first.popen.poll() is None
    other = ros.start("predictor", arguments=("-r", "__ns:=/other"))
    assert ros.spin(lambda: ros.node.count_publishers("/other/forecasts"))
    ros.spin(lambda: False, 0.5)
    assert other.popen.poll() is None
    # A name is free again however its node ended.
    first.popen.kill()
    first.popen.wait()
    again = ros.start("predictor")
    ros.spin(lambda: again.popen.poll() is not None, 2.0)
    assert again.popen.poll() is None, again.text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-p", "latency.window_s:=-1.0"), "latency.window_s"),
        (("-p", "latency.window_s:=3"), "latency.window_s"),
        (("-p", "latency.window_s:=abc"), "latency.window_s"),
        (("-p", "latency.window_s:=["), "latency.window_s"),
        (("-p", "use_sim_time:=3"), "use_sim_time"),
        (("--params-file", "/nope.yaml"), "/nope.yaml"),
        (("-r", "__node:=1st"), "1st"),
        (("--log-level", "loud"), "loud"),
        (("--bogus",), "--bogus"),
    ],
)
def test_bad_ros_arguments_are_one_line_and_status_2(
    ros, arguments: tuple[str, ...], says: str
) -> None:
    process = ros.start("latency_monitor", arguments=arguments)
    assert process.popen.wait(15) == 2
    assert process.text().count("\n") == 1
    assert says in process.text()
    assert ".c:" not in process.text()


STUMBLING = """
import sys
from rclpy.node import Node
from ros_nodes import process

class Stumbler(Node):
    def __init__(self):
        super().__init__("stumbler")
        self.ticks = 0
        self.create_timer(0.05, self.tick)

    def tick(self):
        self.ticks += 1
        if self.ticks == 5:
            process.finish(7)
        raise OverflowError("too much to tell")

sys.exit(process.run(Stumbler))
"""


def test_a_callback_that_fails_is_logged_and_the_node_goes_on(ros) -> None:
    process = ros.run([sys.executable, "-c", STUMBLING])
    assert process.popen.wait(15) == 7
    assert "OverflowError: too much to tell" in process.text()
    assert process.text().count("Traceback") == 1  # a line a second at most
