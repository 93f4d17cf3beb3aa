"""The motion of M targets, or of the background at their places, as a predictor has seen it.

A walk begins at zero and adds up strides, frame by frame; the predictor observes where it got to.
What was known at each kept frame stays, so that a late answer lets it be walked again.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from prediction.path import Indices
from prediction.predictor import Predictor, StatusArray, join, select


class Walk:
    """Strides in, where they lead to out. Strides and places: x_center, y_center, ln w, ln h."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._places = [np.empty((0, 4))]
        self._states = [predictor.blank(0)]

    def __len__(self) -> int:
        """Frames kept."""
        return len(self._places)

    def extend(self, stamp_ns: int, stride: FloatArray, status: StatusArray, memory: int) -> None:
        """One frame more; stride: (M, 4). The oldest beyond ``memory`` is forgotten."""
        place = self._places[-1] + stride
        state = self._observed(self._states[-1], stamp_ns, place, status)
        self._places = [*self._places[1 - memory :], place]
        self._states = [*self._states[1 - memory :], state]

    def add(self, at: int, stamp_ns: int, sides: FloatArray, status: StatusArray) -> None:
        """New ones that begin at frame ``at``; sides: (m, 2), ln. Walk them ``again`` from the next
        frame on."""
        place = np.concatenate([np.zeros_like(sides), sides], axis=1)
        blank = self._predictor.blank(len(place))
        self._places = [np.concatenate([old, place]) for old in self._places]
        first = self._observed(blank, stamp_ns, place, status)
        self._states = [
            join(old, first if k == at else blank) for k, old in enumerate(self._states)
        ]

    def again(
        self, at: int, rows: Indices, stamp_ns: int, stride: FloatArray, status: StatusArray
    ) -> None:
        """Let the predictor observe frame ``at`` anew for some; stride: (len(rows), 4)."""
        place = self._places[at - 1][rows] + stride
        self._places[at][rows] = place
        state = self._observed(select(self._states[at - 1], rows), stamp_ns, place, status)
        self._put(at, rows, state)

    def restart(self, stamp_ns: int, rows: Indices, sides: FloatArray, status: StatusArray) -> None:
        """Begin some anew at the oldest kept frame. Walk them ``again`` from the next one on."""
        self._places[0][rows, 2:] = sides
        place = self._places[0][rows]
        first = self._observed(self._predictor.blank(len(rows)), stamp_ns, place, status)
        self._put(0, rows, first)

    def sides(self, rows: Indices) -> FloatArray:
        """(n, 2), ln: what some have grown to by now."""
        return self._places[-1][rows, 2:]

    def keep(self, rows: Indices) -> None:
        """Go on with some."""
        self._places = [place[rows] for place in self._places]
        self._states = [select(state, rows) for state in self._states]

    def ahead(self, valid_at_ns: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """How each goes on from the newest frame: (M, m, 4), and its variance in pixels²."""
        found = self._predictor.predict(self._states[-1], valid_at_ns)
        sides, place = found.boxes[..., 2:], self._places[-1][:, None]
        to = np.concatenate([found.boxes[..., :2] + sides / 2, np.log(sides)], axis=-1)
        return to - place, found.variances

    def _put(self, at: int, rows: Indices, state: Any) -> None:
        order = np.arange(len(self._places[at]))
        order[rows] = len(order) + np.arange(len(rows))
        self._states[at] = select(join(self._states[at], state), order)

    def _observed(self, before: Any, stamp_ns: int, place: FloatArray, status: StatusArray) -> Any:
        sides = np.exp(place[:, 2:])
        boxes = np.concatenate([place[:, :2] - sides / 2, sides], axis=1)
        return self._predictor.observe(before, np.full(len(place), stamp_ns), boxes, status)
