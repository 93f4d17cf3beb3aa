"""CARLA's frame and ours: by algebra, and against the classes of CARLA's own library."""

import numpy as np
import pytest

from bridges import carla_frames as frames
from pipeline.errors import InputError

FLIP = np.diag([1.0, -1.0, 1.0])
ROAD = """<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="4" name="one road"
 north="0" south="0" east="0" west="0"><geoReference><![CDATA[+proj=tmerc +lat_0={lat}
 +lon_0={lon}]]></geoReference></header><road name="r" length="100" id="1" junction="-1"><link/>
<planView><geometry s="0" x="0" y="0" hdg="0" length="100"><line/></geometry></planView>
<elevationProfile/><lateralProfile/><lanes><laneSection s="0"><center><lane id="0" type="none"
 level="false"><link/></lane></center><right><lane id="-1" type="driving" level="false"><link/>
<width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right></laneSection></lanes></road>
</OpenDRIVE>"""

OLDER = np.array(
    [
        [
            -3656.357666015625,
            3474.33740234375,
            2637.74609375,
            48.968779716787594,
            7.9499349627023115,
            2637.74609375,
        ],
        [
            -2449.309814453125,
            -45.64912796020508,
            -505.08935546875,
            49.00041007140541,
            7.966462584239518,
            -505.08935546875,
        ],
        [
            1515.9296875,
            2887.2333984375,
            -4061.404052734375,
            48.97405678766876,
            8.020757016484128,
            -4061.404052734375,
        ],
    ]
)
"""x, y, z m of CARLA, latitude, longitude, altitude."""


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def any_rotators(rng, n):
    return rng.uniform((-90, -180, -180), (90, 180, 180), (n, 3))


def carla_transforms(carla, locations, rotators):
    return [
        carla.Transform(carla.Location(*place), carla.Rotation(*angles))
        for place, angles in zip(locations.tolist(), rotators.tolist(), strict=True)
    ]


def test_left_and_right_change_places():
    assert (frames.flipped(np.array([1.0, 2.0, 3.0])) == (1, -2, 3)).all()
    to_the_right = frames.rotations(np.array([0.0, 30.0, 0.0]))
    assert np.allclose(to_the_right[:, 0], [np.cos(np.pi / 6), -0.5, 0])
    nose_up = frames.rotations(np.array([20.0, 0.0, 0.0]))
    assert nose_up[2, 0] > 0.3
    right_side_down = frames.rotations(np.array([0.0, 0.0, 10.0]))
    assert right_side_down[2, 1] > 0.1  # left side up


def test_attitudes_come_back(rng):
    turns = frames.rotations(any_rotators(rng, 10_000))
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(turns), 1)
    assert np.abs(frames.rotations(frames.rotators(turns)) - turns).max() < 1e-9


@pytest.mark.parametrize("pitch", (90.0, -90.0))
def test_straight_up_and_down_come_back_too(pitch):
    angles = np.array([[pitch, yaw, roll] for yaw in (0.0, 40.0, -170) for roll in (0.0, 25.0)])
    turns = frames.rotations(angles)
    found = frames.rotators(turns)
    assert np.abs(frames.rotations(found) - turns).max() < 1e-7 and (found[:, 2] == 0).all()


def test_poses_come_back(rng):
    locations = rng.normal(0, 100, (50, 3))
    poses = frames.poses(locations, any_rotators(rng, 50))
    back, angles = frames.transforms(poses)
    assert np.allclose(back, locations) and np.allclose(frames.poses(back, angles), poses)


def test_attitudes_are_those_of_the_library(rng):
    carla = pytest.importorskip("carla")
    angles, places = any_rotators(rng, 10_000), rng.normal(0, 50, (10_000, 3))
    theirs = carla_transforms(carla, places, angles)
    matrices = np.array([t.get_matrix() for t in theirs])
    poses = frames.poses(places, angles)
    assert np.abs(poses[:, :3, :3] - FLIP @ matrices[:, :3, :3] @ FLIP).max() < 1e-5
    assert np.abs(poses[:, :3, 3] - matrices[:, :3, 3] @ FLIP).max() < 1e-5 * 200


