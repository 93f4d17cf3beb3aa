"""CARLA behind the port, on its fake: what is told is done, what is read is true."""

import json
import time

import numpy as np
import pytest

from bridges import carla_frames
from bridges.carla_client import CarlaConfig
from bridges.carla_geo import geo_frame_of
from bridges.carla_orders import order_of
from bridges.carla_simulator import CarlaSimulator
from bridges.depth_visibility import DepthVisibility
from bridges.simulator import Drive, Place, Sensor, SensorKind, Velocity, Walk, pose_of
from bridges.view import project, seen_boxes
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from tests.bridges.fake_carla import FakeCarla, FakeMap
from tests.bridges.test_carla_frames import ROAD

ON_ROAD = pose_of(np.array([-30.0, -30.0, 0.75]), 0.4)
SMALL = {"width": 64, "height": 48}


@pytest.fixture
def start():
    made = []

    def go(**config):
        fake = FakeCarla(v2x=config.pop("v2x", False), cars=config.pop("cars", 3))
        simulator = CarlaSimulator(CarlaConfig(port=fake.server.port, settle_s=0.0, **config), fake)
        made.append((fake, simulator))
        return fake, simulator

    yield go
    for fake, simulator in made:
        simulator.close()
        fake.server.end()


def ticked(simulator, count):
    moments = [simulator.tick() for _ in range(count)]
    time.sleep(0.05)
    return moments


def test_a_vehicle_is_spawned_where_it_was_told_and_drives(start):
    _, simulator = start()
    car = simulator.spawn(ObjectClass.CAR, ON_ROAD, "ego")
    moment = simulator.tick()
    row = moment.actors.row(car)
    assert np.abs(moment.actors.positions[row] - ON_ROAD[:3, 3]).max() < 0.2
    assert abs(moment.actors.yaws[row] - 0.4) < 1e-6 and moment.actors.equipped[row]
    assert np.allclose(moment.actors.sizes[row], (4.8, 2.0, 1.5))
    simulator.apply(car, Drive(throttle=1.0, steer=0.5))
    after = ticked(simulator, 40)[-1]
    row = after.actors.row(car)
    change = moment.pose(car)[:3, :3].T @ (after.actors.positions[row] - ON_ROAD[:3, 3])
    assert change[0] > 2 and change[1] > 0.1  # ahead, and to the left
    assert after.rates[row, 2] > 0.05 and after.actors.velocities[row] @ change > 0
    simulator.apply(car, Place(pose_of(np.array([-50.0, 20.0, 0.72]), -1.0)))
    row = simulator.tick().actors.row(car)
    assert np.linalg.norm(simulator.moment.actors.positions[row] - (-50, 20, 0.72)) < 0.6


def test_a_pedestrian_walks(start):
    _, simulator = start()
    man = simulator.spawn(ObjectClass.PERSON, pose_of(np.array([-10.0, 10.0, 0.9])))
    first = simulator.tick().pose(man)[:3, 3]
    simulator.apply(man, Walk(np.array([0.5, 1.0, 0.0])))
    last = ticked(simulator, 20)[-1].pose(man)[:3, 3]
    assert np.allclose(last - first, (0.5, 1.0, 0), atol=0.02)


def test_everybody_obeys_what_is_theirs(start):
    _, simulator = start()
    car = simulator.spawn(ObjectClass.CAR, ON_ROAD)
    man = simulator.spawn(ObjectClass.PERSON, pose_of(np.array([-10.0, 10.0, 0.9])))
    for actor, control in ((car, Walk(np.zeros(3))), (man, Drive()), (car, Velocity(np.zeros(3)))):
        with pytest.raises(InputError, match="obeys"):
            simulator.apply(actor, control)
    with pytest.raises(InputError, match="actor 21 was not spawned here"):
        simulator.apply(21, Drive())
    with pytest.raises(InputError, match="no gimbal"):
        simulator.tick()
        simulator.listen(Sensor(SensorKind.CAMERA, "eye", car, on_gimbal=True), print)


