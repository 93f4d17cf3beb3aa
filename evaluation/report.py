"""An evaluation as one HTML page that needs no other file and no network."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from evaluation.evaluate import NONE, Evaluation, Row, SequenceResult, mean_rows
from evaluation.metrics import (
    CENTER_THRESHOLDS_PX,
    DP_PX,
    IOU_THRESHOLDS,
    mean_curve,
)
from evaluation.online import Run
from evaluation.page import (
    COLORS,
    escaped,
    figure_of,
    number,
    picture,
    printable,
    render_page,
    section,
    table,
)
from evaluation.two_rate import is_two_rate
from evaluation.video import CARRIED, PREDICTED, STALE, TRUTH, Color, draw_box
from isp.classical import ClassicalIsp
from isp.make import Isp
from pipeline.box import FloatArray, iou

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OFFLINE = "#22a559"
_AGE_SECONDS = 12.0
_STRIP = 6
_TILE = (320, 240)


@dataclass(frozen=True)
class _Headline:
    """What single-run figures show: the first tracker, the latency that costs most AUC, and the
    predictor with the best AUC there, "" where none was asked for. shown: the best of those that
    predict from answers alone and the best that carries them, with their colors."""

    tracker: str
    latency: str
    predictor: str
    shown: dict[str, Color]
    results: list[SequenceResult]

    @classmethod
    def of(cls, evaluation: Evaluation, rows: list[Row]) -> "_Headline":
        means = mean_rows(rows)
        stale = [row for row in means if row.predictor == NONE]
        latency = max(stale, key=lambda row: row.offline_auc - row.auc).latency
        first = evaluation.results[0]
        rivals = [r for r in means if r.latency == latency and r.predictor != NONE]
        ranked = [r.predictor for r in sorted(rivals, key=lambda row: row.auc, reverse=True)]
        shown = {}
        for color, carries in ((PREDICTED, False), (CARRIED, True)):
            kind = [name for name in ranked if is_two_rate(name) == carries]
            shown.update(dict.fromkeys(kind[:1], color))
        results = [r for r in evaluation.results if r.tracker == first.tracker]
        return cls(first.tracker, latency, ranked[0] if ranked else "", shown, results)

    def costliest(self, results: list[SequenceResult]) -> SequenceResult:
        """The sequence on which latency costs most AUC."""
        return max(results, key=lambda r: r.offline.auc - r.runs[self.latency, NONE].la0.auc)


def write_report(
    evaluation: Evaluation, path: Path, *, command: str = "", isp: Isp | None = None
) -> None:
    """Write the page.

    command: what was run, for the footer. isp: develops RAW frames for the strip.
    """
    path.write_text(render(evaluation, command=command, isp=isp), encoding="utf-8")


def render(evaluation: Evaluation, *, command: str = "", isp: Isp | None = None) -> str:
    """The page's text."""
    if not evaluation.results:
        body = "<p>Nothing was evaluated.</p>"
    else:
        rows = evaluation.rows()
        headline = _Headline.of(evaluation, rows)
        body = "\n".join(
            [
                _summary(rows, headline),
                _scores(rows),
                section(
                    "AUC against latency",
                    _latency_figure(rows),
                    "Each line is a predictor, the dashed one the tracker without any latency: the "
                    "further a line stays up as latency grows, the more the predictor saves.",
                ),
                _curves(evaluation),
                section(
                    "Age of information",
                    _age_figure(headline),
                    "How old the frame is that a user's newest answer rests on: it grows until the "
                    "next answer arrives, and drops to the tracker's latency then. At most "
                    f"the first {_AGE_SECONDS:g} s of "
                    f"{escaped(headline.results[0].sequence.name)}, {escaped(headline.tracker)}.",
                ),
                _strip(headline, isp or ClassicalIsp()),
                section(
                    "Every sequence",
                    _sequences_table(evaluation),
                    "La0 AUC of each predictor and the share of the gap that it won back; age is "
                    "the mean age of what a user had, seen the share of frames that the tracker "
                    "had time for.",
                    folded=True,
                ),
            ]
        )
    return render_page("leadsight evaluation", body, evaluation.settings, command)


