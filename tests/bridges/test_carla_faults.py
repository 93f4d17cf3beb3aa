"""Whatever goes wrong with CARLA ends soon, in one line, with the world as it was before."""

import gc
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bridges.carla_client import CarlaConfig, CarlaSession, is_time_out, version_of
from bridges.carla_simulator import CarlaSimulator
from bridges.loop import LoopConfig, SimulationLoop
from bridges.simulator import Drive, Sensor, SensorKind, SimulatorError, Velocity, pose_of
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from tests.bridges.fake_carla import FIRST_FRAME, FakeCarla, Faults

AT = pose_of(np.array([0.0, 0.0, 40.0]))
ON_ROAD = pose_of(np.array([-30.0, -30.0, 0.75]))
FAST = LoopConfig(timeout_s=0.15, real_time_factor=0.0)


@pytest.fixture
def start():
    """A fake and a simulator on it; afterward nothing of ours may be left in the fake."""
    made = []

    def go(faults=None, config=None, **options):
        fake = FakeCarla(faults, **options)
        values = {"timeout_s": 0.5, "settle_s": 0.0, **(config or {})}
        made.append((fake, None))
        simulator = CarlaSimulator(CarlaConfig(port=fake.server.port, **values), fake)
        made[-1] = fake, simulator
        return fake, simulator

    yield go
    for fake, simulator in made:
        if simulator is not None:
            begin = time.monotonic()
            simulator.close()
            assert time.monotonic() - begin < 5
        if not fake.server.hangs:
            assert restored(fake)
        fake.server.end()


def restored(fake):
    now = fake.server.settings
    return not (now.synchronous_mode or now.fixed_delta_seconds or fake.server.foreign)


def refused(start, match, kind=InputError, **options):
    begin = time.monotonic()
    with pytest.raises(kind, match=match) as told:
        start(**options)
    assert time.monotonic() - begin < 5 and "\n" not in str(told.value)


def looped(simulator, *kinds, config=FAST, ticks=8):
    uav = simulator.spawn(ObjectClass.UAV, AT)
    sensors = [Sensor(k, str(k), uav, width=64, height=48) for k in kinds]
    loop = SimulationLoop(simulator, sensors, config)
    with loop:
        return loop, [loop.step() for _ in range(ticks)]


def test_the_clock_is_taken_and_given_back(start):
    fake, simulator = start()
    now = fake.server.settings
    assert now.synchronous_mode and now.fixed_delta_seconds == 0.05 and now.substepping
    assert now.max_substep_delta_time * now.max_substeps >= 0.05 - 1e-9
    uav = simulator.spawn(ObjectClass.UAV, AT)
    simulator.listen(Sensor(SensorKind.CAMERA, "eye", uav, width=64, height=48), lambda r: None)
    simulator.spawn(ObjectClass.CAR, ON_ROAD, "ego")
    assert fake.server.foreign == ["sensor.camera.rgb", "vehicle.lincoln.mkz_2020"]
    simulator.close()
    assert restored(fake) and len(fake.server.actors) == 5


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    fake, begin = FakeCarla(), time.monotonic()
    with pytest.raises(SimulatorError, match=rf"127\.0\.0\.1:{port}: .*start the server"):
        CarlaSimulator(CarlaConfig(port=port), fake)
    assert time.monotonic() - begin < 3
    fake.server.end()


def test_a_server_that_listens_and_says_nothing_to_the_real_library():
    carla = pytest.importorskip("carla")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(SimulatorError, match=r"no answer within 0\.8 s while asking") as told:
            CarlaSimulator(CarlaConfig(port=silent.getsockname()[1], timeout_s=0.8), carla)
        assert time.monotonic() - begin < 5 and "\n" not in str(told.value)


def test_the_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "carla", None)
    with pytest.raises(InputError, match=r"pip install 'leadsight\[carla\]'"):
        CarlaSimulator(CarlaConfig())


def test_a_town_that_does_not_exist(start):
    refused(start, "Town77.*Town01, Town10HD_Opt", config={"town": "Town77"})


def test_a_town_is_loaded_and_one_that_is_there_is_kept(start):
    fake, simulator = start(config={"town": "Town01"})
    assert fake.server.town == "Town01" and len(simulator.tick().actors) == 4
    fake, simulator = start(config={"town": "Town10HD_Opt"})
    assert fake.server.town == "Town10HD_Opt" and len(fake.server.applied) == 1


