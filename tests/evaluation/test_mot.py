"""What a user has of many targets, online: a real detector file on pictures of real files."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.clock import Latency
from evaluation.mot import MotConfigs, evaluate_mot, mot_rows
from evaluation.mot_sequences import find_mot_sequences, open_mot_sequence
from evaluation.simulated_detector import SimulatedDetector
from isp.config import IspConfig
from perception.detector import Detector, DetectorConfig
from perception.propagator import PropagatorConfig
from pipeline.box import iou
from prediction.association import AssociationConfig
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig
from tests.evaluation.town import SIZE, TARGET, mot_challenge
from tests.perception.models import bright

CONFIGS = MotConfigs(
    IspConfig(), AssociationConfig(), PredictorConfig(), FusionConfig(), PropagatorConfig()
)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """The recording, and what a detector file finds in it."""
    folder = tmp_path_factory.mktemp("mot")
    (path,) = find_mot_sequences(mot_challenge(folder / "town", rate=30))
    model = bright(folder / "bright.onnx", SIZE, TARGET)
    config = DetectorConfig(model=model, layout="yolov8", min_score=0.5, nms_iou=0.0)
    detector = Detector(config)
    return open_mot_sequence(path), lambda k, picture: detector.detect(picture)


def runs(town, seconds, methods=("kalman", "two-rate"), **options):
    latencies = [Latency.of_seconds(s) for s in seconds]
    return evaluate_mot(*town, latencies, list(methods), CONFIGS, **options)


def test_carrying_wins_over_prediction_and_that_over_nothing(town):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (the mot extra)")
    rows = {(r.latency, r.method): r for r in mot_rows(runs(town, (0.1, 0.2)))}
    offline = rows["0 ms", "offline"]
    assert offline.hota > 0.9 and offline.switches == 0 and offline.sap > 0.85
    for latency in ("100 ms", "200 ms"):
        none, kalman, two = (rows[latency, m] for m in ("none", "kalman", "two-rate"))
        assert none.hota < kalman.hota < two.hota < offline.hota
        assert none.sap < kalman.sap < two.sap < offline.sap
        assert kalman.gap_hota < two.gap_hota < 1
        assert none.age_ms > 100 and np.isnan(none.gap_hota)
    assert rows["200 ms", "none"].hota < rows["100 ms", "none"].hota


def test_nothing_is_given_the_first_answer_is_late_too(town):
    found = {run.method: run for run in runs(town, (0.1,))}
    counts = [len(p.boxes) for p in found["two-rate"].pictures]
    # Frame 0 is known at 100 ms, the next at 200 ms; targets are published with the second.
    assert counts[:6] == [0] * 6 and counts[6] == 2
    assert found["two-rate"].seen < 20 and found["offline"].seen == 45
    assert [len(p.boxes) for p in found["offline"].pictures][:3] == [0, 2, 2]


def test_identities_last_from_end_to_end(town):
    (run,) = [r for r in runs(town, (0.2,)) if r.method == "two-rate"]
    assert run.counts.switches == 0
    assert run.counts.id_hits == run.counts.hits > 60


def test_the_same_twice_and_whatever_else_is_evaluated_beside_it(town):
    alone = runs(town, (0.15,), ("two-rate",))[-1]
    beside = runs(town, (0.05, 0.15), ("kalman", "constant-velocity", "two-rate"))[-1]
    assert (alone.latency, alone.method) == (beside.latency, beside.method)
    for a, b in zip(alone.pictures, beside.pictures, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)


def test_what_is_found_of_classes_that_the_truth_lacks_is_left_away(town):
    sequence, detect = town
    cars = lambda k, picture: replace(  # noqa: E731
        (found := detect(k, picture)), labels=np.full(len(found), 2, np.int16)
    )
    (offline, *_) = evaluate_mot(sequence, cars, [Latency.of_seconds(0.1)], [], CONFIGS)
    assert offline.counts.found == 0
    (offline, *_) = evaluate_mot(
        sequence, cars, [Latency.of_seconds(0.1)], [], CONFIGS, agnostic=True
    )
    assert offline.counts.hits > 80


def test_a_simulated_detector_is_the_same_for_a_seed_and_near_the_truth(town):
    sequence, _ = town
    one, same, other = (SimulatedDetector(sequence, seed) for seed in (1, 1, 2))
    hits = alarms = 0
    for k in range(len(sequence)):
        picture = sequence.frames.read(k)
        a, b = one.detect(k, picture), same.detect(k, picture)
        np.testing.assert_array_equal(a.boxes, b.boxes)
        best = iou(sequence.boxes[sequence.rows(k)][:, None], a.boxes[None]).max(axis=0, initial=0)
        hits, alarms = hits + (best > 0.5).sum(), alarms + (best < 0.1).sum()
        assert (a.stamp_ns, a.frame_index) == (sequence.stamps_ns[k], k)
    assert 0.7 < hits / (~sequence.ignored).sum() <= 1
    assert 0 < alarms < len(sequence)
    found = [d.detect(9, sequence.frames.read(9)).boxes for d in (one, other)]
    assert len(found[0]) != len(found[1]) or np.abs(found[0] - found[1]).max() > 0.1
