"""Traffic behind the port: boxes of virtual cameras, senses of vehicles, a SUMO that runs apart."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bridges.actors import Snapshot
from bridges.loop import LoopConfig, SimulationLoop
from bridges.simulator import Sensor, SensorKind, SimulatorError, Velocity, pose_of
from bridges.sumo import SumoConfig
from bridges.traffic import TrafficConfig
from bridges.traffic_simulator import TrafficSimulator, sumo_simulator, town_simulator
from bridges.view import project
from pipeline.errors import InputError
from pipeline.objects import ObjectClass


@pytest.fixture
def town():
    simulator = town_simulator(TrafficConfig(blocks=2, vehicles=12, people=4, parked=6), 3)
    yield simulator
    simulator.close()


def some_car(simulator):
    actors = simulator.moment.actors
    return int(actors.ids[np.flatnonzero(actors.classes == ObjectClass.CAR)[0]])


def test_the_town_s_own_uavs_are_left_out(town):
    assert ObjectClass.UAV not in town.moment.actors.classes


def test_a_virtual_camera_over_a_car_sees_it_where_it_is_projected(town):
    car = some_car(town)
    place = town.moment.pose(car)[:3, 3] + (0, 0, 40)
    uav = town.spawn(ObjectClass.UAV, pose_of(place))
    down = Sensor(SensorKind.BOXES, "down", uav, pose_of(np.zeros(3), 0.0, np.pi / 2), fov_deg=60.0)
    seen = []
    town.listen(down, lambda r: seen.append(r.value))
    moment = town.tick()
    row = np.flatnonzero(seen[0].ids == car)
    assert len(row) == 1 and seen[0].visibility[row[0]] > 0.9
    pose = moment.pose(uav) @ down.mount
    middle, _ = project(moment.pose(car)[:3, 3], pose, down)
    box = seen[0].boxes[row[0]]
    assert np.allclose(box[:2] + box[2:] / 2, middle + 0.5, atol=2.0)


def test_a_vehicle_carries_odometry_with_the_rate_at_which_it_turns(town):
    car = some_car(town)
    town.tick()
    said = []
    town.listen(Sensor(SensorKind.ODOMETRY, "own", car), lambda r: said.append(r.value))
    yaws = [town.moment.actors.yaws[town.moment.actors.row(car)]]
    for _ in range(40):
        moment = town.tick()
        yaws.append(moment.actors.yaws[moment.actors.row(car)])
    turned = np.sum([o.rates[2] for o in said]) * town.step_ns * 1e-9
    whole = np.unwrap(yaws)
    assert np.isclose(turned, whole[-1] - whole[0], atol=1e-9)


def test_only_uavs_carry_an_imu_or_a_gimbal(town):
    car = some_car(town)
    with pytest.raises(InputError, match="IMU"):
        town.listen(Sensor(SensorKind.IMU, "imu", car), lambda r: None)
    with pytest.raises(InputError, match="gimbal"):
        town.listen(Sensor(SensorKind.BOXES, "eye", car, on_gimbal=True), lambda r: None)


# A SUMO of its own.


@pytest.fixture
def served(tmp_path):
    """A real ``sumo`` on a grid with vehicles, waiting for its client; and where it listens."""
    pytest.importorskip("traci", reason="TraCI is not installed (the sumo extra)")
    sumo = pytest.importorskip("sumo", reason="SUMO is not installed (the sumo extra)")
    programs = Path(sumo.SUMO_HOME) / "bin"
    net, trips = tmp_path / "g.net.xml", tmp_path / "t.rou.xml"
    subprocess.run(
        [programs / "netgenerate", "--grid", "--grid.number", "3", "-o", net],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    lines = [f'<trip id="t{k}" depart="{k * 0.5}" from="A0A1" to="C2C1"/>' for k in range(10)]
    trips.write_text(f"<routes>{''.join(lines)}</routes>")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [programs / "sumo", "-n", net, "-r", trips, "--remote-port", str(port),
         "--step-length", "0.05", "--no-step-log", "--no-warnings"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 20
    while not _listens(port) and time.monotonic() < end:
        time.sleep(0.05)
    yield process, f"127.0.0.1:{port}"
    process.kill()
    process.wait(10)


def _listens(port):
    """Without connecting: SUMO would take that for its client."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(w[1].endswith(wanted) and w[3] == "0A" for w in map(str.split, lines))


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")