def test_a_role_that_is_taken(start):
    _, simulator = start()
    for kind, pose in ((ObjectClass.CAR, ON_ROAD), (ObjectClass.UAV, AT)):
        with pytest.raises(InputError, match="hero: is taken"):
            simulator.spawn(kind, pose, "hero")
    simulator.spawn(ObjectClass.UAV, AT, "eye")
    with pytest.raises(InputError, match="eye: is taken"):
        simulator.spawn(ObjectClass.CAR, ON_ROAD, "eye")


def test_a_role_that_nobody_has(start):
    refused(start, "ego: nobody has it; .*: autopilot, hero", config={"role": "ego"})
    _, simulator = start(config={"role": "hero"})
    simulator.apply(simulator.role_id, Drive(throttle=1.0))
    simulator.tick()
    assert not simulator.counts["refused"]


def test_no_room(start):
    _, simulator = start(Faults(refuse_spawn=("vehicle", "camera")))
    with pytest.raises(InputError, match=r"no room for a CAR at -30\.0"):
        simulator.spawn(ObjectClass.CAR, ON_ROAD)
    uav = simulator.spawn(ObjectClass.UAV, AT)
    for _ in range(2):  # the name is free again
        with pytest.raises(InputError, match="eye: CARLA made no"):
            simulator.listen(Sensor(SensorKind.CAMERA, "eye", uav), lambda r: None)


@pytest.mark.parametrize("how", ("die_at", "hang_at"))
def test_the_server_dies_in_the_middle(start, how):
    fake, simulator = start(Faults(**{how: FIRST_FRAME + 6}))
    uav = simulator.spawn(ObjectClass.UAV, AT)
    sensors = [Sensor(SensorKind.CAMERA, "eye", uav, width=64, height=48)]
    begin = time.monotonic()
    with (
        pytest.raises(SimulatorError, match=r"no answer within 0\.5 s while ticking") as told,
        SimulationLoop(simulator, sensors, FAST) as loop,
    ):
        for _ in range(20):
            loop.step()
    assert time.monotonic() - begin < 5 and "\n" not in str(told.value)
    with pytest.raises(SimulatorError, match="no answer"):
        simulator.tick()
    assert fake.server.frame == FIRST_FRAME + 6


def test_a_server_that_comes_to_itself_again_is_left_as_it_was(start):
    fake, simulator = start(Faults(hang_at=FIRST_FRAME + 4))
    simulator.spawn(ObjectClass.CAR, ON_ROAD)
    with pytest.raises(SimulatorError):
        for _ in range(20):
            simulator.tick()
    assert fake.server.settings.synchronous_mode
    fake.server.hangs = False
    simulator.close()
    assert restored(fake)


def test_it_dies_while_a_vehicle_is_spawned(start):
    fake, simulator = start()
    fake.server.die()
    with pytest.raises(SimulatorError, match="no answer"):
        simulator.spawn(ObjectClass.CAR, ON_ROAD, "ego")


def test_a_sensor_that_never_speaks(start):
    _, simulator = start(Faults(silent=("camera.rgb",)))
    loop, steps = looped(simulator, SensorKind.CAMERA, SensorKind.ODOMETRY)
    assert all("odometry" in s.readings for s in steps)
    assert loop.silent == ("camera",) and loop.counts["missing"] >= 5


def test_one_that_never_speaks_is_waited_for_with_a_limit(start):
    fake, simulator = start(Faults(silent=("camera",)))
    begin = time.monotonic()
    with pytest.raises(SimulatorError, match="no word of camera"):
        looped(simulator, SensorKind.CAMERA, config=LoopConfig(timeout_s=0.3, policy="wait"))
    assert time.monotonic() - begin < 5 and restored(fake)


def test_a_frame_that_is_missing(start):
    _, simulator = start(Faults(drop=("camera", 3)))
    loop, steps = looped(simulator, SensorKind.CAMERA, ticks=9)
    assert loop.counts["missing"] == 3 and sum(bool(s.readings) for s in steps) == 6


def test_a_frame_that_is_late(start):
    _, simulator = start(Faults(late=("camera", 0.12)))
    config = LoopConfig(timeout_s=0.05, real_time_factor=0.0)
    loop, _ = looped(simulator, SensorKind.CAMERA, config=config, ticks=5)
    assert loop.counts["missing"] == 5 and loop.counts["late"] >= 1


@pytest.mark.parametrize("difference", (-3, 1000))
def test_a_frame_of_a_wrong_id(start, difference):
    _, simulator = start(Faults(wrong_frame=("camera", difference)))
    loop, steps = looped(simulator, SensorKind.CAMERA, ticks=7)
    assert not any(s.readings for s in steps) and loop.counts["missing"] >= 5


