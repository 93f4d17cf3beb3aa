"""A list of objects that grows and gets surer, station by station, in arrays of its own."""

from typing import Any

import numpy as np
import numpy.typing as npt

from comms.motion import driven
from pipeline.box import FloatArray
from pipeline.objects import ARRAYS, Objects

OWN = 0
"""This station, among sources."""
PULL = 4.0
"""Squared deviations, by our own estimate, over which nobody moves what we see ourselves."""
SURER = 0.25
"""Share of our variance below which another station's state is worth the mixing."""
SOON_S = 0.5

Rows = npt.NDArray[np.intp]


class Merged:
    """Own objects, and what others told so far, which changes in place.

    sources: of each object, the stations that contributed.
    """

    def __init__(self, own: Objects, room: int) -> None:
        """room: for so many that others tell of."""
        self._arrays = {name: _with_room(getattr(own, name), room) for name in ARRAYS}
        self._spread = _with_room(spread(own), room)
        self._own = own
        self.sources = [[OWN] for _ in range(len(own))]

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def objects(self) -> Objects:
        """As they are now; they change with the next ``add`` or ``refine``."""
        n = len(self)
        return self._own.derived(**{name: array[:n] for name, array in self._arrays.items()})

    def add(
        self, part: Objects, spreads: FloatArray, rows: Rows, station: int, share: float
    ) -> None:
        """New ones, rows of what a station tells. share: of their quality that is believed."""
        start, end = len(self), len(self) + len(rows)
        for name, array in self._arrays.items():
            array[start:end] = getattr(part, name)[rows]
        self._arrays["quality"][start:end] *= share
        self._spread[start:end] = spreads[rows]
        self.sources += [[station] for _ in range(len(rows))]

    def refine(
        self,
        rows: Rows,
        part: Objects,
        spreads: FloatArray,
        other: Rows,
        station: int,
        trust: float,
    ) -> None:
        """Some by what a station tells of the same objects, as rows ``other``: their existence, and
        their states where the station is clearly surer of them. spreads: of all it tells."""
        of = self._arrays
        of["quality"][rows] = 1 - (1 - of["quality"][rows]) * (1 - trust * part.quality[other])
        measured_ns = np.minimum(part.measured_ns[other], self._own.stamp_ns)
        of["measured_ns"][rows] = np.maximum(of["measured_ns"][rows], measured_ns)
        yaws, sizes = of["yaws"][rows], of["sizes"][rows]
        of["yaws"][rows] = np.where(np.isnan(yaws), part.yaws[other], yaws)
        of["sizes"][rows] = np.where(sizes > 0, sizes, part.sizes[other])
        for row in rows.tolist():
            self.sources[row].append(station)
        surer = spreads[other] < SURER * self._spread[rows]
        if surer.any():
            self._mix(rows[surer], part.selected(other[surer]), trust)

    def _mix(self, rows: Rows, theirs: Objects, trust: float) -> None:
        """States by those of which a station is surer, unless it pulls what is ours too far."""
        of = self._arrays
        pull = ((theirs.positions - of["positions"][rows])[:, :2] ** 2).sum(axis=1)
        P = of["covariances"][rows]
        others = of["stations"][rows] != OWN
        near = others | (pull < PULL * (P[:, 0, 0] + P[:, 1, 1]) / 2)
        if not near.all():
            rows, theirs, P, others = rows[near], theirs.selected(near), P[near], others[near]
        state, covariance = intersected(
            np.hstack([of["positions"][rows], of["velocities"][rows]]), P,
            np.hstack([theirs.positions, theirs.velocities]), theirs.covariances / trust,
        )  # fmt: skip
        of["positions"][rows], of["velocities"][rows] = state[:, :3], state[:, 3:]
        of["covariances"][rows] = covariance
        for name in ("stations", "ids"):
            of[name][rows] = np.where(others, getattr(theirs, name), of[name][rows])
        self._spread[rows] = spread_of(covariance, of["classes"][rows], state[:, 3:])


def _with_room(array: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    out = np.empty((len(array) + room, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


def spread(objects: Objects) -> FloatArray:
    """(N,) m², of the place on the ground in ``SOON_S``: it counts the velocity's, too."""
    return spread_of(objects.covariances, objects.classes, objects.velocities)


def spread_of(P: FloatArray, classes: npt.NDArray[np.uint8], velocities: FloatArray) -> FloatArray:
    """The same of (N, 6, 6) covariances, (N,) classes and (N, 3) velocities."""
    t = SOON_S
    soon = P[:, 0, 0] + P[:, 1, 1] + t * t * (P[:, 3, 3] + P[:, 4, 4])
    soon += 2 * t * (P[:, 0, 3] + P[:, 1, 4])
    soon += 2 * driven(classes, velocities) * t**3 / 3
    return np.asarray(soon)


def intersected(
    first: FloatArray, P: FloatArray, second: FloatArray, Q: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Covariance intersection of M pairs: states (M, d) and covariances (M, d, d).

    The weight is the one of the traces of the place: ω = tr Q / (tr P + tr Q).
    """
    p = np.trace(P[:, :3, :3], axis1=1, axis2=2)
    q = np.trace(Q[:, :3, :3], axis1=1, axis2=2)
    omega = (q / np.maximum(p + q, 1e-12))[:, None, None]
    one, two = omega * _inverse(P), (1 - omega) * _inverse(Q)
    covariance = _inverse(one + two)
    state = covariance @ (one @ first[..., None] + two @ second[..., None])
    return state[..., 0], covariance


def _inverse(P: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(P + 1e-9 * np.eye(P.shape[-1])))
