"""Stored tracker outputs: one .npz a tracker, one (n, 4) array of boxes a sequence."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from evaluation.online import ReplaySource
from evaluation.sequences import Sequence, even_stamps, read_boxes
from pipeline.box import FloatArray
from pipeline.errors import InputError

MAX_FILE_BYTES = 256 << 20
MAX_FRAMES = 1_000_000


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


def open_replay(
    files: list[Path], truth: Path | None = None, fps: float | None = None
) -> list[tuple[Sequence, ReplaySource]]:
    """Every sequence with the stored outputs of all trackers that hold it.

    Raises:
        InputError: a file that is no such archive, or truth that is missing or does not fit.
    """
    outputs: dict[tuple[Path, str], dict[str, FloatArray]] = {}
    for file in files:
        folder = truth or truth_folder(file)
        for name, boxes in _load(file).items():
            outputs.setdefault((_truth_file(folder, name), name), {})[file.stem] = boxes
    cases = []
    for (path, name), by_tracker in sorted(outputs.items()):
        boxes = read_boxes(path)
        stamps = even_stamps(len(boxes), 30.0 if fps is None else fps)
        sequence = Sequence(name, stamps, boxes, None)
        for tracker, stored in by_tracker.items():
            if stored.shape != boxes.shape:
                raise InputError(
                    f"{tracker}: {name} has stored outputs of {stored.shape}, its truth {path} is "
                    f"{boxes.shape}; give the outputs of this sequence"
                )
        cases.append((sequence, ReplaySource(tuple(by_tracker), np.stack([*by_tracker.values()]))))
    return cases


def _truth_file(folder: Path, name: str) -> Path:
    for candidate in (f"{name}.txt", f"{name}_gt.txt"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise InputError(f"{folder}: holds neither {name}.txt nor {name}_gt.txt; give truth with --gt")


def _load(file: Path) -> dict[str, FloatArray]:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{file}: over {MAX_FILE_BYTES >> 20} MiB is refused")
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
                raise InputError(f"{file}: unpacks to over {MAX_FILE_BYTES >> 20} MiB, refused")
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name]) for name in arrays.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{file}: is no .npz of box arrays ({error})") from None
    for name, boxes in found.items():
        numeric = np.issubdtype(boxes.dtype, np.floating) or np.issubdtype(boxes.dtype, np.integer)
        if not numeric or boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) > MAX_FRAMES:
            raise InputError(f"{file}: {name} is {boxes.dtype} {boxes.shape}, not (n, 4) boxes")
    if not found:
        raise InputError(f"{file}: holds no sequences")
    return found