def test_the_imu_of_a_vehicle_says_what_odometry_says(start):
    _, simulator = start()
    simulator.tick()
    seen = {}
    mount = pose_of(np.array([0.4, 0.1, 0.3]), 0.3, 0.2)
    for kind in (SensorKind.IMU, SensorKind.ODOMETRY):
        sensor = Sensor(kind, str(kind), 21, mount)
        simulator.listen(sensor, lambda r: seen.setdefault(r.frame, {}).update({r.sensor: r.value}))
    ticked(simulator, 5)
    assert len(seen) == 5
    for both in seen.values():
        imu, odometry = both["imu"], both["odometry"]
        assert np.allclose(imu.rates[-1], odometry.rates, atol=1e-6)
        force = odometry.pose[:3, :3] @ imu.accelerations[-1]
        assert abs(force[2] - 9.81) < 1e-6 and abs(np.hypot(*force[:2]) - 7**2 / 18) < 0.1
        level = odometry.pose[:3, :3]
        x, y, z, w = imu.orientation
        assert np.allclose(level[0, 0], 1 - 2 * (y * y + z * z)) and w * w + x * x <= 1


def test_an_imu_that_reads_seldom_says_all_since_it_last_did(start):
    _, simulator = start()
    simulator.tick()
    seen = {"imu": [], "few": [], "each": []}
    wishes = {"imu": {"every": 4}, "few": {"every": 4, "rate_hz": 10.0}, "each": {}}
    for name, wish in wishes.items():
        sensor = Sensor(SensorKind.IMU, name, 21, **wish)
        simulator.listen(sensor, lambda r: seen[r.sensor].append(r))
    moments = ticked(simulator, 9)
    assert [r.frame for r in seen["imu"]] == [m.frame for m in moments[::4]]
    assert [len(r.value.stamps_ns) for r in seen["imu"]] == [1, 4, 4]
    stamps = np.concatenate([r.value.stamps_ns for r in seen["imu"]])
    assert np.abs(stamps - [m.stamp_ns for m in moments]).max() <= 1
    for what in ("rates", "accelerations"):
        all_ = np.concatenate([getattr(r.value, what) for r in seen["each"]])
        got = np.concatenate([getattr(r.value, what) for r in seen["imu"]])
        assert np.array_equal(got, all_)
        last = getattr(seen["few"][-1].value, what)
        assert np.allclose(last, [all_[5:7].mean(axis=0), all_[7:9].mean(axis=0)])
    assert np.array_equal(seen["imu"][-1].value.orientation, seen["each"][-1].value.orientation)


def test_gnss_is_where_the_map_lies(start):
    fake, simulator = start()
    simulator.tick()
    uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([200.0, 300.0, 40.0])))
    seen = []
    for parent in (21, uav):
        simulator.listen(Sensor(SensorKind.GNSS, f"fix_{parent}", parent), seen.append)
    moment = ticked(simulator, 1)[-1]
    for reading, parent in zip(seen, (21, uav), strict=True):
        place = carla_frames.flipped(moment.pose(parent)[:3, 3])
        wished = FakeMap().transform_to_geolocation(fake.Location(*place))
        found = reading.value
        assert abs(found.latitude - wished.latitude) < 1e-9
        assert abs(found.longitude - wished.longitude) < 1e-9
        assert abs(found.altitude - wished.altitude) < 1e-9
    assert seen[1].value.latitude > 48 and not simulator.warnings  # north of the origin


def test_north_stays_north_where_the_library_turns_it_round():
    carla = pytest.importorskip("carla")
    road = carla.Map("one road", ROAD.format(lat=49.0, lon=8.0))
    frame, warning = geo_frame_of(carla, road)
    north = frame.to_wgs84(np.array([0.0, 1000.0, 0.0]))
    assert north[0] > 49.0 and abs(north[1] - 8.0) < 1e-9
    theirs = road.transform_to_geolocation(carla.Location(0.0, -1000.0, 0.0)).latitude
    assert bool(warning) == (theirs < 49.0)


