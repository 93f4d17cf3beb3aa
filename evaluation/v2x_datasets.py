"""Public data of several agents on one scene, frame by frame, each agent's view apart.

Three layouts are read as they lie on disk, labels and poses only (no pictures, no points):

- **OPV2V** and V2XSet: ``<scenario>/<agent>/<frame>.yaml`` with ``true_ego_pos``, ``ego_speed``
  and ``vehicles`` (Xu et al. 2022, ICRA). An agent's list holds what its LiDAR hit. A file with
  YAML aliases is refused.
- **DAIR-V2X-C**: ``cooperative/data_info.json`` pairs a frame of ``vehicle-side`` with one of
  ``infrastructure-side``, each with labels in its LiDAR's frame and calibrations to the world
  (Yu et al. 2022, CVPR). Labels have neither velocities nor identities.
- **V2Xverse**: ``<route>/{ego_vehicle,rsu}_*/{measurements,actors_data}/<frame>.json`` (Liu et al.
  2025, TPAMI), as its own loader reads them; not seen is whether every release has all fields.

CARLA's world is left-handed: y and yaw change sign here, so that x, y, z and yaw are those of
``Objects``. Labels carry no uncertainty; what the constants below say is assumed. Nothing in this
project was measured on these data: the loaders are tested on small made files.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.box import FloatArray
from pipeline.config import read_yaml
from pipeline.errors import InputError, first_line
from pipeline.objects import MAX_OBJECTS, ObjectClass, Objects
from pipeline.pose import Pose

POSITION_SIGMA_M, SPEED_SIGMA, UNKNOWN_SPEED_SIGMA = 0.1, 0.2, 10.0
"""Of a label's position, of a velocity that is given, and of one that is not."""
_MAX_JSON_BYTES = 64 << 20
_MAX_FRAMES = 100_000
_MAX_AGENTS = 256
_FLIP = np.array([1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class AgentView:
    """What one agent has of a frame. station: 1, 2, … in the order of the agents' names."""

    name: str
    station: int
    pose: Pose
    objects: Objects


@dataclass(frozen=True, slots=True, eq=False)
class SharedFrame:
    """One moment, or in DAIR-V2X two close ones: each view's stamp is its own.

    truth: everybody who is labelled, seen or not; of OPV2V everybody whom some agent sees.
    """

    stamp_ns: int
    views: tuple[AgentView, ...]
    truth: Objects


@dataclass(frozen=True, slots=True)
class _Label:
    """One labelled object in the world; velocity None: unknown."""

    number: int
    kind: ObjectClass
    position: FloatArray
    yaw: float
    size: FloatArray
    velocity: FloatArray | None


def opv2v(scenario: Path, tick_s: float = 0.05) -> Iterator[SharedFrame]:
    """The frames of one OPV2V or V2XSet scenario folder.

    tick_s: seconds to one frame number; the data were recorded at 20 ticks a second, every second
    one kept. Only frames that every agent has are given.

    Raises:
        InputError: no agents' folders, no common frame, or a file that is not of this layout.
    """
    agents = [p for p in _folders(scenario) if re.fullmatch(r"-?\d{1,9}", p.name)]
    if not agents:
        raise InputError(f"{scenario}: holds no agent's folder; give one scenario of OPV2V")
    numbers = _common(scenario, [{p.stem for p in a.glob("*.yaml")} for a in agents])
    for stem in numbers:
        stamp_ns = round(int(stem) * tick_s * 1e9)
        views, seen = [], dict[int, _Label]()
        for k, agent in enumerate(agents):
            path = agent / f"{stem}.yaml"
            document = _mapping(read_yaml(path), path)
            labels = [
                _opv2v_label(number, entry, path)
                for number, entry in _entries(document.get("vehicles") or {}, path)
            ]
            pose = _carla_pose(
                stamp_ns,
                _numbers(_get(document, "true_ego_pos", path), (6,), path),
                _number(document.get("ego_speed", 0.0), path) / 3.6,
            )
            seen |= {label.number: label for label in labels}
            views.append(AgentView(agent.name, k + 1, pose, _objects(stamp_ns, labels, k + 1)))
        yield SharedFrame(stamp_ns, tuple(views), _objects(stamp_ns, list(seen.values()), 0))


def _opv2v_label(number: int, entry: Any, path: Path) -> _Label:
    """``location`` + ``center`` is the body's middle, ``extent`` half of its size, angles are
    roll, yaw, pitch in degrees, the speed is in km/h."""
    entry = _mapping(entry, path)
    place, center, extent, angle = (
        _numbers(_get(entry, name, path), (3,), path)
        for name in ("location", "center", "extent", "angle")
    )
    yaw = -math.radians(angle[1])
    speed = _number(entry.get("speed", 0.0), path) / 3.6
    velocity = speed * np.array([math.cos(yaw), math.sin(yaw), 0.0])
    return _Label(number, ObjectClass.CAR, (place + center) * _FLIP, yaw, 2 * extent, velocity)


def _carla_pose(stamp_ns: int, pose: FloatArray, speed: float) -> Pose:
    """From x, y, z, roll, yaw, pitch of CARLA's world, in m and degrees."""
    yaw = -math.radians(pose[4])
    velocity = speed * np.array([math.cos(yaw), math.sin(yaw), 0.0])
    return Pose(stamp_ns, pose[:3] * _FLIP, yaw, velocity)


_DAIR_CLASSES = {
    "car": ObjectClass.CAR,
    "van": ObjectClass.CAR,
    "truck": ObjectClass.TRUCK,
    "bus": ObjectClass.BUS,
    "pedestrian": ObjectClass.PERSON,
    "cyclist": ObjectClass.CYCLIST,
    "tricyclist": ObjectClass.CYCLIST,
    "motorcyclist": ObjectClass.MOTORCYCLE,
    "barrowlist": ObjectClass.PERSON,
    "trafficcone": ObjectClass.OBSTACLE,
}


def dair_v2x(folder: Path) -> Iterator[SharedFrame]:
    """The frame pairs of ``cooperative-vehicle-infrastructure``, vehicle first.

    A pose is that of the agent's LiDAR, x ahead. Numbers of objects are their rows in a frame.

    Raises:
        InputError: a file is missing, leads out of the folder, or is not of this layout.
    """
    sides = ("vehicle", "infrastructure")
    infos: dict[str, dict[str, Mapping[str, Any]]] = {}
    for side in sides:
        path = folder / f"{side}-side/data_info.json"
        infos[side] = {
            f"{side}-side/{_text(_mapping(e, path), 'pointcloud_path', path)}": _mapping(e, path)
            for e in _list(_read_json(path), path)
        }
    index = folder / "cooperative/data_info.json"
    for pair in _list(_read_json(index), index):
        pair = _mapping(pair, index)
        offset = pair.get("system_error_offset") or {}
        views = []
        for k, side in enumerate(sides):
            name = _text(pair, f"{side}_pointcloud_path", index)
            info = infos[side].get(name)
            if info is None:
                raise InputError(f"{index}: names {name:.80}, which {side}-side does not list")
            views.append(_dair_view(folder, side, k + 1, info, _mapping(offset, index)))
        path = _inside(folder, _text(pair, "cooperative_label_path", index))
        labels = [
            _dair_truth(row, _mapping(entry, path), path)
            for row, entry in enumerate(_list(_read_json(path), path))
        ]
        stamp_ns = views[0].pose.stamp_ns
        yield SharedFrame(stamp_ns, tuple(views), _objects(stamp_ns, labels, 0))


def _dair_view(
    folder: Path, side: str, station: int, info: Mapping[str, Any], offset: Mapping[str, Any]
) -> AgentView:
    root = folder / f"{side}-side"
    where = root / "data_info.json"
    stamp_ns = round(_number(_get(info, "pointcloud_timestamp", where), where)) * 1000
    if side == "vehicle":
        to_body = _calibration(_inside(root, _text(info, "calib_lidar_to_novatel_path", where)))
        to_world = _calibration(_inside(root, _text(info, "calib_novatel_to_world_path", where)))
        world = to_world @ to_body
    else:
        path = _inside(root, _text(info, "calib_virtuallidar_to_world_path", where))
        world = _calibration(path)
        world[:2, 3] += [_number(offset.get(f"delta_{axis}") or 0.0, path) for axis in "xy"]
    name = "label_lidar_std_path" if "label_lidar_std_path" in info else "label_lidar_path"
    path = _inside(root, _text(info, name, where))
    labels = [
        _dair_label(row, _mapping(entry, path), world, path)
        for row, entry in enumerate(_list(_read_json(path), path))
    ]
    pose = Pose(stamp_ns, world[:3, 3].copy(), _heading(world[:3, 0]))
    return AgentView(side, station, pose, _objects(stamp_ns, labels, station))


def _dair_label(row: int, entry: Mapping[str, Any], world: FloatArray, path: Path) -> _Label:
    """A box in its LiDAR's frame → in the world."""
    place = _parts(entry, "3d_location", ("x", "y", "z"), path)
    yaw = _number(_get(entry, "rotation", path), path)
    ahead = world[:3, :3] @ np.array([math.cos(yaw), math.sin(yaw), 0.0])
    position = world[:3, :3] @ place + world[:3, 3]
    size = _parts(entry, "3d_dimensions", ("l", "w", "h"), path)
    return _Label(row + 1, _dair_class(entry), position, _heading(ahead), size, None)


def _dair_truth(row: int, entry: Mapping[str, Any], path: Path) -> _Label:
    """A box in the world by its corners: four below, four above, 0 and 1 at the front."""
    points = _numbers(_get(entry, "world_8_points", path), (8, 3), path)
    size = _parts(entry, "3d_dimensions", ("l", "w", "h"), path)
    ahead = _heading(points[0] - points[3])
    return _Label(row + 1, _dair_class(entry), points.mean(axis=0), ahead, size, None)


def _dair_class(entry: Mapping[str, Any]) -> ObjectClass:
    return _DAIR_CLASSES.get(str(entry.get("type", "")).lower(), ObjectClass.UNKNOWN)


def _calibration(path: Path) -> FloatArray:
    """(4, 4) of a rotation and a translation, bare or under ``transform``.

    Raises:
        InputError: no such file, or its rotation is none.
    """
    document = _mapping(_read_json(path), path)
    document = _mapping(document.get("transform", document), path)
    matrix = np.eye(4)
    matrix[:3, :3] = _numbers(_get(document, "rotation", path), (3, 3), path)
    matrix[:3, 3] = _numbers(_get(document, "translation", path), (3,), path)
    if np.abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() > 0.05:
        raise InputError(f"{path}: its rotation is no rotation; give the data set's own file")
    return matrix


_V2XVERSE_CLASSES = {0: ObjectClass.CAR, 1: ObjectClass.PERSON, 3: ObjectClass.CYCLIST}
"""2 is a traffic light."""


def v2xverse(route: Path, rate_hz: float = 5.0) -> Iterator[SharedFrame]:
    """The frames of one V2Xverse route folder; a frame has those agents that have files for it.

    Raises:
        InputError: no agents' folders, no frame, or a file that is not of this layout.
    """
    agents = [p for p in _folders(route) if re.fullmatch(r"(ego|rsu)\w*", p.name)]
    have = [{p.stem for p in (a / "measurements").glob("*.json")} for a in agents]
    numbers = sorted({s for h in have for s in h if re.fullmatch(r"\d{1,9}", s)}, key=int)
    if not numbers:
        raise InputError(f"{route}: holds no agent with measurements; give one route of V2Xverse")
    for stem in numbers[:_MAX_FRAMES]:
        stamp_ns = round(int(stem) / rate_hz * 1e9)
        views, everybody = [], dict[int, _Label]()
        for k, agent in enumerate(agents):
            if stem not in have[k]:
                continue
            path = agent / f"measurements/{stem}.json"
            own = _mapping(_read_json(path), path)
            x, y, theta = (_number(_get(own, name, path), path) for name in ("x", "y", "theta"))
            yaw = math.pi / 2 - theta
            speed = _number(own.get("speed", 0.0), path)
            velocity = speed * np.array([math.cos(yaw), math.sin(yaw), 0.0])
            pose = Pose(stamp_ns, np.array([x, -y, 0.0]), yaw, velocity)
            path = agent / f"actors_data/{stem}.json"
            found = [
                (label, _mapping(entry, path).get("lidar_visible", 1) == 1)
                for number, entry in _entries(_read_json(path), path)
                if (label := _v2xverse_label(number, entry, path)) is not None
            ]
            others = [
                (label, seen)
                for label, seen in found
                if np.linalg.norm(label.position[:2] - pose.position[:2]) >= 0.1
            ]
            everybody |= {label.number: label for label, _ in found}
            labels = [label for label, seen in others if seen]
            views.append(AgentView(agent.name, k + 1, pose, _objects(stamp_ns, labels, k + 1)))
        yield SharedFrame(stamp_ns, tuple(views), _objects(stamp_ns, list(everybody.values()), 0))


def _v2xverse_label(number: int, entry: Any, path: Path) -> _Label | None:
    """``box`` is half of the size, ``ori`` points ahead; None: a traffic light or no box."""
    entry = _mapping(entry, path)
    kind = _V2XVERSE_CLASSES.get(round(_number(entry.get("tpe", 2), path)))
    if kind is None or not {"loc", "ori", "box"} <= set(entry):
        return None
    place, ahead, half, velocity = (
        _numbers(entry.get(name, (0.0, 0.0, 0.0)), (3,), path)
        for name in ("loc", "ori", "box", "vel")
    )
    position = np.array([place[0], -place[1], half[2]])
    return _Label(number, kind, position, _heading(ahead * _FLIP), 2 * half, velocity * _FLIP)


def _objects(stamp_ns: int, labels: list[_Label], station: int) -> Objects:
    """Labels as objects, in rising order of their numbers."""
    labels = sorted(labels, key=lambda label: label.number)
    n = len(labels)
    if not n:
        return Objects.none(stamp_ns)
    sigmas = [UNKNOWN_SPEED_SIGMA if b.velocity is None else SPEED_SIGMA for b in labels]
    covariances = np.zeros((n, 6, 6))
    axes = np.arange(3)
    covariances[:, axes, axes] = POSITION_SIGMA_M**2
    covariances[:, axes + 3, axes + 3] = np.square(sigmas)[:, None]
    return Objects(
        stamp_ns, stamp_ns,
        np.array([b.number for b in labels], np.int32), np.full(n, station, np.uint32),
        np.array([b.position for b in labels]),
        np.array([np.zeros(3) if b.velocity is None else b.velocity for b in labels]),
        np.array([b.yaw for b in labels]), np.array([b.size for b in labels]), covariances,
        np.array([b.kind for b in labels], np.uint8), np.ones(n), np.full(n, stamp_ns, np.int64),
    )  # fmt: skip


def _heading(ahead: FloatArray) -> float:
    return math.atan2(ahead[1], ahead[0])


# Reading files from anywhere.


def _folders(folder: Path) -> list[Path]:
    """Raises InputError where there is no such folder, or too many in it."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give one of the data set's")
    found = sorted(p for p in folder.iterdir() if p.is_dir())
    if len(found) > _MAX_AGENTS:
        raise InputError(f"{folder}: over {_MAX_AGENTS} folders is no scenario; give one of them")
    return found


def _common(folder: Path, stems: list[set[str]]) -> list[str]:
    """Frame numbers that all agents have."""
    both = [s for s in set.intersection(*stems) if re.fullmatch(r"\d{1,9}", s)]
    if not both:
        raise InputError(f"{folder}: its agents have no frame in common")
    return sorted(both, key=int)[:_MAX_FRAMES]


def _inside(root: Path, name: str) -> Path:
    """A file that the data name, which must lie under ``root``."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise InputError(f"{root}: names {name:.80}, which lies outside of it")
    return path


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise InputError(f"{path}: over {_MAX_JSON_BYTES} bytes is no label file")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({first_line(error)})") from None


def _mapping(value: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: has another shape than this data set's files")
    return value


def _list(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_FRAMES:
        raise InputError(f"{path}: is no list of at most {_MAX_FRAMES} entries")
    return value


def _entries(value: Any, path: Path) -> list[tuple[int, Any]]:
    """Numbered objects of a mapping."""
    items = list(_mapping(value, path).items())
    if len(items) > MAX_OBJECTS:
        raise InputError(f"{path}: {len(items)} objects; at most {MAX_OBJECTS} are taken")
    for number, _ in items:
        if not re.fullmatch(r"\d{1,9}", str(number)):
            raise InputError(f"{path}: {str(number)[:40]!r} is no object's number")
    return [(int(number), entry) for number, entry in items]


def _get(value: Mapping[str, Any], name: str, path: Path) -> Any:
    if name not in value:
        raise InputError(f"{path}: lacks {name}")
    return value[name]


def _text(value: Mapping[str, Any], name: str, path: Path) -> str:
    found = _get(value, name, path)
    if not isinstance(found, str) or "\0" in found:
        raise InputError(f"{path}: {name} is no text")
    return found


def _parts(
    value: Mapping[str, Any], name: str, keys: tuple[str, str, str], path: Path
) -> FloatArray:
    found = _mapping(_get(value, name, path), path)
    return _numbers([_get(found, key, path) for key in keys], (3,), path)


def _number(value: Any, path: Path) -> float:
    return float(_numbers([value], (1,), path)[0])


def _numbers(value: Any, shape: tuple[int, ...], path: Path) -> FloatArray:
    """Finite numbers, also where they are written as text or in lists of one."""
    try:
        found = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        found = np.full(1, np.nan)
    if found.size != math.prod(shape) or not np.isfinite(found).all():
        raise InputError(f"{path}: where {math.prod(shape)} finite numbers belong are none")
    return found.reshape(shape)
