"""From a configuration to its predictor."""

from prediction.constant import ConstantVelocity, NoPredictor
from prediction.kalman import KalmanPredictor
from prediction.predictor import Predictor, PredictorConfig


def make_predictor(config: PredictorConfig) -> Predictor:
    """The configured predictor."""
    by_name: dict[str, type[NoPredictor] | type[KalmanPredictor]] = {
        "none": NoPredictor,
        "constant-velocity": ConstantVelocity,
        "kalman": KalmanPredictor,
    }
    return by_name[config.name](config)
