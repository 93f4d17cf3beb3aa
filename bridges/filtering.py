"""An agent's detections, filtered to positions and velocities with covariances.

For each target a Kalman filter with constant velocity, driven by white noise of acceleration
(Bar-Shalom, Li & Kirubarajan 2001, ch. 6.2), in the agent's frame; identities are the detections'
own. Its covariance is that of the object relative to the agent: the pose's own comes on top.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bridges.actors import Snapshot
from bridges.sight import Detections, turned
from pipeline.box import FloatArray
from pipeline.objects import VULNERABLE, Objects
from pipeline.pose import Pose

DRIVE, DRIVE_VULNERABLE = 2.0, 0.5
"""m²/s³: density of the noise of acceleration."""
START_SPEED = 8.0
"""m/s: sigma of each axis of an unknown velocity."""
COAST_S = 0.6
"""How long a target is kept without a detection."""
_HEIGHT_VARIANCE = 0.04


@dataclass(frozen=True, slots=True, eq=False)
class _Targets:
    """Sorted by id. xv: (N, 2, 2) position and velocity of x and y; pp, pv, vv: (N,) of each."""

    ids: npt.NDArray[np.int32]
    xv: FloatArray
    z: FloatArray
    pp: FloatArray
    pv: FloatArray
    vv: FloatArray
    yaws: FloatArray
    sizes: FloatArray
    classes: npt.NDArray[np.uint8]
    quality: FloatArray
    measured_ns: npt.NDArray[np.int64]

    def columns(self) -> list[npt.NDArray[np.generic]]:
        return [getattr(self, name) for name in self.__slots__]


class OwnFilter:
    """The filter of one agent; ``update`` is called once a frame, in order."""

    def __init__(self) -> None:
        self._stamp_ns = 0
        n = 0
        self._targets = _Targets(
            np.zeros(n, np.int32), np.zeros((n, 2, 2)), np.zeros(n), np.zeros(n), np.zeros(n),
            np.zeros(n), np.zeros(n), np.zeros((n, 3)), np.zeros(n, np.uint8), np.zeros(n),
            np.zeros(n, np.int64),
        )  # fmt: skip

    def update(self, seen: Detections) -> Objects:
        """All targets at the detections' moment, also those not detected this time."""
        stamp_ns = seen.pose.stamp_ns
        old = self._predicted(stamp_ns)
        fresh = _begun(seen)
        row = np.searchsorted(old.ids, seen.ids)
        known = row < len(old.ids)
        known[known] = old.ids[row[known]] == seen.ids[known]
        self._correct(old, row[known], seen, np.flatnonzero(known))
        kept = stamp_ns - old.measured_ns <= COAST_S * 1e9
        parts = [
            np.concatenate([a[kept], b[~known]])
            for a, b in zip(old.columns(), fresh.columns(), strict=True)
        ]
        order = np.argsort(parts[0], kind="stable")
        self._targets = _Targets(*[p[order] for p in parts])
        self._stamp_ns = stamp_ns
        return self._objects(stamp_ns)

    def _predicted(self, stamp_ns: int) -> _Targets:
        t = self._targets
        dt = max(stamp_ns - self._stamp_ns, 0) * 1e-9
        vulnerable = np.isin(t.classes, VULNERABLE)
        q = np.where(vulnerable, DRIVE_VULNERABLE, DRIVE)
        xv = t.xv.copy()
        xv[..., 0] += xv[..., 1] * dt
        return _Targets(
            t.ids, xv, t.z.copy(),
            t.pp + 2 * dt * t.pv + dt**2 * t.vv + q * dt**3 / 3,
            t.pv + dt * t.vv + q * dt**2 / 2,
            t.vv + q * dt,
            t.yaws.copy(), t.sizes.copy(), t.classes.copy(), t.quality.copy(), t.measured_ns.copy(),
        )  # fmt: skip

    def _correct(
        self,
        t: _Targets,
        at: npt.NDArray[np.int64],
        seen: Detections,
        of: npt.NDArray[np.int64],
    ) -> None:
        """Work detections ``of`` into rows ``at`` of ``t``, whose arrays are its own."""
        s = t.pp[at] + seen.sigmas[of] ** 2 + 1e-6
        gain_p, gain_v = t.pp[at] / s, t.pv[at] / s
        innovation = seen.positions[of, :2] - t.xv[at, :, 0]
        t.xv[at, :, 0] += gain_p[:, None] * innovation
        t.xv[at, :, 1] += gain_v[:, None] * innovation
        t.vv[at] -= gain_v * t.pv[at]
        t.pv[at] *= 1 - gain_p
        t.pp[at] *= 1 - gain_p
        t.z[at] = seen.positions[of, 2]
        turn = np.angle(np.exp(1j * (seen.yaws[of] - t.yaws[at])))
        t.yaws[at] += 0.4 * turn
        t.sizes[at] += 0.2 * (seen.sizes[of] - t.sizes[at])
        t.classes[at] = seen.classes[of]
        t.quality[at] += 0.4 * (seen.quality[of] - t.quality[at])
        t.measured_ns[at] = seen.pose.stamp_ns

    def _objects(self, stamp_ns: int) -> Objects:
        t = self._targets
        n = len(t.ids)
        covariances = np.zeros((n, 6, 6))
        for axis in (0, 1):
            covariances[:, axis, axis] = t.pp
            covariances[:, axis, axis + 3] = covariances[:, axis + 3, axis] = t.pv
            covariances[:, axis + 3, axis + 3] = t.vv
        covariances[:, 2, 2] = covariances[:, 5, 5] = _HEIGHT_VARIANCE
        return Objects(
            stamp_ns, stamp_ns, t.ids, np.zeros(n, np.uint32),
            np.column_stack([t.xv[..., 0], t.z]), np.column_stack([t.xv[..., 1], np.zeros(n)]),
            t.yaws, t.sizes, covariances, t.classes, t.quality, t.measured_ns,
        )  # fmt: skip


