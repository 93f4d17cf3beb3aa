"""The encodings of objects, by the envelope's content."""

import math

from comms import compact, cpm
from comms.envelope import Content, Envelope
from comms.geodesy import Origin
from pipeline.errors import InputError
from pipeline.objects import Objects
from pipeline.pose import Pose


def encode(
    objects: Objects,
    pose: Pose,
    capture_ns: int,
    content: Content,
    station: int = 0,
    origin: Origin | None = None,
) -> bytes:
    """The payload of objects whose states speak for ``capture_ns``, as ``pose`` does.

    station, origin: what a CPM says besides, of the sender and of the frame's place on the earth.

    Raises:
        InputError: the states speak for another time, or an object cannot be put in that encoding.
    """
    if not objects.stamp_ns == pose.stamp_ns == capture_ns:
        raise InputError(
            f"Objects of {objects.stamp_ns} and a pose of {pose.stamp_ns} for a message of "
            f"{capture_ns}: predict them to the time of capture"
        )
    if content is Content.CPM:
        return cpm.encode(objects, pose, capture_ns, station, origin)
    return compact.encode(objects, pose, capture_ns)


def decode(payload: bytes, envelope: Envelope) -> Objects:
    """The objects in a payload.

    Raises:
        Rejected: MALFORMED.
    """
    if envelope.content is Content.CPM:
        return cpm.decode(payload, envelope)
    return compact.decode(payload, envelope)


def capacity(content: Content, room_bytes: int) -> int:
    """How many objects surely fit into a payload of ``room_bytes``."""
    if content is Content.CPM:
        return min(cpm.MAX_OBJECTS, max(0, 8 * (room_bytes - cpm.HEAD_BYTES) // cpm.OBJECT_BITS))
    return max(0, (room_bytes - compact.HEAD_BYTES) // compact.OBJECT_BYTES)


def object_bytes(content: Content) -> int:
    """What one more object takes at most."""
    return math.ceil(cpm.OBJECT_BITS / 8) if content is Content.CPM else compact.OBJECT_BYTES


def head_bytes(content: Content) -> int:
    """What a payload takes at most beside its objects."""
    return cpm.HEAD_BYTES if content is Content.CPM else compact.HEAD_BYTES
