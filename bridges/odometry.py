"""What odometry says of any actor of a moment."""

import numpy as np

from bridges.simulator import Moment, Odometry, Sensor


def odometry_of(sensor: Sensor, moment: Moment) -> Odometry:
    """Of a sensor that is fixed to its parent; rates that are not known count as none.

    Raises:
        InputError: the parent is not in the moment.
    """
    row = moment.actors.row(sensor.parent)
    body = moment.poses[row]
    turn, rates = body[:3, :3], np.nan_to_num(moment.rates[row])
    pose = body @ sensor.mount
    swing = np.cross(rates, sensor.mount[:3, 3])
    velocity = pose[:3, :3].T @ (moment.actors.velocities[row] + turn @ swing)
    return Odometry(pose, velocity, sensor.mount[:3, :3].T @ rates)
