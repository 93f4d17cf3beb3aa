"""Axis-aligned boxes as float64 arrays ``(..., 4)``: x, y (top left), width, height in pixels."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

FloatArray = npt.NDArray[np.float64]


def as_box(
    box: Sequence[float] | FloatArray, image_size: tuple[int, int] | None = None
) -> FloatArray:
    """Check a user's or a peer's box and return it as a new ``(4,)`` float64 array.

    ``image_size`` is (width, height) in pixels; a box that lies wholly outside is refused, and one
    of over twice the image's size, whose surroundings would fill the memory. One that sticks out is
    kept as it is.

    Raises:
        InputError: not four finite numbers, no area, outside the image, or far larger.
    """
    try:
        checked = np.array(box, dtype=np.float64)
    except (TypeError, ValueError):
        checked = np.empty(0)
    if checked.shape != (4,) or not np.isfinite(checked).all():
        raise InputError(f"box {_text(box)}: give four finite numbers x,y,w,h in pixels")
    x, y, w, h = checked
    if w <= 0 or h <= 0:
        raise InputError(f"box {_text(box)} has no area: give a width and height above 0")
    if image_size is not None:
        width, height = image_size
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            raise InputError(
                f"box {_text(box)} lies outside the {width}x{height} image: "
                "give x,y,w,h in pixels of this image"
            )
        if w > 2 * width or h > 2 * height:
            raise InputError(
                f"box {_text(box)} is over twice the size of the {width}x{height} image: "
                "give x,y,w,h in pixels of this image"
            )
    return checked


def _text(box: object) -> str:
    if isinstance(box, np.ndarray):
        box = box.tolist()
    if isinstance(box, (list, tuple)):
        return ",".join(f"{v:g}" if isinstance(v, (int, float)) else repr(v) for v in box)[:80]
    return repr(box)[:80]


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of boxes ``(..., 4)``, broadcast; NaN where either holds NaN."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    overlap = np.maximum(high - low, 0.0)
    inter = overlap[..., 0] * overlap[..., 1]
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - inter
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, inter / union, np.where(np.isnan(union), np.nan, 0.0))


def to_center(boxes: FloatArray) -> FloatArray:
    """x, y, w, h → x_center, y_center, w, h; shape ``(..., 4)`` kept."""
    out = np.array(boxes, dtype=np.float64)
    out[..., :2] += out[..., 2:] / 2
    return out


def from_center(boxes: FloatArray) -> FloatArray:
    """x_center, y_center, w, h → x, y, w, h; shape ``(..., 4)`` kept."""
    out = np.array(boxes, dtype=np.float64)
    out[..., :2] -= out[..., 2:] / 2
    return out
