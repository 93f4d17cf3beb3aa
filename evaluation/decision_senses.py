"""What a vehicle in the small world (evaluation/decision_world.py) knows of others: what it sees
itself, late and noisy, and what it is told by radio, later and with losses."""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.decision_world import TARGET, World
from llm_edge.scene import Mission, TargetState
from pipeline.box import FloatArray
from pipeline.objects import Objects

TICK_S = 0.05
LATE_S, RANGE_S = 0.1, 5.0
"""How old own perception is; how far it sees, seconds at the speed limit."""
VIEW = np.radians(25)
"""Half the angle in which the target's tracker sees ahead."""
KEEPS_S, TELLS_S, OLD_S = 0.4, 0.2, 1.0
"""A target unseen for so long is lost; somebody told of is told of so often, and forgotten."""
SEEN_M, TOLD_M, SPEED_MPS = 0.15, 0.4, 0.15
"""Standard deviations of positions seen and told, and of speeds."""
ERRORS_S = 1.0
"""For so long a position's error stays about the same, as that of a filter does."""
FROM = 7
"""Station that tells of others."""


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """Of one moment. which: (N,) who is seen, or of whom a message comes through."""

    at_s: float
    places: FloatArray
    velocities: FloatArray
    which: npt.NDArray[np.bool_]


class Senses:
    """``watch`` once a tick; ``in_view``: whether the target is, now."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._rng = np.random.default_rng([seed, 3])
        self._errors = self._rng.normal(0, 1, (len(world.places), 2))
        self._past: deque[_Look] = deque()
        self._sent: deque[_Look] = deque()
        self._heard: dict[int, _Look] = {}
        self._seen_s = 0.0
        self._last: FloatArray | None = None
        self.in_view = False

    def watch(self, t: float, ego: FloatArray) -> None:
        """ego: (2,) its place."""
        w = self._world
        drift = self._rng.normal(0, 1, self._errors.shape)
        self._errors += TICK_S / ERRORS_S * (np.sqrt(2 * ERRORS_S / TICK_S) * drift - self._errors)
        apart = w.places - ego
        sees = np.linalg.norm(apart, axis=1) < RANGE_S * w.platform.limit_mps
        sees &= ~w.hides(ego)
        if w.mission is Mission.FOLLOW:
            angle = abs(np.arctan2(apart[TARGET, 1], apart[TARGET, 0]))
            sees[TARGET] &= angle < VIEW and not w.hidden_s[0] <= t < w.hidden_s[1]
            self.in_view = bool(sees[TARGET])
        self._past.append(_Look(t, w.places, w.velocities(t), sees))
        while self._past[0].at_s < t - LATE_S - TICK_S / 2:
            self._past.popleft()
        look = self._past[0]
        if w.mission is Mission.FOLLOW and look.which[TARGET]:
            self._seen_s = look.at_s
            self._last = look.places[TARGET] + look.velocities[TARGET] * (t - look.at_s)
        if round(t / TICK_S) % round(TELLS_S / TICK_S) == 0:
            comes = w.equipped & (self._rng.random(len(w.places)) >= w.loss)
            self._sent.append(_Look(t, w.places, w.velocities(t), comes))
        while self._sent and self._sent[0].at_s + w.delay_s <= t:
            message = self._sent.popleft()
            self._heard.update(dict.fromkeys(np.flatnonzero(message.which).tolist(), message))

    def objects(self, t: float) -> Objects:
        """As they are taken to be now; who is seen counts as seen."""
        w, rng, look = self._world, self._rng, self._past[0]
        own = np.flatnonzero(look.which).tolist()
        told = [k for k, m in self._heard.items() if k not in own and t - m.at_s < OLD_S]
        looks = [look] * len(own) + [self._heard[k] for k in told]
        rows, n = [*own, *told], len(looks)
        stamps = np.array([m.at_s for m in looks])
        at = np.array([m.places[k] for k, m in zip(rows, looks, strict=True)]).reshape(n, 2)
        v = np.array([m.velocities[k] for k, m in zip(rows, looks, strict=True)]).reshape(n, 2)
        sigmas = np.where(np.arange(n) < len(own), SEEN_M, TOLD_M)
        v = v + rng.normal(0, SPEED_MPS, (n, 2)) * (np.abs(v) > 0)
        positions, velocities, sizes = np.zeros((3, n, 3))
        positions[:, :2] = at + self._errors[rows] * sigmas[:, None] + v * (t - stamps)[:, None]
        velocities[:, :2], sizes[:, :2] = v, w.sizes[rows]
        covariances = np.zeros((n, 6, 6))
        covariances[:, range(3), range(3)] = sigmas[:, None] ** 2
        covariances[:, range(3, 6), range(3, 6)] = SPEED_MPS**2
        return Objects(
            nanoseconds(t), nanoseconds(t), np.array(rows, np.int32),
            np.where(np.arange(n) < len(own), 0, FROM).astype(np.uint32), positions, velocities,
            np.zeros(n), sizes, covariances, w.kinds[rows], np.ones(n),
            np.array([nanoseconds(s) for s in stamps], np.int64),
        )  # fmt: skip

    def target(self, t: float) -> tuple[TargetState | None, FloatArray | None]:
        """How well it is known, None where nothing special is to be said; where it was last."""
        if self._world.mission is not Mission.FOLLOW or self._past[0].which[TARGET]:
            return None, self._last
        lost = t - self._seen_s >= KEEPS_S
        return TargetState.LOST if lost else TargetState.UNCERTAIN, self._last


def nanoseconds(seconds: float) -> int:
    """Of the world's clock."""
    return 10**12 + round(seconds * 1e9)
