"""Both witnesses of the camera's motion, on pictures that move by known unequal amounts."""

import cv2
import numpy as np
import pytest

from perception.camera import camera_motion
from perception.ego import MAX_BIAS_RAD_S, EgoMotion, GyroUse
from perception.gyro import product, rotations
from perception.propagator import Propagator, PropagatorConfig
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.imu import CameraCalibration, GyroCalibration, ImuSamples, calibration_yaml
from pipeline.motion import CameraSource, moved_by

WIDTH, HEIGHT = SIZE = (320, 240)
K = np.array([[330.0, 0, 163], [0, 320, 117], [0, 0, 1]])
AXES = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""Of an IMU with x forward, y left, z up to a camera that looks ahead."""
STEP_NS = 40_000_000
NO_BOX = np.empty((0, 4))
POINTS = np.array([[60.0, 50], [160, 60], [250, 70], [80, 190], [240, 180]])


class Flight:
    """A picture at infinity seen by a camera that turns, and its gyroscope.

    rate: of the seconds, rad/s about the IMU's axes. drift: px a second that the picture moves
    beside that.
    """

    def __init__(self, texture, rate, drift=(0.0, 0.0), bias=(0.0, 0.0, 0.0), hz=1000):
        self._texture = texture
        self._rate = rate
        self._drift = np.array(drift)
        self._bias = np.array(bias)
        self._period_ns = 10**9 // hz
        self._whole = {0: np.eye(3)}
        self.blind = set()

    def turn(self, k):
        """Of the IMU from frame k − 1 to k: a fixed direction in its axes then → now."""
        t = ((k - 1) * STEP_NS + (np.arange(40) + 0.5) * STEP_NS / 40) * 1e-9
        turns = rotations(np.array([self._rate(s) for s in t]) * STEP_NS / 40 * 1e-9)
        return product(turns).T

    def motion(self, k):
        """(3, 3) of the picture's pixels from frame k − 1 to k."""
        shift = np.eye(3)
        shift[:2, 2] = self._drift * STEP_NS * 1e-9
        matrix = shift @ K @ AXES @ self.turn(k) @ AXES.T @ np.linalg.inv(K)
        return matrix / matrix[2, 2]

    def whole(self, k):
        if k not in self._whole:
            self._whole[k] = self.motion(k) @ self.whole(k - 1)
        return self._whole[k]

    def picture(self, k):
        if k in self.blind:
            return np.full((HEIGHT, WIDTH), 90, np.uint8)
        return cv2.warpPerspective(
            self._texture, self.whole(k), SIZE, borderMode=cv2.BORDER_REFLECT
        )

    def samples(self, k):
        """Those up to frame k since the one before, on the frames' clock."""
        first = (k - 1) * STEP_NS + self._period_ns if k else -10 * self._period_ns
        stamps = np.arange(first, k * STEP_NS + 1, self._period_ns)
        rates = np.array([self._rate(t) for t in (stamps * 1e-9).tolist()], np.float64)
        return ImuSamples(stamps, rates + self._bias)

    def run(self, ego, count, feed=None):
        """Each motion found, and the error of it at POINTS, px."""
        found, errors = [], []
        for k in range(count):
            ego.feed((feed or self.samples)(k))
            if k:
                found.append(step(ego, self, k))
                truth = moved_by(self.motion(k), POINTS)
                apart = moved_by(found[-1].matrix, POINTS) - truth
                errors.append(float(np.linalg.norm(apart, axis=1).max()))
        return found, np.array(errors)


def step(ego, flight, k):
    return ego.between(
        flight.picture(k - 1), flight.picture(k), 1.0, NO_BOX, (k - 1) * STEP_NS, k * STEP_NS, SIZE
    )


