"""Training: what it reads, that it learns, that it resumes, and that other runtimes agree."""

import numpy as np
import onnxruntime as ort
import pytest

from pipeline.errors import InputError
from prediction import pvt, residual
from prediction.make import make_predictor
from prediction.predictor import PredictorConfig
from prediction.train_data import footage, read_tracks
from prediction.weights import load_weights

pytest.importorskip("torch", reason="torch is not installed (the train extra)")
import torch

from prediction import train, train_pvt, training

SMALL = ["--batches", "6", "--heads", "4", "--sources"]


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """Boxes that swing, in one archive."""
    rng = np.random.default_rng(0)
    found = {}
    for k in range(12):
        t = np.arange(200) / 30
        center = 300 + 100 * np.sin(t[:, None] * rng.uniform(1, 4, 2) + rng.uniform(0, 6, 2))
        found[f"swing{k}"] = np.hstack([center, np.full((200, 2), rng.uniform(20, 60))])
    path = tmp_path_factory.mktemp("tracks") / "swings.npz"
    np.savez(path, **found)
    return str(path)


def figures(tracks, out, model="residual", steps=40):
    words = [model, *SMALL, tracks, "--steps", str(steps), "--out", str(out)]
    train.main(words)
    return out


def test_the_residual_learns_and_is_the_same_under_onnxruntime(tracks, tmp_path, capsys):
    out = figures(tracks, tmp_path / "r.onnx", steps=60)
    told = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()[-6:])
    assert float(told["residual IoU"]) > float(told["filter IoU"]) + 0.005
    card = out.with_suffix(".md").read_text()
    assert "python -m prediction.train residual" in card and "12 of swings" in card
    make_predictor(PredictorConfig(name="residual", model=str(out)))

    inputs = np.random.default_rng(1).normal(0, 1, (7, residual.ODD + residual.EVEN))
    ours = residual.network(load_weights("residual", str(out), residual.SHAPES), inputs)
    (theirs,) = ort.InferenceSession(str(out)).run(None, {"inputs": inputs.astype(np.float32)})
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_pvt_motion_is_the_same_in_torch_numpy_and_onnxruntime(tracks, tmp_path):
    out = figures(tracks, tmp_path / "p.onnx", "pvt-motion")
    rng = np.random.default_rng(1)
    moved = rng.normal(0, 0.3, (6, 3, 4)).astype(np.float32)
    frames = rng.uniform(1, 6, (6, 3)).astype(np.float32)
    rate = moved / frames[..., None]
    weights = load_weights("pvt-motion", str(out), pvt.SHAPES)
    ours = pvt.network(weights, moved.astype(np.float64), frames.astype(np.float64))
    given = {
        "motions": np.concatenate([moved, rate], -1),
        "p": np.abs(rate).mean(1, keepdims=True),
    }
    (theirs,) = ort.InferenceSession(str(out)).run(None, given)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)

    torch.manual_seed(0)
    net = train_pvt.PvtNet(4)
    net.train()
    for _ in range(3):  # moves the running means of the batch norms
        net(torch.from_numpy(moved), torch.from_numpy(frames))
    net.eval()
    (tmp_path / "q.onnx").write_bytes(train_pvt.pvt_graph(net).SerializeToString())
    weights = load_weights("pvt-motion", str(tmp_path / "q.onnx"), pvt.SHAPES)
    with torch.no_grad():
        expected = net(torch.from_numpy(moved), torch.from_numpy(frames)).numpy()
    found = pvt.network(weights, moved.astype(np.float64), frames.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tracks, tmp_path, monkeypatch):
    whole = figures(tracks, tmp_path / "whole.onnx").read_bytes()
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 15)
    part = tmp_path / "part.onnx"
    take = training.nn.utils.clip_grad_norm_
    calls = []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return take(*arguments)

    monkeypatch.setattr(training.nn.utils, "clip_grad_norm_", stop)
    with pytest.raises(KeyboardInterrupt):
        figures(tracks, part)
    assert (tmp_path / "part.onnx.checkpoint").is_file() and not part.is_file()
    assert figures(tracks, part).read_bytes() == whole
    assert len(calls) == 25 + 40 - 15 and not (tmp_path / "part.onnx.checkpoint").exists()


def test_cuts_of_one_recording_fall_on_the_same_side():
    assert {footage(s) for s in ("car1_1", "car1_2", "car1_s", "car1")} == {"car1"}
    assert footage("person14") != footage("person1_4")


def test_folders_are_read_with_absent_boxes_as_nan(tmp_path):
    folder = tmp_path / "gt" / "UAV123"
    folder.mkdir(parents=True)
    rows = ["NaN,NaN,NaN,NaN" if k == 5 else f"{k},{2 * k},30,20" for k in range(70)]
    (folder / "boat1_2.txt").write_text("\n".join(rows))
    (track,) = read_tracks(tmp_path, ["uav123"])
    assert track.footage == "boat1" and np.isnan(track.truth[5]).all()
    np.testing.assert_array_equal(track.seen[7], [7, 14, 30, 20])


@pytest.mark.parametrize("source", ["dtb", "uav20l", "lasot", "missing.npz"])
def test_sources_that_are_missing_are_named(source, tmp_path):
    with pytest.raises(InputError, match=r"dtb|UAV20L|LaSOT|missing"):
        read_tracks(tmp_path, [source])
