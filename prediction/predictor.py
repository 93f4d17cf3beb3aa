"""What every motion predictor offers: from observed boxes to boxes at any moment.

A predictor is stateless. What it knows of N targets is one value of arrays, which ``observe``
returns anew and ``predict`` reads, so any moment can be asked for, as often as one likes, without
side effects. All targets are handled in one call: a hundred cost little more than one.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.tracks import ForecastStatus, TrackStatus

IntArray = npt.NDArray[np.int64]
StatusArray = npt.NDArray[np.uint8]
PREDICTORS = ("none", "constant-velocity", "kalman", "imm", "pvt-motion", "residual")
VISUAL = ("pvt-visual", "pvt-joint")
"""Predictors that also take what the tracker's network saw, which only an evaluation has."""
MIN_SIDE_PX = 1.0
MAX_KINDS = 8
MAX_GATE = 100.0
"""Never reached in practice: a filter of this gate is not restarted."""


class Estimates(NamedTuple):
    """N targets at each of m moments.

    boxes: (N, m, 4) float64, x y w h in pixels. variances: (N, m, 4) float64, of x_center,
    y_center, w and h in pixels²; the four are independent. status: (N, m) uint8,
    ``ForecastStatus``.
    """

    boxes: FloatArray
    variances: FloatArray
    status: StatusArray


class Predictor(Protocol):
    """Motion of targets in the image. A state is a dataclass of arrays whose first axis is N."""

    def blank(self, n: int) -> Any:
        """The state of n targets that were never observed."""
        ...

    def observe(
        self, state: Any, stamp_ns: IntArray, boxes: FloatArray, status: StatusArray
    ) -> Any:
        """The state after one more observation of each target.

        stamp_ns: (N,). boxes: (N, 4), x y w h, finite. status: (N,), ``TrackStatus``. An
        observation that is not newer than the last one of its target changes nothing.
        """
        ...

    def predict(self, state: Any, valid_at_ns: IntArray) -> Estimates:
        """Every target at each moment of ``valid_at_ns``, (m,); all observed at least once."""
        ...


@dataclass(frozen=True)
class PredictorConfig(Config):
    """How motion is predicted to the moment of use."""

    name: str = option("kalman", "Which predictor forecasts.", choices=(*PREDICTORS, *VISUAL))
    max_horizon_ms: float = option(
        1000.0,
        "Forecasts further past the last observation are stale and move no more.",
        low=1,
        high=60_000,
    )
    forget_ms: float = option(
        5000.0, "A target unseen for longer is forgotten.", low=100, high=600_000
    )
    history: int = option(3, "Past motions that constant-velocity averages.", low=1, high=30)
    acceleration_sigma: float = option(
        3.0, "Kalman: drive of the center's velocity, box sides per s^1.5.", low=1e-3, high=1e3
    )
    growth_sigma: float = option(
        0.3, "Kalman: drive of the sides' velocity, box sides per s^1.5.", low=1e-3, high=1e3
    )
    velocity_memory_s: float = option(
        3.0, "Kalman: time after which a velocity is forgotten to 1/e.", low=0.01, high=3600
    )
    center_noise: float = option(
        0.04, "Kalman: noise of an observed center, in box sides.", low=1e-4, high=1
    )
    size_noise: float = option(
        0.05, "Kalman: noise of an observed side, in box sides.", low=1e-4, high=1
    )
    gate: float = option(
        8.0,
        "Kalman: jump of an observation, in sigmas, that restarts a filter.",
        low=1,
        high=MAX_GATE,
    )
    tracker_center_error: float = option(
        0.08,
        "Standard deviation of the tracker's center from the true one, in box sides.",
        low=0,
        high=1,
    )
    tracker_size_error: float = option(
        0.22,
        "Standard deviation of the tracker's sides from the true ones, in sides.",
        low=0,
        high=1,
    )
    imm_acceleration_sigmas: tuple[float, ...] = option(
        (0.5, 2.0, 8.0),
        "imm: acceleration_sigma of each kind of motion, at most 8 kinds.",
        low=1e-3,
        high=1e3,
    )
    imm_growth_sigmas: tuple[float, ...] = option(
        (0.1, 0.3, 1.0), "imm: growth_sigma of each kind of motion.", low=1e-3, high=1e3
    )
    imm_memories_s: tuple[float, ...] = option(
        (3.0, 3.0, 3.0), "imm: velocity_memory_s of each kind of motion.", low=0.01, high=3600
    )
    imm_dwell_s: float = option(
        1.0, "imm: mean time between changes of the kind of motion.", low=1e-3, high=3600
    )

    model: str = option("", "pvt-*, residual: path of the ONNX model; empty is the shipped one.")
    frame_period_ms: float = option(
        100 / 3, "pvt-*: time between the camera's frames.", low=0.1, high=10_000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = len(self.imm_memories_s)
        lists = (self.imm_acceleration_sigmas, self.imm_growth_sigmas)
        if not 1 <= kinds <= MAX_KINDS or any(len(values) != kinds for values in lists):
            raise InputError(
                "imm_acceleration_sigmas, imm_growth_sigmas, imm_memories_s: give lists of one "
                f"length, 1 to {MAX_KINDS} numbers each"
            )


S = TypeVar("S")


def select(state: S, rows: IntArray) -> S:
    """The state of some of the targets."""
    parts = {f.name: getattr(state, f.name)[rows] for f in fields(state)}  # type: ignore[arg-type]
    return replace(state, **parts)  # type: ignore[type-var]


def join(a: S, b: S) -> S:
    """Two states as one, a's targets first."""
    parts = {
        f.name: np.concatenate([getattr(a, f.name), getattr(b, f.name)])
        for f in fields(a)  # type: ignore[arg-type]
    }
    return replace(a, **parts)  # type: ignore[type-var]


def forecast_status(
    config: PredictorConfig,
    dt_s: npt.NDArray[np.floating[Any]],
    moving: npt.NDArray[np.bool_],
    status: StatusArray,
) -> StatusArray:
    """(N, m) statuses; dt_s: (N, m) from the last observation; moving: (N,), a velocity is known;
    status: (N,) of the last answer."""
    found = np.where(moving, ForecastStatus.OK, ForecastStatus.PRIOR).astype(np.uint8)[:, None]
    found = np.where(dt_s > config.max_horizon_ms * 1e-3, ForecastStatus.STALE, found)
    lost = (status == TrackStatus.LOST)[:, None]
    return np.where(lost, ForecastStatus.LOST, found).astype(np.uint8)
