"""The fake CARLA server on CARLA's own wire, so that the real library talks to it.

Calls come as MessagePack-RPC over TCP, with answers that are values or errors; worlds and sensors
stream on a second port: a client names a stream, then gets sizes and messages. What they hold was
found out with the library of 0.9.16 at hand.
"""

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgpack
import numpy as np

from tests.bridges.fake_carla import (
    FakeBlueprint,
    FakeServer,
    FakeSettings,
    FakeWorld,
    Faults,
)
from tests.bridges.fake_carla_values import Location, Rotation, Transform, Vector3D
from tests.bridges.test_carla_frames import ROAD

LIBRARY = "0.9.16"
"""Whose numbers these are."""
WORLD = 1
STREAMS = {"world": 17, "depth": 1, "rgb": 13, "imu": 5, "gnss": 4, "lidar": 11, "v2x": 21}
"""Numbers of the kinds of messages."""
SETTINGS = (
    "synchronous_mode", "no_rendering_mode", "fixed_delta_seconds", "substepping",
    "max_substep_delta_time", "max_substeps", "max_culling_distance", "deterministic_ragdolls",
    "tile_stream_distance", "actor_active_distance", "spectator_as_ego",
)  # fmt: skip
UNSET = {
    "max_culling_distance": 0.0, "tile_stream_distance": 3000.0, "actor_active_distance": 2000.0,
    "spectator_as_ego": True,
}  # fmt: skip
SPAWN, DESTROY, DRIVE, WALK, PLACE = 0, 1, 2, 4, 5


def value(answer):
    return [[1, answer]]


def error(text):
    return [[0, [text]]]


NOTHING = [[False]]


def vector(v):
    return [v.x, v.y, v.z]


def transform_of(row):
    return Transform(Location(*row[0]), Rotation(*row[1]))


