"""Questions to a reasoner on a thread of its own: order, cancel, and what goes wrong."""

from llm_edge.desk import WAITING, Desk, Question
from llm_edge.scene import Scene
from pipeline.clock import WallClock
from tests.llm_edge.rule import Rule, RuleConfig, wait

SCENE = Scene(at_ns=1, seen_ns=1)
SECOND = 10**9


class Case:
    def __init__(self, **config):
        self.clock, self.complaints, self.answers = WallClock(), [], []
        self.reasoner = Rule(RuleConfig(**config), self.clock)
        self.desk = Desk(self.reasoner, self.complaints.append)

    def ask(self, within_s=2.0, done=None, tell=None):
        question = Question(
            SCENE,
            self.clock.now_ns() + round(within_s * SECOND),
            done or (lambda answer, why: self.answers.append((answer, why))),
            tell,
        )
        return question if self.desk.submit(question) else None


def test_answers_come_in_the_order_of_the_questions_and_then_the_desk_is_free():
    case = Case(calls=3)
    told = []
    for k in range(3):
        case.ask(done=lambda answer, why, k=k: case.answers.append((k, answer.thought_tokens)),
                 tell=lambda *stage: told.append(stage))  # fmt: skip
    assert case.desk.busy
    assert wait(lambda: len(case.answers) == 3)
    assert case.answers == [(0, 3), (1, 3), (2, 3)]
    assert told[:3] == [("thought", 1), ("thought", 2), ("thought", 3)]
    assert wait(lambda: not case.desk.busy)
    case.desk.close()
    assert case.reasoner.closed


def test_a_cancel_ends_what_goes_on_and_only_that():
    case = Case(calls=300)
    told = []
    first, second = case.ask(tell=lambda *stage: told.append(stage)), case.ask()
    assert wait(lambda: told)
    case.desk.cancel(first)
    assert wait(lambda: len(case.answers) == 1, 0.2)
    assert case.answers[0][1] == "canceled"
    case.desk.cancel(second)
    assert wait(lambda: len(case.answers) == 2, 0.2)
    case.desk.close()


def test_who_is_canceled_before_the_begin_is_never_asked_and_others_wait_on():
    case = Case(calls=40)
    case.ask()
    waiting = case.ask()
    last = case.ask()
    case.desk.cancel(waiting)
    assert wait(lambda: len(case.answers) == 3) and last
    assert [why for _, why in case.answers] == ["thought", "canceled before it began", "thought"]
    assert case.answers[1][0] is None
    case.desk.close()


def test_a_cancel_that_comes_just_before_the_reasoner_begins_is_not_lost():
    case = Case(calls=3000)
    decide = case.reasoner.decide

    def late(*question):
        case.desk.cancel(case.desk._open[0])
        case.reasoner._stop.clear()  # as whoever begins forgets what was before
        return decide(*question)

    case.reasoner.decide = late
    case.ask(within_s=20.0)
    assert wait(lambda: case.answers, 1.0) and case.answers[0][1] == "canceled"
    case.desk.close()


def test_a_deadline_cuts_the_thought():
    case = Case(calls=5000)
    case.ask(within_s=0.05)
    assert wait(lambda: case.answers)
    answer, why = case.answers[0]
    assert why == "deadline" and answer.met and 0 < answer.thought_tokens < 60
    case.desk.close()


def test_a_reasoner_that_breaks_down_costs_a_line_and_not_the_thread():
    case = Case(fails=True)
    case.ask()
    case.ask(done=lambda answer, why: 1 / 0)
    case.ask()
    assert wait(lambda: len(case.answers) == 2)
    assert case.answers == [(None, "the engine is gone")] * 2
    assert case.complaints == ["ZeroDivisionError: division by zero"]
    case.desk.close()


def test_between_questions_the_desk_prepares_and_learns_on_its_own_thread():
    case = Case(calls=2)
    case.desk.prepare(SCENE)
    assert wait(lambda: case.reasoner.prepared)
    case.ask()
    assert wait(lambda: case.reasoner.learned)
    assert case.reasoner.prepared == [("desk", SCENE)]
    (thread, scene, answer) = case.reasoner.learned[0]
    assert (thread, scene, answer) == ("desk", SCENE, case.answers[0][0])
    case.desk.close()


def test_while_questions_wait_nothing_is_prepared_or_learned():
    case = Case(calls=30)
    case.ask()
    case.desk.prepare(SCENE)
    case.ask()
    assert wait(lambda: len(case.answers) == 2 and case.reasoner.learned)
    assert not case.reasoner.prepared and len(case.reasoner.learned) == 1
    case.desk.close()


def test_preparing_that_breaks_down_costs_a_line_and_not_the_thread():
    case = Case()
    case.reasoner.prepare = lambda scene: 1 / 0
    case.desk.prepare(SCENE)
    assert wait(lambda: case.complaints == ["ZeroDivisionError: division by zero"])
    case.ask()
    assert wait(lambda: case.answers)
    case.desk.close()


def test_who_does_not_hear_of_the_stages_any_more_gets_an_answer():
    case = Case(calls=3)
    case.ask(tell=lambda stage, calls: 1 / 0)
    assert wait(lambda: case.answers) and case.answers[0][1] == "thought"
    assert set(case.complaints) == {"ZeroDivisionError: division by zero"}
    case.desk.close()


def test_too_many_questions_are_refused_and_closing_ends_them():
    case = Case(calls=100_000)
    taken = [case.ask(within_s=60.0) for _ in range(WAITING + 3)]
    assert [q is not None for q in taken] == [True] * (WAITING + 1) + [False] * 2
    case.desk.close()
    assert len(case.answers) == WAITING + 1 and not case.desk.busy
