"""Drafts of a thought, held to what the look-ahead would have the decoder say."""

import numpy as np
import pytest

from llm_edge import scenarios
from llm_edge.coding import Coded, coded_scene
from llm_edge.draft import Draft, Tally
from llm_edge.grammar import AnswerGrammar, ThoughtGrammar
from llm_edge.lookahead import clear_of, look_ahead
from llm_edge.talk import Talk
from llm_edge.thought import answer_tokens, answers_of, thought_tokens
from llm_edge.windows import windows_of
from llm_edge.words import DONE, FIELDS, IDS, WORDS

KINDS = (*scenarios.KINDS, *scenarios.HELD_OUT)
SCENES = [
    coded_scene(scene)
    for scene in scenarios.scenes_of(scenarios.draw(np.random.default_rng(7), 300, KINDS))
]


def taught(coded: Coded) -> list[int]:
    """What the look-ahead would have the decoder think."""
    row = thought_tokens(coded, look_ahead(coded))[0]
    return [*row[row >= 0].tolist(), IDS[DONE]]


def answered(coded: Coded) -> list[int]:
    return answer_tokens(answers_of(coded, look_ahead(coded)))[0, 1:-1:2].tolist()


def kinds_of(coded: Coded, thought: list[int]) -> list[str]:
    grammar, kinds = ThoughtGrammar(coded), []
    for token in thought:
        kinds.append(grammar.next)
        grammar.take(token)
    return kinds


def told(coded: Coded, thought: list[int]) -> Tally:
    tally = Draft(coded, windows_of(coded)).begin()
    for kind, token in zip(kinds_of(coded, thought), thought, strict=True):
        tally.take(kind, token)
    return tally


def test_the_tally_of_a_thought_is_what_the_look_ahead_found():
    for coded in SCENES:
        outcome, tally = look_ahead(coded), told(coded, taught(coded))
        clear = "".join(str(int(v)) for v in clear_of(coded, outcome.blocks)[0])
        assert f"{tally.clear:010b}" == clear
        assert (tally.wish, tally.best) == (outcome.wish[0], outcome.best[0])
        meets = outcome.meets[0]
        soonest = int(np.where(meets > 0, meets, 99).argmin()) + 1 if meets.any() else 0
        assert tally.threat == soonest and tally.slot == coded.count[0]
        assert tally.seconds == (meets[soonest - 1] if soonest else 0)


def test_the_answer_after_a_right_thought_is_the_right_one():
    for coded in SCENES:
        draft = Draft(coded, windows_of(coded))
        assert draft.answer(told(coded, taught(coded))) == answered(coded)


def test_a_draft_is_within_the_grammar_from_wherever_it_begins():
    rng = np.random.default_rng(3)
    for coded in SCENES[:100]:
        draft, grammar = Draft(coded, windows_of(coded)), ThoughtGrammar(coded)
        tally = draft.begin()
        for _ in range(int(rng.integers(0, 12))):  # whatever a decoder may have said before
            low, high = grammar.allowed()
            token = int(rng.integers(low, high))
            if token == IDS[DONE]:
                break
            tally.take(grammar.next, token)
            grammar.take(token)
        likely, after = draft.thought(tally, grammar)
        for token in likely:
            low, high = grammar.allowed()
            assert low <= token < high, WORDS[token]
            done = grammar.take(token)
        assert done
        values, answer = draft.answer(after), AnswerGrammar(coded)
        for field, value in zip(FIELDS, values, strict=True):
            if field in ("reason", "risk"):
                assert value in answer.allowed(field, values[0])


def test_a_draft_is_mostly_what_the_look_ahead_says():
    words = whole = right = 0
    for coded in SCENES:
        draft, thought = Draft(coded, windows_of(coded)), taught(coded)
        tally, grammar = draft.begin(), ThoughtGrammar(coded)
        for k, kind in enumerate(kinds_of(coded, thought)):
            words += 1
            right += draft.thought(tally, grammar)[0][0] == thought[k]
            tally.take(kind, thought[k])
            grammar.take(thought[k])
        whole += draft.thought(draft.begin(), ThoughtGrammar(coded))[0] == thought
    assert right > 0.94 * words and whole > 0.5 * len(SCENES)


@pytest.mark.parametrize("drafts", [True, False])
def test_a_talk_says_what_the_logits_want_however_much_is_drafted(drafts):
    calls = 0
    for coded in SCENES[:60]:
        talk = Talk(coded, windows_of(coded), True, drafts)
        names = [IDS[field] for field in FIELDS]
        answer = [token for pair in zip(names, answered(coded), strict=True) for token in pair]
        wanted = [*taught(coded), *answer]
        said = 0
        while not talk.over:
            draft = talk.draft()
            logits = np.zeros((len(draft) + 1, len(WORDS)), np.float32)
            rows = wanted[said : said + len(logits)]
            logits[np.arange(len(rows)), rows] = 1
            said += talk.hear(draft, logits) + 1
            calls += 1
            assert talk.last == wanted[said - 1]
        assert said == len(wanted) and talk.complete
        assert talk.values == answered(coded)
        assert talk.thought_tokens == len(taught(coded)) - 1
    assert (calls < 2 * 60) is drafts


def test_a_thought_that_is_closed_goes_on_with_the_answer():
    for coded in SCENES[:30]:
        talk = Talk(coded, windows_of(coded), True, True)
        logits = np.zeros((1, len(WORDS)), np.float32)
        talk.hear([], logits)
        assert talk.thinks and talk.thought_tokens == 1
        talk.close()
        draft = talk.draft()
        assert not talk.thinks and draft[0] == IDS[DONE] and len(draft) == 2 * len(FIELDS)
        talk.hear(draft, np.zeros((len(draft) + 1, len(WORDS)), np.float32))
        assert not talk.complete
