"""Many sequences at once: the same rows however they are spread, and whoever is killed."""

import json
import os
import re
import signal
import sys
from functools import partial

import numpy as np
import pytest

from evaluation.clock import Latency
from evaluation.evaluate import evaluate
from evaluation.online import TrackerSource
from evaluation.replay import StoredSequence
from evaluation.rows import RowFile
from evaluation.scale import (
    TRIES,
    Conditions,
    Recording,
    evaluate_unit,
    in_processes,
    in_turn,
    on_ray,
    unit_frames,
    unit_key,
)
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from leadsight.cli import main
from perception.tracker import TrackerConfig, make_tracker
from pipeline.errors import InputError
from prediction.predictor import PredictorConfig

CONDITIONS = Conditions(
    (Latency(47_000_000), Latency(170_000_000)),
    ("kalman",),
    PredictorConfig(),
    200_000,
    TrackerConfig(),
    IspConfig(),
)


@pytest.fixture
def units(tmp_path):
    """Six stored sequences of two trackers, of different lengths."""
    rng = np.random.default_rng(5)
    truths = {}
    (tmp_path / "gt").mkdir()
    for i in range(6):
        k = np.arange(60 + 7 * i)
        center = np.cumsum(rng.normal(0, 1.5, (len(k), 2)), axis=0) + 200
        truths[f"s{i}"] = np.hstack([center, np.full((len(k), 2), 30 + 3 * i)])
        np.savetxt(tmp_path / "gt" / f"s{i}.txt", truths[f"s{i}"], fmt="%.3f")
    for name, offset in (("good", 1), ("bad", 9)):
        np.savez(tmp_path / f"{name}.npz", **{n: t + offset for n, t in truths.items()})
    outputs = tmp_path / "bad.npz", tmp_path / "good.npz"
    return [StoredSequence(n, tmp_path / "gt" / f"{n}.txt", outputs) for n in truths]


