"""Which objects go first: attention to the receivers' plans, and the rules it is compared with.

A selector gives each object a priority; those of at most 0 are not sent. The station fills its
bytes from the highest down, so that all of them spend alike. The published ones work on maps of
features; here each rule is applied to objects, whose confidence is their quality:

- ``etsi``: ETSI TS 103 324 (CPM) inclusion rules, its utility where not all fit;
- ``confidence``: Where2comm (Hu et al. 2022), first round: what the sender is sure of;
- ``codriving``: CoDriving (Liu et al. 2025): confidence times a Gaussian about the way points;
- ``select2drive``: Select2Drive (Huang et al. 2025), eq. for its area of importance: near the plan
  and confident, or changing. Its Gaussian as printed never passes its own threshold
  (``select2drive_literal``); the other one gives it a peak of 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from comms.belief import Told, good, heard_of, tolerable
from comms.config import V2xConfig
from comms.relevance import relevance, unseen
from comms.request import Request
from pipeline.box import FloatArray
from pipeline.objects import IS_VULNERABLE, Objects
from pipeline.pose import Pose

FLOOR = 0.15
"""Relevance of what is near nobody's plan: sent where bytes are left."""
UNSEEN_FLOOR = 0.05
"""What a receiver's free view may miss all the same."""
SURPRISE = 0.5
"""What receivers must lack of an object that the reserved share is for."""
ATTENTION_SIGMA_M = 15.0
THRESHOLD = 0.05
CELL_M = 0.8
MIN_QUALITY = 0.2
"""ETSI's minimum perception quality, 3 of 15."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a sender knows when it chooses.

    objects: own, at ``now_ns``, itself among them. told: what receivers know of them. heard: what
    other stations told, at ``now_ns``. pose: own. requests: the newest of each receiver. delay_s:
    measured, from capture to the receivers' use. loss: measured share of messages. silent: whether
    some receivers ask for nothing.
    """

    objects: Objects
    told: Told
    heard: Objects
    pose: Pose
    requests: Sequence[Request]
    now_ns: int
    delay_s: float
    loss: float
    silent: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """(N,) priorities, and (N,) bool, which may use the reserved share. weighed: priorities are
    utilities, and what is worth less than its bytes waits."""

    priority: FloatArray
    reserved: npt.NDArray[np.bool_]
    weighed: bool = False


class Selector(Protocol):
    """One rule. asks: whether it makes use of receivers' requests."""

    asks: bool

    def choose(self, scene: Scene) -> Choice:
        """Priorities of ``scene.objects``."""
        ...


class Apc:
    """Utility per byte: how near an object comes to a receiver's corridor when that is driven,
    times how likely the receiver neither sees nor knows it. Objects have equal bytes.

    max_sigma_m: what is less sure of its place, receivers drop.
    """

    asks = True

    def __init__(self, max_sigma_m: float) -> None:
        self._max_sigma_m = max_sigma_m

    def choose(self, scene: Scene) -> Choice:
        objects, told = scene.objects, scene.told
        heard = heard_of(objects, scene.heard, self._max_sigma_m)
        known = np.maximum(1 - told.missing, (1 - scene.loss) * heard)
        own = good(objects.covariances[:, [0, 1], [0, 1]].mean(axis=1), tolerable(objects))
        gain = own * (1 - known)
        wanted = np.zeros(len(objects))
        for request in scene.requests:
            near = FLOOR + (1 - FLOOR) * relevance(objects, request.plan, scene.now_ns)
            lacks = UNSEEN_FLOOR + (1 - UNSEEN_FLOOR) * unseen(objects, request.sight)
            wanted = np.maximum(wanted, near * lacks)
        if scene.silent or not scene.requests:
            wanted = np.maximum(wanted, FLOOR)
        utility = wanted * gain * objects.quality
        vulnerable = IS_VULNERABLE[objects.classes]
        surprise = vulnerable | ((told.sent_ns > 0) & (told.departed > 1.0))
        return Choice(utility, surprise & (gain > SURPRISE), weighed=True)


class SendAll:
    """Every object in every message; what does not fit comes first in the next."""

    asks = False

    def choose(self, scene: Scene) -> Choice:
        since = scene.now_ns - scene.told.sent_ns
        return _plain(1.0 + since / 1e18)