def test_pictures_and_depth_are_taken_from_where_the_gimbal_is(start):
    _, simulator = start()
    uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([0.0, 0.0, 30.0])))
    simulator.apply(uav, Velocity(np.array([6.0, 2.0, -1.0]), 0.5))
    simulator.tick()
    seen = {}
    for kind in (SensorKind.DEPTH, SensorKind.ODOMETRY):
        sensor = Sensor(kind, str(kind), uav, on_gimbal=True, **SMALL)
        simulator.listen(sensor, lambda r: seen.setdefault(r.frame, {}).update({r.sensor: r.value}))
    ticked(simulator, 20)
    assert len(seen) == 20
    for both in seen.values():
        pose, meters = both["odometry"].pose, both["depth"].meters
        straight = pose[2, 3] / -pose[2, 0]  # along the view to the ground
        assert abs(meters[23:25, 31:33].mean() / straight - 1) < 0.01


def test_a_camera_on_a_car_stands_on_its_body(start):
    _, simulator = start()
    simulator.tick()
    seen = []
    down = Sensor(
        SensorKind.DEPTH, "down", 22, pose_of(np.array([0, 0, 2.0]), 0, np.pi / 2), **SMALL
    )
    simulator.listen(down, lambda r: seen.append(r.value.meters))
    moment = ticked(simulator, 2)[-1]
    assert abs(np.nanmin(seen[-1]) - (moment.pose(22)[2, 3] + 2.0)) < 1e-3


def test_what_stands_before_it_hides_an_actor(start):
    _, simulator = start()
    moment = simulator.tick()
    eye = pose_of(np.array([31.0, 0.0, 60.0]), 0.0, np.pi / 2)
    sensor = Sensor(SensorKind.BOXES, "eye", 99, fov_deg=60.0)
    free = np.full((480, 640), 60.0, np.float32)
    boxes = seen_boxes(moment, eye, sensor, DepthVisibility(free, eye, sensor))
    assert {21, 22, 23, 24} == {*boxes.ids.tolist()} and (boxes.visibility > 0.99).all()
    roof = free.copy()
    pixel, _ = project(moment.pose(22)[:3, 3], eye, sensor)
    column, row = pixel.astype(int)
    roof[row - 40 : row + 40, column - 40 : column + 40] = 20.0
    boxes = seen_boxes(moment, eye, sensor, DepthVisibility(roof, eye, sensor))
    assert {21, 23, 24} == {*boxes.ids.tolist()}
    roof[:, column:] = 60.0
    half = seen_boxes(moment, eye, sensor, DepthVisibility(roof, eye, sensor))
    share = half.visibility[half.ids.tolist().index(22)]
    assert 0.2 < share < 0.8


@pytest.mark.parametrize("occlusion", ("depth", "bodies"))
def test_boxes_come_every_tick_either_way(start, occlusion):
    fake, simulator = start(occlusion=occlusion)
    uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([31.0, 0.0, 60.0])))
    seen = []
    down = Sensor(SensorKind.BOXES, "b", uav, pose_of(np.zeros(3), 0, np.pi / 2), every=2, **SMALL)
    simulator.listen(down, seen.append)
    moments = ticked(simulator, 5)
    assert [r.frame for r in seen] == [m.frame for m in moments[::2]]
    assert all({*r.value.ids.tolist()} >= {21, 22, 23} for r in seen)
    assert ("sensor.camera.depth" in fake.server.foreign) == (occlusion == "depth")


def test_without_rendering_there_are_no_cameras(start):
    fake, simulator = start(rendering=False)
    assert fake.server.settings.no_rendering_mode
    assert not simulator.abilities.sensors & {SensorKind.CAMERA, SensorKind.DEPTH}
    uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([31.0, 0.0, 60.0])))
    seen = []
    down = Sensor(SensorKind.BOXES, "b", uav, pose_of(np.zeros(3), 0, np.pi / 2), **SMALL)
    simulator.listen(down, seen.append)
    ticked(simulator, 1)
    assert len(seen) == 1 and len(seen[0].value.ids)


def test_a_lidar_turns_once_a_tick(start):
    _, simulator = start()
    uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([0.0, 0.0, 5.0])))
    seen = []
    simulator.listen(Sensor(SensorKind.LIDAR, "lidar", uav, points=600), seen.append)
    ticked(simulator, 2)
    assert [r.value.xyz.shape for r in seen] == [(600, 3)] * 2
    assert np.allclose(seen[0].value.intensity, 0.5)