def _begun(seen: Detections) -> _Targets:
    """Targets of which nothing but one detection is known."""
    n = len(seen)
    xv = np.zeros((n, 2, 2))
    xv[..., 0] = seen.positions[:, :2]
    start = np.full(n, START_SPEED**2)
    measured = np.full(n, seen.pose.stamp_ns)
    return _Targets(
        seen.ids, xv, seen.positions[:, 2], seen.sigmas**2 + 1e-6, np.zeros(n), start, seen.yaws,
        seen.sizes, seen.classes, seen.quality, measured,
    )  # fmt: skip


def true_objects(snapshot: Snapshot, but: int) -> Objects:
    """Everybody but one actor, exactly, under their true ids: what an oracle would say."""
    s = snapshot.selected(snapshot.ids != but)
    n = len(s)
    return Objects(
        s.stamp_ns, s.stamp_ns, s.ids, np.zeros(n, np.uint32), s.positions, s.velocities, s.yaws,
        s.sizes, np.zeros((n, 6, 6)), s.classes, np.ones(n), np.full(n, s.stamp_ns, np.int64),
    )  # fmt: skip


def true_pose(snapshot: Snapshot, actor_id: int) -> Pose:
    """An actor's pose, exactly.

    Raises:
        InputError: no such actor now.
    """
    row = snapshot.row(actor_id)
    yaw, velocity = float(snapshot.yaws[row]), snapshot.velocities[row]
    return Pose(snapshot.stamp_ns, snapshot.positions[row], yaw, velocity)


def anchored(objects: Objects, believed: Pose, true: Pose) -> Objects:
    """The same objects relative to an agent, from where it believes to be to where it is.

    Who steers by what it sees does not notice its pose's error; it moves only what others say.
    """
    turn = true.yaw - believed.yaw
    yaws = objects.yaws + turn
    positions = turned(objects.positions - believed.position, turn) + true.position
    velocities = turned(objects.velocities, turn)
    return replace(objects, positions=positions, velocities=velocities, yaws=yaws)