def _summary(rows: list[Row], headline: _Headline) -> str:
    means = {(row.latency, row.predictor): row for row in mean_rows(rows)}
    none = means[headline.latency, NONE]
    cards = [("offline", none.offline_auc, ".3f"), ("none", none.auc, ".3f")]
    if headline.predictor:
        best = means[headline.latency, headline.predictor]
        cards += [(headline.predictor, best.auc, ".3f"), ("gap recovered", best.gap_auc, ".0%")]
    boxes = "".join(
        f"<div class=card><b>{number(value, form)}</b><span>{escaped(name)}</span></div>"
        for name, value, form in cards
    )
    trackers = len({row.tracker for row in rows})
    who = escaped(headline.tracker) if trackers == 1 else f"{trackers} trackers"
    many = "1 sequence" if none.sequences == 1 else f"{none.sequences} sequences"
    return (
        f"<div class=cards>{boxes}</div><p class=note>Mean AUC of {who} over {many}, latency "
        f"{escaped(headline.latency)}: without latency, with stale answers"
        + (
            ", and with answers forecast for the moment of use.</p>"
            if headline.predictor
            else ".</p>"
        )
    )


def _scores(rows: list[Row]) -> str:
    table = _rows_table(rows)
    if len({row.tracker for row in rows}) > 1:
        table = (
            _rows_table(mean_rows(rows))
            + f"<details><summary>each tracker</summary>{table}</details>"
        )
    return section(
        "Scores",
        table,
        "Offline: as if the tracker took no time. La0: what a user had at each frame's own moment. "
        "La_σ: mean over answers that may come up to one frame late. DP: share of frames at most "
        f"{DP_PX} px off. Gap recovered: how much of what latency costs the predictor won back; "
        "100 % is as good as no latency.",
    )


def _rows_table(rows: list[Row]) -> str:
    def cells(row: Row) -> Iterable[str]:
        rivals = [r.auc for r in rows if (r.tracker, r.latency) == (row.tracker, row.latency)]
        auc = number(row.auc)
        yield from (escaped(row.tracker), escaped(row.latency), escaped(row.predictor))
        yield number(row.offline_auc)
        yield f"<b>{auc}</b>" if row.auc == max(rivals) else auc
        yield from (number(v) for v in (row.dp, row.sigma_auc, row.sigma_dp))
        for gap in (row.gap_auc, row.gap_dp):
            if row.predictor == NONE or not np.isfinite(gap):
                yield "–"
            else:
                width = 100 * min(max(gap, 0.0), 1.0)
                yield f"<span class=bar style='--w:{width:.0f}%'>{gap:.0%}</span>"

    header = (
        "tracker", "latency", "predictor", "offline AUC", "La0 AUC", "La0 DP", "La_σ AUC",
        "La_σ DP", "gap, AUC", "gap, DP",
    )  # fmt: skip
    return table(header, map(cells, rows))


def _sequences_table(evaluation: Evaluation) -> str:
    first = evaluation.results[0]
    latencies = list(dict.fromkeys(latency for latency, _ in first.runs))
    predictors = list(dict.fromkeys(predictor for _, predictor in first.runs))

    def score(result: SequenceResult, latency: str, predictor: str) -> str:
        auc = number(result.runs[latency, predictor].la0.auc)
        gap = result.gap(latency, predictor)
        return auc if predictor == NONE or not np.isfinite(gap) else f"{auc} ({gap:.0%})"

    def lines() -> Iterable[Iterable[str]]:
        for result in evaluation.results:
            frames = len(result.sequence)
            for latency in latencies:
                none = result.runs[latency, NONE]
                yield (
                    escaped(result.tracker),
                    escaped(result.sequence.name),
                    str(frames),
                    escaped(latency),
                    number(result.offline.auc),
                    *(score(result, latency, predictor) for predictor in predictors),
                    f"{none.mean_age_ns * 1e-6:.0f} ms",
                    f"{none.seen / frames:.0%}",
                )

    header = ("tracker", "sequence", "frames", "latency", "offline", *map(escaped, predictors))
    return table((*header, "age", "seen"), lines())


def _color(predictor: str, predictors: list[str]) -> str:
    return COLORS[predictors.index(predictor) % len(COLORS)]


