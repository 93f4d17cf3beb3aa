"""Training on a tracker's features: it learns what only they show, and other runtimes agree."""

import numpy as np
import onnxruntime as ort
import pytest

from pipeline.tracks import View
from prediction import pvt_visual
from prediction.make import make_visual
from prediction.predictor import VISUAL, PredictorConfig
from prediction.pvt import MOTIONS, decoded, encoded, mixed
from prediction.pvt_visual import SEARCH, TEMPLATE
from prediction.weights import load_weights
from tests.prediction.models import write_views

pytest.importorskip("torch", reason="torch is not installed (the train extra)")
import torch

from prediction import train, train_visual

FEATURES = 5
SHAPES = {"pvt-visual": pvt_visual.VISUAL_SHAPES, "pvt-joint": pvt_visual.JOINT_SHAPES}
NETS = {"pvt-visual": train_visual.VisualNet, "pvt-joint": train_visual.JointNet}


@pytest.fixture
def views(tmp_path):
    return write_views(tmp_path / "views.npz")


@pytest.mark.parametrize("name", VISUAL)
def test_it_is_the_same_in_torch_numpy_and_onnxruntime(name, tmp_path):
    rng = np.random.default_rng(1)
    moved = rng.normal(0, 0.3, (6, MOTIONS, 4)).astype(np.float32)
    frames = rng.uniform(1, 6, (6, MOTIONS)).astype(np.float32)
    template = rng.normal(0, 1, (6, FEATURES, TEMPLATE, TEMPLATE)).astype(np.float32)
    search = rng.normal(0, 1, (6, MOTIONS, FEATURES, SEARCH, SEARCH)).astype(np.float32)
    given = [torch.from_numpy(a) for a in (moved, frames, template, search)]
    torch.manual_seed(0)
    net = NETS[name](4, FEATURES)
    for _ in range(3):  # moves the running means of the batch norms
        net(*given)
    net.eval()
    with torch.no_grad():
        expected = net(*given)[0].numpy()
    path = tmp_path / "m.onnx"
    path.write_bytes(train_visual.visual_graph(net).SerializeToString())

    w = load_weights(name, str(path), SHAPES[name])
    seen = np.array(
        [
            [pvt_visual.look(w, View(template[n], search[n, k])) for k in range(MOTIONS)]
            for n in range(6)
        ]
    )
    mean = mixed(seen, w["map_time_w"], w["map_time_b"])
    if name == "pvt-joint":
        by_boxes = mixed(encoded(w, moved, frames), w["time_w"], w["time_b"])
        mean = np.concatenate([by_boxes, mean], axis=1)
    np.testing.assert_allclose(decoded(w, mean, moved, frames), expected, atol=2e-5)

    session = ort.InferenceSession(str(path))
    rate = moved / frames[..., None]
    for n in range(6):
        arrays = {
            "motions": np.concatenate([moved, rate], -1)[n : n + 1],
            "p": np.abs(rate).mean(1, keepdims=True)[n : n + 1],
            "template": template[n : n + 1],
            "search": search[n],
        }
        asked = {i.name: arrays[i.name] for i in session.get_inputs()}
        np.testing.assert_allclose(session.run(None, asked)[0][0], expected[n], atol=2e-5)


@pytest.mark.parametrize("name", VISUAL)
def test_what_only_the_pictures_show_is_learned(name, views, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    words = [name, "--views", str(views), "--heads", "1", "--steps", "30", "--out", str(out)]
    train.main(words)
    told = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()[-2:])
    blind = float(told["constant velocity error, sides, first heads"])
    assert float(told["network error, sides, first heads"]) < 0.3 * blind
    card = out.with_suffix(".md").read_text()
    assert f"python -m prediction.train {name}" in card and "clip0, clip1" in card
    make_visual(PredictorConfig(name=name, model=str(out)))


