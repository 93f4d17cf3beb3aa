"""The shipped engine: the numbers of a plain decoder, and a state that survives everything."""

import json
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from llm_edge import ort_session
from llm_edge.checkpoint import Shape, load_checkpoint, save_checkpoint
from llm_edge.decoder_graph import METADATA, decoder_model
from llm_edge.engine import CanceledError
from llm_edge.export_onnx import export_onnx
from llm_edge.ort_engine import OrtEngine
from pipeline.errors import InputError
from tests.llm_edge import reference
from tests.llm_edge.decoders import SMALL, checkpoint, onnx_file

RNG = np.random.default_rng(3)
TOKENS = RNG.integers(0, SMALL.vocab, 30)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return onnx_file(tmp_path_factory.mktemp("decoder"), checkpoint())


@pytest.fixture
def engine(file):
    made = OrtEngine(file)
    yield made
    made.close()


TRUTH = reference.logits(checkpoint(), TOKENS)


@pytest.mark.parametrize("chunks", [[30], [1] * 30, [10, 1, 7, 12], [29, 1]])
def test_logits_are_the_reference_decoders_however_it_is_fed(engine, chunks):
    found, at = [], 0
    for size in chunks:
        found.append(engine.feed_all(TOKENS[at : at + size]).copy())
        at += size
        assert engine.length == at
    np.testing.assert_allclose(np.concatenate(found), TRUTH, atol=1e-4)


@pytest.mark.parametrize(
    "shape", [Shape(17, 16, 1, 1, 1, 8, 40), Shape(33, 96, 2, 2, 1, 40, 40)], ids=["one", "wide"]
)
def test_other_shapes_agree_too(tmp_path, shape):
    made = checkpoint(shape, 5)
    tokens = RNG.integers(0, shape.vocab, 20)
    engine = OrtEngine(onnx_file(tmp_path, made))
    np.testing.assert_allclose(engine.feed_all(tokens), reference.logits(made, tokens), atol=1e-4)


def test_the_last_row_alone_is_the_last_of_all(engine):
    alone = engine.feed(TOKENS).copy()
    np.testing.assert_allclose(alone, TRUTH[-1], atol=1e-4)


def test_eight_bits_stay_close(tmp_path):
    made = checkpoint()
    engine = OrtEngine(onnx_file(tmp_path, made, quantized=True))
    found = engine.feed_all(TOKENS)
    assert np.corrcoef(found.ravel(), TRUTH.ravel())[0, 1] > 0.998
    assert np.abs(found - TRUTH).max() < 0.1 * np.abs(TRUTH).max()


def test_the_exported_file_is_smaller_in_eight_bits_and_says_its_words(tmp_path):
    save_checkpoint(checkpoint(), tmp_path / "c.npz")
    small = export_onnx(tmp_path / "c.npz", tmp_path / "q.onnx")
    large = export_onnx(tmp_path / "c.npz", tmp_path / "f.onnx", quantized=False)
    assert small < 0.7 * large
    engine = OrtEngine(tmp_path / "q.onnx")
    assert engine.words == load_checkpoint(tmp_path / "c.npz").words
    assert engine.shape == SMALL and engine.vocabulary == 61 and engine.context == 40


def test_what_is_forgotten_leaves_no_trace(engine):
    engine.feed(RNG.integers(0, 61, 25))
    engine.rewind(0)
    engine.feed(TOKENS[:12])
    engine.feed(RNG.integers(0, 61, 9))
    engine.rewind(12)
    np.testing.assert_allclose(engine.feed(TOKENS[12:20]), TRUTH[19], atol=1e-4)
    for length in (21, -1):
        with pytest.raises(InputError, match="rewind"):
            engine.rewind(length)
    assert engine.length == 20


@pytest.mark.parametrize("tokens", [[61], [-1], [0, 2**40], []])
def test_tokens_that_are_none_change_nothing(engine, tokens):
    engine.feed(TOKENS[:5])
    with pytest.raises(InputError):
        engine.feed(np.array(tokens, np.int64))
    np.testing.assert_allclose(engine.feed(TOKENS[5:6]), TRUTH[5], atol=1e-4)