def _latency_figure(rows: list[Row]) -> str:
    trackers = list(dict.fromkeys(row.tracker for row in rows))
    latencies = list(dict.fromkeys(row.latency for row in rows))
    predictors = list(dict.fromkeys(row.predictor for row in rows))
    columns = min(3, len(trackers))
    lines = -(-len(trackers) // columns)
    found = [re.match(r"([\d.]+) ms", label) for label in latencies]
    at = [float(m[1]) if m else float("nan") for m in found]
    numeric = bool(np.isfinite(at).all()) and len(set(at)) == len(at)
    if numeric:
        at, latencies = (
            list(c) for c in zip(*sorted(zip(at, latencies, strict=True)), strict=True)
        )
    else:
        at = list(range(len(latencies)))
    top = 1.05 * max(max(row.auc, row.offline_auc) for row in rows) + 0.01

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for k, axes in enumerate(grid.flat):
            if k >= len(trackers):
                axes.set_axis_off()
                continue
            mine = [row for row in rows if row.tracker == trackers[k]]
            best = mine[0].offline_auc
            axes.axhline(best, color=_OFFLINE, linestyle="--", label="offline")
            for predictor in predictors:
                auc = {row.latency: row.auc for row in mine if row.predictor == predictor}
                color = _color(predictor, predictors)
                values = [auc[latency] for latency in latencies]
                if numeric:  # without latency there is nothing to predict
                    axes.plot([0, *at], [best, *values], color=color)
                axes.plot(at, values, "o-", color=color, markersize=4, label=predictor)
            axes.set_title(printable(trackers[k][:48]))
            axes.set_ylim(0, top)
            if numeric:
                axes.set_xlim(0, max(at) * 1.1)
            else:
                axes.set_xticks(at, [label[:24] for label in latencies])
            if k % columns == 0:
                axes.set_ylabel("La0 AUC")
            if k // columns == lines - 1:
                axes.set_xlabel("latency of the tracker" + (" in ms" if numeric else ""))
        grid.flat[0].legend(loc="lower left")

    return figure_of(1 + 3.6 * columns if columns > 1 else 6.4, 3.1 * lines, draw)


def _curves(evaluation: Evaluation) -> str:
    """Success and precision of every tracker: a row of panels a latency."""
    sentence = (
        "Success: share of frames whose overlap with the truth exceeds the threshold; the area "
        "under it is the AUC. Precision: share of frames whose center lies within the distance; "
        f"DP is its value at {DP_PX} px. Both at σ = 0: higher is better."
    )
    parts = []
    for k, tracker in enumerate(dict.fromkeys(r.tracker for r in evaluation.results)):
        figure = _curve_figure(evaluation, tracker)
        name = escaped(tracker)
        opened = " open" if k == 0 else ""
        parts.append(f"<details{opened}><summary>{name}</summary>{figure}</details>")
    return section("Success and precision", "".join(parts), sentence)


def _curve_figure(evaluation: Evaluation, tracker: str) -> str:
    results = [r for r in evaluation.results if r.tracker == tracker]
    latencies = list(dict.fromkeys(latency for latency, _ in results[0].runs))
    predictors = list(dict.fromkeys(predictor for _, predictor in results[0].runs))
    kinds = (
        ("success", IOU_THRESHOLDS, "overlap threshold", "auc", "AUC"),
        ("precision", CENTER_THRESHOLDS_PX, "distance in px", "dp", "DP"),
    )

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(len(latencies), 2, squeeze=False, sharey=True)
        for latency, line in zip(latencies, grid, strict=True):
            for axes, (curve, x, label, value, short) in zip(line, kinds, strict=True):
                best = mean_curve([getattr(r.offline, curve) for r in results])
                score = np.mean([getattr(r.offline, value) for r in results])
                text = f"offline ({short} {score:.3f})"
                axes.plot(x, best, "--", color=_OFFLINE, label=text)
                for predictor in predictors:
                    score = np.mean(
                        [getattr(r.runs[latency, predictor].la0, value) for r in results]
                    )
                    axes.plot(
                        x,
                        evaluation.curve(tracker, latency, predictor, curve),
                        color=_color(predictor, predictors),
                        label=f"{predictor} ({short} {score:.3f})",
                    )
                axes.set(xlim=(x[0], x[-1]), ylim=(0, 1), xlabel=label)
                axes.set_title(f"{curve.capitalize()} at {latency}")
                axes.legend(loc="lower left" if curve == "success" else "lower right")
            line[0].set_ylabel("share of frames")

    return figure_of(9, 3.3 * len(latencies), draw)


def _age_figure(headline: _Headline) -> str:
    result = headline.results[0].full()
    stamps = result.sequence.stamps_ns
    seconds = (stamps - stamps[0]) * 1e-9
    shown = seconds <= _AGE_SECONDS
    latencies = list(dict.fromkeys(latency for latency, _ in result.runs))

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for k, latency in enumerate(latencies):
            age = result.runs[latency, NONE].age_ns * 1e-6
            label = (
                f"{latency}: mean {age.mean():.0f} ms, 99 % under {np.percentile(age, 99):.0f} ms"
            )
            color = COLORS[(k + 1) % len(COLORS)]
            axes.step(
                seconds[shown], age[shown], where="post", linewidth=1.2, color=color, label=label
            )
        axes.set(xlabel="time in s", ylabel="age in ms", ylim=(0, None))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return figure_of(9, 2.8, draw)


def _strip(headline: _Headline, isp: Isp) -> str:
    title = "What a user had"
    pictured = [r for r in headline.results if r.sequence.frames is not None]
    if not pictured:
        return section(title, "", "No pictures: only boxes were stored.")
    result = headline.costliest(pictured).full()
    drawn = {"stale": (result.runs[headline.latency, NONE], STALE)}
    for name, color in headline.shown.items():
        drawn[name] = result.runs[headline.latency, name], color
    seen = np.flatnonzero(np.isfinite(result.sequence.truth).all(axis=1))
    seen = seen[seen >= min(5, seen[-1])]
    picks = np.unique(seen[np.linspace(0, len(seen) - 1, _STRIP + 1).astype(int)[1:]])
    tiles = "".join(_tile(result, int(k), drawn, isp) for k in picks)
    keys = [(TRUTH, "truth"), *((color, name) for name, (_, color) in drawn.items())]
    key = "".join(
        f"<span class=key style='--c:rgb({c[2]},{c[1]},{c[0]})'>{escaped(name)}</span>"
        for c, name in keys
    )
    return section(
        title,
        f"<p>{key}</p><div class=strip>{tiles}</div>",
        f"Evenly spaced moments of {escaped(result.sequence.name)}, the sequence on which latency "
        f"costs most ({escaped(headline.tracker)}, {escaped(headline.latency)}), cut out around "
        "the target: where it was, where the newest answer, stale by then, said it was, and what "
        "each predictor made of that.",
    )


def _tile(result: SequenceResult, k: int, drawn: dict[str, tuple[Run, Color]], isp: Isp) -> str:
    assert result.sequence.frames is not None
    truth = result.sequence.truth[k]
    image = isp.process(result.sequence.frames.read(k)).bgr()
    boxes = [(truth, TRUTH), *((run.boxes[k], color) for run, color in drawn.values())]
    tile = _cut_out(image, [(b, c) for b, c in boxes if np.isfinite(b).all()])
    overlaps = [
        f"{escaped(name)} {number(float(iou(run.boxes[k], truth)), '.2f')}"
        for name, (run, _) in drawn.items()
    ]
    seconds = (result.sequence.stamps_ns[k] - result.sequence.stamps_ns[0]) * 1e-9
    age_ms = drawn["stale"][0].age_ns[k] * 1e-6
    caption = f"{seconds:.2f} s, {age_ms:.0f} ms old; overlap {', '.join(overlaps)}"
    return picture(tile, f"frame {k}", caption, _TILE)


def _cut_out(
    image: npt.NDArray[np.uint8], boxes: list[tuple[FloatArray, tuple[int, int, int]]]
) -> npt.NDArray[np.uint8]:
    """The surroundings of the true box, enlarged to a tile, with the boxes drawn on it."""
    width = image.shape[1]
    x, y, w, h = boxes[0][0]
    span = min(max(4.0 * w, 4.0 * h * _TILE[0] / _TILE[1], 48.0), float(width))
    scale = _TILE[0] / span
    left, top = x + w / 2 - span / 2, y + h / 2 - span * _TILE[1] / _TILE[0] / 2
    move = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = np.asarray(cv2.warpAffine(image, move, _TILE, flags=kind), np.uint8)
    for box, color in boxes:
        draw_box(tile, (box - (left, top, 0, 0)) * scale, color)
    return tile