class Random:
    """Drawn anew for each message."""

    asks = False

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def choose(self, scene: Scene) -> Choice:
        return _plain(self._rng.uniform(0.001, 1, len(scene.objects)))


class Etsi:
    """TS 103 324 V2.1.1, 6.1.2.3: new, moved over 4 m, faster by 0.5 m/s, turned by 4° or not told
    for 1 s; all vulnerable ones as soon as one of them is new or was not told for 0.5 s."""

    asks = False

    def choose(self, scene: Scene) -> Choice:
        objects, told = scene.objects, scene.told
        new = told.sent_ns == 0
        since = (scene.now_ns - told.sent_ns) * 1e-9
        moved = np.linalg.norm(objects.positions - told.positions, axis=1)
        faster = np.abs(_speed(objects.velocities) - _speed(told.velocities))
        turned = np.abs((objects.yaws - told.yaws + np.pi) % (2 * np.pi) - np.pi)
        turned = np.nan_to_num(np.degrees(turned))
        vulnerable = IS_VULNERABLE[objects.classes]
        due = new | (moved > 4) | (faster > 0.5) | (turned >= 4) | (since >= 1)
        due[vulnerable] = (vulnerable & (new | (since >= 0.5))).any()
        due &= objects.quality >= MIN_QUALITY
        terms = (moved / 8, faster, turned / 8, (since - 0.1) / 0.9)
        utility = objects.quality + sum(np.clip(np.where(new, 1, t), 0, 1) for t in terms)
        return _plain(np.where(due, utility, 0))


class Confidence:
    """What the sender is sure of."""

    asks = False

    def choose(self, scene: Scene) -> Choice:
        quality = scene.objects.quality
        return _plain(np.where(quality >= THRESHOLD, quality, 0))


class CoDriving:
    """Confidence times the nearest way point's Gaussian, scaled by 5 and cut at 1."""

    asks = True

    def choose(self, scene: Scene) -> Choice:
        near = np.clip(5 * _attention(scene, ATTENTION_SIGMA_M), 1e-4, 1 - 1e-4)
        value = near * scene.objects.quality
        return _plain(np.where(value >= THRESHOLD, value, 0))


class Select2Drive:
    """max(R · Ĉ, |Ĉ − C| / n) ≥ 0.05. An object's confidence Ĉ after n steps of 100 ms has gone to
    another cell where it has moved by more than one."""

    asks = True

    def __init__(self, literal: bool = False) -> None:
        peak = 1 / (ATTENTION_SIGMA_M * np.sqrt(2 * np.pi))
        self._peak = peak if literal else 1.0

    def choose(self, scene: Scene) -> Choice:
        objects = scene.objects
        steps = int(scene.delay_s / 0.1 + 1e-6)
        changes = np.zeros(len(objects))
        if steps:  # the formula divides by it
            went = _speed(objects.velocities) * steps * 0.1 > CELL_M
            changes = np.where(went, objects.quality / steps, 0)
        planned = self._peak * _attention(scene, ATTENTION_SIGMA_M) * objects.quality
        value = np.maximum(planned, changes)
        return _plain(np.where(value >= THRESHOLD, value, 0))


def make_selector(config: V2xConfig) -> Selector:
    """The one that ``config.selector`` names."""
    if config.selector == "random":
        return Random(config.station)
    if config.selector == "apc":
        return Apc(config.max_sigma_m)
    makers: dict[str, Callable[[], Selector]] = {
        "send_all": SendAll, "etsi": Etsi, "confidence": Confidence,
        "codriving": CoDriving, "select2drive": Select2Drive,
        "select2drive_literal": partial(Select2Drive, literal=True),
    }  # fmt: skip
    return makers[config.selector]()


def _plain(priority: FloatArray) -> Choice:
    return Choice(priority, np.zeros(len(priority), np.bool_))


def _speed(velocities: FloatArray) -> FloatArray:
    return np.asarray(np.hypot(velocities[:, 0], velocities[:, 1]))


def _attention(scene: Scene, sigma: float) -> FloatArray:
    """(N,) Gaussian, of peak 1, about the nearest way point of any receiver's plan; 1 without."""
    if not scene.requests:
        return np.ones(len(scene.objects))
    points = np.concatenate([request.plan.points for request in scene.requests])
    apart = np.linalg.norm(scene.objects.positions[:, None, :2] - points, axis=2)
    return np.asarray(np.exp(-0.5 * (apart.min(axis=1) / sigma) ** 2))
