"""Sensors of the fake CARLA: each speaks on a thread of its own, rightly or not."""

import queue
import threading
import time
from types import SimpleNamespace

import numpy as np

from tests.bridges.fake_carla_values import Vector3D

_CAMERA = {"image_size_x": "800", "image_size_y": "600", "fov": "90.0"}
SENSORS = {
    "sensor.camera.rgb": _CAMERA,
    "sensor.camera.depth": _CAMERA,
    "sensor.lidar.ray_cast": {
        "channels": "32", "range": "10.0", "points_per_second": "56000", "rotation_frequency": "10",
    },
    "sensor.other.imu": {},
    "sensor.other.gnss": {},
    "sensor.other.v2x": {},
    "sensor.other.v2x_custom": {},
}  # fmt: skip


class Data(SimpleNamespace):
    """What a callback is given; events are gone through message by message."""

    def __iter__(self):
        return iter(self.messages)


class FakeSensor:
    def __init__(self, server, actor_id, blueprint, transform, parent):
        self._server, self.id, self.type_id, self.parent = server, actor_id, blueprint.id, parent
        self.attributes, self.is_alive = dict(blueprint.values), True
        self.relative = self.transform = transform
        self._callback, self._queue = None, queue.Queue()
        self._before = None

    def get_transform(self):
        if self.parent is None:
            return self.transform
        return self.relative.on(self.parent.get_transform())

    def get_velocity(self):
        return Vector3D()

    def get_angular_velocity(self):
        return Vector3D()

    def listen(self, callback):
        self._server.answer()
        self._callback = callback
        threading.Thread(target=self._speak, daemon=True).start()

    def stop(self):
        if not self.is_alive:
            raise RuntimeError("trying to operate on a destroyed actor")
        self.end()

    def end(self):
        if self._callback is not None:
            self._queue.put(None)
        self._callback = None

    def read(self, frame, elapsed, dt):
        """The server's side of one tick."""
        f = self._server.faults
        if self._callback is None or any(name in self.type_id for name in f.silent):
            return
        if f.drop[0] and f.drop[0] in self.type_id and frame % f.drop[1] == 0:
            return
        if f.wrong_frame[0] and f.wrong_frame[0] in self.type_id:
            frame += f.wrong_frame[1]
        self._queue.put((frame, elapsed, dt, self.get_transform(), self._motion()))

    def _motion(self):
        if self.parent is None:
            return np.zeros(3), np.zeros(3), True
        falls = self.parent.get_transform().location.z > 1.0
        return self.parent.velocity.copy(), self.parent.rates.copy(), not falls

    def _speak(self):
        while True:
            job = self._queue.get()
            callback = self._callback
            if job is None or callback is None:
                return
            f = self._server.faults
            if f.late[0] and f.late[0] in self.type_id:
                time.sleep(f.late[1])
            frame, elapsed, dt, transform, motion = job
            data = Data(frame=frame, timestamp=elapsed, transform=transform)
            self._fill(data, transform, motion, dt)
            if any(name in self.type_id for name in f.garbled):
                data.raw_data = b"nonsense"
                data.accelerometer = Vector3D(float("nan"), 0, 0)
            callback(data)

    def _fill(self, data, transform, motion, dt):
        if "camera" in self.type_id:
            self._shoot(data, transform)
        elif "lidar" in self.type_id:
            points = round(float(self.attributes["points_per_second"]) * dt)
            rows = np.zeros((points, 4), np.float32)
            rows[:, 0], rows[:, 3] = np.linspace(1, 5, points), 0.5
            data.raw_data = memoryview(rows.tobytes())
        elif "imu" in self.type_id:
            velocity, rates, stands = motion
            turn = transform.turn()
            w = turn.T @ np.radians(rates)
            force = np.cross(np.radians(rates), velocity) + (0, 0, 9.81) if stands else np.zeros(3)
            data.accelerometer = Vector3D(*(turn.T @ force))
            data.gyroscope = Vector3D(*(w * self._server.faults.gyro_signs))
        elif "gnss" in self.type_id:
            data.__dict__.update(
                vars(self._server.map.transform_to_geolocation(transform.location))
            )
        elif "v2x" in self.type_id:
            header = {"Protocol Version": 1, "Message ID": "CUSTOM", "Station ID": 21}
            said = {"Header": header, "Message": "hello"}
            if "custom" not in self.type_id:
                said = {"Header": header, "High Frequency": {"Heading": 90.0}}
            message = SimpleNamespace(power=-61.5, get=lambda: {"Power": -61.5, "Message": said})
            data.messages = [message]

    def _shoot(self, data, transform):
        width, height = (int(self.attributes[f"image_size_{a}"]) for a in "xy")
        focal = width / (2 * np.tan(np.radians(float(self.attributes["fov"])) / 2))
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        right, up = (u - (width - 1) / 2) / focal, -(v - (height - 1) / 2) / focal
        rays = np.stack([np.ones_like(right), right, up], axis=-1) @ transform.turn().T
        at = transform.location
        with np.errstate(divide="ignore"):
            depth = np.where(rays[..., 2] < 0, at.z / -np.minimum(rays[..., 2], -1e-9), 1e9)
        bgra = np.zeros((height, width, 4), np.uint8)
        if "depth" in self.type_id:
            whole = np.minimum(depth / 1000.0, 1.0) * (2**24 - 1)
            whole = whole.astype(np.uint32)
            for channel, shift in ((2, 0), (1, 8), (0, 16)):
                bgra[..., channel] = whole >> shift & 255
        else:
            ground = rays * np.minimum(depth, 1e4)[..., None] + (at.x, at.y, at.z)
            tiles = np.floor(ground[..., 0] / 4) + np.floor(ground[..., 1] / 4)
            bgra[..., :3] = np.where(tiles % 2, 200, 90)[..., None]
            bgra[depth > 1e4] = (255, 180, 120, 255)
        data.width, data.height, data.fov = width, height, float(self.attributes["fov"])
        data.raw_data = memoryview(bgra.tobytes())
