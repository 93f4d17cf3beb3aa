"""Images read from the wire's own bytes, and made in a message's own memory."""

import struct

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from pipeline.errors import InputError
from pipeline.frame import Frame
from ros_nodes import messages
from ros_nodes.image_topics import OutgoingImage, received_image

STAMP = 1_700_000_000_123_456_789
PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "nose", "näse"])
@pytest.mark.parametrize("encoding", ["rgb8", "8UC3", "bgr8", "rgb88"])
def test_what_the_generated_classes_write_is_read(frame_id: str, encoding: str) -> None:
    sent = messages.image_of(Frame(PICTURE, STAMP, "rgb8", 0, frame_id))
    sent.encoding, sent.is_bigendian = encoding, 1
    got = received_image(serialize_message(sent))
    assert got.header == sent.header
    for name in ("height", "width", "encoding", "is_bigendian", "step"):
        assert getattr(got, name) == getattr(sent, name)
    assert bytes(got.data) == PICTURE.tobytes()


def test_the_picture_lies_in_the_received_bytes() -> None:
    data = serialize_message(messages.image_of(Frame(PICTURE, STAMP, "rgb8")))
    frame = messages.frame_of(received_image(data), 3)
    assert np.shares_memory(frame.image, np.frombuffer(data, np.uint8))
    np.testing.assert_array_equal(frame.image, PICTURE)
    assert (frame.stamp_ns, frame.index) == (STAMP, 3)


def test_a_sender_of_the_other_byte_order_is_read() -> None:
    data = b"\0\0\0\0" + struct.pack(
        ">iII4sIII6sBxI I2s", -1, 7, 2, b"n\0\0\0", 1, 2, 6, b"mono8\0", 0, 2, 2, b"ab"
    )
    got = received_image(data)
    assert (got.header.stamp.sec, got.header.stamp.nanosec, got.header.frame_id) == (-1, 7, "n")
    assert (got.height, got.width, got.encoding, got.step) == (1, 2, "mono8", 2)
    assert bytes(got.data) == b"ab"


def test_bytes_that_end_too_early_are_no_image_wherever_they_end() -> None:
    data = serialize_message(messages.image_of(Frame(PICTURE, STAMP, "rgb8", 0, "nose")))
    for end in range(len(data) - data[::-1].index(PICTURE.tobytes()[-1])):
        with pytest.raises(InputError, match=r"no sensor_msgs/Image|representation"):
            received_image(data[:end])


@pytest.mark.parametrize(
    "data", [b"", b"\0\1", b"\0\3\0\0" + bytes(60), b"\0\1\0\0" + b"\xff" * 60, b"\xff" * 500]
)
def test_other_bytes_are_no_image(data: bytes) -> None:
    with pytest.raises(InputError, match=r"no sensor_msgs/Image|representation"):
        received_image(data)


def test_a_name_that_is_no_text_is_refused() -> None:
    data = bytearray(serialize_message(messages.image_of(Frame(PICTURE, STAMP, "rgb8", 0, "abc"))))
    data[data.index(b"abc")] = 0xFF
    with pytest.raises(InputError, match="no sensor_msgs/Image"):
        received_image(bytes(data))


def test_any_changed_byte_gives_an_image_or_one_clear_error() -> None:
    data = serialize_message(messages.image_of(Frame(PICTURE, STAMP, "rgb8", 0, "nose")))
    for at in range(60):
        for value in (0, 1, 127, 128, 255):
            changed = data[:at] + bytes([value]) + data[at + 1 :]
            try:
                messages.frame_of(received_image(changed), 0)
            except InputError:
                continue


def test_a_picture_made_in_the_room_is_not_copied() -> None:
    out = OutgoingImage()
    room = out.room(6, 4)
    room[:] = PICTURE
    message = out.message(Frame(room, STAMP, "rgb8", 0, "nose"))
    assert np.shares_memory(np.frombuffer(message.data, np.uint8), room)
    got = deserialize_message(serialize_message(message), Image)
    np.testing.assert_array_equal(messages.frame_of(got, 0).image, PICTURE)
    assert (got.header.frame_id, got.step) == ("nose", 18)
    assert out.room(6, 4).ctypes.data == room.ctypes.data


def test_a_picture_from_elsewhere_and_of_another_size_is_sent_whole() -> None:
    out = OutgoingImage()
    for image, encoding in (
        (PICTURE, "rgb8"),
        (PICTURE[1:3, 2:5], "rgb8"),
        (PICTURE[..., 0], "mono8"),
        (np.arange(24, dtype=np.uint16).reshape(4, 6), "bayer_rggb16"),
    ):
        sent = out.message(Frame(image, STAMP, encoding))
        got = messages.frame_of(received_image(serialize_message(sent)), 0)
        np.testing.assert_array_equal(got.image, image)
