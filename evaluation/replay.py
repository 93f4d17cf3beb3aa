"""Stored tracker outputs: one .npz a tracker, one (n, 4) array of boxes a sequence."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.online import ReplaySource
from evaluation.sequences import Sequence, even_stamps, read_boxes
from pipeline.box import FloatArray
from pipeline.errors import InputError

MAX_FILE_BYTES = 256 << 20
MAX_FRAMES = 1_000_000
DAMAGE = (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What numpy and zipfile raise on a damaged archive."""


def find_outputs(paths: list[Path]) -> list[Path]:
    """The .npz files named, or in the folders named, sorted.

    Raises:
        InputError: a path that does not exist, or nothing found.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.npz")) if path.is_dir() else [path] * path.is_file()
        if not found:
            raise InputError(f"{path}: is no .npz of stored outputs and no folder of them")
        files += found
    return files


def truth_folder(outputs: Path) -> Path:
    """``<root>/gt/<data set>`` for outputs in ``<root>/raw/<data set>``.

    Raises:
        InputError: no such folder.
    """
    dataset = outputs.resolve().parent
    folder = dataset.parent.parent / "gt" / dataset.name
    if not folder.is_dir():
        raise InputError(f"{outputs}: no truth in {folder}; name the folder of box files with --gt")
    return folder


@dataclass(frozen=True)
class StoredSequence:
    """One sequence with the stored outputs of all trackers that hold it.

    truth: its box file. outputs: the .npz files, one a tracker.
    """

    name: str
    truth: Path
    outputs: tuple[Path, ...]

    def open(self, fps: float | None = None) -> tuple[Sequence, ReplaySource]:
        """Its truth, and the answers of all trackers.

        Raises:
            InputError: outputs that are no boxes, or truth that cannot be read or does not fit.
        """
        boxes = read_boxes(self.truth)
        stamps = even_stamps(len(boxes), 30.0 if fps is None else fps)
        sequence = Sequence(self.name, stamps, boxes, None)
        stored = [_load(file, self.name) for file in self.outputs]
        for file, found in zip(self.outputs, stored, strict=True):
            if found.shape != boxes.shape:
                raise InputError(
                    f"{file.stem}: {self.name} has stored outputs of {found.shape}, its truth "
                    f"{self.truth} is {boxes.shape}; give the outputs of this sequence"
                )
        return sequence, ReplaySource(tuple(f.stem for f in self.outputs), np.stack(stored))


def find_stored(files: list[Path], truth: Path | None = None) -> list[StoredSequence]:
    """Every sequence that the files hold, none read yet; ``truth`` is the folder of box files.

    Raises:
        InputError: a file that is no such archive, or truth that is missing.
    """
    outputs: dict[tuple[Path, str], dict[str, Path]] = {}
    for file in files:
        folder = truth or truth_folder(file)
        with _opened(file) as arrays:
            names = arrays.files
        if not names:
            raise InputError(f"{file}: holds no sequences")
        for name in names:
            outputs.setdefault((_truth_file(folder, name), name), {})[file.stem] = file
    return [
        StoredSequence(name, path, tuple(by_tracker.values()))
        for (path, name), by_tracker in sorted(outputs.items())
    ]


def open_replay(
    files: list[Path], truth: Path | None = None, fps: float | None = None
) -> list[tuple[Sequence, ReplaySource]]:
    """Every sequence, opened.

    Raises:
        InputError: what ``find_stored`` and ``StoredSequence.open`` raise.
    """
    return [stored.open(fps) for stored in find_stored(files, truth)]


def _truth_file(folder: Path, name: str) -> Path:
    for candidate in (f"{name}.txt", f"{name}_gt.txt"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise InputError(f"{folder}: holds neither {name}.txt nor {name}_gt.txt; give truth with --gt")


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """An .npz of reasonable size; whatever is wrong with it inside the block is an InputError."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{file}: over {MAX_FILE_BYTES >> 20} MiB is refused")
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
                raise InputError(f"{file}: unpacks to over {MAX_FILE_BYTES >> 20} MiB, refused")
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{file}: is no .npz of box arrays ({error})") from None


def _load(file: Path, name: str) -> FloatArray:
    with _opened(file) as arrays:
        boxes = np.asarray(arrays[name])
    numeric = np.issubdtype(boxes.dtype, np.floating) or np.issubdtype(boxes.dtype, np.integer)
    if not numeric or boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) > MAX_FRAMES:
        raise InputError(f"{file}: {name} is {boxes.dtype} {boxes.shape}, not (n, 4) boxes")
    return boxes
