"""The MuJoCo world: what pictures, depths, boxes and rays say of the same town agrees."""

import ctypes.util
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="MuJoCo is not installed (the sim extra)")

from bridges.actors import Building, Snapshot
from bridges.footprints import area, rectangle
from bridges.meshes import Mesh
from bridges.mujoco_model import build
from bridges.mujoco_rays import directions
from bridges.mujoco_scene import quaternions
from bridges.mujoco_simulator import MujocoSimulator
from bridges.mujoco_traffic import MujocoConfig
from bridges.simulator import (
    Place,
    Sensor,
    SensorKind,
    SimulatorError,
    Velocity,
    pose_of,
)
from bridges.traffic import KinematicTraffic, TrafficConfig
from bridges.view import OPTICAL
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

SMALL = MujocoConfig(seed=3, blocks=2, vehicles=16, people=8, cyclists=4, parked=24, trees=12)
WIDTH, HEIGHT = 320, 240


@pytest.fixture
def town():
    made = MujocoSimulator(SMALL)
    yield made
    made.close()


def uav(simulator, pose, role=""):
    return simulator.spawn(ObjectClass.UAV, pose, role)


def down(kind, parent, name=None, **options):
    options = {"width": WIDTH, "height": HEIGHT, "fov_deg": 80.0, **options}
    mount = pose_of(np.zeros(3), 0.0, np.pi / 2)
    return Sensor(kind, name or f"a_{kind}", parent, mount, **options)


def listened(simulator, *sensors):
    heard = {}
    for sensor in sensors:
        simulator.listen(sensor, lambda r: heard.__setitem__(r.sensor, r.value))
    return heard


def test_boxes_are_round_the_pixels_that_the_picture_shows_of_them(town):
    overlaps = []
    craft = uav(town, pose_of(np.array([90.0, 90.0, 45.0])))
    sensor = down(SensorKind.BOXES, craft)
    heard = listened(town, sensor, down(SensorKind.DEPTH, craft))
    for at in ((90.0, 90.0), (90.0, 60.0), (60.0, 90.0), (0.0, 60.0), (120.0, 90.0)):
        town.apply(craft, Place(pose_of(np.array([*at, 45.0]), 0.4)))
        town.tick()
        seen = heard["a_boxes"]
        pose = town.moment.pose(craft) @ sensor.mount
        owners = town._renderer.segments(pose, sensor, craft)
        listed = {
            actor: (box, share)
            for actor, box, share in zip(seen.ids, seen.boxes, seen.visibility, strict=True)
        }
        for actor in np.unique(owners[owners > 0]).tolist():
            rows, columns = np.nonzero(owners == actor)
            if len(rows) > 60:
                assert actor in listed
        for actor, (box, share) in listed.items():
            rows, columns = np.nonzero(owners == actor)
            inside = (columns >= box[0] - 1) & (columns <= box[0] + box[2])
            inside &= (rows >= box[1] - 1) & (rows <= box[1] + box[3])
            assert inside.all()
            if share > 0.97 and box[2:].min() > 12:
                x, y = columns.min(), rows.min()
                tight = np.array([x, y, columns.max() + 1 - x, rows.max() + 1 - y])
                both = np.minimum(box[:2] + box[2:], tight[:2] + tight[2:])
                both = np.maximum(both - np.maximum(box[:2], tight[:2]), 0).prod()
                union = box[2:].prod() + tight[2:].prod() - both
                overlaps.append(both / union)  # the box is the cuboid's; bodies taper
    assert len(overlaps) > 10 and min(overlaps) > 0.6 and np.mean(overlaps) > 0.78


def test_visibility_is_the_share_of_pixels_that_houses_and_trees_leave():
    """Against the pixels of the same bodies in the same place without houses and trees."""
    shares, counted = [], []
    worlds = [MujocoSimulator(SMALL), MujocoSimulator(SMALL, without_houses(SMALL))]
    crafts = [uav(w, pose_of(np.array([75.0, 120.0, 30.0]), -1.2)) for w in worlds]
    mount = pose_of(np.zeros(3), 0.0, 0.5)
    sensor = Sensor(SensorKind.BOXES, "b", crafts[0], mount, width=640, height=480)
    heard = listened(worlds[0], sensor)
    listened(worlds[1], sensor)
    for _ in range(12):
        pixels = []
        for world in worlds:
            for _ in range(10):
                world.tick()
            pose = world.moment.pose(crafts[0]) @ mount
            pixels.append(world._renderer.segments(pose, sensor, crafts[0]))
        seen = heard["b"]
        for actor, share, box in zip(seen.ids, seen.visibility, seen.boxes, strict=True):
            left = [(p == actor).sum() for p in pixels]
            edge = box[0] <= 0 or box[1] <= 0 or (box[:2] + box[2:] >= (640, 480)).any()
            if left[1] > 80 and not edge:
                shares.append(share)
                counted.append(left[0] / left[1])
    for world in worlds:
        world.close()
    shares, counted = np.array(shares), np.array(counted)
    assert len(shares) > 40 and (shares < 0.9).sum() >= 3
    assert np.abs(shares - counted).mean() < 0.05
    partly = (counted > 0.1) & (counted < 0.9)
    assert not partly.any() or np.abs(shares - counted)[partly].mean() < 0.2


