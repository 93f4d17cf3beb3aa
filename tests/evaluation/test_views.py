"""What a tracker's network saw: kept on the way, predicted from, and written for training."""

import shutil

import numpy as np
import pytest

from evaluation import views
from evaluation.clock import Latency
from evaluation.evaluate import Evaluation, evaluate
from evaluation.online import ReplaySource, TrackerSource, online
from evaluation.sources import open_any
from isp.classical import ClassicalIsp
from perception.tracker import TrackerAnswer, TrackerConfig, make_tracker
from pipeline.errors import InputError
from pipeline.tracks import TrackStatus, View
from prediction.predictor import VISUAL, PredictorConfig
from prediction.pvt_visual import SEARCH, TEMPLATE
from tests.prediction.models import FEATURES, constants, write_model

MS = 1_000_000


class Follower:
    """Answers with the true box of the square, and a view that tells the frame."""

    def __init__(self, shows=True):
        self._shows = shows

    def start(self, frame, box):
        self.k = 0
        self._first = np.asarray(box, float)
        return TrackerAnswer(self._first, 1.0, TrackStatus.TRACKED)

    def update(self, frame, near=None):
        self.k = round(frame.stamp_ns * 30e-9)
        box = self._first + [4 * self.k, 2 * self.k, 0, 0]
        view = View(
            np.ones((FEATURES, TEMPLATE, TEMPLATE), np.float32),
            np.full((FEATURES, SEARCH, SEARCH), self.k, np.float32),
        )
        return TrackerAnswer(box, 1.0, TrackStatus.TRACKED, view if self._shows else None)


def source(otb, tracker):
    return TrackerSource("follower", tracker, ClassicalIsp(), open_any(otb))


def random_model(tmp_path, name, features=FEATURES):
    weights = constants(name, scale=0.1)
    for key in ("template_w", "search_w"):
        weights[key] = np.resize(weights[key], (len(weights[key]), features))
    return PredictorConfig(name=name, model=write_model(tmp_path / f"{name}.onnx", weights))


def test_views_are_kept_only_where_asked(otb):
    kept = source(otb, Follower())
    frames = np.arange(0, 24, 2)
    assert not any(kept.answers(frames, lambda n: None).views)
    asked = source(otb, Follower())
    asked.keep_views = True
    found = asked.answers(frames, lambda n: None).views
    assert found[0] is None
    assert [int(v.search[0, 0, 0]) for v in found[1:]] == list(range(2, 24, 2))


@pytest.mark.parametrize("name", VISUAL)
@pytest.mark.parametrize("latency", [Latency(70 * MS), None])
def test_a_visual_predictor_runs_online_beside_the_others(name, latency, otb, tmp_path):
    config = random_model(tmp_path, name)
    results = evaluate(
        [(open_any(otb), source(otb, Follower()))], [latency], ["kalman", name], config, 200_000
    )
    rows = {row.predictor: row for row in Evaluation(results, {}).rows()}
    assert set(rows) == {"none", "kalman", name}
    assert np.isfinite(rows[name].auc) and rows[name].auc > 0


def test_without_views_the_reason_is_told(otb, tmp_path):
    config = random_model(tmp_path, "pvt-joint")
    sequence = open_any(otb)
    stored = ReplaySource(("mine",), sequence.truth[None].copy())
    blind = source(otb, Follower(shows=False))
    blind.keep_views = True
    for without in (stored, blind):
        with pytest.raises(InputError, match="square: pvt-joint needs what the tracker's network"):
            online(sequence, without, Latency(70 * MS), config, 0)


