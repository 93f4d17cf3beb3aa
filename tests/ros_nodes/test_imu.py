"""A gyroscope beside the images, over DDS: from the simulated camera, from a bag, and into the
``pipeline`` node."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
own = pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, Imu  # noqa: E402

from bridges.world import AerialWorld, WorldConfig  # noqa: E402
from evaluation.bags import BagWriter  # noqa: E402
from perception.gyro import product, rotations  # noqa: E402
from pipeline.errors import InputError  # noqa: E402
from pipeline.frame import Frame  # noqa: E402
from pipeline.imu import ImuSamples, calibration_yaml  # noqa: E402
from ros_nodes import messages  # noqa: E402

SMALL = ("world.width:=320", "world.height:=240", "world.shake_px:=6.0", "sim_camera.imu:=true")
SECOND = 10**9


def world(**options) -> AerialWorld:
    return AerialWorld(WorldConfig(width=320, height=240, shake_px=6.0, **options))


def calibration(folder: Path, made: AerialWorld) -> str:
    path = folder / "camchain-imucam.yaml"
    path.write_text(calibration_yaml(*made.calibration))
    return f"propagator.calibration:={path}"


def gyro_line(ros) -> list[DiagnosticStatus]:
    """Each /diagnostics line about the gyroscope."""
    found: list[DiagnosticStatus] = []

    def take(message: DiagnosticArray) -> None:
        found.extend(s for s in message.status if s.name.endswith("/gyroscope"))

    ros.node.create_subscription(DiagnosticArray, "/diagnostics", take, 10)
    return found


def used(line: DiagnosticStatus) -> int:
    return int(next(v.value for v in line.values if v.key == "used"))


def test_messages_become_samples_and_back() -> None:
    rates = [[0.5, -1.25, 2.0], [0.25, 3.5, -4.0]]
    sent = [
        messages.imu_message(1_700_000_000_123_456_789 + k, r, 0.01, "imu")
        for k, r in enumerate(rates)
    ]
    found = messages.imu_samples(sent)
    np.testing.assert_array_equal(found.rates, rates)
    assert found.stamps_ns.tolist() == [1_700_000_000_123_456_789, 1_700_000_000_123_456_790]
    assert sent[0].orientation_covariance[0] == -1
    assert len(messages.imu_samples([])) == 0


def test_camera_info_becomes_a_calibration_and_back() -> None:
    camera, _ = world().calibration
    sent = messages.camera_message(camera, SECOND, "camera")
    found = messages.camera_of(sent)
    assert found is not None
    assert (found.size, len(found.distortion)) == ((320, 240), 0)
    np.testing.assert_array_equal(found.matrix, camera.matrix)
    sent.d = [-0.2, 0.05, 0.001, -0.002, 0.0]
    found = messages.camera_of(sent)
    assert found is not None
    np.testing.assert_array_equal(found.distortion, sent.d)
    assert messages.camera_of(CameraInfo()) is None  # a driver without a calibration
    sent.distortion_model = "equidistant"
    with pytest.raises(InputError, match="camera_info: distortion_model 'equidistant'"):
        messages.camera_of(sent)
    sent.distortion_model, sent.width = "plumb_bob", 0
    with pytest.raises(InputError, match="camera_info: resolution"):
        messages.camera_of(sent)


def test_the_simulated_camera_gives_its_gyroscope_and_its_lens(ros) -> None:
    imus, infos = ros.heard(Imu, "imu", 1000), ros.heard(CameraInfo, "camera_info")
    images = ros.heard(Image, "image_raw")
    ros.start("sim_camera", *SMALL, "world.gyro_hz:=200.0", "world.gyro_noise:=0.0")
    assert ros.spin(lambda: len(images) > 12 and len(imus) > 60)
    camera, _ = world().calibration
    found = messages.camera_of(infos[-1])
    assert found is not None
    np.testing.assert_allclose(found.matrix, camera.matrix)
    frames = [messages.stamp_of(m.header) for m in images]
    samples = messages.imu_samples(imus)
    assert (np.diff(samples.stamps_ns) > 0).all()
    assert np.median(np.diff(samples.stamps_ns)) == pytest.approx(5_000_000, rel=0.1)
    # On the frames' clock: none is later than the newest frame, and they go along with them.
    assert 0 <= frames[-1] - samples.stamps_ns[-1] < SECOND
    assert np.abs(samples.rates).max() > 0.2


def test_the_pipeline_uses_a_calibrated_gyroscope_and_says_so(ros, tmp_path: Path) -> None:
    lines = gyro_line(ros)
    tracks = ros.heard(own.TrackArray, "tracks")
    node = ros.start(
        "pipeline",
        "tracker.name:=mosse",
        "isp.bits:=12",
        "isp.black_level:=[64.0]",
        calibration(tmp_path, world()),
    )
    assert ros.spin(lambda: lines)
    assert lines[0].level == DiagnosticStatus.WARN
    assert "no samples" in lines[0].message
    ros.start("sim_camera", *SMALL, "sim_camera.select_service:=pipeline/select")
    assert ros.spin(lambda: len(tracks) > 20, 30), node.text()
    assert ros.spin(lambda: lines[-1].message == "gyroscope: in use" and used(lines[-1]) > 200)
    assert lines[-1].level == DiagnosticStatus.OK
    values = {v.key: v.value for v in lines[-1].values}
    assert values["other_clock"] == values["impossible"] == "0"
    assert node.text() == ""


def test_the_camera_infos_lens_serves_where_the_file_has_none(ros, tmp_path: Path) -> None:
    lines = gyro_line(ros)
    path = tmp_path / "camchain-imucam.yaml"
    text = calibration_yaml(*world().calibration)
    path.write_text("\n".join(t for t in text.splitlines() if "intrinsics" not in t))
    ros.start("pipeline", "tracker.name:=mosse", f"propagator.calibration:={path}")
    ros.start("sim_camera", *SMALL)
    assert ros.spin(lambda: lines and lines[-1].message == "gyroscope: in use", 30)


def test_an_imu_on_another_clock_is_told_of_and_the_stream_goes_on(ros, tmp_path: Path) -> None:
    lines = gyro_line(ros)
    forecasts = ros.heard(own.ForecastArray, "forecasts")
    ros.start(
        "pipeline",
        "tracker.name:=mosse",
        calibration(tmp_path, world(gyro_offset_ms=0.0)),
    )
    # Stamped an hour late, as by a clock of its own.
    imu = ros.node.create_publisher(Imu, "imu", 10)
    camera = ros.start("sim_camera", *SMALL[:3], "sim_camera.select_service:=pipeline/select")

    def told() -> bool:
        stamp = ros.node.get_clock().now().nanoseconds + 3600 * SECOND
        imu.publish(messages.imu_message(stamp, [0.1, 0.2, 0.3], 0.01, "imu"))
        return bool(lines) and "share a clock" in lines[-1].message

    assert ros.spin(told, 30), camera.text()
    assert lines[-1].level == DiagnosticStatus.WARN
    assert ros.spin(lambda: len(forecasts) > 5)


def test_a_calibration_of_another_size_is_told_of_and_the_stream_goes_on(ros, tmp_path) -> None:
    lines = gyro_line(ros)
    forecasts = ros.heard(own.ForecastArray, "forecasts")
    larger = AerialWorld(WorldConfig(width=640, height=480))
    ros.start("pipeline", "tracker.name:=mosse", calibration(tmp_path, larger))
    # The driver's own word on its lens is out of reach, as where there is none.
    command = ("sim_camera", *SMALL, "sim_camera.select_service:=pipeline/select")
    ros.start(*command, arguments=("-r", "camera_info:=elsewhere"))
    assert ros.spin(lambda: lines and "another size" in lines[-1].message, 30)
    assert lines[-1].level == DiagnosticStatus.WARN
    assert ros.spin(lambda: len(forecasts) > 5)


def test_without_a_calibration_the_pipeline_does_not_listen(ros) -> None:
    ros.start("pipeline", "tracker.name:=mosse")
    assert ros.spin(lambda: ros.node.count_subscribers("image_raw"))
    ros.spin(lambda: False, 0.5)
    assert ros.node.count_subscribers("imu") == ros.node.count_subscribers("camera_info") == 0


@pytest.mark.parametrize("file", ["none.yaml", "omni.yaml"])
def test_a_calibration_that_cannot_be_used_is_one_line_and_status_2(ros, tmp_path, file) -> None:
    text = calibration_yaml(*world().calibration).replace("pinhole", "omni")
    (tmp_path / "omni.yaml").write_text(text)
    process = ros.start("pipeline", f"propagator.calibration:={tmp_path / file}")
    assert process.popen.wait(15) == 2
    assert process.text().count("\n") == 1
    assert file in process.text()


def test_a_bags_imu_is_played_as_imu(ros, tmp_path: Path) -> None:
    begin = 1_600_000_000 * SECOND
    samples = ImuSamples(begin + np.arange(100) * 5_000_000, np.arange(300).reshape(100, 3) * 0.01)
    with BagWriter(tmp_path / "flight.mcap") as bag:
        bag.imu("/mavros/imu/data", samples)
        for k in range(10):
            picture = np.full((40, 60), 10 * k, np.uint8)
            bag.frame("/nose/raw", Frame(picture, begin + k * 50_000_000, "mono8", k))
    heard, images = ros.heard(Imu, "uav/imu", 1000), ros.heard(Image, "uav/image_raw")
    process = ros.start(
        "replay", f"replay.bag:={tmp_path / 'flight.mcap'}", arguments=("-r", "__ns:=/uav")
    )
    assert ros.spin(lambda: process.popen.poll() is not None)
    assert len(images) == 10
    np.testing.assert_array_equal(messages.imu_samples(heard).rates, samples.rates)


def test_a_simulated_turn_arrives_whole(ros) -> None:
    """What the samples between two frames add up to is how the world's camera turned."""
    imus, images = ros.heard(Imu, "imu", 1000), ros.heard(Image, "image_raw")
    ros.start("sim_camera", *SMALL, "world.gyro_noise:=0.0", "world.gyro_bias:=[0.0, 0.0, 0.0]")
    assert ros.spin(lambda: len(images) > 12)
    assert ros.spin(
        lambda: messages.stamp_of(imus[-1].header) > messages.stamp_of(images[9].header)
    )
    samples = messages.imu_samples(imus)
    first, last = (messages.stamp_of(images[k].header) for k in (4, 9))
    inside = (samples.stamps_ns >= first) & (samples.stamps_ns < last)
    seconds = np.diff(samples.stamps_ns, append=samples.stamps_ns[-1])[inside] * 1e-9
    turned = product(rotations(samples.rates[inside] * seconds[:, None]))
    made = world()
    axes = made.calibration[1].camera_from_imu
    angles = [
        np.linalg.norm(axes @ turned @ axes.T - a.T @ b)
        for k in range(60)
        for a, b in [[made.truth(i).camera_pose[:3, :3] for i in (k, k + 5)]]
    ]
    assert min(angles) < 0.01
