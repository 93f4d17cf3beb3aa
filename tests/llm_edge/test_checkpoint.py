"""Checkpoints: what is written is read, and nothing else is taken for one."""

import json
from dataclasses import replace

import numpy as np
import pytest

from llm_edge.checkpoint import (
    Checkpoint,
    Shape,
    load_checkpoint,
    random_checkpoint,
    read_config,
    save_checkpoint,
)
from pipeline.errors import InputError
from tests.llm_edge.decoders import SMALL, checkpoint


def test_what_is_saved_is_loaded(tmp_path):
    made = checkpoint()
    save_checkpoint(made, tmp_path / "c.npz")
    found = load_checkpoint(tmp_path / "c.npz")
    assert found.shape == made.shape and found.words == made.words
    for name, value in made.weights.items():
        np.testing.assert_array_equal(found.weights[name], value)


@pytest.mark.parametrize(
    "change",
    [
        {"vocab": 1}, {"vocab": 5000}, {"width": 65}, {"heads": 3}, {"kv_heads": 3},
        {"layers": 0}, {"context": 1 << 20}, {"hidden": True}, {"width": 64.0},
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_told(change):
    with pytest.raises(InputError, match="decoder"):
        replace(SMALL, **change)


def broken(**changes):
    made = checkpoint()
    return {**made.weights, "config": np.array(made.config()), **changes}


@pytest.mark.parametrize(
    "arrays",
    [
        broken(norm=np.ones(63, np.float32)),
        broken(norm=np.ones(64)),
        broken(norm=np.full(64, np.nan, np.float32)),
        broken(config=np.array("{")),
        broken(config=np.array("[" * 100_000)),
        broken(config=np.array("{}")),
        broken(config=np.array([1, 2])),
        {"config": np.array(checkpoint().config())},
        {"norm": np.ones(3)},
        broken(norm=np.array([{}], object)),
    ],
)
def test_a_damaged_checkpoint_is_one_line(tmp_path, arrays):
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(InputError, match=r"c\.npz") as told:
        load_checkpoint(tmp_path / "c.npz")
    assert "\n" not in str(told.value)


def test_a_truncated_or_missing_file_is_one_line(tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(path)
    save_checkpoint(checkpoint(), path)
    data = path.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"c\.npz"):
            load_checkpoint(path)


def test_a_file_that_unfolds_to_anything_is_not_unfolded(tmp_path):
    np.savez_compressed(tmp_path / "c.npz", norm=np.zeros(257 << 20, np.uint8))
    with pytest.raises(InputError, match="unfolds"):
        load_checkpoint(tmp_path / "c.npz")


@pytest.mark.parametrize("word", ["", "a b", "a\n", "w1", "x" * 49, "\x1b[0m"])
def test_words_that_do_not_fit_are_told(word):
    words = ("w1", word, *(f"v{i}" for i in range(SMALL.vocab - 2)))
    with pytest.raises(InputError, match="word"):
        Checkpoint(SMALL, words, checkpoint().weights)
    config = json.loads(checkpoint().config()) | {"words": list(words)}
    with pytest.raises(InputError, match="word"):
        read_config(json.dumps(config))


def test_parameters_are_counted():
    shape = Shape(61, 64, 3, 4, 2, 48, 40)
    made = random_checkpoint(shape)
    assert shape.parameters == sum(w.size for w in made.weights.values())
