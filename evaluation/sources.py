"""Any recording as sequences: folders, folders of folders, videos and bags."""

from pathlib import Path

from evaluation.bags import open_bag_sequence
from evaluation.sequences import (
    BAG_SUFFIXES,
    IMAGE_FOLDERS,
    IMAGE_SUFFIXES,
    Sequence,
    open_sequence,
)
from pipeline.errors import InputError


def is_bag(path: Path) -> bool:
    """An .mcap or .db3 file, or a bag's folder."""
    return path.suffix in BAG_SUFFIXES or (path / "metadata.yaml").is_file()


def find_sequences(path: Path) -> list[Path]:
    """The path itself, or the sequences in it where it is a folder of them.

    Raises:
        InputError: nothing there.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_dir() or is_bag(path) or _has_pictures(path):
        return [path]
    found = sorted(p for p in path.iterdir() if is_bag(p) or (p.is_dir() and _has_pictures(p)))
    if not found:
        raise InputError(
            f"{path}: holds neither pictures ({', '.join(sorted(IMAGE_SUFFIXES))}), nor folders of "
            "them, nor a bag"
        )
    return found


def open_any(
    path: Path,
    truth: Path | None = None,
    fps: float | None = None,
    topic: str | None = None,
    target: int | None = None,
    imu: str | None = None,
) -> Sequence:
    """One recording with its truth; the stamps of a bag are its own, so ``fps`` is not for bags.

    imu: where a gyroscope is wanted, its topic, or "" for the only one.

    Raises:
        InputError: what ``open_sequence`` and ``open_bag_sequence`` raise; or a gyroscope is wanted
            of what is no bag.
    """
    if is_bag(path):
        return open_bag_sequence(path, truth, topic, target, imu)
    if imu is not None:
        raise InputError(
            f"{path}: is no bag, so it holds no samples of a gyroscope; leave "
            "propagator.calibration away, or give a bag"
        )
    return open_sequence(path, truth, fps)


def _has_pictures(path: Path) -> bool:
    return any(
        f.suffix.lower() in IMAGE_SUFFIXES
        for sub in IMAGE_FOLDERS
        if (path / sub).is_dir()
        for f in (path / sub).iterdir()
    )
