"""Contact sheet of the four candidate orders of a RAW, developed alike."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.doctor import Diagnosis
from isp.raw import Mosaic
from pipeline.errors import InputError
from pipeline.frame import Frame

Picture = npt.NDArray[np.uint8]

_TILE_PX = 640
_MARGIN, _LABEL = 12, 40
_DETAIL_PX, _DETAIL_ZOOM = 40, 4
_MIDDLE = 0.18  # linear light that the picture's mean is brought to
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PAPER, _INK, _CHOSEN = (24, 24, 24), (235, 235, 235), (80, 200, 80)


def write_sheet(mosaic: Mosaic, diagnosis: Diagnosis, path: Path) -> None:
    """Write the four candidates, the likeliest first and framed.

    Raises:
        InputError: the path cannot be written, or names no picture format.
    """
    try:
        encoded, data = cv2.imencode(path.suffix or ".png", sheet(mosaic, diagnosis))
    except cv2.error:
        encoded = False
    if not encoded:
        raise InputError(f"{path}: give a name that ends in .png or .jpg")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); give another name with -o"
        ) from None


def sheet(mosaic: Mosaic, diagnosis: Diagnosis) -> Picture:
    """(H, W, 3) BGR of two by two tiles, each with a detail of its middle enlarged."""
    assert diagnosis.order is not None
    tiles = []
    for number, order in enumerate(diagnosis.order.ranked, 1):
        label = f"{number}  {order}  {100 * diagnosis.order.probabilities[order]:.0f} %"
        tiles.append(_tile(_develop(mosaic, diagnosis, order), label, number == 1))
    return np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


def _develop(mosaic: Mosaic, diagnosis: Diagnosis, order: str) -> Picture:
    width, height = diagnosis.size
    mosaic = np.ascontiguousarray(mosaic[:height, :width])
    bits, black = diagnosis.bits, diagnosis.black.level
    white = diagnosis.white or float((1 << bits.bits) - 1)
    black = min(black, white - 1)
    light = float((mosaic[::2] >> bits.shift).mean()) - black
    config = IspConfig(
        order=order,
        bits=bits.bits,
        justified=bits.justified,
        black_level=(black,),
        white_level=white,
        exposure_gain=float(np.clip(_MIDDLE * (white - black) / max(light, 1e-3), 0.01, 256)),
    )
    encoding = f"bayer_{order}{8 * mosaic.itemsize}"
    picture = ClassicalIsp(config).process(Frame(mosaic, 0, encoding)).image
    return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # type: ignore[return-value]


def _tile(picture: Picture, label: str, chosen: bool) -> Picture:
    height, width = picture.shape[:2]
    scale = _TILE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(picture, size, interpolation=kind)
    side = min(_DETAIL_PX, height, width)
    y, x = (height - side) // 2, (width - side) // 2
    detail = picture[y : y + side, x : x + side]
    detail = np.repeat(np.repeat(detail, _DETAIL_ZOOM, axis=0), _DETAIL_ZOOM, axis=1)
    detail = detail[: size[1], : size[0]]
    small[-detail.shape[0] :, -detail.shape[1] :] = detail
    corner = (size[0] - detail.shape[1], size[1] - detail.shape[0])
    cv2.rectangle(small, corner, (size[0] - 1, size[1] - 1), _INK, 1)
    shape = (size[1] + _LABEL + 2 * _MARGIN, size[0] + 2 * _MARGIN, 3)
    tile = np.empty(shape, np.uint8)
    tile[:] = _PAPER
    tile[_MARGIN + _LABEL : _MARGIN + _LABEL + size[1], _MARGIN : _MARGIN + size[0]] = small
    color = _CHOSEN if chosen else _INK
    cv2.putText(tile, label, (_MARGIN, _MARGIN + 26), _FONT, 0.8, color, 2, cv2.LINE_AA)
    if chosen:
        end = (shape[1] - 5, shape[0] - 5)
        cv2.rectangle(tile, (4, 4), end, _CHOSEN, 3)
    return tile
