"""A target on the ground, seen by a camera that moves and turns: only its own motion is learned."""

import numpy as np
import pytest

from pipeline.tracks import TrackStatus
from prediction.ground_target import GroundTarget, on_ground

MATRIX = np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]])
HEIGHT = 0.75


def looking(position, azimuth, down):
    """(4, 4), x along the view."""
    c, s, cp, sp = np.cos(azimuth), np.sin(azimuth), np.cos(down), np.sin(down)
    pose = np.eye(4)
    pose[:3, :3] = [[c * cp, -s, c * sp], [s * cp, c, s * sp], [-sp, 0, cp]]
    pose[:3, 3] = position
    return pose


def box_of(point, pose, side=4.0):
    x, y, z = pose[:3, :3].T @ (point - pose[:3, 3])
    u, v = MATRIX[0, 2] - MATRIX[0, 0] * y / x + 0.5, MATRIX[1, 2] - MATRIX[1, 1] * z / x + 0.5
    pixels = side * MATRIX[0, 0] / x
    return np.array([u - pixels / 2, v - pixels / 2, pixels, pixels])


def test_a_box_is_cast_to_where_it_stands():
    rng = np.random.default_rng(0)
    for _ in range(100):
        pose = looking([*rng.uniform(-50, 50, 2), rng.uniform(20, 60)], rng.uniform(-3, 3), 0.7)
        way = pose[:3, :3] @ [1, *rng.uniform(-0.4, 0.4, 2)]
        point = pose[:3, 3] + way * (pose[2, 3] - HEIGHT) / -way[2]
        found = on_ground(box_of(point, pose), pose, MATRIX, HEIGHT)
        assert found is not None
        assert np.allclose(found[0], point[:2], atol=1e-6)
        assert found[1] == pytest.approx(np.linalg.norm(point - pose[:3, 3]))


@pytest.mark.parametrize("pose", [looking([0, 0, 40], 0, -0.3), looking([0, 0, 0.5], 0, 0.3),
                                  looking([0, 0, 40], 0, 0.01)])  # fmt: skip
def test_the_sky_and_what_is_too_far_are_no_ground(pose):
    assert on_ground(np.array([300.0, 220, 40, 40]), pose, MATRIX, HEIGHT) is None


def test_where_it_goes_is_forecast_whatever_the_camera_does():
    rng = np.random.default_rng(1)
    target = GroundTarget()
    velocity = np.array([9.0, -4.0, 0.0])
    for k in range(150):
        seconds = k / 30
        point = np.array([30.0, 5.0, HEIGHT]) + velocity * seconds
        position = np.array([3.0 * np.sin(k / 7), 2.0 * np.cos(k / 5), 40 + np.sin(k / 9)])
        way = point - position
        pose = looking(
            position,
            np.arctan2(way[1], way[0]) + rng.normal(0, 0.1),
            np.arctan2(-way[2], np.hypot(*way[:2])) + rng.normal(0, 0.1),
        )
        stamp_ns = round(seconds * 1e9)
        box = box_of(point, pose)
        assert target.take(stamp_ns, box, TrackStatus.TRACKED, pose, MATRIX, HEIGHT)
    ahead_s = 0.4
    found, speed = target.at(stamp_ns + round(ahead_s * 1e9))
    assert np.linalg.norm(found - (point + ahead_s * velocity)) < 0.5  # it goes 3.9 m meanwhile
    assert np.linalg.norm(speed - velocity) < 2.0  # it is forgotten slowly


def test_an_answer_that_is_not_newer_is_not_taken():
    target, pose = GroundTarget(), looking([0, 0, 40], 0, 0.7)
    box = np.array([300.0, 220, 40, 40])
    assert target.take(10, box, TrackStatus.TRACKED, pose, MATRIX, HEIGHT)
    assert not target.take(10, box, TrackStatus.TRACKED, pose, MATRIX, HEIGHT)
    target.reset()
    assert target.newest_ns is None
    assert target.take(10, box, TrackStatus.TRACKED, pose, MATRIX, HEIGHT)


@pytest.mark.parametrize("sides", [(-5.0, 5.0), (5.0, -5.0), (-5.0, -5.0)])
def test_a_box_of_less_than_nothing_is_left_out_and_does_no_harm(sides):
    target, pose = GroundTarget(), looking([0, 0, 40], 0, 0.7)
    box = box_of(np.array([45.0, 2.0, HEIGHT]), pose)
    assert target.take(1, box, TrackStatus.TRACKED, pose, MATRIX, HEIGHT)
    wrong = np.array([*box[:2], *sides])
    assert not target.take(2, wrong, TrackStatus.TRACKED, pose, MATRIX, HEIGHT)
    assert target.newest_ns == 1 and np.isfinite(target.at(3)[0]).all()
