"""One camera frame."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

_TO_BGR = {
    "rgb8": cv2.COLOR_RGB2BGR,
    "mono8": cv2.COLOR_GRAY2BGR,
    "rgba8": cv2.COLOR_RGBA2BGR,
    "bgra8": cv2.COLOR_BGRA2BGR,
}
_TO_GRAY = {
    "bgr8": cv2.COLOR_BGR2GRAY,
    "rgb8": cv2.COLOR_RGB2GRAY,
    "rgba8": cv2.COLOR_RGBA2GRAY,
    "bgra8": cv2.COLOR_BGRA2GRAY,
}
_CHANNELS = {"mono8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture and the moment its light hit the sensor. Read-only by agreement: stages share it.

    image: (H, W) or (H, W, C), uint8 or uint16; a packed RAW holds its rows as bytes, (H, step).
    stamp_ns: acquisition time; never changes as data flows.
    encoding: a name of sensor_msgs/image_encodings (rgb8, bgr8, mono8, bayer_rggb8, bayer_rggb16,
        …), or bayer_<order><bits> with bits 10, 12, 14, and a final p for MIPI packing.
    index: the source's own frame counter; gaps are frames that never arrived.
    width: pixels in a row where ``image`` holds packed bytes; 0 elsewhere.
    detail: the same moment as a detector shall see it, smaller; None: it sees the frame itself.
    """

    image: npt.NDArray[Any]
    stamp_ns: int
    encoding: str = "bgr8"
    index: int = 0
    frame_id: str = "camera"
    width: int = 0
    detail: "Frame | None" = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width or int(self.image.shape[1]), int(self.image.shape[0])

    def bgr(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8; the image itself where it already is BGR.

        Raises:
            InputError: an encoding that is no 8-bit color or gray picture.
        """
        self.check()
        if self.encoding == "bgr8":
            return self.image
        return cv2.cvtColor(self.image, _TO_BGR[self.encoding])  # type: ignore[return-value]

    def gray(self) -> npt.NDArray[np.uint8]:
        """(H, W) uint8; the image itself where it already is gray.

        Raises:
            InputError: an encoding that is no 8-bit color or gray picture.
        """
        self.check()
        if self.encoding == "mono8":
            return self.image.reshape(self.image.shape[:2])
        return cv2.cvtColor(self.image, _TO_GRAY[self.encoding])  # type: ignore[return-value]

    def check(self) -> None:
        """Whether it is the 8-bit color or gray picture that its encoding says.

        Raises:
            InputError: it is not.
        """
        channels = _CHANNELS.get(self.encoding)
        if channels is None:
            raise InputError(
                f"frame {self.index} has encoding {self.encoding!r}, which no tracker reads: "
                f"give one of {', '.join(_CHANNELS)}, or put the ISP stage before it"
            )
        shape = self.image.shape
        found = 1 if self.image.ndim == 2 else shape[-1]
        if self.image.dtype != np.uint8 or found != channels or 0 in shape:
            raise InputError(
                f"frame {self.index} says {self.encoding} but holds {self.image.dtype} {shape}: "
                f"give uint8 with {channels} channel(s)"
            )
