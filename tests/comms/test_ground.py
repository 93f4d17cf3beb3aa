"""Boxes to objects: cuboids projected by hand, and the embedded world end to end."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bridges import scene as town
from bridges.world import AerialWorld, WorldConfig
from comms.ground import OPTICAL, GroundConfig, GroundTracker, locate, rotation_of
from comms.statures import classes_of
from pipeline.errors import InputError
from pipeline.imu import CameraCalibration
from pipeline.objects import ObjectClass
from pipeline.pose import Pose
from pipeline.tracks import Tracks, TrackSource, TrackStatus

MATRIX = np.array([[900.0, 0, 630.0], [0, 910.0, 350.0], [0, 0, 1]])
CAMERA = CameraCalibration((1280, 720), MATRIX, np.empty(0))
CAR, PERSON = 2, 0
SIZES = {CAR: (4.5, 1.85, 1.6), PERSON: (0.5, 0.5, 1.7)}
SIGNS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)])
STAMP = 5_000_000_000


def tracks(boxes, labels=None, stamp_ns=STAMP, **changed):
    n = len(boxes)
    made = Tracks(
        stamp_ns, stamp_ns + 7, 3, CAMERA.size, np.arange(n, dtype=np.int32) + 40,
        np.array(boxes, float).reshape(n, 4), np.full(n, 0.9, np.float32), np.zeros(n, np.uint8),
        np.full(n, CAR, np.int16) if labels is None else np.array(labels, np.int16),
    )  # fmt: skip
    return replace(made, **changed)


def box_of(place, yaw, label, eye, axes, camera=CAMERA):
    """The box of a cuboid that stands on z = 0, as a picture would show it."""
    corners = SIGNS * SIZES[label] @ rotation_of(np.array([0, 0, yaw])).T + [*place, 0]
    seen = (corners - eye) @ axes
    assert (seen[:, 2] > 0.1).all()
    pixels = cv2.projectPoints(seen, np.zeros(3), np.zeros(3), camera.matrix, camera.distortion)[0]
    low, high = pixels[:, 0].min(0) + 0.5, pixels[:, 0].max(0) + 0.5
    return np.r_[low, high - low]


def look(places, yaws, label, pose, rotation, config, camera=CAMERA):
    axes = rotation @ rotation_of(np.radians(config.camera_rpy_deg)) @ OPTICAL
    eye = pose.position + rotation @ np.array(config.camera_xyz_m)
    boxes = [box_of(p, y, label, eye, axes, camera) for p, y in zip(places, yaws, strict=True)]
    return tracks(boxes, [label] * len(boxes))


EXACT = GroundConfig(ground_sigma_m=0.0, tilt_sigma_deg=0.0, box_share=0.005)


@pytest.mark.parametrize(
    ("height", "pitch", "roll", "off"),
    [(1.5, 0, 0, 0.9), (1.5, 4, 2, 1.0), (6, 15, 0, 0.6), (30, 45, 0, 0.5), (50, 60, 8, 0.5),
     (60, 90, 0, 0.5), (60, 85, 20, 0.5)],
)  # fmt: skip
def test_cuboids_are_placed_where_they_stand_from_a_car_to_a_camera_that_looks_straight_down(
    height, pitch, roll, off
):
    rng = np.random.default_rng(1)
    pose = Pose(STAMP, np.array([300.0, -200.0, height]), np.radians(200))
    rotation = rotation_of(np.radians([roll, pitch, 200.0]))
    forward = rotation @ OPTICAL @ [0, 0, 1.0]
    reach = height / -forward[2] if pitch > 30 else 14.0
    middle = pose.position[:2] + reach * forward[:2]
    places = middle + rng.uniform(-4, 4, (40, 2))
    for label, bound in ((CAR, off), (PERSON, 0.25)):
        given = look(places, rng.uniform(0, 6, 40), label, pose, rotation, EXACT)
        found = locate(given, CAMERA, pose, rotation, EXACT)
        errors = found.objects.positions[:, :2] - places[found.objects.ids - 40]
        assert len(errors) > 25
        assert np.abs(errors).max() < bound * 1.7
        assert np.median(np.linalg.norm(errors, axis=1)) < bound / 2
        P = found.objects.covariances[:, :2, :2] + found.lasting[:, :2, :2]
        squared = np.einsum("ni,nij,nj->n", errors, np.linalg.inv(P), errors)
        assert squared.mean() < 2.5  # no more certain than right
        heights = found.objects.sizes[:, 2]
        assert np.abs(heights - SIZES[label][2]).max() < 0.5
        np.testing.assert_allclose(found.objects.positions[:, 2], heights / 2)


def test_mounting_and_the_vehicles_own_attitude_are_both_counted():
    config = replace(EXACT, camera_xyz_m=(1.5, -0.3, 1.2), camera_rpy_deg=(0.0, 10.0, -35.0))
    pose = Pose(STAMP, np.array([10.0, 20.0, 0.4]), np.radians(70))
    rotation = rotation_of(np.radians([4.0, 3.0, 70.0]))
    ahead = np.radians(70 - 35)
    places = pose.position[:2] + 12 * np.array([[np.cos(ahead), np.sin(ahead)]])
    given = look(places, [0.3], PERSON, pose, rotation, config)
    found = locate(given, CAMERA, pose, rotation, config).objects
    np.testing.assert_allclose(found.positions[0, :2], places[0], atol=0.3)
    level = locate(given, CAMERA, pose, None, config).objects
    assert not len(level) or np.abs(level.positions[0, :2] - places[0]).max() > 0.3


def test_a_lens_that_distorts_is_undone():
    camera = CameraCalibration(CAMERA.size, MATRIX, np.array([-0.25, 0.08, 1e-3, -1e-3, 0.0]))
    pose = Pose(STAMP, np.array([0.0, 0.0, 40.0]), 0.0)
    rotation = rotation_of(np.radians([0, 50.0, 0]))
    places = np.array([[20.0, 12.0], [52.0, -20.0], [34.0, 0.0]])
    given = look(places, [0, 1, 2], PERSON, pose, rotation, EXACT, camera)
    found = locate(given, camera, pose, rotation, EXACT).objects
    np.testing.assert_allclose(found.positions[:, :2], places, atol=0.2)
    straight = locate(given, CAMERA, pose, rotation, EXACT).objects
    assert np.abs(straight.positions[:2, :2] - places[:2]).max() > 0.8


def test_errors_of_pose_tilt_and_ground_are_told_as_large_as_they_are():
    rng = np.random.default_rng(2)
    P = np.diag([0.3, 0.5, 0.8, np.radians(1.5)]) ** 2
    config = GroundConfig(ground_sigma_m=0.4, tilt_sigma_deg=0.8, box_share=0.005, max_sigma_m=9)
    places = np.array([[62.0, 18.0]])
    off, told = [], []
    true = Pose(STAMP, np.array([0.0, 0.0, 45.0]), 0.0)
    exact = rotation_of(np.radians([0, 38.0, 0]))
    given = look(places, [0.4], PERSON, true, exact, EXACT)
    for _ in range(400):
        error = rng.multivariate_normal(np.zeros(4), P)
        tilt = np.radians(rng.normal(0, 0.8, 2))
        pose = Pose(STAMP, true.position + error[:3], error[3], covariance=P)
        turned = rotation_of(np.array([0, 0, error[3]])) @ exact @ rotation_of(np.r_[0, tilt[0], 0])
        turned = turned @ rotation_of(np.r_[tilt[1] / np.cos(np.radians(38)), 0, 0])
        moved = replace(config, ground_z_m=rng.normal(0, 0.4))
        found = locate(given, CAMERA, pose, turned, moved)
        off.append(found.objects.positions[0, :2] - places[0])
        told.append(found.lasting[0, :2, :2])
    measured, claimed = np.cov(np.array(off).T), np.mean(told, axis=0)
    ratio = np.linalg.eigvals(np.linalg.solve(claimed, measured)).real
    assert (ratio > 0.55).all() and (ratio < 1.5).all()


def test_what_cannot_be_placed_is_left_out_and_counted_by_reason():
    pose = Pose(STAMP, np.array([0.0, 0.0, 1.5]), 0.0)
    good = [600.0, 340, 60, 90]
    boxes = [
        good, good, good, good, good, [600, 100, 50, 100], [600, 640, 60, 80], [0, 350, 40, 90],
        [600, 350.5, 8, 8], [600, 340, 0, 50], [600, 300, 500, 420],
    ]  # fmt: skip
    status, source = np.zeros(11, np.uint8), np.zeros(11, np.uint8)
    status[1], source[2] = TrackStatus.LOST, TrackSource.PREDICTED
    labels = np.full(11, CAR)
    labels[3], labels[4] = 9, -1  # a traffic light, and what nobody named
    given = tracks(boxes, labels, status=status, source=source)
    found = locate(given, CAMERA, pose)
    assert found.objects.ids.tolist() == [40, 44]
    assert found.objects.classes.tolist() == [ObjectClass.CAR, ObjectClass.UNKNOWN]
    assert dict(found.left_out) == {"lost": 3, "aloft": 1, "horizon": 1, "cut": 3, "unsure": 1}
    above = locate(given, CAMERA, Pose(STAMP, np.zeros(3), 0.0))
    assert not len(above.objects) and above.left_out["horizon"] > 3
    near = GroundConfig(max_range_m=5)
    assert locate(tracks([good]), CAMERA, pose, None, near).left_out == {"far": 1}
    empty = locate(tracks([]), CAMERA, pose)
    assert not len(empty.objects) and not empty.left_out


def test_a_box_cut_at_the_top_only_is_placed_by_its_foot():
    config = replace(EXACT, camera_rpy_deg=(0.0, 12.0, 0.0))
    pose = Pose(STAMP, np.array([0.0, 0.0, 1.6]), 0.0)
    rotation = np.eye(3)
    box = look([(5.0, 0.3)], [0.0], PERSON, pose, rotation, config).boxes
    whole = locate(tracks(box, [PERSON]), CAMERA, pose, rotation, config).objects
    box[0, 3], box[0, 1] = box[0, 3] + box[0, 1], 0.0
    cut = locate(tracks(box, [PERSON]), CAMERA, pose, rotation, config).objects
    np.testing.assert_allclose(cut.positions[0, :2], whole.positions[0, :2], atol=0.15)


@pytest.mark.parametrize("scale", [1e3, 1e8, 1e150, 1e307])
def test_absurd_boxes_and_variances_neither_crash_nor_pass(scale):
    rng = np.random.default_rng(3)
    boxes = rng.normal(size=(200, 4)) * scale
    good = [600.0, 340, 60, 90]
    variances = np.abs(rng.normal(size=(201, 4))) * scale
    variances[-1] = 4.0
    pose = Pose(STAMP, np.array([0.0, 0.0, 1.5]), 0.0)
    found = locate(tracks([*boxes, good], variances=variances), CAMERA, pose)
    assert found.objects.ids[-1] == 240
    assert len(found.objects) + sum(found.left_out.values()) == 201


def test_any_attitude_height_lens_and_box_is_survived():
    rng = np.random.default_rng(4)
    for k in range(300):
        heights = [rng.uniform(-5, 60), 10 ** rng.uniform(2, 7), 0.0, 0.21]
        lens = rng.normal(size=5) * 10 ** rng.uniform(-3, 1.5) if k % 3 else np.empty(0)
        camera = CameraCalibration(CAMERA.size, MATRIX, lens)
        turned = rotation_of(rng.uniform(-np.pi, np.pi, 3) * (k % 5 > 0))
        pose = Pose(STAMP, np.array([0, 0, heights[k % 4]]), 0.0)
        boxes = rng.uniform(-300, 1500, (50, 4)) * 10.0 ** -rng.integers(0, 7, (50, 1))
        boxes[:10, 1] = 349.999 + rng.normal(size=10) * 1e-6
        given = tracks(boxes, rng.integers(-1, 90, 50), status=rng.integers(0, 3, 50, np.uint8))
        found = locate(given, camera, pose, turned)
        assert len(found.objects) + sum(found.left_out.values()) == 50
        least = np.linalg.eigvalsh(found.objects.covariances[:, :3, :3] + found.lasting)
        assert (least > -1e-9).all()


def test_other_pictures_and_rotations_that_are_none_are_refused_by_name():
    pose = Pose(STAMP, np.array([0.0, 0.0, 1.5]), 0.0)
    with pytest.raises(InputError, match="640x480"):
        locate(tracks([], image_size=(640, 480)), CAMERA, pose)
    for rotation in (np.eye(3) * 2, np.full((3, 3), np.nan), np.eye(4), -np.eye(3)):
        with pytest.raises(InputError, match="rotation"):
            locate(tracks([]), CAMERA, pose, rotation)
    with pytest.raises(InputError, match="give three"):
        GroundConfig(camera_xyz_m=(1.0, 2.0))
    with pytest.raises(InputError, match=r"ground\.labels"):
        GroundConfig(labels=())


def test_labels_of_a_detectors_own_go_by_their_names():
    labels = np.array([0, 1, 2, 3, -1, 4, 300], np.int16)
    classes, grounded = classes_of(labels, ("van", "awning-tricycle", "bird", "teapot"))
    assert classes[:2].tolist() == [ObjectClass.CAR, ObjectClass.CYCLIST]
    assert (classes[2:] == ObjectClass.UNKNOWN).all()
    assert grounded.tolist() == [True, True, False, True, True, True, True]


def test_an_uncertain_track_and_a_large_variance_are_less_sure():
    pose = Pose(STAMP, np.array([0.0, 0.0, 1.5]), 0.0)
    box = [600.0, 340, 60, 90]

    def sigma(**changed):
        found = locate(tracks([box], **changed), CAMERA, pose).objects
        return found.covariances[0, 0, 0] ** 0.5

    sure = sigma(variances=np.full((1, 4), 1.0))
    assert sigma(variances=np.full((1, 4), 25.0)) > 2 * sure
    assert sigma(variances=np.full((1, 4), 1.0), status=np.ones(1, np.uint8)) > 2.5 * sure
    assert sigma() > sure


# the embedded world


def seen(world, k, rng, share):
    """Tracks, pose, rotation of frame k; boxes off by a share of their sides."""
    truth = world.truth(k)
    rows = np.flatnonzero(truth.visibility > 0.99)
    boxes = truth.boxes[rows]
    boxes = boxes + rng.normal(size=boxes.shape) * share * np.tile(boxes[:, 2:], 2)
    n = len(rows)
    given = Tracks(
        truth.stamp_ns, truth.stamp_ns, k, world.size, truth.ids[rows], boxes,
        np.full(n, 0.9, np.float32), np.zeros(n, np.uint8), truth.labels[rows],
    )  # fmt: skip
    rotation = truth.camera_pose[:3, :3] @ OPTICAL.T
    yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
    return given, Pose(truth.stamp_ns, truth.camera_pose[:3, 3], yaw), rotation


def true_states(world, k, objects):
    """Places and velocities of the actors, in the copy of the tile that was seen."""
    step = 0.01
    now, later = (world.scene.poses(k * world.period_ns * 1e-9 + dt) for dt in (0, step))
    places = now[objects.ids, :2]
    places = places + town.TILE * np.round((objects.positions[:, :2] - places) / town.TILE)
    return places, ((later - now) / step)[objects.ids, :2], now[objects.ids, 2]


@pytest.mark.parametrize(
    ("altitude", "pitch", "median", "p95"),
    [(30, 47, 0.5, 1.3), (52, 47, 0.5, 1.2), (100, 70, 0.4, 1.0)],
)
def test_actors_of_the_embedded_world_are_found_by_position_velocity_and_heading(
    altitude, pitch, median, p95
):
    world = AerialWorld(WorldConfig(seed=3, altitude_m=altitude, pitch_deg=pitch))
    config = GroundConfig(labels=town.LABELS, ground_sigma_m=0.0, tilt_sigma_deg=0.1)
    tracker, rng = GroundTracker(config), np.random.default_rng(0)
    off, squared, speeds, turned = [], [], [], []
    for k in range(0, 180, 3):
        given, pose, rotation = seen(world, k, rng, 0.03)
        found = tracker.observe(given, world.calibration[0], pose, rotation)
        assert found.stamp_ns == given.stamp_ns
        if k < 60:
            continue
        found = found.selected(found.measured_ns == given.stamp_ns)
        places, velocities, yaws = true_states(world, k, found)
        errors = found.positions[:, :2] - places
        off += np.linalg.norm(errors, axis=1).tolist()
        inverse = np.linalg.inv(found.covariances[:, :2, :2])
        squared += np.einsum("ni,nij,nj->n", errors, inverse, errors).tolist()
        speeds += np.linalg.norm(found.velocities[:, :2] - velocities, axis=1).tolist()
        fast = np.linalg.norm(velocities, axis=1) > 3
        turned += np.abs(np.angle(np.exp(1j * (found.yaws - yaws)[fast]))).tolist()
    assert np.median(off) < median and np.percentile(off, 95) < p95
    assert np.mean(squared) < 3.0
    assert np.median(speeds) < 0.8
    assert np.nanmedian(turned) < np.radians(12)


def test_an_object_that_is_hidden_for_a_moment_stays_and_one_gone_is_forgotten():
    tracker = GroundTracker()
    pose = Pose(STAMP, np.array([0.0, 0.0, 1.5]), 0.0)
    box = [600.0, 340, 60, 90]
    for k in range(4):
        found = tracker.observe(tracks([box], stamp_ns=STAMP + k * 10**8), CAMERA, pose)
    sure = found.covariances[0, 0, 0]
    gone = tracker.observe(tracks([], stamp_ns=STAMP + 5 * 10**8), CAMERA, pose)
    assert gone.ids.tolist() == [40] and gone.covariances[0, 0, 0] > sure
    assert gone.stamp_ns == STAMP + 5 * 10**8 and gone.measured_ns[0] == STAMP + 3 * 10**8
    assert not len(tracker.observe(tracks([], stamp_ns=STAMP + 20 * 10**8), CAMERA, pose))
    tracker.observe(tracks([box], stamp_ns=STAMP + 30 * 10**8), CAMERA, pose)
    tracker.reset()
    assert not len(tracker.observe(tracks([], stamp_ns=STAMP), CAMERA, pose))