def test_files_are_read_together_and_recordings_kept_whole(views, tmp_path):
    more = write_views(tmp_path / "more.npz", name="more")
    shown, rows, held = train_visual.visual_rows([views, more], heads=3)
    assert len(shown.recordings) == 24 and 0 < shown.apart < 24
    assert len(shown.templates) == 24
    assert not set(rows[4].tolist()) & set(held[4].tolist())
    moved, gaps, wanted, known, _, search = rows
    assert moved.shape[1:] == (3, 4) and gaps.shape[1:] == (3,) and (gaps == 1).all()
    assert wanted.shape[1:] == (3, 4) and known.shape[1:] == (3,) and search.shape[1:] == (3,)
    assert (np.diff(search.numpy(), axis=1) == 1).all()
    assert (known[:, 0] == 0).any(), "a recording ends, and what comes after it is not known"


def test_answers_off_the_target_or_lost_are_no_examples(tmp_path):
    good = train_visual.visual_rows([write_views(tmp_path / "a.npz")], 1)[1]
    status = np.zeros(40, np.uint8)
    status[20] = 2
    lost = train_visual.visual_rows([write_views(tmp_path / "b.npz", status=status)], 1)[1]
    clips = len(set(good[4].tolist()))
    assert len(good[0]) - len(lost[0]) == 4 * clips


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": np.zeros((40, FEATURES, 15, SEARCH), np.float16)}, r"search is float16"),
        ({"search": np.zeros(7, np.float16)}, "template is"),
        ({"template": np.zeros((FEATURES + 1, TEMPLATE, TEMPLATE))}, "template is float64"),
        ({"template": np.full((FEATURES, TEMPLATE, TEMPLATE), np.nan)}, "not finite"),
        ({"boxes": np.zeros((39, 4))}, "boxes is"),
        ({"boxes": np.full((40, 4), "a")}, "boxes is <U1"),
        ({"truth": np.zeros((40, 3))}, "truth is"),
        ({"status": np.zeros((40, 1))}, "status is"),
        ({"frames": np.arange(1, 41)}, "frames are not"),
        ({"frames": np.arange(40)[::-1]}, "frames are not"),
        ({"frames": np.arange(40.0)}, "frames are not"),
        ({"frames": np.int64(3)}, "frames is int64"),
        ({"boxes": None}, "boxes"),
        ({"boxes": np.array([None])}, "allow_pickle"),
    ],
)
def test_views_that_do_not_fit_are_refused_and_named(changes, message, tmp_path, capsys):
    path = write_views(tmp_path / "views.npz", **changes)
    refused(path, message, tmp_path, capsys)


@pytest.mark.parametrize("content", [None, b"", b"no archive at all", b"PK\3\4" + bytes(60)])
def test_files_that_are_no_views_are_refused(content, tmp_path, capsys):
    path = tmp_path / "views.npz"
    if content is not None:
        path.write_bytes(content)
    refused(path, "cannot be read", tmp_path, capsys)


def test_views_that_unpack_to_too_much_are_refused(views, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_visual, "MAX_FILE_BYTES", 1 << 12)
    refused(views, "unpacks to over", tmp_path, capsys)


def test_views_of_two_trackers_are_not_mixed(tmp_path, capsys):
    one = write_views(tmp_path / "one.npz")
    other = write_views(tmp_path / "other.npz", features=FEATURES + 1)
    words = ["pvt-visual", "--views", str(one), str(other), "--out", str(tmp_path / "m.onnx")]
    with pytest.raises(SystemExit):
        train.main(words)
    assert "of different trackers" in capsys.readouterr().err


def test_too_few_recordings_and_none_are_refused(tmp_path, capsys):
    refused(write_views(tmp_path / "views.npz", count=1), "too few recordings", tmp_path, capsys)
    with pytest.raises(SystemExit):
        train.main(["pvt-joint", "--out", str(tmp_path / "m.onnx")])
    assert "give --views, made by `python -m evaluation.views`" in capsys.readouterr().err


def refused(path, message, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    with pytest.raises(SystemExit) as ended:
        train.main(["pvt-visual", "--views", str(path), "--steps", "1", "--out", str(out)])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith("error: --views") and message in told
    assert not out.exists()