def test_more_than_the_context_is_told_and_changes_nothing(engine):
    engine.feed(TOKENS)
    with pytest.raises(InputError, match="context of 40"):
        engine.feed(np.zeros(11, np.int64))
    engine.feed(np.zeros(10, np.int64))
    with pytest.raises(InputError, match="context of 40"):
        engine.feed_all(np.zeros(1, np.int64))
    assert engine.length == 40


def test_canceled_before_a_call_raises_once_and_the_state_survives(engine):
    engine.feed(TOKENS[:10])
    engine.cancel()
    with pytest.raises(CanceledError):
        engine.feed(TOKENS[10:11])
    assert engine.length == 10
    np.testing.assert_allclose(engine.feed(TOKENS[10:20]), TRUTH[19], atol=1e-4)


def test_a_call_that_runs_is_canceled_from_another_thread(tmp_path):
    shape = Shape(300, 256, 12, 4, 4, 1024, 2048)
    made = checkpoint(shape)
    engine = OrtEngine(onnx_file(tmp_path, made), max_lanes=0)
    first = engine.feed(TOKENS).copy()
    engine.rewind(0)
    engine.feed(TOKENS[:29])
    for size in (2000, 2019):
        began = time.monotonic()
        timer = threading.Timer(0.02, engine.cancel)
        timer.start()
        with pytest.raises(CanceledError):
            for _ in range(100):  # should a fast machine end the first before the timer
                engine.feed(np.zeros(size, np.int64))
                engine.rewind(29)
        timer.join()
        assert time.monotonic() - began < 5
        assert engine.length == 29
    np.testing.assert_allclose(engine.feed(TOKENS[29:]), first, atol=1e-4)


def test_a_closed_engine_says_so(engine):
    engine.close()
    with pytest.raises(InputError, match="closed"):
        engine.feed(TOKENS[:1])
    with pytest.raises(InputError):
        engine.fork(2)


def test_lanes_go_their_own_ways(engine):
    engine.feed(TOKENS[:20])
    engine.fork(3)
    other = RNG.integers(0, 61, (2, 6))
    tokens = np.stack([TOKENS[20:26], *other])
    expected = [
        reference.logits(checkpoint(), np.concatenate([TOKENS[:20], lane])) for lane in tokens
    ]
    for j in range(6):
        found = engine.feed_lanes(tokens[:, j : j + 1])
        np.testing.assert_allclose(found, [e[20 + j] for e in expected], atol=1e-4)
    assert engine.length == 20
    engine.rewind_lanes(np.array([20, 22, 26]))
    assert engine.lane_lengths.tolist() == [20, 22, 26]
    engine.join(1)
    assert engine.length == 22
    np.testing.assert_allclose(engine.feed(other[0, 2:4]), expected[1][23], atol=1e-4)


@pytest.mark.parametrize("counts", [[2, 3, 0], [1, 1, 1], [6, 0, 0], [6, 5, 6], None])
def test_lanes_may_read_different_numbers_of_tokens(engine, counts):
    engine.feed(TOKENS[:10])
    engine.fork(3)
    start = engine.feed_lanes(np.tile(TOKENS[10:11], (3, 1))).copy()
    tokens = RNG.integers(0, 61, (3, max(counts or [4])))
    found = engine.feed_lanes(tokens, None if counts is None else np.array(counts))
    for lane, count in enumerate(counts or [4] * 3):
        text = np.concatenate([TOKENS[:11], tokens[lane, :count]])
        truth = reference.logits(checkpoint(), text)[-1] if count else start[lane]
        np.testing.assert_allclose(found[lane], truth, atol=1e-4)
        assert engine.lane_lengths[lane] == 11 + count


