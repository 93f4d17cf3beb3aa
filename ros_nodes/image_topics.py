"""Images over topics with the fewest copies that rclpy allows: megabytes 30 times a second.

Coming in, an image is taken as the bytes that the wire brought and read where it lies, which spares
the copies of the generated classes. Going out, one message is used again and again, and pictures
are made in its memory.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from pipeline.errors import InputError
from pipeline.frame import Frame
from ros_nodes import messages, qos
from ros_nodes.stage import Stage

_ORDERS = {b"\x00\x00": ">", b"\x00\x01": "<"}  # plain CDR, the first two of its four bytes


@dataclass(frozen=True, slots=True)
class ReceivedImage:
    """The fields of a sensor_msgs/Image; ``data`` lies in the received bytes."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


def subscribe(
    node: Node,
    topic: str,
    receive: Callable[[ReceivedImage, Any], None],
    stage: Stage,
    overrides: QoSOverridingOptions | None = None,
) -> Subscription:
    """Calls back with each image and its MessageInfo; bytes that are no image are a complaint of
    the stage's."""

    def take(data: bytes, info: Any) -> None:
        with stage.complaining():
            receive(received_image(data), info)

    return node.create_subscription(
        Image, topic, take, qos.images(), qos_overriding_options=overrides, raw=True
    )


def received_image(data: bytes) -> ReceivedImage:
    """A serialized sensor_msgs/Image: plain CDR, as every ROS 2 sends a type like this.

    Raises:
        InputError: another representation, or bytes that end before the message does.
    """
    order = _ORDERS.get(data[:2])
    if order is None:
        raise InputError(f"image of representation {data[:2].hex()}, known is plain CDR")
    try:
        return _read(memoryview(data)[4:], order)
    except (struct.error, UnicodeDecodeError):
        raise InputError(
            f"{len(data)} bytes are no sensor_msgs/Image; its sender is at fault"
        ) from None


def _read(body: memoryview, order: str) -> ReceivedImage:
    seconds, nanoseconds = struct.unpack_from(order + "iI", body)
    frame_id, at = _text(body, 8, order)
    height, width = struct.unpack_from(order + "II", body, _aligned(at))
    encoding, at = _text(body, _aligned(at) + 8, order)
    (is_bigendian,) = struct.unpack_from("B", body, at)
    step, length = struct.unpack_from(order + "II", body, _aligned(at + 1))
    at = _aligned(at + 1) + 8
    head = Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)
    pixels = _part(body, at, length)
    return ReceivedImage(head, height, width, encoding, is_bigendian, step, pixels)


def _text(body: memoryview, at: int, order: str) -> tuple[str, int]:
    """The string at a place, and the place behind it."""
    (length,) = struct.unpack_from(order + "I", body, at)  # its NUL included
    return str(_part(body, at + 4, length)[:-1], "utf-8"), at + 4 + length


def _part(body: memoryview, at: int, length: int) -> memoryview:
    if at + length > len(body):
        raise struct.error
    return body[at : at + length]


def _aligned(at: int) -> int:
    return -(-at // 4) * 4


class OutgoingImage:
    """A topic's message, the same for every picture, so that its memory stays where it is."""

    def __init__(self) -> None:
        self._message = Image()
        self._bytes = np.empty(0, np.uint8)

    def room(self, width: int, height: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) of the message's own memory, for the next picture to be made in."""
        return self._sized(height * width * 3).reshape(height, width, 3)

    def message(self, frame: Frame) -> Image:
        """The message with a frame's picture, which is copied unless it lies in ``room``. Publish
        it before the next one is asked for."""
        image = np.ascontiguousarray(frame.image)
        room = self._sized(image.nbytes)
        if image.ctypes.data != room.ctypes.data:
            np.copyto(room, image.reshape(-1).view(np.uint8))
        message = self._message
        message.header = messages.header(frame.stamp_ns, frame.frame_id)
        message.width, message.height = frame.size
        message.encoding, message.step = frame.encoding, image.strides[0]
        return message

    def _sized(self, size: int) -> npt.NDArray[np.uint8]:
        if len(self._bytes) != size:
            self._message = Image()
            self._message.data.frombytes(bytes(size))
            self._bytes = np.frombuffer(self._message.data, np.uint8)
        return self._bytes
