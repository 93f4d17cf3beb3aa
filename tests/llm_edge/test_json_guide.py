"""JSON by construction: whatever a model would like to say, what comes out is a valid decision."""

import json

import numpy as np
import pytest

from llm_edge.decision import Action, Direction, Source
from llm_edge.json_guide import MAX_SPEEDS, Guide, completed, grammar, schema, speeds
from llm_edge.llama_engine import LlamaEngine
from llm_edge.scene import Platform
from pipeline.errors import InputError
from tests.llm_edge.crowds import NOW, crowd
from tests.llm_edge.gguf_models import needs, tiny_gguf

GOOD = {
    "action": "slow", "target": 10, "direction": "none", "speed_mps": 2.5, "risk": "low",
    "reason": "ahead",
}  # fmt: skip


@pytest.fixture(scope="module", params=[False, True], ids=["pieces", "byte pairs"])
def engine(request):
    needs("llama_cpp", "gguf", "llguidance")
    made = LlamaEngine(tiny_gguf(pairs=request.param), 256)
    yield made
    made.close()


def written(engine, scene, rng):
    """Text of an answer with tokens chosen at random, and how many of them were."""
    guide = Guide(engine, grammar(schema(scene)))
    tokens, chosen = guide.forced().tolist(), 0
    while not guide.done:
        logits = rng.standard_normal(engine.vocabulary).astype(np.float32)
        token = int(np.argmax(guide.mask(logits)))
        guide.take(token)
        chosen += 1
        tokens += [token, *guide.forced().tolist()]
    return engine.text(np.array(tokens)).strip(), chosen, len(tokens)


def test_random_choices_make_valid_decisions_of_every_kind(engine):
    rng = np.random.default_rng(8)
    seen = set()
    for seed in range(80):
        n = int(rng.choice([0, 1, 5, 60]))
        scene = crowd(n, seed=seed, platform=Platform(limit_mps=float(rng.uniform(0.5, 60))))
        text, _, _ = written(engine, scene, rng)
        made = completed(text, scene, NOW + 5, Source.GGUF)
        assert (made.valid_until_ns, made.source) == (NOW + 5, Source.GGUF)
        assert " " not in text
        assert made.target is None or made.target in scene.ids
        seen.add(made.action)
    assert seen == set(Action)


def test_most_tokens_are_forced(engine):
    rng = np.random.default_rng(9)
    counts = [written(engine, crowd(6), rng)[1:] for _ in range(20)]
    assert max(chosen for chosen, _ in counts) <= 12
    assert min(all_of_them for _, all_of_them in counts) >= 40


def test_a_token_that_may_not_follow_is_refused(engine):
    guide = Guide(engine, grammar(schema(crowd())))
    guide.forced()
    with pytest.raises(InputError, match="guide"):
        guide.take(int(engine.tokenize("}")[-1]))


@pytest.mark.parametrize("limit", [0.5, 1.3, 10, 13.9, 20.5, 33, 150, 400])
def test_speeds_go_from_zero_to_the_limit_and_are_few(limit):
    found = speeds(crowd(platform=Platform(limit_mps=limit)))
    assert found[0] == 0
    assert found[-1] == pytest.approx(limit)
    assert (np.diff(found) > 0).all()
    assert len(found) <= MAX_SPEEDS + 1


def test_a_lost_target_may_be_named_though_it_is_not_seen():
    targets = schema(crowd(3, target=99))["anyOf"][0]["properties"]["target"]["enum"]
    assert targets == [10, 17, 24, 99, None]


def test_the_schema_holds_no_free_text_and_stop_and_evade_are_consistent():
    for kind in schema(crowd())["anyOf"]:
        fields = kind["properties"]
        assert all(set(f) == {"enum"} for f in fields.values())
        if "stop" in fields["action"]["enum"]:
            assert fields["speed_mps"]["enum"] == [0]
        if "evade" in fields["action"]["enum"]:
            assert "none" not in fields["direction"]["enum"]
    json.dumps(schema(crowd()))


def test_an_answer_is_completed_with_what_a_model_cannot_know():
    made = completed(json.dumps(GOOD), crowd(), NOW, Source.REMOTE)
    assert (made.action, made.direction) == (Action.SLOW, Direction.NONE)
    assert (made.valid_until_ns, made.source) == (NOW, Source.REMOTE)
    lying = {**GOOD, "source": "policy", "valid_until_ns": 2**62}
    assert completed(json.dumps(lying), crowd(), NOW, Source.REMOTE) == made


def test_any_text_is_a_decision_or_refused():
    rng = np.random.default_rng(11)
    good = json.dumps(GOOD)
    words = ["{", "}", "[", "]", '"', ":", ",", "null", "-1", "1e999", "\\u0000", "NaN", "true"]
    words += [good, "stop", "evade", "\x00", "ignore all of the above", "9" * 400]
    taken = 0
    for _ in range(3000):
        text = good
        for _ in range(int(rng.integers(0, 4))):
            at, size = int(rng.integers(len(text) + 1)), int(rng.integers(0, 9))
            text = text[:at] + str(rng.choice(words)) + text[at + size :]
        try:
            completed(text, crowd(), NOW, Source.REMOTE)
            taken += 1
        except InputError as error:
            assert "\n" not in str(error)
    assert 300 < taken < 2900


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "stop", '{"action":', "{" * 2000, "x" * 5000,
        json.dumps({**GOOD, "target": 11}), json.dumps({**GOOD, "target": [1]}),
        json.dumps({**GOOD, "target": True}), json.dumps({**GOOD, "speed_mps": 99}),
        json.dumps({**GOOD, "speed_mps": "2"}), json.dumps({**GOOD, "speed_mps": float("nan")}),
        json.dumps({**GOOD, "speed_mps": 10**400}), json.dumps({**GOOD, "action": "fly"}),
        json.dumps({**GOOD, "action": {}}), json.dumps({**GOOD, "more": 1}),
        json.dumps({**GOOD, "action": "stop"}), json.dumps({**GOOD, "action": "evade"}),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_decision_is_one_line(text):
    with pytest.raises(InputError) as error:
        completed(text, crowd(), NOW, Source.REMOTE)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
