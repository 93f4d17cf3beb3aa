"""``leadsight carla-doctor``: a report on a CARLA server, to be sent back.

Most of the bridge was written without a server at hand: this is how it is checked on one.
"""

import importlib.metadata
import platform
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridges.carla_client import CarlaConfig, CarlaSession, load_api, probe
from bridges.carla_simulator import CarlaSimulator
from bridges.simulator import SimulatorError
from leadsight import carla_checks as checks
from leadsight.carla_checks import Finding
from pipeline.errors import InputError

_MARKS = {True: "fine", False: "[bold red]wrong[/]", None: "not checked"}
_ASKED = (
    "Map", "OpendriveGenerationParameters", "VehicleAckermannControl", "CityObjectLabel",
    "CAMEvent", "CustomV2XEvent", "SemanticLidarMeasurement",
)  # fmt: skip
"""Parts of the library by which its versions are told apart."""


def run_carla_doctor(config: CarlaConfig, ticks: int, console: Console, api: Any = None) -> int:
    """Print the report. 0: all is fine; 1: something is wrong, or there was no server.

    Raises:
        InputError: the library is not installed.
    """
    api = load_api() if api is None else api
    console.print(f"leadsight carla-doctor, python {platform.python_version()} on {sys.platform}")
    console.print(f"carla's library: {_installed()}, file {getattr(api, '__file__', '–')}")
    console.print("it has: " + (", ".join(n for n in _ASKED if hasattr(api, n)) or "little"))
    findings = [checks.check_attitudes(api), checks.check_geodesy(api)]
    try:
        probe(config.host, config.port)
    except SimulatorError as error:
        _print(findings, console)
        console.print(escape(f"no server: {error}"), soft_wrap=True)
        console.print("only the library was checked")
        return 1
    try:
        findings += _on_server(config, ticks, console, api)
    except SimulatorError as error:
        findings.append(Finding("server", False, str(error)))
    _print(findings, console)
    fine = not any(f.fine is False for f in findings)
    console.print("CARLA can be used" if fine else "CARLA can [bold]not[/] be used as it is")
    return 0 if fine else 1


def _on_server(config: CarlaConfig, ticks: int, console: Console, api: Any) -> list[Finding]:
    before = CarlaSession(config, api)
    _describe(before, console)
    before.close()
    findings: list[Finding] = []
    simulator = CarlaSimulator(config, api)
    try:
        rate, rows, findings = checks.run_sensors(simulator, ticks)
        table = Table("sensor", "readings", "median", "worst", title="one synchronous run")
        for row in rows:
            late = (f"{row.median_ms:.1f} ms", f"{row.worst_ms:.1f} ms")
            table.add_row(row.name, f"{row.came} of {row.due}", *late)
        console.print(table)
        factor = rate * simulator.step_ns * 1e-9
        console.print(f"{rate:.1f} ticks/s with all of them, {factor:.2f} times real time")
        further: tuple[Callable[[], Finding | list[Finding]], ...] = (
            lambda: checks.check_free_camera(simulator),
            lambda: checks.check_gnss(simulator),
            lambda: checks.check_gyro(simulator),
        )
        for check in further:
            try:
                found = check()
            except SimulatorError:
                raise
            except InputError as error:
                found = Finding("further", None, str(error))
            findings += found if isinstance(found, list) else [found]
        counts = {k: v for k, v in simulator.counts.items() if v}
        findings.append(Finding("counts", not counts, str(counts or "nothing went astray")))
        for warning in simulator.warnings:
            console.print(escape(f"note: {warning}"), soft_wrap=True)
    finally:
        simulator.close()
    after = CarlaSession(config, api)
    findings.append(checks.check_left_behind(before.settings, after))
    after.close()
    return findings


def _describe(session: CarlaSession, console: Console) -> None:
    console.print(f"server {session.server_version}, library {session.client_version}")
    maps = session.call("asking for maps", session.client.get_available_maps)
    here = session.call("asking for the map", lambda: session.world.get_map().name)
    names = sorted({str(m).rsplit("/", 1)[-1] for m in maps})
    console.print(f"map {here}; it also has {', '.join(names)}", soft_wrap=True)
    sensors = sorted(b for b in session.blueprints if b.startswith("sensor."))
    console.print(f"sensors: {', '.join(sensors)}", soft_wrap=True)
    kinds = [sum(b.startswith(k) for b in session.blueprints) for k in ("vehicle.", "walker.")]
    console.print(f"{kinds[0]} vehicles, {kinds[1]} pedestrians to choose from")
    shown = {n: getattr(session.settings, n) for n in dir(session.settings) if n[0] != "_"}
    console.print(escape("settings: " + ", ".join(f"{k} {v}" for k, v in shown.items())))


def _print(findings: list[Finding], console: Console) -> None:
    table = Table("check", "", "what was found", title="checks")
    for finding in findings:
        table.add_row(finding.what, _MARKS[finding.fine], escape(finding.text))
    console.print(table)


def _installed() -> str:
    try:
        return importlib.metadata.version("carla")
    except importlib.metadata.PackageNotFoundError:
        return "not from a package"
