"""A scene from what perception and others tell: world objects, a pose and a path become what lies
along the way and beside it, at the moment of use.

Along is the distance on the path from the ego's place on it, aside the distance to the path's left.
Objects and ego go on at constant velocity to that moment, and the uncertainty grows with it.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from llm_edge.bodies import extents, sigmas
from llm_edge.order import Order
from llm_edge.scene import MAX_OBJECTS, LinkState, Mission, Platform, Scene, TargetState
from llm_edge.way import Way
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import Objects
from pipeline.pose import Pose

MAX_AHEAD_S = 10.0
"""Further than this nobody's constant velocity says anything."""
OWN_IDS = 1 << 30
"""Ids below are own perception's; those of others are spread above, the same each time."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What of the world belongs into a scene.

    range_m: along and aside. clearance_m: above or below it, nobody is in the way. least_quality:
    probability of existence below which an object is left out. The mission's target always stays.
    """

    range_m: float = 120.0
    clearance_m: float = 5.0
    least_quality: float = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What else a scene holds: how the target is known, where it was when it was seen last
    ((2,) m in the fixed frame), how well others are heard, where the view ends ((M, 2) m along and
    aside)."""

    target_state: TargetState | None = None
    """None: TRACKED if own perception has it, UNCERTAIN if only others do, else LOST."""
    last_seen: FloatArray | None = None
    link: LinkState = LinkState.GOOD
    blind: FloatArray = field(default_factory=partial(np.zeros, (0, 2)))


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """A scene, and whose its objects are. stations: (N,) uint32. ids: (N,) int32, within them."""

    scene: Scene
    stations: npt.NDArray[np.uint32]
    ids: npt.NDArray[np.int32]

    @classmethod
    def given(cls, scene: Scene) -> "Built":
        """Of a scene whose objects have no other names."""
        return cls(scene, np.zeros(len(scene), np.uint32), scene.ids)

    def named(self, target: int | None) -> tuple[int, int] | None:
        """Station and id of an object of the scene; None where there is no such."""
        if target is None or not (found := np.flatnonzero(self.scene.ids == target)).size:
            return None
        return int(self.stations[found[0]]), int(self.ids[found[0]])


def build(
    objects: Objects,
    pose: Pose,
    path: FloatArray | None,
    order: Order,
    platform: Platform,
    at_ns: int,
    around: Surroundings | None = None,
    reach: Reach | None = None,
) -> Built:
    """The scene of the moment ``at_ns``.

    path: (K, 2) m in the fixed frame, the way from anywhere behind the ego on; None, or a single
    point: straight ahead. Where the ego has left its ends they go on straight.

    Raises:
        InputError: a path that is not finite or too long, or a moment too far from what is known.
    """
    around, reach = around or Surroundings(), reach or Reach()
    for name, stamp_ns in (("objects", objects.stamp_ns), ("pose", pose.stamp_ns)):
        if abs(at_ns - stamp_ns) > MAX_AHEAD_S * 1e9:
            raise InputError(
                f"scene: {name} of {(at_ns - stamp_ns) * 1e-9:.1f} s before the moment of use; "
                f"at most {MAX_AHEAD_S:g}: do the clocks agree?"
            )
    dt_ego, dt = ((at_ns - s) * 1e-9 for s in (pose.stamp_ns, objects.stamp_ns))
    here = pose.position + dt_ego * pose.velocity
    way = Way(path, here[:2], pose.yaw, 2 * reach.range_m)
    ego_along, ego_aside, tangent = way.place(here[None, :2])
    own_speed = max(float(pose.velocity[:2] @ tangent[0]), 0.0)

    objects = _near(objects, here, order)
    positions = objects.positions + dt * objects.velocities
    along, aside, tangents = way.place(positions[:, :2])
    where = np.stack([along - ego_along, aside - ego_aside], axis=1)
    rows = _chosen(objects, where, positions[:, 2] - here[2], order, platform, reach)
    ids = scene_ids(objects.stations, objects.ids)[rows]
    classes = objects.classes[rows]
    tangents = tangents[rows]
    normals = np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)
    velocities = objects.velocities[rows, :2]
    target, state = _target(objects, rows, ids, order, around.target_state)
    side = 0
    if state is TargetState.LOST and around.last_seen is not None:
        _, last, _ = way.place(np.asarray(around.last_seen, np.float64).reshape(1, 2))
        apart = float(last[0] - ego_aside[0]) / platform.corridor_m
        side = int(np.sign(apart)) if abs(apart) > 0.5 else 0
    scene = Scene(
        at_ns=at_ns,
        seen_ns=int(max(objects.measured_ns[rows], default=pose.stamp_ns)),
        platform=platform,
        mission=order.mission,
        speed_mps=own_speed,
        cruise_mps=order.cruise_mps,
        target=target,
        target_state=state,
        target_side=side,
        link=around.link,
        open_left=order.open_left,
        open_right=order.open_right,
        ids=ids,
        classes=classes,
        told=objects.stations[rows] != 0,
        positions=where[rows],
        velocities=np.stack([_dot(velocities, tangents), _dot(velocities, normals)], axis=1),
        sizes=extents(objects, rows, tangents),
        sigmas=sigmas(objects.covariances[rows], classes, velocities, abs(dt)),
        blind=around.blind,
    )
    return Built(scene, objects.stations[rows], objects.ids[rows])


def scene_ids(
    stations: npt.NDArray[np.uint32], ids: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """(N,) identities of a scene, the same for the same object each time: own ones as they are,
    others' by a hash of station and id, moved on by one where two share it."""
    made = ids.astype(np.int64)
    others = (stations != 0) | (made < 0) | (made >= OWN_IDS)
    mixed = stations.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= made.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    hashed = (mixed >> np.uint64(34)).astype(np.int64) + OWN_IDS
    taken: set[int] = set()
    for k in np.flatnonzero(others)[np.lexsort((ids[others], stations[others]))]:
        value = int(hashed[k])
        while value in taken:
            value = OWN_IDS + (value + 1 - OWN_IDS) % OWN_IDS
        taken.add(value)
        made[k] = value
    return made.astype(np.int32)


