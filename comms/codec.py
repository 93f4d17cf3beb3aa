"""The encodings of objects, by the envelope's content, and the sender as one of them."""

import math

import numpy as np

from comms import compact, cpm
from comms.envelope import Body, Content, Envelope
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
    """About how many objects fit into a payload of ``room_bytes``."""
    if content is Content.CPM:
        return min(cpm.MAX_OBJECTS, max(0, 8 * (room_bytes - cpm.HEAD_BYTES) // cpm.OBJECT_BITS))
    room = (room_bytes - compact.HEAD_BYTES) // compact.OBJECT_BYTES
    return min(compact.MAX_COUNT, max(0, room))


def object_bytes(content: Content) -> int:
    """About what one more object takes."""
    return math.ceil(cpm.OBJECT_BITS / 8) if content is Content.CPM else compact.OBJECT_BYTES


def head_bytes(content: Content) -> int:
    """About what a payload takes beside its objects."""
    return cpm.HEAD_BYTES if content is Content.CPM else compact.HEAD_BYTES


SELF_ID = 65535
"""Of a sender among the objects that it tells of; own perception uses other ids."""


def sender(pose: Pose, body: Body, station: int = 0) -> Objects:
    """Who sends, as an object at its pose, whose own error is not in it: receivers add that."""
    return _SENDER.derived(
        stamp_ns=pose.stamp_ns,
        ready_ns=pose.stamp_ns,
        stations=np.array([station], np.uint32),
        positions=pose.position[None],
        velocities=pose.velocity[None],
        yaws=np.array([pose.yaw]),
        sizes=np.array([[body.length_m, body.width_m, body.height_m]]),
        classes=np.array([body.kind], np.uint8),
        measured_ns=np.array([pose.stamp_ns]),
    )


_SENDER = Objects(
    0, 0, np.array([SELF_ID], np.int32), np.zeros(1, np.uint32), np.zeros((1, 3)),
    np.zeros((1, 3)), np.zeros(1), np.zeros((1, 3)),
    np.diag([1e-4, 1e-4, 1e-4, 0.1, 0.1, 0.1])[None], np.zeros(1, np.uint8), np.ones(1),
    np.zeros(1, np.int64),
)  # fmt: skip
