"""A CARLA server and its client library in memory, faulty on demand.

Written from CARLA's public documentation of its Python API: the names, the units (meters, degrees,
degrees/s), the left-handed frame, what is raised. ``FakeCarla`` stands for the module; what it
computes shares no code with the bridge. Its world: a flat checkered ground, cars on a circle, a man
on foot, and whatever is spawned. A server keeps a real TCP port open while it lives.
"""

import copy
import socket
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from tests.bridges.fake_carla_sensors import SENSORS, FakeSensor
from tests.bridges.fake_carla_values import (
    BoundingBox,
    Location,
    Rotation,
    Transform,
    Vector3D,
    angles_of,
    turn_by,
)

FIRST_FRAME = 4711
GRAVITY = 9.81


@dataclass
class Faults:
    """What goes wrong. frames: absolute; sensors: by a part of their blueprint's name.

    die_at, hang_at: the server's port closes, or stays open but nobody answers, from that frame on.
    vanish: actors that are gone from a frame on. extra_ticks: of another client before each of
    ours. reload_at: another client loads the world anew. silent, garbled: sensors that never speak,
    or speak nonsense. drop: (name, n): silent on every n-th frame. late: (name, seconds).
    wrong_frame: (name, difference). bad_pose: actors whose place is no number.
    refuse_spawn: blueprints for which there is never room.
    """

    die_at: int | None = None
    hang_at: int | None = None
    vanish: dict = field(default_factory=dict)
    extra_ticks: int = 0
    reload_at: int | None = None
    silent: tuple = ()
    garbled: tuple = ()
    drop: tuple = ("", 1)
    late: tuple = ("", 0.0)
    wrong_frame: tuple = ("", 0)
    bad_pose: tuple = ()
    refuse_spawn: tuple = ()
    gyro_signs: tuple = (1, 1, 1)


class FakeSettings:
    def __init__(self):
        self.synchronous_mode = False
        self.no_rendering_mode = False
        self.fixed_delta_seconds = None
        self.substepping = True
        self.max_substep_delta_time = 0.01
        self.max_substeps = 10
        self.deterministic_ragdolls = False


class FakeBlueprint:
    def __init__(self, name, **attributes):
        self.id, self.values, self.tags = name, attributes, name.split(".")

    def has_attribute(self, name):
        return name in self.values

    def set_attribute(self, name, value):
        assert isinstance(value, str)
        self.values[name] = value

    def get_attribute(self, name):
        return SimpleNamespace(id=name, recommended_values=["0", "1.5", "3.0"])


class FakeLibrary(list):
    def find(self, name):
        for blueprint in self:
            if blueprint.id == name:
                return copy.deepcopy(blueprint)
        raise IndexError(f"blueprint '{name}' not found")


def library(v2x):
    role = {"role_name": "autopilot"}
    made = [
        FakeBlueprint("vehicle.lincoln.mkz_2020", number_of_wheels="4", base_type="car", **role),
        FakeBlueprint("vehicle.yamaha.yzf", number_of_wheels="2", base_type="motorcycle", **role),
        FakeBlueprint("walker.pedestrian.0001", is_invincible="true", speed="1.5", **role),
        FakeBlueprint("controller.ai.walker", **role),
        FakeBlueprint("static.prop.chair", **role),
    ]
    for name, attributes in SENSORS.items():
        if v2x or "v2x" not in name:
            made.append(FakeBlueprint(name, sensor_tick="0.0", **attributes, **role))
    return FakeLibrary(made)


