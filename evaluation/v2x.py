"""Runs V2X stations over a recorded scene and scores what an ego knows at the moment of fusion.

Truth is taken at the moment of fusion and never moved, so a delay that is not made up for costs.
Scored are actors that the ego does not see itself and another agent does: what only messages can
bring. Beside recall and precision stand the harm rate, the share of frames in which fusing was
worse than silence (GOSPA; Rahmathullah, García-Fernández & Svensson 2017), and every byte sent.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from bridges.actors import Snapshot
from comms.alignment import ALIGN
from comms.codec import SELF_ID
from comms.fusion import Fused
from comms.motion import predicted
from evaluation.v2x_fleet import Fleet, Run, make_station, show
from evaluation.v2x_scenes import PoseError, Scene, View, relevant
from pipeline.box import FloatArray
from pipeline.objects import IS_VULNERABLE, Objects

WARM_UP_S = 2.0
SCORE_M = 80.0
"""Actors farther from the ego than this are not asked for."""
NEAR_M, NEAR_VULNERABLE_M = 2.0, 1.0
"""Within this an object is where its actor is."""
SEEN, UNSEEN = 0.3, 0.05
RELEVANT = 0.6
GOSPA_M = 4.0
HARM_M = 1e-6


@dataclass
class Score:
    """Sums over frames, so that scores add up."""

    frames: int = 0
    hidden: int = 0
    found: int = 0
    wanted: int = 0
    wanted_found: int = 0
    found_alone: int = 0
    wanted_alone: int = 0
    told: int = 0
    right: int = 0
    error_m: float = 0.0
    harmed: int = 0
    helped: int = 0
    gospa: float = 0.0
    gospa_alone: float = 0.0
    bytes: Counter[str] = field(default_factory=Counter)
    agent_s: float = 0.0

    def __add__(self, other: "Score") -> "Score":
        both = Score()
        for name, mine in vars(self).items():
            setattr(both, name, mine + getattr(other, name))
        return both

    @property
    def recall(self) -> float:
        return self.found / max(self.hidden, 1)

    @property
    def recall_wanted(self) -> float:
        return self.wanted_found / max(self.wanted, 1)

    @property
    def alone(self) -> tuple[float, float]:
        """Recall without any message, of what was seen before, and the same of the wanted."""
        return self.found_alone / max(self.hidden, 1), self.wanted_alone / max(self.wanted, 1)

    @property
    def precision(self) -> float:
        return self.right / max(self.told, 1)

    @property
    def error(self) -> float:
        return self.error_m / max(self.found, 1)

    @property
    def harm(self) -> float:
        return self.harmed / max(self.frames, 1)

    @property
    def bytes_s(self) -> float:
        """All bytes a second and agent."""
        return sum(self.bytes.values()) / max(self.agent_s, 1e-9)


def simulate(scene: Scene, run: Run) -> dict[str, dict[int, Score]]:
    """By alignment, each ego's score."""
    fleet = Fleet(run, scene.seed, scene.agents)
    errors, oracle = fleet.errors, _Oracle(scene, fleet.errors)
    ears = {
        (ego, name): make_station(run.config, ego, oracle if name == "oracle" else name)
        for ego in scene.egos
        for name in run.alignments
    }
    scores: dict[str, dict[int, Score]] = {
        name: {ego: Score() for ego in scene.egos} for name in run.alignments
    }
    for snapshot, views, use in zip(scene.snapshots, scene.views, scene.uses, strict=True):
        now_ns = snapshot.stamp_ns
        oracle.snapshot, oracle.views = use, views
        arrived = fleet.step(views, now_ns)
        for (ego, _), ear in ears.items():
            for arrival_ns, data in arrived.get(ego, ()):
                ear.incoming(data, arrival_ns)
        if now_ns < WARM_UP_S * 1e9 + scene.snapshots[0].stamp_ns:
            continue
        for ego in scene.egos:
            if ego not in views:
                continue
            for name in run.alignments:
                ear, view = ears[ego, name], views[ego]
                oracle.ego = ego
                show(ear, view, errors[ego])
                fused = ear.fused(use.stamp_ns, now_ns)
                own = predicted(errors[ego].objects(view.own, view.pose), use.stamp_ns)
                scores[name][ego] += score(fused, own, snapshot, use, views, ego, errors[ego])
    seconds = len(scene.snapshots) * (scene.snapshots[1].stamp_ns - scene.snapshots[0].stamp_ns)
    for each in scores.values():
        for total in each.values():
            share = len(scene.egos)
            total.bytes.update({k: v / share for k, v in fleet.sent_bytes.items()})
            total.agent_s = len(scene.agents) * seconds * 1e-9 / share
    return scores


