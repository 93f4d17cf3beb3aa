"""What the decoder learns to write, and what the grammar lets it write."""

import numpy as np

from llm_edge import coding, scenarios, words
from llm_edge.coding import Coded
from llm_edge.decision import Source, check
from llm_edge.grammar import AnswerGrammar, ThoughtGrammar, answers_from, decision_of
from llm_edge.lookahead import clear_of, look_ahead
from llm_edge.thought import answer_tokens, answers_of, thought_tokens
from llm_edge.words import FIELDS, FIRST, IDS, WORDS
from tests.llm_edge.crowds import crowd

KINDS = (*scenarios.KINDS, *scenarios.HELD_OUT)
DRAWN = scenarios.draw(np.random.default_rng(8), 400, KINDS)
CODED = coding.coded(DRAWN)
OUTCOME = look_ahead(CODED)
THOUGHTS = thought_tokens(CODED, OUTCOME)
ANSWERS = answers_of(CODED, OUTCOME)
TOKENS = answer_tokens(ANSWERS)


def one(k):
    return Coded(*(getattr(CODED, f)[k : k + 1] for f in Coded.__slots__))


def test_the_last_tally_is_what_is_left_after_all():
    clear = clear_of(CODED, OUTCOME.blocks)
    for k in range(len(CODED)):
        said = [WORDS[t] for t in THOUGHTS[k][THOUGHTS[k] >= 0]]
        straight = [w for w in said if w.startswith("straight")]
        if straight:
            assert straight[-1] == "straight" + "".join("01"[int(c)] for c in clear[k, :4])
            aside = [w for w in said if w.startswith("aside")]
            assert aside[-1] == "aside" + "".join("01"[int(c)] for c in clear[k, 4:])


def test_the_grammar_takes_every_thought_and_every_answer_of_the_look_ahead():
    for k in range(len(CODED)):
        grammar = ThoughtGrammar(one(k))
        for token in THOUGHTS[k][THOUGHTS[k] >= 0]:
            low, high = grammar.allowed()
            assert low <= token < high, WORDS[token]
            assert not grammar.take(int(token))
        assert grammar.allowed() == (IDS["done"], IDS["done"] + 1)
        answer = AnswerGrammar(one(k))
        for j, field in enumerate(FIELDS):
            allowed = answer.allowed(field, int(TOKENS[k, 1]))
            assert TOKENS[k, 2 * j + 1] in allowed, WORDS[TOKENS[k, 2 * j + 1]]


def test_whatever_the_grammar_allows_is_a_decision_on_the_scene():
    rng = np.random.default_rng(2)
    for k, scene in enumerate(scenarios.scenes_of(DRAWN)):
        coded = coding.coded_scene(scene)
        grammar, values = AnswerGrammar(coded), np.zeros((1, len(FIELDS)), np.int64)
        for j, field in enumerate(FIELDS):
            values[0, j] = rng.choice(grammar.allowed(field, int(values[0, 0])))
        made = decision_of(answers_from(values), coded, scene, k, Source.FAST)
        check(made, scene)
        if made.direction != "none":
            assert getattr(scene, f"open_{made.direction}")


def test_answers_are_read_back_from_their_tokens():
    again = answers_from(TOKENS[:, 1:-1:2])
    for name in FIELDS:
        assert np.array_equal(getattr(again, name), getattr(ANSWERS, name)), name


def test_every_word_has_one_meaning_and_every_number_its_word():
    assert len(set(WORDS)) == len(WORDS)
    assert WORDS[FIRST["gap"] + int(np.flatnonzero(coding.GAP_S == 1.25)[0])] == "gap1.25"
    assert all(" " not in word and word.isascii() for word in WORDS)


def test_prompts_say_static_things_first():
    prompt = [WORDS[t] for t in words.prompt_tokens(one(3))[0] if t >= 0]
    assert prompt[0] == "scene" and prompt[-1] == "think"
    assert prompt[1].startswith("stop") and prompt[2].startswith("shift")
    assert prompt[9].startswith("speed")
    assert (len(prompt) - 2 - len(words.HEADER)) % words.PER_OBJECT == 0


def test_the_mission_s_speed_and_the_present_one_are_meant_exactly():
    scene = crowd(n=0, speed_mps=6.2, cruise_mps=7.4)
    coded = coding.coded_scene(scene)
    said = {}
    for rung in range(coding.RUNGS + 1):
        values = np.array([[FIRST["action"], FIRST["direction"], FIRST["rung"] + rung,
                            FIRST["target"], FIRST["reason"], FIRST["risk"]]])  # fmt: skip
        made = decision_of(answers_from(values), coded, scene, 0, Source.FAST)
        said[rung] = made.speed_mps
    assert said[int(coded.cruise[0])] == 7.4 and said[int(coded.speed[0])] == 6.2
    assert said[0] == 0.0 and said[coding.RUNGS] == scene.platform.limit_mps == 10.0
