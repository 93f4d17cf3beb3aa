"""Measures of many targets: by hand, and against the benchmarks' own code."""

import contextlib
import io

import numpy as np
import pytest

from evaluation.mot_metrics import Counts, Scene, count, covered, scene
from pipeline.box import iou


def at(*ids, place=0.0):
    """Boxes of 10 pixels, far apart by their number."""
    return np.array([[100.0 * i + place, 0, 10, 10] for i in ids]).reshape(-1, 4)


def shot(truth, found, place=0.0, where=None):
    """A frame of targets that are where their number says; found: their given identities."""
    where = truth[: len(found)] if where is None else where
    overlap = iou(at(*truth)[:, None], at(*where, place=place)[None])
    return Scene(np.array(truth, np.int64), np.array(found, np.int64), overlap)


def test_a_perfect_run_is_one_in_all_measures():
    found = count([shot([1, 2], [7, 9]) for _ in range(5)])
    assert (found.mota, found.idf1, found.hota) == (1.0, 1.0, pytest.approx(1.0))
    assert found.switches == 0


def test_misses_false_alarms_and_a_switch_each_cost_mota_a_true_box():
    scenes = [shot([1, 2], [7, 9]) for _ in range(4)]
    scenes[1] = shot([1, 2], [7])
    assert count(scenes).mota == 1 - 1 / 8
    scenes[1] = shot([1, 2], [7, 9, 5], where=[1, 2, 4])
    assert count(scenes).mota == 1 - 1 / 8
    scenes[1] = shot([1, 2], [7, 8])
    found = count(scenes)
    assert found.switches == 2 and found.mota == 1 - 2 / 8  # to 8 and back to 9


def test_a_switch_counts_after_a_gap_as_well_and_none_when_the_same_comes_back():
    a, gap, b = shot([1], [7]), shot([1], []), shot([1], [8])
    assert count([a, gap, b]).switches == 1
    assert count([a, gap, a]).switches == 0


def test_idf1_is_by_the_one_identity_that_suits_best():
    scenes = [shot([1], [7])] * 6 + [shot([1], [8])] * 4
    found = count(scenes)
    assert found.id_hits == 6
    assert found.idf1 == pytest.approx(2 * 6 / 20)
    # A: of 10 boxes 6 (4) are together with 7 (8): 6/10 and 4/10, each over its own boxes.
    assert found.hota == pytest.approx(np.sqrt((6 * 0.6 + 4 * 0.4) / 10))