def test_points_go_where_the_library_takes_them(rng):
    carla = pytest.importorskip("carla")
    angles, places = any_rotators(rng, 1000), rng.normal(0, 50, (1000, 3))
    points = rng.normal(0, 10, (1000, 3))
    poses = frames.poses(places, angles)
    ours = np.einsum("nij,nj->ni", poses[:, :3, :3], frames.flipped(points)) + poses[:, :3, 3]
    for k, theirs in enumerate(carla_transforms(carla, places, angles)):
        there = theirs.transform(carla.Location(*points[k].tolist()))
        found = frames.flipped(np.array([there.x, there.y, there.z]))
        assert np.abs(found - ours[k]).max() < 1e-5 * 300


def test_body_velocities_are_exact_in_every_attitude(rng):
    carla = pytest.importorskip("carla")
    angles, velocities = any_rotators(rng, 10_000), rng.normal(0, 1, (10_000, 3))
    found = frames.body_velocities(velocities, frames.rotations(angles))
    theirs = []
    for k, made in enumerate(carla_transforms(carla, np.zeros((10_000, 3)), angles)):
        ahead, right, up = (
            np.array([a.x, a.y, a.z]) @ velocities[k]
            for a in (made.get_forward_vector(), made.get_right_vector(), made.get_up_vector())
        )
        theirs.append((ahead, -right, up))
    assert np.abs(found - np.array(theirs)).max() < 1e-5


def yaw_style(velocities, angles):
    """The rule of ros-bridge (as of 2022): S R v, where R^T S v is meant. Of a yaw alone it is the
    same, for S Rz(-yaw) S is Rz(yaw)."""
    turned = np.einsum("nij,nj->ni", frames.rotations(angles), velocities)
    return frames.flipped(turned)


def test_a_rule_that_is_right_for_yaw_alone_is_wrong_for_uavs(rng):
    angles, velocities = any_rotators(rng, 1000), rng.normal(0, 1, (1000, 3))
    exact = frames.body_velocities(velocities, frames.rotations(angles))
    assert np.abs(yaw_style(velocities, angles) - exact).max() > 0.1
    level = angles * (0, 1, 0)
    flat = frames.body_velocities(velocities, frames.rotations(level))
    assert np.abs(yaw_style(velocities, level) - flat).max() < 1e-9


def test_rates_of_turn_are_how_attitudes_change(rng):
    """An attitude in CARLA's frame that turns at w, by its own algebra, turns at our rates."""
    angles, rates, h = any_rotators(rng, 200), rng.normal(0, 1, (200, 3)), 1e-6
    turns = frames.rotations(angles)
    theirs = FLIP @ turns @ FLIP
    for turn, their, rate in zip(turns, theirs, rates, strict=True):
        x, y, z = rate
        later = (np.eye(3) + h * np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])) @ their
        change = FLIP @ later @ FLIP @ turn.T / h
        found = np.array([change[2, 1], change[0, 2], change[1, 0]])
        assert np.abs(found - frames.turn_rates(rate)).max() < 1e-6


def test_differences_of_angles_are_the_other_convention():
    rates = np.array([3.0, 5.0, 7.0])  # roll, pitch and yaw of a level body, degrees
    h = 1e-4
    change = frames.rotations(np.array([5.0, 7.0, 3.0]) * h) - np.eye(3)
    found = np.array([change[2, 1], change[0, 2], change[1, 0]]) / h
    assert np.allclose(found, frames.turn_rates(rates, frames.ROTATOR, degrees=True), atol=1e-5)


@pytest.mark.parametrize("convention", frames.CONVENTIONS)
@pytest.mark.parametrize("degrees", (False, True))
def test_rates_come_back(convention, degrees):
    rates = np.array([3.0, 5.0, 7.0])
    ours = frames.turn_rates(rates, convention, degrees)
    assert np.allclose(frames.turn_rates(ours, convention, degrees, back=True), rates)
    with pytest.raises(InputError, match="axial, rotator"):
        frames.turn_rates(rates, "left")


