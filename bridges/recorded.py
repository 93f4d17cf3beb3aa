"""Who is in a recording of CARLA's, and where they are between two of its frames."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridges import carla_frames
from bridges.actors import BODY
from bridges.carla_actors import class_of
from bridges.carla_log import Added, LogFrame
from bridges.fleet import FIRST_ID
from bridges.flight import rotation, rotation_vector
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass

_JUMP_M = 2.0
"""Who is as far off after one frame, and could not have driven it, was put there."""
_FASTEST = 60.0
"""m/s, of those whose speed was not recorded."""


@dataclass(frozen=True, slots=True, eq=False)
class Bodies:
    """ids: (B,) int64, rising. kinds: (B,) uint8, ``ObjectClass``. centers: (B, 3) and sizes:
    (B, 3) m, ours, in the body. heroes: (B,) bool, the recording's own vehicle."""

    ids: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    centers: FloatArray
    sizes: FloatArray
    heroes: npt.NDArray[np.bool_]

    def selected(self, rows: npt.NDArray[np.generic]) -> "Bodies":
        return Bodies(
            self.ids[rows], self.kinds[rows], self.centers[rows], self.sizes[rows],
            self.heroes[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A recorded frame in our frame: ids (N,) int64, rising, places and velocities (N, 3) of their
    origins, turns (N, 3, 3), rates (N, 3) about the world's axes; NaN: not recorded."""

    seconds: float
    ids: npt.NDArray[np.int64]
    places: FloatArray
    turns: FloatArray
    velocities: FloatArray
    rates: FloatArray


class Cast:
    """Who there is, from frame to frame."""

    def __init__(self) -> None:
        self.bodies = Bodies(
            np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros((0, 3)), np.zeros((0, 3)),
            np.zeros(0, bool),
        )  # fmt: skip

    def take(self, frame: LogFrame) -> State:
        """Who comes, and where everybody is; who goes stays known until ``forget``."""
        self._enter(frame.added)
        row = rows_of(self.bodies.ids, frame.box_ids)
        self.bodies.centers[row[row >= 0]] = carla_frames.flipped(frame.centers[row >= 0])
        self.bodies.sizes[row[row >= 0]] = frame.sizes[row >= 0]
        order = np.argsort(frame.ids, kind="stable")
        order = order[rows_of(self.bodies.ids, frame.ids[order]) >= 0]
        ids = frame.ids[order].astype(np.int64)
        velocities, rates = np.full((2, len(ids), 3), np.nan)
        row = rows_of(ids, frame.moving)
        velocities[row[row >= 0]] = frame.velocities[row >= 0]
        rates[row[row >= 0]] = frame.rates[row >= 0]
        return State(
            frame.seconds, ids, carla_frames.flipped(frame.locations[order]),
            carla_frames.rotations(frame.rotators[order]), carla_frames.flipped(velocities),
            carla_frames.turn_rates(rates, carla_frames.AXIAL, degrees=True),
        )  # fmt: skip

    def forget(self, gone: tuple[int, ...]) -> None:
        if gone:
            self._drop(np.unique(gone))

    def _enter(self, added: tuple[Added, ...]) -> None:
        come = {}
        for actor in added:
            kind = class_of(actor.blueprint, actor.attributes)
            if kind is not None and 0 < actor.actor_id < FIRST_ID:
                come[actor.actor_id] = kind, actor.attributes.get("role_name") == "hero"
        if not come:
            return
        new = np.array([*come], np.int64)
        self._drop(new)
        old = self.bodies
        sizes = np.array([BODY.get(kind, BODY[ObjectClass.CAR]) for kind, _ in come.values()])
        centers = np.zeros((len(come), 3))
        centers[:, 2] = sizes[:, 2] / 2
        kinds = np.array([kind for kind, _ in come.values()], np.uint8)
        heroes = np.array([hero for _, hero in come.values()], bool)
        ids = np.concatenate([old.ids, new])
        self.bodies = Bodies(
            ids, np.concatenate([old.kinds, kinds]), np.concatenate([old.centers, centers]),
            np.concatenate([old.sizes, sizes]), np.concatenate([old.heroes, heroes]),
        ).selected(np.argsort(ids, kind="stable"))  # fmt: skip

    def _drop(self, ids: npt.NDArray[np.int64]) -> None:
        row = rows_of(self.bodies.ids, ids)
        if (row >= 0).any():
            self.bodies = self.bodies.selected(
                np.delete(np.arange(len(self.bodies.ids)), row[row >= 0])
            )


def rows_of(ids: npt.NDArray[np.integer], wanted: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """(W,) rows of the wanted ids among rising ones; -1: not there."""
    if not len(ids):
        return np.full(len(wanted), -1)
    row = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[row] == wanted, row, -1)


def between(
    a: State, b: State, ids: npt.NDArray[np.int64], share: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Places, turns, velocities and rates of actors, ``share`` of the way from a to b.

    Each is in one of them at least. Who is in one only, or was put elsewhere, stays.
    """
    i, j = rows_of(a.ids, ids), rows_of(b.ids, ids)
    here = i >= 0
    made = tuple(np.zeros((len(ids), *of.shape[1:])) for of in _values(a))
    for found, of_a, of_b in zip(made, _values(a), _values(b), strict=True):
        found[here], found[~here] = of_a[i[here]], of_b[j[~here]]
    if a is not b:
        both = np.flatnonzero(here & (j >= 0))
        moves, way = _moved(a, b, i[both], j[both], share)
        for found, value in zip(made, way, strict=True):
            found[both[moves]] = value
    places, turns, velocities, rates = made
    return places, turns, np.nan_to_num(velocities), np.nan_to_num(rates)


def _values(state: State) -> tuple[FloatArray, ...]:
    return state.places, state.turns, state.velocities, state.rates


def _moved(
    a: State, b: State, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], share: float
) -> tuple[npt.NDArray[np.bool_], tuple[FloatArray, ...]]:
    """Which of rows i of a moved on to rows j of b, and where those are in between."""
    span = b.seconds - a.seconds
    change = b.places[j] - a.places[i]
    steady = change / span
    first = np.where(np.isfinite(a.velocities[i]), a.velocities[i], steady)
    second = np.where(np.isfinite(b.velocities[j]), b.velocities[j], steady)
    far, *speeds = (np.linalg.norm(v, axis=1) for v in (change, first, second))
    said = np.isfinite(a.velocities[i]).all(axis=1)
    farthest = np.where(said, 3 * np.maximum(np.maximum(*speeds), 1.0), _FASTEST) * span
    moves = (far <= _JUMP_M) | (far <= farthest)
    i, j, first, second = i[moves], j[moves], first[moves], second[moves]
    turned = rotation_vector(a.turns[i].transpose(0, 2, 1) @ b.turns[j])
    steady = (a.turns[i] @ turned[..., None])[..., 0] / span
    begin, end = (np.where(np.isfinite(r), r, steady) for r in (a.rates[i], b.rates[j]))
    return moves, (
        a.places[i] + share * change[moves], a.turns[i] @ rotation(share * turned),
        first + share * (second - first), begin + share * (end - begin),
    )  # fmt: skip
