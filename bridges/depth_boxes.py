"""The truth of a picture where its depth is known: boxes round bodies, and how much is hidden.

A box goes round the projection of a body's cuboid, hidden parts as well, cut off at the picture's
edges. Visibility is over points on the cuboid's surface (``view.surfaces``): a point counts where
the depth there is not less than its own, so nothing is in front of the body. What is drawn of a
body lies within its cuboid.
"""

import numpy as np
import numpy.typing as npt

from bridges.simulator import Moment, SeenBoxes, Sensor
from bridges.view import Rows, boxes_of, surfaces
from pipeline.box import FloatArray

RANGE_M = 400.0
_SLACK_M, _SLACK = 0.1, 0.01
"""Of depth, and its share: bodies are drawn to 5 cm, and a pixel covers a piece of a slope."""


def boxes_in(
    moment: Moment, pose: FloatArray, sensor: Sensor, depth: npt.NDArray[np.float32]
) -> SeenBoxes:
    """Who is in a picture taken from ``pose`` (4, 4), x along the view; depth: (H, W) m.

    Who carries the sensor is not listed, nor who is seen by less than a tenth.
    """

    def shares(rows: Rows) -> FloatArray:
        pixels, far, weights = surfaces(moment, rows, pose, sensor)
        seen = depth[pixels[..., 1], pixels[..., 0]] >= far * (1 - _SLACK) - _SLACK_M
        found: FloatArray = (weights * seen).sum(axis=1)
        return found

    return boxes_of(moment, pose, sensor, shares, RANGE_M)
