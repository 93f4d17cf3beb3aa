"""Image messages to frames: the same checks for a topic, a bag and a simulator."""

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from pipeline.errors import InputError, first_line
from pipeline.frame import Frame

BYTES_PER_PIXEL = {
    "mono8": 1,
    "rgb8": 3,
    "bgr8": 3,
    "rgba8": 4,
    "bgra8": 4,
    "8UC1": 1,
    "8UC3": 3,
    "mono16": 2,
    "16UC1": 2,
}
SAME_AS = {"8UC1": "mono8", "8UC3": "bgr8"}
MAX_SIDE_PX = 16_384


def bytes_per_pixel(encoding: str) -> float:
    """Bytes a pixel in memory; MIPI-packed RAW has 1.25 or 1.5.

    Raises:
        InputError: an encoding that is neither a picture nor Bayer RAW.
    """
    if encoding in BYTES_PER_PIXEL:
        return BYTES_PER_PIXEL[encoding]
    order, digits = encoding[:10], encoding[10:]
    if order in ("bayer_rggb", "bayer_bggr", "bayer_gbrg", "bayer_grbg"):
        if digits in ("10p", "12p"):
            return int(digits[:2]) / 8
        if digits in ("8", "10", "12", "14", "16"):
            return 1 if digits == "8" else 2
    raise InputError(
        f"unknown encoding {encoding[:40]!r}: known are {', '.join(BYTES_PER_PIXEL)} and "
        "bayer_<rggb|bggr|gbrg|grbg><8|10|12|14|16|10p|12p>"
    )


def _check_size(width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise InputError(f"image of {width}x{height}: sides must be 1 to {MAX_SIDE_PX} pixels")


def frame_from_bytes(
    data: Any,
    size: tuple[int, int],
    step: int,
    encoding: str,
    big_endian: bool,
    stamp_ns: int,
    index: int,
    frame_id: str = "camera",
) -> Frame:
    """A frame over a message's bytes, without copying them.

    size: (width, height) in pixels. step: bytes from one row to the next, padding included.

    Raises:
        InputError: an unknown encoding, an impossible size, or data that ends too early.
    """
    width, height = size
    _check_size(width, height)
    pixel = bytes_per_pixel(encoding)
    row = int(np.ceil(width * pixel))
    flat = np.frombuffer(data, np.uint8)
    if step < row or len(flat) < step * (height - 1) + row:
        raise InputError(
            f"{encoding} image of {width}x{height} with a step of {step} needs rows of {row} "
            f"bytes and {step * (height - 1) + row} in all, got {len(flat)}: it is truncated"
        )
    rows = np.lib.stride_tricks.as_strided(flat, (height, row), (step, 1), writeable=False)
    if pixel != int(pixel):
        return Frame(rows, stamp_ns, encoding, index, frame_id, width)
    image: npt.NDArray[Any] = rows
    if pixel == 2:
        image = rows.view(">u2" if big_endian else "<u2")
        if big_endian:
            image = image.astype(np.uint16)
    elif pixel > 1:
        image = rows.reshape(height, width, int(pixel))
    return Frame(image, stamp_ns, SAME_AS.get(encoding, encoding), index, frame_id)


def image_frame(message: Any, stamp_ns: int, index: int) -> Frame:
    """A frame over a sensor_msgs/Image, whichever library parsed it.

    Raises:
        InputError: what ``frame_from_bytes`` raises.
    """
    return frame_from_bytes(
        message.data,
        (message.width, message.height),
        message.step,
        message.encoding,
        bool(message.is_bigendian),
        stamp_ns,
        index,
        message.header.frame_id,
    )


def compressed_frame(data: Any, stamp_ns: int, index: int, frame_id: str = "camera") -> Frame:
    """A JPEG or PNG message as a BGR frame.

    Raises:
        InputError: data that OpenCV cannot decode, or a picture with longer sides than we take.
    """
    flat = np.frombuffer(data, np.uint8)
    try:
        # The header alone says how large it will be: a few bytes can unfold to gigabytes.
        with PIL.Image.open(io.BytesIO(flat.data), formats=("JPEG", "PNG")) as header:
            _check_size(*header.size)
        image = cv2.imdecode(flat, cv2.IMREAD_COLOR)
    except (PIL.Image.DecompressionBombError, OSError, SyntaxError, cv2.error) as error:
        raise InputError(f"compressed image cannot be decoded ({first_line(error)})") from None
    if image is None:
        raise InputError(f"compressed image of {len(flat)} bytes is neither JPEG nor PNG")
    return Frame(image, stamp_ns, "bgr8", index, frame_id)
