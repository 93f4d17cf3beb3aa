"""CARLA's recorder files: synthetic ones, genuine ones, and hostile ones."""

import numpy as np
import pytest

from bridges import carla_frames
from bridges.carla_log import BrokenLogError, CarlaLog
from bridges.flight import rotation_vector
from evaluation.data import find_data
from pipeline.errors import InputError
from tests.bridges import carla_logs as logs

GENUINE = {"DistanceBetweenVehicles": (847, (174, 175)), "DistanceToLaneCenter": (432, (234,))}


def genuine(name):
    path = find_data("data", "v2x", "carla_recorder", f"{name}.log")
    if path is None:
        pytest.skip(f"{name}.log is not there: set LEADSIGHT_DATA")
    return path


def read(path):
    with CarlaLog(path) as log:
        return list(log.frames())


@pytest.fixture
def file(tmp_path):
    def write(data):
        path = tmp_path / "a.log"
        path.write_bytes(data)
        return path

    return write


def test_what_was_written_is_read(file):
    path = file(logs.round_trip(1.0))
    with CarlaLog(path) as log:
        assert log.town == "Town99" and log.date == 1_700_000_000
        frames = list(log.frames())
        assert len(list(log.frames())) == len(frames)  # from the start again
    first, last = frames[0], frames[-1]
    assert [a.actor_id for a in first.added] == [2, 31, 32, 40, 50, 60] and not last.added
    assert first.added[1].attributes == {"role_name": "hero"}
    assert first.box_ids.tolist() == [31] and np.allclose(first.sizes[0], (4.9, 2.1, 1.5))
    place, yaw, velocity, rate = logs.circling(last.seconds, 32)
    row = last.ids.tolist().index(32)
    assert np.allclose(last.locations[row], place, atol=1e-4)
    assert np.allclose(last.rotators[row], (0, yaw, 0), atol=1e-4)
    row = last.moving.tolist().index(32)
    assert np.allclose(last.velocities[row], velocity, atol=1e-5)
    assert np.allclose(last.rates[row], (0, 0, rate), atol=1e-5)
    assert last.lights["state"].tolist() == [1] and last.vehicles["gear"].tolist() == [2]
    assert np.isclose(last.walkers["speed"], 1.2) and last.platform_s == last.seconds


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_recording_is_read_whole(name):
    frames = read(genuine(name))
    count, cars = GENUINE[name]
    assert len(frames) == count and frames[-1].number == count
    assert {a.actor_id for a in frames[0].added if a.type == 1} == set(cars)
    assert {i for f in frames for i in f.removed} >= set(cars)


@pytest.mark.parametrize("name", GENUINE)
def test_speeds_of_a_genuine_recording_are_how_places_change(name):
    frames = read(genuine(name))
    for car in GENUINE[name][1]:
        off = []
        for a, b, c in zip(frames, frames[1:], frames[2:], strict=False):
            if all(car in f.ids for f in (a, b, c)) and car in b.moving:
                there = [f.locations[f.ids.tolist().index(car)] for f in (a, c)]
                mean = (there[1] - there[0]) / (c.seconds - a.seconds)
                off.append(np.abs(mean - b.velocities[b.moving.tolist().index(car)]).max())
        assert np.median(off) < 0.05


def test_rates_of_turn_of_a_real_server_are_axial_and_of_the_world():
    """Which of the two conventions CARLA uses is no matter of opinion: its recordings say it."""
    frames = read(genuine("DistanceToLaneCenter"))
    car, said, seen = 234, [], []
    for a, b, c in zip(frames, frames[1:], frames[2:], strict=False):
        if all(car in f.ids for f in (a, b, c)) and car in b.moving:
            turns = [carla_frames.rotations(f.rotators[f.ids.tolist().index(car)]) for f in (a, c)]
            seen.append(rotation_vector(turns[1] @ turns[0].T) / (c.seconds - a.seconds))
            said.append(b.rates[b.moving.tolist().index(car)])
    seen, said = np.array(seen), np.array(said)
    fit = {
        convention: [
            np.corrcoef(seen[:, k], carla_frames.turn_rates(said, convention, True)[:, k])[0, 1]
            for k in range(3)
        ]
        for convention in carla_frames.CONVENTIONS
    }
    assert min(fit["axial"]) > 0.7
    assert fit["rotator"][0] < -0.7 and fit["rotator"][1] < -0.7 and fit["rotator"][2] > 0.9


