"""Answers of a moment ago, and scenes that were solved before."""

from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llm_edge.decision import Decision, Source
from llm_edge.prompt import HORIZON_S, matters_s, order
from llm_edge.scene import LinkState, Mission, Scene, TargetState
from pipeline.errors import InputError
from pipeline.objects import IS_VULNERABLE

ALIKE = 0.2
"""Distance of two scenes that count as one."""
OBJECTS = 4
"""Of each scene that tell how near another one is."""


class DecisionCache:
    """The last decisions by a key of their scene, ``size`` at most; each holds for ``valid_ns``,
    and not beyond its own end."""

    def __init__(self, size: int = 256, valid_ns: int = 300_000_000) -> None:
        if size < 1 or valid_ns < 0:
            raise InputError("DecisionCache: give a size from 1 and a time from 0")
        self._size, self._valid_ns = size, valid_ns
        self._kept: OrderedDict[bytes, tuple[int, Decision]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, now_ns: int) -> Decision | None:
        """What was decided on such a scene, marked as from the cache."""
        at_ns, decision = self._kept.get(key, (0, None))
        if decision is None:
            return None
        if not at_ns <= now_ns <= min(at_ns + self._valid_ns, decision.valid_until_ns):
            del self._kept[key]  # also where the clock went back
            return None
        self._kept.move_to_end(key)
        return replace(decision, source=Source.CACHE)

    def put(self, key: bytes, decision: Decision, now_ns: int) -> None:
        """A decision that was made just now. One from the cache is not made."""
        if decision.source is Source.CACHE:
            return
        self._kept[key] = now_ns, decision
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A solved scene."""

    scene: Scene
    decision: Decision


class SolvedScenes:
    """The last ``size`` solved scenes and which of them is nearest to a new one (the idea of
    IC-Cache, 2025: a solved neighbor as the prompt's example). One that hardly differs from a kept
    one takes its place: moments of one and the same situation must not crowd out all others."""

    def __init__(self, size: int = 256) -> None:
        if size < 1:
            raise InputError("SolvedScenes: give a size from 1")
        self._features = np.zeros((size, WIDTH), np.float32)
        self._cases: list[Case] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._cases)

    def add(self, case: Case) -> None:
        """Keep a case; the oldest one goes where there is no room."""
        row = features(case.scene)
        place, away = self._nearest(row) if self._cases else (0, np.inf)
        if away > ALIKE:
            place = self._next
            self._next = (self._next + 1) % len(self._features)
        self._cases[place : place + 1] = [case]
        self._features[place] = row

    def nearest(self, scene: Scene) -> tuple[Case, float] | None:
        """The case most like a scene, and its distance, 0 for the same; None where none is kept."""
        if not self._cases:
            return None
        place, away = self._nearest(features(scene))
        return self._cases[place], away

    def _nearest(self, row: npt.NDArray[np.float32]) -> tuple[int, float]:
        away = self._features[: len(self._cases)] - row
        distances = np.einsum("nd,nd->n", away, away)
        best = int(np.argmin(distances))
        return best, float(np.sqrt(distances[best]))


WIDTH = len(Mission) + len(TargetState) + len(LinkState) + 5 + 8 * OBJECTS


def features(scene: Scene) -> npt.NDArray[np.float32]:
    """(``WIDTH``,) mission, states and the most urgent objects, each within about −1 to 1."""
    p = scene.platform
    reach = max(10.0, HORIZON_S * p.limit_mps)
    own = [
        *np.eye(len(Mission))[scene.mission],
        *np.eye(len(TargetState))[scene.target_state],
        *np.eye(len(LinkState))[scene.link],
        scene.speed_mps / p.limit_mps,
        scene.cruise_mps / p.limit_mps,
        scene.target_side,
        scene.open_left,
        scene.open_right,
    ]
    objects = np.zeros((OBJECTS, 8))
    soon = matters_s(scene)[0]
    for k, row in enumerate(order(scene)[0][:OBJECTS]):
        objects[k] = [
            1.0,
            scene.ids[row] == scene.target,
            *np.tanh(2 * scene.positions[row] / reach),
            *np.tanh(scene.velocities[row] / p.limit_mps),
            IS_VULNERABLE[scene.classes[row]],
            1 - min(soon[row], HORIZON_S) / HORIZON_S,
        ]
    return np.concatenate([own, objects.ravel()]).astype(np.float32)