class WireServer(FakeServer):
    """A ``FakeServer`` behind two ports; ``port`` is the first, for calls."""

    def __init__(self, faults, version=LIBRARY, cars=3):
        self._subscribers, self._sockets, self._managers = {}, [], {}
        super().__init__(faults, version, True, cars)
        self._streams = socket.create_server(("127.0.0.1", 0))
        self.unknown = []
        for listener, serve in ((self.socket, self._serve), (self._streams, self._subscribe)):
            threading.Thread(target=self._accept, args=(listener, serve), daemon=True).start()

    def step(self):
        super().step()
        self._send(WORLD, self._state())

    def die(self):
        super().die()
        for each in (self._streams, *self._sockets):
            each.close()

    def end(self):
        super().end()
        for each in (self._streams, *self._sockets):
            each.close()

    def _accept(self, listener, serve):
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.append(one)
            threading.Thread(target=serve, args=(one,), daemon=True).start()

    def _serve(self, one):
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        try:
            while data := one.recv(1 << 16):
                unpacker.feed(data)
                for kind, *rest in unpacker:
                    number, name, arguments = rest if kind == 0 else (None, *rest)
                    self._wait()
                    answer = self._call(name, arguments[1:])
                    self._wait()
                    if kind == 0:
                        one.sendall(msgpack.packb([1, number, None, answer]))
        except OSError:
            pass

    def _wait(self):
        while self.hangs:
            time.sleep(0.02)

    def _call(self, name, arguments):
        handler = getattr(self, "on_" + name, None)
        if handler is None:
            self.unknown.append(name)
            return error(f"no {name} here")
        return handler(*arguments)

    def _subscribe(self, one):
        try:
            (stream,) = struct.unpack("<I", one.recv(4))
        except (OSError, struct.error):
            return
        self._subscribers.setdefault(stream, []).append(one)
        actor = self.actors.get(stream)
        if stream != WORLD and actor is not None:
            actor.listen(lambda data: self._send(stream, _message(actor, data)))

    def _send(self, stream, message):
        for one in [*self._subscribers.get(stream, ())]:
            try:
                one.sendall(struct.pack("<I", len(message)) + message)
            except OSError:
                self._subscribers[stream].remove(one)

    def _state(self):
        found = self.snapshot
        out = [_head("world", found.frame, found.timestamp.elapsed_seconds, Transform())]
        out.append(struct.pack("<Qdf3ii", found.id, time.monotonic(), 0.05, 0, 0, 0, 0))
        for actor in found:
            place, v, w = (
                actor.get_transform(), actor.get_velocity(), actor.get_angular_velocity(),
            )  # fmt: skip
            at, turn = place.location, place.rotation
            out.append(
                struct.pack(
                    "<IB6f3f3f3f54x", actor.id, 2, at.x, at.y, at.z, turn.pitch, turn.yaw,
                    turn.roll, *vector(v), *vector(w), 0, 0, 0,
                )
            )  # fmt: skip
        return b"".join(out)

    def _token(self, stream):
        head = struct.pack("<IHBB", stream, self._streams.getsockname()[1], 1, 1)
        return head + bytes((127, 0, 0, 1)) + bytes(12)

    def _actor(self, actor):
        attributes = [[k, 3, v] for k, v in actor.attributes.items()]
        sensor = actor.type_id.startswith("sensor.")
        parent = getattr(actor.parent, "id", 0)
        token = self._token(actor.id) if sensor else b""
        return [actor.id, parent, [1, actor.type_id, attributes], self._box(actor), b"", token]

    def _box(self, actor):
        if not hasattr(actor, "bounding_box"):
            return [[0.0] * 3, [0.0] * 3, [0.0] * 3]
        box = actor.bounding_box
        return [vector(box.location), vector(box.extent), [0.0] * 3]

    def on_version(self):
        return value(self.version)

    def on_get_episode_info(self):
        return value([self.episode, [self._token(WORLD)]])

    def on_get_sensor_token(self, stream):
        return value([self._token(stream)])

    def on_get_episode_settings(self):
        rows = [getattr(self.settings, n, UNSET.get(n)) for n in SETTINGS]
        fixed = rows[2]
        rows[2] = [False] if not fixed else [True, fixed]
        return value(rows)

    def on_set_episode_settings(self, rows):
        made = FakeSettings()
        for name, given in zip(SETTINGS, rows, strict=False):
            setattr(made, name, given)
        made.fixed_delta_seconds = rows[2][1] if rows[2][0] else None
        self.applied.append(made)
        self.settings = made
        return value(self.frame)

    def on_get_actor_definitions(self):
        found = []
        for k, b in enumerate(self.library):
            rows = [[n, 3, v, [v], True, False] for n, v in b.values.items()]
            found.append([k, b.id, b.id.replace(".", ","), rows])
        return value(found)

    def on_get_actors_by_id(self, ids):
        with self.lock:
            return value([self._actor(self.actors[i]) for i in ids if i in self.actors])

    def on_get_available_maps(self):
        return value(self.maps)

    def on_get_map_info(self):
        places = [[vector(p.location), [0.0, 0.0, 0.0]] for p in self.map.get_spawn_points()]
        return value(["Carla/Maps/Town10HD_Opt", places])

    def on_get_map_data(self):
        return value(ROAD.format(lat=48.0, lon=11.0))

    def on_get_required_files(self, *_):
        return value([])

    def on_query_lights_state(self, *_):
        return value([])

    def on_get_actor_bounding_box(self, actor_id):
        if actor_id not in self.actors:
            return error("Actor could not be found in the registry")
        return value(self._box(self.actors[actor_id]))

    def on_is_traffic_manager_running(self, port):
        return value(port in self._managers)

    def on_get_traffic_manager_running(self, port):
        return value(self._managers[port])

    def on_add_traffic_manager_running(self, address):
        self._managers[address[1]] = address
        return value(True)

    def on_destroy_traffic_manager(self, port):
        return value(self._managers.pop(port, None) is not None)

    def on_reset_all_traffic_lights(self):
        return NOTHING

    def on_get_vehicle_light_states(self):
        return value([])

    def on_set_actor_simulate_physics(self, actor_id, on):
        return NOTHING

    def on_get_physics_control(self, actor_id):
        return error("no physics here")

    def on_get_weather_parameters(self):
        return value([0.0] * 14)

    def on_tick_cue(self):
        for _ in range(1 + self.faults.extra_ticks):
            self.step()
        return value(self.frame)

    def _spawn(self, description, place, parent=None):
        _, name, attributes = description
        blueprint = FakeBlueprint(name, **{n: v for n, _, v in attributes})
        made = FakeWorld(self).try_spawn_actor(blueprint, transform_of(place), parent)
        if made is None:
            return error("Spawn failed because of collision at spawn position")
        return value(self._actor(made))

    def on_spawn_actor(self, description, place):
        return self._spawn(description, place)

    def on_spawn_actor_with_parent(self, description, place, parent, *_):
        return self._spawn(description, place, self.actors[parent])

    def on_destroy_actor(self, actor_id):
        return NOTHING if self.destroy(actor_id) else [[True, ["no such actor"]]]

    def on_apply_batch(self, commands, do_tick):
        return [self._obey(*command[0]) for command in commands]

    def _obey(self, kind, row):
        if kind == SPAWN:
            made = self._spawn(row[0], row[1])
            return value(made[0][1][0]) if made[0][0] else made
        actor = self.actors.get(row[0])
        if actor is None:
            return error(f"unable to find actor {row[0]}")
        if kind == DESTROY:
            self.destroy(row[0])
        elif kind == PLACE or (len(row) == 2 and len(row[1]) == 2):
            actor.transform = actor.relative = transform_of(row[1])
        elif actor.type_id.startswith("vehicle."):
            names = ("throttle", "steer", "brake", "hand_brake", "reverse")
            actor.control = type("Control", (), dict(zip(names, row[1], strict=False)))
        else:
            ahead, speed = Vector3D(*row[1][0]), row[1][1]
            actor.control = type("Control", (), {"direction": ahead, "speed": speed})
        return value(row[0])

    def on_set_actor_target_angular_velocity(self, actor_id, rates):
        self.actors[actor_id].rates = np.array(rates)
        return NOTHING