@needs_proc
def test_a_running_sumo_is_ticked_by_traci(served):
    _, address = served
    simulator = sumo_simulator(SumoConfig(warm_up_s=4.0), server=address)
    try:
        assert simulator.step_ns == 50_000_000
        first = simulator.moment.actors
        assert len(first) >= 3 and simulator.moment.stamp_ns == 0
        uav = simulator.spawn(ObjectClass.UAV, pose_of(np.array([0.0, 0.0, 60.0])))
        simulator.apply(uav, Velocity(np.array([3.0, 0.0, 0.0])))
        before = simulator.moment
        for _ in range(20):
            moment = simulator.tick()
        both = np.intersect1d(before.actors.ids, moment.actors.ids)
        rows = [m.actors.row(int(both[0])) for m in (before, moment)]
        moved = moment.actors.positions[rows[1]] - before.actors.positions[rows[0]]
        assert 2 < np.linalg.norm(moved) < 30 and moment.stamp_ns == 10**9
        assert len(moment.actors) >= len(first)
    finally:
        simulator.close()


@needs_proc
def test_a_sumo_that_dies_is_one_line_and_soon(served):
    process, address = served
    simulator = sumo_simulator(SumoConfig(warm_up_s=1.0), server=address)
    simulator.tick()
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    begin = time.monotonic()
    with pytest.raises(SimulatorError, match="stopped or does not answer") as caught:
        for _ in range(3):
            simulator.tick()
    simulator.close()
    assert time.monotonic() - begin < 5 and "\n" not in str(caught.value)


@needs_proc
def test_a_sumo_that_stops_answering_is_given_up(served):
    process, address = served
    simulator = sumo_simulator(SumoConfig(warm_up_s=1.0), server=address)
    process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(SimulatorError, match="does not answer"):
        simulator.tick()
    simulator.close()
    assert time.monotonic() - begin < 5.5


def test_nobody_who_listens_is_told_with_what_to_start():
    pytest.importorskip("traci", reason="TraCI is not installed (the sumo extra)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(InputError, match="--remote-port"):
        sumo_simulator(server=f"127.0.0.1:{port}")
    assert socket.getdefaulttimeout() is None


def test_what_is_no_sumo_is_given_up():
    pytest.importorskip("traci", reason="TraCI is not installed (the sumo extra)")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            peer, _ = server.accept()
            with peer:
                peer.recv(64)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        begin = time.monotonic()
        with pytest.raises(InputError, match="no SUMO answers"):
            sumo_simulator(server=f"127.0.0.1:{server.getsockname()[1]}")
        assert time.monotonic() - begin < 6
        thread.join(5)


@pytest.mark.parametrize("address", ("here", "host:", ":8813", "host:0", "host:99999"))
def test_an_address_is_host_and_port(address):
    with pytest.raises(InputError, match="host:port"):
        sumo_simulator(server=address)


def test_a_missing_traci_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "traci", None)
    with pytest.raises(InputError, match=r"pip install 'leadsight\[sumo\]'"):
        sumo_simulator(server="127.0.0.1:8813")


class Leaving:
    """Two cars that stand; after three steps the second is gone."""

    buildings, step_s, steps = (), 0.1, 0

    def snapshot(self):
        n = 2 if self.steps < 3 else 1
        none = np.zeros((n, 3))
        return Snapshot(
            self.steps * 100_000_000, np.arange(1, n + 1, dtype=np.int32),
            np.full(n, ObjectClass.CAR, np.uint8), none, none, np.zeros(n), np.ones((n, 3)),
            np.ones(n, bool),
        )  # fmt: skip

    def step(self):
        self.steps += 1
        return self.snapshot()

    def close(self):
        pass


def test_nobody_waits_for_a_sensor_whose_carrier_is_gone():
    sensors = [Sensor(SensorKind.ODOMETRY, f"on{k}", k) for k in (1, 2)]
    begin = time.monotonic()
    with SimulationLoop(
        TrafficSimulator("two cars", Leaving()), sensors, LoopConfig(real_time_factor=0.0)
    ) as loop:
        steps = [loop.step() for _ in range(6)]
    assert time.monotonic() - begin < 1  # the loop would wait for 2 s each time
    assert [s.missing for s in steps] == [(), (), *[("on2",)] * 4]
    assert all("on1" in s.readings for s in steps)
