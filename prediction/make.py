"""From a configuration to its predictor."""

from collections.abc import Callable

from pipeline.errors import InputError
from prediction.constant import ConstantVelocity, NoPredictor
from prediction.imm import ImmPredictor
from prediction.kalman import KalmanPredictor
from prediction.predictor import PREDICTORS, VISUAL, Predictor, PredictorConfig
from prediction.pvt import PvtMotion
from prediction.pvt_visual import PvtJoint, PvtVisual
from prediction.residual import ResidualPredictor


def make_predictor(config: PredictorConfig) -> Predictor:
    """The configured predictor.

    Raises:
        InputError: a model file that is missing or unfit; a predictor that needs views.
    """
    if config.name in VISUAL:
        raise InputError(
            f"predictor.name: {config.name} needs what the tracker's network saw, which only "
            f"`leadsight evaluate` hands over; give one of {', '.join(PREDICTORS)}"
        )
    by_name: dict[str, Callable[[PredictorConfig], Predictor]] = {
        "none": NoPredictor,
        "constant-velocity": ConstantVelocity,
        "kalman": KalmanPredictor,
        "imm": ImmPredictor,
        "pvt-motion": PvtMotion,
        "residual": ResidualPredictor,
    }
    return by_name[config.name](config)


def make_visual(config: PredictorConfig) -> PvtVisual:
    """One of ``VISUAL``.

    Raises:
        InputError: a model file that is missing or unfit.
    """
    return PvtJoint(config) if config.name == "pvt-joint" else PvtVisual(config)