def test_a_file_that_breaks_off_gives_the_frames_before(file):
    data = logs.round_trip(0.5)
    whole = len(read(file(data)))
    for cut in (1, 3, 17, 40, 200):
        with CarlaLog(file(data[:-cut])) as log:
            frames = []
            with pytest.raises(
                BrokenLogError, match=rf"byte \d+: .*the {whole - 1} frames"
            ) as told:
                for frame in log.frames():
                    frames.append(frame)
        assert len(frames) == whole - 1 and "\n" not in str(told.value)


HEAD = logs.header()
HOSTILE = {
    "size beyond the file": logs.frame(1, 0.0) + logs.packet(6, b"ab", size=1 << 31),
    "too large": logs.packet(0, bytes(24)) + logs.packet(6, bytes(1 << 24) + b"x"),
    "count lies": logs.frame(1, 0.0, logs.records(6, "<I6f", [(1,) * 7], count=60_000)),
    "no count": logs.frame(1, 0.0, logs.packet(6)),
    "frame of another size": logs.packet(0, b"123") + logs.packet(1),
    "place is no number": logs.frame(
        1, 0.0, logs.positions([(9, (float("nan"), 0, 0), (0, 0, 0))])
    ),
    "speed is no number": logs.frame(1, 0.0, logs.kinematics([(9, (np.inf, 0, 0), (0, 0, 0))])),
    "twice the same": logs.frame(1, 0.0, logs.positions([(9, (0,) * 3, (0,) * 3)] * 2)),
    "time is no number": logs.frame(1, float("nan")),
    "time stands": logs.frame(1, 0.0) + logs.frame(2, 0.0),
    "frame in a frame": logs.packet(0, bytes(24)) * 2,
    "end without begin": logs.packet(1),
    "packet outside": logs.packet(6, b"\0\0"),
    "long text": logs.frame(1, 0.0, logs.added([(1, 1, "v" * 2000, {})])),
    "many attributes": logs.frame(
        1, 0.0, logs.added([(1, 1, "v", {str(k): "" for k in range(300)})])
    ),
    "actors cut off": logs.frame(1, 0.0, logs.packet(2, b"\x05\0" + bytes(20))),
    "many packets": logs.frame(1, 0.0, *[logs.packet(77)] * 100),
    "a kind twice": logs.frame(1, 0.0, logs.positions([]), logs.positions([])),
    "too many come": logs.frame(1, 0.0, logs.packet(2, bytes((1 << 20) + 1))),
    "bytes after actors": logs.frame(1, 0.0, logs.packet(2, b"\0\0rest")),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_hostile_is_one_line_with_its_place(file, what):
    path = file(HEAD + HOSTILE[what])
    with pytest.raises(InputError, match=r"a\.log: byte \d+: ") as told:
        read(path)
    assert "\n" not in str(told.value) and len(str(told.value)) < 400


def test_noise_never_does_anything_else(file):
    rng = np.random.default_rng(1)
    data = np.frombuffer(logs.round_trip(0.3), np.uint8)
    for _ in range(300):
        changed = data.copy()
        changed[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
        try:
            frames = read(file(changed.tobytes()))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert all(np.isfinite(f.locations).all() for f in frames)


@pytest.mark.parametrize(
    "data", (b"", b"\x01\x00", b"\x01\x00\x0e\x00CARLA_RECORDEX", HEAD[:22], b"PK" * 100)
)
def test_what_is_no_recording(file, data):
    with pytest.raises(InputError, match=r"a\.log"):
        CarlaLog(file(data))


def test_another_version_and_a_missing_file(file, tmp_path):
    with pytest.raises(InputError, match="version 2"):
        CarlaLog(file(logs.header(version=2)))
    for wrong in (tmp_path, tmp_path / "missing.log"):
        with pytest.raises(InputError, match="give a file of CARLA's recorder"):
            CarlaLog(wrong)
