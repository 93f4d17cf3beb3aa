"""Any CPM by ETSI's grammar (comms/asn1), through asn1tools (extra: cpm): slower than comms/cpm.py,
and complete. For messages of others, and to hold ours to the standard."""

from functools import cache
from importlib import resources
from typing import Any

from comms.reasons import Reason, Rejected
from pipeline.errors import InputError, first_line

MAX_BYTES = 65_536
_CONTAINERS = {
    1: "OriginatingVehicleContainer",
    2: "OriginatingRsuContainer",
    3: "SensorInformationContainer",
    4: "PerceptionRegionContainer",
    5: "PerceivedObjectContainer",
}
_MESSAGE = "CollectivePerceptionMessage"


@cache
def grammar() -> Any:
    """The compiled grammar; takes a second the first time.

    Raises:
        InputError: asn1tools is not installed.
    """
    try:
        import asn1tools
    except ImportError:
        raise InputError(
            "asn1tools is not installed, which a CPM by the grammar needs: "
            "pip install 'leadsight[cpm]'"
        ) from None
    folder = resources.files("comms") / "asn1"
    texts = [f.read_text("ascii") for f in folder.iterdir() if f.name.endswith(".asn")]
    return asn1tools.compile_string("\n".join(texts), "uper")


def write(message: dict[str, Any]) -> bytes:
    """A CPM from asn1tools' form, whose ``containerData`` are values, not bytes.

    Raises:
        InputError: a value that the grammar does not allow.
    """
    import asn1tools

    compiled = grammar()
    payload = message["payload"]
    try:
        containers = [
            {**c, "containerData": compiled.encode(
                _CONTAINERS[c["containerId"]], c["containerData"], check_constraints=True
            )}
            for c in payload["cpmContainers"]
        ]  # fmt: skip
        whole = {**message, "payload": {**payload, "cpmContainers": containers}}
        data: bytes = compiled.encode(_MESSAGE, whole, check_constraints=True)
    except asn1tools.Error as error:
        raise InputError(f"CPM: {first_line(error)}") from None
    return data


def read(data: bytes) -> dict[str, Any]:
    """A CPM in asn1tools' form, whose ``containerData`` are values where the grammar knows them.

    Raises:
        Rejected: OVERSIZE or MALFORMED.
    """
    if len(data) > MAX_BYTES:
        raise Rejected(Reason.OVERSIZE, f"{len(data)} bytes; {MAX_BYTES} is the most")
    compiled = grammar()
    try:
        message: dict[str, Any] = compiled.decode(_MESSAGE, data)
        for container in message["payload"]["cpmContainers"]:
            name = _CONTAINERS.get(container["containerId"])
            if name:
                container["containerData"] = compiled.decode(name, container["containerData"])
    except Exception as error:  # asn1tools raises many kinds on bytes that are no message
        raise Rejected(Reason.MALFORMED, first_line(error)) from None
    return message
