"""``leadsight carla-doctor`` on the fake CARLA, on none, and on the library alone."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bridges.carla_client import CarlaConfig
from leadsight.carla_doctor import run_carla_doctor
from tests.bridges.fake_carla import FIRST_FRAME, FakeCarla, Faults

ROOT = Path(__file__).parents[2]


def report(faults=None, ticks=8, **options):
    fake = FakeCarla(faults, **options)
    out = io.StringIO()
    console = Console(file=out, width=160)
    config = CarlaConfig(port=fake.server.port, timeout_s=1.0, settle_s=0.0)
    code = run_carla_doctor(config, ticks, console, fake)
    left = fake.server.foreign
    fake.server.end()
    return code, " ".join(out.getvalue().split()), left


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr("leadsight.carla_checks.SETTLE_S", 0.5)
    monkeypatch.setattr("leadsight.carla_checks.SIZE", (64, 48))


def test_a_sound_server():
    code, text, left = report(v2x=True)
    assert code == 0 and not left, text
    for part in (
        "server 0.9.15, library 0.9.15", "Town01, Town10HD_Opt", "sensor.other.v2x_custom",
        "2 vehicles, 1 pedestrians", "8 of 8", "times real time", "0 ticks behind",
        "axial (axial: ", "settings and actors are as before", "CARLA can be used",
    ):  # fmt: skip
        assert part in text, part
    assert "wrong" not in text


def test_a_gyroscope_of_the_other_signs_is_found_out():
    code, text, _ = report(Faults(gyro_signs=(-1, -1, 1)))
    assert code == 1 and "set carla.gyro_signs: rotator" in text


def test_one_that_is_plainly_wrong_is_not_explained_away():
    code, text, _ = report(Faults(gyro_signs=(1, -1, -1)))
    assert code == 1 and "neither convention agrees" in text


def test_sensors_that_stay_silent_are_counted():
    code, text, _ = report(Faults(silent=("lidar",)))
    assert code == 1 and "0 of 8" in text and "readings │ wrong" in text


def test_a_server_that_dies_in_between():
    code, text, _ = report(Faults(die_at=FIRST_FRAME + 5))
    assert code == 1 and "no answer within 1 s" in text and "CARLA can not be used" in text


def test_no_server():
    pytest.importorskip("carla")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ended = subprocess.run(
        [sys.executable, "-m", "leadsight", "carla-doctor", "--port", str(port)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "random attitudes are at most" in ended.stdout and "fine" in ended.stdout
    assert "no server: CARLA at 127.0.0.1" in ended.stdout
    assert "only the library was checked" in ended.stdout


def test_no_library():
    code = "import sys; sys.modules['carla'] = None; from leadsight.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "carla-doctor"], cwd=ROOT, capture_output=True, text=True,
        timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ended.returncode == 2 and "pip install 'leadsight[carla]'" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
