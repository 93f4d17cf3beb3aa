"""What odometry says of a sensor that is fixed to whoever carries it."""

import numpy as np

from bridges.simulator import Moment, Odometry, Sensor
from pipeline.box import FloatArray


def odometry_of(sensor: Sensor, moment: Moment) -> Odometry:
    """Of a sensor on an actor's body; rates that are not known count as none.

    Raises:
        InputError: the parent is not in the moment.
    """
    row = moment.actors.row(sensor.parent)
    return odometry_at(
        sensor.mount, moment.poses[row], moment.actors.velocities[row],
        np.nan_to_num(moment.rates[row]),
    )  # fmt: skip


def odometry_at(
    mount: FloatArray, carrier: FloatArray, velocity: FloatArray, rates: FloatArray
) -> Odometry:
    """Of a sensor at ``mount`` (4, 4) on a carrier, which turns it along.

    carrier: (4, 4) to world. velocity: (3,) m/s of its origin, in the world. rates: (3,) rad/s in
    its own axes.
    """
    pose = carrier @ mount
    swing = carrier[:3, :3] @ np.cross(rates, mount[:3, 3])
    return Odometry(pose, pose[:3, :3].T @ (velocity + swing), mount[:3, :3].T @ rates)