class FakeActor:
    """An actor. rates: Vector3D in degrees/s about the world's axes."""

    def __init__(self, server, actor_id, blueprint, transform, parent=None):
        self._server, self.id, self.type_id, self.parent = server, actor_id, blueprint.id, parent
        self.attributes = dict(blueprint.values)
        self.relative, self.transform = transform, transform
        self.velocity, self.rates = np.zeros(3), np.zeros(3)
        self.control, self.circle, self.is_alive = None, None, True
        person = blueprint.id.startswith("walker.")
        extent = (0.25, 0.3, 0.9) if person else (2.4, 1.0, 0.75)
        center = (0, 0, 0) if person else (0.05, 0, 0.72)
        self.bounding_box = BoundingBox(Location(*center), Vector3D(*extent))

    def get_transform(self):
        return self.transform

    def get_velocity(self):
        return Vector3D(*self.velocity)

    def get_angular_velocity(self):
        return Vector3D(*self.rates)

    def set_target_angular_velocity(self, rates):
        self._server.answer()
        self.rates = np.array([rates.x, rates.y, rates.z])

    def destroy(self):
        self._server.answer()
        return self._server.destroy(self.id)

    def start(self):
        self._server.answer()

    def go_to_location(self, place):
        self._server.answer()

    def set_max_speed(self, speed):
        self._server.answer()

    def move(self, t, dt):
        """One step of a physics that is simple but keeps places, speeds and attitudes agreed."""
        at, turn = self.transform.location, self.transform.rotation
        place = np.array([at.x, at.y, at.z])
        if self.circle is not None:
            radius, speed, phase = self.circle
            angle = phase + speed / radius * t
            place = np.array([31 + radius * np.cos(angle), radius * np.sin(angle), 0.0])
            self.velocity = speed * np.array([-np.sin(angle), np.cos(angle), 0.0])
            self.rates = np.array([0, 0, np.degrees(speed / radius)])
            turn = Rotation(0.0, np.degrees(angle) + 90.0, 0.0)
        elif self.type_id.startswith("walker."):
            if self.control is not None:
                ahead = self.control.direction
                self.velocity = self.control.speed * np.array([ahead.x, ahead.y, ahead.z])
            place = place + self.velocity * dt
        elif self.type_id.startswith("vehicle.") and place[2] > 1.0:  # it falls, and tumbles
            place = place + self.velocity * dt - (0, 0, GRAVITY * dt * dt / 2)
            self.velocity = self.velocity - (0, 0, GRAVITY * dt)
            turn = angles_of(turn_by(np.radians(self.rates) * dt) @ self.transform.turn())
        elif self.type_id.startswith("vehicle."):
            c = self.control or SimpleNamespace(throttle=0, steer=0, brake=0, reverse=False)
            ahead = self.transform.turn()[:, 0]
            speed = float(ahead @ self.velocity)
            push = 3 * c.throttle * (-1 if c.reverse else 1)
            speed += (push - np.sign(speed) * 8 * c.brake) * dt
            self.rates = np.array([0, 0, 8.0 * c.steer * speed])
            turn = Rotation(0.0, turn.yaw + self.rates[2] * dt, 0.0)
            self.velocity = speed * Transform(Location(), turn).turn()[:, 0]
            place = np.array([*(place + self.velocity * dt)[:2], 0.0])
        self.transform = Transform(Location(*place), turn)


