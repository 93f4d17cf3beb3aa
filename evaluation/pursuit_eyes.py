"""What sees a target in each picture of a flight: a real tracker, or the truth with noise."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bridges.loop import Step
from bridges.simulator import SeenBoxes, Sensor, SensorKind
from isp.config import IspConfig
from isp.make import make_isp
from perception.tracker import TrackerConfig, make_tracker
from pipeline.box import FloatArray
from pipeline.frame import Frame
from pipeline.tracks import TrackStatus

CAMERA, BOXES = "camera", "boxes"
"""Names of the sensors."""
_HIDDEN = 0.3
"""Share in view below which the noisy truth sees nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """box: (4,) x y w h in pixels. status: whether to trust it."""

    box: FloatArray
    status: TrackStatus


class Eyes(Protocol):
    """Looks at every picture from ``begin`` on."""

    kinds: tuple[SensorKind, ...]
    """Sensors that it needs."""

    def begin(self, step: Step) -> bool:
        """Learn the target in this picture; False: it is not to be seen here."""
        ...

    def look(self, step: Step) -> Look | None:
        """The target in this picture; None: nothing is seen."""
        ...


def true_box(step: Step, target_id: int) -> tuple[FloatArray, float] | None:
    """The target's box, (4,), and the share of it in view; None: it is not there."""
    seen = step.readings[BOXES].value if BOXES in step.readings else None
    if not isinstance(seen, SeenBoxes):
        return None
    row = np.flatnonzero(seen.ids == target_id)
    return (seen.boxes[row[0]], float(seen.visibility[row[0]])) if len(row) else None


class NoisyTruth:
    """The true box with white noise, wherever enough of the target is in view."""

    kinds: tuple[SensorKind, ...] = (SensorKind.BOXES,)

    def __init__(self, target_id: int, seed: int, center: float, size: float) -> None:
        """center, size: sigmas in box sides."""
        self._target_id, self._center, self._size = target_id, center, size
        self._rng = np.random.default_rng([seed, 0xE7E])

    def begin(self, step: Step) -> bool:
        return self.look(step) is not None

    def look(self, step: Step) -> Look | None:
        noise = self._rng.normal(size=4)  # drawn always: the same for every arm
        found = true_box(step, self._target_id)
        if found is None or found[1] < _HIDDEN:
            return None
        box = found[0].copy()
        sides = box[2:].copy()
        box[2:] *= np.exp(self._size * noise[2:])
        box[:2] += (sides - box[2:]) / 2 + self._center * sides * noise[:2]
        return Look(box, TrackStatus.TRACKED)


class TrackerEyes:
    """Our ISP and a tracker, told the true box once."""

    kinds: tuple[SensorKind, ...] = (SensorKind.BOXES, SensorKind.CAMERA)

    def __init__(self, target_id: int, tracker: TrackerConfig, isp: IspConfig) -> None:
        """
        Raises:
            InputError: a model file is missing.
        """
        self._target_id = target_id
        self._tracker, self._isp = make_tracker(tracker), make_isp(isp)

    def begin(self, step: Step) -> bool:
        found, picture = true_box(step, self._target_id), self._picture(step)
        if found is None or picture is None or found[1] < 0.8:
            return False
        self._tracker.start(picture, found[0])
        return True

    def look(self, step: Step) -> Look | None:
        picture = self._picture(step)
        if picture is None:
            return None
        answer = self._tracker.update(picture)
        if answer.status == TrackStatus.LOST or not (answer.box[2:] > 0).all():
            return None
        return Look(answer.box, answer.status)

    def _picture(self, step: Step) -> Frame | None:
        frame = step.readings[CAMERA].value if CAMERA in step.readings else None
        return self._isp.process(frame) if isinstance(frame, Frame) else None


def camera_sensors(
    kinds: tuple[SensorKind, ...], uav: int, width: int, height: int, fov_deg: float
) -> list[Sensor]:
    """The sensors of these eyes, in the UAV's gimbal."""
    return [
        Sensor(k, str(k), uav, on_gimbal=True, width=width, height=height, fov_deg=fov_deg)
        for k in kinds
    ]
