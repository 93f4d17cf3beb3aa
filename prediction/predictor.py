"""What every motion predictor offers: from observed boxes to a box at any moment.

A predictor is stateless; what it knows of one target is a value that ``observe`` returns and
``predict`` reads, so any moment can be asked for, as often as one likes, without side effects.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.tracks import ForecastStatus, TrackStatus

IntArray = npt.NDArray[np.int64]
PREDICTORS = ("none", "constant-velocity", "kalman")


class Estimates(NamedTuple):
    """Where a target is at each of the m moments that were asked for.

    boxes: (m, 4) float64, x y w h in pixels. covariances: (m, 4, 4) float64, of x_center, y_center,
    w, h in pixels². status: (m,) uint8, ``ForecastStatus``.
    """

    boxes: FloatArray
    covariances: FloatArray
    status: npt.NDArray[np.uint8]


class Predictor(Protocol):
    """Motion of one target in the image."""

    def observe(self, state: Any, stamp_ns: int, box: FloatArray, status: TrackStatus) -> Any:
        """The state after one more observation; ``state`` is None before the first.

        Observations come in the order of their stamps; one that is not newer changes nothing.
        """
        ...

    def predict(self, state: Any, valid_at_ns: IntArray) -> Estimates:
        """The target at each moment of ``valid_at_ns``, (m,) int64."""
        ...


@dataclass(frozen=True)
class PredictorConfig(Config):
    """How motion is predicted to the moment of use."""

    name: str = option("kalman", "Which predictor forecasts.", choices=PREDICTORS)
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
        3.0, "Kalman: acceleration of the center, box sides per second².", low=1e-3, high=1e3
    )
    growth_sigma: float = option(
        1.0, "Kalman: acceleration of the sides, box sides per second².", low=1e-3, high=1e3
    )
    velocity_memory_s: float = option(
        1.0, "Kalman: time after which a velocity is forgotten to 1/e.", low=0.01, high=3600
    )
    center_noise: float = option(
        0.02, "Kalman: noise of an observed center, in box sides.", low=1e-4, high=1
    )
    size_noise: float = option(
        0.05, "Kalman: noise of an observed side, in box sides.", low=1e-4, high=1
    )
    gate: float = option(
        8.0, "Kalman: jump of an observation, in sigmas, that restarts a filter.", low=1, high=100
    )


def make_predictor(config: PredictorConfig) -> Predictor:
    """The configured predictor."""
    from prediction.constant import ConstantVelocity, NoPredictor
    from prediction.kalman import KalmanPredictor

    if config.name == "kalman":
        return KalmanPredictor(config)
    if config.name == "constant-velocity":
        return ConstantVelocity(config)
    if config.name == "none":
        return NoPredictor(config)
    raise InputError(f"predictor {config.name!r} is none of {', '.join(PREDICTORS)}")


def horizon_status(
    config: PredictorConfig, dt_s: npt.NDArray[np.floating[Any]], moving: bool, status: TrackStatus
) -> npt.NDArray[np.uint8]:
    """(m,) statuses; ``dt_s`` (m,) counts from the last observation, ``moving`` says whether a
    velocity is known."""
    if status == TrackStatus.LOST:
        return np.full(len(dt_s), ForecastStatus.LOST, np.uint8)
    near = ForecastStatus.OK if moving else ForecastStatus.PRIOR
    found = np.full(len(dt_s), near, np.uint8)
    found[dt_s > config.max_horizon_ms * 1e-3] = ForecastStatus.STALE
    return found
