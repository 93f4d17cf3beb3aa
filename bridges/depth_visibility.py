"""How much of a body is hidden, by a depth picture taken from where it is looked at."""

import numpy as np
import numpy.typing as npt

from bridges.actors import Snapshot
from bridges.simulator import Sensor
from bridges.view import project
from bridges.visibility import Observer
from pipeline.box import FloatArray

_SIDE = np.linspace(-0.45, 0.45, 5)
_LATTICE = np.stack(np.meshgrid(_SIDE, _SIDE, _SIDE), axis=-1).reshape(-1, 3)
_NEAREST = 0.2
_SLACK_M, _SLACK = 0.3, 0.01


class DepthVisibility:
    """Visibility by depth: a point of a body is hidden where something nearer than the whole body
    was seen in its direction.

    meters: (H, W) float32 along the view. pose: (4, 4) of the sensor that took it.
    """

    def __init__(self, meters: npt.NDArray[np.float32], pose: FloatArray, sensor: Sensor) -> None:
        self._meters, self._pose, self._sensor = meters, pose, sensor

    def shares(self, observer: Observer, snapshot: Snapshot) -> FloatArray:
        """(N,) share of each body's part in the picture that is not hidden; 0: none in it."""
        found = np.zeros(len(snapshot))
        away = np.linalg.norm(snapshot.positions - observer.position, axis=1)
        for row in np.flatnonzero(away <= observer.range_m):
            if snapshot.ids[row] != observer.own_id:
                found[row] = self._share(snapshot, int(row))
        return found

    def _share(self, snapshot: Snapshot, row: int) -> float:
        points = _LATTICE * snapshot.sizes[row]
        c, s = np.cos(snapshot.yaws[row]), np.sin(snapshot.yaws[row])
        turned = points @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        pixels, depth = project(turned + snapshot.positions[row], self._pose, self._sensor)
        with np.errstate(invalid="ignore"):
            at = np.floor(pixels + 0.5)
        height, width = self._meters.shape
        inside = (depth > _NEAREST) & (at >= 0).all(axis=1)
        inside &= (at[:, 0] < width) & (at[:, 1] < height)
        if not inside.any():
            return 0.0
        columns, rows = at[inside].astype(np.intp).T
        nearest = float(depth[inside].min())
        seen = self._meters[rows, columns] >= nearest * (1 - _SLACK) - _SLACK_M
        return float(seen.mean())
