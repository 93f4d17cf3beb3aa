"""Sequences: frames with stamps and true boxes, from folders, videos and box files."""

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.imu import ImuSamples

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm"}
BAG_SUFFIXES = {".mcap", ".db3"}
IMAGE_FOLDERS = ("", "img", "imgs", "color", "frames", "images")
TRUTH_NAMES = ("groundtruth_rect.txt", "groundtruth.txt", "gt.txt")
MAX_TEXT_BYTES = 64 << 20


class Frames:
    """Frames read in order from a source that can only be read from its start.

    ``read(k)`` reads on to frame k; asking for one that has gone by starts over.
    """

    def __init__(self, name: str, open_source: Callable[[], Iterator[Frame]]) -> None:
        self._name = name
        self._open = open_source
        self._iterator = open_source()
        self._next = 0
        self._last: Frame | None = None

    def read(self, index: int) -> Frame:
        """Frame ``index``.

        Raises:
            InputError: the source ended before it.
        """
        if self._last is not None and index == self._next - 1:
            return self._last
        if index < self._next:
            self._iterator, self._next = self._open(), 0
        while self._next <= index:
            self._last = next(self._iterator, None)
            self._next += 1
            if self._last is None:
                raise InputError(f"{self._name}: ends before frame {index}; check the file")
        assert self._last is not None
        return self._last


@dataclass(frozen=True)
class Sequence:
    """One target through one recording.

    stamps_ns: (n,) int64, rising. truth: (n, 4) float64, x y w h in pixels, NaN where the target
    is absent. frames: None where only boxes are stored. imu: of a gyroscope, where it was read.
    """

    name: str
    stamps_ns: npt.NDArray[np.int64]
    truth: FloatArray
    frames: Frames | None
    imu: ImuSamples | None = None

    def __post_init__(self) -> None:
        if len(self.truth) == 0:
            raise InputError(f"{self.name}: has no frames with truth")
        if self.stamps_ns.shape != (len(self.truth),) or self.truth.shape[1:] != (4,):
            raise InputError(
                f"{self.name}: {len(self.stamps_ns)} stamps for truth of {self.truth.shape}"
            )
        check_rising(self.name, self.stamps_ns)
        first = self.truth[0]
        if not np.isfinite(first).all() or first[2] <= 0 or first[3] <= 0:
            raise InputError(
                f"{self.name}: the first true box is {first.tolist()}; the tracker starts on it, "
                "so cut the sequence to where the target is seen"
            )

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def key(self) -> int:
        """CRC-32 of the true boxes: the same in every form and under every name of a recording."""
        seen = np.isfinite(self.truth).all(axis=1, keepdims=True)
        return zlib.crc32(np.where(seen, self.truth, np.nan).tobytes())


def check_rising(name: str, stamps_ns: npt.NDArray[np.int64]) -> None:
    """Whether there are stamps, (n,), each later than the one before.

    Raises:
        InputError: there are none, or time stands still or jumps back.
    """
    if not len(stamps_ns):
        raise InputError(f"{name}: holds no pictures")
    falls = np.flatnonzero(np.diff(stamps_ns) <= 0)
    if len(falls):
        raise InputError(
            f"{name}: time stands still or jumps back at frame {falls[0] + 1}; cut the recording "
            "there and give the parts one by one"
        )


