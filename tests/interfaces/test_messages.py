"""leadsight_msgs: every field explained, and carried unchanged by the real ROS 2 serialization."""

import array
import importlib
import re
from pathlib import Path

import pytest

FILES = sorted(
    path
    for folder in ("msg", "srv", "action")
    for path in (Path(__file__).parents[2] / "interfaces" / folder).iterdir()
)
FIELD = re.compile(r"^\s*[a-zA-Z][\w/]*(\[\d*\])?\s+[a-z]\w*\s*(?P<comment>#.*)?$")


def test_the_interfaces_are_found() -> None:
    assert {"Span.msg", "TrackArray.msg", "ForecastArray.msg", "Select.srv", "Ask.action"} <= {
        path.name for path in FILES
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_field_is_explained(path: Path) -> None:
    fields = [m for m in map(FIELD.match, path.read_text().splitlines()) if m]
    assert fields
    assert [m[0] for m in fields if not (m["comment"] or "").strip("# ")] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_time_is_signed_nanoseconds(path: Path) -> None:
    times = re.findall(r"^(\S+) +\w+_ns\b", path.read_text(), re.MULTILINE)
    assert all(kind in ("int64", "int64[]") for kind in times)


NUMBERS = {
    "float": ("f", [0.5, -2.25]),
    "double": ("d", [1e-9, 1e300]),
    "uint8": ("B", [0, 255]),
    "int16": ("h", [-(2**15), 2**15 - 1]),
    "int32": ("i", [-(2**31), 2**31 - 1]),
    "uint32": ("I", [0, 2**32 - 1]),
    "int64": ("q", [-(2**63), 2**63 - 1]),
    "uint64": ("Q", [0, 2**64 - 1]),
}


def fill(message: object) -> None:
    """Give every field a value that a narrower or other type could not hold."""
    for name, kind in message.get_fields_and_field_types().items():
        scalar = re.sub(r"^sequence<(.*)>$|\[\d+\]$", r"\1", kind)
        if scalar in NUMBERS:
            code, values = NUMBERS[scalar]
            if kind == scalar:
                setattr(message, name, values[1])
            elif fixed := re.search(r"\[(\d+)\]$", kind):
                setattr(message, name, (values * int(fixed[1]))[: int(fixed[1])])
            else:
                setattr(message, name, array.array(code, values * 3))
        elif scalar == "string":
            setattr(message, name, "näme" if kind == scalar else ["", "näme"])
        elif scalar == "boolean":
            setattr(message, name, True)
        elif scalar.startswith("leadsight_msgs/"):
            fill(getattr(message, name))
        else:
            header = getattr(message, name)
            header.stamp.sec, header.stamp.nanosec = 2**31 - 1, 999_999_999
            header.frame_id = "camera_optical"


def types() -> list[tuple[str, str, str]]:
    parts = {
        "msg": [""],
        "srv": ["Request", "Response"],
        "action": ["Goal", "Result", "Feedback"],
    }
    return [(p.parent.name, p.stem, part) for p in FILES for part in parts[p.parent.name]]


@pytest.mark.parametrize("case", types(), ids=".".join)
def test_a_message_survives_the_wire(case: tuple[str, str, str]) -> None:
    pytest.importorskip("leadsight_msgs", reason="leadsight_msgs is not built")
    serialization = pytest.importorskip("rclpy.serialization")
    folder, name, part = case
    kind = getattr(importlib.import_module(f"leadsight_msgs.{folder}"), name)
    kind = getattr(kind, part) if part else kind
    message = kind()
    fill(message)
    read = serialization.deserialize_message(serialization.serialize_message(message), kind)
    assert read == message != kind()
    for field, text in kind.get_fields_and_field_types().items():
        if text.startswith("sequence<") and text != "sequence<string>":
            assert isinstance(getattr(read, field), array.array), field
