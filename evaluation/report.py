"""An evaluation as one HTML page that needs no other file and no network."""

import base64
import html
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from evaluation.two_rate import is_two_rate
from evaluation.video import CARRIED, PREDICTED, STALE, TRUTH, Color, draw_box
from isp.classical import ClassicalIsp
from isp.make import Isp
from pipeline.box import FloatArray, iou

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _FAINT = "#010203", "#010204"
"""Stand for the page's own text and grid colors, which differ between dark and light."""
_COLORS = ("#ef4444", "#0ea5e9", "#f59e0b", "#a855f7", "#14b8a6", "#ec4899", "#84cc16")
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
                _section(
                    "AUC against latency",
                    _latency_figure(rows),
                    "Each line is a predictor, the dashed one the tracker without any latency: the "
                    "further a line stays up as latency grows, the more the predictor saves.",
                ),
                _curves(evaluation),
                _section(
                    "Age of information",
                    _age_figure(headline),
                    "How old the frame is that a user's newest answer rests on: it grows until the "
                    "next answer arrives, and drops to the tracker's latency then. At most "
                    f"the first {_AGE_SECONDS:g} s of {_text(headline.results[0].sequence.name)}, "
                    f"{_text(headline.tracker)}.",
                ),
                _strip(headline, isp or ClassicalIsp()),
                _section(
                    "Every sequence",
                    _sequences_table(evaluation),
                    "La0 AUC of each predictor and the share of the gap that it won back; age is "
                    "the mean age of what a user had, seen the share of frames that the tracker "
                    "had time for.",
                    folded=True,
                ),
            ]
        )
    footer = _footer(evaluation.settings, command)
    return _PAGE.replace("<!--body-->", body).replace("<!--footer-->", footer)


def _printable(value: object) -> str:
    """Text in which control characters and broken Unicode became a replacement character."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", str(value))


def _text(value: object) -> str:
    return html.escape(_printable(value), quote=True)


def _section(title: str, content: str, sentence: str, *, folded: bool = False) -> str:
    note = f"<p class=note>{sentence}</p>"
    if folded:
        return (
            f"<section><details><summary><h2>{title}</h2></summary>{content}{note}</details>"
            "</section>"
        )
    return f"<section><h2>{title}</h2>{content}{note}</section>"


def _number(value: float, form: str = ".3f") -> str:
    return format(value, form) if np.isfinite(value) else "–"


def _summary(rows: list[Row], headline: _Headline) -> str:
    means = {(row.latency, row.predictor): row for row in mean_rows(rows)}
    none = means[headline.latency, NONE]
    cards = [("offline", none.offline_auc, ".3f"), ("none", none.auc, ".3f")]
    if headline.predictor:
        best = means[headline.latency, headline.predictor]
        cards += [(headline.predictor, best.auc, ".3f"), ("gap recovered", best.gap_auc, ".0%")]
    boxes = "".join(
        f"<div class=card><b>{_number(value, form)}</b><span>{_text(name)}</span></div>"
        for name, value, form in cards
    )
    trackers = len({row.tracker for row in rows})
    who = _text(headline.tracker) if trackers == 1 else f"{trackers} trackers"
    many = "1 sequence" if none.sequences == 1 else f"{none.sequences} sequences"
    return (
        f"<div class=cards>{boxes}</div><p class=note>Mean AUC of {who} over {many}, latency "
        f"{_text(headline.latency)}: without latency, with stale answers"
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
    return _section(
        "Scores",
        table,
        "Offline: as if the tracker took no time. La0: what a user had at each frame's own moment. "
        "La_σ: mean over answers that may come up to one frame late. DP: share of frames at most "
        f"{DP_PX} px off. Gap recovered: how much of what latency costs the predictor won back; "
        "100 % is as good as no latency.",
    )


def _table(header: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    lines = ("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in body)
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        "</table></div>"
    )


def _rows_table(rows: list[Row]) -> str:
    def cells(row: Row) -> Iterable[str]:
        rivals = [r.auc for r in rows if (r.tracker, r.latency) == (row.tracker, row.latency)]
        auc = _number(row.auc)
        yield from (_text(row.tracker), _text(row.latency), _text(row.predictor))
        yield _number(row.offline_auc)
        yield f"<b>{auc}</b>" if row.auc == max(rivals) else auc
        yield from (_number(v) for v in (row.dp, row.sigma_auc, row.sigma_dp))
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
    return _table(header, map(cells, rows))


def _sequences_table(evaluation: Evaluation) -> str:
    first = evaluation.results[0]
    latencies = list(dict.fromkeys(latency for latency, _ in first.runs))
    predictors = list(dict.fromkeys(predictor for _, predictor in first.runs))

    def score(result: SequenceResult, latency: str, predictor: str) -> str:
        auc = _number(result.runs[latency, predictor].la0.auc)
        gap = result.gap(latency, predictor)
        return auc if predictor == NONE or not np.isfinite(gap) else f"{auc} ({gap:.0%})"

    def lines() -> Iterable[Iterable[str]]:
        for result in evaluation.results:
            frames = len(result.sequence)
            for latency in latencies:
                none = result.runs[latency, NONE]
                yield (
                    _text(result.tracker),
                    _text(result.sequence.name),
                    str(frames),
                    _text(latency),
                    _number(result.offline.auc),
                    *(score(result, latency, predictor) for predictor in predictors),
                    f"{none.mean_age_ns * 1e-6:.0f} ms",
                    f"{none.seen / frames:.0%}",
                )

    header = ("tracker", "sequence", "frames", "latency", "offline", *map(_text, predictors))
    return _table((*header, "age", "seen"), lines())


def _figure(width: float, height: float, draw: Callable[["Figure"], None]) -> str:
    """An SVG that takes its text and grid colors from the page."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "leadsight",
        "font.size": 9,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _FAINT,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "grid.color": _FAINT,
        "grid.linewidth": 0.6,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.8,
    }
    out = io.StringIO()
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--line)")
    return f"<div class=figure style='max-width:{6.2 * width:.0f}rem'>{svg}</div>"


