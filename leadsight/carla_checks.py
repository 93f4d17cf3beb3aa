"""What ``leadsight carla-doctor`` checks, each answered in a line."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bridges import carla_frames
from bridges.carla_client import CarlaSession
from bridges.carla_geo import geo_frame_of
from bridges.carla_orders import carla_transform
from bridges.carla_simulator import CarlaSimulator
from bridges.flight import rotation_vector
from bridges.simulator import Inertial, Reading, Sensor, SensorKind, pose_of
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

ATTITUDES = 2000
SIZE = (640, 480)
"""Of pictures."""
SETTLE_S = 2.0
"""For readings that come after the last tick."""
HEIGHT_M = 30.0
SPIN = (40.0, 30.0, 20.0)
"""Degrees/s of a car that is dropped, about the world's axes as CARLA counts them."""
ONE_ROAD = """<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="4" name="r" north="0"
south="0" east="0" west="0"><geoReference><![CDATA[+proj=tmerc +lat_0=48.0 +lon_0=11.0]]>
</geoReference></header><road name="r" length="9" id="1" junction="-1"><link/><planView>
<geometry s="0" x="0" y="0" hdg="0" length="9"><line/></geometry></planView><elevationProfile/>
<lateralProfile/><lanes><laneSection s="0"><center><lane id="0" type="none" level="false"><link/>
</lane></center><right><lane id="-1" type="driving" level="false"><link/><width sOffset="0" a="3"
b="0" c="0" d="0"/></lane></right></laneSection></lanes></road></OpenDRIVE>"""


@dataclass(frozen=True, slots=True)
class Finding:
    """fine: None: it could not be checked."""

    what: str
    fine: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Rate:
    """Of a sensor in a run: readings that came of those due, and how long after the tick began."""

    name: str
    came: int
    due: int
    median_ms: float
    worst_ms: float


def check_attitudes(api: Any) -> Finding:
    """Our conversions against the library's own classes; needs no server."""
    rng = np.random.default_rng(0)
    angles = rng.uniform((-90, -180, -180), (90, 180, 180), (ATTITUDES, 3))
    turns = carla_frames.rotations(angles)
    worst = 0.0
    for row, turn in zip(angles.tolist(), turns, strict=True):
        made = api.Transform(api.Location(), api.Rotation(*row))
        if not hasattr(made, "get_matrix"):
            return Finding("attitudes", None, "this library's Transform has no get_matrix")
        theirs = np.array(made.get_matrix())[:3, :3] * np.outer((1, -1, 1), (1, -1, 1))
        worst = max(worst, float(np.abs(theirs - turn).max()))
    text = f"{ATTITUDES} random attitudes are at most {worst:.1e} off the library's"
    return Finding("attitudes", worst < 1e-5, text)


def check_geodesy(api: Any) -> Finding:
    """How this library places a map on earth; needs no server."""
    if not hasattr(api, "Map"):
        return Finding("geodesy", None, "this library has no Map")
    frame, warning = geo_frame_of(api, api.Map("r", ONE_ROAD))
    return Finding(
        "geodesy", "unknown" not in warning, f"{frame.projection}; {warning or 'north is north'}"
    )


