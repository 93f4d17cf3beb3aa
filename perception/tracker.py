"""What every single-target tracker offers, and how one is made from a configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from perception.engine import Engine
from perception.loss import LossJudge
from pipeline.box import FloatArray, as_box
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.tracks import TrackStatus, View

SIAMESE = ("nanotrack-v1", "nanotrack-v2", "nanotrack-v3")
OPENCV = ("mosse", "kcf", "csrt", "mil")
OPENCV_NANO = ("opencv-nano-v1", "opencv-nano-v2")
TRACKERS = (*OPENCV, *OPENCV_NANO, *SIAMESE)


class TrackerAnswer(NamedTuple):
    """Where the target is in one frame.

    box: (4,) float64, x y w h in pixels. score: 0 to 1. status: how far to trust it. view: what the
    tracker's network saw, if it has one that shows it.
    """

    box: FloatArray
    score: float
    status: TrackStatus
    view: View | None = None


@dataclass(frozen=True)
class TrackerConfig(Config):
    """Which tracker, and where its model files lie."""

    name: str = option("csrt", "Which tracker answers.", choices=TRACKERS)
    models: str = option("", "Folder of model files, as <models>/nanotrackv3/*.onnx.")
    threads: int = option(1, "Threads of the inference session.", low=1, high=64)
    uncertain_ratio: float = option(
        0.75, "Score over its usual level, below which an answer is uncertain.", low=0, high=1
    )
    lost_ratio: float = option(
        0.5, "Score over its usual level, below which answers count towards lost.", low=0, high=1
    )
    lost_after: int = option(
        3, "Doubtful answers in a row that make a target lost.", low=1, high=99
    )
    extra_delay_ms: float = option(
        0.0, "Added to each update, to see how the stack copes with delay.", low=0, high=5000
    )


class Tracker:
    """One target: a checked start, an answer a frame, and a status that tells of loss.

    A lost tracker goes on looking; ``start`` may be called again at any time.
    """

    def __init__(self, engine: Engine, judge: LossJudge) -> None:
        self._engine = engine
        self._judge = judge
        self._started = False

    def start(self, frame: Frame, box: FloatArray) -> TrackerAnswer:
        """Learn the target.

        Raises:
            InputError: a box outside the frame or of no area, a frame that is no 8-bit picture.
        """
        checked = as_box(box, frame.size)
        self._engine.start(frame, checked)
        self._judge.start(checked)
        self._started = True
        return TrackerAnswer(checked, 1.0, TrackStatus.TRACKED)

    def update(self, frame: Frame, near: FloatArray | None = None) -> TrackerAnswer:
        """Find the target in a frame; ``near``, (4,) x y w h, is where it is expected.

        Raises:
            InputError: before ``start``, or a frame that is no 8-bit picture.
        """
        if not self._started:
            raise InputError("tracker has no target: call start with a frame and a box first")
        if near is not None:
            self._engine.aim(near)
        raw = self._engine.update(frame)
        status = self._judge.judge(raw, frame.size)
        return TrackerAnswer(raw.box, raw.score, status, raw.view)


def make_tracker(config: TrackerConfig) -> Tracker:
    """The configured tracker, its models loaded and checked.

    Raises:
        InputError: a model file is missing or is not what the tracker needs.
    """
    judge = LossJudge(config.uncertain_ratio, config.lost_ratio, config.lost_after)
    return Tracker(_make_engine(config), judge)


def _make_engine(config: TrackerConfig) -> Engine:
    if config.name in OPENCV:
        from perception.opencv import OpenCvEngine

        return OpenCvEngine(config.name)
    version = config.name.rsplit("-", 1)[-1]
    backbone, head = model_files(config.models, version)
    if config.name in OPENCV_NANO:
        from perception.opencv import OpenCvEngine

        return OpenCvEngine("nano", backbone, head)
    from perception.siamese import PRESETS, SiameseEngine

    return SiameseEngine(backbone, head, PRESETS[config.name], config.threads)


def model_files(models: str, version: str) -> tuple[Path, Path]:
    """Backbone and head of ``<models>/nanotrack<version>``.

    Raises:
        InputError: no such folder or file.
    """
    folder = Path(models).expanduser() / f"nanotrack{version}"
    found = [sorted(folder.glob(f"*{part}*.onnx")) for part in ("backbone", "head")]
    if not (models and all(found)):
        raise InputError(
            f"nanotrack-{version}: no *backbone*.onnx and *head*.onnx in "
            f"{folder if models else '(no folder given)'}; "
            "give the folder that holds nanotrackv1/, nanotrackv2/ or nanotrackv3/ with --models"
        )
    return found[0][0], found[1][0]