def _color(predictor: str, predictors: list[str]) -> str:
    return _COLORS[predictors.index(predictor) % len(_COLORS)]


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
            axes.set_title(_printable(trackers[k][:48]))
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

    return _figure(1 + 3.6 * columns if columns > 1 else 6.4, 3.1 * lines, draw)


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
        name = _text(tracker)
        opened = " open" if k == 0 else ""
        parts.append(f"<details{opened}><summary>{name}</summary>{figure}</details>")
    return _section("Success and precision", "".join(parts), sentence)


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

    return _figure(9, 3.3 * len(latencies), draw)


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
            color = _COLORS[(k + 1) % len(_COLORS)]
            axes.step(
                seconds[shown], age[shown], where="post", linewidth=1.2, color=color, label=label
            )
        axes.set(xlabel="time in s", ylabel="age in ms", ylim=(0, None))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return _figure(9, 2.8, draw)


def _strip(headline: _Headline, isp: Isp) -> str:
    title = "What a user had"
    pictured = [r for r in headline.results if r.sequence.frames is not None]
    if not pictured:
        return _section(title, "", "No pictures: only boxes were stored.")
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
        f"<span class=key style='--c:rgb({c[2]},{c[1]},{c[0]})'>{_text(name)}</span>"
        for c, name in keys
    )
    return _section(
        title,
        f"<p>{key}</p><div class=strip>{tiles}</div>",
        f"Evenly spaced moments of {_text(result.sequence.name)}, the sequence on which latency "
        f"costs most ({_text(headline.tracker)}, {_text(headline.latency)}), cut out around the "
        "target: where it was, where the newest answer, stale by then, said it was, and what each "
        "predictor made of that.",
    )


def _tile(result: SequenceResult, k: int, drawn: dict[str, tuple[Run, Color]], isp: Isp) -> str:
    assert result.sequence.frames is not None
    truth = result.sequence.truth[k]
    image = isp.process(result.sequence.frames.read(k)).bgr()
    boxes = [(truth, TRUTH), *((run.boxes[k], color) for run, color in drawn.values())]
    tile = _cut_out(image, [(b, c) for b, c in boxes if np.isfinite(b).all()])
    _, data = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, 80])
    overlaps = [
        f"{_text(name)} {_number(float(iou(run.boxes[k], truth)), '.2f')}"
        for name, (run, _) in drawn.items()
    ]
    seconds = (result.sequence.stamps_ns[k] - result.sequence.stamps_ns[0]) * 1e-9
    age_ms = drawn["stale"][0].age_ns[k] * 1e-6
    return (
        f"<figure><img alt='frame {k}' width={_TILE[0]} height={_TILE[1]} "
        f"src='data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'>"
        f"<figcaption>{seconds:.2f} s, {age_ms:.0f} ms old; overlap "
        f"{', '.join(overlaps)}</figcaption></figure>"
    )


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


def _footer(settings: dict[str, object], command: str) -> str:
    items = "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in settings.items())
    line = f"<pre>{_text(command)}</pre>" if command else ""
    return f"<footer>{line}<dl>{items}</dl></footer>"


_PAGE = """<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<meta http-equiv=Content-Security-Policy
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>leadsight evaluation</title>
<style>
:root { color-scheme: light dark; --bg: #ffffff; --ink: #1c2430; --soft: #5b6675; --line: #d9dfe7;
  --panel: #f5f7fa; --accent: #0284c7; }
@media (prefers-color-scheme: dark) { :root { --bg: #12161c; --ink: #e4e9f0; --soft: #9aa6b5;
  --line: #323b47; --panel: #1a2028; --accent: #38bdf8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 64rem; background: var(--bg);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; } h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
section { margin-top: 2.2rem; } summary { cursor: pointer; } summary h2 { display: inline; }
.note { color: var(--soft); font-size: .88rem; margin: .5rem 0 0; max-width: 50rem; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem 1.1rem; min-width: 8rem; }
.card b { display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; overflow-wrap: normal;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
.bar { display: inline-block; min-width: 4.5rem; padding: 0 .3rem; border-radius: .2rem;
  background: linear-gradient(90deg, color-mix(in srgb, var(--accent) 35%, transparent) var(--w),
  transparent var(--w)); }
.figure svg { width: 100%; height: auto; } .figure text { font-family: inherit; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .7rem; }
figure { margin: 0; }
figure img { width: 100%; height: auto; border-radius: .3rem; display: block; }
figcaption { color: var(--soft); font-size: .8rem; }
.key { margin-right: 1.2rem; } .key::before { content: ""; display: inline-block; width: 1.1rem;
  height: .25rem; margin-right: .4rem; vertical-align: middle; background: var(--c); }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem;
  color: var(--soft); font-size: .82rem; }
footer pre { white-space: pre-wrap; background: var(--panel); padding: .6rem;
  border-radius: .3rem; }
footer dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
footer dd { margin: 0; }
</style></head><body>
<h1>leadsight evaluation</h1>
<!--body-->
<!--footer-->
</body></html>
"""
