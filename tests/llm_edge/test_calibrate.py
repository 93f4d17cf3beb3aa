"""Calibration: what is measured predicts what was not, and no kept file is believed blindly."""

import json

import numpy as np
import pytest

from llm_edge import calibrate as module
from llm_edge.calibrate import ThreadClock, calibrate, known_costs, probes
from llm_edge.cost_file import cache_folder, calibration_file, load_costs, save_costs
from llm_edge.ort_engine import OrtEngine
from pipeline.clock import WallClock
from pipeline.errors import InputError
from tests.llm_edge.decoders import checkpoint, onnx_file
from tests.llm_edge.test_cost import KNOWN
from tests.llm_edge.timed import TimedEngine


def quiet(rng):
    return float(np.exp(rng.normal(0, 0.03)))


def disturbed(rng):
    """Every fifth call is interrupted for far longer than it takes."""
    return 1.0 if rng.random() > 0.2 else 1 + float(rng.exponential(8))


def held_out_errors(found):
    for size in (14, 27, 60, 90, 118):
        yield found.prefill(size) / KNOWN.prefill(size) - 1
        yield found.decode(9, size) / KNOWN.decode(9, size) - 1
    for k in (2, 3, 5, 6, 8):
        yield found.step(k, 70) / KNOWN.step(k, 70) - 1
        yield found.step_lanes(k, 1, 110) / KNOWN.step_lanes(k, 1, 110) - 1


@pytest.mark.parametrize("noise", [quiet, disturbed])
def test_known_constants_predict_held_out_lengths_within_a_tenth(noise):
    engine = TimedEngine(KNOWN, noise=noise)
    found = calibrate(engine, engine.clock, engine.work)
    factor, plain = found.factor, module.replace(found, factor=1.0)
    assert max(abs(e) for e in held_out_errors(plain)) < 0.1
    assert plain.fork == pytest.approx(KNOWN.fork, rel=0.1)
    assert 0.95 < factor < (1.1 if noise is quiet else 4)
    assert engine.length == 0


def test_without_a_clock_of_work_the_wall_tells():
    engine = TimedEngine(KNOWN, noise=quiet)
    found = calibrate(engine, engine.clock)
    assert max(abs(e) for e in held_out_errors(found)) < 0.1


def test_an_engine_that_works_elsewhere_is_timed_by_the_wall():
    engine = TimedEngine(KNOWN, noise=quiet)
    found = calibrate(engine, engine.clock, WallClock())
    assert max(abs(e) for e in held_out_errors(found)) < 0.1


def test_more_load_gives_a_larger_tail():
    tails = []
    for noise in (quiet, disturbed):
        engine = TimedEngine(KNOWN, noise=noise)
        tails.append(calibrate(engine, engine.clock, engine.work).tail)
    assert tails[0] < 0.2 < tails[1]


def test_probes_are_at_most_fourteen_and_a_tenth_of_a_second():
    for context in (32, 128, 4096):
        for lanes in (0, 1, 3, 16):
            assert len(probes(context, lanes)) <= 14
    engine = TimedEngine(KNOWN, noise=quiet)
    began = engine.clock.now_ns()
    calibrate(engine, engine.clock, engine.work)
    assert engine.clock.now_ns() - began < 100_000_000


def test_without_lanes_votes_are_priced_one_by_one():
    engine = TimedEngine(KNOWN, max_lanes=0)
    found = calibrate(engine, engine.clock, engine.work)
    assert found.lanes == () and found.fork == 0
    assert found.step_lanes(4, 1, 20) == pytest.approx(4 * found.step(1, 20), rel=1e-3)


def test_a_context_too_short_is_told():
    engine = TimedEngine(KNOWN, context=31)
    with pytest.raises(InputError, match="context of 31"):
        calibrate(engine, engine.clock)


def test_the_real_engine_is_measured_and_read_back(tmp_path):
    path = onnx_file(tmp_path, checkpoint(), True)
    engine, clock = OrtEngine(path), WallClock()
    costs, fresh = known_costs(engine, clock, path, ThreadClock(), tmp_path / "kept")
    assert fresh and costs.n > 0 and len(costs.lanes) == 3
    file = calibration_file(path, tmp_path / "kept")
    assert load_costs(file) == costs
    wrong = module.replace(costs, n=10 * costs.n + 10)
    save_costs(wrong, file)
    again, fresh = known_costs(engine, clock, path, ThreadClock(), tmp_path / "kept")
    assert fresh and again.n < wrong.n / 2


def test_a_kept_measurement_that_still_holds_is_not_made_again(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"weights")
    engine = TimedEngine(KNOWN)
    costs, fresh = known_costs(engine, engine.clock, path, engine.work, tmp_path)
    assert fresh
    began = engine.clock.now_ns()
    again, fresh = known_costs(engine, engine.clock, path, engine.work, tmp_path)
    assert not fresh and again == costs
    assert engine.clock.now_ns() - began < 2_000_000
    path.write_bytes(b"other weights")
    assert known_costs(engine, engine.clock, path, engine.work, tmp_path)[1]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "[" * 15_000, "1" * 15_000, '{"version": 1}',
        json.dumps({"version": 1, "costs": KNOWN.to_dict() | {"n": 0}}),
        json.dumps({"version": 1, "costs": KNOWN.to_dict() | {"n": float("nan")}}),
        json.dumps({"version": 2, "costs": KNOWN.to_dict()}),
        json.dumps({"version": 1, "costs": KNOWN.to_dict()}) + " " * 20_000,
        "\ufeff\x00",
    ],
)  # fmt: skip
def test_a_hostile_file_is_no_measurement(tmp_path, text):
    file = tmp_path / "costs.json"
    file.write_text(text, encoding="utf-8")
    assert load_costs(file) is None
    file.write_bytes(b"\xff\xfe" + text.encode()[:100])
    assert load_costs(file) is None


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("")
    assert not save_costs(KNOWN, tmp_path / "file" / "costs.json")
    assert load_costs(tmp_path / "file" / "costs.json") is None
    assert load_costs(tmp_path) is None


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "leadsight" / "calibration"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert ".cache" in str(cache_folder())
    with pytest.raises(InputError, match="cannot be read"):
        calibration_file(tmp_path / "none.onnx")
