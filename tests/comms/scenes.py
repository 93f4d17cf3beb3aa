"""Plain objects, poses, peers and stations of which tests know everything."""

import numpy as np

from comms.config import V2xConfig
from comms.envelope import Body, ClockQuality, Content, Envelope, Layer
from comms.gate import Gate
from comms.peers import Peer
from comms.request import Plan, Sight
from comms.station import Station
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose
from tests.comms.made import NOW


def things(
    positions,
    velocities=(0.0, 0.0, 0.0),
    kind=ObjectClass.CAR,
    ids=None,
    stamp_ns=NOW,
    sigma_m=0.2,
    sigma_ms=0.3,
    quality=0.95,
    size=None,
    yaw=0.0,
    station=0,
    measured_ns=None,
):
    """Objects at (N, 2) or (N, 3) positions; what is given once holds for all."""
    at = np.atleast_2d(np.asarray(positions, float)).reshape(len(positions), -1)
    at = np.hstack([at, np.zeros((len(at), 3 - at.shape[1]))])
    n = len(at)
    v = np.zeros((n, 3))
    given = np.asarray(velocities, float)
    v[:, : given.shape[-1]] = given
    kinds = np.broadcast_to(np.asarray(kind, np.uint8), n).copy()
    if size is None:
        size = np.where(kinds[:, None] == ObjectClass.PERSON, (0.6, 0.6, 1.7), (4.5, 1.8, 1.5))
    variances = np.array([sigma_m**2] * 3 + [sigma_ms**2] * 3)
    return Objects(
        stamp_ns=stamp_ns,
        ready_ns=stamp_ns,
        ids=np.arange(1, n + 1, dtype=np.int32) if ids is None else np.asarray(ids, np.int32),
        stations=np.full(n, station, np.uint32),
        positions=at,
        velocities=v,
        yaws=np.broadcast_to(np.asarray(yaw, float), n).copy(),
        sizes=np.broadcast_to(np.asarray(size, float), (n, 3)).copy(),
        covariances=np.broadcast_to(np.diag(variances), (n, 6, 6)).copy(),
        classes=kinds,
        quality=np.broadcast_to(np.asarray(quality, float), n).copy(),
        measured_ns=np.full(n, stamp_ns if measured_ns is None else measured_ns),
    )


def at(
    position=(0.0, 0.0, 0.0), yaw=0.0, stamp_ns=NOW, velocity=(0.0, 0.0, 0.0), sigmas=(0.0, 0.0)
):
    """A pose; sigmas: of the place, m, and of the yaw, rad."""
    p = np.zeros(3)
    p[: len(position)] = position
    m, rad = sigmas
    covariance = np.diag([m**2, m**2, m**2, rad**2])
    return Pose(stamp_ns, p, yaw, np.asarray(velocity, float), covariance)


def view(free_m, center=(0.0, 0.0), sectors=36):
    """A view that is free as far all round, or as (S,) say."""
    return Sight(np.asarray(center, float), np.broadcast_to(free_m, sectors).astype(float).copy())


def straight(to=(100.0, 0.0), start=(0.0, 0.0), seconds=5.0, stamp_ns=NOW, points=11, width_m=3.0):
    """A plan along a line at constant speed."""
    times = np.linspace(0, seconds, points)
    share = (times / seconds)[:, None]
    path = np.asarray(start, float) * (1 - share) + np.asarray(to, float) * share
    return Plan(stamp_ns, times, path, width_m)


def envelope_of(station=7, sequence=1, pose=None, clock=ClockQuality.GNSS, payload=b"", **fields):
    pose = at() if pose is None else pose
    given = {
        "ttl_ms": 3000, "layer": Layer.OBJECTS, "content": Content.COMPACT,
        "body": Body(ObjectClass.CAR, 4.5, 1.8, 1.5), **fields,
    }  # fmt: skip
    return Envelope(
        station, sequence, pose.stamp_ns, pose=pose, clock=clock, payload=payload, **given
    )


def peer_of(objects, station=7, pose=None, clock=ClockQuality.GNSS):
    """One that told of these objects at their moment."""
    pose = at(stamp_ns=objects.stamp_ns) if pose is None else pose
    peer = Peer(station)
    envelope = envelope_of(station, pose=pose, clock=clock)
    peer.hear(envelope, objects.stamp_ns)
    told = objects.derived(stations=np.full(len(objects), station, np.uint32))
    peer.put(envelope, told)
    return peer


def seen_by(bias, objects, origin):
    """Objects as a vehicle at ``origin`` tells of them, whose pose is off: bias (dx, dy, yaw) is
    what must be added to come back."""
    dx, dy, turn = -np.asarray(bias, float)
    c, s = np.cos(turn), np.sin(turn)
    R = np.array([[c, -s], [s, c]])
    p, v = objects.positions.copy(), objects.velocities.copy()
    p[:, :2] = (p[:, :2] - origin) @ R.T + origin + [dx, dy]
    v[:, :2] = v[:, :2] @ R.T
    return objects.derived(positions=p, velocities=v)


def station(number=1, signer=None, verifier=None, max_rate_hz=1000.0, **options):
    """A station, with room for many messages a second."""
    config = V2xConfig(station=number, **options)
    gate = Gate(
        number, config.frame_id, verifier, config.max_future_ms, config.ttl_ms,
        max_rate_hz=max_rate_hz,
    )  # fmt: skip
    return Station(config, gate, signer, clock=ClockQuality.GNSS)
