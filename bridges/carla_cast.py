"""Who is in CARLA's world: its snapshots as moments of ours."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridges import carla_frames
from bridges.actors import BODY, Snapshot
from bridges.carla_actors import class_of
from bridges.carla_client import CarlaSession, is_time_out
from bridges.fleet import FIRST_ID
from bridges.simulator import Moment
from pipeline.box import FloatArray
from pipeline.objects import MAX_METERS, ObjectClass

_MOST_OTHERS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """An actor's: center (3,) and size (3,) m, ours, in the body; kind: ``ObjectClass``."""

    kind: ObjectClass
    role: str
    center: FloatArray
    size: FloatArray

    @property
    def offset(self) -> FloatArray:
        """(4, 4) body (its center) to the actor, whose origin is CARLA's."""
        found = np.eye(4)
        found[:3, 3] = self.center
        return found


class Cast:
    """Vehicles and pedestrians of a world, whoever spawned them.

    counts: ``nonsense``, of actors whose place was no number.
    """

    def __init__(self, session: CarlaSession, counts: Counter[str]) -> None:
        self._session = session
        self._counts = counts
        self.bodies: dict[int, Body] = {}
        self._others: set[int] = set()

    def learn(self, actor: Any) -> bool:
        """Take an actor in; False: it is no vehicle and no pedestrian."""
        attributes = {str(k): str(v) for k, v in dict(actor.attributes).items()}
        kind = class_of(str(actor.type_id), attributes)
        if kind is None or not 0 < actor.id < FIRST_ID:
            self._others.add(actor.id)
            return False
        center, size = self._box(actor)
        if not ((size > 0.05) & (size < 50)).all() or not (np.abs(center) < 50).all():
            size = np.array(BODY.get(kind, BODY[ObjectClass.CYCLIST]))
            center = np.array([0.0, 0.0, 0.0 if kind == ObjectClass.PERSON else size[2] / 2])
        self.bodies[actor.id] = Body(kind, attributes.get("role_name", ""), center, size)
        return True

    def moment(self, snapshot: Any) -> Moment:
        """A snapshot of the server as a moment; its actors in rising order of their ids.

        Raises:
            SimulatorError: the server does not answer.
        """
        found = {a.id: a for a in snapshot if a.id not in self._others}
        unknown = [i for i in found if i not in self.bodies]
        if unknown:
            self._ask(unknown)
        for gone in self.bodies.keys() - found.keys():
            del self.bodies[gone]
        ids = sorted(found.keys() & self.bodies.keys())
        rows = np.array([_row(found[i]) for i in ids], np.float64).reshape(-1, 12)
        sound = np.flatnonzero((np.abs(rows) < MAX_METERS).all(axis=1))
        self._counts["nonsense"] += len(ids) - len(sound)
        ids, rows = [ids[k] for k in sound], rows[sound]
        bodies = [self.bodies[i] for i in ids]
        centers = np.array([b.center for b in bodies]).reshape(-1, 3)
        poses = carla_frames.poses(rows[:, :3], rows[:, 3:6])
        turns = poses[:, :3, :3]
        arms = np.einsum("nij,nj->ni", turns, centers)
        poses[:, :3, 3] += arms
        rates = carla_frames.turn_rates(rows[:, 9:], degrees=True)
        velocities = carla_frames.flipped(rows[:, 6:9]) + np.cross(rates, arms)
        actors = Snapshot(
            stamp_of(snapshot.timestamp.elapsed_seconds), np.array(ids, np.int32),
            np.array([b.kind for b in bodies], np.uint8), poses[:, :3, 3].copy(), velocities,
            np.arctan2(poses[:, 1, 0], poses[:, 0, 0]),
            np.array([b.size for b in bodies]).reshape(-1, 3),
            np.isin(ids, list(self._session.ours)),
        )  # fmt: skip
        in_body = np.einsum("nij,ni->nj", turns, rates)
        return Moment(int(snapshot.frame), actors, poses, in_body)

    def _box(self, actor: Any) -> tuple[FloatArray, FloatArray]:
        """Center and size as CARLA has them; its newer libraries ask the server for them."""
        try:
            box = actor.bounding_box
        except RuntimeError as error:
            if is_time_out(error):
                self._session.refuse("asking for a body", error)
            return np.zeros(3), np.zeros(3)  # it is gone already
        center = np.array([box.location.x, -box.location.y, box.location.z])
        return center, 2.0 * np.array([box.extent.x, box.extent.y, box.extent.z])

    def _ask(self, ids: list[int]) -> None:
        world = self._session.world
        for actor in self._session.call("asking who is there", world.get_actors, ids):
            self.learn(actor)
        if len(self._others) > _MOST_OTHERS:
            self._others.clear()
        self._others.update(i for i in ids if i not in self.bodies)


def stamp_of(seconds: float) -> int:
    """Nanoseconds of the server's time."""
    return round(float(seconds) * 1e9)


def _row(actor: Any) -> tuple[float, ...]:
    transform, v, w = actor.get_transform(), actor.get_velocity(), actor.get_angular_velocity()
    at, turn = transform.location, transform.rotation
    return (
        at.x, at.y, at.z, turn.pitch, turn.yaw, turn.roll, v.x, v.y, v.z, w.x, w.y, w.z,
    )  # fmt: skip
