"""What an agent's own perception gives of a scene: noisy, incomplete, from where it stands.

Everything random follows from the seed, the agent and the moment alone, whatever else is asked of
the scene: two methods compared on one seed get the same detections. The error of the agent's pose
is no part of it: ``PoseError`` (evaluation/v2x_scenes.py) lays it on.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridges.actors import Snapshot
from bridges.truth import true_pose
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose

_GHOST_ID = 1 << 30
"""Ids of false positives begin here."""
_HEIGHT_VARIANCE = 0.04
"""m², of a detection."""


@dataclass(frozen=True)
class SightConfig(Config):
    """How good an agent's own perception is."""

    range_m: float = option(80.0, "How far it detects.", low=1, high=1000)
    min_share: float = option(0.15, "Share of a body that must be seen.", low=0, high=1)
    noise_m: float = option(0.12, "Sigma of a position on each axis, near.", low=0, high=10)
    noise_per_m: float = option(0.003, "The same, more per meter of distance.", low=0, high=1)
    yaw_noise_deg: float = option(3.0, "Sigma of a heading.", low=0, high=90)
    size_noise: float = option(0.05, "Sigma of a size, as a share of it.", low=0, high=0.5)
    miss: float = option(0.03, "Chance to miss what is near and in full view.", low=0, high=1)
    miss_far: float = option(0.25, "Chance to miss it at the end of the range.", low=0, high=1)
    ghosts_hz: float = option(0.1, "False positives that begin a second.", low=0, high=100)
    ghost_s: float = option(0.6, "How long one stays, at most.", low=0, high=10)
    ghost_quality: tuple[float, ...] = option(
        (0.35, 0.75), "Qualities between which each has its own, as what is seen badly has.",
        low=0, high=1,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """M detections at ``pose.stamp_ns``.

    pose: where the agent truly is. ids: (M,) int32, of the agent's own, the same for an actor
    throughout. truth_ids: (M,) int32, whom it is of, 0: nobody; for scoring only.
    positions: (M, 3) m. sigmas: (M,) m, of each horizontal axis relative to the agent.
    yaws: (M,) rad. sizes: (M, 3) m. classes: (M,) uint8. quality: (M,), 0 to 1.
    """

    pose: Pose
    ids: npt.NDArray[np.int32]
    truth_ids: npt.NDArray[np.int32]
    positions: FloatArray
    sigmas: FloatArray
    yaws: FloatArray
    sizes: FloatArray
    classes: npt.NDArray[np.uint8]
    quality: FloatArray

    def __len__(self) -> int:
        return len(self.ids)

    def objects(self) -> Objects:
        """As a filter takes them: places with their covariances, velocities not known."""
        n, stamp_ns = len(self), self.pose.stamp_ns
        covariances = np.zeros((n, 6, 6))
        covariances[:, 0, 0] = covariances[:, 1, 1] = self.sigmas**2
        covariances[:, 2, 2] = _HEIGHT_VARIANCE
        return Objects(
            stamp_ns, stamp_ns, self.ids, np.zeros(n, np.uint32), self.positions, np.zeros((n, 3)),
            self.yaws, self.sizes, covariances, self.classes, self.quality,
            np.full(n, stamp_ns, np.int64),
        )  # fmt: skip


class OwnSight:
    """The perception of one agent."""

    def __init__(self, config: SightConfig, seed: int, actor_id: int) -> None:
        self._config = config
        self._key = (seed, actor_id)
        self._ids: dict[int, int] = {}
        self._next_id = int(np.random.default_rng([0x5161, *self._key]).integers(1, 30_000))

    def detect(self, snapshot: Snapshot, shares: FloatArray) -> Detections:
        """What it detects of ``snapshot``; shares: (N,) how much of each actor it sees.

        Raises:
            InputError: the agent is not in the scene now.
        """
        c = self._config
        me = snapshot.row(self._key[1])
        rng = np.random.default_rng([0xDE7EC7, *self._key, snapshot.stamp_ns // 1000])
        pose = true_pose(snapshot, self._key[1])
        chance, keyed = _by_id(rng, snapshot.ids)
        rel = snapshot.positions - snapshot.positions[me]
        away = np.linalg.norm(rel, axis=1)
        far = np.minimum(away / c.range_m, 1.0)
        missed = c.miss + (c.miss_far - c.miss) * far
        seen = (shares >= max(c.min_share, 1e-9)) & (away <= c.range_m) & (chance >= missed)
        seen[me] = False
        sigmas = c.noise_m + c.noise_per_m * away
        rel[:, :2] += keyed[:, :2] * sigmas[:, None]
        yaws = snapshot.yaws + keyed[:, 2] * np.radians(c.yaw_noise_deg)
        sizes = snapshot.sizes * np.maximum(1 + keyed[:, 3:6] * c.size_noise, 0.3)
        quality = np.clip(0.5 + 0.4 * shares - 0.15 * far + 0.08 * keyed[:, 6], 0.05, 0.99)

        rows = np.flatnonzero(seen)
        found = [
            np.array([self._id(int(i)) for i in snapshot.ids[rows]], np.int32),
            snapshot.ids[rows],
            rel[rows] + pose.position,
            sigmas[rows],
            yaws[rows],
            sizes[rows],
            snapshot.classes[rows],
            quality[rows],
        ]
        ghosts = self._ghosts(snapshot.stamp_ns, pose)
        both = [np.concatenate([a, b]) for a, b in zip(found, ghosts, strict=True)]
        return Detections(pose, *both)

    def _id(self, actor_id: int) -> int:
        if actor_id not in self._ids:
            self._ids[actor_id] = self._next_id
            self._next_id += 1
        return self._ids[actor_id]

    def _ghosts(self, stamp_ns: int, pose: Pose) -> list[npt.NDArray[np.generic]]:
        """False positives now. Each begins in a slot of 0.1 s, drawn from the slot's own seed."""
        c, slot = self._config, stamp_ns // 100_000_000
        ids: list[int] = []
        places: list[FloatArray] = []
        qualities: list[float] = []
        for begun in range(max(slot - int(c.ghost_s * 10), 0), slot + 1):
            rng = np.random.default_rng([0x6057, *self._key, begun])
            lasts = rng.uniform(0, c.ghost_s) * 10
            count = min(int(rng.poisson(c.ghosts_hz * 0.1)), 16)
            spots = rng.uniform((0.1, 0), (1.0, 2 * np.pi), (16, 2))[:count]
            low, high = c.ghost_quality
            quality = rng.uniform(low, high, 16)[:count]
            if slot - begun > lasts:
                continue
            radius, angle = np.sqrt(spots[:, 0]) * c.range_m, spots[:, 1]
            since = max(stamp_ns * 1e-9 - begun * 0.1, 0.0)  # it stands while the agent moves on
            spot = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
            places.append(spot - pose.velocity[:2] * since)
            qualities.extend(quality.tolist())
            ids.extend(_GHOST_ID + begun % (1 << 25) * 16 + k for k in range(count))
        n, rel = len(ids), np.concatenate([np.zeros((0, 2)), *places])
        ground = np.zeros((n, 1)) + 0.85
        return [
            np.array(ids, np.int32), np.zeros(n, np.int32),
            np.hstack([rel + pose.position[:2], ground]),
            c.noise_m + c.noise_per_m * np.linalg.norm(rel, axis=1), np.zeros(n),
            np.tile([0.6, 0.6, 1.7], (n, 1)), np.full(n, ObjectClass.PERSON, np.uint8),
            np.array(qualities),
        ]  # fmt: skip


def _by_id(rng: np.random.Generator, ids: npt.NDArray[np.int32]) -> tuple[FloatArray, FloatArray]:
    """A chance (N,) and normal numbers (N, 7) that depend on an actor's id, not on who else is."""
    slot = ids % 4096
    width = int(slot.max(initial=0)) + 1
    chance = rng.random(4096)
    return chance[slot], rng.normal(size=(width, 7))[slot]
