"""Recordings with the true boxes of many targets: MOTChallenge, VisDrone, bags, the embedded world.

Classes are COCO's 80 numbers, which detectors at hand speak of; a bag's are its own.
"""

import configparser
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridges.scene import LABELS
from bridges.world import AerialWorld, WorldConfig
from evaluation.bags import open_bag_frames
from evaluation.sequences import (
    MAX_TEXT_BYTES,
    Frames,
    check_rising,
    open_frames,
)
from evaluation.sources import is_bag
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.frame import Frame

PERSON, BICYCLE, CAR, MOTORCYCLE, BUS, TRUCK = 0, 1, 2, 3, 5, 7
MOT_IGNORED = (2, 7, 8, 12)
"""Of MOTChallenge: people on vehicles or in one place, distractors, reflections."""
VISDRONE = {1: PERSON, 2: PERSON, 3: BICYCLE, 4: CAR, 5: CAR, 6: TRUCK, 9: BUS, 10: MOTORCYCLE}
"""Pedestrian, person, bicycle, car, van, truck, bus, motor; the others are ignored."""
WORLD = dict(zip(LABELS, (CAR, CAR, TRUCK, BUS, PERSON), strict=True))
WORLD_NAME = "world"
WORLD_SIZE = (960, 540)
RATE_HZ = 30.0
WORLD_VISIBLE = 0.3
"""Share of an actor of the world that must be seen, or it is ignored."""


@dataclass(frozen=True, eq=False)
class MotSequence:
    """One recording and all that is truly in it.

    stamps_ns: (n,) int64, rising. frame: (T,) int64, rising, which frame each true box is of.
    ids: (T,) int64. boxes: (T, 4) float64, x y w h in pixels. labels: (T,) int16. ignored: (T,)
    bool, regions in which whatever is found does not count.
    """

    name: str
    stamps_ns: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    boxes: FloatArray
    labels: npt.NDArray[np.int16]
    ignored: npt.NDArray[np.bool_]
    frames: Frames

    def __post_init__(self) -> None:
        check_rising(self.name, self.stamps_ns)
        if not (~self.ignored).any():
            raise InputError(f"{self.name}: has no true boxes that count")
        if not np.isfinite(self.boxes).all() or (self.boxes[:, 2:] <= 0).any():
            raise InputError(f"{self.name}: a true box is not finite or has no area")

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def key(self) -> int:
        """CRC-32 of the true boxes."""
        return zlib.crc32(self.boxes.tobytes())

    def rows(self, k: int) -> slice:
        """The true boxes of frame k."""
        low, high = np.searchsorted(self.frame, (k, k + 1))
        return slice(int(low), int(high))


def find_mot_sequences(path: Path) -> list[Path]:
    """The recordings of a source, one path each.

    ``world``, a bag, a folder with img1/ and gt/gt.txt, one with sequences/ and annotations/, or a
    folder of these.

    Raises:
        InputError: nothing there.
    """
    if str(path) == WORLD_NAME and not path.exists():
        return [path]
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give a recording, or {WORLD_NAME}")
    if not path.is_dir() or is_bag(path) or _form(path):
        return [path]
    if (path / "sequences").is_dir():
        path = path / "sequences"
    found = sorted(p for p in path.iterdir() if is_bag(p) or _form(p))
    if not found:
        raise InputError(
            f"{path}: holds no recording with truth of many targets: give a folder with img1/ and "
            "gt/gt.txt (MOTChallenge), with sequences/ and annotations/ (VisDrone-MOT), or a bag "
            "with a topic truth"
        )
    return found


def open_mot_sequence(
    path: Path,
    fps: float | None = None,
    topic: str | None = None,
    seed: int = 0,
    seconds: float = 10.0,
) -> MotSequence:
    """One of the recordings that ``find_mot_sequences`` names; seed and seconds: of the world.

    Raises:
        InputError: pictures or truth that cannot be read or do not fit together.
    """
    if str(path) == WORLD_NAME and not path.exists():
        return _world(seed, round(seconds * RATE_HZ))
    if is_bag(path):
        return _bag(path, topic)
    return _mot_challenge(path, fps) if _form(path) == "mot" else _visdrone(path, fps)


def _form(path: Path) -> str:
    if (path / "gt" / "gt.txt").is_file() and (path / "img1").is_dir():
        return "mot"
    if path.parent.name == "sequences" and _annotations(path).is_file():
        return "visdrone"
    return ""


def _annotations(path: Path) -> Path:
    return path.parent.parent / "annotations" / f"{path.name}.txt"


def _mot_challenge(path: Path, fps: float | None) -> MotSequence:
    """gt.txt: frame, id, x, y, w, h, counts, class, visibility; frames and pixels from 1."""
    table = _table(path / "gt" / "gt.txt", 6)
    kind = table[:, 7] if table.shape[1] > 7 else np.ones(len(table))
    counts = table[:, 6] != 0 if table.shape[1] > 6 else np.ones(len(table), bool)
    kind = np.where(kind < 0, 1, kind)  # of 2015, without classes
    ignored = np.isin(kind, MOT_IGNORED) | ~counts
    keep = (kind == 1) | np.isin(kind, MOT_IGNORED)
    table[:, 2:4] -= 1
    labels = np.full(len(table), PERSON)
    if fps is None and (path / "seqinfo.ini").is_file():
        fps = _rate(path / "seqinfo.ini")
    return _made(path.name, path / "img1", fps, table[keep], labels[keep], ignored[keep])


