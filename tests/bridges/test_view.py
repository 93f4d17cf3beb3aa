"""Truth boxes by geometry: who is in a picture, where, and by how much."""

import numpy as np
import pytest

from bridges.actors import Snapshot
from bridges.fleet import upright
from bridges.simulator import Sensor, SensorKind, pose_of
from bridges.view import seen_boxes
from bridges.visibility import Visibility
from pipeline.objects import ObjectClass

EYE = pose_of(np.array([0.0, 0.0, 2.0]))
CAMERA = Sensor(SensorKind.BOXES, "eye", 99, fov_deg=90.0)
TRUCK = (10.0, 2.5, 3.5)


def standing(*places, size=TRUCK, yaw=0.0):
    """A moment of bodies of one size."""
    n = len(places)
    snapshot = Snapshot(
        0, np.arange(1, n + 1, dtype=np.int32), np.full(n, ObjectClass.TRUCK, np.uint8),
        np.array(places, float).reshape(n, 3), np.zeros((n, 3)), np.full(n, yaw),
        np.tile(size, (n, 1)).astype(float), np.zeros(n, bool),
    )  # fmt: skip
    return upright(0, snapshot)


def cast(moment, camera):
    """The share of the rays from the eye that meet the first body which are in the picture."""
    rays = np.random.default_rng(3).normal(size=(400_000, 3))
    pose = moment.poses[0]
    way, eye = rays @ pose[:3, :3], (EYE[:3, 3] - pose[:3, 3]) @ pose[:3, :3]
    ends = (np.stack([-moment.actors.sizes[0], moment.actors.sizes[0]]) / 2 - eye)[:, None] / way
    enter, leave = ends.min(axis=0).max(axis=1), ends.max(axis=0).min(axis=1)
    meets = rays[(enter < leave) & (enter > 0)]
    aside = np.abs(meets[:, 1:] / meets[:, :1])
    limits = np.array([camera.width, camera.height]) / 2 / camera.matrix[0, 0]
    return ((meets[:, 0] > 0) & (aside <= limits).all(axis=1)).mean()


@pytest.mark.parametrize(
    "place", [(1.5, 3.5, 1.75), (3.0, -4.0, 1.75), (4.0, 5.0, 1.75), (12.0, 9.0, 1.75)]
)
def test_a_near_body_is_seen_by_the_share_of_it_that_is_in_view(place):
    moment = standing(place)
    seen = seen_boxes(moment, EYE, CAMERA, Visibility(()))
    wished = cast(moment, CAMERA)
    assert wished > 0.12 and seen.ids.tolist() == [1]
    assert abs(seen.visibility[0] - wished) < 0.12
    x, y, w, h = seen.boxes[0]
    assert x >= 0 and y >= 0 and x + w <= CAMERA.width and y + h <= CAMERA.height


def test_who_is_beside_behind_or_round_the_eye_is_not_listed():
    moment = standing((-8.0, 0, 1.75), (-3.0, 4.0, 1.75), (0.0, 0.0, 1.75), (500.0, 0, 1.75))
    seen = seen_boxes(moment, EYE, CAMERA, Visibility(()))
    assert not len(seen.ids)


def test_an_empty_street():
    seen = seen_boxes(standing(), EYE, CAMERA, Visibility(()))
    assert seen.boxes.shape == (0, 4) and seen.visibility.shape == (0,)
