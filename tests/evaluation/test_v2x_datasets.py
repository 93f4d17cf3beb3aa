"""Loaders of OPV2V, DAIR-V2X and V2Xverse, on small files made here in their layouts."""

import json
import math

import numpy as np
import pytest
import yaml

from evaluation.v2x_datasets import UNKNOWN_SPEED_SIGMA, dair_v2x, opv2v, v2xverse
from pipeline.errors import InputError
from pipeline.objects import ObjectClass


class Plain(yaml.SafeDumper):
    """Writes out what stands in two places twice, as the data set does."""

    def ignore_aliases(self, data):
        return True


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.dump(document, Dumper=Plain) if path.suffix == ".yaml" else json.dumps(document)
    path.write_text(text)


VEHICLE = {
    "angle": [0.0, 90.0, 0.0],
    "center": [0.1, 0.0, 0.75],
    "extent": [2.3, 0.9, 0.75],
    "location": [20.0, 8.0, 0.05],
    "speed": 36.0,
}


@pytest.fixture
def scenario(tmp_path):
    for agent, frames in (("650", (68, 70, 72)), ("-1", (68, 70))):
        for frame in frames:
            write(
                tmp_path / f"scene/{agent}/{frame:06}.yaml",
                {
                    "true_ego_pos": [10.0, -4.0, 1.9, 0.0, -30.0, 0.0],
                    "lidar_pose": [10.0, -4.0, 3.8, 0.0, -30.0, 0.0],
                    "ego_speed": 18.0,
                    "vehicles": {659: VEHICLE} | ({7: VEHICLE} if agent == "-1" else {}),
                },
            )
    write(tmp_path / "scene/data_protocol.yaml", {"world": {}})
    return tmp_path / "scene"


def test_opv2v_is_turned_from_carlas_left_handed_world(scenario):
    frames = list(opv2v(scenario))
    assert [f.stamp_ns for f in frames] == [3_400_000_000, 3_500_000_000]
    infrastructure, car = frames[0].views
    assert (infrastructure.name, infrastructure.station) == ("-1", 1)
    assert (car.name, car.station) == ("650", 2)
    assert np.allclose(car.pose.position, (10, 4, 1.9)) and math.isclose(car.pose.yaw, math.pi / 6)
    assert np.allclose(car.pose.velocity, 5 * np.array([math.cos(0.5236), math.sin(0.5236), 0]),
                       atol=1e-4)  # fmt: skip
    seen = car.objects
    assert seen.ids.tolist() == [659] and seen.stations.tolist() == [2]
    assert np.allclose(seen.positions, [[20.1, -8.0, 0.8]])
    assert np.allclose(seen.sizes, [[4.6, 1.8, 1.5]])
    assert np.allclose(seen.yaws, -math.pi / 2)
    assert np.allclose(seen.velocities, [[0, -10, 0]])
    assert frames[0].truth.ids.tolist() == [7, 659]


def box(position, yaw, size):
    """Corners in the order of DAIR-V2X."""
    length, width, height = size
    x = np.array([1, 1, -1, -1] * 2) * length / 2
    y = np.array([1, -1, -1, 1] * 2) * width / 2
    z = np.repeat([-1, 1], 4) * height / 2
    c, s = math.cos(yaw), math.sin(yaw)
    return (np.stack([c * x - s * y, s * x + c * y, z], 1) + position).tolist()


