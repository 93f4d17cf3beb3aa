"""``leadsight raw-doctor``: what an unknown RAW is, the options for it, and its four candidates."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isp.doctor import SURE, Diagnosis, examine, matches
from leadsight.raw_sheet import write_sheet
from leadsight.raw_source import RawSource, bits_of, parse_size, read_source
from pipeline.errors import InputError

_MANY_HOT = 1e-5
_TOPIC = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")


def run_raw_doctor(
    source: str,
    out: Path,
    size: str | None,
    step: int,
    bits: str,
    topic: str | None,
    console: Console,
) -> int:
    """Examine a file, a bag or a live topic; the exit status.

    Raises:
        InputError: it cannot be read, or is no picture whose order can be found.
    """
    path = Path(source)
    if source.startswith("/") and not path.exists() and _TOPIC.fullmatch(source):
        if size or step:
            raise InputError(f"{source}: a message says its own size and step; leave out these two")
        return _ask_topic(source, out, bits_of(bits))
    parsed = parse_size(size) if size else None
    report(read_source(path, parsed, step, bits, topic), out, console)
    return 0


def report(source: RawSource, out: Path, console: Console) -> None:
    """Print the findings and write the contact sheet.

    Raises:
        InputError: no order can be found; what was found is printed all the same.
    """
    try:
        diagnosis = examine(source.mosaic, source.bits)
    except InputError as error:
        raise InputError(f"{source.name}: {error}") from None
    console.print(_table(source, diagnosis))
    if diagnosis.problem:
        raise InputError(f"{source.name}: {diagnosis.problem}")
    for line in (*_doubts(diagnosis, out), *_contradictions(source, diagnosis)):
        console.print(escape(line), soft_wrap=True)
    write_sheet(source.mosaic, diagnosis, out)
    settings = [f"isp.{name}={_text(value)}" for name, value in diagnosis.options.items()]
    arguments = " ".join(f"--set {shlex.quote(setting)}" for setting in settings)
    console.print("\nas arguments:", escape(arguments), soft_wrap=True)
    console.print("as a parameter file:\n/**:\n  ros__parameters:\n    isp:")
    for name, value in diagnosis.options.items():
        console.print(f"      {name}: {_text(value)}", markup=False, highlight=False)
    console.print(f"wrote {out}: the four candidates, the chosen one framed", soft_wrap=True)


def _ask_topic(topic: str, out: Path, bits: int) -> int:
    """Let the node look at one message; it is a process of its own, as this one knows no ROS."""
    if importlib.util.find_spec("rclpy") is None:
        raise InputError(
            f"{topic}: no such file, and a topic needs ROS 2: source one, or `make install-ros`"
        )
    parameters = f"raw_doctor.out:={out.absolute()}", f"raw_doctor.bits:={bits}"
    arguments = ["-r", f"image_raw:={topic}", *(w for p in parameters for w in ("-p", p))]
    command = [sys.executable, "-m", "ros_nodes.raw_doctor", "--ros-args", *arguments]
    return subprocess.run(command, check=False).returncode


def _table(source: RawSource, found: Diagnosis) -> Table:
    table = Table("finding", "value", "how sure", "why", title=escape(source.name))
    for number, layout in enumerate(source.layouts[:3]):
        if number == 0:
            why = f"bytes two rows apart differ by {100 * layout.unlike:.0f} % of any two"
            table.add_row("layout", str(layout), "", why)
        else:
            table.add_row(
                "", f"[dim]or {layout}[/dim]", "", f"[dim]{100 * layout.unlike:.0f} %[/dim]"
            )
    table.add_row("size", f"{found.size[0]}x{found.size[1]}", "", _padding(found))
    if found.order is not None:
        order, sites = found.order.ranked[0], found.order
        table.add_row("green", _diagonal(order), _percent(sites.green), "the two greens agree")
        table.add_row("order", f"[bold]{order}[/bold]", _percent(sites.red), _why_red(found))
    bits = found.bits
    table.add_row("bits", str(bits.bits), _percent(bits.confidence), bits.why)
    side = f"{bits.shift} unused bits below" if bits.shift else "no unused bits below"
    table.add_row("justified", bits.justified, _percent(bits.confidence), side)
    known = "known" if found.black.known else "at most"
    shown = found.black.level if found.black.known else found.black.at_most
    table.add_row("black level", f"{shown:.1f}", known, found.black.why)
    if found.white is None:
        table.add_row(
            "white level", "–", "unknown", "no light is cut off: the bits' highest serves"
        )
    else:
        why = f"light is cut off there: {100 * found.saturated:.2f} % of the pixels"
        table.add_row("white level", f"{found.white:.0f}", "known", why)
    share = found.hot / (found.size[0] * found.size[1])
    remedy = ": isp.defect_threshold=0.08 removes them" if share > _MANY_HOT else ""
    why = "stand out of all eight neighbors of their color" + remedy
    table.add_row("hot or dead pixels", str(found.hot), "", why)
    return table


def _padding(found: Diagnosis) -> str:
    if not found.padding:
        return ""
    return f"without {found.padding} constant columns at the right end, which are padding"


def _diagonal(order: str) -> str:
    return "top left and bottom right" if order[0] == "g" else "top right and bottom left"


def _why_red(found: Diagnosis) -> str:
    assert found.order is not None
    cues = sorted(found.order.cues.items(), key=lambda cue: -abs(cue[1]))[:3]
    return ", ".join(f"{name} {value:+.1f}" for name, value in cues)


def _doubts(found: Diagnosis, out: Path) -> list[str]:
    assert found.order is not None
    lines = []
    first, second = found.order.ranked[:2]
    if found.order.green < SURE:
        lines.append(f"The green diagonal is not sure: look at all four candidates in {out}.")
    elif found.order.red < SURE:
        lines.append(
            f"Red and blue may be swapped ({first} or {second}): look at candidates 1 and 2 in "
            f"{out}. Skin, sky, brick or a red sign tell at once; nothing in a RAW does for sure."
        )
    if not found.black.known:
        lines.append("The black level is a guess: take a frame with the lens covered.")
    return lines


def _contradictions(source: RawSource, found: Diagnosis) -> list[str]:
    """Where the file or message says something else."""
    assert found.order is not None
    said, order, lines = source.said, found.order.ranked[0], []
    if said.order and said.order != order:
        green = (said.order[0] == "g") != (order[0] == "g")
        sure = found.order.green if green else found.order.red
        trust = "trust the pixels" if sure >= SURE else "trust it rather than this guess"
        what = "another green diagonal" if green else "red and blue swapped"
        lines.append(f"It says {said.order} itself, {what}: {trust}, and look at the candidates.")
    if said.bits and said.bits != found.bits.bits:
        lines.append(
            f"It says {said.bits} bits itself, the pixels show {found.bits.bits}: set isp.bits."
        )
    full = float((1 << found.bits.bits) - 1)
    if said.black and not matches(found.black.level, said.black, full):
        values = ", ".join(f"{v:g}" for v in sorted(set(said.black)))
        lines.append(f"It says a black level of {values} itself, the pixels show another.")
    return lines


def _percent(share: float) -> str:
    return f"{min(99.9, 100 * share):.3g} %"


def _text(value: object) -> str:
    return f"[{', '.join(f'{v:g}' for v in value)}]" if isinstance(value, list) else f"{value}"