def without_houses(config):
    traffic = KinematicTraffic(
        TrafficConfig(
            step_s=0.04, blocks=config.blocks, vehicles=config.vehicles, people=config.people,
            cyclists=config.cyclists, parked=config.parked, uavs=0,
        ),
        config.seed,
    )  # fmt: skip
    traffic.buildings = ()
    return traffic


def test_depth_puts_every_pixel_where_the_town_is(town):
    house = max(town._traffic.buildings, key=lambda b: area(b.footprint))
    middle = house.footprint.mean(axis=0)
    craft = uav(town, pose_of(np.array([*middle, house.height + 30])))
    sensor = down(SensorKind.DEPTH, craft)
    heard = listened(town, sensor)
    town.tick()
    depth = heard["a_depth"].meters
    pose = town.moment.pose(craft) @ sensor.mount
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    k = sensor.matrix
    ray = np.stack([(columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1], np.ones_like(depth)])
    points = (pose[:3, :3] @ OPTICAL.T @ (ray * depth).reshape(3, -1)).T + pose[:3, 3]
    low, high = house.footprint.min(axis=0), house.footprint.max(axis=0)
    on_roof = ((points[:, :2] > low + 0.5) & (points[:, :2] < high - 0.5)).all(axis=1)
    assert np.abs(np.median(points[on_roof, 2]) - house.height) < 0.02
    assert np.quantile(np.abs(points[on_roof, 2] - house.height), 0.9) < 1.5
    assert points[:, 2].min() > -0.1
    outside = ((points[:, :2] < low - 8) | (points[:, :2] > high + 8)).any(axis=1)
    assert (points[outside, 2] < 0.1).mean() > 0.3


def test_two_cameras_see_each_its_own_and_share_one_drawing_where_they_may(town):
    craft = uav(town, pose_of(np.array([90.0, 90.0, 40.0])))
    other = uav(town, pose_of(np.array([60.0, 90.0, 55.0])))
    heard = listened(
        town, down(SensorKind.CAMERA, craft, "one"), down(SensorKind.CAMERA, craft, "same"),
        down(SensorKind.CAMERA, other, "two", width=480, height=360),
    )  # fmt: skip
    town.tick()
    assert heard["one"].image is heard["same"].image
    assert heard["two"].image.shape == (360, 480, 3)
    alone = town._renderer.draw(
        town.moment.pose(craft) @ pose_of(np.zeros(3), 0.0, np.pi / 2),
        down(SensorKind.CAMERA, craft), True, False, craft,
    )  # fmt: skip
    assert (alone.rgb == heard["one"].image).all()
    assert len(np.unique(heard["two"].image.reshape(-1, 3), axis=0)) > 300


def test_the_same_seed_is_the_same_picture_and_another_one_another_town():
    pictures = []
    for seed in (3, 3, 4):
        world = MujocoSimulator(MujocoConfig(seed=seed, blocks=2, vehicles=16, parked=20))
        craft = uav(world, pose_of(np.array([70.0, 70.0, 70.0])))
        heard = listened(world, down(SensorKind.CAMERA, craft))
        for _ in range(3):
            world.tick()
        pictures.append(heard["a_camera"].image.astype(int))
        world.close()
    assert (pictures[0] == pictures[1]).all()
    assert np.abs(pictures[0] - pictures[2]).mean() > 5


def test_lidars_have_only_so_many_points_together(town):
    craft = uav(town, pose_of(np.array([90.0, 90.0, 60.0])))
    with pytest.raises(InputError, match=r"big: 1048576 points .*200000.* give fewer"):
        town.listen(Sensor(SensorKind.LIDAR, "big", craft, points=1 << 20), print)
    heard = listened(town, Sensor(SensorKind.LIDAR, "first", craft, points=1600))
    with pytest.raises(InputError, match=r"second: 199000 points .* with 1600 of other"):
        town.listen(Sensor(SensorKind.LIDAR, "second", craft, points=199_000), print)
    town.tick()
    assert len(heard["first"].xyz)


