"""llama.cpp behind the protocol: the same logits however they are asked for, stopped at once, and
no file that takes the process down."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from llm_edge.engine import CanceledError
from llm_edge.llama_engine import LlamaEngine
from llm_edge.prefix import LivePrefix
from pipeline.errors import InputError
from tests.llm_edge.gguf_models import CHATML, needs, tiny_gguf

needs("llama_cpp", "gguf")
TOKENS = np.random.default_rng(2).integers(3, 512, 150)


@pytest.fixture
def engine():
    made = LlamaEngine(tiny_gguf(), 256)
    yield made
    made.close()


def test_logits_are_the_same_in_one_go_in_chunks_and_one_by_one(engine):
    all_of_them = engine.feed_all(TOKENS)
    assert all_of_them.shape == (150, engine.vocabulary)
    engine.rewind(0)
    for k, token in enumerate(TOKENS):
        np.testing.assert_allclose(engine.feed(np.array([token])), all_of_them[k], atol=2e-4)
    engine.rewind(0)
    np.testing.assert_allclose(engine.feed(TOKENS), all_of_them[-1], atol=2e-4)
    other = LlamaEngine(tiny_gguf(), 256, chunk=7)
    np.testing.assert_allclose(other.feed(TOKENS), all_of_them[-1], atol=2e-4)
    other.close()


def test_after_rewinding_it_is_as_if_the_rest_had_not_been(engine):
    expected = engine.feed(TOKENS).copy()
    engine.rewind(70)
    engine.feed(TOKENS[::-1])
    engine.rewind(70)
    assert engine.length == 70
    np.testing.assert_allclose(engine.feed(TOKENS[70:]), expected, atol=2e-4)
    with pytest.raises(InputError, match="cannot rewind"):
        engine.rewind(151)


def test_a_prefix_that_was_read_gives_what_reading_all_gives(engine):
    prefix = LivePrefix(engine)
    prefix.resume(TOKENS[:100])
    live = prefix.resume(np.concatenate([TOKENS[:60], TOKENS[:30]])).copy()
    engine.rewind(0)
    fresh = engine.feed(np.concatenate([TOKENS[:60], TOKENS[:30]]))
    np.testing.assert_allclose(live, fresh, atol=2e-4)


def test_a_cancel_beforehand_stops_the_next_call_only(engine):
    engine.cancel()
    with pytest.raises(CanceledError):
        engine.feed(TOKENS)
    assert engine.length == 0
    engine.feed(TOKENS)
    engine.cancel()
    engine.clear()
    engine.feed(TOKENS[:5])


def test_a_cancel_between_chunks_leaves_the_state_as_before(engine):
    expected = engine.feed(TOKENS[:40]).copy()
    engine.rewind(0)
    chunks = []

    def pace():
        chunks.append(1)
        if len(chunks) == 4:
            stopped.cancel()

    stopped = LlamaEngine(tiny_gguf(), 256, chunk=16, pace=pace)
    stopped.feed(TOKENS[:16])
    with pytest.raises(CanceledError):
        stopped.feed(TOKENS[16:])
    assert (stopped.length, len(chunks)) == (16, 4)
    np.testing.assert_allclose(stopped.feed(TOKENS[16:40]), expected, atol=2e-4)
    stopped.close()


def test_a_cancel_in_the_midst_of_a_forward_stops_it():
    made = LlamaEngine(tiny_gguf(), 4096, chunk=4096)
    made.feed(TOKENS[:10])
    many = np.resize(TOKENS, 4000)
    stopped = 0
    for k in range(20):
        timer = threading.Timer(0.005 * (k + 1), made.cancel)
        timer.start()
        try:
            made.feed(many)
        except CanceledError:
            stopped += 1
        timer.join()
        made.clear()
        made.rewind(10)
        if stopped == 3:
            break
    assert stopped == 3
    made.close()


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([], "at least one"), ([512], "within 0 to 511"), ([-1], "within"), ([5] * 257, "holds 256")],
)
def test_tokens_that_cannot_be_read_are_refused_and_nothing_changes(engine, tokens, message):
    engine.feed(TOKENS[:3])
    with pytest.raises(InputError, match=message):
        engine.feed(np.array(tokens, np.int64))
    assert engine.length == 3


def test_text_becomes_tokens_and_text_again(engine):
    text = '12 car x=-3.4 {"action":"stop"}'
    assert engine.text(engine.tokenize(text)).strip() == text
    assert engine.tokenize("a", start=True)[0] == 1
    assert engine.ends(2)
    assert not engine.ends(300)
    assert 2 not in engine.tokenize("</s>")
    assert 2 in engine.tokenize("</s>", markup=True)


def test_the_models_own_chat_template_frames_a_message(engine):
    assert engine.frame == ("", "")
    made = LlamaEngine(tiny_gguf(CHATML), 256)
    before, after = made.frame
    assert before == "<|im_start|>user\n"
    assert after == "<|im_end|>\n<|im_start|>assistant\n"
    made.close()


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.02, 0.3, 0.7, 0.99, 1.0])
def test_a_truncated_file_is_one_line(tmp_path, share):
    whole = tiny_gguf().read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(share * (len(whole) - 1))])
    with pytest.raises(InputError) as error:
        LlamaEngine(path, 64)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"PK\3\4" + b"x" * 99, "no GGUF"), (b"GGUF" + b"\xff" * 99, "give")],
)
def test_a_foreign_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "foreign.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        LlamaEngine(path, 64)


def test_another_architecture_is_one_line(tmp_path):
    path = tmp_path / "other.gguf"
    path.write_bytes(tiny_gguf().read_bytes().replace(b"llama", b"lxama"))
    with pytest.raises(InputError, match="lxama"):
        LlamaEngine(path, 64)


@pytest.mark.parametrize("context", [0, -5, 4097, 1 << 40])
def test_a_context_beyond_the_models_is_refused(context):
    with pytest.raises(InputError, match="give 1 to 4096"):
        LlamaEngine(tiny_gguf(), context)


def test_what_memory_cannot_hold_is_refused_before_it_is_taken(tmp_path):
    large = tmp_path / "large.gguf"
    large.write_bytes(tiny_gguf().read_bytes())
    with large.open("ab") as file:
        file.truncate(300 << 20)  # of nothing, but who knows
    code = (
        "import sys\nfrom llm_edge.isolation import cap\nfrom llm_edge.llama_engine import *\n"
        "from llm_edge.llama_library import library\nfrom pipeline.errors import InputError\n"
        "library()\n"
        "assert not cap(200 << 20)\n"
        "for path, context in ((sys.argv[1], 64), (sys.argv[2], 64)):\n"
        "    try:\n        LlamaEngine(path, context).close()\n        print('runs')\n"
        "    except InputError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(large), str(tiny_gguf())],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert "MB of memory are left" in first
    assert second == "runs"