def test_points_of_a_lidar():
    rows = np.array([[1, 2, 3, 0.5], [4, -5, 6, 2], [np.nan, 0, 0, 0]], np.float32)
    xyz, intensity = frames.lidar_points(rows.tobytes())
    assert (xyz == [[1, -2, 3], [4, 5, 6]]).all() and (intensity == [0.5, 1]).all()
    with pytest.raises(InputError, match="17 bytes"):
        frames.lidar_points(b"x" * 17)


def test_depth_is_24_bits_of_a_kilometer():
    bgra = np.zeros((1, 4, 4), np.uint8)
    bgra[0, 1, :3], bgra[0, 2, :3], bgra[0, 3, :3] = (0, 0, 1), (128, 0, 0), 255
    meters = frames.depth_meters(bgra)[0]
    assert meters.dtype == np.float32 and meters[0] == 0 and meters[3] == np.inf
    assert np.allclose(meters[1:3], (1000 / (2**24 - 1), 128 * 65536 * 1000 / (2**24 - 1)))


def test_pictures_have_the_size_they_say():
    assert frames.picture(bytes(range(24)), 2, 3)[1, 0].tolist() == [12, 13, 14, 15]
    with pytest.raises(InputError, match="3x2"):
        frames.picture(b"x" * 23, 2, 3)


@pytest.mark.parametrize("projection", frames.PROJECTIONS)
def test_north_and_east_and_up(projection):
    frame = frames.GeoFrame(-33.0, 151.0, 12.0, projection)
    here = frame.to_wgs84(np.zeros(3))
    assert np.allclose(here, (-33, 151, 12), atol=1e-9)
    east, north = frame.to_wgs84(np.array([[500.0, 0, 0], [0, 500.0, 1]]))
    meter = 180 / np.pi / frames.EARTH_RADIUS_M
    assert abs((east[1] - 151) / (500 * meter / np.cos(np.radians(33))) - 1) < 1e-3
    assert abs((north[0] + 33) / (500 * meter) - 1) < 1e-3 and north[2] == 13
    mirrored = frames.GeoFrame(-33.0, 151.0, 12.0, projection, mirrored=True)
    assert mirrored.to_wgs84(np.array([0, -500.0, 1])).tolist() == north.tolist()


def test_places_on_earth_are_those_of_the_library(rng):
    carla = pytest.importorskip("carla")
    for latitude, longitude in ((49.0, 8.0), (-33.5, 151.25)):
        road = carla.Map("one road", ROAD.format(lat=latitude, lon=longitude))
        origin = road.transform_to_geolocation(carla.Location(0, 0, 0))
        frame = frames.GeoFrame(origin.latitude, origin.longitude, origin.altitude)
        places = rng.uniform(-5000, 5000, (500, 3)).astype(np.float32).astype(np.float64)
        theirs = [road.transform_to_geolocation(carla.Location(*p)) for p in places.tolist()]
        theirs = np.array([(g.latitude, g.longitude, g.altitude) for g in theirs])
        best = min(
            np.abs(
                frames.GeoFrame(
                    frame.latitude, frame.longitude, frame.altitude, projection, mirrored
                ).to_wgs84(frames.flipped(places))
                - theirs
            ).max()
            for projection in frames.PROJECTIONS
            for mirrored in (False, True)
        )
        assert best < 1e-9


def test_places_on_earth_are_those_of_older_libraries():
    """What the libraries of 0.9.13, 0.9.14 and 0.9.15 said, alike, of a map at 49 N, 8 E."""
    frame = frames.GeoFrame(49.0, 8.0)
    said = OLDER
    found = frame.to_wgs84(frames.flipped(said[:, :3]))
    assert np.abs(found - said[:, 3:]).max() < 1e-12


@pytest.mark.parametrize("bad", ((91, 0), (0, 181), (float("nan"), 0)))
def test_no_place_on_earth(bad):
    with pytest.raises(InputError, match="no place on"):
        frames.GeoFrame(*bad)
    with pytest.raises(InputError, match="mercator, transverse"):
        frames.GeoFrame(0, 0, projection="flat")
