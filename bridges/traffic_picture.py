"""A top view of the kinematic town: what one vehicle sees, and what others see beside it.

python -m bridges.traffic_picture town.png [--seed 3] [--seconds 12]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridges.actors import Snapshot
from bridges.footprints import corners
from bridges.traffic import KinematicTraffic
from bridges.visibility import Observer, Visibility, observer_of
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass

OWN, OTHERS, NOBODY, HOUSE = "#1f6fb4", "#e08214", "#9a9a9a", "#d9d5cd"
SEEN = 0.15
RANGE_M = 80.0
SECTORS = 240


def busiest(shares: dict[int, FloatArray]) -> int:
    """Whom the others help most: who misses most of what they see."""
    seen = np.array([s >= SEEN for s in shares.values()])
    missing = (seen.any(axis=0) & ~seen).sum(axis=1)
    return list(shares)[int(missing.argmax())]


def reach(visibility: Visibility, observer: Observer, snapshot: Snapshot) -> FloatArray:
    """(S, 2) the outline of the ground that an observer sees."""
    free = visibility.free_space(observer, snapshot, SECTORS)
    angle = (np.arange(SECTORS) + 0.5) * 2 * np.pi / SECTORS
    outline = observer.position[:2] + free[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.asarray(outline, np.float64)


def draw(axes: Any, world: KinematicTraffic, snapshot: Snapshot, ego: int, help_: bool) -> None:
    """One panel; ``help_``: with what the other equipped ones see."""
    visibility = Visibility(world.buildings)
    eyes = {int(i): observer_of(snapshot, int(i), RANGE_M) for i in snapshot.ids[snapshot.equipped]}
    shares = {i: visibility.shares(eye, snapshot) for i, eye in eyes.items()}
    own = shares[ego] >= SEEN
    theirs = np.any([s >= SEEN for i, s in shares.items() if i != ego], axis=0) & help_
    for house in world.buildings:
        axes.fill(*house.footprint.T, HOUSE, zorder=1)
    for i, eye in eyes.items():
        if i == ego or help_:
            color = OWN if i == ego else OTHERS
            axes.fill(*reach(visibility, eye, snapshot).T, color, alpha=0.13, lw=0, zorder=2)
    _bodies(axes, snapshot, own, theirs, ego)
    middle = snapshot.positions[snapshot.row(ego), :2]
    axes.set(xlim=middle[0] + [-105, 105], ylim=middle[1] + [-105, 105], xticks=[], yticks=[])
    axes.set_aspect("equal")


def _bodies(
    axes: Any,
    snapshot: Snapshot,
    own: npt.NDArray[np.bool_],
    theirs: npt.NDArray[np.bool_],
    ego: int,
) -> None:
    sizes = np.maximum(snapshot.sizes, 1.6)  # people can be seen in the picture
    outlines = corners(snapshot.positions, snapshot.yaws, sizes)
    for row, outline in enumerate(outlines):
        color = OWN if own[row] else OTHERS if theirs[row] else NOBODY
        hollow = color == NOBODY
        axes.fill(*outline.T, "white" if hollow else color, ec=color, lw=0.9, zorder=4)
        x, y = snapshot.positions[row, :2]
        if snapshot.ids[row] == ego:
            axes.plot(x, y, "o", ms=17, mfc="none", mec="black", mew=1.6, zorder=6)
        elif snapshot.classes[row] == ObjectClass.UAV:
            axes.plot(x, y, "X", ms=11, mfc=OTHERS, mec="black", zorder=6)
        elif snapshot.equipped[row]:
            axes.plot(x, y, "o", ms=12, mfc="none", mec=OTHERS, mew=1.3, zorder=6)


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    args = parser.parse_args()
    world = KinematicTraffic(seed=args.seed)
    for _ in range(round(args.seconds / world.step_s)):
        snapshot = world.step()
    snapshot = world.snapshot()
    visibility = Visibility(world.buildings)
    eyes = snapshot.ids[snapshot.equipped & (snapshot.classes != ObjectClass.UAV)].tolist()
    ego = busiest({i: visibility.shares(observer_of(snapshot, i, RANGE_M), snapshot) for i in eyes})
    figure, panels = plt.subplots(1, 2, figsize=(13, 6.9))
    for axes, help_ in zip(panels, (False, True), strict=True):
        draw(axes, world, snapshot, ego, help_)
    panels[0].set_title("what one vehicle (black circle) sees: blue")
    panels[1].set_title("and what others see beside it: orange (circles: with V2X, cross: UAV)")
    figure.tight_layout()
    figure.savefig(args.out, dpi=80)
    print(f"{args.out}: {len(snapshot)} actors, {int(snapshot.equipped.sum())} with V2X")


if __name__ == "__main__":
    main()
