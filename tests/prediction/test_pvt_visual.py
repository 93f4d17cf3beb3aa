"""PVT++ on a tracker's features: what enters when, what comes of it, and models that do not fit."""

import numpy as np
import pytest

from pipeline.box import from_center
from pipeline.errors import InputError
from pipeline.tracks import TrackStatus, View
from prediction import pvt_visual
from prediction.make import make_predictor, make_visual
from prediction.predictor import VISUAL, PredictorConfig, join, select
from prediction.pvt_visual import SEARCH, TEMPLATE, PvtJoint, correlation, look
from prediction.weights import load_weights
from tests.prediction.models import FEATURES, constants, write_model

MS = 1_000_000
STEP = 66 * MS


def make(tmp_path, name="pvt-joint", **changes):
    model = write_model(tmp_path / f"{name}.onnx", {**constants(name), **changes})
    return make_visual(PredictorConfig(name=name, model=model))


def view(seed):
    rng = np.random.default_rng(seed)
    return View(
        rng.normal(0, 1, (FEATURES, TEMPLATE, TEMPLATE)).astype(np.float32),
        rng.normal(0, 1, (FEATURES, SEARCH, SEARCH)).astype(np.float32),
    )


def observe(predictor, state, k, status=TrackStatus.TRACKED, seen=None):
    """Answer k of a target that moves, with what was seen for it."""
    box = from_center(np.array([[100.0 + 9 * k, 80 + k * k, 50 + k, 30]]))
    state = predictor.observe(state, np.array([k * STEP]), box, np.array([status], np.uint8))
    return state if seen is None else predictor.see(state, 0, k * STEP, view(seen))


def observed(predictor, count=6):
    state = predictor.blank(1)
    for k in range(count):
        state = observe(predictor, state, k, seen=k)
    return state


def looks(predictor, *seeds):
    weights = load_weights(predictor.name, predictor._config.model, predictor.shapes)
    return np.array([look(weights, view(seed)) for seed in seeds])


def test_the_last_three_views_are_kept_newest_last(tmp_path):
    predictor = make(tmp_path)
    np.testing.assert_allclose(observed(predictor).seen[0], looks(predictor, 3, 4, 5))


def test_an_answer_without_a_view_leaves_a_gap_in_its_place(tmp_path):
    predictor = make(tmp_path)
    state = observe(predictor, observed(predictor), 6)
    np.testing.assert_allclose(state.seen[0, :2], looks(predictor, 4, 5))
    assert not state.seen[0, 2].any()


def test_an_answer_that_does_not_enter_takes_its_view_with_it(tmp_path):
    predictor = make(tmp_path)
    state = observed(predictor)
    lost = observe(predictor, state, 6, TrackStatus.LOST, seen=6)
    np.testing.assert_array_equal(lost.seen, state.seen)
    late = observe(predictor, state, 3, seen=6)
    np.testing.assert_array_equal(late.seen, state.seen)
    again = observe(predictor, state, 5)
    np.testing.assert_array_equal(again.seen, state.seen)


def test_seeing_leaves_the_state_before_untouched(tmp_path):
    predictor = make(tmp_path)
    state = observe(predictor, observed(predictor), 6)
    before = state.seen.copy()
    predictor.see(state, 0, 6 * STEP, view(6))
    np.testing.assert_array_equal(state.seen, before)


@pytest.mark.parametrize("name", VISUAL)
def test_what_is_seen_counts_and_nothing_seen_is_finite(name, tmp_path):
    predictor = make(tmp_path, name)
    moments = 5 * STEP + np.array([40, 170, 600]) * MS
    seen = predictor.predict(observed(predictor), moments).boxes
    blind = predictor.blank(1)
    for k in range(6):
        blind = observe(predictor, blind, k)
    unseen = predictor.predict(blind, moments).boxes
    assert np.isfinite(seen).all() and np.isfinite(unseen).all()
    assert np.abs(seen - unseen).max() > 0.1


@pytest.mark.parametrize("name", VISUAL)
def test_a_target_at_rest_stays_whatever_is_seen(name, tmp_path):
    predictor = make(tmp_path, name)
    state, box = predictor.blank(1), np.array([[100.0, 90, 40, 20]])
    for k in range(5):
        state = predictor.observe(state, np.array([k * STEP]), box, np.zeros(1, np.uint8))
        state = predictor.see(state, 0, k * STEP, view(k))
    found = predictor.predict(state, 4 * STEP + np.array([30, 300]) * MS).boxes
    np.testing.assert_allclose(found[0], np.repeat(box, 2, 0), atol=1e-9)