def test_messages_are_heard(start):
    for name, payload in (("v2x_custom", b"hello"), ("v2x", None)):
        fake, simulator = start(v2x=True)
        simulator.close()
        if name == "v2x":
            kept = [b for b in fake.server.library if "custom" not in b.id]
            fake.server.library[:] = kept
        config = CarlaConfig(port=fake.server.port, settle_s=0.0)
        simulator = CarlaSimulator(config, fake)
        simulator.tick()
        seen = []
        simulator.listen(Sensor(SensorKind.V2X, "radio", 21), seen.append)
        ticked(simulator, 2)
        assert len(seen) == 2 and seen[0].value.power_dbm == -61.5
        said = seen[0].value.payload
        if payload is None:
            assert json.loads(said)["High Frequency"]["Heading"] == 90.0
        else:
            assert said == payload
        simulator.close()


def test_traffic_is_spawned_and_taken_away(start):
    fake, simulator = start(vehicles=4, walkers=2)
    moment = simulator.tick()
    assert len(moment.actors) == 10
    kinds = fake.server.foreign
    assert kinds.count("controller.ai.walker") == 2 and kinds.count("walker.pedestrian.0001") == 2
    assert sum(k.startswith("vehicle.") for k in kinds) == 4
    assert fake.server.manager.synchronous == [True] and fake.server.manager.seed == 0
    simulator.close()
    assert not fake.server.foreign and fake.server.manager.synchronous == [True, False]


def test_a_town_with_less_room_says_so(start):
    _, simulator = start(vehicles=50)
    assert simulator.warnings == ["carla.vehicles: there was room for 6 of 50"]


USED = {
    "World": "tick wait_for_tick get_snapshot get_settings apply_settings get_actors get_map "
    "try_spawn_actor get_blueprint_library get_random_location_from_navigation",
    "Client": "set_timeout get_client_version get_server_version get_world get_available_maps "
    "load_world get_trafficmanager apply_batch_sync",
    "Actor": "id type_id attributes set_target_angular_velocity",
    "Vehicle": "bounding_box",
    "Walker": "bounding_box",
    "Sensor": "listen stop",
    "WalkerAIController": "start stop go_to_location set_max_speed",
    "TrafficManager": "set_synchronous_mode",
    "ActorSnapshot": "id get_transform get_velocity get_angular_velocity",
    "WorldSnapshot": "frame timestamp",
    "ActorBlueprint": "id has_attribute set_attribute get_attribute",
    "IMUMeasurement": "accelerometer gyroscope transform timestamp frame",
    "Image": "raw_data width height",
    "LidarMeasurement": "raw_data",
    "Map": "name get_spawn_points transform_to_geolocation",
    "WorldSettings": "synchronous_mode fixed_delta_seconds no_rendering_mode",
}
"""Of the library, by class, what the bridge cannot do without."""


def test_the_library_has_what_is_used_of_it():
    carla = pytest.importorskip("carla")
    for owner, names in USED.items():
        missing = [n for n in names.split() if not hasattr(getattr(carla, owner), n)]
        assert not missing, f"{owner} has no {missing}"


def test_the_library_takes_our_orders():
    carla = pytest.importorskip("carla")
    center = np.array([0.1, 0.0, 0.7])
    pose = pose_of(np.array([1.0, 2.0, 3.0]), 0.5)
    for control in (Drive(0.5, -0.2, reverse=True), Walk(np.array([1.0, 1, 0])), Place(pose)):
        order = order_of(carla, 25, control, center)
        assert type(order).__name__ in (
            "ApplyVehicleControl",
            "ApplyWalkerControl",
            "ApplyTransform",
        )
    assert order.actor_id == 25
    place, turn = order.transform.location, order.transform.rotation
    away = np.array([place.x, place.y, place.z])
    wished = carla_frames.flipped(pose[:3, 3] - pose[:3, :3] @ center)
    assert np.allclose(away, wished, atol=1e-6) and abs(turn.yaw + np.degrees(0.5)) < 1e-4
    command = carla.command
    assert command.DestroyActor(4) and command.SetAutopilot(command.FutureActor, True, 8000)