def _near(objects: Objects, here: FloatArray, order: Order) -> Objects:
    """Each once, and no more of them than can be looked at closely."""
    _, first = np.unique(np.stack([objects.stations, objects.ids], axis=1), axis=0,
                         return_index=True)  # fmt: skip
    objects = objects.selected(np.sort(first))
    if len(objects) <= 2 * MAX_OBJECTS:
        return objects
    apart = np.linalg.norm((objects.positions - here)[:, :2], axis=1)
    key = np.where(_is_target(objects, order), -1.0, apart)
    return objects.selected(np.sort(np.argsort(key, kind="stable")[: 2 * MAX_OBJECTS]))


def _chosen(
    objects: Objects,
    where: FloatArray,
    above: FloatArray,
    order: Order,
    platform: Platform,
    reach: Reach,
) -> npt.NDArray[np.intp]:
    """Rows that belong into the scene: the mission's target and the nearest others."""
    apart = np.abs(where).max(axis=1, initial=0.0)
    length, width = platform.size_m
    myself = (objects.stations != 0) & (np.abs(where) < [length / 2, width / 2]).all(axis=1)
    near = (apart <= reach.range_m) & (np.abs(above) <= reach.clearance_m)
    wanted = near & ~myself & (objects.quality >= reach.least_quality)
    target = _is_target(objects, order) & (apart <= 1e4)
    key = np.where(target, -1.0, apart)
    rows = np.flatnonzero(wanted | target)
    return np.sort(rows[np.argsort(key[rows], kind="stable")[:MAX_OBJECTS]])


def _is_target(objects: Objects, order: Order) -> npt.NDArray[np.bool_]:
    if order.target is None:
        return np.zeros(len(objects), np.bool_)
    station, identity = order.target
    return np.asarray((objects.stations == station) & (objects.ids == identity))


def _target(
    objects: Objects,
    rows: npt.NDArray[np.intp],
    ids: npt.NDArray[np.int32],
    order: Order,
    state: TargetState | None,
) -> tuple[int, TargetState]:
    """Its identity in the scene, −1 where it is not there, and how well it is known."""
    if order.target is None or order.mission is not Mission.FOLLOW:
        return -1, TargetState.NONE
    found = np.flatnonzero(_is_target(objects, order)[rows])
    if not len(found) or state is TargetState.LOST:
        return -1, TargetState.LOST
    if state is None or state is TargetState.NONE:
        own = objects.stations[rows[found[0]]] == 0
        state = TargetState.TRACKED if own else TargetState.UNCERTAIN
    return int(ids[found[0]]), state


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray((a * b).sum(axis=1))