class FakeServer:
    """The server's side. applied: settings that clients set, in order; commands: of batches."""

    def __init__(self, faults, version, v2x, cars):
        self.faults, self.version, self.town = faults, version, "Town10HD_Opt"
        self.maps = ["/Game/Carla/Maps/Town01", "/Game/Carla/Maps/Town10HD_Opt"]
        self.library = library(v2x)
        self.settings, self.applied = FakeSettings(), []
        self.actors, self.next_id, self.episode = {}, 20, 1
        self.frame, self.elapsed = FIRST_FRAME, 12.5
        self.ticked, self.lock = threading.Condition(), threading.RLock()
        self.timeout, self.hangs, self.asked = 2.0, False, 0
        self.map = FakeMap()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self._stop = threading.Event()
        self.add(FakeBlueprint("spectator"), Transform())
        for k in range(cars):
            name, role = ("vehicle.lincoln.mkz_2020", "hero" if k == 0 else "autopilot")
            car = self.add(FakeBlueprint(name, role_name=role, base_type="car"), Transform())
            car.circle = (18.0, 7.0, 2.0 * k)
        man = self.add(FakeBlueprint("walker.pedestrian.0001"), Transform(Location(30, 3, 0.9)))
        man.velocity = np.array([0.0, -1.2, 0.0])
        self.record()

    def answer(self):
        """What every call of a client waits for."""
        if self.hangs:
            time.sleep(self.timeout)
            raise RuntimeError(
                f"time-out of {round(self.timeout * 1000)}ms while waiting for the simulator, make "
                f"sure the simulator is ready and connected to 127.0.0.1:{self.port}"
            )

    def add(self, blueprint, transform, parent=None):
        with self.lock:
            kind = FakeSensor if blueprint.id.startswith("sensor.") else FakeActor
            actor = kind(self, self.next_id, blueprint, transform, parent)
            self.actors[actor.id] = actor
            self.next_id += 1
            return actor

    def destroy(self, actor_id):
        with self.lock:
            actor = self.actors.pop(actor_id, None)
            if actor is None:
                return False
            actor.is_alive = False
            if hasattr(actor, "end"):
                actor.end()
            return True

    def record(self):
        rows = []
        for a in self.actors.values():
            place = a.get_transform()
            if a.id in self.faults.bad_pose:
                place = Transform(Location(float("nan"), 0, 0), Rotation())
            rows.append(FakeActorSnapshot(a.id, place, a.get_velocity(), a.get_angular_velocity()))
        stamp = SimpleNamespace(
            frame=self.frame, elapsed_seconds=self.elapsed, delta_seconds=0.05,
            platform_timestamp=time.monotonic(),
        )  # fmt: skip
        self.snapshot = FakeSnapshot(self.frame, stamp, rows, self.episode)

    def step(self):
        with self.lock:
            dt = self.settings.fixed_delta_seconds or 0.04
            self.frame, self.elapsed = self.frame + 1, self.elapsed + dt
            for actor_id, frame in self.faults.vanish.items():
                if self.frame >= frame:
                    self.destroy(actor_id)
            if self.frame == self.faults.reload_at:
                self.frame, self.elapsed, self.episode = 3, 0.1, 2
            for actor in [*self.actors.values()]:
                if isinstance(actor, FakeActor):
                    actor.move(self.elapsed, dt)
            self.record()
            for actor in [*self.actors.values()]:
                if isinstance(actor, FakeSensor):
                    actor.read(self.frame, self.elapsed, dt)
            self.hangs |= self.frame == self.faults.hang_at
            if self.frame == self.faults.die_at:
                self.die()
        with self.ticked:
            self.ticked.notify_all()

    def die(self):
        self.hangs = True
        self.socket.close()

    def run(self, period_s=0.02):
        """Tick by itself, as a server in asynchronous mode does."""

        def go():
            while not self._stop.wait(period_s) and not self.hangs:
                if not self.settings.synchronous_mode:
                    self.step()

        threading.Thread(target=go, daemon=True).start()

    def end(self):
        self._stop.set()
        for actor_id in [*self.actors]:
            self.destroy(actor_id)
        self.socket.close()

    @property
    def foreign(self):
        """Types of what lives here that no one but clients made."""
        return sorted(a.type_id for a in self.actors.values() if a.id >= 25)


class FakeActorSnapshot:
    def __init__(self, actor_id, *state):
        self.id, self._state = actor_id, state

    def get_transform(self):
        return self._state[0]

    def get_velocity(self):
        return self._state[1]

    def get_angular_velocity(self):
        return self._state[2]


class FakeSnapshot(list):
    def __init__(self, frame, timestamp, rows, episode):
        super().__init__(rows)
        self.frame, self.timestamp, self.id = frame, timestamp, episode


class FakeMap:
    name = "Carla/Maps/Town10HD_Opt"

    def get_spawn_points(self):
        return [Transform(Location(-60.0, 8.0 * k, 0.0)) for k in range(6)]

    def transform_to_geolocation(self, location):
        """Of servers up to 0.9.15: Mercator on a sphere, y to the south."""
        scale = 6378137.0 * np.cos(np.radians(48.0))
        east = scale * np.radians(11.0) + location.x
        north = scale * np.log(np.tan(np.radians(45.0 + 24.0))) - location.y
        latitude = np.degrees(2 * np.arctan(np.exp(north / scale))) - 90.0
        return SimpleNamespace(
            latitude=latitude, longitude=np.degrees(east / scale), altitude=location.z + 2.0
        )