def test_hota_falls_with_the_overlap_and_mota_only_at_a_half():
    full, less = count([shot([1], [7])]), count([shot([1], [7], place=2.0)])
    assert less.mota == full.mota == 1.0
    assert less.hota == pytest.approx((iou(at(1), at(1, place=2.0))[0] // 0.05) / 19)
    assert count([shot([1], [7], place=5.0)]).mota == -1.0


def test_nothing_found_or_nothing_there():
    nothing = count([shot([1, 2], []), shot([1], [])])
    assert (nothing.mota, nothing.idf1, nothing.hota) == (0.0, 0.0, 0.0)
    empty = count([shot([], [3], where=[1])])
    assert (empty.hota, empty.truth, empty.found) == (0.0, 0, 1)


def test_what_lies_in_an_ignored_region_does_not_count_unless_it_is_a_target():
    truth = np.array([[0.0, 0, 10, 10], [0, 0, 100, 100]])
    ignored = np.array([False, True])
    boxes = np.array([[1.0, 0, 10, 10], [50, 50, 10, 10], [95, 50, 20, 10], [300, 0, 10, 10]])
    frame, counts = scene(np.array([4, 0]), truth, ignored, np.arange(4), boxes)
    assert counts.tolist() == [True, False, True, True]
    assert frame.truth.tolist() == [4]
    assert frame.overlap.shape == (1, 3)
    np.testing.assert_allclose(covered(boxes, truth[1:]), [1, 1, 0.25, 0])


def crowd(seed, frames=60):
    """Wandering targets, found with noise, gaps, swaps and false alarms: frames as (truth ids,
    boxes, found ids, boxes)."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 300, (12, 2))
    names = np.arange(12) + 40
    out = []
    for k in range(frames):
        places += rng.normal(0, 3, places.shape)
        there = rng.uniform(size=12) < 0.9
        if k % 7 == 3:
            i, j = rng.choice(12, 2, replace=False)
            names[[i, j]] = names[[j, i]]
        if k % 13 == 5:
            names[rng.integers(12)] = 100 + k
        truth = np.concatenate([places, np.full((12, 2), 30.0)], axis=1)
        noisy = truth + rng.normal(0, 4, truth.shape)
        seen = rng.uniform(size=12) < 0.8
        alarms = rng.integers(0, 3)
        boxes = np.concatenate(
            [noisy[seen], np.c_[rng.uniform(0, 300, (alarms, 2)), np.full((alarms, 2), 30.0)]]
        )
        found = np.concatenate([names[seen], 500 + rng.integers(0, 9) * 3 + np.arange(alarms)])
        out.append((np.arange(12)[there], truth[there], found, boxes))
    return out


def counted(seed):
    frames = crowd(seed)
    return count([Scene(t, f, iou(a[:, None], b[None])) for t, a, f, b in frames])


def measures(found: Counts):
    return {
        "HOTA": found.hota,
        "DetA": float(found.detection.mean()),
        "AssA": float(found.association.mean()),
        "MOTA": found.mota,
        "IDF1": found.idf1,
        "IDSW": found.switches,
        "CLR_TP": found.hits,
        "IDTP": found.id_hits,
    }


TRACK_EVAL = {
    (0,): {
        "HOTA": 0.3010476340408382,
        "DetA": 0.40636754881673387,
        "AssA": 0.22356119855740067,
        "MOTA": 0.24036979969183359,
        "IDSW": 37.0,
        "CLR_TP": 419.0,
        "IDF1": 0.4095826893353941,
        "IDTP": 265.0,
    },
    (1,): {
        "HOTA": 0.3166578989523009,
        "DetA": 0.4069481292676727,
        "AssA": 0.2473816507745573,
        "MOTA": 0.31278890600924497,
        "IDSW": 41.0,
        "CLR_TP": 442.0,
        "IDF1": 0.4747866563227308,
        "IDTP": 306.0,
    },
    (0, 1): {
        "HOTA": 0.3090513080689812,
        "DetA": 0.4066248028027116,
        "AssA": 0.23591318940189276,
        "MOTA": 0.2765793528505393,
        "IDSW": 78.0,
        "CLR_TP": 861.0,
        "IDF1": 0.4421215640727836,
        "IDTP": 571.0,
    },
}
"""What TrackEval 1.3.0 gives on crowd(0) and crowd(1), and on both together."""


@pytest.mark.parametrize("seeds", [(0,), (1,), (0, 1)])
def test_the_same_as_track_eval_gave(seeds):
    found = counted(seeds[0])
    for seed in seeds[1:]:
        found = found + counted(seed)
    assert measures(found) == pytest.approx(TRACK_EVAL[seeds], abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_as_track_eval_gives_here(seed):
    with contextlib.redirect_stdout(io.StringIO()):
        trackeval = pytest.importorskip(
            "trackeval", reason="trackeval is not installed (pip install --no-deps trackeval)"
        )
    assert measures(counted(seed)) == pytest.approx(by_track_eval(trackeval, (seed,)), abs=1e-9)


def by_track_eval(trackeval, seeds):
    results = {"HOTA": {}, "CLEAR": {}, "Identity": {}}
    for seed in seeds:
        frames = crowd(seed)
        truth_ids = np.unique(np.concatenate([f[0] for f in frames]))
        found_ids = np.unique(np.concatenate([f[2] for f in frames]))
        data = {
            "num_timesteps": len(frames),
            "num_gt_ids": len(truth_ids),
            "num_tracker_ids": len(found_ids),
            "num_gt_dets": sum(len(f[0]) for f in frames),
            "num_tracker_dets": sum(len(f[2]) for f in frames),
            "gt_ids": [np.searchsorted(truth_ids, f[0]) for f in frames],
            "tracker_ids": [np.searchsorted(found_ids, f[2]) for f in frames],
            "similarity_scores": [iou(f[1][:, None], f[3][None]) for f in frames],
        }
        quiet = {"PRINT_CONFIG": False}
        for name, metric in (
            ("HOTA", trackeval.metrics.HOTA()),
            ("CLEAR", trackeval.metrics.CLEAR(quiet)),
            ("Identity", trackeval.metrics.Identity(quiet)),
        ):
            results[name][seed] = metric.eval_sequence(data)
            results[name]["metric"] = metric
    out = {}
    for name, keys in (
        ("HOTA", ("HOTA", "DetA", "AssA")),
        ("CLEAR", ("MOTA", "IDSW", "CLR_TP")),
        ("Identity", ("IDF1", "IDTP")),
    ):
        metric = results[name].pop("metric")
        whole = metric.combine_sequences(results[name])
        out |= {key: float(np.mean(whole[key])) for key in keys}
    return out
