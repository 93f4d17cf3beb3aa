"""From a configuration to its predictor."""

from collections.abc import Callable

from prediction.constant import ConstantVelocity, NoPredictor
from prediction.imm import ImmPredictor
from prediction.kalman import KalmanPredictor
from prediction.predictor import Predictor, PredictorConfig
from prediction.pvt import PvtMotion
from prediction.residual import ResidualPredictor


def make_predictor(config: PredictorConfig) -> Predictor:
    """The configured predictor."""
    by_name: dict[str, Callable[[PredictorConfig], Predictor]] = {
        "none": NoPredictor,
        "constant-velocity": ConstantVelocity,
        "kalman": KalmanPredictor,
        "imm": ImmPredictor,
        "pvt-motion": PvtMotion,
        "residual": ResidualPredictor,
    }
    return by_name[config.name](config)
