"""One RAW picture from whatever holds it: a dump, a camera's file, an array, a picture, a bag."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
import PIL.Image

from evaluation.bags import Bag
from evaluation.sources import is_bag
from isp.dump_layout import DumpLayout, guess_layouts
from isp.raw import BayerEncoding, Mosaic, mosaic_of, read_raw_file
from pipeline.errors import InputError, first_line
from pipeline.frame import Frame
from pipeline.images import MAX_SIDE_PX

MAX_BYTES = 2 * MAX_SIDE_PX**2
DUMPS = {".raw", ".bin", ".bayer", ".dat", ".data", ".img", ".raw8", ".raw10", ".raw12", ".raw16"}
PICTURES = {".png", ".tif", ".tiff", ".pgm", ".bmp", ".jpg", ".jpeg"}
CAMERA_FILES = {
    ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2", ".rw2", ".orf", ".pef",
    ".raf", ".srw", ".dcr", ".kdc", ".mrw", ".3fr", ".iiq", ".erf", ".mef", ".mos", ".rwl",
}  # fmt: skip
PIXELS = ("8", "10", "12", "14", "16", "10p", "12p")


@dataclass(frozen=True)
class Said:
    """What a source says of itself. order: "" where it does not. bits: 0 where it does not; a
    ROS encoding of 16 may hold fewer. black: counts at R, Gr, Gb, B, empty where it does not."""

    order: str = ""
    bits: int = 0
    black: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class RawSource:
    """mosaic: (H, W) uint8 or uint16. bits: significant ones where the user or the packing says
    them, else 0. layouts: of a headerless file, the one used first."""

    name: str
    mosaic: Mosaic
    said: Said = field(default_factory=Said)
    bits: int = 0
    layouts: tuple[DumpLayout, ...] = ()


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of WxH.

    Raises:
        InputError: it is no such text.
    """
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text)
    if match is None:
        raise InputError(f"--size {text:.40}: give WIDTHxHEIGHT, for example 1920x1080")
    return int(match[1]), int(match[2])


def bits_of(pixel: str) -> int:
    """Significant bits of one of ``PIXELS``; 0 where none is given.

    Raises:
        InputError: it is none of them.
    """
    if pixel and pixel not in PIXELS:
        raise InputError(f"--bits {pixel:.20}: give one of {', '.join(PIXELS)}")
    return int(pixel.rstrip("p") or 0)


def read_source(
    path: Path,
    size: tuple[int, int] | None = None,
    step: int = 0,
    pixel: str = "",
    topic: str | None = None,
) -> RawSource:
    """The first RAW picture that a path holds.

    size, step, pixel: of a headerless file, where they are known. pixel is one of ``PIXELS``; its
    number is taken as the significant bits of any source. topic: of a bag.

    Raises:
        InputError: nothing there that can be read as one.
    """
    bits = bits_of(pixel)
    if not path.exists():
        raise InputError(f"{path}: no such file; give a RAW file, a bag or a topic, as /camera/raw")
    if is_bag(path):
        bag = Bag(path)
        camera = bag.camera(topic)
        frame = next(bag.frames(camera), None)
        if frame is None:
            raise InputError(f"{path}: {camera} holds no pictures")
        return source_of(frame, f"{path} {camera}", bits)
    if path.is_dir():
        raise InputError(f"{path}: is a folder and no bag; give one file of it")
    suffix = path.suffix.lower()
    try:
        count = path.stat().st_size
        if count > MAX_BYTES:
            raise InputError(
                f"{path}: {count} bytes are more than any picture; cut one frame out of it"
            )
        if suffix == ".npy":
            return RawSource(str(path), _read_array(path), bits=bits)
        if suffix in PICTURES:
            return RawSource(str(path), _read_picture(path), bits=bits)
        if suffix in CAMERA_FILES:
            frame, metadata = read_raw_file(path)
            encoding = BayerEncoding.parse(frame.encoding)
            said = Said(encoding.order, encoding.bits, metadata.black_level)
            return RawSource(str(path), frame.image, said, bits)
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a RAW file") from None
    try:
        kind = {8: "8", 0: ""}.get(bits, "16") if not pixel.endswith("p") else pixel
        layouts = guess_layouts(data, size, step, kind)
        mosaic = layouts[0].read(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    packed = layouts[0].pixel.removesuffix("p")
    bits = bits or (int(packed) if layouts[0].pixel.endswith("p") else 0)
    return RawSource(str(path), mosaic, bits=bits, layouts=tuple(layouts))


def source_of(frame: Frame, name: str, bits: int = 0) -> RawSource:
    """A frame of a bag or a topic.

    A mono encoding is looked at as well: some drivers send Bayer RAW under that name.

    Raises:
        InputError: a color picture, or data that do not fit the encoding.
    """
    if frame.encoding in ("mono8", "mono16", "16UC1"):
        return RawSource(name, frame.image, bits=bits)
    if not frame.encoding.startswith("bayer_"):
        raise InputError(f"{name}: is {frame.encoding}, developed already; give the camera's RAW")
    try:
        encoding = BayerEncoding.parse(frame.encoding)
        mosaic = mosaic_of(frame)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    known = bits or (encoding.bits if encoding.bits < 16 else 0)
    return RawSource(name, mosaic, Said(encoding.order, encoding.bits), known)


def _read_array(path: Path) -> Mosaic:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError, MemoryError, BadZipFile) as error:
        raise InputError(f"{path}: is no array ({first_line(error)}); save it anew") from None
    return np.asarray(array)


def _read_picture(path: Path) -> Mosaic:
    try:
        with PIL.Image.open(path) as header:
            size = header.size
        if max(size) > MAX_SIDE_PX:
            raise InputError(
                f"{path}: {size[0]}x{size[1]} is too large; give at most {MAX_SIDE_PX}"
            )
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except (PIL.Image.DecompressionBombError, PIL.UnidentifiedImageError, cv2.error) as error:
        raise InputError(f"{path}: cannot be decoded ({first_line(error)})") from None
    if image is None:
        raise InputError(f"{path}: cannot be decoded; give a PNG or TIFF of one channel")
    if image.ndim != 2:
        raise InputError(f"{path}: is a color picture, developed already; give the camera's RAW")
    return np.asarray(image)