class FakeWorld:
    def __init__(self, server):
        self._server = server
        self.id = server.episode

    def get_settings(self):
        self._server.answer()
        return copy.copy(self._server.settings)

    def apply_settings(self, settings, seconds=0.0):
        self._server.answer()
        self._server.applied.append(copy.copy(settings))
        self._server.settings = copy.copy(settings)
        return self._server.frame

    def tick(self, seconds=0.0):
        self._server.answer()
        for _ in range(1 + self._server.faults.extra_ticks):
            self._server.step()
        self._server.answer()
        return self._server.frame

    def wait_for_tick(self, seconds=0.0):
        self._server.answer()
        with self._server.ticked:
            if not self._server.ticked.wait(seconds or self._server.timeout):
                raise RuntimeError(
                    f"time-out of {round(seconds * 1000)}ms while waiting for the simulator, make "
                    f"sure the simulator is ready and connected to 127.0.0.1:{self._server.port}"
                )
        return self._server.snapshot

    def get_snapshot(self):
        return self._server.snapshot

    def get_map(self):
        self._server.answer()
        return self._server.map

    def get_actors(self, ids=None):
        self._server.answer()
        with self._server.lock:
            found = [*self._server.actors.values()]
        return found if ids is None else [a for a in found if a.id in ids]

    def get_blueprint_library(self):
        self._server.answer()
        return self._server.library

    def get_random_location_from_navigation(self):
        self._server.answer()
        self._server.asked += 1
        return Location(-20.0, 4.0 * self._server.asked, 0.9)

    def try_spawn_actor(self, blueprint, transform, attach_to=None):
        self._server.answer()
        if any(name in blueprint.id for name in self._server.faults.refuse_spawn):
            return None
        if blueprint.id.startswith(("vehicle.", "walker.")):
            for other in self._server.actors.values():
                if other.type_id.startswith(("vehicle.", "walker.")):
                    a, b = other.get_transform().location, transform.location
                    if max(abs(a.x - b.x), abs(a.y - b.y), abs(a.z - b.z)) < 3.0:
                        return None
        return self._server.add(blueprint, transform, attach_to)


class FakeTrafficManager:
    def __init__(self):
        self.synchronous = []

    def set_synchronous_mode(self, on):
        self.synchronous.append(on)

    def set_random_device_seed(self, seed):
        self.seed = seed


class FakeClient:
    def __init__(self, server, version, host, port, worker_threads=0):
        self._server, self._version = server, version
        assert port == server.port

    def set_timeout(self, seconds):
        self._server.timeout = seconds

    def get_client_version(self):
        return self._version

    def get_server_version(self):
        self._server.answer()
        return self._server.version

    def get_world(self):
        self._server.answer()
        return FakeWorld(self._server)

    def get_available_maps(self):
        self._server.answer()
        return self._server.maps

    def load_world(self, name, reset_settings=True):
        self._server.answer()
        if not any(m.endswith("/" + name) for m in self._server.maps):
            raise RuntimeError("map not found")
        self._server.town, self._server.settings = name, FakeSettings()
        return FakeWorld(self._server)

    def get_trafficmanager(self, port=8000):
        self._server.answer()
        self._server.manager = FakeTrafficManager()
        return self._server.manager

    def apply_batch_sync(self, commands, do_tick=False):
        self._server.answer()
        return [command.run(self._server) for command in commands]


class Response:
    def __init__(self, actor_id, error=""):
        self.actor_id, self.error = actor_id, error

    def has_error(self):
        return bool(self.error)


class Command:
    def __init__(self, actor, value=None):
        self.actor_id, self.value = getattr(actor, "id", actor), value

    def run(self, server):
        actor = server.actors.get(self.actor_id)
        if actor is None:
            return Response(self.actor_id, f"unable to find actor {self.actor_id}")
        self.obey(server, actor)
        return Response(self.actor_id)


class ApplyTransform(Command):
    def obey(self, server, actor):
        actor.transform = actor.relative = self.value


class ApplyControl(Command):
    def obey(self, server, actor):
        actor.control = self.value


class DestroyActor(Command):
    def obey(self, server, actor):
        server.destroy(actor.id)


class SpawnActor(Command):
    def __init__(self, blueprint, transform, parent=None):
        self.made, self.following = (blueprint, transform, parent), []

    def then(self, command):
        self.following.append(command)
        return self

    def run(self, server):
        actor = FakeWorld(server).try_spawn_actor(*self.made)
        return Response(0, "no room") if actor is None else Response(actor.id)


class FakeCarla:
    """Stands for the ``carla`` module. version: of server and library, or (server, library)."""

    Transform, Location, Rotation, Vector3D = Transform, Location, Rotation, Vector3D

    def __init__(self, faults=None, version="0.9.15", v2x=False, cars=3):
        server, client = version if isinstance(version, tuple) else (version, version)
        self.server = FakeServer(faults or Faults(), server, v2x, cars)
        self.Client = lambda *address: FakeClient(self.server, client, *address)
        self.command = SimpleNamespace(
            ApplyTransform=ApplyTransform, ApplyVehicleControl=ApplyControl,
            ApplyWalkerControl=ApplyControl, DestroyActor=DestroyActor, SpawnActor=SpawnActor,
            SetAutopilot=lambda *a: a, FutureActor=object(),
        )  # fmt: skip
        self.VehicleControl = lambda **v: SimpleNamespace(**v)
        self.WalkerControl = lambda **v: SimpleNamespace(**v)
