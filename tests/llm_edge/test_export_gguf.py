"""The decoder as GGUF: the same words, the same numbers, in llama.cpp."""

from dataclasses import replace

import numpy as np
import pytest

from llm_edge.checkpoint import Shape, random_checkpoint, save_checkpoint
from llm_edge.export_gguf import export_gguf
from pipeline.errors import InputError
from tests.llm_edge import reference

SHAPE = Shape(vocab=61, width=64, layers=2, heads=4, kv_heads=2, hidden=96, context=64)
WORDS = ("pad", "scene", "do_slow", "slow", "end", "at1", "at12", "friend")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "c.npz"
    checkpoint = random_checkpoint(SHAPE, 2)
    words = WORDS + tuple(f"x{i}" for i in range(SHAPE.vocab - len(WORDS)))
    checkpoint = replace(checkpoint, words=words)
    save_checkpoint(checkpoint, path)
    return path, checkpoint


def load(path):
    pytest.importorskip("gguf")
    llama_cpp = pytest.importorskip("llama_cpp")
    return llama_cpp, llama_cpp.Llama(
        str(path), n_ctx=64, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )


def test_without_the_package_one_line_names_it(made, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(InputError, match=r"leadsight\[llm\]"):
        export_gguf(made[0], tmp_path / "m.gguf")
    with pytest.raises(InputError, match="--kind"):
        export_gguf(made[0], tmp_path / "m.gguf", "q9")


@pytest.mark.parametrize(("kind", "close"), [("f32", 0.01), ("f16", 0.03), ("q8_0", 0.25)])
def test_llama_cpp_gives_the_reference_decoders_logits(made, tmp_path, kind, close):
    """Within its own rounding: keys and values are float16 whatever the weights are."""
    pytest.importorskip("gguf")
    export_gguf(made[0], tmp_path / "m.gguf", kind)
    _, model = load(tmp_path / "m.gguf")
    tokens = np.random.default_rng(0).integers(0, SHAPE.vocab, 20)
    model.eval(tokens.tolist())
    found = np.array(model.scores[:20, : SHAPE.vocab])
    assert np.abs(found - reference.logits(made[1], tokens)).max() < close


def test_text_becomes_the_words_and_the_words_the_text(made, tmp_path):
    pytest.importorskip("gguf")
    export_gguf(made[0], tmp_path / "m.gguf")
    llama_cpp, model = load(tmp_path / "m.gguf")
    tokens = [1, 2, 3, 7, 5, 6, 4, 60, 4]
    text = " ".join(made[1].words[t] for t in tokens) + " "
    assert model.tokenize(text.encode(), add_bos=False, special=False) == tokens
    assert model.detokenize(tokens).decode() == text
    vocabulary = llama_cpp.llama_model_get_vocab(model.model)
    assert llama_cpp.llama_vocab_bos(vocabulary) == 1
    assert llama_cpp.llama_vocab_eos(vocabulary) == 4
    assert not llama_cpp.llama_vocab_get_add_bos(vocabulary)


def test_where_no_word_ends_a_text_a_token_of_its_own_does(made, tmp_path):
    pytest.importorskip("gguf")
    export_gguf(made[0], tmp_path / "m.gguf", end="nothing")
    llama_cpp, model = load(tmp_path / "m.gguf")
    vocabulary = llama_cpp.llama_model_get_vocab(model.model)
    assert llama_cpp.llama_vocab_eos(vocabulary) == SHAPE.vocab + 257
