"""Made objects, poses and a public key infrastructure for the tests of V2X."""

from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from comms.certificates import Certificate, issue, point_of
from comms.envelope import Body, ClockQuality, Content, Envelope, Layer
from comms.signing import Credentials, Signer, TrustStore, Verifier
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

S = 1_000_000_000
MS = 1_000_000
NOW = 1_800_000_000 * S


def covariances(rng, n, d, scale=1.0):
    """(n, d, d) random ones of full rank and uneven axes."""
    a = rng.normal(size=(n, d, d)) * scale * np.exp(rng.normal(size=(n, d, 1)))
    return a @ a.swapaxes(1, 2)


def pose(rng, stamp_ns=NOW, reach_m=2000.0):
    return Pose(
        stamp_ns,
        rng.uniform(-reach_m, reach_m, 3),
        rng.uniform(-9, 9),
        rng.uniform(-40, 40, 3),
        covariances(rng, 1, 4, 0.3)[0],
    )


def objects(rng, n, around=(0.0, 0.0, 0.0), stamp_ns=NOW, reach_m=150.0):
    """n of them, a third without a yaw and a third without sizes."""
    yaws = np.where(rng.random(n) < 0.3, np.nan, rng.uniform(-9, 9, n))
    sizes = np.where(rng.random((n, 1)) < 0.3, 0, rng.uniform(0.2, 18, (n, 3)))
    return Objects(
        stamp_ns=stamp_ns,
        ready_ns=stamp_ns,
        ids=rng.permutation(30_000)[:n].astype(np.int32),
        stations=np.zeros(n, np.uint32),
        positions=rng.uniform(-reach_m, reach_m, (n, 3)) + around,
        velocities=rng.uniform(-60, 60, (n, 3)),
        yaws=yaws,
        sizes=sizes,
        covariances=covariances(rng, n, 6, 0.4),
        classes=rng.integers(0, 10, n).astype(np.uint8),
        quality=rng.random(n),
        measured_ns=stamp_ns - rng.integers(0, 1500 * MS, n),
    )


def envelope(rng, payload=b"payload", station=7, sequence=1, capture_ns=NOW, **fields):
    given = {
        "ttl_ms": 500,
        "pose": pose(rng, capture_ns),
        "clock": ClockQuality.GNSS,
        "layer": Layer.OBJECTS,
        "content": Content.COMPACT,
        "body": Body(ObjectClass.CAR, 4.5, 1.8, 1.5),
        **fields,
    }
    return Envelope(station, sequence, capture_ns, payload=payload, **given)


@dataclass
class Pki:
    """A root valid for a day round NOW, and what it signs."""

    key: ec.EllipticCurvePrivateKey
    root: Certificate

    def credentials(self, station=7, from_s=None, until_s=None, layers=Layer):
        key = ec.generate_private_key(ec.SECP256R1())
        from_s = NOW // S - 3600 if from_s is None else from_s
        until_s = NOW // S + 3600 if until_s is None else until_s
        point = point_of(key.public_key())
        return Credentials(issue(self.key, self.root, point, station, from_s, until_s, layers), key)

    def signer(self, station=7, **fields):
        return Signer(self.credentials(station, **fields))

    def verifier(self, revoked=()):
        return Verifier(TrustStore(self.root, frozenset(c.digest for c in revoked)))


def pki():
    key = ec.generate_private_key(ec.SECP256R1())
    now_s = NOW // S
    root = issue(key, None, point_of(key.public_key()), 0, now_s - 43_200, now_s + 43_200, ())
    return Pki(key, root)


def filtered_covariances(rng, n):
    """(n, 6, 6) such as a Kalman filter's: in its own axes one position and one velocity each."""
    p = np.zeros((n, 6, 6))
    angle = rng.uniform(0, np.pi, n)
    for k in range(3):
        spread = rng.uniform(0.1, 0.5, n) ** 2 if k < 2 else np.full(n, 0.04)
        p[:, k, k], p[:, k + 3, k + 3] = spread, 0.9 * spread
        p[:, k, k + 3] = p[:, k + 3, k] = 0.6 * spread
    turn = np.tile(np.eye(6), (n, 1, 1))
    for x, y in ((0, 1), (3, 4)):
        turn[:, x, x] = turn[:, y, y] = np.cos(angle)
        turn[:, y, x], turn[:, x, y] = np.sin(angle), -np.sin(angle)
    return turn @ p @ turn.swapaxes(1, 2)
