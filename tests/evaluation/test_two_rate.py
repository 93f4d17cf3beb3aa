import numpy as np
import pytest

from evaluation.clock import Latency
from evaluation.evaluate import evaluate
from evaluation.online import ReplaySource, TrackerSource
from evaluation.sequences import Sequence, open_sequence
from evaluation.two_rate import METHODS
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from perception.tracker import TrackerConfig, make_tracker
from pipeline.errors import InputError
from prediction.predictor import PredictorConfig


def results(folder, predictors, seconds=0.15):
    sequence = open_sequence(folder)
    tracker = make_tracker(TrackerConfig(name="csrt"))
    source = TrackerSource("csrt", tracker, ClassicalIsp(IspConfig()), sequence)
    latency = Latency.of_seconds(seconds)
    (found,) = evaluate([(sequence, source)], [latency], predictors, PredictorConfig(), 200_000)
    return {name: run for (_, name), run in found.runs.items()}


def test_carrying_wins_over_prediction_alone(otb):
    runs = results(otb, ["kalman", "two-rate", "two-rate+none"])
    assert runs["two-rate"].la0.auc > runs["kalman"].la0.auc > runs["none"].la0.auc
    assert runs["two-rate"].la0.auc > runs["two-rate+none"].la0.auc
    assert runs["two-rate"].auc[-1] >= runs["two-rate"].auc[0]
    assert runs["two-rate"].mean_age_ns < runs["kalman"].mean_age_ns


def test_the_same_run_twice_gives_the_same_figures(otb):
    a, b = (results(otb, ["two-rate"])["two-rate"] for _ in range(2))
    np.testing.assert_array_equal(a.boxes, b.boxes)


def test_stored_outputs_have_no_pictures_to_carry_on():
    boxes = np.full((4, 4), 10.0)
    sequence = Sequence("still", np.arange(4) * 33_000_000, boxes, None)
    source = ReplaySource(("x",), boxes[None])
    with pytest.raises(InputError, match="needs pictures"):
        evaluate(
            [(sequence, source)], [Latency.of_seconds(0.05)], ["two-rate"], PredictorConfig(), 0
        )


def test_every_predictor_can_carry_on():
    assert {"two-rate", "two-rate+kalman", "kalman"} <= set(METHODS)
