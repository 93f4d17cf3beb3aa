"""Writes files as CARLA's recorder does, for tests: right ones, and wrong ones byte by byte."""

import struct

import numpy as np

from bridges.carla_log import MAGIC


def text(value):
    data = value.encode()
    return struct.pack("<H", len(data)) + data


def header(version=1, town="Town99", date=1_700_000_000):
    return struct.pack("<HH", version, len(MAGIC)) + MAGIC + struct.pack("<q", date) + text(town)


def packet(kind, data=b"", size=None):
    return struct.pack("<BI", kind, len(data) if size is None else size) + data


def records(kind, form, rows, count=None):
    rows = list(rows)
    head = struct.pack("<H", len(rows) if count is None else count)
    return packet(kind, head + b"".join(struct.pack(form, *row) for row in rows))


def added(actors):
    """actors: id, type, blueprint, attributes."""
    body = struct.pack("<H", len(actors))
    for actor_id, kind, blueprint, attributes in actors:
        body += struct.pack("<IB6fI", actor_id, kind, *np.zeros(6), 7) + text(blueprint)
        body += struct.pack("<H", len(attributes))
        for name, value in attributes.items():
            body += b"\x03" + text(name) + text(value)
    return packet(2, body)


def frame(number, seconds, *packets, dt=-1.0):
    begin = packet(0, struct.pack("<Qdd", number, dt, seconds))
    return begin + b"".join(packets) + packet(1)


def positions(rows):
    """id, x, y, z in m of CARLA, roll, pitch, yaw in degrees."""
    return records(6, "<I6f", ((i, *(100 * v for v in p), *a) for i, p, a in rows))


def vacant(count):
    """Positions of as many actors, all at the origin."""
    rows = np.zeros(count, [("id", "<u4"), ("values", "<f4", 6)])
    rows["id"] = np.arange(1, count + 1)
    return packet(6, struct.pack("<H", count) + rows.tobytes())


def kinematics(rows):
    return records(12, "<I6f", ((i, *v, *w) for i, v, w in rows))


def boxes(rows):
    """id, center and half a side in m."""
    return records(13, "<I6f", ((i, *(100 * v for v in (*c, *e))) for i, c, e in rows))


CARS = (31, 32, 40)
WALKER = 50
RADIUS, SPEED = 20.0, 8.0


def circling(t, car):
    """Place, yaw in degrees, velocity, rate in degrees/s of a car, in CARLA's frame, clockwise."""
    turn = SPEED / RADIUS
    angle = turn * t + CARS.index(car) * 2.0
    place = np.array([35 + RADIUS * np.cos(angle), RADIUS * np.sin(angle), 0.1])
    velocity = SPEED * np.array([-np.sin(angle), np.cos(angle), 0.0])
    return place, np.degrees(angle + np.pi / 2), velocity, np.degrees(turn)


def round_trip(seconds=10.0, seed=0):
    """A recording: three cars on a circle, a man on foot, a traffic light, a camera without box."""
    rng = np.random.default_rng(seed)
    out, t, number = [header()], 0.0, 1
    while t < seconds:
        places, kinds, parts = [], [], []
        for car in CARS:
            place, yaw, velocity, rate = circling(t, car)
            places.append((car, place, (0, 0, yaw)))
            kinds.append((car, velocity, (0, 0, rate)))
        places.append((WALKER, (30.0, 5 - 1.2 * t, 0.9), (0, 0, -90)))
        places.append((2, (1.0, 2.0, 3.0), (0, 0, 0)))
        places.append((60, (1.0, 2.0, 30.0), (0, 0, 0)))
        if number == 1:
            parts.append(
                added(
                    [
                        (2, 3, "traffic.traffic_light", {}),
                        (31, 1, "vehicle.lincoln.mkz_2017", {"role_name": "hero"}),
                        (32, 1, "vehicle.kawasaki.ninja", {"number_of_wheels": "2"}),
                        (40, 1, "vehicle.carlamotors.firetruck", {"number_of_wheels": "4"}),
                        (WALKER, 2, "walker.pedestrian.0001", {}),
                        (60, 0, "sensor.camera.rgb", {"role_name": "front"}),
                    ]
                )
            )
            nan = float("nan")
            extents = [(31, (0.1, 0, 0.75), (2.45, 1.05, 0.75)), (60, (nan,) * 3, (nan,) * 3)]
            parts.append(boxes(extents))
        parts += [packet(3, b"\0\0"), packet(4, b"\0\0"), packet(5, b"\0\0")]
        parts += [positions(places), kinematics(kinds)]
        parts.append(records(7, "<IBfB", [(2, 0, t, 1)]))
        parts.append(records(8, "<IfffBi", [(31, 0.1, 0.5, 0.0, 0, 2)]))
        parts.append(records(9, "<If", [(WALKER, 1.2)]))
        parts.append(packet(14, struct.pack("<d", t)))
        parts.append(packet(77, b"of a later version"))
        dt = float(rng.uniform(0.012, 0.09))
        out.append(frame(number, t, *parts, dt=dt))
        t, number = t + dt, number + 1
    return b"".join(out)
