"""The measures against a slow second implementation, written from the definition."""

import math

import numpy as np
import pytest

from evaluation.clock import Latency
from evaluation.evaluate import evaluate
from evaluation.metrics import errors, gap_recovered, score
from evaluation.online import ReplaySource
from evaluation.sequences import Sequence, even_stamps
from pipeline.box import from_center
from prediction.predictor import PredictorConfig

MS = 1_000_000


def slow_score(boxes, truth):
    """AUC and DP, one frame and one threshold at a time."""
    hits, near = 0, 0
    for b, t in zip(boxes.tolist(), truth.tolist(), strict=True):
        if any(math.isnan(v) or v <= 0 for v in t) or not all(map(math.isfinite, b)):
            continue
        w = min(b[0] + b[2], t[0] + t[2]) - max(b[0], t[0])
        h = min(b[1] + b[3], t[1] + t[3]) - max(b[1], t[1])
        inter = max(w, 0) * max(h, 0)
        overlap = inter / (b[2] * b[3] + t[2] * t[3] - inter)
        hits += sum(overlap > 0.05 * i for i in range(21))
        x = (b[0] + (b[2] - 1) / 2) - (t[0] + (t[2] - 1) / 2)
        y = (b[1] + (b[3] - 1) / 2) - (t[1] + (t[3] - 1) / 2)
        near += math.sqrt(x * x + y * y) <= 20
    return hits / 21 / len(boxes), near / len(boxes)


@pytest.mark.parametrize("seed", range(5))
def test_auc_and_dp_equal_a_slow_second_implementation(seed):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 200, (300, 4))
    boxes = truth + rng.normal(0, 15, (300, 4))
    boxes[:, 2:] = np.abs(boxes[:, 2:]) + 0.1
    truth[::17] = np.nan
    truth[5::23, 0] = 0.0
    truth[7::29, 1] = -3.0
    truth[3::31, 3] = 0.0
    boxes[2::19, 1] = np.nan
    found = score(errors(boxes, truth))
    auc, dp = slow_score(boxes, truth)
    assert found.auc == pytest.approx(auc, abs=1e-12)
    assert found.dp == pytest.approx(dp, abs=1e-12)
    assert found.success.mean() == pytest.approx(auc) and found.precision[20] == pytest.approx(dp)


def test_absent_truth_is_a_failure_that_stays_in_the_denominator():
    truth = np.array([[10, 10, 20, 20], [np.nan] * 4, [10, 10, 20, 20], [0, 10, 20, 20.0]])
    found = score(errors(np.tile([10.0, 10, 20, 20], (4, 1)), truth))
    assert found.auc == pytest.approx(0.5 * 20 / 21) and found.dp == 0.5


def test_twenty_pixels_are_near_and_more_are_not():
    truth = np.array([[50.0, 50, 10, 10]])
    assert score(errors(truth + [20, 0, 0, 0], truth)).dp == 1
    assert score(errors(truth + [20.001, 0, 0, 0], truth)).dp == 0


@pytest.mark.filterwarnings("error")
def test_sizes_whose_areas_overflow_fail_instead_of_counting_as_perfect():
    huge = np.array([[1.0, 1.0, 1e200, 1e200]])
    assert score(errors(huge, huge)).auc == 0


def test_gap_recovered():
    assert gap_recovered(0.7, 0.5, 0.9) == pytest.approx(0.5)
    assert gap_recovered(0.4, 0.5, 0.9) == pytest.approx(-0.25)
    assert math.isnan(gap_recovered(0.5, 0.5, 0.5)) and math.isnan(gap_recovered(1, 0.9, 0.5))


def steady(n=300, fps=30.0, velocity=(110.0, 45.0)):
    """A target of 40×30 that moves steadily, tracked perfectly."""
    stamps = even_stamps(n, fps)
    centers = np.array([100.0, 90.0]) + stamps[:, None] * 1e-9 * velocity
    boxes = from_center(np.hstack([centers, np.tile([40.0, 30.0], (n, 1))]))
    sequence = Sequence("steady", stamps, boxes, None)
    return sequence, ReplaySource(("perfect",), boxes[None].copy())


def test_prediction_wins_back_what_latency_costs_on_steady_motion():
    config = PredictorConfig(velocity_memory_s=1000.0)
    predictors = ["constant-velocity", "kalman"]
    latencies = [Latency(70 * MS), Latency(170 * MS)]
    (result,) = evaluate([steady()], latencies, predictors, config, 0)
    for latency in latencies:
        none = result.runs[latency.label, "none"].la0.auc
        assert none < 0.75 * result.offline.auc
        for name in predictors:
            auc = result.runs[latency.label, name].la0.auc
            assert gap_recovered(auc, none, result.offline.auc) > 0.95, (latency.label, name)


def test_what_a_user_has_under_a_latency_is_the_newest_ready_answer():
    (result,) = evaluate([steady(n=12)], [Latency(47 * MS)], [], PredictorConfig(), 0)
    run = result.runs["47 ms", "none"]
    truth = result.sequence.truth
    # Answers: frame 1 at 94, 2 at 141, 4 at 188, 5 at 235, 7 at 282, 8 at 329 ms
    used = [0, 0, 0, 1, 1, 2, 4, 4, 5, 7, 8, 8]
    np.testing.assert_allclose(run.boxes, truth[used])
    assert (np.round(run.age_ns / (1e9 / 30))).tolist() == [k - u for k, u in enumerate(used)]


def test_more_tolerance_never_lowers_the_score_of_the_same_answers():
    (result,) = evaluate([steady()], [Latency(27 * MS)], [], PredictorConfig(), 0)
    run = result.runs["27 ms", "none"]
    assert (np.diff(run.auc) >= 0).all() and run.auc[-1] > run.auc[0]
    assert run.auc[0] == run.la0.auc and run.dp[0] == run.la0.dp
    late = np.flatnonzero(run.auc > run.auc[0])[0]
    assert late == math.ceil(27 / (1000 / 30) / 0.02)


def test_tolerance_never_uses_an_answer_about_a_later_frame():
    stamps = np.array([0, 100, 200, 210, 220, 300, 400]) * MS  # its median period is 90 ms
    truth = from_center(np.column_stack([60 + stamps * 2e-7, np.tile([50, 20, 20], (7, 1))]))
    case = Sequence("uneven", stamps, truth, None), ReplaySource(("perfect",), truth[None].copy())
    (result,) = evaluate([case], [Latency(5 * MS)], ["kalman"], PredictorConfig(), 0)
    run = result.runs["5 ms", "none"]
    # Answers are ready at 105, 205, 215, 225, 305, 405: each is the frame's own within 5 ms.
    assert (np.diff(run.auc) >= 0).all() and run.auc[0] < 0.9
    assert run.auc[3:].tolist() == [result.offline.auc] * 48


def test_jitter_gives_the_same_figures_for_the_same_seed_only():
    def auc(seed):
        latency = Latency(70 * MS, 0.4, seed)
        (result,) = evaluate([steady()], [latency], [], PredictorConfig(), 0)
        return result.runs[latency.label, "none"].auc.tolist()

    assert auc(3) == auc(3) and auc(3) != auc(4)
