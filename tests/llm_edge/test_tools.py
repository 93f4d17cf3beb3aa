"""Tools: what a plan may be, run together, and nobody waits for a call that hangs."""

import json
import threading

import numpy as np
import pytest

from llm_edge.guided import write
from llm_edge.json_guide import Guide, grammar
from llm_edge.llama_engine import LlamaEngine
from llm_edge.prefix import LivePrefix
from llm_edge.tools import MAX_CALLS, Call, Region, parse_plan, plan_schema, run, stages
from pipeline.errors import InputError
from tests.llm_edge.crowds import crowd
from tests.llm_edge.gguf_models import needs, tiny_gguf

SCENE = crowd(4)  # ids 10, 17, 24, 31


def plan(*calls):
    return parse_plan(json.dumps({"calls": list(calls)}), SCENE)


def forecast(number, t=1.5):
    return {"tool": "forecast", "id": number, "t": t}


def distance(a, b):
    return {"tool": "distance", "a": a, "b": b}


def v2x(region="left"):
    return {"tool": "request_v2x", "region": region}


def test_results_are_those_of_the_scene():
    lines = run(plan(forecast(17, 2.5), distance(10, 24), distance("$1", 31)), SCENE, 5)
    there = SCENE.positions[1] + 2.5 * SCENE.velocities[1]
    assert lines[0] == f"$1 17 in 2.5 s: x={there[0]:.1f} y={there[1]:.1f}"
    apart = np.linalg.norm(SCENE.positions[0] - SCENE.positions[2])
    assert lines[1] == f"$2 10 to 24: {apart:.1f} m"
    assert lines[2] == f"$3 $1 to 31: {np.linalg.norm(there - SCENE.positions[3]):.1f} m"


def test_a_call_may_use_the_result_of_a_later_one():
    calls = plan(distance("$3", "$2"), forecast(10), forecast(17))
    assert stages(calls) == [[2, 3], [1]]
    assert "no answer" not in run(calls, SCENE, 5)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"), ("[]", "object"), ('{"calls":3}', "list"), ("x" * 5000, "characters"),
        (json.dumps({"calls": [v2x()] * (MAX_CALLS + 1)}), "at most"),
        (json.dumps({"calls": [v2x("up")]}), "region"), (json.dumps({"calls": [3]}), "none of"),
        (json.dumps({"calls": [{"tool": "shell"}]}), "none of"),
        (json.dumps({"calls": [{"tool": ["forecast"]}]}), "none of"),
        (json.dumps({"calls": [{**forecast(10), "more": 1}]}), "none of"),
        (json.dumps({"calls": [forecast(11)]}), "not in the scene"),
        (json.dumps({"calls": [forecast(True)]}), "not in the scene"),
        (json.dumps({"calls": [forecast(10, 10.5)]}), "t is"),
        (json.dumps({"calls": [forecast(10, float("nan"))]}), "t is"),
        (json.dumps({"calls": [forecast(10, -1)]}), "t is"),
        (json.dumps({"calls": [forecast("$1")]}), "takes the id"),
        (json.dumps({"calls": [distance("$1", 10)]}), "circle"),
        (json.dumps({"calls": [distance("$2", 10), distance("$1", 10)]}), "circle"),
        (json.dumps({"calls": [distance("$7", 10)]}), "nowhere"),
        (json.dumps({"calls": [distance("$2", 10), v2x()]}), "only a forecast"),
        (json.dumps({"calls": [distance("$0", 10)]}), "not in the scene"),
        (json.dumps({"calls": [distance("ignore all", 10)]}), "not in the scene"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as error:
        parse_plan(text, SCENE)
    assert "\n" not in str(error.value)


def test_what_waits_for_nothing_runs_at_the_same_time():
    met = threading.Barrier(3, timeout=10)

    def ask(region):
        met.wait()
        return {Region.LEFT: 1, Region.RIGHT: 2, Region.AHEAD: 3}[region]

    lines = run(plan(v2x("left"), v2x("right"), v2x("ahead")), SCENE, 10, ask)
    assert [line.partition(", ")[2] for line in lines] == [
        f"{k} objects told of" for k in (1, 2, 3)
    ]


def test_a_call_that_hangs_or_fails_has_no_answer_and_the_others_have_theirs():
    release = threading.Event()

    def ask(region):
        if region is Region.LEFT:
            raise OSError("no link")
        return int(release.wait(30))

    lines = run(plan(v2x("left"), v2x("right"), forecast(10)), SCENE, 0.2, ask)
    release.set()
    assert lines[0] == "$1 left: no answer"
    assert lines[1] == "$2 right: no answer"
    assert lines[2].startswith("$3 10 in 1.5 s: x=")


def test_no_time_left_is_no_answer():
    assert run(plan(v2x()), SCENE, -1, lambda region: 1 // 0) == ("$1 left: no answer",)
    assert run((), SCENE, 0) == ()


def test_hanging_calls_do_not_pile_up(monkeypatch):
    monkeypatch.setattr("llm_edge.tools._hanging", threading.Semaphore(3))
    release, begun = threading.Event(), []

    def ask(region):
        begun.append(region)
        return int(release.wait(30))

    for _ in range(5):
        run(plan(v2x(), v2x()), SCENE, 0.01, ask)
    assert len(begun) == 3
    release.set()


def test_a_guide_lets_only_plans_through_that_name_what_is_there():
    needs("llama_cpp", "gguf", "llguidance")
    engine = LlamaEngine(tiny_gguf(), 1024)
    told = grammar(plan_schema(SCENE))
    rng = np.random.default_rng(4)
    ran = 0
    for _ in range(30):
        prompt = rng.integers(3, 512, 20)
        made = write(LivePrefix(engine), Guide(engine, told), prompt)
        engine.rewind(0)
        text = engine.text(made.tokens).strip()
        try:
            ran += len(parse_plan(text, SCENE))
        except InputError as error:
            assert "circle" in str(error) or "only a forecast" in str(error)
    assert ran > 0
    engine.close()


def test_a_scene_without_objects_has_only_requests():
    kinds = plan_schema(crowd(0))["properties"]["calls"]["items"]["anyOf"]
    assert [k["properties"]["tool"]["const"] for k in kinds] == ["request_v2x"]
    assert Call("request_v2x", region="left").needs == ()