def test_lidar_points_are_where_depth_says_and_never_on_its_carrier(town):
    craft = uav(town, pose_of(np.array([90.0, 90.0, 25.0]), 0.3))
    lidar = Sensor(SensorKind.LIDAR, "l", craft, channels=16, points=16 * 180, range_m=80.0)
    heard = listened(town, lidar)
    town.tick()
    points = heard["l"]
    far = np.linalg.norm(points.xyz, axis=1)
    assert len(far) > 500 and far.min() > 2.0 and far.max() <= 80.0
    assert points.intensity.min() >= 0 and points.intensity.max() <= 1
    pose = town.moment.pose(craft)
    world = points.xyz @ pose[:3, :3].T + pose[:3, 3]
    assert world[:, 2].min() > -0.05 and (world[:, 2] < 0.1).mean() > 0.05
    walls = [b.footprint for b in town._traffic.buildings]
    deep = [
        ((world[:, :2] > w.min(axis=0) + 0.1) & (world[:, :2] < w.max(axis=0) - 0.1)).all(axis=1)
        & (world[:, 2] < b.height - 0.1)
        for w, b in zip(walls, town._traffic.buildings, strict=True)
    ]
    assert not np.any(deep)
    rays = directions(4, 90)
    assert rays.shape == (360, 3) and np.allclose(np.linalg.norm(rays, axis=1), 1)


def test_a_craft_stops_at_a_wall(town):
    house = max(town._traffic.buildings, key=lambda b: b.height)
    low = house.footprint.min(axis=0)
    middle = house.footprint.mean(axis=0)
    craft = uav(town, pose_of(np.array([low[0] - 6.0, middle[1], 3.0])))
    town.tick()
    town.apply(craft, Velocity(np.array([8.0, 0.0, 0.0])))
    xs = [town.tick().pose(craft)[0, 3] for _ in range(75)]
    assert max(xs) < low[0] and xs[-1] > low[0] - 5.5


def test_a_vehicle_carries_a_camera_and_does_not_see_itself(town):
    cars = town.moment.actors.classes == ObjectClass.CAR
    car = int(town.moment.actors.ids[np.flatnonzero(cars)[0]])
    heard = listened(
        town, Sensor(SensorKind.DEPTH, "d", car, width=160, height=120),
        Sensor(SensorKind.GNSS, "g", car), Sensor(SensorKind.ODOMETRY, "o", car),
    )  # fmt: skip
    with pytest.raises(InputError, match="IMU"):
        town.listen(Sensor(SensorKind.IMU, "i", car), lambda r: None)
    with pytest.raises(InputError, match="gimbal"):
        town.listen(Sensor(SensorKind.CAMERA, "c", car, on_gimbal=True), lambda r: None)
    town.tick()
    assert heard["d"].meters.min() > 0.8 and np.isfinite(heard["o"].rates).all()
    assert 47.9 < heard["g"].latitude < 48.1


class Passing:
    """Traffic where somebody new appears at every step and stays for six."""

    buildings = (Building(rectangle(np.array([10.0, 10.0]), np.array([20.0, 20.0])), 8.0),)
    step_s = 0.05

    def __init__(self):
        self.k = 0

    def snapshot(self):
        ids = np.arange(max(1, self.k - 5), self.k + 2, dtype=np.int32)
        n = len(ids)
        kinds = np.array([4, 1, 6, 2, 5, 3], np.uint8)[ids % 6]
        sizes = np.array([(4.5, 1.8, 1.5), (0.5, 0.6, 1.7), (12, 2.5, 3.2)] * 2)[ids % 6]
        at = np.column_stack([ids * 7.0 % 60 - 30, -8.0 - ids % 4 * 4, sizes[:, 2] / 2])
        return Snapshot(
            self.k * 50_000_000, ids, kinds, at, np.zeros((n, 3)), np.zeros(n), sizes,
            np.zeros(n, bool),
        )  # fmt: skip

    def step(self):
        self.k += 1
        return self.snapshot()

    def close(self):
        self.closed = True


