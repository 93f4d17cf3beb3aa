"""What an observer can see among vehicles and houses: lines of sight in three dimensions.

An actor's share of visibility is the share of twelve points, spread evenly through its body, that
a straight line from the eye reaches without passing through a house or another body. Heights
count: a UAV looks over cars but not through houses. Every blocker is a prism over a convex outline
of at most four corners; a line is cut off at its six half-spaces (Cyrus & Beck 1978). Pairs of
line and prism that are too far apart to meet are left out beforehand.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridges.actors import Building, Snapshot
from bridges.footprints import area, convex_parts, corners
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

EYE_M = 1.8
"""Height of a sensor on a car's roof."""
_POINTS = np.stack(
    np.meshgrid([-1 / 3, 0, 1 / 3], [-1 / 4, 1 / 4], [-1 / 4, 1 / 4], indexing="ij"), axis=-1
).reshape(-1, 3)
"""Of a body's length, width and height."""
_BLIND_M = 3.0
"""Ground hidden behind something over a shorter stretch hides nobody."""
_RAYS = 3
"""To a sector."""
MAX_SECTORS = 720


@dataclass(frozen=True, slots=True, eq=False)
class Observer:
    """An eye at ``position`` (3,) m that sees ``range_m`` far.

    yaw, fov_deg: the horizontal field of view and its middle. cone_deg: how far from straight
    down it sees, 180: everywhere. own_id: the body that carries it, which hides nothing; 0: none.
    """

    position: FloatArray
    range_m: float
    yaw: float = 0.0
    fov_deg: float = 360.0
    cone_deg: float = 180.0
    own_id: int = 0

    def __post_init__(self) -> None:
        if self.position.shape != (3,) or not np.isfinite([*self.position, self.yaw]).all():
            raise InputError("Observer: give position as 3 finite numbers, and a finite yaw")
        if not 0 < self.range_m <= 1e4:
            raise InputError(f"Observer.range_m {self.range_m:g}: allowed is over 0 to 10000")


def observer_of(snapshot: Snapshot, actor_id: int, range_m: float = 80.0) -> Observer:
    """The eye of an actor: on its roof, all round; a UAV looks down, 60 degrees to every side.

    Raises:
        InputError: no such actor now.
    """
    row = snapshot.row(actor_id)
    position = snapshot.positions[row].copy()
    if snapshot.classes[row] == ObjectClass.UAV:
        return Observer(position, max(range_m, 2 * position[2]), cone_deg=60.0, own_id=actor_id)
    position[2] = max(EYE_M, snapshot.sizes[row, 2] + 0.1)
    return Observer(position, range_m, float(snapshot.yaws[row]), own_id=actor_id)


@dataclass(frozen=True, slots=True, eq=False)
class _Prisms:
    """M blockers: inside is where ``normals`` (M, 4, 2) · p ≤ ``offsets`` (M, 4), and z from
    bottom to top (M,). middles (M, 2), radii (M,) of a circle round the outline."""

    normals: FloatArray
    offsets: FloatArray
    bottoms: FloatArray
    tops: FloatArray
    middles: FloatArray
    radii: FloatArray

    def selected(self, rows: npt.NDArray[np.generic]) -> "_Prisms":
        return _Prisms(
            self.normals[rows], self.offsets[rows], self.bottoms[rows], self.tops[rows],
            self.middles[rows], self.radii[rows],
        )  # fmt: skip

    def within(self, observer: Observer) -> npt.NDArray[np.int64]:
        """Rows of those that stand within the observer's range."""
        away = np.linalg.norm(self.middles - observer.position[:2], axis=1) - self.radii
        return np.flatnonzero(away <= observer.range_m)


def _prisms(outlines: FloatArray, bottoms: FloatArray, tops: FloatArray) -> _Prisms:
    """From convex counter-clockwise outlines (M, 4, 2); a triangle repeats its last corner."""
    sides = np.roll(outlines, -1, axis=1) - outlines
    normals = np.stack([sides[..., 1], -sides[..., 0]], axis=-1)
    nothing = (normals == 0).all(-1)
    offsets = np.where(nothing, 1.0, (normals * outlines).sum(-1))
    middles = outlines.mean(axis=1)
    radii = np.linalg.norm(outlines - middles[:, None], axis=2).max(axis=1)
    return _Prisms(normals, offsets, bottoms, tops, middles, radii)


