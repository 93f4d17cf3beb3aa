"""The calibration's own measurement: on targets and latencies that are as modeled it says p."""

import numpy as np
import pytest

from evaluation.calibration import (
    KNOWLEDGE,
    ON_TARGET,
    PROBABILITIES,
    Planner,
    carried_uses,
    contains,
    joined,
    predicted_uses,
)
from evaluation.clock import Latency
from evaluation.online import ReplaySource, TrackerSource
from evaluation.sequences import Sequence, even_stamps, open_sequence
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from perception.propagator import PropagatorConfig
from perception.tracker import TrackerConfig, make_tracker
from pipeline.span import LatencyStatus
from prediction.horizon import FREEDOM
from prediction.predictor import PredictorConfig
from prediction.two_rate import FusionConfig

MS = 1_000_000
QUIET = PredictorConfig(
    name="constant-velocity",
    center_noise=1e-4,
    size_noise=1e-4,
    acceleration_sigma=1e-3,
    growth_sigma=1e-3,
    tracker_center_error=0.05,
    tracker_size_error=0.08,
)


def straight(seed, n=900, lanes=40):
    """A target that goes straight on, and trackers that are off by a constant each."""
    rng = np.random.default_rng(seed)
    x = 40 + 130 * np.arange(n) / 30
    truth = np.stack([x, 0.3 * x, np.full(n, 48.0), np.full(n, 30.0)], axis=1)
    scale = np.sqrt((FREEDOM - 2) / rng.chisquare(FREEDOM, (lanes, 1)))
    error = rng.standard_normal((lanes, 4)) * scale * [0.05, 0.05, 0.08, 0.08]
    sides = truth[:, 2:] * np.exp(-error[:, None, 2:])
    centers = truth[:, :2] + truth[:, 2:] / 2 - error[:, None, :2] * sides
    boxes = np.concatenate([centers - sides / 2, sides], axis=-1)
    sequence = Sequence(f"straight{seed}", even_stamps(n, 30.0), truth, None)
    return sequence, ReplaySource(tuple(f"t{i}" for i in range(lanes)), boxes)


def test_coverage_is_p_where_motion_latency_and_errors_are_as_modeled():
    parts = []
    for seed in range(12):
        uses, left = predicted_uses(
            *straight(seed),
            Latency.of_seconds(0.09, 0.3),
            Latency.of_seconds(0.12, 0.5, seed=1),
            QUIET,
            every=10,
        )
        parts.append(uses)
    uses = joined(parts)
    assert left["status not OK"] == 0 < left["no truth"]
    assert uses.inside.shape == (len(uses), len(KNOWLEDGE), len(PROBABILITIES))
    known, spread, median = uses.inside.mean(axis=0)
    # 480 trackers' errors, each constant.
    tolerance = 4 * np.sqrt(np.array(PROBABILITIES) * (1 - np.array(PROBABILITIES)) / 480)
    for share in (known, spread):
        assert (np.abs(share - PROBABILITIES) < tolerance + 0.015).all()
    assert (median[:3] < spread[:3] - 0.1).all()
    area = np.median(uses.area[:, :, 2], axis=0)
    assert area[1] > 1.15 * area[0]


def test_an_answer_off_the_target_is_told_from_one_on_it():
    sequence, source = straight(1, n=200, lanes=2)
    boxes = source.answers(np.arange(200), lambda n: None).boxes.copy()
    boxes[1, :, 0] += 60
    uses, _ = predicted_uses(
        sequence,
        ReplaySource(("on", "off"), boxes),
        Latency.of_seconds(0.05),
        Latency.of_seconds(0.05, 0.2, seed=1),
        QUIET,
    )
    assert uses.on_target.mean() == 0.5
    assert uses.of(~uses.on_target).overlap.max() < ON_TARGET


def test_frames_without_truth_are_left_out_and_counted():
    sequence, source = straight(2, n=120, lanes=1)
    truth = sequence.truth.copy()
    truth[40:80] = np.nan
    holed = Sequence("holed", sequence.stamps_ns, truth, None)
    latency, rest = Latency.of_seconds(0.05), Latency.of_seconds(0.05, 0.2, seed=1)
    whole, _ = predicted_uses(sequence, source, latency, rest, QUIET)
    uses, left = predicted_uses(holed, source, latency, rest, QUIET)
    assert left["no truth"] > 15
    assert len(uses) <= len(whole) - 15 and np.isfinite(uses.truth).all()


def test_the_planner_is_known_by_what_has_ended_only():
    planner = Planner(Latency.of_seconds(0.4, 0.3), 7)
    acts = []
    for k in range(40):
        stamp, ready = k * 100 * MS, k * 100 * MS + 30 * MS
        act, horizon = planner.take(stamp, ready)
        ended = sum(a <= ready for a in acts)
        assert (horizon.status == LatencyStatus.ESTIMATED) == (ended >= 5)
        acts.append(act)
    rests = np.array(acts) - np.arange(40) * 100 * MS - 30 * MS
    assert min(horizon.quantiles_ns) >= rests.min() and max(horizon.quantiles_ns) <= rests.max()


def test_carried_tracks_are_used_at_camera_rate(otb):
    sequence = open_sequence(otb)
    tracker = make_tracker(TrackerConfig(name="csrt"))
    source = TrackerSource("csrt", tracker, ClassicalIsp(IspConfig()), sequence)
    uses, left = carried_uses(
        sequence,
        source,
        Latency.of_seconds(0.1),
        Latency.of_seconds(0.02, 0.1, seed=1),
        PredictorConfig(),
        FusionConfig(),
        PropagatorConfig(),
    )
    assert len(uses) + sum(left.values()) == len(sequence) - 1
    assert len(uses) > 12 and uses.on_target.all()
    assert uses.inside[:, 1, -1].mean() > 0.9


def test_a_region_holds_a_box_only_wholly_and_nan_holds_nothing():
    region = np.array([10.0, 10, 20, 20])
    boxes = np.array([[10.0, 10, 20, 20], [9.9, 12, 5, 5], [25, 12, 5.1, 5], [12, 12, 3, 3]])
    assert contains(region, boxes).tolist() == [True, False, False, True]
    assert not contains(np.full(4, np.nan), boxes).any()


@pytest.mark.parametrize("every", [1, 4])
def test_scoring_some_uses_changes_none_of_them(every):
    given = (*straight(3, 150, 2), Latency.of_seconds(0.06), Latency.of_seconds(0.05, 0.2, seed=1))
    whole, _ = predicted_uses(*given, QUIET)
    some, _ = predicted_uses(*given, QUIET, every)
    kept = {row.tobytes() for row in whole.truth}
    assert {row.tobytes() for row in some.truth} <= kept
    assert len(some) <= len(whole) // every + 2
