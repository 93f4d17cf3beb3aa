"""The camera's own motion, seen by two witnesses: the background and a gyroscope.

The gyroscope says how the camera turned, R, which moves far background by the homography K R K⁻¹.
What is left is the way that the craft flew meanwhile; it moves the nearer background by far less,
and steadily, since a craft is heavy. So the motion of Δt seconds is taken as

    M = (1 + Δt A) K R K⁻¹,

A being a slow drift of the picture, pixels a second, followed by a Kalman filter of one variance.
It predicts M before the pictures are looked at; what the pictures say then corrects it, both by
their variances. A drift takes in a gyroscope's bias as well.

How far the two witnesses differ in proportion to the turn is measured all the time. It widens the
prediction, and a gyroscope that differs by about as much as the camera turned (swapped axes, an IMU
that is not on this camera) is not used until it agrees again. Nor is it for a frame in which the
background is seen only where the gyroscope does not say that it went.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from perception.camera import CameraMotion, camera_motion, unknown_motion
from perception.gyro import Gyro, GyroCounts, GyroStatus
from pipeline.box import FloatArray
from pipeline.imu import CameraCalibration, GyroCalibration, ImuSamples
from pipeline.motion import CameraSource, moved_by

DRIFT = 0.5
"""Of the picture before anything is known of it, rad/s: 15 m/s at 30 m."""
DRIFT_WALK = 0.03
"""How it changes, rad/s in the root of a second."""
DRIFT_MEMORY_S = 1.0
"""Time after which a drift that is not seen any more is forgotten to 1/e."""
SEEN_FACTOR = 1.5
SEEN_FLOOR_PX = 0.05
MOMENT_S = 0.001
"""Sigma of what the picture says: of its points' disagreement, in pixels of the small picture, and
of its moment, which is only known so well, more so where it is blurred."""
GATE = 5.0
"""Sigmas beyond which what one picture says is doubted; when the next one says so too, believed."""
MAX_SIGMA = 0.03
"""Of a motion that the gyroscope alone gives, in widths of the picture."""
MIN_DEPTH = 0.1
"""Cosine at which what was seen has turned out of sight."""
DISAGREEMENT = 0.1
"""Between both, as a share of the turn and at most the whole, before they have been compared."""
COMPARED = 0.02, 0.2
"""Turns in rad, root of a sum of squares, that this first guess weighs, and that are remembered."""
DOUBTFUL, DISAGREES, AGREES = 0.15, 0.5, 0.3
"""Disagreement that is worth a warning; beyond which the gyroscope is not used, and below which it
is again."""
STILL_RAD_S = 0.01
STILL_S = 1.0
BIAS_TIME_S = 3.0
MAX_BIAS_RAD_S = 0.2
"""While the picture stands still for a second on average, the gyroscope's rate is followed as its
bias; in this time, up to this much."""


class GyroUse(IntEnum):
    """What was made of the gyroscope in the newest frame."""

    OFF = 0
    USED = 1
    NO_SAMPLES = 2
    OTHER_CLOCK = 3
    OTHER_CAMERA = 4
    DISAGREES = 5


REMEDIES = {
    GyroUse.OFF: "no calibration of camera and gyroscope is given",
    GyroUse.USED: "in use",
    GyroUse.NO_SAMPLES: "no samples cover the time between the frames; check the IMU's topic, rate "
    "and delay",
    GyroUse.OTHER_CLOCK: "its stamps are seconds away from the frames'; let camera and IMU share a "
    "clock",
    GyroUse.OTHER_CAMERA: "the calibration is of pictures of another size; calibrate at this one",
    GyroUse.DISAGREES: "it turns otherwise than the picture; check T_cam_imu, timeshift_cam_imu "
    "and that the IMU is fixed to this camera",
}


@dataclass(frozen=True, slots=True)
class GyroReport:
    """How the gyroscope does.

    use: in the newest frame. disagreement: between it and the picture, as a share of the turn; root
    mean square. bias: (3,) rad/s about the IMU's axes. counts: samples since the start.
    """

    use: GyroUse
    disagreement: float
    bias: FloatArray
    counts: GyroCounts

    @property
    def fine(self) -> bool:
        """Whether it is in use, and as it should be."""
        return self.use == GyroUse.USED and self.disagreement < DOUBTFUL

    def __str__(self) -> str:
        doubtful = self.use == GyroUse.USED and not self.fine
        doubt = f", but {REMEDIES[GyroUse.DISAGREES]}" if doubtful else ""
        return f"gyroscope: {REMEDIES[self.use]}{doubt}"


class EgoMotion:
    """The camera's motion from frame to frame. ``feed`` may be called from any thread.

    Without a calibrated gyroscope it is ``camera_motion`` and nothing else. camera: of pictures of
    one size; for those of another ``told`` is used, which the camera's driver may tell later.
    """

    def __init__(self, gyro: GyroCalibration | None, camera: CameraCalibration | None) -> None:
        self.told: CameraCalibration | None = None
        self.offset_ns = 0 if gyro is None else gyro.offset_ns
        self._camera = camera
        self._axes = np.eye(3) if gyro is None else gyro.camera_from_imu
        self._gyro = Gyro(gyro) if gyro is not None else None
        self._bias = np.array(gyro.bias if gyro is not None else (0.0, 0.0, 0.0))
        self._view: _View | None = None
        self._use = GyroUse.OFF if gyro is None else GyroUse.NO_SAMPLES
        self._trusted = gyro is not None
        self._differed = (DISAGREEMENT * COMPARED[0]) ** 2
        self._turned = COMPARED[0] ** 2
        self.reset()

    def reset(self) -> None:
        """Forget the samples and the drift: time jumped."""
        if self._gyro is not None:
            self._gyro.reset()
        self._drift = np.zeros((3, 3))
        self._variance = DRIFT**2  # of the drift, in rad²/s²
        self._still_s = 0.0
        self._picture_rate, self._bias_rate = np.zeros(3), np.zeros(3)

    def feed(self, samples: ImuSamples) -> None:
        """Take samples of the gyroscope; never waits."""
        if self._gyro is not None:
            self._gyro.feed(samples)

    def report(self) -> GyroReport:
        """How the gyroscope does."""
        counts = GyroCounts() if self._gyro is None else replace(self._gyro.counts)
        return GyroReport(self._use, self._disagreement(), self._bias, counts)

    def between(
        self,
        before: npt.NDArray[np.uint8],
        after: npt.NDArray[np.uint8],
        scale: float,
        boxes: FloatArray,
        start_ns: int,
        end_ns: int,
        size: tuple[int, int],
    ) -> CameraMotion:
        """The motion from one frame to the next; the first four as ``camera_motion`` takes them.

        start_ns, end_ns: the frames' stamps. size: (width, height) of the frames.
        """
        turn = self._turn(start_ns, end_ns, size)
        dt = (end_ns - start_ns) * 1e-9
        self._variance += DRIFT_WALK**2 * dt
        if turn is None:
            self._forget(dt)
            return camera_motion(before, after, scale, boxes)
        predicted = np.asarray((np.eye(3) + dt * self._drift) @ turn.matrix)
        drifted = float(self._variance * (turn.view.focal * dt) ** 2)  # px², so are those below
        doubt = (self._disagreement() * turn.size) ** 2 + turn.sigma**2
        guided = self._trusted
        seen = camera_motion(before, after, scale, boxes, predicted if guided else None)
        if guided and seen.source == CameraSource.NOBODY:
            # A wrong guess hides what is there to see; what is seen without it refutes it.
            seen = camera_motion(before, after, scale, boxes)
            guided = seen.source == CameraSource.NOBODY
        points = SEEN_FACTOR * max(seen.sigma, SEEN_FLOOR_PX * scale)
        noise = points**2 + (MOMENT_S * turn.size / dt) ** 2
        apart = turn.view.distance(seen.matrix, predicted) ** 2
        if seen.source == CameraSource.PICTURE:
            self._compare(turn, apart - noise - drifted - turn.sigma**2)
        if not guided:
            self._use = GyroUse.DISAGREES
            self._forget(dt)
            return seen
        if seen.source == CameraSource.NOBODY:
            self._forget(dt)
            sigma = float(np.sqrt(drifted + doubt))
            known = sigma < MAX_SIGMA * size[0]
            return CameraMotion(predicted, sigma, CameraSource.GYRO) if known else unknown_motion()
        self._learn_bias(turn, seen, dt)
        surprising = apart > GATE**2 * (drifted + doubt + noise)
        total = drifted + doubt + (apart if surprising else noise)
        change = seen.matrix @ np.linalg.inv(predicted)
        change = change / change[2, 2] - np.eye(3)
        if surprising:
            self._variance += apart / (2 * turn.view.focal * dt) ** 2
        else:
            self._drift[:2] += drifted / total / dt * change[:2]
            self._variance *= 1 - drifted / total
        gain = (drifted + doubt) / total
        matrix = (np.eye(3) + gain * change) @ predicted
        # Where one of both must be wrong, the answer may be as wrong as they are apart.
        sigma = float(np.sqrt(apart if surprising else gain * noise))
        return CameraMotion(matrix, sigma, CameraSource.BOTH)

    def _turn(self, start_ns: int, end_ns: int, size: tuple[int, int]) -> "_PictureTurn | None":
        """What the gyroscope says of the time between two frames; None where it cannot be used."""
        if self._gyro is None:
            return None
        self._gyro.take(end_ns)
        known = [c for c in (self._camera, self.told) if c is not None and c.size == size]
        if not known:
            self._use = GyroUse.OTHER_CAMERA
            return None
        if self._view is None or self._view.camera is not known[0]:
            self._view = _View(known[0])
        turn = self._gyro.turn(start_ns, end_ns, self._bias)
        if turn.status == GyroStatus.UNCOVERED:
            foreign = self._gyro.foreign
            self._use = GyroUse.OTHER_CLOCK if foreign else GyroUse.NO_SAMPLES
            return None
        self._use = GyroUse.USED if self._trusted else GyroUse.DISAGREES
        return self._view.turn(self._axes @ turn.matrix @ self._axes.T, turn.variance)

    def _disagreement(self) -> float:
        return float(np.sqrt(self._differed / self._turned))

    def _compare(self, turn: "_PictureTurn", beyond: float) -> None:
        """Note the turn, and by how much both differ beyond what is to be expected, in px²."""
        focal = turn.view.focal
        self._differed += min(max(beyond, 0.0), turn.size**2) / focal**2
        self._turned += (turn.size / focal) ** 2
        kept = min(COMPARED[1] ** 2 / self._turned, 1.0)
        self._differed, self._turned = self._differed * kept, self._turned * kept
        self._trusted = self._disagreement() < (DISAGREES if self._trusted else AGREES)

    def _forget(self, dt: float) -> None:
        """A drift that is not seen fades."""
        kept = float(np.exp(-dt / DRIFT_MEMORY_S))
        self._drift *= kept
        self._variance = self._variance * kept**2 + DRIFT**2 * (1 - kept**2)

    def _learn_bias(self, turn: "_PictureTurn", seen: CameraMotion, dt: float) -> None:
        """Where the picture stands still, what the gyroscope says is its bias."""
        # A picture turns against the camera.
        by_picture, by_gyro = (
            -turn.view.rotation(matrix) @ self._axes / dt for matrix in (seen.matrix, turn.matrix)
        )
        share = 1 - np.exp(-dt / STILL_S)
        self._picture_rate += share * (by_picture - self._picture_rate)
        self._bias_rate += share * (by_gyro + self._bias - by_picture - self._bias_rate)
        still = np.linalg.norm(self._picture_rate) < STILL_RAD_S
        self._still_s = self._still_s + dt if still else 0.0
        if self._still_s > STILL_S:
            share = 1 - np.exp(-dt / BIAS_TIME_S)
            bias = self._bias + share * (self._bias_rate - self._bias)
            self._bias = np.clip(bias, -MAX_BIAS_RAD_S, MAX_BIAS_RAD_S)


class _PictureTurn(NamedTuple):
    """matrix: (3, 3), pixels → pixels of far background, as a turn moves it. sigma: of a coordinate
    there, and size: how far it is moved in one, root mean square over the picture; px."""

    view: "_View"
    matrix: FloatArray
    sigma: float
    size: float


class _View:
    """A camera's geometry. focal: px. Homographies are compared at 5 × 5 points of the picture."""

    def __init__(self, camera: CameraCalibration) -> None:
        self.camera = camera
        self.focal = float(np.sqrt(camera.matrix[0, 0] * camera.matrix[1, 1]))
        self._inverse = np.asarray(np.linalg.inv(camera.matrix), np.float64)
        share = np.linspace(0.1, 0.9, 5)
        self._points = np.stack(np.meshgrid(share, share), axis=-1).reshape(-1, 2) * camera.size
        rays = cv2.undistortPoints(self._points, camera.matrix, camera.distortion)[:, 0]
        self._rays = np.c_[rays, np.ones(len(rays))]
        # By how much a small rotation moves each place in the plane at depth 1.
        self._places = moved_by(self._inverse, self._points)
        x, y = self._places.T
        o = np.ones_like(x)
        across, down = np.stack([-x * y, o + x * x, -y]), np.stack([-o - y * y, x * y, x])
        self._solve = np.linalg.pinv(np.concatenate([across.T, down.T]))

    def turn(self, rotation: FloatArray, variance: float) -> _PictureTurn | None:
        """What a rotation (3, 3) of directions, of that variance in rad², does to the picture; None
        where it shows another place then."""
        camera = self.camera
        rays = self._rays @ rotation.T
        if rays[:, 2].min() < MIN_DEPTH:
            return None
        matrix, misfit = np.asarray(camera.matrix @ rotation @ self._inverse), 0.0
        if camera.distortion.any():
            still = np.zeros(3)
            moved = cv2.projectPoints(rays, still, still, camera.matrix, camera.distortion)[0][:, 0]
            matrix = np.asarray(cv2.findHomography(self._points, moved)[0], np.float64)
            misfit = float(((moved_by(matrix, self._points) - moved) ** 2).mean())
        matrix = matrix / matrix[2, 2]
        sigma = float(np.sqrt(variance * self.focal**2 + misfit))
        return _PictureTurn(self, matrix, sigma, self.distance(matrix, np.eye(3)))

    def distance(self, a: FloatArray, b: FloatArray) -> float:
        """Root mean square of how far two homographies are apart in a coordinate, px."""
        apart = moved_by(a, self._points) - moved_by(b, self._points)
        return float(np.sqrt((apart**2).mean()))

    def rotation(self, matrix: FloatArray) -> FloatArray:
        """(3,) the small rotation vector that moves the picture most like a homography does."""
        normalized = self._inverse @ matrix @ self.camera.matrix
        apart = moved_by(normalized, self._places) - self._places
        return np.asarray(self._solve @ apart.T.ravel())
