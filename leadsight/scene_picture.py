"""A scene and what was decided on it, from above."""

from pathlib import Path
from typing import Any

import numpy as np

from llm_edge.decision import Decision, Direction
from llm_edge.scene import Scene
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

KINDS = (".png", ".jpg", ".svg", ".pdf")
AHEAD_S = 3.0
"""Ways are drawn so far, a dot a second."""
SEEN, TOLD, DECIDED = "tab:blue", "tab:orange", "black"
_TIMES = np.linspace(0.0, AHEAD_S, 61)
_SIDES = {Direction.LEFT: 1.0, Direction.RIGHT: -1.0}
_LEAST_M, _MOST_M = 20.0, 60.0


def check_name(path: Path) -> None:
    """
    Raises:
        InputError: no kind of picture, or no folder to put it into.
    """
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{path}: give a name that ends in {', '.join(KINDS)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")


def way_of(scene: Scene, decision: Decision) -> FloatArray:
    """(T, 2) m, along and left: how the ego obeys, with its brake and in its time to move aside."""
    p, now, aim = scene.platform, scene.speed_mps, decision.speed_mps
    rate = p.brake_mps2 * (1.0 if aim < now else 0.5)
    change = np.sign(aim - now) * np.minimum(abs(aim - now), rate * _TIMES)
    speed = now + change
    steps = np.diff(_TIMES, prepend=0.0) * (speed + np.r_[now, speed[:-1]]) / 2
    share = np.minimum(_TIMES / p.shift_s, 1.0)
    aside = _SIDES.get(decision.direction, 0.0) * p.corridor_m * share**2 * (3 - 2 * share)
    return np.stack([np.cumsum(steps), aside], axis=1)


def draw_scene(scene: Scene, decision: Decision, path: Path) -> None:
    """Write the picture: the way and the corridors beside it (gray where shut), objects at the
    moment of use with two standard deviations and their ways at constant velocity, and the ego's
    way as decided.

    Raises:
        InputError: as ``check_name``, or the file cannot be written.
    """
    check_name(path)
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 8.6))
    try:
        _corridors(axes, scene)
        _objects(axes, scene, decision)
        _ego(axes, scene, decision)
        _window(axes, scene)
        axes.set_title(_words(decision, scene))
        figure.tight_layout()
        figure.savefig(path, dpi=80)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        plt.close(figure)


def _corridors(axes: Any, scene: Scene) -> None:
    width = scene.platform.corridor_m
    for side, is_open in ((0, True), (1, scene.open_left), (-1, scene.open_right)):
        low, high = (side - 0.5) * width, (side + 0.5) * width
        axes.axhspan(low, high, color="whitesmoke" if is_open else "silver", zorder=0)
        axes.axhline(low, color="white", lw=2, zorder=1)
        axes.axhline(high, color="white", lw=2, zorder=1)


def _objects(axes: Any, scene: Scene, decision: Decision) -> None:
    import matplotlib.patches as patches

    for k in range(len(scene)):
        color = TOLD if scene.told[k] else SEEN
        place, velocity, size = scene.positions[k], scene.velocities[k], scene.sizes[k]
        about = int(scene.ids[k]) == decision.target
        axes.add_patch(
            patches.Rectangle(
                place - size / 2, *size, fc=color, ec=DECIDED if about else color, lw=2, zorder=4
            )
        )
        axes.add_patch(
            patches.Circle(place, 2 * scene.sigmas[k], fc="none", ec=color, ls=":", zorder=3)
        )
        if np.hypot(*velocity) > 0:
            _way(axes, place + _TIMES[:, None] * velocity, color)
        name = ObjectClass(scene.classes[k]).name.lower()
        axes.annotate(
            f"{scene.ids[k]} {name}" + (", told" if scene.told[k] else ""), place + size / 2,
            xytext=(3, 3), textcoords="offset points", color=color, zorder=6, clip_on=True,
        )  # fmt: skip
    axes.plot(*scene.blind.T, "x", color="dimgray", ms=9, mew=2, zorder=4)


def _ego(axes: Any, scene: Scene, decision: Decision) -> None:
    import matplotlib.patches as patches

    length, width = scene.platform.size_m
    corner = (-length / 2, -width / 2)
    axes.add_patch(patches.Rectangle(corner, length, width, fc=DECIDED, zorder=5))
    _way(axes, way_of(scene, decision), DECIDED, 2.0)


def _way(axes: Any, points: FloatArray, color: str, width: float = 1.2) -> None:
    axes.plot(*points.T, color=color, lw=width, zorder=3)
    axes.plot(*points[20::20].T, "o", color=color, ms=3.5, zorder=3)


def _window(axes: Any, scene: Scene) -> None:
    """What is near the ego; who is further away than that is outside of the picture."""
    reach = float(np.clip(AHEAD_S * scene.speed_mps * 1.5, _LEAST_M, _MOST_M))
    axes.set_xlim(-reach / 2, reach * 1.5)
    axes.set_ylim(-0.95 * reach, 0.95 * reach)
    axes.set_aspect("equal")
    axes.set_xlabel("along the way, m")
    axes.set_ylabel("to the left, m")


def _words(decision: Decision, scene: Scene) -> str:
    parts = [str(decision.action)]
    if decision.target is not None:
        parts.append(f"({decision.target})")
    if decision.direction is not Direction.NONE:
        parts.append(f"to the {decision.direction}")
    speeds = f"{scene.speed_mps:.1f} to {decision.speed_mps:.1f} m/s"
    why = f"risk {decision.risk}, reason {decision.reason}, by {decision.source}"
    return f"{' '.join(parts)}; {speeds}; {why}"
