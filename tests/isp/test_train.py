"""Training end to end with small detectors: the file that comes out, resuming, and refusals."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="torch is not installed (the train extra)")
import onnx
import torch
from onnx import numpy_helper

from isp import train as training
from isp.grid import features, measured_noise, thumbnail
from isp.operators import default_parameters
from isp.task_aware import CONSUMERS, ParameterModel, parameters_of
from isp.train_losses import LOSSES
from isp.train_network import ParameterNet
from isp.train_views import random_shot, random_view
from pipeline.errors import InputError
from tests.perception.models import looking, save

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures, and a detector of YOLOX's layout that is one convolution."""
    place = tmp_path_factory.mktemp("training")
    (place / "pictures").mkdir()
    for k in range(9):
        blocks = RNG.integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(blocks).resize((200, 150), Image.Resampling.BICUBIC).save(
            place / "pictures" / f"{k}.png"
        )
    looking(place / "detector.onnx")
    return place


def run(place, out, *more, steps=3):
    training.main(
        ["--pictures", str(place / "pictures"), "--detectors", f"{place / 'detector.onnx'}:yolox",
         "--out", str(out), "--steps", str(steps), "--views", "8", *more]
    )  # fmt: skip


def test_a_model_comes_out_that_the_isp_takes_with_its_card(place, tmp_path):
    out = tmp_path / "model.onnx"
    run(place, out, "--license", "Of the test.")
    found = ParameterModel(out)(np.zeros((4, 64, 64), np.float32), (1e-4, 1e-6))
    assert found is not None and (found[0] > 0).all()
    card = out.with_suffix(".md").read_text()
    assert "--steps 3" in card and "Of the test." in card and "detector" in card
    assert not (tmp_path / "model.onnx.checkpoint").exists()


def test_a_run_that_was_stopped_ends_as_one_that_was_not(place, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 2)
    whole, halves = tmp_path / "whole.onnx", tmp_path / "halves.onnx"
    run(place, whole, steps=4)
    real, calls = training.random_shot, []
    figures_and_two_steps = 2 * 2 + 2 * training.BATCH
    most = figures_and_two_steps

    def stops(*given):
        calls.append(1)
        if len(calls) > most:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(training, "random_shot", stops)
    with pytest.raises(KeyboardInterrupt):
        run(place, halves, steps=4)
    calls.clear()
    most = np.inf
    run(place, halves, steps=4)
    assert len(calls) == figures_and_two_steps
    for a, b in zip(onnx.load(whole).graph.initializer, onnx.load(halves).graph.initializer,
                    strict=True):  # fmt: skip
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))