def test_what_is_written_is_what_training_reads(otb, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="torch is not installed (the train extra)")
    from prediction import train, train_visual

    monkeypatch.setattr(views, "make_tracker", lambda config: Follower())
    root = tmp_path / "clips"
    for k in range(8):
        shutil.copytree(otb, root / f"clip{k}")
    out = tmp_path / "made" / "views.npz"
    views.main([str(out), str(root), "--models", "none"])
    assert "views.npz: 384 answers of 8 recordings and 0 worlds" in capsys.readouterr().out

    shown, rows, held = train_visual.visual_rows([out], heads=2)
    assert len(shown.recordings) == 8 and len(rows[0]) and len(held[0])
    moved, gaps, wanted, known, _, search = rows
    assert set(gaps.numpy().ravel().tolist()) <= set(views.GAPS)
    np.testing.assert_allclose(moved[..., 0], gaps * 4 / 36, rtol=1e-2)
    np.testing.assert_allclose(wanted[known[:, 1] > 0][:, 1, 0], 8 / 36, rtol=1e-2)
    told = shown.searches[search][..., 0, 0, 0].numpy().astype(float)
    np.testing.assert_allclose(np.diff(told), gaps[:, 1:], rtol=1e-6)
    model = tmp_path / "m.onnx"
    train.main(["pvt-joint", "--views", str(out), "--steps", "1", "--out", str(model)])
    assert model.is_file()


def test_a_truth_folder_and_embedded_worlds_can_be_given(otb, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(views, "make_tracker", lambda config: Follower())
    monkeypatch.setattr(views, "WORLD_FRAMES", 8)
    truth = tmp_path / "gt"
    truth.mkdir()
    (otb / "groundtruth_rect.txt").rename(truth / "square.txt")
    out = tmp_path / "views.npz"
    words = [str(out), str(otb), "--gt", str(truth), "--worlds", "1", "--seed", "4"]
    views.main([*words, "--models", "none"])
    with np.load(out) as arrays:
        names = {key.split("/")[0] for key in arrays.files}
        assert names == {"square", "world4"}
        assert arrays["world4/2/search"].shape == (4, FEATURES, SEARCH, SEARCH)
        assert len(arrays["world4/2/truth"]) == 8


def test_worlds_differ_and_are_drawn_once(monkeypatch):
    monkeypatch.setattr(views, "WORLD_FRAMES", 6)
    drawn = []
    draw = views.AerialWorld.render
    monkeypatch.setattr(
        views.AerialWorld, "render", lambda self, k: (drawn.append(k), draw(self, k))[1]
    )
    first, second = views.worlds(2)
    assert (first.name, second.name) == ("world0", "world1")
    assert np.isfinite(first.truth[0]).all() and not np.array_equal(first.truth, second.truth)
    pictures = [[first.frames.read(k).image for k in range(6)] for _ in range(2)]
    assert drawn == list(range(6)) and len(first) == 6
    assert all(np.array_equal(a, b) for a, b in zip(*pictures, strict=True))
    again = next(iter(views.worlds(1)))
    assert np.array_equal(again.frames.read(3).image, pictures[0][3])


def test_nanotrack_shows_its_features_and_they_do_not_change_later(otb, data, tmp_path):
    models = data("models", "nanotrackv3").parent
    tracker = make_tracker(TrackerConfig(name="nanotrack-v3", models=str(models)))
    real = source(otb, tracker)
    real.keep_views = True
    first = real.answers(np.arange(4), lambda n: None).views
    seen = [view.search.copy() for view in first[1:]]
    assert {v.template.shape for v in first[1:]} == {(96, TEMPLATE, TEMPLATE)}
    assert {s.shape for s in seen} == {(96, SEARCH, SEARCH)}
    real.answers(np.arange(0, 12, 3), lambda n: None)
    assert all(np.array_equal(v.search, s) for v, s in zip(first[1:], seen, strict=True))
    config = random_model(tmp_path, "pvt-joint", features=96)
    (run,) = online(open_any(otb), real, Latency(70 * MS), config, 0)
    assert np.isfinite(run.boxes).all()


def test_opencvs_trackers_show_nothing_and_say_so(otb, tmp_path):
    config = random_model(tmp_path, "pvt-visual")
    mosse = source(otb, make_tracker(TrackerConfig(name="mosse")))
    with pytest.raises(InputError, match="nanotrack"):
        evaluate([(open_any(otb), mosse)], [Latency(70 * MS)], ["pvt-visual"], config, 0)
