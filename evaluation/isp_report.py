"""A study of ISPs as one HTML page: tables, AP against light, and views side by side."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from evaluation.isp_quality import (
    Column,
    Rgb,
    Study,
    classical_rows,
    expose,
    read_labeled,
)
from evaluation.isp_steady import Steadiness
from evaluation.page import COLORS, escaped, figure_of, number, picture, render_page, section, table
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.raw import read_raw_file
from isp.sensor import LEVELS, PROFILES
from isp.task_aware import TaskAwareIsp
from perception.detector import Detector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILE = (320, 240)
_SHOWN = 3
_DARK = ("night", "deep")


class Tile(NamedTuple):
    """One view. rgb: (h, w, 3)."""

    what: str
    rgb: Rgb


def tiles(study: Study, columns: list[Column]) -> list[Tile]:
    """Some pictures in the dark: clean, through the best classical ISP and each trained one."""
    pictures = read_labeled(study.images, study.labels, study.limit)
    chosen = [pictures[k] for k in np.linspace(0, len(pictures) - 1, _SHOWN).astype(int)]
    detector, profile = Detector(study.detectors[0]), PROFILES[study.sensor]
    rows = {row.name: row for row in study.rows(0)}
    found = []
    for level in [level for level in study.levels if level in _DARK] or list(study.levels[-1:]):
        best = next(c.best for c in columns if c.level == level)
        for k, shown in enumerate(chosen):
            raw = expose(shown, profile, LEVELS[level], (0, k))
            found.append(Tile(f"{level}: the clean picture", shown.rgb))
            for name in (best, *(t.name for t in study.trained)):
                develop = rows[name].make(profile, detector.grid)
                found.append(Tile(f"{level}: {name}", develop(raw)))
    return found


def raw_tiles(paths: list[Path]) -> list[Tile]:
    """Camera RAW files through both modes of the ISP.

    Raises:
        InputError: a file that is no Bayer RAW.
    """
    found = []
    for path in paths:
        frame, metadata = read_raw_file(path)
        config = IspConfig(black_level=metadata.black_level, white_level=metadata.white_level)
        aware = TaskAwareIsp(config, lambda size: (416, round(416 * size[1] / size[0])))
        views = aware.develop(frame, ("human", "detector"))
        found += [
            Tile(f"{path.name}: classical", np.asarray(ClassicalIsp(config).process(frame).image)),
            Tile(f"{path.name}: task-aware, human", np.asarray(views["human"].image)),
            Tile(f"{path.name}: task-aware, detector", np.asarray(views["detector"].image)),
        ]
    return found


def write_isp_report(
    path: Path,
    columns: list[Column],
    clean: dict[str, float],
    steady: dict[str, Steadiness],
    shown: list[Tile],
    raw: list[Tile],
    settings: dict[str, object],
    command: str,
) -> None:
    """Write the page."""
    detectors = list(dict.fromkeys(c.detector for c in columns))
    body = [
        section(
            f"AP of {escaped(detector)}",
            _table([c for c in columns if c.detector == detector]),
            "Average precision × 100 (COCO, IoU 0.5 to 0.95) on simulated RAW, mean over seeds. "
            f"The clean pictures give {100 * clean[detector]:.1f}. Bold is the best classical ISP "
            "of a level of light; below a trained one is its gain over that, with the 95 % "
            "interval of a paired bootstrap over pictures.",
        )
        for detector in detectors
    ]
    body.append(
        section(
            "AP against light",
            _light(columns, clean),
            "The best classical ISP of each level against the trained ones; dashed the clean "
            "pictures.",
        )
    )
    body.append(section("Side by side", _strip(shown), "What the first detector is given."))
    if raw:
        body.append(section("Real RAW", _strip(raw), "Camera files through both modes."))
    sentences = "".join(f"<li>{escaped(n)}: {s.sentence()}</li>" for n, s in steady.items())
    if sentences:
        body.append(section("Steadiness", f"<ul>{sentences}</ul>", "Without smoothing in time."))
    page = render_page("leadsight: ISPs for detectors", "\n".join(body), settings, command)
    path.write_text(page, encoding="utf-8")


def _table(columns: list[Column]) -> str:
    classical = {row.name for row in classical_rows()}

    def lines() -> Iterable[Iterable[str]]:
        for name in columns[0].ap:
            cells = []
            for c in columns:
                cell = f"{100 * c.ap[name]:.1f}"
                if name == c.best:
                    cell = f"<b>{cell}</b>"
                elif name not in classical:
                    g = c.gains[name]
                    cell = (
                        f"{cell} ± {number(100 * c.spread[name], '.1f')}<br>{100 * g.mean:+.1f} "
                        f"[{100 * g.low:+.1f}, {100 * g.high:+.1f}]"
                    )
                cells.append(cell)
            yield (escaped(name), *cells)

    return table(("ISP", *(escaped(c.level) for c in columns)), lines())


def _light(columns: list[Column], clean: dict[str, float]) -> str:
    detectors = list(clean)
    names = ["best classical", *columns[0].gains]

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(1, len(detectors), squeeze=False)
        for axes, detector in zip(grid.flat, detectors, strict=True):
            mine = [c for c in columns if c.detector == detector]
            at = range(len(mine))
            for color, name in zip(COLORS, names, strict=False):
                values = [100 * c.ap[c.best if name == names[0] else name] for c in mine]
                axes.plot(at, values, "o-", color=color, label=name)
            axes.axhline(100 * clean[detector], linestyle="--", color="#22a559", label="clean")
            axes.set_xticks(list(at), [c.level for c in mine])
            axes.set_title(detector[:40])
            axes.set_ylim(bottom=0)
        grid.flat[0].set_ylabel("AP × 100")
        grid.flat[0].legend()

    return figure_of(3.2 * len(detectors), 2.8, draw)


def _strip(shown: list[Tile]) -> str:
    def one(tile: Tile) -> str:
        height, width = tile.rgb.shape[:2]
        scale = min(_TILE[0] / width, _TILE[1] / height)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small: npt.NDArray[np.uint8] = np.asarray(
            cv2.resize(tile.rgb[..., ::-1], size, interpolation=way), np.uint8
        )
        return picture(small, tile.what, escaped(tile.what), size)

    return f"<div class=strip>{''.join(map(one, shown))}</div>"
