"""Training the decoder: the network is the one that runs, and a run goes on where it stopped."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'leadsight[train]'")

from llm_edge import scenarios, words  # noqa: E402
from llm_edge.checkpoint import Shape, load_checkpoint  # noqa: E402
from llm_edge.export_onnx import export_onnx  # noqa: E402
from llm_edge.ort_engine import OrtEngine  # noqa: E402
from llm_edge.train import loss_of, main, rate_at  # noqa: E402
from llm_edge.train_data import sequences  # noqa: E402
from llm_edge.train_network import Decoder, save  # noqa: E402

SMALL = ["--width", "64", "--layers", "2", "--heads", "2", "--hidden", "64", "--threads", "1"]


def small():
    torch.manual_seed(3)
    return Decoder(Shape(len(words.WORDS), 64, 2, 2, 2, 64, words.CONTEXT))


def test_the_network_that_is_trained_is_the_one_that_runs(tmp_path):
    net = small()
    save(net, tmp_path / "net.npz")
    export_onnx(tmp_path / "net.npz", tmp_path / "net.onnx", quantized=False)
    tokens = np.random.default_rng(1).integers(0, len(words.WORDS), 50)
    with torch.no_grad():
        wanted = net(torch.from_numpy(tokens)[None])[0][0].numpy()
    engine = OrtEngine(tmp_path / "net.onnx")
    assert np.abs(engine.feed_all(tokens) - wanted).max() < 1e-3 * np.abs(wanted).max()
    assert engine.words == words.WORDS


def test_sequences_are_the_same_for_the_same_numbers_and_start_where_the_thought_does():
    a, b = (sequences(2, 5, 60, scenarios.KINDS) for _ in range(2))
    other = sequences(2, 6, 60, scenarios.KINDS)
    assert np.array_equal(a.tokens, b.tokens) and not np.array_equal(a.start, other.start)
    for tokens, start in zip(a.tokens, a.start, strict=True):
        assert words.WORDS[tokens[start - 1]] == "think"
        assert list(tokens).count(words.IDS["done"]) == 1
        assert words.IDS["end"] == tokens[tokens > 0][-1]


def test_the_teacher_looks_where_slots_are_named():
    net, made = small(), sequences(0, 0, 40, scenarios.KINDS)
    seen = []
    net.teacher.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[0]))
    loss_of(net, *(torch.from_numpy(getattr(made, f)) for f in made.__slots__))
    assert seen == [(made.meets >= 0).sum()]
    named = made.tokens[:, words.SLOT_AT :: words.PER_OBJECT]
    for row, meets in enumerate(made.meets):
        for slot in range((meets >= 0).sum()):
            assert words.WORDS[named[row, slot]] == f"o{slot + 1}"


def test_the_rate_rises_and_falls():
    rates = [rate_at(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] < 0.05 and max(rates) == 1.0 and rates[-1] < 0.03


def test_a_run_learns_goes_on_where_it_stopped_and_is_the_same_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("llm_edge.train.PART", 256)
    monkeypatch.setattr("llm_edge.train.CHECKPOINT_EVERY", 6)
    whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
    main([*SMALL, "--steps", "12", "--out", str(whole)])
    real = torch.optim.AdamW.step
    count = []

    def stops(self, *args):
        count.append(0)
        if len(count) > 8:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        main([*SMALL, "--steps", "12", "--out", str(parts)])
    monkeypatch.setattr(torch.optim.AdamW, "step", real)
    main([*SMALL, "--steps", "12", "--out", str(parts)])
    assert "step 12: loss" in capsys.readouterr().err
    for name, weight in load_checkpoint(whole).weights.items():
        assert np.allclose(weight, load_checkpoint(parts).weights[name], atol=2e-3), name


def test_a_shape_that_no_engine_runs_is_one_line():
    with pytest.raises(SystemExit, match="heads"):
        main(["--width", "100", "--heads", "3"])