def test_readings_that_are_none(start):
    _, simulator = start(Faults(garbled=("camera", "lidar", "imu")))
    car = simulator.spawn(ObjectClass.CAR, ON_ROAD)
    simulator.tick()
    seen = []
    kinds = (SensorKind.CAMERA, SensorKind.DEPTH, SensorKind.LIDAR, SensorKind.IMU)
    for kind in (*kinds, SensorKind.BOXES):
        simulator.listen(Sensor(kind, str(kind), car, width=64, height=48), seen.append)
    for _ in range(4):
        simulator.tick()
    time.sleep(0.1)
    # Eight bytes are no whole number of LiDAR's points either.
    assert not seen and simulator.counts["unreadable"] == 20


def test_another_client_ticks_too(start):
    _, simulator = start(Faults(extra_ticks=2))
    for _ in range(5):
        simulator.tick()
    assert simulator.counts["foreign_ticks"] == 10


def test_another_client_ticks_too_and_that_ends_it(start):
    fake, simulator = start(config={"other_ticker": "end"})
    simulator.tick()
    fake.server.step()
    with pytest.raises(SimulatorError, match="another client ticks it too"):
        simulator.tick()


def test_the_clock_was_another_one_s_already():
    fake = FakeCarla()
    fake.server.settings.synchronous_mode = True
    simulator = CarlaSimulator(CarlaConfig(port=fake.server.port), fake)
    assert "synchronous mode already" in simulator.warnings[-1]
    simulator.close()
    assert fake.server.settings.synchronous_mode
    fake.server.end()


def test_an_actor_vanishes(start):
    _, simulator = start(Faults(vanish={25: FIRST_FRAME + 4, 22: FIRST_FRAME + 5}))
    car = simulator.spawn(ObjectClass.CAR, ON_ROAD, "ego")
    assert car == 25 and car in simulator.tick().actors.ids
    seen = []
    for kind in (SensorKind.ODOMETRY, SensorKind.CAMERA, SensorKind.GNSS):
        simulator.listen(Sensor(kind, str(kind), car, width=64, height=48), seen.append)
    simulator.apply(car, Drive(throttle=1.0))
    for _ in range(5):
        moment = simulator.tick()
    assert car not in moment.actors.ids and 22 not in moment.actors.ids
    with pytest.raises(InputError, match="actor 25 is not in the scene"):
        simulator.apply(car, Drive())
    with pytest.raises(InputError, match="actor 25 is not in the scene"):
        simulator.listen(Sensor(SensorKind.GNSS, "more", car), seen.append)
    assert {r.frame for r in seen if r.sensor == "odometry"} == {FIRST_FRAME + 3}


def test_an_order_to_who_is_gone_meanwhile_is_counted(start):
    fake, simulator = start()
    car = simulator.spawn(ObjectClass.CAR, ON_ROAD)
    simulator.tick()
    simulator.apply(car, Drive())
    fake.server.destroy(car)
    simulator.tick()
    assert simulator.counts["refused"] == 1


def test_a_place_that_is_no_number(start):
    _, simulator = start(Faults(bad_pose=(22,)))
    moment = simulator.tick()
    assert moment.actors.ids.tolist() == [21, 23, 24] and simulator.counts["nonsense"] == 2


def test_another_client_loads_the_world_anew(start):
    _, simulator = start(Faults(reload_at=FIRST_FRAME + 3))
    with pytest.raises(SimulatorError, match="loaded the world anew"):
        for _ in range(5):
            simulator.tick()


@pytest.mark.parametrize(
    ("version", "count"),
    (
        ("0.9.13", 0), ("0.9.16", 0), (("0.9.15", "0.9.16"), 1), (("0.9.12", "0.9.12"), 2),
        (("0.9.15-91-g3d1f", "0.9.15"), 1), ("0.10.0", 2), ("nightly", 2),
    ),
)  # fmt: skip
def test_versions_warn_and_never_end_it(start, version, count):
    _, simulator = start(version=version)
    assert len(simulator.warnings) == count and len(simulator.tick().actors) == 4
    assert all("\n" not in line for line in simulator.warnings)


def test_numbers_of_versions():
    assert version_of("0.9.15-91-g3d1f") == (0, 9, 15)
    assert version_of("0.9.13") == (0, 9, 13) and version_of("latest") is None