@pytest.fixture
def call(monkeypatch):
    """Run ``leadsight`` in this process; its exit status."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["leadsight", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


@pytest.fixture
def replay(units, tmp_path):
    """The arguments that evaluate the stored sequences, but for ``--out``."""
    names = "bad.npz", "good.npz"
    files = [argument for name in names for argument in ("--replay", tmp_path / name)]
    return ["evaluate", *files, "--gt", tmp_path / "gt", "--latency", "0.1"]


def deadly(folder, conditions, unit):
    """s1 kills its worker the first time, s2 each time; a file is left for every try."""
    tries = len(list(folder.glob(f"{unit.name}-*")))
    (folder / f"{unit.name}-{tries}").touch()
    if unit.name == "s2" or (unit.name == "s1" and tries == 0):
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate_unit(conditions, unit)


def spread_over_ray(work, units):
    pytest.importorskip("ray")
    return on_ray(work, units, "local")


@pytest.mark.parametrize("spread", [partial(in_processes, jobs=2), spread_over_ray])
def test_killed_workers_units_run_again_and_the_others_do_not_suffer(spread, units, tmp_path):
    (tmp_path / "tries").mkdir()
    units[3].truth.write_text("1,2,three\n")
    found = {u.name: o for u, o in spread(partial(deadly, tmp_path / "tries", CONDITIONS), units)}
    plain = {u.name: o for u, o in in_turn(partial(evaluate_unit, CONDITIONS), units)}
    assert sorted(found) == [f"s{i}" for i in range(6)]
    assert isinstance(found["s2"], InputError) and f"died {TRIES} times" in str(found["s2"])
    assert isinstance(found["s3"], InputError) and "s3.txt:1" in str(found["s3"])
    for name in ("s0", "s1", "s4", "s5"):
        assert found[name] == plain[name]
    tries = [len(list((tmp_path / "tries").glob(f"s{i}-*"))) for i in range(6)]
    assert tries == [1, 2, TRIES, 1, 1, 1]


def raises_lookup_error(unit):
    raise LookupError(f"{unit.name} has a bug")


def test_a_bug_in_a_worker_is_shown_and_not_tried_again(units):
    with pytest.raises(RuntimeError, match=r"LookupError: s. has a bug"):
        list(in_processes(raises_lookup_error, units, 2))


def test_without_ray_the_remedy_is_one_line(units, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"\[scale\]"):
        list(on_ray(raises_lookup_error, units, "local"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:99999", ""])
def test_a_cluster_that_is_not_there_is_told_at_once(address, units):
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=f"--ray {address}: no such cluster"):
        list(on_ray(raises_lookup_error, units, address))


def test_figures_are_the_same_to_the_last_bit_with_any_number_of_jobs(replay, tmp_path, call):
    results = []
    for jobs in ("1", "3"):
        assert call(*replay, "--jobs", jobs, "--out", tmp_path / jobs) == 0
        results.append((tmp_path / jobs / "results.json").read_bytes())
    assert results[0] == results[1]
    document = json.loads(results[0])
    assert [r["sequences"] for r in document["rows"]] == [6] * 4
    assert [s["sequence"] for s in document["sequences"]] == [f"s{i}" for i in range(6)] * 2


def test_resumed_run_keeps_whole_rows_and_gives_the_same_figures(replay, tmp_path, call):
    out = tmp_path / "out"
    rows, results = out / "rows.jsonl", out / "results.json"
    assert call(*replay, "--out", out) == 0
    figures = results.read_bytes()
    lines = rows.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 6
    for kept in (b"".join(lines[:4]), b"".join(lines[:4]) + lines[4][:900], lines[0][:50], b""):
        rows.write_bytes(kept)
        results.unlink()
        assert call(*replay, "--out", out, "--resume") == 0
        assert results.read_bytes() == figures
        assert rows.read_bytes() == b"".join(lines)


def test_rows_that_are_there_are_not_evaluated_again_unless_asked(replay, tmp_path, call):
    out = tmp_path / "out"
    assert call(*replay, "--out", out) == 0
    (tmp_path / "gt" / "s2.txt").write_text("no box\n")
    assert call(*replay, "--out", out, "--resume") == 0
    assert call(*replay, "--out", out) == 2


def test_rows_of_other_settings_are_refused_by_name(replay, tmp_path, call, capsys):
    out = tmp_path / "out"
    assert call(*replay, "--out", out) == 0
    kept = (out / "rows.jsonl").read_bytes()
    more = ["--predictor", "none", "--set", "predictor.history=5"]
    assert call(*replay, *more, "--out", out, "--resume") == 2
    assert "rows are of other settings (predictors, predictor)" in capsys.readouterr().err
    assert (out / "rows.jsonl").read_bytes() == kept


def test_a_sequence_that_fails_is_named_and_the_others_go_on(replay, tmp_path, call, capsys):
    out, truth = tmp_path / "out", tmp_path / "gt" / "s4.txt"
    whole = truth.read_text()
    truth.write_text("no box\n")
    assert call(*replay, "--jobs", "2", "--out", out) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "failed: s4: " in said.err and "s4.txt:1" in said.err
    assert "failed: s4: " in said.out
    document = json.loads((out / "results.json").read_text())
    assert {s["sequence"] for s in document["sequences"]} == {"s0", "s1", "s2", "s3", "s5"}
    truth.write_text(whole)
    assert call(*replay, "--out", out, "--resume") == 0
    assert len(json.loads((out / "results.json").read_text())["sequences"]) == 2 * 6
    assert (out / "report.html").is_file()


def test_a_stored_result_reads_back_what_was_found_and_its_pictures(otb, tmp_path):
    unit = Recording("kcf", otb)
    rows = RowFile(tmp_path / "rows.jsonl", CONDITIONS.settings(), resume=False)
    rows.append(unit_key(unit), evaluate_unit(CONDITIONS, unit))
    (light,) = rows.results([(unit_key(unit), unit_frames(unit, CONDITIONS))])
    sequence = unit.sequence(CONDITIONS)
    source = TrackerSource("kcf", make_tracker(TrackerConfig("kcf")), ClassicalIsp(), sequence)
    c = CONDITIONS
    (found,) = evaluate([(sequence, source)], [*c.latencies], ["kalman"], c.predictor, 200_000)
    full = light.full()
    assert list(light.runs) == list(full.runs) == list(found.runs)
    for labels, run in found.runs.items():
        assert len(light.runs[labels].boxes) == len(light.runs[labels].age_ns) == 0
        assert light.runs[labels].mean_age_ns == run.age_ns.mean()
        np.testing.assert_array_equal(full.runs[labels].boxes, run.boxes.astype(np.float32))
        np.testing.assert_array_equal(full.runs[labels].age_ns, run.age_ns)
        np.testing.assert_array_equal(light.runs[labels].la0.success, run.la0.success)
        np.testing.assert_array_equal(light.runs[labels].auc, run.auc)
    np.testing.assert_array_equal(full.sequence.truth, sequence.truth)
    picture = full.sequence.frames.read(5)
    np.testing.assert_array_equal(picture.image, sequence.frames.read(5).image)


DAMAGE = {
    "an object": (r'"dtype": "<f8"', '"dtype": "|O"'),
    "a bomb": (r'"shape": \[\d+, 4\]', '"shape": [99999999999, 4]'),
    "a size below zero": (r'"shape": \[\d+, 4\]', '"shape": [-1, 4]'),
    "other bytes": (r'"zlib": "....', '"zlib": "AAAA'),
    "no results": (r'"results"', '"rows"'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_is_refused(damage, units, tmp_path):
    row = evaluate_unit(CONDITIONS, units[0])
    damaged = re.sub(*DAMAGE[damage], row)
    assert damaged != row
    rows = RowFile(tmp_path / "rows.jsonl", CONDITIONS.settings(), resume=False)
    rows.append(unit_key(units[0]), damaged)
    with pytest.raises(InputError, match=r"rows.jsonl: the row at byte \d+ cannot be read"):
        rows.results([(unit_key(units[0]), None)])


def test_what_is_no_file_of_rows_is_refused_and_left_alone(units, tmp_path):
    path = tmp_path / "rows.jsonl"
    for text in ("a letter\nof two lines\n", '{"settings": {}}\n[1]\n{"unit": {}}\n'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"rows.jsonl"):
            RowFile(path, {}, resume=True)
        assert path.read_text() == text
