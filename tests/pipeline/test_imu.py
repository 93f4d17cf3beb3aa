"""Kalibr's file, and everything that may be wrong with it."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.errors import InputError
from pipeline.imu import (
    CameraCalibration,
    GyroCalibration,
    ImuSamples,
    calibration_yaml,
    read_calibration,
)

# The example of Kalibr's own description of the format.
KALIBR = """
cam0:
  camera_model: pinhole
  intrinsics: [461.629, 460.152, 362.680, 246.049]
  distortion_model: radtan
  distortion_coeffs: [-0.27695497, 0.06712482, 0.00087538, 0.00011556]
  T_cam_imu:
  - [0.01779318, 0.99967549,-0.01822936, 0.07008565]
  - [-0.9998017, 0.01795239, 0.00860714,-0.01771023]
  - [0.00893160, 0.01807260, 0.99979678, 0.00399246]
  - [0.0, 0.0, 0.0, 1.0]
  timeshift_cam_imu: -8.121e-05
  rostopic: /cam0/image_raw
  resolution: [752, 480]
"""


def written(tmp_path, text=KALIBR, **changes):
    """A file of this text, with values of cam0 changed, or left out where None."""
    path = tmp_path / "camchain-imucam.yaml"
    if changes:
        document = yaml.safe_load(text)
        document["cam0"].update(changes)
        document["cam0"] = {k: v for k, v in document["cam0"].items() if v is not None}
        text = yaml.safe_dump(document)
    path.write_text(text)
    return path


def test_kalibrs_own_example_is_read(tmp_path):
    camera, gyro = read_calibration(written(tmp_path))
    assert camera.size == (752, 480)
    np.testing.assert_array_equal(
        camera.matrix, [[461.629, 0, 362.68], [0, 460.152, 246.049], [0, 0, 1]]
    )
    np.testing.assert_array_equal(
        camera.distortion, [-0.27695497, 0.06712482, 0.00087538, 0.00011556]
    )
    assert gyro.offset_ns == -81_210  # t_imu = t_cam + timeshift_cam_imu
    np.testing.assert_allclose(gyro.camera_from_imu[0], [0.0178, 0.9997, -0.0182], atol=1e-4)
    np.testing.assert_allclose(gyro.camera_from_imu @ gyro.camera_from_imu.T, np.eye(3), atol=1e-12)


def test_the_file_in_the_docs_is_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "perception.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    camera, gyro = read_calibration(written(tmp_path, text))
    assert camera.size == (752, 480) and len(camera.distortion) == 4
    np.testing.assert_array_equal(gyro.camera_from_imu @ [1, 0, 0], [0, 0, 1])  # ahead is ahead
    assert gyro.noise == 5e-4


def test_noise_and_bias_of_the_imu_are_read_where_they_are(tmp_path):
    assert read_calibration(written(tmp_path))[1].bias == (0, 0, 0)
    # Without a point YAML takes 2e-4 for text.
    more = "imu0:\n  gyroscope_noise_density: 2e-4\n  gyroscope_bias: [0.01, -0.02, 0.003]\n"
    gyro = read_calibration(written(tmp_path, KALIBR + more))[1]
    assert (gyro.noise, gyro.bias) == (2e-4, (0.01, -0.02, 0.003))


def test_one_of_several_cameras_is_chosen_by_name(tmp_path):
    text = KALIBR + KALIBR.replace("cam0:", "cam1:").replace("461.629", "500.5")
    path = written(tmp_path, text)
    assert read_calibration(path, "cam1")[0].matrix[0, 0] == 500.5
    with pytest.raises(InputError, match=r"no cam2; it holds cam0, cam1.*calibration_camera"):
        read_calibration(path, "cam2")


def test_without_a_lens_the_camera_is_left_open(tmp_path):
    camera, gyro = read_calibration(written(tmp_path, intrinsics=None, resolution=None))
    assert camera is None and gyro.offset_ns == -81_210


def test_what_is_written_is_read_again(tmp_path):
    camera = CameraCalibration(
        (640, 360), np.array([[510.0, 0, 318.5], [0, 505, 181.25], [0, 0, 1]]), np.arange(5) * 0.01
    )
    axes = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    gyro = GyroCalibration(axes, 3_250_000, 2e-4, (0.01, -0.02, 0.03))
    again = read_calibration(written(tmp_path, calibration_yaml(camera, gyro)))
    for name in ("size", "matrix", "distortion"):
        np.testing.assert_array_equal(getattr(again[0], name), getattr(camera, name))
    np.testing.assert_allclose(again[1].camera_from_imu, axes, atol=1e-15)
    assert (again[1].offset_ns, again[1].noise, again[1].bias) == (3_250_000, 2e-4, gyro.bias)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"T_cam_imu": None}, "T_cam_imu"),
        ({"T_cam_imu": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]]}, "no rotation"),
        ({"T_cam_imu": [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]]}, "no rotation"),
        ({"T_cam_imu": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, "T_cam_imu"),
        ({"T_cam_imu": [[1, 0, 0, 0], [0, float("nan"), 0, 0], [0, 0, 1, 0]]}, "T_cam_imu"),
        ({"camera_model": "omni"}, "'omni': only pinhole"),
        ({"distortion_model": "equidistant"}, "'equidistant': only none, plumb_bob, radtan"),
        ({"distortion_model": ["radtan"]}, "distortion_model"),
        ({"distortion_coeffs": [0.1, 0.2]}, "2 do not go with radtan"),
        ({"distortion_coeffs": [0.1, 0.2, 0, 999]}, "distortion_coeffs"),
        ({"intrinsics": [461, 460, 362]}, "intrinsics"),
        ({"intrinsics": [0.6, 0.8, 0.5, 0.5]}, "in pixels"),
        ({"intrinsics": [461, 460, 362, 4000]}, "principal point"),
        ({"intrinsics": [True, 460, 362, 246]}, "intrinsics"),
        ({"intrinsics": "461, 460, 362, 246"}, "intrinsics"),
        ({"resolution": [0, 480]}, "resolution"),
        ({"resolution": [752, 1e11]}, "resolution"),
        ({"timeshift_cam_imu": 3600.0}, "timeshift_cam_imu.*share a clock"),
        ({"timeshift_cam_imu": float("inf")}, "timeshift_cam_imu"),
        ({"timeshift_cam_imu": 10**400}, "timeshift_cam_imu"),
    ],
)
def test_what_cannot_be_is_refused_by_name_in_one_line(tmp_path, changes, says):
    with pytest.raises(InputError, match=says) as error:
        read_calibration(written(tmp_path, **changes))
    assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "column", "value"), [(2, 2, 0.0), (2, 0, 1e300), (1, 0, 3.0), (0, 1, 1e6)]
)
def test_a_matrix_that_is_no_pinholes_is_refused(row, column, value):
    matrix = np.array([[510.0, 0, 318.5], [0, 505, 181.25], [0, 0, 1]])
    matrix[row, column] = value
    with pytest.raises(InputError, match="the matrix must be"):
        CameraCalibration((640, 360), matrix, np.zeros(0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no cam0; it holds no camera"),
        ("[1, 2]", "no cam0"),
        ("cam0: 5", "T_cam_imu"),
        ("cam0: {", "is no YAML"),
        ("a: &a [1]\nb: *a", "aliases are not allowed"),
        ("[" * 5000, "is no YAML"),
        ("imu0: {gyroscope_bias: [1, 2]}\n" + KALIBR, "gyroscope_bias"),
        ("imu0: {gyroscope_bias: [1, 2, 3]}\n" + KALIBR, "gyroscope_bias.*0.5 rad/s"),
        ("imu0: {gyroscope_noise_density: 0}\n" + KALIBR, "gyroscope_noise_density"),
        ("#" * (2 << 20), "bytes"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read_calibration(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot be read"):
        read_calibration(tmp_path / "nowhere.yaml")


def test_samples_need_a_stamp_and_three_rates_each():
    with pytest.raises(InputError, match="three rates"):
        ImuSamples(np.arange(4), np.zeros((3, 3)))