def test_a_library_without_v2x(start):
    _, simulator = start(v2x=False)
    assert SensorKind.V2X not in simulator.abilities.sensors
    uav = simulator.spawn(ObjectClass.UAV, AT)
    with pytest.raises(InputError, match="has no v2x sensor"):
        simulator.listen(Sensor(SensorKind.V2X, "radio", uav), lambda r: None)


def test_an_older_library_without_some_settings(start, monkeypatch):
    monkeypatch.setattr(
        "tests.bridges.fake_carla.FakeSettings.__init__",
        lambda self: vars(self).update(
            synchronous_mode=False, no_rendering_mode=False, fixed_delta_seconds=None
        ),
    )
    fake, simulator = start()
    assert not hasattr(fake.server.settings, "substepping") and simulator.tick()


def test_user_code_that_fails_leaves_nothing_behind(start):
    fake, simulator = start()
    simulator.spawn(ObjectClass.CAR, ON_ROAD)
    with pytest.raises(ZeroDivisionError), SimulationLoop(simulator, []) as loop:
        loop.step()
        1 / 0  # noqa: B018
    assert restored(fake)


def test_a_session_that_is_dropped_leaves_nothing_behind():
    fake = FakeCarla()
    session = CarlaSession(CarlaConfig(port=fake.server.port), fake)
    session.apply_settings(synchronous_mode=True)
    session.spawn(session.blueprint("vehicle.yamaha.yzf"), fake.Transform())
    assert not restored(fake)
    del session
    gc.collect()
    assert restored(fake)
    fake.server.end()


def test_a_program_that_ends_without_closing_leaves_nothing_behind():
    code = (
        "import atexit; from tests.bridges.fake_carla import FakeCarla\n"
        "from bridges.carla_simulator import CarlaSimulator, CarlaConfig\n"
        "fake = FakeCarla(); now = lambda: fake.server.settings.synchronous_mode\n"
        "atexit.register(lambda: print('at the end', now()))\n"
        "kept = CarlaSimulator(CarlaConfig(port=fake.server.port), fake)\n"
        "kept.tick(); print('before', now()); raise SystemExit(3)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout.split("\n")[:2] == ["before True", "at the end False"]


def test_following_another_clock(start):
    fake, simulator = FakeCarla(), None
    fake.server.run()
    config = CarlaConfig(port=fake.server.port, mode="follow", timeout_s=0.5)
    simulator = CarlaSimulator(config, fake)
    assert not simulator.abilities.owns_clock and not fake.server.applied
    _, steps = looped(simulator, SensorKind.CAMERA, SensorKind.ODOMETRY, ticks=10)
    assert sum(len(s.readings) == 2 for s in steps) >= 8
    frames = [s.moment.frame for s in steps]
    assert frames == sorted({*frames}) and not fake.server.foreign
    fake.server.end()


def test_following_a_clock_that_jumps(start):
    fake = FakeCarla()
    fake.server.run()
    config = CarlaConfig(port=fake.server.port, mode="follow", timeout_s=0.5)
    simulator = CarlaSimulator(config, fake)
    uav = simulator.spawn(ObjectClass.UAV, AT)
    simulator.apply(uav, Velocity(np.array([5.0, 0.0, 0.0])))
    samples = []
    simulator.listen(Sensor(SensorKind.IMU, "imu", uav), lambda r: samples.append(r.value))
    simulator.tick()
    assert not simulator.counts["unflown_ms"]
    before = simulator.moment
    with fake.server.lock:
        fake.server.elapsed += 30.0
    while simulator.moment.stamp_ns - before.stamp_ns < 30e9:
        simulator.tick()
    jump_ns = simulator.moment.stamp_ns - before.stamp_ns
    del samples[:]
    after = simulator.tick()
    assert 28_900 < simulator.counts["unflown_ms"] <= jump_ns / 1e6 - 1000
    assert samples and len(samples[0].stamps_ns) <= 200
    assert np.linalg.norm(after.pose(uav)[:3, 3] - before.pose(uav)[:3, 3]) < 10
    simulator.close()
    fake.server.end()


def test_following_where_nobody_ticks():
    fake = FakeCarla()
    with pytest.raises(SimulatorError, match="waiting for another client to tick"):
        CarlaSimulator(CarlaConfig(port=fake.server.port, mode="follow", timeout_s=0.3), fake)
    fake.server.end()


def test_what_counts_as_a_time_out():
    text = (
        "time-out of 2000ms while waiting for the simulator, make sure the simulator is ready and "
        "connected to 127.0.0.1:2000"
    )
    assert is_time_out(RuntimeError(text))
    assert not is_time_out(RuntimeError("trying to operate on a destroyed actor"))
