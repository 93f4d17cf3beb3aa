"""A target on flat ground, from boxes in pictures of a camera that moves: where it will be.

A box speaks for its frame's stamp, so it is cast onto the ground from where the camera was then.
What it does there is its own motion alone, whatever the camera does meanwhile; a predictor filters
it in decimeters in place of pixels.
"""

import numpy as np

from pipeline.box import FloatArray
from pipeline.tracks import TrackStatus
from prediction.make import make_predictor
from prediction.predictor import Predictor, PredictorConfig

FARTHEST_M = 400.0
UNIT_M = 0.1
"""What stands for a pixel in the predictor, which never takes a side for less than one."""
PREDICTOR = PredictorConfig(acceleration_sigma=0.5)
"""Vehicles drive more steadily than boxes move in a picture."""
_SLOPE_NS = 20_000_000


class GroundTarget:
    """Told answers in the order of their stamps. newest_ns: the last one's; None: none yet."""

    def __init__(self, config: PredictorConfig | None = None) -> None:
        """
        Raises:
            InputError: a predictor that looks at pictures.
        """
        self._predictor: Predictor = make_predictor(config or PREDICTOR)
        self.reset()

    def reset(self) -> None:
        """Forget it."""
        self._state = self._predictor.blank(1)
        self.newest_ns: int | None = None
        self._height_m = 0.0

    def take(
        self,
        stamp_ns: int,
        box: FloatArray,
        status: TrackStatus,
        pose: FloatArray,
        matrix: FloatArray,
        height_m: float,
    ) -> bool:
        """One answer; whether it could be used: False where its middle shows the sky, a side is
        less than nothing, or it is not newer than the last one.

        box: (4,) x y w h in pixels. pose: (4, 4) camera to world, x along its view, at the stamp.
        matrix: (3, 3) of the camera. height_m: of the box's middle above the ground.
        """
        found = on_ground(box, pose, matrix, height_m) if (box[2:] >= 0).all() else None
        if found is None or (self.newest_ns is not None and stamp_ns <= self.newest_ns):
            return False
        point, far = found
        side = float(np.sqrt(box[2] * box[3])) / matrix[0, 0] * far / UNIT_M
        cast = np.array([[*(point / UNIT_M - side / 2), side, side]])
        self._state = self._predictor.observe(
            self._state, np.array([stamp_ns]), cast, np.array([status], np.uint8)
        )
        self.newest_ns, self._height_m = stamp_ns, height_m
        return True

    def at(self, stamp_ns: int) -> tuple[FloatArray, FloatArray]:
        """Position (3,) m and velocity (3,) m/s at a moment, by all answers so far."""
        moments = np.array([stamp_ns, stamp_ns + _SLOPE_NS])
        boxes = self._predictor.predict(self._state, moments).boxes[0]
        points = (boxes[:, :2] + boxes[:, 2:] / 2) * UNIT_M
        velocity = (points[1] - points[0]) / (_SLOPE_NS * 1e-9)
        return np.array([*points[0], self._height_m]), np.array([*velocity, 0.0])


def on_ground(
    box: FloatArray, pose: FloatArray, matrix: FloatArray, height_m: float
) -> tuple[FloatArray, float] | None:
    """The point (2,) m that a box's middle shows at a height, and how far off it is, m.

    See ``GroundTarget.take``. None: the sky, what is above the camera, or what is too far off.
    """
    u, v = (box[:2] + box[2:] / 2 - 0.5 - matrix[:2, 2]) / (matrix[0, 0], matrix[1, 1])
    ray = pose[:3, :3] @ np.array([1.0, -u, -v])
    down = pose[2, 3] - height_m
    if ray[2] >= 0 or down <= 0:
        return None
    way = ray * (down / -ray[2])
    far = float(np.linalg.norm(way))
    return (pose[:2, 3] + way[:2], far) if far < FARTHEST_M else None
