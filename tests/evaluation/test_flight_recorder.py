"""A simulated flight, written and read back: what the bag says is what the simulator said."""

import numpy as np
import pytest

from bridges.embedded import EmbeddedSimulator
from bridges.follow import FollowConfig, behind, follow, true_sight
from bridges.loop import LoopConfig, SimulationLoop
from bridges.simulator import Sensor, SensorKind
from bridges.traffic import TrafficConfig
from bridges.traffic_simulator import town_simulator
from bridges.world import WorldConfig
from evaluation.bags import IMU, Bag, open_bag_sequence, stamp_of
from evaluation.flight_recorder import (
    CAMERA_INFO,
    ODOMETRY,
    FlightRecorder,
    FlightWriter,
    flight_calibration,
    flight_sensors,
)
from evaluation.follow_target import choose_target
from pipeline.errors import InputError
from pipeline.imu import read_calibration
from pipeline.objects import ObjectClass


def fly(simulator, path, ticks=24, skip=20):
    """A flight of a few ticks into a bag: what each step said, and the target."""
    target, config = choose_target(simulator, 1), FollowConfig(orbit_mps=5.0)
    uav = simulator.spawn(ObjectClass.UAV, behind(simulator.moment, target, config))
    camera = Sensor(
        SensorKind.CAMERA, "camera", uav, on_gimbal=True, width=160, height=120, fov_deg=40.0
    )
    sensors = flight_sensors(simulator.abilities, camera)
    steps = []
    with (
        FlightWriter(path) as writer,
        SimulationLoop(simulator, sensors, LoopConfig(real_time_factor=0.0)) as loop,
    ):
        recorder = FlightRecorder(writer, camera, target)
        for k in range(skip + ticks):
            step = loop.step()
            body = step.readings["odometry"].value
            for control in follow(true_sight(step.moment, uav, target), body, config):
                loop.apply(uav, control)
            if k >= skip:
                recorder.write(step)
                steps.append(step)
    return steps, target, camera, recorder


@pytest.fixture(scope="module")
def flown(tmp_path_factory):
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    config = WorldConfig(seed=3, vehicles=6, people=2, occlusions=False)
    return path, *fly(EmbeddedSimulator(config), path)


def messages(path, topic):
    return [m for _, _, m in Bag(path).messages(topic)]


def test_pictures_and_the_target_s_truth_are_read_back_as_a_sequence(flown):
    path, steps, target, _, recorder = flown
    sequence = open_bag_sequence(path, imu="")
    assert len(sequence) == len(steps) == recorder.pictures == recorder.seen
    for k, step in enumerate(steps):
        seen = step.readings["boxes"].value
        box = seen.boxes[np.flatnonzero(seen.ids == target)[0]]
        assert np.allclose(sequence.truth[k], box)
        assert sequence.stamps_ns[k] == step.readings["camera"].value.stamp_ns
    first = steps[0].readings["camera"].value
    assert (sequence.frames.read(0).image == first.image).all()
    assert np.allclose(sequence.imu.rates[:7], steps[0].readings["imu"].value.rates[:7])


def test_a_target_that_is_named_is_the_one_that_is_read(flown):
    path, steps, target, *_ = flown
    ids = set(steps[0].readings["boxes"].value.ids.tolist()) - {target}
    for other in sorted(ids)[:1]:
        assert np.isfinite(open_bag_sequence(path, target=other).truth[0]).all()
    truth = messages(path, "truth")[0]
    assert int(truth.ids[0]) == target


def test_odometry_of_craft_and_gimbal_are_what_the_simulator_said(flown):
    path, steps, *_ = flown
    for topic, child in (("odometry", "uav"), ("gimbal", "gimbal")):
        found = messages(path, topic)
        assert len(found) == len(steps)
        for message, step in zip(found, steps, strict=True):
            said = step.readings[topic].value
            at, q = message.pose.pose.position, message.pose.pose.orientation
            assert np.allclose((at.x, at.y, at.z), said.pose[:3, 3])
            x, y, z, w = q.x, q.y, q.z, q.w
            ahead = (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w))
            assert np.allclose(ahead, said.pose[:3, 0], atol=1e-9)
            v = message.twist.twist.linear
            assert np.allclose((v.x, v.y, v.z), said.velocity)
            assert message.child_frame_id == child and message.header.frame_id == "map"
            assert stamp_of(message.header) == step.moment.stamp_ns


def test_the_imu_has_accelerations_and_gravity_in_them(flown):
    path, steps, *_ = flown
    found = messages(path, "imu")
    said = np.concatenate([s.readings["imu"].value.accelerations for s in steps])
    a = [m.linear_acceleration for m in found]
    assert np.allclose([(v.x, v.y, v.z) for v in a], said)
    assert abs(np.linalg.norm(said, axis=1).mean() - 9.81) < 2
    known = [m.orientation_covariance[0] >= 0 for m in found]
    assert sum(known) == len(steps) and known[-1]


def test_camera_info_and_the_calibration_beside_the_bag_are_the_camera_s(flown, tmp_path):
    path, steps, _, camera, _ = flown
    info = messages(path, "camera_info")[0]
    assert np.allclose(info.k.reshape(3, 3), camera.matrix) and (info.width, info.height) == (
        160,
        120,
    )
    (tmp_path / "c.yaml").write_text(flight_calibration(camera))
    told, gyro = read_calibration(tmp_path / "c.yaml")
    assert np.allclose(told.matrix, camera.matrix)
    # The IMU's x, along the view, is the camera's z.
    assert np.allclose(gyro.camera_from_imu @ (1, 0, 0), (0, 0, 1))
    assert len(messages(path, "camera_info")) == len(steps)


def test_objects_are_all_who_are_there(flown):
    path, steps, *_ = flown
    found = messages(path, "truth_objects")
    for message, step in zip(found, steps, strict=True):
        actors = step.moment.actors
        assert (message.ids == actors.ids).all() and (message.classes == actors.classes).all()
        assert np.allclose(message.positions.reshape(-1, 3), actors.positions)
        assert len(message.covariances) == 36 * len(actors)


def test_topics_have_the_types_that_ros_has_for_them(flown):
    topics = Bag(flown[0]).topics()
    assert topics["odometry"] == topics["gimbal"] == ODOMETRY and topics["imu"] == IMU
    assert topics["camera_info"] == CAMERA_INFO and len(topics) == 7


def test_a_world_without_pictures_leaves_them_out(tmp_path):
    simulator = town_simulator(TrafficConfig(blocks=2, vehicles=6, people=0, parked=0), 1)
    path = tmp_path / "town.mcap"
    fly(simulator, path, ticks=5)
    topics = Bag(path).topics()
    assert "image_raw" not in topics and {"truth", "odometry", "truth_objects"} <= topics.keys()
    with pytest.raises(InputError, match="camera"):
        open_bag_sequence(path)