def test_every_consumer_has_a_loss(place, tmp_path):
    save(
        tmp_path / "backbone.onnx",
        [("Conv", ["x", "w"], "y0", {"strides": [8, 8]})],
        {"w": RNG.normal(0, 0.01, (4, 3, 8, 8)).astype(np.float32)},
        shape=(1, 3, 255, 255),
        answer=(1, 4, 31, 31),
    )
    backbone = training.OnnxModule.load(tmp_path / "backbone.onnx")
    judge = training.Judge([training.Watcher(place / "detector.onnx", "yolox")], backbone)
    views = judge.views([place / "pictures" / "0.png"], 2, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    shots = [random_shot(v.picture, rng, False) for v in views]
    with torch.no_grad():
        found = judge.losses(ParameterNet(), views, shots)
    assert set(found) == {"detector", "human", "tracker"}
    assert all(0 < v < 100 for v in found.values())
    of_detector, *of_others = (found[name].item() for name in ("detector", "human", "tracker"))
    assert training.total(found, 2).item() == pytest.approx(of_detector / 2 + sum(of_others))


def test_the_published_operators_train_and_give_the_same_picture_without_their_noise(
    place, tmp_path
):
    import onnxruntime

    out = tmp_path / "published.onnx"
    run(place, out, "--operators", "published", steps=1)
    session = onnxruntime.InferenceSession(str(out))
    image = RNG.random((1, 3, 30, 40), np.float32)
    still, noisy = np.zeros((1, 16, 30, 40), np.float32), RNG.gumbel(size=(1, 16, 30, 40))
    a, b, c = (
        session.run(None, {"image": image, "gumbel": np.float32(g)})[0]
        for g in (still, still, noisy)
    )
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert a.shape == image.shape and a.min() >= 0 and a.max() <= 1


def test_a_network_that_was_not_trained_gives_the_classical_defaults():
    view = RNG.integers(20, 200, (480, 640, 3), np.uint8)
    shot = random_shot(view, np.random.default_rng(1), day=True)
    seen = torch.from_numpy(shot.features)[None]
    with torch.no_grad():
        given, field = ParameterNet()(seen, torch.from_numpy(shot.noise)[None])
    assert not field.any()
    levels = shot.planes.mean(axis=(1, 2))
    wanted = default_parameters(levels, tuple(shot.noise.tolist()))
    for k in range(len(CONSUMERS)):
        found = parameters_of(given[0, k].tolist(), field[0].numpy(), *shot.noise.tolist())
        np.testing.assert_allclose(found.exponents, wanted.exponents, rtol=1e-5)
        np.testing.assert_allclose(found.strengths, wanted.strengths, rtol=1e-5)
        np.testing.assert_allclose(found.gains, wanted.gains, rtol=0.1)  # of mean logarithms
        assert found.toe == pytest.approx(wanted.toe)


def test_views_follow_the_seed():
    picture = RNG.integers(0, 255, (90, 160, 3), np.uint8)
    a, b, c = (random_view(picture, np.random.default_rng(s)) for s in (0, 0, 1))
    assert a.shape == (480, 640, 3) and np.array_equal(a, b) and not np.array_equal(a, c)
    shots = [random_shot(a, np.random.default_rng(s), day=False) for s in (5, 5, 6)]
    assert np.array_equal(shots[0].planes, shots[1].planes)
    assert not np.array_equal(shots[0].planes, shots[2].planes)
    assert all(np.isfinite(s.features).all() and min(s.noise) >= 0 for s in shots)


@pytest.mark.parametrize("layout", sorted(LOSSES))
def test_a_loss_is_zero_for_the_same_answer_and_grows_with_the_difference(layout):
    shapes = {
        "yolox": [(2, 30, 9)],
        "fastestdet": [(2, 9, 5, 6)],
        "nanodet": [(2, 20, 4), (2, 6, 4), (2, 20, 32), (2, 6, 32)],
    }[layout]
    wanted = [torch.rand(s) for s in shapes]
    near, far = ([(w + a * torch.rand_like(w)).clamp(0, 1) for w in wanted] for a in (0.05, 0.4))
    if layout == "fastestdet":  # its classes are shares of one
        wanted, near, far = (
            [torch.cat([x[:, :5], x[:, 5:] / x[:, 5:].sum(1, True)], 1) for x in answers]
            for answers in (wanted, near, far)
        )
    loss = LOSSES[layout]
    assert loss(wanted, wanted).item() == pytest.approx(0, abs=1e-5)
    assert 0 < loss(near, wanted).item() < loss(far, wanted).item()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pictures": "/nowhere"}, "holds no picture"),
        ({"layout": "yolov8"}, "give one of yolox"),
        ({"detector": "missing.onnx"}, "missing.onnx"),
    ],
)
def test_what_cannot_be_trained_on_is_said_in_a_line(place, tmp_path, change, says):
    pictures = change.get("pictures", str(place / "pictures"))
    detector = change.get("detector", str(place / "detector.onnx"))
    with pytest.raises(SystemExit, match=says) as ended:
        training.main(
            ["--pictures", pictures, "--detectors", f"{detector}:{change.get('layout', 'yolox')}",
             "--out", str(tmp_path / "x.onnx"), "--steps", "1"]
        )  # fmt: skip
    assert "\n" not in str(ended.value)


def test_a_file_that_is_no_picture_is_named(place, tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"a\.jpg: is no picture"):
        training.read_picture(tmp_path / "a.jpg")


def test_the_networks_features_are_those_of_the_isp():
    view = RNG.integers(20, 200, (480, 640, 3), np.uint8)
    shot = random_shot(view, np.random.default_rng(3), day=True)
    from isp.grid import Linear

    greens = np.zeros(shot.planes.shape[1:], np.float32)
    small = thumbnail(Linear.of(shot.planes, greens))
    np.testing.assert_allclose(features(small)[:3], shot.features[:3], atol=1e-5)
    assert measured_noise(small)[1] <= shot.noise[1] + 1e-9


def test_frames_of_one_folder_stay_on_one_side_where_there_are_many_folders():
    few = [Path(f"a/{k}.jpg") for k in range(20)]
    used, apart = training.split(few)
    assert apart == few[:: training.KEPT_APART] and sorted([*used, *apart]) == sorted(few)
    many = [Path(f"video{v:02}/{k}.jpg") for v in range(20) for k in range(5)]
    used, apart = training.split(many)
    assert len(apart) == 3 * 5 and len(used) == 17 * 5
    assert not {p.parent for p in used} & {p.parent for p in apart}


def test_of_many_pictures_a_part_is_drawn():
    paths = [Path(f"{k:04}.jpg") for k in range(1000)]
    few = training.drawn(paths, 132, np.random.default_rng(0))
    assert len(few) == len(set(few)) == 132 and few == sorted(few)
    assert few == training.drawn(paths, 132, np.random.default_rng(0))
    assert training.drawn(paths[:9], 132, np.random.default_rng(0)) == paths[:9]
