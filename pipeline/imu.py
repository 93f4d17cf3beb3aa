"""What a gyroscope says, and how it sits on the camera."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from pipeline.config import read_yaml
from pipeline.errors import InputError

FloatArray = npt.NDArray[np.float64]

DISTORTIONS = {"none": (0,), "plumb_bob": (4, 5), "radtan": (4, 5)}
"""Models that can be used, with their numbers of coefficients. Kalibr's radtan is OpenCV's and
ROS's plumb_bob without its last coefficient, k3."""
DEFAULT_NOISE = 5e-4
"""Noise density in rad/s/√Hz of a consumer's gyroscope on a craft that vibrates."""
MAX_BIAS_RAD_S = 0.5
MAX_OFFSET_NS = 10 * 10**9
ORTHOGONAL = 1e-2
"""How far the calibrated axes may be from right angles and unit length."""


@dataclass(frozen=True, slots=True, eq=False)
class ImuSamples:
    """Angular rates as they came: in any order, and not yet known to be sane.

    stamps_ns: (n,) int64, on the IMU's clock. rates: (n, 3) float64, rad/s about the IMU's x, y, z.
    """

    stamps_ns: npt.NDArray[np.int64]
    rates: FloatArray

    def __post_init__(self) -> None:
        n = len(self.stamps_ns)
        if self.stamps_ns.shape != (n,) or self.rates.shape != (n, 3):
            raise InputError(
                f"ImuSamples: stamps {self.stamps_ns.shape} and rates {self.rates.shape} do not go "
                "together: give one stamp and three rates a sample"
            )

    def __len__(self) -> int:
        return len(self.stamps_ns)


@dataclass(frozen=True, slots=True, eq=False)
class CameraCalibration:
    """A pinhole camera with a global shutter.

    size: (width, height) in pixels of the pictures that it holds for.
    matrix: (3, 3), directions in the camera's optical frame (REP-103: x right, y down, z forward) →
        pixels, of which (0, 0) is the center of the first one.
    distortion: (0,), (4,) or (5,), plumb_bob: k1, k2, p1, p2, k3.
    """

    size: tuple[int, int]
    matrix: FloatArray
    distortion: FloatArray

    def __post_init__(self) -> None:
        width, height = self.size
        if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
            raise InputError(f"resolution: {width}x{height} is no size of pictures in pixels")
        _array("intrinsics", self.matrix, (3, 3))
        fx, fy = self.matrix[0, 0], self.matrix[1, 1]
        cx, cy = self.matrix[:2, 2]
        if self.matrix[1, 0] or abs(self.matrix[0, 1]) > width or any(self.matrix[2] != (0, 0, 1)):
            raise InputError(
                "intrinsics: the matrix must be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]]"
            )
        if not (0.05 < fx / width < 100 and 0.05 < fy / height < 100):
            raise InputError(
                f"intrinsics: focal lengths {fx:g}, {fy:g} do not go with pictures of "
                f"{width}x{height}; give [fu, fv, pu, pv] in pixels"
            )
        if not (-width < cx < 2 * width and -height < cy < 2 * height):
            raise InputError(
                f"intrinsics: principal point {cx:g}, {cy:g} is far off the {width}x{height} "
                "picture; give [fu, fv, pu, pv] in pixels"
            )
        _array("distortion_coeffs", self.distortion, (len(self.distortion),))
        if len(self.distortion) not in (0, 4, 5) or np.abs(self.distortion).max(initial=0) > 100:
            raise InputError("distortion_coeffs: give none, or k1, k2, p1, p2 and maybe k3")


@dataclass(frozen=True, slots=True, eq=False)
class GyroCalibration:
    """A gyroscope that is fixed to a camera.

    camera_from_imu: (3, 3) rotation, the IMU's axes → the camera's optical frame's.
    offset_ns: an IMU's stamp minus the picture's of the same moment.
    noise: density of its white noise, rad/s/√Hz.
    bias: (3,) rad/s about the IMU's axes, what it says at rest.
    """

    camera_from_imu: FloatArray
    offset_ns: int = 0
    noise: float = DEFAULT_NOISE
    bias: tuple[float, ...] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        _array("T_cam_imu", self.camera_from_imu, (3, 3))
        right_angles = self.camera_from_imu @ self.camera_from_imu.T - np.eye(3)
        if np.abs(right_angles).max() > ORTHOGONAL or np.linalg.det(self.camera_from_imu) < 0:
            raise InputError(
                "T_cam_imu: its upper left 3x3 is no rotation; give the matrix that takes the "
                "IMU's coordinates to the camera's, as Kalibr does"
            )
        left, _, right = np.linalg.svd(self.camera_from_imu)  # digits were cut off in the file
        object.__setattr__(self, "camera_from_imu", left @ right)
        if abs(self.offset_ns) > MAX_OFFSET_NS:
            raise InputError(
                f"timeshift_cam_imu: {self.offset_ns * 1e-9:g} s is more than "
                f"{MAX_OFFSET_NS * 1e-9:g} s; let camera and IMU share a clock"
            )
        if not 1e-7 <= self.noise <= 1:
            raise InputError(
                f"gyroscope_noise_density: {self.noise:g} is out of range, allowed is 1e-07 to 1 "
                "rad/s/√Hz"
            )
        _array("gyroscope_bias", np.array(self.bias), (3,))
        if np.abs(self.bias).max() > MAX_BIAS_RAD_S:
            raise InputError(
                f"gyroscope_bias: {self.bias} is out of range, allowed is up to "
                f"{MAX_BIAS_RAD_S:g} rad/s an axis"
            )


