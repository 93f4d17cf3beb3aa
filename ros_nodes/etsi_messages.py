"""CPMs as ika's ``etsi_its_cpm_ts_msgs`` and back, where that package is installed.

Its messages follow ETSI's grammar field by field: names in snake case, ``<name>_is_present`` beside
what is optional, ``value`` in what is a number, ``array`` in what is a list, ``choice`` in what is
one of several. So one rule converts all of them; in between stands asn1tools' form
(comms/cpm_grammar.py).
"""

import array
import importlib
import re
from collections.abc import Mapping
from typing import Any

from comms import cpm_grammar
from pipeline.errors import InputError

PACKAGE = "etsi_its_cpm_ts_msgs.msg"
MAX_CONTAINERS = 8
_DATA = "container_data_"
_CONTAINERS = (
    "OriginatingVehicleContainer", "OriginatingRsuContainer", "SensorInformationContainer",
    "PerceptionRegionContainer", "PerceivedObjectContainer",
)  # fmt: skip
"""In the order of their ids, from 1."""


def cpm_message(payload: bytes) -> Any:
    """A ``CollectivePerceptionMessage`` of a CPM in UPER.

    Raises:
        InputError: no CPM, a container that the messages do not know, or ika's package or asn1tools
            is not installed.
    """
    message = _types().CollectivePerceptionMessage()
    _fill(message, cpm_grammar.read(payload))
    return message


def cpm_payload(message: Any) -> bytes:
    """The CPM in UPER of a ``CollectivePerceptionMessage``.

    Raises:
        InputError: a value that the grammar does not allow, or asn1tools is not installed.
    """
    count = len(message.payload.cpm_containers.value.array)
    if not 1 <= count <= MAX_CONTAINERS:  # asn1tools does not look
        raise InputError(f"CPM: {count} containers; give 1 to {MAX_CONTAINERS}")
    return cpm_grammar.write(_value(message))


def _types() -> Any:
    try:
        return importlib.import_module(PACKAGE)
    except ImportError:
        raise InputError(
            "etsi_its_cpm_ts_msgs is not installed: sudo apt install ros-$ROS_DISTRO-etsi-its-msgs"
        ) from None


def _fill(message: Any, value: Any) -> None:
    """Write a value in asn1tools' form into a message."""
    if isinstance(value, Mapping):
        if "containerId" in value:
            value = _named(value)
        for name, part in value.items():
            field = _snake(name)
            if hasattr(message, f"{field}_is_present"):
                setattr(message, f"{field}_is_present", True)
            _fill(getattr(message, field), part)
    elif isinstance(value, list):
        holder = message if hasattr(message, "array") else message.value
        kind = re.sub(r".*/|[<>\[\]]", "", type(holder).get_fields_and_field_types()["array"])
        make = getattr(_types(), kind)
        holder.array = [make() for _ in value]
        for each, part in zip(holder.array, value, strict=True):
            _fill(each, part)
    elif isinstance(value, tuple) and isinstance(value[0], bytes):
        message.value = array.array("B", value[0])
        message.bits_unused = 8 * len(value[0]) - value[1]
    elif isinstance(value, tuple):
        field = _snake(value[0])
        message.choice = getattr(type(message), f"CHOICE_{field.upper()}")
        _fill(getattr(message, field), value[1])
    elif isinstance(value, str):
        message.value = getattr(type(message), _snake(value).upper())
    else:
        message.value = value


def _named(container: Mapping[str, Any]) -> dict[str, Any]:
    """A container's data under the name that the messages give it."""
    kind = container["containerId"]
    return {"containerId": kind, f"containerData{_container(kind)}": container["containerData"]}


def _container(kind: int) -> str:
    if not 1 <= kind <= len(_CONTAINERS):
        raise InputError(f"CPM: container {kind} is not known; known are 1 to {len(_CONTAINERS)}")
    return _CONTAINERS[kind - 1]


def _value(message: Any) -> Any:
    """A message in asn1tools' form."""
    fields = list(type(message).get_fields_and_field_types())
    if "array" in fields:
        return [_value(each) for each in message.array]
    if "bits_unused" in fields:
        return bytes(message.value), 8 * len(message.value) - message.bits_unused
    if "choice" in fields:
        for field in fields:
            if getattr(type(message), f"CHOICE_{field.upper()}", None) == message.choice:
                return _camel(field), _value(getattr(message, field))
        raise InputError(f"CPM: {type(message).__name__}.choice is {message.choice}")
    if fields == ["value"]:
        return _number(message)
    if "container_id" in fields:
        kind = message.container_id.value
        data = getattr(message, _DATA + _snake(_container(kind)))
        return {"containerId": kind, "containerData": _value(data)}
    return {
        _camel(field): _value(getattr(message, field))
        for field in fields
        if not field.endswith("_is_present") and getattr(message, f"{field}_is_present", True)
    }


def _number(message: Any) -> Any:
    """An integer, the name of an enumerated value, or what a mere wrapper holds."""
    value = message.value
    if not isinstance(value, int):
        return _value(value)
    kind = type(message)
    if hasattr(kind, "MAX"):  # no enumeration has limits
        return value
    for name in dir(kind):
        if name.isupper() and not name.startswith("_") and getattr(kind, name) == value:
            return _camel(name.lower())
    raise InputError(f"CPM: {kind.__name__} is {value}, which has no name")


def _snake(name: str) -> str:
    """``measurementDeltaTime`` → measurement_delta_time, ``alt-000-01`` → alt_000_01."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|-", "_", name).lower()


def _camel(name: str) -> str:
    """The reverse: numbers stand behind hyphens."""
    first, *rest = name.split("_")
    return first + "".join(f"-{p}" if p.isdigit() else p.capitalize() for p in rest)