@pytest.fixture
def dair(tmp_path):
    root = tmp_path / "cooperative-vehicle-infrastructure"
    turn = {"rotation": [[0, -1, 0], [1, 0, 0], [0, 0, 1]], "translation": [[100.0], [50], [2]]}
    write(
        root / "vehicle-side/calib/lidar_to_novatel/000001.json",
        {"transform": {"rotation": np.eye(3).tolist(), "translation": [[1.0], [0], [0.5]]}},
    )
    write(root / "vehicle-side/calib/novatel_to_world/000001.json", turn)
    write(root / "infrastructure-side/calib/virtuallidar_to_world/000009.json",
          {"rotation": np.eye(3).tolist(), "translation": [[90.0], [60], [6]],
           "relative_error": {"delta_x": "", "delta_y": ""}})  # fmt: skip
    label = {"type": "Truck", "3d_dimensions": {"h": "3.0", "w": "2.5", "l": "8.0"},
             "3d_location": {"x": "10", "y": "-2", "z": "-1"}, "rotation": "0.3"}  # fmt: skip
    write(root / "vehicle-side/label/lidar/000001.json", [label])
    write(
        root / "infrastructure-side/label/virtuallidar/000009.json",
        [label | {"type": "Pedestrian", "rotation": 0.0}, label | {"type": "Trolley"}],
    )
    write(
        root / "cooperative/label_world/000001.json",
        [label | {"world_8_points": box((101.0, 62, 1), 1.9, (8.0, 2.5, 3.0))}],
    )
    for side, frame, stamp, calibration in (
        ("vehicle", "000001", "1626165671000291", {
            "calib_lidar_to_novatel_path": "calib/lidar_to_novatel/000001.json",
            "calib_novatel_to_world_path": "calib/novatel_to_world/000001.json",
            "label_lidar_std_path": "label/lidar/000001.json"}),
        ("infrastructure", "000009", "1626165670980000", {
            "calib_virtuallidar_to_world_path": "calib/virtuallidar_to_world/000009.json",
            "label_lidar_path": "label/virtuallidar/000009.json"}),
    ):  # fmt: skip
        write(root / f"{side}-side/data_info.json", [
            {"pointcloud_path": f"velodyne/{frame}.pcd", "pointcloud_timestamp": stamp}
            | calibration])  # fmt: skip
    write(root / "cooperative/data_info.json", [{
        "vehicle_pointcloud_path": "vehicle-side/velodyne/000001.pcd",
        "infrastructure_pointcloud_path": "infrastructure-side/velodyne/000009.pcd",
        "cooperative_label_path": "cooperative/label_world/000001.json",
        "system_error_offset": {"delta_x": 0.4, "delta_y": -0.6}}])  # fmt: skip
    return root


def test_dair_goes_from_each_lidar_to_the_world_at_its_own_time(dair):
    (frame,) = dair_v2x(dair)
    vehicle, roadside = frame.views
    assert vehicle.pose.stamp_ns == frame.stamp_ns == 1626165671000291000
    assert roadside.pose.stamp_ns == 1626165670980000000 == roadside.objects.stamp_ns
    # lidar (1, 0, 0.5) in the body, the body turned by 90° at (100, 50, 2)
    assert np.allclose(vehicle.pose.position, (100, 51, 2.5))
    assert math.isclose(vehicle.pose.yaw, math.pi / 2)
    assert np.allclose(vehicle.objects.positions, [[102, 61, 1.5]])
    assert np.allclose(vehicle.objects.yaws, math.pi / 2 + 0.3)
    assert np.allclose(vehicle.objects.sizes, [[8, 2.5, 3]])
    assert vehicle.objects.classes.tolist() == [ObjectClass.TRUCK]
    assert np.allclose(roadside.pose.position, (90.4, 59.4, 6))
    assert roadside.objects.classes.tolist() == [ObjectClass.PERSON, ObjectClass.UNKNOWN]
    assert np.allclose(roadside.objects.positions[0], (100.4, 57.4, 5))
    assert np.allclose(frame.truth.positions, [[101, 62, 1]])
    assert np.allclose(frame.truth.yaws, 1.9)
    assert (frame.truth.covariances[:, 3, 3] == UNKNOWN_SPEED_SIGMA**2).all()
    assert (frame.truth.velocities == 0).all()


@pytest.fixture
def route(tmp_path):
    root = tmp_path / "route"
    car = {"tpe": 0, "loc": [3.0, 4.0, 0.1], "ori": [0.0, 1.0, 0.0], "box": [2.4, 1.0, 0.8],
           "vel": [0.0, 6.0, 0.0], "lidar_visible": 1}  # fmt: skip
    actors = {
        "201": car,
        "202": car | {"tpe": 1, "lidar_visible": 0, "loc": [9.0, 9.0, 0.0]},
        "203": {"tpe": 2, "loc": [0, 0, 0], "ori": [1, 0, 0], "sta": 0},
        "204": car | {"loc": [30.0, -12.0, 0.0]},
    }
    for agent, frames, x in (("ego_vehicle_0", (0, 1), 30.0), ("rsu_1000", (1,), 50.0)):
        for frame in frames:
            write(
                root / f"{agent}/measurements/{frame:04}.json",
                {"x": x, "y": -12.0, "theta": math.pi / 2 + 0.2, "speed": 5.0},
            )
            write(root / f"{agent}/actors_data/{frame:04}.json", actors)
    (root / "logs").mkdir()
    return root


