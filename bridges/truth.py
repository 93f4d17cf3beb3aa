"""The scene exactly as it is, in the form of what stations exchange."""

import numpy as np

from bridges.actors import Snapshot
from pipeline.objects import Objects
from pipeline.pose import Pose


def true_objects(snapshot: Snapshot) -> Objects:
    """Everybody, exactly, under their true ids."""
    s, n = snapshot, len(snapshot)
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