def _visdrone(path: Path, fps: float | None) -> MotSequence:
    """frame, id, x, y, w, h, counts, class, truncation, occlusion; frames from 1, pixels from 0."""
    table = _table(_annotations(path), 8)
    kind = table[:, 7].astype(np.int64)
    labels = np.array([VISDRONE.get(k, -1) for k in kind.tolist()])
    return _made(path.name, path, fps, table, labels, (labels < 0) | (table[:, 6] == 0))


def _made(
    name: str,
    pictures: Path,
    fps: float | None,
    table: FloatArray,
    labels: npt.NDArray[np.generic],
    ignored: npt.NDArray[np.bool_],
) -> MotSequence:
    frames, stamps = open_frames(pictures, fps)
    frame = table[:, 0].astype(np.int64) - 1
    order = np.argsort(frame, kind="stable")
    inside = (frame >= 0) & (frame < len(stamps)) & (table[:, 4:6] > 0).all(axis=1)
    rows = order[inside[order]]
    return MotSequence(
        name,
        stamps,
        frame[rows],
        table[rows, 1].astype(np.int64),
        table[rows, 2:6],
        labels[rows].astype(np.int16),
        ignored[rows],
        frames,
    )


def _table(path: Path, columns: int) -> FloatArray:
    """Numbers by commas, each line as many; at least so many columns."""
    wanted = "numbers frame,id,x,y,w,h,… by commas, each line as many"
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise InputError(f"{path}: over {MAX_TEXT_BYTES >> 20} MiB is no file of true boxes")
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [[float(v) for v in line.strip(" ,").split(",")] for line in lines if line.strip()]
        table = np.array(rows, np.float64)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except InputError:
        raise
    except ValueError:
        raise InputError(f"{path}: does not hold {wanted}") from None
    if table.ndim != 2 or table.shape[1] < columns or not np.isfinite(table).all():
        raise InputError(f"{path}: does not hold {wanted}, at least {columns}")
    if np.abs(table).max() > 1e9:
        raise InputError(f"{path}: holds a number beyond 1e9; check the file")
    return table


def _rate(path: Path) -> float | None:
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        return parser.getfloat("Sequence", "frameRate", fallback=None)
    except (OSError, ValueError, configparser.Error):
        raise InputError(f"{path}: cannot be read; mend it, or give --fps") from None


def _bag(path: Path, topic: str | None) -> MotSequence:
    bag, frames, stamps = open_bag_frames(path, topic)
    index = {stamp: k for k, stamp in enumerate(stamps.tolist())}
    parts = [
        (np.full(len(ids), index[stamp]), ids, boxes, labels)
        for stamp, ids, boxes, labels in bag.truth()
        if stamp in index
    ]
    if not parts:
        raise InputError(f"{path}: no truth has the stamp of a picture; give a bag with both")
    frame, ids, boxes, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(frame, kind="stable")
    keep = order[(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))[order]]
    return MotSequence(
        path.stem,
        stamps,
        frame[keep],
        ids[keep].astype(np.int64),
        boxes[keep],
        labels[keep].astype(np.int16),
        np.zeros(len(keep), bool),
        frames,
    )


def _world(seed: int, count: int) -> MotSequence:
    """The embedded world as an ordinary camera shows it; who is mostly hidden is ignored."""
    width, height = WORLD_SIZE
    config = WorldConfig(
        seed=seed,
        width=width,
        height=height,
        rate_hz=RATE_HZ,
        altitude_m=60.0,
        pitch_deg=55.0,
        vehicles=30,
        people=20,
    )
    world = AerialWorld(config)

    def read() -> Iterator[Frame]:
        isp = ClassicalIsp(IspConfig(black_level=(64.0,), white_balance="white_patch"))
        own = AerialWorld(config)
        for shot in own.frames(count):
            yield isp.process(shot.frame)

    truths = [world.truth(k) for k in range(count)]
    seen = [np.isfinite(t.boxes).all(axis=1) for t in truths]
    labels = np.array([WORLD[name] for name in LABELS], np.int16)

    def column(name: str) -> npt.NDArray[np.generic]:
        return np.concatenate([getattr(t, name)[s] for t, s in zip(truths, seen, strict=True)])

    return MotSequence(
        f"{WORLD_NAME}-{seed}",
        np.array([t.stamp_ns for t in truths], np.int64),
        np.repeat(np.arange(count), [int(s.sum()) for s in seen]),
        column("ids").astype(np.int64),
        column("boxes").astype(np.float64),
        labels[column("labels").astype(np.intp)],
        column("visibility").astype(np.float64) < WORLD_VISIBLE,
        Frames(WORLD_NAME, read),
    )