def score(
    fused: Fused,
    own: Objects,
    snapshot: Snapshot,
    use: Snapshot,
    views: dict[int, View],
    ego: int,
    error: PoseError,
) -> Score:
    """One ego's frame. own: its perception alone, as fused, at the moment of use and in the frame
    that the ego believes in. snapshot: when all looked; use: the truth."""
    view, me = views[ego], snapshot.row(ego)
    R, shift = error.to_believed(view.pose)
    truth = _then(snapshot, use) @ R.T + shift
    away = np.linalg.norm(truth - truth[me], axis=1)
    asked = (away <= SCORE_M) & (np.arange(len(truth)) != me)
    others = np.max([v.shares * (a != ego) for a, v in views.items()], axis=0, initial=0)
    others = np.maximum(others, np.isin(snapshot.ids, [a for a in views if a != ego]))
    hidden = asked & (view.shares < UNSEEN) & (others >= SEEN)
    wanted = hidden & (relevant(snapshot, view.plan) >= RELEVANT) if view.plan else hidden & False
    gate = np.where(IS_VULNERABLE[snapshot.classes], NEAR_VULNERABLE_M, NEAR_M)
    near = np.linalg.norm(fused.objects.positions - truth[me], axis=1) <= SCORE_M
    objects = fused.objects.selected(near)
    mine, theirs, apart = matched(objects.positions, truth, gate)
    found = np.zeros(len(truth), np.bool_)
    found[theirs] = True
    kept = own.selected(np.linalg.norm(own.positions - truth[me], axis=1) <= SCORE_M)
    alone = np.zeros(len(truth), np.bool_)
    alone[matched(kept.positions, truth, gate)[1]] = True
    foreign = objects.stations != 0
    errors = np.zeros(len(truth))
    errors[theirs] = apart
    beyond = truth[~asked]
    with_others = gospa(_within(fused.objects, truth[me], beyond), truth[asked])
    without = gospa(_within(own, truth[me], beyond), truth[asked])
    hit = found & hidden
    return Score(
        1, int(hidden.sum()), int(hit.sum()), int(wanted.sum()), int((found & wanted).sum()),
        int((alone & hidden).sum()), int((alone & wanted).sum()), int(foreign.sum()),
        int(foreign[mine].sum()), float(errors[hit].sum()),
        int(with_others > without + HARM_M), int(with_others < without - HARM_M),
        with_others, without,
    )  # fmt: skip


def _then(snapshot: Snapshot, use: Snapshot) -> FloatArray:
    """(N, 3) where a snapshot's actors are in another; one that has left stays where it was."""
    rows = np.minimum(np.searchsorted(use.ids, snapshot.ids), len(use) - 1)
    there = use.ids[rows] == snapshot.ids
    return np.where(there[:, None], use.positions[rows], snapshot.positions)


def _within(objects: Objects, here: FloatArray, beyond: FloatArray) -> FloatArray:
    """(N, 3) places that are asked for: within reach, and not of an actor just beyond it."""
    places = objects.positions
    places = places[np.linalg.norm(places - here, axis=1) <= SCORE_M]
    apart = np.linalg.norm(places[:, None, :2] - beyond[:, :2], axis=2)
    return np.asarray(places[apart.min(axis=1, initial=np.inf) > NEAR_M])


def matched(
    first: FloatArray, second: FloatArray, gate: FloatArray
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
    """Rows of both that are one within the second's gates (M,), and their distances on the
    ground."""
    if not len(first) or not len(second):
        none = np.zeros(0, np.intp)
        return none, none, np.zeros(0)
    apart = np.linalg.norm(first[:, None, :2] - second[:, :2], axis=2)
    cost = np.where(apart <= gate, apart, 1e3)
    r, c = linear_sum_assignment(cost)
    keep = cost[r, c] < 1e3
    return r[keep], c[keep], apart[r[keep], c[keep]]


def gospa(found: FloatArray, truth: FloatArray, c: float = GOSPA_M) -> float:
    """GOSPA of order 1 with α = 2, in m: distances of what was found, c/2 for each that was missed
    and each that is not there."""
    if not len(found) or not len(truth):
        return c / 2 * (len(found) + len(truth))
    apart = np.minimum(np.linalg.norm(found[:, None, :2] - truth[:, :2], axis=2), c)
    r, s = linear_sum_assignment(apart)
    return float(apart[r, s].sum() + c / 2 * (len(found) + len(truth) - 2 * len(r)))


class _Oracle:
    """Puts every object that was told of where its actor is."""

    def __init__(self, scene: Scene, errors: dict[int, PoseError]) -> None:
        self._errors = errors
        self.snapshot, self.views = scene.snapshots[0], scene.views[0]
        self.ego = 0
        self._names: dict[tuple[int, int], int] = {(a, SELF_ID): a for a in scene.agents}
        for views in scene.views:
            for agent, view in views.items():
                pairs = zip(view.own.ids.tolist(), view.truth.tolist(), strict=True)
                self._names.update({(agent, i): truth for i, truth in pairs})

    def __call__(self, objects: Objects, stamps_ns: npt.NDArray[np.int64], to_ns: int) -> Objects:
        moved = ALIGN["predict"](objects, stamps_ns, to_ns)
        index = {int(a): k for k, a in enumerate(self.snapshot.ids)}
        keys = zip(objects.stations.tolist(), objects.ids.tolist(), strict=True)
        rows = np.array([index.get(self._names.get(key, 0), -1) for key in keys], np.intp)
        known = rows >= 0
        R, shift = self._errors[self.ego].to_believed(self.views[self.ego].pose)
        positions, velocities = moved.positions.copy(), moved.velocities.copy()
        positions[known] = self.snapshot.positions[rows[known]] @ R.T + shift
        velocities[known] = self.snapshot.velocities[rows[known]] @ R.T
        return replace(moved, positions=positions, velocities=velocities)
