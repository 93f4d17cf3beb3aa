"""CARLA's real library under the bridge, against a server of ours that speaks its wire."""

import time

import numpy as np
import pytest

from bridges.carla_client import CarlaConfig
from bridges.carla_simulator import CarlaSimulator
from bridges.loop import LoopConfig, SimulationLoop
from bridges.simulator import Drive, Sensor, SensorKind, SimulatorError, Walk, pose_of
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from tests.bridges.fake_carla import FIRST_FRAME
from tests.bridges.simulators import real_library

ON_ROAD = pose_of(np.array([-30.0, -30.0, 0.75]))
SMALL = {"width": 64, "height": 48}
FAST = LoopConfig(timeout_s=0.4, real_time_factor=0.0)


@pytest.fixture
def start():
    opened = []

    def go(config=None, **faults):
        wire = real_library()(**faults)
        opened.append(wire)
        values = {"timeout_s": 1.0, **(config or {})}
        opened.append(CarlaSimulator(CarlaConfig(port=wire.port, **values)))
        return wire, opened[-1]

    yield go
    for each in reversed(opened):
        each.close()


def restored(wire):
    now = wire.ask("status")
    assert not now["unknown"]
    return not (now["synchronous"] or now["fixed"] or now["foreign"])


def test_every_sensor_speaks_and_all_is_given_back(start):
    wire, simulator = start()
    uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([31.0, 0.0, 40.0])))
    car = simulator.spawn(ObjectClass.CAR, ON_ROAD, "ego")
    simulator.tick()
    down = pose_of(np.zeros(3), 0.0, np.pi / 2)
    sensors = [
        Sensor(kind, f"{kind}_{parent}", parent, down, points=200, **SMALL)
        for kind in sorted(simulator.abilities.sensors - {SensorKind.V2X})
        for parent in (uav, car)
    ]
    with SimulationLoop(simulator, sensors, LoopConfig(real_time_factor=0.0)) as loop:
        steps = [loop.step() for _ in range(5)]
        assert all(len(s.readings) == len(sensors) == 14 and not s.missing for s in steps)
        depth = steps[-1].readings[f"depth_{uav}"].value.meters
        assert abs(depth[24, 32] - 40.0) < 0.1
        boxes = steps[-1].readings[f"boxes_{uav}"].value
        assert {*boxes.ids.tolist()} == {21, 22, 23, 24}
        force = steps[-1].readings[f"imu_{car}"].value.accelerations[0]
        assert np.allclose(force, (-9.81, 0, 0), atol=0.01)  # it is mounted looking down
        assert not wire.ask("status")["unknown"]
        assert len(wire.ask("status")["foreign"]) == 10
    assert restored(wire)


def test_messages_are_heard(start):
    _, simulator = start()
    simulator.tick()
    loop = SimulationLoop(simulator, [Sensor(SensorKind.V2X, "radio", 21)], FAST)
    heard, end = [], time.monotonic() + 5
    while not heard and time.monotonic() < end:
        heard = loop.step().events
        time.sleep(0.02)
    assert heard[0].value.payload == b"hello"
    assert heard[0].value.power_dbm == -61.5


def test_controls_go_through(start):
    _, simulator = start()
    car = simulator.spawn(ObjectClass.CAR, ON_ROAD, "ego")
    man = simulator.spawn(ObjectClass.PERSON, pose_of(np.array([-10.0, 10.0, 0.9])))
    simulator.tick()
    simulator.apply(car, Drive(throttle=1.0, steer=0.5))
    simulator.apply(man, Walk(np.array([0.6, 0.8, 0.0])))
    for _ in range(20):
        moment = simulator.tick()
    velocity = moment.actors.velocities
    assert np.allclose(velocity[moment.actors.row(man)], (0.6, 0.8, 0), atol=1e-5)
    assert velocity[moment.actors.row(car)][0] > 2
    assert moment.rates[moment.actors.row(car), 2] > 0.05  # to the left
    assert not simulator.counts["refused"]


def test_no_room_and_a_role_that_is_taken(start):
    _, simulator = start()
    simulator.spawn(ObjectClass.CAR, ON_ROAD, "ego")
    with pytest.raises(InputError, match="no room for a CAR"):
        simulator.spawn(ObjectClass.CAR, ON_ROAD)
    for role in ("ego", "hero"):
        with pytest.raises(InputError, match=f"{role}: is taken"):
            simulator.spawn(ObjectClass.UAV, ON_ROAD, role)


def test_a_town_that_does_not_exist(start):
    with pytest.raises(InputError, match=r"Town77.*Town01, Town10HD_Opt"):
        start({"town": "Town77"})


@pytest.mark.parametrize("how", ("die_at", "hang_at"))
def test_the_server_dies_in_the_middle(start, how):
    _, simulator = start(**{how: FIRST_FRAME + 40})
    uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([31.0, 0.0, 40.0])))
    sensors = [Sensor(SensorKind.CAMERA, "eye", uav, **SMALL)]
    begin = time.monotonic()
    with (
        pytest.raises(SimulatorError, match=r"while ticking|ticking: ") as told,
        SimulationLoop(simulator, sensors, FAST) as loop,
    ):
        for _ in range(200):
            loop.step()
    assert time.monotonic() - begin < 6 and "\n" not in str(told.value)


def test_a_server_that_comes_to_itself_again_is_left_as_it_was(start):
    wire, simulator = start()
    simulator.spawn(ObjectClass.CAR, ON_ROAD)
    simulator.tick()
    wire.ask("hang")
    with pytest.raises(SimulatorError, match="no answer within 1 s while ticking"):
        simulator.tick()
    wire.ask("wake")
    simulator.close()
    assert restored(wire)


def test_a_sensor_that_never_speaks_and_one_that_lags(start):
    wire, simulator = start(silent=("depth",), drop=("rgb", 3))
    uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([31.0, 0.0, 40.0])))
    sensors = [Sensor(k, str(k), uav, **SMALL) for k in (SensorKind.CAMERA, SensorKind.DEPTH)]
    with SimulationLoop(simulator, sensors, FAST) as loop:
        steps = [loop.step() for _ in range(9)]
    assert loop.silent == ("depth",) and sum("camera" in s.readings for s in steps) == 6
    assert restored(wire)


def test_an_actor_vanishes_and_another_client_ticks(start):
    _, simulator = start(extra_ticks=1)
    car = simulator.spawn(ObjectClass.CAR, ON_ROAD)
    simulator.tick()
    assert simulator.counts["foreign_ticks"] == 1
    simulator.session.client.apply_batch_sync(
        [simulator.session.api.command.DestroyActor(car)], False
    )
    assert car not in simulator.tick().actors.ids
    with pytest.raises(InputError, match=f"actor {car} is not in the scene"):
        simulator.apply(car, Drive())


def test_following_another_clock(start):
    wire, simulator = start({"mode": "follow"})
    frames = [simulator.tick().frame for _ in range(10)]
    assert frames == sorted({*frames}) and not wire.ask("status")["synchronous"]