def test_lanes_that_cannot_be_are_told(engine):
    with pytest.raises(InputError, match="fork"):
        engine.fork(9)
    with pytest.raises(InputError, match="lanes"):
        engine.feed_lanes(np.zeros((2, 1), np.int64))
    engine.feed(np.zeros(37, np.int64))
    engine.fork(2)
    with pytest.raises(InputError, match="context"):
        engine.feed_lanes(np.zeros((2, 4), np.int64))
    with pytest.raises(InputError, match="vocabulary"):
        engine.feed_lanes(np.full((2, 1), 61))
    engine.feed_lanes(np.zeros((2, 3), np.int64), np.array([3, 2]))
    with pytest.raises(InputError, match="context"):  # a lane that sleeps writes past its end
        engine.feed_lanes(np.zeros((2, 1), np.int64), np.array([0, 1]))
    with pytest.raises(InputError, match="join"):
        engine.join(2)


def test_canceled_lanes_are_as_before(engine):
    engine.feed(TOKENS[:10])
    engine.fork(2)
    engine.cancel()
    with pytest.raises(CanceledError):
        engine.feed_lanes(np.tile(TOKENS[10:12], (2, 1)))
    assert engine.lane_lengths.tolist() == [10, 10]
    found = engine.feed_lanes(np.tile(TOKENS[10:12], (2, 1)))
    np.testing.assert_allclose(found[1], TRUTH[11], atol=1e-4)


def test_no_file_and_truncated_and_foreign_files_are_one_line(tmp_path, file):
    path = tmp_path / "m.onnx"
    with pytest.raises(InputError, match=r"m\.onnx"):
        OrtEngine(path)
    data = file.read_bytes()
    for size in (0, 7, 1000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"m\.onnx") as told:
            OrtEngine(path)
        assert "\n" not in str(told.value)
    for foreign in (b"GGUF" + bytes(100), RNG.bytes(5000), b"[]"):
        path.write_bytes(foreign)
        with pytest.raises(InputError, match=r"m\.onnx"):
            OrtEngine(path)


def test_another_network_is_no_decoder(tmp_path):
    value = helper.make_tensor_value_info
    for kind in ("Relu", "Mul"):
        node = helper.make_node(kind, ["a"] * (1 + (kind == "Mul")), ["b"])
        graph = helper.make_graph(
            [node], "g", [value("a", TensorProto.FLOAT, [1])], [value("b", TensorProto.FLOAT, [1])]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, tmp_path / "m.onnx")
        with pytest.raises(InputError, match="no decoder"):
            OrtEngine(tmp_path / "m.onnx")


def changed(**fields):
    model = decoder_model(checkpoint(), False)
    config = json.loads(checkpoint().config()) | fields
    helper.set_model_props(model, {METADATA: json.dumps(config)})
    return model


def infinite():
    made = checkpoint()
    made.weights["norm"][:] = 3e38
    return decoder_model(made, False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: changed(words=["a"]),
        lambda: changed(words=[f"w{i}" for i in range(60)] + ["w1"]),
        lambda: changed(vocab=60, words=[f"w{i}" for i in range(60)]),
        lambda: changed(layers=2),
        lambda: changed(context=80),
        infinite,
    ],
    ids=["few words", "a word twice", "small vocabulary", "layers", "context", "infinite"],
)
def test_a_file_that_does_not_fit_its_own_words_is_told(tmp_path, make):
    onnx.save(make(), tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"m\.onnx"):
        OrtEngine(tmp_path / "m.onnx")


def test_too_little_memory_is_told_before_it_is_taken(file, monkeypatch):
    monkeypatch.setattr(ort_session, "available_bytes", lambda: 100_000)
    with pytest.raises(InputError, match="MiB are left"):
        OrtEngine(file)
    needed = ort_session.cache_bytes(SMALL, 9)
    monkeypatch.setattr(ort_session, "available_bytes", lambda: needed)  # the file, but no states
    with pytest.raises(InputError, match="MiB are left"):
        OrtEngine(file)


def test_bytes_that_changed_are_one_line_or_a_decoder(tmp_path):
    rng = np.random.default_rng(0)
    whole = decoder_model(checkpoint(Shape(17, 16, 1, 1, 1, 8, 40)), True).SerializeToString()
    told = 0
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 2):
            data[at] = rng.integers(0, 256)
        (tmp_path / "m.onnx").write_bytes(data)
        try:
            OrtEngine(tmp_path / "m.onnx").feed(np.arange(9))
        except InputError as error:
            assert "\n" not in str(error)
            told += 1
    assert told > 20