class Visibility:
    """Lines of sight between the given houses."""

    def __init__(self, buildings: tuple[Building, ...]) -> None:
        parts = [(p, b.height) for b in buildings for p in convex_parts(b.footprint)]
        outlines = [np.concatenate([p, p[-1:]])[:4] for p, _ in parts if area(p) > 0]
        heights = np.array([h for _, h in parts])
        outline = np.array(outlines).reshape(-1, 4, 2)
        self._houses = _prisms(outline, np.zeros(len(heights)), heights)

    def shares(self, observer: Observer, snapshot: Snapshot) -> FloatArray:
        """(N,) how much of each actor is seen, 0 to 1; 0 of the observer's own body."""
        eye, shares = observer.position, np.zeros(len(snapshot))
        rel = snapshot.positions - eye
        distance = np.linalg.norm(rel, axis=1)
        bearing = np.arctan2(rel[:, 1], rel[:, 0]) - observer.yaw
        bearing = np.abs((bearing + np.pi) % (2 * np.pi) - np.pi)
        down = -rel[:, 2] >= np.cos(np.radians(observer.cone_deg)) * distance - 1e-9
        looked = (distance <= observer.range_m) & (snapshot.ids != observer.own_id) & down
        looked &= bearing <= np.radians(observer.fov_deg) / 2 + 1e-9
        rows = np.flatnonzero(looked)
        if not len(rows):
            return shares
        blockers, who = self._blockers(observer, snapshot)
        shares[rows] = 1 - _hidden(eye, snapshot.selected(rows), rows, blockers, who)
        return shares

    def free_space(self, observer: Observer, snapshot: Snapshot, sectors: int = 36) -> FloatArray:
        """(S,) meters to which the ground is seen, in sectors from east, counter-clockwise.

        A sector's is the least of three lines through it. A line ends where a house or a body
        begins that hides more than three meters of ground behind itself.

        Raises:
            InputError: sectors not in 1 to 720.
        """
        if not 1 <= sectors <= MAX_SECTORS:
            raise InputError(f"sectors {sectors}: allowed is 1 to {MAX_SECTORS}")
        blockers, _ = self._blockers(observer, snapshot)
        count = sectors * _RAYS
        angle = (np.arange(count) + 0.5) * (2 * np.pi / count)
        heading = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        reach = np.full(count, observer.range_m)
        rel = blockers.middles - observer.position[:2]
        along = heading @ rel.T
        aside = heading[:, :1] * rel[:, 1] - heading[:, 1:] * rel[:, 0]
        ray, which = np.nonzero((np.abs(aside) <= blockers.radii) & (along >= -blockers.radii))
        near = blockers.selected(which)
        enter, leave = _cut(
            near.offsets - near.normals @ observer.position[:2],
            (near.normals * heading[ray][:, None]).sum(-1),
        )
        above = observer.position[2] - near.tops
        hidden = np.where(above > 0, leave * near.tops / np.maximum(above, 1e-9), np.inf)
        met = (leave > enter) & (leave > 0) & (hidden > _BLIND_M) & (near.bottoms < 1)
        np.minimum.at(reach, ray[met], np.maximum(enter[met], 0))
        least: FloatArray = reach.reshape(sectors, _RAYS).min(axis=1)
        return least

    def _blockers(
        self, observer: Observer, snapshot: Snapshot
    ) -> tuple[_Prisms, npt.NDArray[np.int64]]:
        """What stands within range, and whose body (row) each is; -1: a house."""
        rows = np.flatnonzero(snapshot.ids != observer.own_id)
        s = snapshot.selected(rows)
        half = s.sizes[:, 2] / 2
        bodies = _prisms(
            corners(s.positions, s.yaws, s.sizes), s.positions[:, 2] - half,
            s.positions[:, 2] + half,
        )  # fmt: skip
        near = [self._houses.within(observer), bodies.within(observer)]
        a, b = self._houses.selected(near[0]), bodies.selected(near[1])
        both = _Prisms(
            np.concatenate([a.normals, b.normals]), np.concatenate([a.offsets, b.offsets]),
            np.concatenate([a.bottoms, b.bottoms]), np.concatenate([a.tops, b.tops]),
            np.concatenate([a.middles, b.middles]), np.concatenate([a.radii, b.radii]),
        )  # fmt: skip
        return both, np.concatenate([np.full(len(near[0]), -1), rows[near[1]]])


def _hidden(
    eye: FloatArray,
    targets: Snapshot,
    rows: npt.NDArray[np.int64],
    blockers: _Prisms,
    who: npt.NDArray[np.int64],
) -> FloatArray:
    """(T,) the share of each target's points that something other than itself hides."""
    line = targets.positions[:, :2] - eye[:2]
    rel = blockers.middles - eye[:2]
    squared = np.maximum((line**2).sum(1), 1e-12)
    along = np.clip(line @ rel.T / squared[:, None], 0, 1)
    apart_x = rel[:, 0] - along * line[:, :1]
    apart_y = rel[:, 1] - along * line[:, 1:]
    radius = np.hypot(targets.sizes[:, 0], targets.sizes[:, 1]) / 2
    meets = apart_x**2 + apart_y**2 <= (radius[:, None] + blockers.radii) ** 2
    meets &= who != rows[:, None]
    target, which = np.nonzero(meets)
    near = blockers.selected(which)

    points = _body_points(targets)
    way = points[target] - eye  # (P, 12, 3)
    within = near.offsets - near.normals @ eye[:2]
    speed = way[..., :2] @ near.normals.transpose(0, 2, 1)
    fence = np.stack([near.tops - eye[2], eye[2] - near.bottoms], axis=1)
    enter, leave = _cut(
        np.concatenate([within, fence], axis=1)[:, None],
        np.concatenate([speed, way[..., 2:], -way[..., 2:]], axis=2),
    )
    cut = np.maximum(enter, 0) < np.minimum(leave, 1)
    hidden = np.zeros((len(rows), len(_POINTS)), bool)
    np.logical_or.at(hidden, target, cut)
    share: FloatArray = hidden.mean(axis=1)
    return share


def _body_points(targets: Snapshot) -> FloatArray:
    """(T, 12, 3)."""
    c, s = np.cos(targets.yaws)[:, None], np.sin(targets.yaws)[:, None]
    x, y, z = (_POINTS * targets.sizes[:, None]).transpose(2, 0, 1)
    turned: FloatArray = np.stack([c * x - s * y, s * x + c * y, z], axis=-1)
    return targets.positions[:, None] + turned


def _cut(room: FloatArray, speed: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where lines are inside all of the half-spaces on the last axis: from, to.

    A line's distance inside half-space k at t is room_k − t speed_k; it misses where to < from.
    """
    with np.errstate(over="ignore"):
        t = room / np.where(speed == 0, 1e-300, speed)
    enter: FloatArray = np.where(speed < 0, t, -np.inf).max(axis=-1)
    leave: FloatArray = np.where(speed < 0, np.inf, t).min(axis=-1)
    return enter, leave