def test_the_joint_model_also_reads_the_boxes_motion(tmp_path):
    """Without weights for what was seen it is a motion model, and the visual one a constant."""
    blind = {"map_time_w": 0, "map_time_b": 0}
    found = {}
    for name in VISUAL:
        weights = {k: v * constants(name)[k] for k, v in blind.items()}
        predictor = make(tmp_path, name, **weights)
        state = observed(predictor)
        turned = [predictor._heads(s) for s in (state, moved_otherwise(predictor, state))]
        found[name] = np.ptp(turned, axis=0).max()
    assert found["pvt-visual"] < 1e-12 < 1e-3 < found["pvt-joint"]


def moved_otherwise(predictor, state):
    """The same path backwards in x: of the same mean motion."""
    boxes = state.boxes * [-1, 1, 1, 1]
    return type(state)(**{**vars(state), "boxes": boxes})


def test_targets_are_apart(tmp_path):
    predictor = make(tmp_path)
    one, other = observed(predictor), observed(predictor, 4)
    both = join(one, other)
    moments = np.array([700 * MS])
    expected = [predictor.predict(s, moments).boxes[0] for s in (one, other)]
    np.testing.assert_allclose(predictor.predict(both, moments).boxes, expected, rtol=1e-9)
    both = predictor.see(both, 1, 3 * STEP, view(9))
    np.testing.assert_array_equal(both.seen[0], one.seen[0])
    np.testing.assert_allclose(both.seen[1, 2], looks(predictor, 9)[0])
    np.testing.assert_array_equal(select(both, np.array([0])).seen, one.seen)


def test_the_correlation_is_the_mean_over_the_template_at_each_shift():
    rng = np.random.default_rng(0)
    template_w, search_w = rng.normal(0, 1, (2, pvt_visual.CHANNELS, FEATURES))
    v = view(1)
    small = np.einsum("kc,cij->kij", template_w, v.template)
    large = np.einsum("kc,cij->kij", search_w, v.search)
    found = correlation(template_w, search_w, v.template, v.search)
    assert found.shape == (pvt_visual.CHANNELS, 9, 9)
    for y, x in ((0, 0), (3, 5), (8, 8)):
        expected = (large[:, y : y + TEMPLATE, x : x + TEMPLATE] * small).mean(axis=(1, 2))
        np.testing.assert_allclose(found[:, y, x], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", VISUAL)
def test_where_no_frames_are_at_hand_they_are_refused(name):
    with pytest.raises(InputError, match=f"{name} needs what the tracker's network saw"):
        make_predictor(PredictorConfig(name=name))


@pytest.mark.parametrize("name", VISUAL)
def test_without_a_model_the_command_that_trains_one_is_named(name):
    with pytest.raises(InputError, match=f"prediction.train {name}"):
        make_visual(PredictorConfig(name=name))


def test_a_model_of_the_other_kind_is_refused(tmp_path):
    motion = write_model(tmp_path / "m.onnx", constants("pvt-motion"))
    visual = write_model(tmp_path / "v.onnx", constants("pvt-visual"))
    joint = write_model(tmp_path / "j.onnx", constants("pvt-joint"))
    wrong = (("pvt-visual", motion), ("pvt-joint", visual), ("pvt-visual", joint))
    for name, model in wrong:
        with pytest.raises(InputError, match=f"is no {name} model"):
            make_visual(PredictorConfig(name=name, model=model))
    assert isinstance(make_visual(PredictorConfig(name="pvt-joint", model=joint)), PvtJoint)


@pytest.mark.parametrize(
    ("constant", "shape"),
    [
        ("template_w", (pvt_visual.CHANNELS, FEATURES + 1)),
        ("search_w", (FEATURES, pvt_visual.CHANNELS)),
        ("map_w", (7, pvt_visual.WIDTH)),
        ("head_b", (3, 1, 32)),
    ],
)
def test_constants_that_do_not_fit_each_other_are_refused(constant, shape, tmp_path):
    with pytest.raises(InputError, match="has the shape"):
        make(tmp_path, **{constant: np.zeros(shape)})


def test_features_of_another_tracker_are_refused(tmp_path):
    predictor = make(tmp_path)
    state = observe(predictor, predictor.blank(1), 0)
    good = view(0)
    for wrong in (
        View(good.template[1:], good.search[1:]),
        View(good.template, good.search[:, :9, :9]),
    ):
        with pytest.raises(InputError, match="trained on"):
            predictor.see(state, 0, 0, wrong)