def test_v2xverse_gives_what_each_agent_sees_and_everybody_beside(route):
    first, second = v2xverse(route)
    assert (first.stamp_ns, second.stamp_ns) == (0, 200_000_000)
    assert [v.name for v in first.views] == ["ego_vehicle_0"]
    assert [(v.name, v.station) for v in second.views] == [("ego_vehicle_0", 1), ("rsu_1000", 2)]
    ego, roadside = second.views
    assert np.allclose(ego.pose.position, (30, 12, 0)) and math.isclose(ego.pose.yaw, -0.2)
    assert np.allclose(ego.pose.velocity, (5 * math.cos(0.2), -5 * math.sin(0.2), 0))
    assert ego.objects.ids.tolist() == [201]  # not itself, not the hidden person, no light
    assert roadside.objects.ids.tolist() == [201, 204]
    assert np.allclose(ego.objects.positions, [[3, -4, 0.8]])
    assert np.allclose(ego.objects.velocities, [[0, -6, 0]])
    assert np.allclose(ego.objects.yaws, -math.pi / 2)
    assert np.allclose(ego.objects.sizes, [[4.8, 2.0, 1.6]])
    assert first.truth.ids.tolist() == [201, 202, 204]
    assert first.truth.classes.tolist() == [ObjectClass.CAR, ObjectClass.PERSON, ObjectClass.CAR]


@pytest.mark.parametrize("bad", (
    {"vehicles": []}, {"vehicles": {"x": VEHICLE}}, {"vehicles": {3: 5}},
    {"vehicles": {3: VEHICLE | {"extent": [1.0, 2.0]}}},
    {"vehicles": {3: VEHICLE | {"location": ["nan", 0.0, 0.0]}}},
    {"vehicles": {3: VEHICLE | {"speed": 10**400}}},
    {"vehicles": {3: VEHICLE | {"speed": 1e9}}},
    {"vehicles": {10**12: VEHICLE}}, {"true_ego_pos": None}, {"true_ego_pos": [1e300] * 6},
))  # fmt: skip
def test_opv2v_files_that_are_none_are_input_errors(scenario, bad):
    path = scenario / "650/000068.yaml"
    document = yaml.safe_load(path.read_text()) | bad
    write(path, document)
    if bad == {"vehicles": []}:
        assert len(next(opv2v(scenario)).views[1].objects) == 0
        return
    with pytest.raises(InputError):
        list(opv2v(scenario))


@pytest.mark.parametrize("text", ("", "[", "5", "\x00", "[" * 100_000, '{"a": NaN}', "[[[]]]"))
def test_json_that_is_none_is_an_input_error(dair, route, text):
    (dair / "cooperative/label_world/000001.json").write_text(text)
    with pytest.raises(InputError):
        list(dair_v2x(dair))
    (route / "rsu_1000/actors_data/0001.json").write_text(text)
    with pytest.raises(InputError):
        list(v2xverse(route))


def test_paths_that_lead_out_of_the_data_are_refused(dair):
    index = dair / "cooperative/data_info.json"
    pair = json.loads(index.read_text())[0]
    for name in ("../../../etc/passwd", "/etc/passwd", "a\0b", 5):
        write(index, [pair | {"cooperative_label_path": name}])
        with pytest.raises(InputError, match=r"outside of it|no text"):
            list(dair_v2x(dair))


def test_a_calibration_that_is_no_rotation_is_refused(dair):
    path = dair / "vehicle-side/calib/novatel_to_world/000001.json"
    write(path, {"rotation": [[1, 0, 0], [0, 2, 0], [0, 0, 1]], "translation": [0, 0, 0]})
    with pytest.raises(InputError, match="no rotation"):
        list(dair_v2x(dair))


def test_missing_folders_and_frames_are_named(tmp_path, scenario):
    for load in (opv2v, v2xverse):
        with pytest.raises(InputError, match="is no folder"):
            list(load(tmp_path / "nothing"))
        with pytest.raises(InputError, match="holds no agent"):
            list(load(tmp_path))
    with pytest.raises(InputError, match="cannot be read"):
        list(dair_v2x(tmp_path))
    for frame in (68, 70):
        (scenario / f"-1/{frame:06}.yaml").unlink()
    with pytest.raises(InputError, match="no frame in common"):
        list(opv2v(scenario))