def test_who_comes_and_goes_is_drawn_where_he_is_and_places_are_used_again():
    traffic = Passing()
    world = MujocoSimulator(MujocoConfig(trees=0), traffic)
    craft = uav(world, pose_of(np.array([0.0, -14.0, 40.0])))
    sensor = down(SensorKind.BOXES, craft)
    heard = listened(world, sensor, down(SensorKind.CAMERA, craft))
    for _ in range(40):
        moment = world.tick()
        owners = world._renderer.segments(moment.pose(craft) @ sensor.mount, sensor, craft)
        shown = {*np.unique(owners).tolist()} - {0}
        assert shown <= {*moment.actors.ids.tolist()}
        assert {*heard["a_boxes"].ids.tolist()} <= shown and len(heard["a_boxes"].ids) > 0
    assert world._scene.version < 12 and world._scene.bodies < 30
    world.close()
    assert traffic.closed


def test_traffic_that_gives_up_ends_the_world_in_one_line():
    traffic = Passing()
    world = MujocoSimulator(MujocoConfig(trees=0), traffic)
    world.tick()
    traffic.step = lambda: (_ for _ in ()).throw(InputError("SUMO stopped (bad route)"))
    with pytest.raises(SimulatorError, match="bad route"):
        world.tick()
    world.close()


def test_sumo_s_traffic_is_asked_for_by_name():
    pytest.importorskip("libsumo", reason="SUMO is not installed (the sumo extra)")
    world = MujocoSimulator(MujocoConfig(traffic="sumo", blocks=2, vehicles=9, people=3, trees=0))
    try:
        kinds = world.tick().actors.classes
        assert len(kinds) == 12 and (kinds == ObjectClass.PERSON).sum() == 3
        assert world.step_ns == 40_000_000
    finally:
        world.close()


def test_a_lone_triangle_is_drawn_and_what_mujoco_refuses_is_one_line():
    corners = np.array([[0.0, 0.0, 5.0], [9.0, 0.0, 5.0], [0.0, 9.0, 5.0]])
    up, faces = np.tile([0.0, 0.0, 1.0], (3, 1)), np.array([[0, 1, 2]], np.int32)
    roof = Mesh(corners, up, corners[:, :2] / 8, faces)
    assert build({"roof0": roof}, []).nmesh == 2  # drawn, and met by rays
    with pytest.raises(InputError, match="MuJoCo refuses") as caught:
        build({"roof0": Mesh(corners * np.nan, up, corners[:, :2], faces)}, [])
    assert "\n" not in str(caught.value)


def test_bodies_turn_as_their_poses_do():
    rng = np.random.default_rng(0)
    q = rng.normal(size=(500, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    tilt = 1 - 2 * (q[:, 1] ** 2 + q[:, 2] ** 2)
    q = q[tilt > -0.5]
    w, x, y, z = q.T
    turns = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    found = quaternions(turns)
    assert np.allclose(np.abs((found * q).sum(axis=1)), 1)


@pytest.mark.parametrize("wished", ("auto", "egl", "osmesa"))
def test_without_a_library_to_draw_with_one_line_says_what_to_install(monkeypatch, wished):
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    world = MujocoSimulator(MujocoConfig(traffic="none", blocks=2, trees=0, gl=wished))
    craft = uav(world, pose_of(np.array([0.0, 0.0, 30.0])))
    with pytest.raises(InputError, match="sudo apt install") as caught:
        world.listen(down(SensorKind.CAMERA, craft), lambda r: None)
    assert "\n" not in str(caught.value) and not isinstance(caught.value, SimulatorError)
    heard = listened(world, Sensor(SensorKind.LIDAR, "l", craft))
    world.tick()
    assert len(heard["l"].xyz)
    world.close()


def test_without_mujoco_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(InputError, match=r"pip install 'leadsight\[sim\]'"):
        MujocoSimulator(SMALL)


def test_a_process_that_forgets_to_close_ends_in_silence():
    program = (
        "import numpy as np\n"
        "from bridges.mujoco_simulator import *\n"
        "from bridges.simulator import *\n"
        "s = MujocoSimulator(MujocoConfig(traffic='none', blocks=2, trees=0))\n"
        "u = s.spawn(ObjectClass.UAV, pose_of(np.array([0, 0, 30.0])))\n"
        "s.listen(Sensor(SensorKind.CAMERA, 'c', u, width=64, height=48), lambda r: print(1))\n"
        "s.tick()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_mujoco_gl_that_mujoco_does_not_know_is_one_line():
    program = (
        "from bridges.mujoco_gl import load_mujoco\n"
        "from pipeline.errors import InputError\n"
        "try:\n    load_mujoco()\n"
        "except InputError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True,
        env={**os.environ, "MUJOCO_GL": "moon"},
    )  # fmt: skip
    assert "moon" in done.stdout and "unset MUJOCO_GL" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
