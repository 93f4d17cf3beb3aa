"""The real traffic manager of CARLA's library, in its own process, and the end of its server."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bridges.simulators import real_library

TRAFFIC = """
import sys, time
from bridges.carla_simulator import CarlaConfig, CarlaSimulator
from bridges.simulator import SimulatorError
from tests.bridges.wire_carla import Wire
what, port = sys.argv[1], int(sys.argv[2])
with Wire() as wire:
    config = CarlaConfig(port=wire.port, timeout_s=1.0, vehicles=2, traffic_port=port)
    simulator = CarlaSimulator(config)
    for _ in range(5):
        moment = simulator.tick()
    print(len(moment.actors))
    if what != "close":
        wire.ask(what)
    try:
        simulator.tick()
        print("ticked")
    except SimulatorError as error:
        print(error)
    begin = time.monotonic()
    simulator.close()
    print("closed", time.monotonic() - begin < 5, wire.ask("status")["foreign"])
    time.sleep(1.5)
    print("here")
"""


@pytest.mark.parametrize("what", ("close", "hang", "die"))
def test_traffic_comes_and_goes_and_its_threads_do_not_end_the_process(what):
    real_library()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ended = subprocess.run(
        [sys.executable, "-c", TRAFFIC, what, str(port)], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0 and lines[-1] == "here", ended.stdout + ended.stderr
    assert lines[0] == "6" and "closed True" in lines[2]
    assert lines[1] == "ticked" if what == "close" else "no answer within 1 s" in lines[1]
    assert what != "close" or lines[2].endswith("[]")
