"""The reasoner: a decision by the deadline whatever those it asks do."""

import os
import signal
import threading
import time
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from llm_edge import scenarios
from llm_edge.answerer import Reply
from llm_edge.decision import Action, Direction, Source, parse
from llm_edge.fast import FastConfig
from llm_edge.make_reasoner import STAGES, make_reasoner
from llm_edge.policy import Policy
from llm_edge.reasoner import Answer, Reasoner, ReasonerConfig
from llm_edge.slow import SlowConfig
from llm_edge.tally import Tally
from pipeline.clock import WallClock
from pipeline.errors import InputError
from tests.llm_edge.answerers import proceed
from tests.llm_edge.crowds import crowd
from tests.llm_edge.decoders import spoken
from tests.llm_edge.gguf_models import tiny_gguf
from tests.llm_edge.test_coding import scene

MS = 1_000_000
CLOCK = WallClock()
SCENES = scenarios.scenes_of(
    scenarios.draw(np.random.default_rng(3), 40, (*scenarios.KINDS, *scenarios.HELD_OUT))
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return spoken(tmp_path_factory.mktemp("spoken"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def make(file):
    made = []

    def factory(**options):
        made.append(Reasoner(ReasonerConfig(**options), CLOCK, FastConfig(model=str(file))))
        return made[-1]

    yield factory
    for reasoner in made:
        reasoner.close()


class Host:
    """Answers what it is told, after a while or never."""

    why = "none such"

    def __init__(self, decision=None, after_s=0.0, why=""):
        self.decision, self.after_s, self.said = decision, after_s, why
        self.canceled = 0
        self.ready, self.prepared, self.learned = threading.Event(), [], []

    def submit(self, scene, deadline_ns):
        answer = Future()
        timer = threading.Timer(
            self.after_s, lambda: answer.set_result(Reply(self.decision, self.said))
        )
        timer.daemon = True
        timer.start()
        return answer

    def cancel(self):
        self.canceled += 1

    def prepare(self, scene):
        self.prepared.append(scene)

    def learn(self, scene, decision):
        self.learned.append((scene, decision))

    def close(self):
        pass


def with_host(reasoner, name, host):
    reasoner._hosts[name] = host
    return host


def test_every_decision_fits_its_scene_and_is_in_time(make):
    reasoner, tally = make(), Tally()
    for scene_ in SCENES:
        answer = reasoner.decide(scene_, CLOCK.now_ns() + 2000 * MS)
        parse(answer.decision.to_json(), scene_)
        assert answer.met and answer.took_ns > answer.token_ns > 0
        tally.add(answer, CLOCK.now_ns())
    fare = tally.fare()
    assert fare.answers == len(SCENES) and fare.met == 1.0
    assert fare.fallback <= fare.refused < 1 and 0 < fare.token_ms < fare.took_p99_ms


def test_what_the_policy_refuses_is_not_acted_upon(make):
    reasoner = make(fast="none")
    wall = scene([[9.0, 0.0]], speed_mps=6.0, cruise_mps=9.0)
    with_host(reasoner, "gguf", Host(proceed(wall)))
    answer = reasoner.decide(wall, CLOCK.now_ns() + 500 * MS)
    assert answer.decision.source is Source.POLICY and "would meet 0" in answer.why
    assert answer.refused


def test_the_larger_model_goes_first_and_the_decoder_stands_in_for_it(make):
    free = scene([], cruise_mps=5.0)
    reasoner = make()
    host = with_host(reasoner, "gguf", Host(proceed(free)))
    assert reasoner.decide(free, CLOCK.now_ns() + 500 * MS).decision.source is Source.GGUF
    host.decision, host.said = None, "the engine's process ended"
    answer = reasoner.decide(free, CLOCK.now_ns() + 500 * MS)
    assert answer.decision.source is not Source.GGUF and "process ended" in answer.why


def test_only_the_gguf_model_prepares_and_learns_of_what_was_thought_through_and_passed(make):
    free = scene([], cruise_mps=5.0)
    reasoner = make(fast="none")
    assert not reasoner.prepares
    gguf, others = with_host(reasoner, "gguf", Host()), ("remote", "fast")
    for name in others:
        with_host(reasoner, name, Host())
    reasoner.prepare(free)
    for source in Source:
        reasoner.learn(free, Answer(proceed(free, source=source), True, 1))
    good = {Source.THOUGHT, Source.GGUF, Source.REMOTE}
    assert gguf.prepared == [free] and {d.source for _, d in gguf.learned} == good
    assert len(gguf.learned) == len(good)
    assert not any(reasoner._hosts[n].prepared or reasoner._hosts[n].learned for n in others)


def test_tiers_say_who_is_ready_and_why_others_are_not(make):
    reasoner = make()
    host = with_host(reasoner, "gguf", Host())
    assert reasoner.tiers() == {"gguf": "none such", "fast": "ready"}
    host.ready.set()
    assert reasoner.tiers()["gguf"] == "ready"


def test_a_decoder_runs_here_unless_a_process_is_asked_for(file):
    for apart, fast, hosts in ((False, "auto", []), (True, "auto", ["fast"]), (True, "none", [])):
        configs = {name: cls() for name, cls in STAGES.items()}
        configs["reasoner"] = ReasonerConfig(fast=fast)
        configs["reasoner_fast"] = FastConfig(model=str(file))
        reasoner = make_reasoner(configs, CLOCK, apart=apart)
        assert list(reasoner._hosts) == hosts
        reasoner.close()


def test_a_process_can_stand_still_for_the_tracker_but_a_thread_cannot(make, tmp_path):
    none = SlowConfig(model=str(tmp_path / "none.gguf"))
    assert make().rhythm is None
    paced = Reasoner(ReasonerConfig(fast="none"), CLOCK, slow=none)
    assert paced.rhythm is not None and paced.rhythm.window(CLOCK.now_ns()) is None
    paced.close()
    for options in ({"slow": "thread"}, {"pace_slow": False}):
        never = Reasoner(ReasonerConfig(fast="none", **options), CLOCK, slow=none)
        assert never.rhythm is None
        never.close()


def test_one_that_hangs_costs_nothing_beyond_the_deadline(make):
    free = scene([], cruise_mps=5.0)
    reasoner = make(fast="none")
    host = with_host(reasoner, "remote", Host(proceed(free), after_s=30.0))
    began_ns = CLOCK.now_ns()
    answer = reasoner.decide(free, began_ns + 80 * MS)
    took_ms = (CLOCK.now_ns() - began_ns) / MS
    assert answer.decision == Policy(free).decide(answer.decision.valid_until_ns)
    assert host.canceled == 1 and "no answer by the deadline" in answer.why
    assert 60 < took_ms < 1000  # it waited for it, and not much longer


def test_others_have_to_answer_before_the_deadline_as_wake_ups_are_late(make):
    given = []

    class Strict(Host):
        def submit(self, scene, deadline_ns):
            given.append(deadline_ns)
            return super().submit(scene, deadline_ns)

    free = scene([], cruise_mps=5.0)
    early = []
    for wake_ms in (5.0, 1000.0):
        reasoner = make(fast="none", reserve_ms=0.0, wake_ms=wake_ms)
        with_host(reasoner, "gguf", Strict(proceed(free)))
        deadline_ns = CLOCK.now_ns() + 2000 * MS
        reasoner.decide(free, deadline_ns)
        early.append(deadline_ns - given[-1])
    assert early[0] == 5 * MS and 5 * MS < early[1] <= 500 * MS


def test_a_deadline_in_the_past_or_under_the_least_gets_the_policy_s_answer(make):
    reasoner = make()
    for ahead, why in ((-5 * MS, "over"), (MS // 4, "near")):
        answer = reasoner.decide(SCENES[0], CLOCK.now_ns() + ahead)
        assert answer.decision.source is Source.POLICY and why in answer.why
        assert answer.met == (answer.took_ns <= ahead)
    assert reasoner.decide(SCENES[0], -(2**62)).decision.source is Source.POLICY


def test_an_answer_that_took_longer_than_it_had_did_not_meet_its_deadline(make):
    crowded = crowd(n=500, blind=64)
    for _ in range(5):
        answer = make(fast="none").decide(crowded, CLOCK.now_ns() + 5_000)
        assert answer.took_ns > 5_000 and not answer.met


def test_a_deadline_far_away_does_not_make_it_wait(make):
    began = time.monotonic()
    assert make().decide(SCENES[0], 2**62).met
    assert time.monotonic() - began < 5


def test_it_is_canceled_from_another_thread(make):
    free = scene([], cruise_mps=5.0)
    reasoner = make(fast="none")
    with_host(reasoner, "remote", Host(proceed(free), after_s=30.0))
    threading.Timer(0.1, reasoner.cancel).start()
    began = time.monotonic()
    answer = reasoner.decide(free, CLOCK.now_ns() + 20_000 * MS)
    assert time.monotonic() - began < 5 and "canceled" in answer.why
    assert answer.decision.action is Action.PROCEED


def test_a_cancel_does_not_hit_the_next_question(make):
    free = scene([], cruise_mps=5.0)
    reasoner = make()
    host = with_host(reasoner, "gguf", Host(after_s=30.0))
    threading.Timer(0.2, reasoner.cancel).start()  # the decoder has answered by then
    reasoner.decide(free, CLOCK.now_ns() + 20_000 * MS)
    host.after_s = 0.0
    reasoner.cancel()  # and once more, between both
    answer = reasoner.decide(free, CLOCK.now_ns() + 500 * MS)
    assert answer.decision.source is Source.THOUGHT and "fast" not in answer.why


def test_an_engine_that_breaks_down_leaves_the_policy_s_answer(make):
    reasoner = make()
    reasoner._inline._engine.close()
    answer = reasoner.decide(SCENES[0], CLOCK.now_ns() + 500 * MS)
    assert answer.decision.source is Source.POLICY and answer.why.startswith("fast: ")


def test_feedback_names_the_stages_in_order(make):
    heard = []
    make().decide(SCENES[5], CLOCK.now_ns() + 2000 * MS, lambda *told: heard.append(told))
    assert [stage for stage, _ in heard] == ["policy", "fast"]


def test_a_killed_process_is_back_within_seconds_and_the_policy_answers_meanwhile(make):
    reasoner = make(fast="process")
    worker = reasoner._hosts["fast"]
    assert worker.ready.wait(60)
    free = scene([], cruise_mps=5.0)

    def decided():
        return reasoner.decide(free, CLOCK.now_ns() + 300 * MS).decision.source

    assert decided() is not Source.POLICY
    os.kill(worker.pid, signal.SIGKILL)
    sources = {decided() for _ in range(5)}
    assert Source.POLICY in sources
    end = time.monotonic() + 30
    while decided() is Source.POLICY and time.monotonic() < end:
        time.sleep(0.1)  # it may be late to notice that the process died
    assert any(decided() is not Source.POLICY for _ in range(20))
    assert worker.starts == 2


def test_no_model_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx"):
        Reasoner(ReasonerConfig(), CLOCK, FastConfig(model=str(tmp_path / "none.onnx")))


def test_crowds_and_emptiness_get_decisions(make):
    reasoner = make()
    for made in (crowd(n=0, blind=0), crowd(n=500, blind=64)):
        answer = reasoner.decide(made, CLOCK.now_ns() + 2000 * MS)
        assert parse(answer.decision.to_json(), made).direction in Direction


def test_a_gguf_model_prepares_learns_and_stands_still_for_the_tracker():
    slow = SlowConfig(model=str(tiny_gguf()), context=4096, prompt_tokens=2500)
    reasoner = Reasoner(ReasonerConfig(fast="none"), CLOCK, slow=slow)
    worker = reasoner._hosts["gguf"]
    assert worker.ready.wait(60) and reasoner.prepares
    begun_ns, held, stop = CLOCK.now_ns(), [], worker.hold
    worker.hold = lambda: (held.append(CLOCK.now_ns()), stop())
    for k in range(-20, 0):
        reasoner.rhythm.told(begun_ns + k * 40 * MS, begun_ns + (k * 40 + 5) * MS)
    reasoner.prepare(crowd())
    answer = reasoner.decide(crowd(), CLOCK.now_ns() + 20_000 * MS)
    reasoner.learn(crowd(), replace(answer, decision=proceed(crowd())))
    assert answer.decision.source is Source.GGUF or answer.refused, answer.why
    assert held
    reasoner.close()