def _head(kind, frame, elapsed, place):
    at, turn = place.location, place.rotation
    return struct.pack(
        "<QQd6f", STREAMS[kind], frame, elapsed, at.x, at.y, at.z, turn.pitch, turn.yaw, turn.roll
    )


def _message(actor, data):
    kind = next(k for k in STREAMS if k in actor.type_id)
    head = _head(kind, data.frame, data.timestamp, data.transform)
    if kind in ("rgb", "depth"):
        return head + struct.pack("<IIf", data.width, data.height, data.fov) + bytes(data.raw_data)
    if kind == "lidar":
        raw = bytes(data.raw_data)
        return head + struct.pack("<fII", 6.28, 1, len(raw) // 16) + raw
    if kind == "v2x":
        text = b"hello".ljust(100, b"\0")
        return head + b"".join(
            struct.pack("<f4xqqq100s4x", m.power, 1, 0, 21, text) for m in data.messages
        )
    if kind == "imu":
        rows = [vector(data.accelerometer), vector(data.gyroscope), 0.0]
    else:
        rows = [data.latitude, data.longitude, data.altitude]
    return head + msgpack.packb(rows)


class Wire:
    """A ``WireServer`` in a process of its own: the library keeps Python's lock while it waits, so
    one in the same process could not answer. Use it as a context."""

    def __init__(self, cars=3, **faults):
        told = json.dumps({"cars": cars, "faults": faults})
        command = [sys.executable, "-m", "tests.bridges.wire_carla", told]
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.port = int(self._process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()

    def ask(self, what):
        """status: of the server, as a dictionary; or hang, wake, die."""
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def main(told):
    told = json.loads(told)
    server = WireServer(Faults(**told["faults"]), cars=told["cars"])
    server.run()
    print(server.port, flush=True)
    for line in sys.stdin:
        if line.strip() == "die":
            server.die()
        elif line.strip() in ("hang", "wake"):
            server.hangs = line.strip() == "hang"
        now = server.settings
        status = {
            "synchronous": now.synchronous_mode, "fixed": now.fixed_delta_seconds,
            "foreign": server.foreign, "unknown": server.unknown, "frame": server.frame,
        }  # fmt: skip
        print(json.dumps(status), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