@pytest.fixture
def ground():
    """(240, 320) gray, of structure at all scales."""
    rng = np.random.default_rng(4)
    out = np.zeros((HEIGHT, WIDTH), np.float32)
    for cell, weight in ((40, 60), (14, 45), (6, 30)):
        coarse = rng.uniform(-1, 1, (HEIGHT // cell + 2, WIDTH // cell + 2)).astype(np.float32)
        out += weight * cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
    return np.clip(out + 120, 0, 255).astype(np.uint8)


@pytest.fixture
def propagator(tmp_path):
    """With the gyroscope's calibration read from a file."""
    path = tmp_path / "camchain-imucam.yaml"
    camera = CameraCalibration(SIZE, K, np.empty(0))
    path.write_text(calibration_yaml(camera, GyroCalibration(AXES)))
    return Propagator(PropagatorConfig(calibration=str(path)))


def calibrated(size=SIZE, axes=AXES, distortion=(), **gyro):
    return EgoMotion(
        GyroCalibration(axes, **gyro), CameraCalibration(size, K, np.array(distortion))
    )


def fast(t):
    """Up to 2.3 rad/s: 30 px a frame."""
    return (0.5 * np.sin(9 * t), 1.2 * np.sin(6 * t + 1), 2.0 * np.sin(4 * t + 2))


def shaken(t):
    return (0.7 * np.sin(38 * t), 1.1 * np.sin(31 * t + 1), 0.9 * np.sin(45 * t + 2))


def test_a_craft_that_turns_left_sees_the_world_go_right(ground):
    ego = calibrated()
    flight = Flight(ground, lambda t: (0, 0, 0.5))
    flight.blind = {0, 1}  # so that the gyroscope alone says it
    found, _ = flight.run(ego, 2)
    assert found[0].source == CameraSource.GYRO
    shift = moved_by(found[0].matrix, POINTS) - POINTS
    np.testing.assert_allclose(shift[:, 0], 0.5 * STEP_NS * 1e-9 * K[0, 0], rtol=0.1)
    nose_down = Flight(ground, lambda t: (0, 0.5, 0))
    nose_down.blind = {0, 1}
    up = moved_by(nose_down.run(calibrated(), 2)[0][0].matrix, POINTS) - POINTS
    np.testing.assert_allclose(up[:, 1], -0.5 * STEP_NS * 1e-9 * K[1, 1], rtol=0.15)


def test_fast_turns_are_followed_with_a_gyroscope_and_lost_without(ground):
    flight = Flight(ground, fast, drift=(25.0, -40.0))
    found, errors = flight.run(calibrated(), 30)
    _, alone = flight.run(EgoMotion(None, None), 30)
    assert {f.source for f in found} == {CameraSource.BOTH}
    assert np.median(errors) < 0.15 and errors[3:].max() < 0.5
    assert np.median(alone) > 5 * np.median(errors) and alone.max() > 2


def test_what_it_says_of_its_own_error_holds(ground):
    found, errors = Flight(ground, fast, drift=(25.0, -40.0)).run(calibrated(), 40)
    sigma = np.array([f.sigma for f in found])
    assert (errors < 3 * np.sqrt(2) * sigma).all()
    assert np.median(sigma) < 1


def test_without_a_calibration_nothing_changes(ground):
    flight = Flight(ground, fast, drift=(25.0, -40.0))
    fed, plain = Propagator(PropagatorConfig()), Propagator(PropagatorConfig())
    boxes = np.array([[100.0, 80, 40, 30]])
    for k in range(6):
        frame = Frame(flight.picture(k), k * STEP_NS, "mono8", k)
        fed.ego.feed(flight.samples(k))
        a, b = fed.step(frame, boxes), plain.step(frame, boxes)
        if k:
            expected = camera_motion(flight.picture(k - 1), flight.picture(k), 1.0, boxes)
            for step in (a, b):
                np.testing.assert_array_equal(step.camera, expected.matrix)
                assert step.camera_sigma == expected.sigma
            np.testing.assert_array_equal(a.shift, b.shift)
            np.testing.assert_array_equal(a.variance, b.variance)
    assert fed.ego.report().use == GyroUse.OFF


def test_the_propagator_reads_its_calibration_and_carries_a_far_box(ground, tmp_path):
    path = tmp_path / "camchain-imucam.yaml"
    camera = CameraCalibration(SIZE, K, np.empty(0))
    path.write_text(calibration_yaml(camera, GyroCalibration(AXES)))
    flight = Flight(ground, lambda t: (0, 1.0, 5.0))  # 64 px a frame
    box = np.array([[100.0, 90, 40, 30]])
    for calibration, right in ((str(path), True), ("", False)):
        made = Propagator(PropagatorConfig(calibration=calibration, fallback=False))
        for k in range(2):
            made.ego.feed(flight.samples(k))
            step = made.step(Frame(flight.picture(k), k * STEP_NS, "mono8", k), box)
        center = box[0, :2] + box[0, 2:] / 2
        truth = moved_by(flight.motion(1), center) - center
        assert (np.abs(step.shift[0] - truth).max() < 1.5) == right
    assert step.camera_source != CameraSource.BOTH


def test_where_nothing_can_be_seen_the_gyroscope_stands_in_with_the_last_drift(ground):
    flight = Flight(ground, fast, drift=(60.0, -35.0))
    flight.blind = set(range(15, 20))
    found, errors = flight.run(calibrated(), 25)
    blind = slice(14, 20)  # steps into and out of blind frames
    assert {f.source for f in found[blind]} == {CameraSource.GYRO}
    assert errors[blind].max() < 1  # the drift alone is 2.8 px
    assert np.diff([f.sigma for f in found[blind]]).min() > -1  # of turns of unequal size
    assert found[19].sigma > found[13].sigma
    assert {f.source for f in found[20:]} == {CameraSource.BOTH}
    assert errors[20:].max() < 0.5
    alone, _ = flight.run(EgoMotion(None, None), 25)
    assert {f.source for f in alone[blind]} == {CameraSource.NOBODY}


def test_a_drift_that_is_not_seen_any_more_fades_and_its_uncertainty_is_bounded(ground):
    flight = Flight(ground, lambda t: (0, 0, 0), drift=(60.0, 0.0))
    flight.blind = set(range(15, 140))
    found, _ = flight.run(calibrated(), 140)
    moved = moved_by(found[-1].matrix, POINTS) - POINTS
    assert np.abs(moved).max() < 0.1
    assert found[40].sigma < found[-1].sigma < 0.5 * 330 * STEP_NS * 1e-9 * 1.2


@pytest.mark.parametrize("wrong", [np.diag([-1.0, -1, 1]), np.diag([1.0, -1, -1])])
def test_a_gyroscope_that_turns_otherwise_is_not_used_and_said(ground, wrong):
    flight = Flight(ground, fast)
    ego = calibrated(axes=wrong @ AXES)
    flight.run(ego, 20)
    assert ego.report().use == GyroUse.DISAGREES
    assert ego.report().disagreement > 0.5
    assert "T_cam_imu" in str(ego.report()) and not ego.report().fine
    for k in range(20, 26):
        ego.feed(flight.samples(k))
        expected = camera_motion(flight.picture(k - 1), flight.picture(k), 1.0, NO_BOX)
        found = step(ego, flight, k)
        np.testing.assert_array_equal(found.matrix, expected.matrix)
        assert found.source == CameraSource.PICTURE


def test_it_is_used_again_when_it_agrees_again(ground):
    flight = Flight(ground, fast)
    ego = calibrated()

    def reversed_at_first(k):
        given = flight.samples(k)
        return ImuSamples(given.stamps_ns, given.rates * (-1 if k < 20 else 1))

    flight.run(ego, 20, reversed_at_first)
    assert ego.report().use == GyroUse.DISAGREES
    ego.reset()
    _, errors = flight.run(ego, 90, flight.samples)
    assert ego.report().use == GyroUse.USED
    assert ego.report().disagreement < 0.3
    assert errors[-20:].max() < 0.5


@pytest.mark.parametrize(("wrong", "rate"), [("focal", fast), ("axes", fast), ("time", shaken)])
def test_a_slightly_wrong_calibration_is_bounded_and_shows(ground, wrong, rate):
    flight = Flight(ground, rate, drift=(25.0, -40.0))
    tilt = rotations(np.array([[0.037, 0.074, -0.056]]))[0]
    camera = CameraCalibration(SIZE, K * [[1.1, 1, 1], [1, 1.1, 1], [1, 1, 1]], np.empty(0))
    ego = {
        "focal": EgoMotion(GyroCalibration(AXES), camera),
        "axes": calibrated(axes=tilt @ AXES),
        "time": calibrated(offset_ns=10_000_000),
    }[wrong]
    _, errors = flight.run(ego, 40)
    _, alone = flight.run(EgoMotion(None, None), 40)
    right = calibrated()
    flight.run(right, 40)
    assert errors.max() < alone.max() and np.median(errors) < 1.1 * np.median(alone)
    assert ego.report().disagreement > 2 * right.report().disagreement
    assert ego.report().use == GyroUse.USED


def test_one_picture_that_lies_does_not_move_the_drift(ground):
    flight = Flight(ground, fast, drift=(25.0, -40.0))
    ego = calibrated()
    flight.run(ego, 20)
    ego.feed(flight.samples(20))
    lie = np.float32([[1, 0, 14], [0, 1, -9]])
    shifted = cv2.warpAffine(flight.picture(20), lie, SIZE, borderMode=cv2.BORDER_REFLECT)
    found = ego.between(flight.picture(19), shifted, 1.0, NO_BOX, 19 * STEP_NS, 20 * STEP_NS, SIZE)
    truth = moved_by(flight.motion(20), POINTS)
    assert np.abs(moved_by(found.matrix, POINTS) - truth).max() < 2
    assert found.sigma > 5  # one of both is wrong
    ego.feed(flight.samples(21))
    after = step(ego, flight, 21)
    truth = moved_by(flight.motion(21), POINTS)
    assert np.abs(moved_by(after.matrix, POINTS) - truth).max() < 0.5


def test_a_bias_is_learned_on_each_axis_while_the_picture_stands_still(ground):
    bias = (0.021, -0.055, 0.034)
    flight = Flight(ground, lambda t: (0, 0, 0), bias=bias)
    ego = calibrated()
    flight.run(ego, 400)
    np.testing.assert_allclose(ego.report().bias, bias, atol=0.004)


def test_a_bias_is_not_learned_from_a_picture_that_moves(ground):
    ego = calibrated()
    Flight(ground, lambda t: (0, 0, 0), drift=(20.0, 9.0)).run(ego, 150)
    np.testing.assert_array_equal(ego.report().bias, 0)


def test_a_bias_is_bounded(ground):
    flight = Flight(ground, lambda t: (0, 0, 0), bias=(0.3, 0, 0))
    ego = calibrated()
    flight.run(ego, 500)
    assert 0.1 < ego.report().bias[0] <= MAX_BIAS_RAD_S


def test_a_calibration_of_another_size_is_not_used_until_the_camera_is_told(ground):
    flight = Flight(ground, fast)
    ego = calibrated(size=(640, 480))
    for k in range(5):
        ego.feed(flight.samples(k))
        if k:
            expected = camera_motion(flight.picture(k - 1), flight.picture(k), 1.0, NO_BOX)
            found = step(ego, flight, k)
            np.testing.assert_array_equal(found.matrix, expected.matrix)
            assert ego.report().use == GyroUse.OTHER_CAMERA
    assert "another size" in str(ego.report())
    ego.told = CameraCalibration(SIZE, K, np.empty(0))
    ego.feed(flight.samples(5))
    assert step(ego, flight, 5).source == CameraSource.BOTH
    assert ego.report().use == GyroUse.USED


@pytest.mark.parametrize(
    ("spoil", "use"),
    [
        (lambda s: ImuSamples(s.stamps_ns + 10**15, s.rates), GyroUse.OTHER_CLOCK),
        (lambda s: ImuSamples(s.stamps_ns[:0], s.rates[:0]), GyroUse.NO_SAMPLES),
        (lambda s: ImuSamples(s.stamps_ns, s.rates * np.nan), GyroUse.NO_SAMPLES),
        (lambda s: ImuSamples(s.stamps_ns, s.rates + 1e9), GyroUse.NO_SAMPLES),
    ],
)
def test_bad_samples_leave_the_picture_alone_and_the_next_good_frame_recovers(ground, spoil, use):
    flight = Flight(ground, fast, drift=(25.0, -40.0))
    ego = calibrated()
    bad = range(10, 16)
    for k in range(20):
        given = flight.samples(k)
        ego.feed(spoil(given) if k in bad else given)
        if not k:
            continue
        found = step(ego, flight, k)
        if k in bad:
            expected = camera_motion(flight.picture(k - 1), flight.picture(k), 1.0, NO_BOX)
            np.testing.assert_array_equal(found.matrix, expected.matrix)
            assert (found.sigma, found.source) == (expected.sigma, CameraSource.PICTURE)
            assert ego.report().use == use and not ego.report().fine
        elif k > bad[-1] + 1:  # the first good one still begins in the gap
            assert found.source == CameraSource.BOTH
            truth = moved_by(flight.motion(k), POINTS)
            assert np.abs(moved_by(found.matrix, POINTS) - truth).max() < 0.6


def test_disordered_samples_cost_nothing_and_are_counted(ground):
    flight = Flight(ground, fast, drift=(25.0, -40.0))
    rng = np.random.default_rng(6)

    def disordered(k):
        given = flight.samples(k)
        order = rng.permutation(len(given))
        return ImuSamples(given.stamps_ns[order], given.rates[order])

    ego = calibrated()
    found, _ = flight.run(ego, 12, disordered)
    expected, _ = flight.run(calibrated(), 12)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.matrix, b.matrix)
        assert (a.sigma, a.source) == (b.sigma, CameraSource.BOTH)
    assert ego.report().fine and ego.report().counts.late > 12 * 20


@pytest.mark.parametrize(
    ("ahead_ns", "use"), [(500_000_000, GyroUse.DISAGREES), (-500_000_000, GyroUse.NO_SAMPLES)]
)
def test_a_clock_that_jumps_by_half_a_second_is_told_of_and_bounded(ground, ahead_ns, use):
    flight = Flight(ground, fast, drift=(25.0, -40.0))
    ego = calibrated()
    uses = []

    def jumping(k):
        uses.append(ego.report().use)  # of the frame before
        given = flight.samples(k)
        return ImuSamples(given.stamps_ns + ahead_ns * (20 <= k < 60), given.rates)

    found, errors = flight.run(ego, 140, jumping)
    _, alone = flight.run(EgoMotion(None, None), 140)
    assert use in uses[21:61]
    assert errors[19:].max() <= alone[19:].max()
    assert {f.source for f in found[20:59]} == {CameraSource.PICTURE}
    assert {f.source for f in found[-20:]} == {CameraSource.BOTH}
    assert errors[-20:].max() < 0.2


def test_where_neither_says_anything_the_motion_is_unknown_until_one_does_again(ground):
    flight = Flight(ground, fast, drift=(25.0, -40.0))
    flight.blind = set(range(10, 15))
    none = ImuSamples(np.empty(0, np.int64), np.empty((0, 3)))
    found, errors = flight.run(
        calibrated(), 20, lambda k: none if k in flight.blind else flight.samples(k)
    )
    for motion in found[9:14]:
        assert (motion.sigma, motion.source) == (np.inf, CameraSource.NOBODY)
        np.testing.assert_array_equal(motion.matrix, np.eye(3))
    assert {f.source for f in found[16:]} == {CameraSource.BOTH}
    assert errors[16:].max() < 0.6


def test_frames_that_pause_are_not_bridged_by_an_old_drift(ground):
    """The samples go on; what the craft flew meanwhile nobody saw."""
    flight = Flight(ground, lambda t: (0, 0, 0), drift=(60.0, -35.0))
    ego = calibrated()
    flight.run(ego, 20)
    for k in range(20, 83):
        ego.feed(flight.samples(k))
    blank = np.full((HEIGHT, WIDTH), 90, np.uint8)
    found = ego.between(flight.picture(19), blank, 1.0, NO_BOX, 19 * STEP_NS, 82 * STEP_NS, SIZE)
    assert (found.sigma, found.source) == (np.inf, CameraSource.NOBODY)
    np.testing.assert_array_equal(found.matrix, np.eye(3))


def test_frames_of_another_size_go_by_the_picture_and_the_next_right_ones_recover(
    ground, propagator
):
    flight = Flight(ground, fast)
    box = np.array([[100.0, 80, 40, 30]])

    def picture(k):
        return cv2.resize(flight.picture(k), (240, 180)) if 5 <= k < 9 else flight.picture(k)

    for k in range(13):
        propagator.ego.feed(flight.samples(k))
        found = propagator.step(Frame(picture(k), k * STEP_NS, "mono8", k), box)
        if k in (0, 5, 9):  # the first of a size
            assert found is None
        elif 5 < k < 9:
            expected = camera_motion(picture(k - 1), picture(k), 1.0, box)
            np.testing.assert_array_equal(found.camera, expected.matrix)
            assert found.camera_sigma == expected.sigma
            assert found.camera_source == CameraSource.PICTURE
            assert propagator.ego.report().use == GyroUse.OTHER_CAMERA
        elif k > 9:
            assert found.camera_source == CameraSource.BOTH
            assert propagator.ego.report().use == GyroUse.USED


def test_a_hidden_target_is_as_uncertain_as_the_turn_that_moves_it(ground, propagator):
    flight = Flight(ground, fast)
    noise = np.random.default_rng(8).integers(0, 255, (3, HEIGHT, WIDTH), np.uint8)
    box = np.array([[100.0, 80, 40, 30]])
    for k in range(3):
        propagator.ego.feed(flight.samples(k))
        found = propagator.step(Frame(noise[k], k * STEP_NS, "mono8", k), box)
    assert found.camera_source == CameraSource.GYRO and not found.seen.any()
    assert found.variance[0, 0] == pytest.approx((0.2**2 * 40 * 30) + found.camera_sigma**2)
    center = box[0, :2] + box[0, 2:] / 2
    np.testing.assert_allclose(found.shift[0], moved_by(found.camera, center) - center)


def test_a_gyroscope_without_the_cameras_motion_is_refused():
    with pytest.raises(InputError, match="set camera to true"):
        PropagatorConfig(camera=False, calibration="camchain-imucam.yaml")


def test_a_turn_out_of_sight_is_not_guessed(ground):
    flight = Flight(ground, lambda t: (0, 0, 34.0))
    found, _ = flight.run(calibrated(), 3)
    assert {f.source for f in found} <= {CameraSource.NOBODY, CameraSource.PICTURE}


def test_a_lens_that_distorts_moves_the_picture_as_it_does(ground):
    distortion = np.array([-0.21, 0.06, 0.002, -0.001])
    ego = calibrated(distortion=distortion)
    plain = calibrated()
    flight = Flight(ground, lambda t: (0.4, 1.5, -0.9))
    flight.blind = {0, 1}
    found, _ = flight.run(ego, 2)
    naive, _ = flight.run(plain, 2)
    rays = cv2.undistortPoints(POINTS, K, distortion)[:, 0]
    turn = AXES @ flight.turn(1) @ AXES.T
    turned = np.c_[rays, np.ones(len(rays))] @ turn.T
    truth = cv2.projectPoints(turned, np.zeros(3), np.zeros(3), K, distortion)[0][:, 0]
    apart = np.abs(moved_by(found[0].matrix, POINTS) - truth).max()
    assert apart < 0.6 < np.abs(moved_by(naive[0].matrix, POINTS) - truth).max()
    assert apart < 3 * found[0].sigma