def read_boxes(path: Path) -> FloatArray:
    """A box file: x, y, w, h a line, separated by commas, tabs or spaces; NaN where absent.

    Raises:
        InputError: unreadable, empty, or a line that is not four numbers.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise InputError(f"{path}: over {MAX_TEXT_BYTES >> 20} MiB is no box file")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a box file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text; give a box file with x,y,w,h a line") from None
    rows = []
    for number, line in enumerate(lines, 1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        try:
            row = [float(f) for f in fields]
        except ValueError:
            row = []
        if len(row) != 4 or any(abs(v) == float("inf") for v in row):
            raise InputError(f"{path}:{number}: {line[:60]!r} is not x,y,w,h")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: holds no boxes")
    return np.array(rows, np.float64)


def even_stamps(count: int, fps: float) -> npt.NDArray[np.int64]:
    """(count,) stamps from 0 at a steady rate, in ns.

    Raises:
        InputError: a rate outside 0.001 to 100,000.
    """
    if not 1e-3 <= fps <= 1e5:
        raise InputError(f"{fps:g} frames a second: give --fps from 0.001 to 100000")
    return np.round(np.arange(count) * (1e9 / fps)).astype(np.int64)


def open_frames(path: Path, fps: float | None = None) -> tuple[Frames, npt.NDArray[np.int64]]:
    """The pictures of a folder (or its img/) or a video file, and their stamps, (n,).

    Without ``fps`` a video's own rate is used, and 30 for folders.

    Raises:
        InputError: nothing there, or pictures that cannot be read.
    """
    if path.is_dir():
        read, count = _folder_frames(path)
        stamps = even_stamps(count, 30.0 if fps is None else fps)
    elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        read, count, rate = _video_frames(path)
        stamps = even_stamps(count, rate if fps is None else fps)
    else:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES | BAG_SUFFIXES))
        raise InputError(f"{path}: is no folder of pictures and no file of {kinds}")
    return Frames(str(path), lambda: _stamp(read(), stamps)), stamps


def open_sequence(path: Path, truth: Path | None = None, fps: float | None = None) -> Sequence:
    """A folder of pictures, or a video file, with its box file.

    Folders follow OTB, UAV123, DTB70 and UAVDT: pictures in the folder or in img/, truth in
    groundtruth_rect.txt, groundtruth.txt or gt.txt unless given. Frames or boxes that the other
    side lacks at the end are left away.

    Raises:
        InputError: nothing there, pictures that cannot be read, or truth that does not fit.
    """
    frames, stamps = open_frames(path, fps)
    if truth is None:
        found = [path / name for name in TRUTH_NAMES if (path / name).is_file()]
        if not found:
            raise InputError(
                f"{path}: no truth beside the pictures ({', '.join(TRUTH_NAMES)}); "
                "give a box file with --gt"
            )
        truth = found[0]
    boxes = read_boxes(truth)
    n = min(len(stamps), len(boxes))
    return Sequence(path.stem, stamps[:n], boxes[:n], frames)


def _stamp(frames: Iterator[np.ndarray], stamps: npt.NDArray[np.int64]) -> Iterator[Frame]:
    for k, image in enumerate(frames):
        if k == len(stamps):
            return
        yield Frame(image, int(stamps[k]), "bgr8", k)


def _folder_frames(path: Path) -> tuple[Callable[[], Iterator[np.ndarray]], int]:
    for sub in IMAGE_FOLDERS:
        folder = path / sub
        found = (f for f in folder.glob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
        files = sorted(found, key=_numbered)
        if files:
            break
    else:
        raise InputError(
            f"{path}: holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}) and no img/ with any"
        )

    def read() -> Iterator[np.ndarray]:
        for file in files:
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None:
                raise InputError(f"{file}: is no picture that OpenCV reads")
            yield image

    return read, len(files)


def _numbered(path: Path) -> list[tuple[int, str]]:
    """Orders frame9.png before frame10.png."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part[:18]), "") if part.isdecimal() else (-1, part) for part in parts]


def _video_frames(path: Path) -> tuple[Callable[[], Iterator[np.ndarray]], int, float]:
    def read() -> Iterator[np.ndarray]:
        capture = cv2.VideoCapture(str(path))
        try:
            while True:
                found, image = capture.read()
                if not found:
                    return
                yield image
        finally:
            capture.release()

    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise InputError(f"{path}: is no video that OpenCV reads")
        rate = capture.get(cv2.CAP_PROP_FPS)
        count = 0
        while capture.grab():
            count += 1
    finally:
        capture.release()
    if count == 0:
        raise InputError(f"{path}: holds no frames")
    return read, count, rate if rate > 0 else 30.0
