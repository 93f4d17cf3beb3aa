"""The encodings of objects, by the envelope's content."""

from comms import compact
from comms.envelope import Content, Envelope
from pipeline.errors import InputError
from pipeline.objects import Objects
from pipeline.pose import Pose


def encode(objects: Objects, pose: Pose, capture_ns: int, content: Content) -> bytes:
    """The payload of objects whose states speak for ``capture_ns``, as ``pose`` does.

    Raises:
        InputError: the states speak for another time, or an object cannot be put in that encoding.
    """
    if not objects.stamp_ns == pose.stamp_ns == capture_ns:
        raise InputError(
            f"Objects of {objects.stamp_ns} and a pose of {pose.stamp_ns} for a message of "
            f"{capture_ns}: predict them to the time of capture"
        )
    return compact.encode(objects, pose, capture_ns)


def decode(payload: bytes, envelope: Envelope) -> Objects:
    """The objects in a payload.

    Raises:
        Rejected: MALFORMED.
    """
    return compact.decode(payload, envelope)


def capacity(content: Content, room_bytes: int) -> int:
    """How many objects surely fit into a payload of ``room_bytes``."""
    return max(0, (room_bytes - compact.HEAD_BYTES) // compact.OBJECT_BYTES)


def object_bytes(content: Content) -> int:
    """What one more object takes."""
    return compact.OBJECT_BYTES
