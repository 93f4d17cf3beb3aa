"""True, stale and predicted boxes drawn into pictures and videos."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError

Color = tuple[int, int, int]
TRUTH: Color = (94, 197, 34)
STALE: Color = (68, 68, 239)
PREDICTED: Color = (248, 189, 56)
CARRIED: Color = (247, 85, 168)
"""BGR. The report's legend uses the same."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_box(
    image: npt.NDArray[np.uint8], box: FloatArray | None, color: Color, thickness: int = 2
) -> None:
    """Draw a box (4,) x y w h in pixels onto a BGR picture; nothing where it is None or NaN."""
    if box is None or not np.isfinite(box).all():
        return
    # Far outside the picture a box is clamped: drawing takes 32-bit coordinates.
    limit = 4.0 * max(image.shape[:2])
    corners = np.clip([box[0], box[1], box[0] + box[2] - 1, box[1] + box[3] - 1], -limit, limit)
    x0, y0, x1, y1 = (round(float(v)) for v in corners)
    cv2.rectangle(image, (x0, y0), (x1, y1), color, thickness, cv2.LINE_AA)


def draw_legend(
    image: npt.NDArray[np.uint8], lines: Sequence[tuple[str, Color]], note: str = ""
) -> None:
    """A small dark panel at the top left: a colored stroke and a name a line, then a note."""
    scale = max(0.4, image.shape[1] / 1280 * 0.55)
    rows = [*lines, *([(note, None)] if note else [])]
    (_, letter), _ = cv2.getTextSize("Ag", _FONT, scale, 1)
    step, margin = round(letter * 1.8), round(letter * 0.8)
    widest = max(cv2.getTextSize(text, _FONT, scale, 1)[0][0] for text, _ in rows)
    stroke = 2 * step
    height, width = step * len(rows) + margin, widest + stroke + 2 * margin
    panel = image[margin : margin + height, margin : margin + width]
    panel[:] = panel // 3
    for k, (text, color) in enumerate(rows):
        y = margin + step * (k + 1) - margin // 3
        left = 2 * margin
        if color is not None:
            middle = y - letter // 2
            cv2.line(image, (left, middle), (left + stroke - margin, middle), color, 3)
            left += stroke - margin // 2
        cv2.putText(image, text, (left, y), _FONT, scale, (240, 240, 240), 1, cv2.LINE_AA)


class AnnotatedVideo:
    """Writes an MPEG-4 file of frames with their boxes. Use it in a ``with`` block.

    frames: written so far.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        """``size`` is (width, height) in pixels.

        Raises:
            InputError: a rate that is not above 0, or a file that cannot be written.
        """
        if not 0 < fps <= 1000:
            raise InputError(f"{path}: {fps:g} frames a second; give a rate above 0, at most 1000")
        self.frames = 0
        self._path = path
        self._size = size
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        if not self._writer.isOpened():
            raise InputError(f"{path}: cannot be written as an MPEG-4 video; give a path for .mp4")

    def write(
        self,
        image: npt.NDArray[np.uint8],
        *,
        truth: FloatArray | None = None,
        stale: FloatArray | None = None,
        predicted: FloatArray | None = None,
        age_ms: float | None = None,
        note: str = "",
    ) -> npt.NDArray[np.uint8]:
        """Add one frame, (H, W, 3) BGR, which is not changed; the picture as it was drawn.

        truth, stale, predicted: (4,) x y w h in pixels; None or NaN draws nothing.
        age_ms: how old the stale box is. note: one more line for the legend.

        Raises:
            InputError: a picture of another size than the video.
        """
        width, height = self._size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise InputError(
                f"{self._path}: frame {self.frames} is {image.dtype} {image.shape}, "
                f"give uint8 ({height}, {width}, 3)"
            )
        picture = image.copy()
        age = "" if age_ms is None else f", {age_ms:.0f} ms old"
        lines = []
        for box, color, name in (
            (truth, TRUTH, "truth"),
            (stale, STALE, f"stale{age}"),
            (predicted, PREDICTED, "predicted"),
        ):
            if box is not None:
                draw_box(picture, box, color)
                lines.append((name, color))
        if lines or note:
            draw_legend(picture, lines, note)
        self._writer.write(picture)
        self.frames += 1
        return picture

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()

    def __enter__(self) -> "AnnotatedVideo":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
