"""Tracks to train motion models on: true boxes, and what trackers answered, frame by frame."""

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError

SOURCES = ("uav123", "uav20l", "lasot", "antiuav410", "outputs")
MIN_FRAMES = 60
MIN_SIDE_PX = 2.0
MAX_PX = 1e5
MAX_FILE_BYTES = 256 << 20
PARTS = 5
"""One footage in this many is kept apart for validation."""


@dataclass(frozen=True)
class Track:
    """One target, frame by frame.

    source, footage: what it was read from; footage is the same for all cuts of one recording.
    seen: (n, 4) x y w h, what a predictor is given. truth: (n, 4), what it is held to. Both NaN
    where there is no box. period_s: time between frames.
    """

    source: str
    footage: str
    seen: FloatArray
    truth: FloatArray
    period_s: float

    @property
    def held_out(self) -> bool:
        """Whether it belongs to the validation part, which goes by footage."""
        return zlib.crc32(self.footage.encode()) % PARTS == 0


def read_tracks(root: Path, sources: list[str]) -> list[Track]:
    """The tracks of each source under ``root``, laid out as docs/prediction.md says.

    A source is one of ``SOURCES``, or the path of a .npz with one (n, 4) array a target.

    Raises:
        InputError: a source that is unknown or missing, or a file that holds no boxes.
    """
    tracks: list[Track] = []
    for source in sources:
        if source in ("uav123", "uav20l"):
            tracks += _folder(source, root / "gt" / source.upper())
        elif source == "outputs":
            for name in ("UAV123", "UAV20L"):
                truths = {t.footage: t for t in _folder(name, root / "gt" / name, cut=False)}
                for file in _some(sorted((root / "raw" / name).glob("*.npz")), root / "raw" / name):
                    for sequence, boxes in _archive(file).items():
                        truth = truths.get(sequence)
                        if truth is not None and boxes.shape == truth.truth.shape:
                            tracks.append(
                                _track(source, footage(sequence), boxes, truth.truth, 1 / 30)
                            )
        elif source == "lasot":
            absent = _archive(root / "gt" / "LaSOT_absent.npz", flags=True)
            for sequence, boxes in _archive(root / "gt" / "LaSOT_gt.npz").items():
                boxes[absent[sequence].astype(bool)] = np.nan
                tracks.append(_track(source, sequence, boxes, boxes, 1 / 30))
        elif source == "antiuav410":
            for sequence, boxes in _archive(root / "gt" / "AntiUAV410_gt.npz").items():
                name = re.sub(r"_\d+-\d+$", "", sequence.rpartition("/")[2])
                tracks.append(_track(source, name, boxes, boxes, 1 / 25))
        elif source.endswith(".npz"):
            for sequence, boxes in _archive(Path(source)).items():
                tracks.append(_track(Path(source).stem, sequence, boxes, boxes, 1 / 30))
        else:
            raise InputError(f"--sources {source}: is none of {', '.join(SOURCES)} and no .npz")
    usable = [t for t in tracks if len(t.seen) >= MIN_FRAMES]
    if not usable:
        raise InputError(f"{root}: holds no track of {MIN_FRAMES} frames; give another --data")
    return usable


def footage(sequence: str) -> str:
    """The recording that a sequence of UAV123 or UAV20L was cut from: car1_2, car1_s → car1."""
    return re.sub(r"_(\d+|s)$", "", sequence)


def _track(source: str, name: str, seen: FloatArray, truth: FloatArray, period_s: float) -> Track:
    return Track(source, name, _usable(seen), _usable(truth), period_s)


def _usable(boxes: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):
        good = np.isfinite(boxes).all(axis=1, keepdims=True)
        good = good & (boxes[:, 2:] >= MIN_SIDE_PX).all(axis=1, keepdims=True)
        good = good & (np.abs(boxes) <= MAX_PX).all(axis=1, keepdims=True)
    return np.where(good, boxes, np.nan)


def _folder(source: str, folder: Path, cut: bool = True) -> list[Track]:
    tracks = []
    for file in _some(sorted(folder.glob("*.txt")), folder):
        try:
            text = file.read_text(encoding="utf-8").replace(",", " ").split()
            boxes = np.array(text, np.float64).reshape(-1, 4)
        except (OSError, ValueError):
            raise InputError(f"{file}: is not x,y,w,h a line") from None
        name = footage(file.stem) if cut else file.stem
        tracks.append(_track(source, name, boxes, boxes, 1 / 30))
    return tracks


def _some(files: list[Path], folder: Path) -> list[Path]:
    if not files:
        raise InputError(f"{folder}: holds no boxes; give the folder with gt/ and raw/ by --data")
    return files


def _archive(file: Path, flags: bool = False) -> dict[str, npt.NDArray[np.float64]]:
    shape = 1 if flags else 2
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
                raise InputError(f"{file}: unpacks to over {MAX_FILE_BYTES >> 20} MiB, refused")
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name].astype(np.float64) for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{file}: is no .npz of boxes ({error})") from None
    if any(a.ndim != shape or (shape == 2 and a.shape[1] != 4) for a in found.values()):
        raise InputError(f"{file}: holds arrays that are not (n, 4) boxes")
    return found
