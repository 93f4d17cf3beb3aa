"""What every report has in common: one HTML page that needs no other file and no network."""

import base64
import html
import io
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _FAINT = "#010203", "#010204"
"""Stand for the page's own text and grid colors, which differ between dark and light."""
COLORS = ("#ef4444", "#0ea5e9", "#f59e0b", "#a855f7", "#14b8a6", "#ec4899", "#84cc16")


def render_page(title: str, body: str, settings: dict[str, object], command: str) -> str:
    """The page's text. settings, command: what was run, for the footer."""
    text = _PAGE.replace("<!--title-->", escaped(title)).replace("<!--body-->", body)
    return text.replace("<!--footer-->", _footer(settings, command))


def printable(value: object) -> str:
    """Text in which control characters and broken Unicode became a replacement character."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", str(value))


def escaped(value: object) -> str:
    return html.escape(printable(value), quote=True)


def section(title: str, content: str, sentence: str, *, folded: bool = False) -> str:
    note = f"<p class=note>{sentence}</p>"
    if folded:
        return (
            f"<section><details><summary><h2>{title}</h2></summary>{content}{note}</details>"
            "</section>"
        )
    return f"<section><h2>{title}</h2>{content}{note}</section>"


def number(value: float, form: str = ".3f") -> str:
    return format(value, form) if np.isfinite(value) else "–"


def table(header: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    lines = ("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in body)
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        "</table></div>"
    )


def figure_of(width: float, height: float, draw: Callable[["Figure"], None]) -> str:
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


def picture(image: npt.NDArray[np.uint8], alt: str, caption: str, size: tuple[int, int]) -> str:
    """A BGR picture inside the page; caption: HTML."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return (
        f"<figure><img alt='{escaped(alt)}' width={size[0]} height={size[1]} "
        f"src='data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _footer(settings: dict[str, object], command: str) -> str:
    items = "".join(f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd>" for k, v in settings.items())
    line = f"<pre>{escaped(command)}</pre>" if command else ""
    return f"<footer>{line}<dl>{items}</dl></footer>"


_PAGE = """<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<meta http-equiv=Content-Security-Policy
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title><!--title--></title>
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
<h1><!--title--></h1>
<!--body-->
<!--footer-->
</body></html>
"""