def read_calibration(
    path: Path, camera: str = "cam0"
) -> tuple[CameraCalibration | None, GyroCalibration]:
    """Kalibr's ``camchain-imucam.yaml``; ``camera`` names which of its cameras.

    Read of a camera: ``resolution``, ``camera_model`` (pinhole), ``intrinsics`` [fu, fv, pu, pv],
    ``distortion_model`` (none, radtan or plumb_bob), ``distortion_coeffs``, ``T_cam_imu``,
    ``timeshift_cam_imu``; of ``imu0``, where it has been pasted in from Kalibr's other file:
    ``gyroscope_noise_density``, and ``gyroscope_bias`` [x, y, z] in rad/s, which is ours.
    Without ``intrinsics`` the camera is None: it must come from elsewhere.
    Source: https://github.com/ethz-asl/kalibr/wiki/yaml-formats

    Raises:
        InputError: no such file, no YAML, no such camera, or values that cannot be.
    """
    document = read_yaml(path)
    cameras = [name for name in _mapping(document) if name.startswith("cam")]
    if camera not in cameras:
        raise InputError(
            f"{path}: no {camera:.40}; it holds {', '.join(cameras)[:80] or 'no camera'}: give "
            "Kalibr's camchain-imucam.yaml, and choose with propagator.calibration_camera"
        )
    values, imu = _mapping(document[camera]), _mapping(document.get("imu0"))
    try:
        return _camera(values) if "intrinsics" in values else None, _gyro(values, imu)
    except InputError as error:
        raise InputError(f"{path}: {camera}: {error}") from None


def calibration_yaml(camera: CameraCalibration, gyro: GyroCalibration) -> str:
    """What ``read_calibration`` reads."""
    pose = np.eye(4)
    pose[:3, :3] = gyro.camera_from_imu
    k = camera.matrix
    values = {
        "camera_model": "pinhole",
        "intrinsics": [float(v) for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2])],
        "distortion_model": "plumb_bob" if len(camera.distortion) else "none",
        "distortion_coeffs": camera.distortion.tolist(),
        "resolution": list(camera.size),
        "T_cam_imu": pose.tolist(),
        "timeshift_cam_imu": gyro.offset_ns * 1e-9,
    }
    imu = {"gyroscope_noise_density": gyro.noise, "gyroscope_bias": list(gyro.bias)}
    return str(yaml.safe_dump({"cam0": values, "imu0": imu}, default_flow_style=None))


def _camera(values: dict[str, Any]) -> CameraCalibration:
    model = values.get("camera_model", "pinhole")
    if model != "pinhole":
        raise InputError(
            f"camera_model {model!r:.40}: only pinhole can be used; rectify the pictures first "
            "and give the calibration of those"
        )
    distortion = values.get("distortion_model", "none")
    if not isinstance(distortion, str) or distortion not in DISTORTIONS:
        raise InputError(
            f"distortion_model {distortion!r:.40}: only {', '.join(DISTORTIONS)} can be used; "
            "rectify the pictures first (image_proc) and give the calibration of those"
        )
    coefficients = _numbers("distortion_coeffs", values.get("distortion_coeffs", []))
    if len(coefficients) not in DISTORTIONS[distortion]:
        raise InputError(f"distortion_coeffs: {len(coefficients)} do not go with {distortion}")
    width, height = _numbers("resolution", values.get("resolution"), 2)
    fu, fv, pu, pv = _numbers("intrinsics", values.get("intrinsics"), 4)
    matrix = np.array([[fu, 0.0, pu], [0.0, fv, pv], [0.0, 0.0, 1.0]])
    return CameraCalibration(
        (round(width), round(height)), matrix, np.array(coefficients, np.float64)
    )


def _gyro(values: dict[str, Any], imu: dict[str, Any]) -> GyroCalibration:
    pose = values.get("T_cam_imu")
    rows = pose if isinstance(pose, list) and len(pose) in (3, 4) else [None]
    axes = np.array([_numbers("T_cam_imu", row, 4)[:3] for row in rows[:3]])
    shift_s = _number("timeshift_cam_imu", values.get("timeshift_cam_imu", 0.0))
    noise = _number("gyroscope_noise_density", imu.get("gyroscope_noise_density", DEFAULT_NOISE))
    bias = _numbers("gyroscope_bias", imu.get("gyroscope_bias", [0.0, 0.0, 0.0]), 3)
    return GyroCalibration(axes, round(shift_s * 1e9), noise, tuple(bias))


def _mapping(value: Any) -> dict[str, Any]:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}


def _number(name: str, value: Any) -> float:
    try:  # YAML reads 5e-4, without a point, as text
        number = float(value) if isinstance(value, (int, float, str)) else np.nan
    except (ValueError, OverflowError):
        number = np.nan
    if isinstance(value, bool) or not abs(number) < 1e12:
        raise InputError(f"{name}: needs a finite number")
    return number


def _numbers(name: str, values: Any, count: int | None = None) -> list[float]:
    if not isinstance(values, list) or len(values) > 99 or count not in (None, len(values)):
        raise InputError(f"{name}: needs a list of {count or 'finite'} numbers")
    return [_number(name, value) for value in values]


def _array(name: str, values: FloatArray, shape: tuple[int, ...]) -> None:
    if values.shape != shape or not np.isfinite(values).all():
        raise InputError(f"{name}: needs {shape} finite numbers")