def run_sensors(simulator: CarlaSimulator, ticks: int) -> tuple[float, list[Rate], list[Finding]]:
    """Ticks per second with one sensor of each kind, and what came of them."""
    place = _place(simulator)
    uav = simulator.spawn(ObjectClass.UAV, pose_of(place + (0, 0, HEIGHT_M)), "doctor_uav")
    simulator.tick()
    begun: dict[int, float] = {}
    late: dict[str, list[float]] = {}
    last: dict[str, Any] = {}

    def receive(reading: Reading) -> None:
        took = time.monotonic() - begun.get(reading.frame, np.nan)
        late.setdefault(reading.sensor, []).append(took)
        last[reading.sensor] = reading.value

    kinds = sorted(simulator.abilities.sensors - {SensorKind.V2X})
    down = pose_of(np.zeros(3), 0.0, np.pi / 2)
    for kind in kinds:
        width, height = SIZE
        simulator.listen(Sensor(kind, str(kind), uav, down, width=width, height=height), receive)
    start = time.monotonic()
    for _ in range(ticks):
        begun[simulator.moment.frame + 1] = time.monotonic()
        simulator.tick()
    rate = ticks / (time.monotonic() - start)
    _settle(lambda: all(len(late.get(str(k), ())) >= ticks for k in kinds))
    rows = []
    for kind in kinds:
        times = np.array(late.get(str(kind), [np.nan])) * 1e3
        came = len(late.get(str(kind), ()))
        rows.append(Rate(str(kind), came, ticks, float(np.median(times)), float(times.max())))
    findings = [
        Finding("readings", all(r.came == r.due for r in rows), "one of each sensor, every tick")
    ]
    if "camera" in last:
        spread = float(last["camera"].image.std())
        findings.append(Finding("picture", spread > 2, f"its gray levels spread by {spread:.1f}"))
    if "depth" in last:
        middle = float(last["depth"].meters[SIZE[1] // 2, SIZE[0] // 2])
        fine = np.isfinite(middle) and 0 < middle < 3 * HEIGHT_M
        text = f"{middle:.2f} m straight down, from {HEIGHT_M:g} m above a place to start"
        findings.append(Finding("depth", bool(fine), text))
    return rate, rows, findings


def check_gyro(simulator: CarlaSimulator, ticks: int = 16) -> list[Finding]:
    """Drop a car that tumbles, and see which signs make its IMU agree with its attitudes."""
    place = _place(simulator)
    car = simulator.spawn(ObjectClass.CAR, pose_of(place + (0, 0, HEIGHT_M)), "doctor_car")
    simulator.tick()
    said: list[Inertial] = []
    simulator.listen(
        Sensor(SensorKind.IMU, "doctor_gyro", car),
        lambda r: said.append(r.value),  # type: ignore[arg-type]
    )
    api, session = simulator.session.api, simulator.session
    body = next(iter(session.call("asking who is there", session.world.get_actors, [car])))
    session.call("turning a car", body.set_target_angular_velocity, api.Vector3D(*SPIN))
    moments = [simulator.moment] + [simulator.tick() for _ in range(ticks)]
    time.sleep(min(SETTLE_S, 0.2))
    seconds = simulator.step_ns * 1e-9
    turns = [m.pose(car)[:3, :3] for m in moments]
    seen = np.array([rotation_vector(a.T @ b) for a, b in pairwise(turns)])
    seen /= seconds
    odometry = np.array([m.rates[m.actors.row(car)] for m in moments[1:]])
    findings = [_signs("angular velocity of snapshots", odometry, seen, "axial")]
    if len(said) < ticks:
        return [*findings, Finding("gyroscope", None, f"{len(said)} of {ticks} readings came")]
    gyro = np.array([v.rates[-1] for v in said[:ticks]])
    return [*findings, _signs("gyroscope", gyro, seen, simulator.config.gyro_signs)]


def _signs(what: str, said: FloatArray, seen: FloatArray, used: str) -> Finding:
    """Which convention agrees; ``said`` was read with ``used``."""
    other = next(c for c in carla_frames.CONVENTIONS if c != used)
    size = max(float(np.sqrt((seen**2).mean())), 1e-9)
    if size < 0.05:
        return Finding(what, None, "the car did not turn")
    off = {
        used: float(np.sqrt(((said - seen) ** 2).mean())) / size,
        other: float(np.sqrt(((said * (-1, -1, 1) - seen) ** 2).mean())) / size,
    }
    best = min(off, key=lambda c: off[c])
    text = ", ".join(f"{name}: {share:.0%} off" for name, share in off.items())
    if off[best] > 0.5:
        return Finding(what, False, f"neither convention agrees ({text})")
    hint = "" if best == used else f"; set carla.gyro_signs: {best}"
    return Finding(what, best == used, f"{best} ({text}){hint}")


def check_free_camera(simulator: CarlaSimulator, ticks: int = 10) -> Finding:
    """Whether a camera that is moved before a tick takes that tick's picture from there."""
    session, place = simulator.session, _place(simulator)
    name = "sensor.camera.depth"
    if name not in session.blueprints:
        return Finding("free camera", None, f"the server has no {name}")
    blueprint = session.blueprint(name, image_size_x=32, image_size_y=32)
    poses = [
        pose_of(place + (0.5 * k, 0.3 * k, 20 + 0.2 * k), 0.1 * k, 0.2 + 0.02 * k)
        for k in range(ticks)
    ]
    camera = session.spawn(blueprint, carla_transform(session.api, poses[0]))
    if camera is None:
        return Finding("free camera", False, "the server made none")
    seen: dict[int, FloatArray] = {}

    def hear(data: Any) -> None:
        at, turn = data.transform.location, data.transform.rotation
        seen[int(data.frame)] = carla_frames.poses(
            np.array([at.x, at.y, at.z]), np.array([turn.pitch, turn.yaw, turn.roll])
        )

    session.call("listening", camera.listen, hear)
    time.sleep(session.config.settle_s)
    order = session.api.command.ApplyTransform
    frames = []
    for pose in poses:
        orders = [order(camera.id, carla_transform(session.api, pose))]
        session.call("moving a camera", session.client.apply_batch_sync, orders, False)
        frames.append(simulator.tick().frame)
    _settle(lambda: len(seen) >= ticks)
    lags: Counter[int] = Counter()
    worst = 0.0
    for k, frame in enumerate(frames):
        if frame in seen:
            off = [float(np.abs(seen[frame] - p).max()) for p in poses]
            nearest = int(np.argmin(off))
            lags[k - nearest] += 1
            worst = max(worst, off[nearest])
    if not lags:
        return Finding("free camera", None, "no picture of it came")
    lag = lags.most_common(1)[0][0]
    text = f"{sum(lags.values())} pictures, {lag} ticks behind, at most {worst:.1e} off"
    return Finding("free camera", lag == 0 and worst < 1e-2, text)


def check_gnss(simulator: CarlaSimulator) -> Finding:
    """The server's own GNSS sensor against where we say that it is."""
    session, place = simulator.session, _place(simulator)
    name = "sensor.other.gnss"
    if name not in session.blueprints:
        return Finding("gnss", None, f"the server has no {name}")
    pose = pose_of(place + (100, 200, 20))
    sensor = session.spawn(session.blueprint(name), carla_transform(session.api, pose))
    if sensor is None:
        return Finding("gnss", False, "the server made none")
    seen: list[FloatArray] = []
    session.call(
        "listening",
        sensor.listen,
        lambda d: seen.append(np.array([d.latitude, d.longitude, d.altitude])),
    )
    time.sleep(session.config.settle_s)
    simulator.tick()
    _settle(lambda: bool(seen))
    if not seen:
        return Finding("gnss", None, "no reading came")
    town = session.call("asking for the map", session.world.get_map)
    frame, warning = geo_frame_of(session.api, town)
    off = np.abs(frame.to_wgs84(pose[:3, 3]) - seen[0])[:2].max() * 111_000
    text = f"ours is {off:.2f} m off the server's; {warning or frame.projection}"
    return Finding("gnss", bool(off < 0.1) or "latitude" in warning, text)


def check_left_behind(before: Any, session: CarlaSession) -> Finding:
    """Whether a run gave the world back."""
    now = session.settings
    names = [n for n in dir(before) if not n.startswith("_")]
    changed = [n for n in names if getattr(before, n) != getattr(now, n, None)]
    actors = session.call("asking who is there", session.world.get_actors)
    left = [a for a in actors if str(dict(a.attributes).get("role_name", "")).startswith("doctor")]
    fine = not changed and not left
    text = "settings and actors are as before" if fine else f"changed: {changed}, left: {len(left)}"
    return Finding("restored", fine, text)


def _place(simulator: CarlaSimulator) -> FloatArray:
    """(3,) m of a place to start in this town.

    Raises:
        InputError: it has none.
    """
    session = simulator.session
    places = session.call("asking for the map", session.world.get_map).get_spawn_points()
    if not places:
        raise InputError("this town has no place to start; load another one")
    at = places[0].location
    return carla_frames.flipped(np.array([at.x, at.y, at.z]))


def _settle(done: Callable[[], bool]) -> None:
    """Wait for what the server still has to send, for ``SETTLE_S`` at most."""
    end = time.monotonic() + SETTLE_S
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
